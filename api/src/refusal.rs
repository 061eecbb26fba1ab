//! [`Refusal`]: why a request was not done, as every JSON path of the API answers it, and extractors that answer so.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use operator::{Failure, Why};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::ToSchema;

/// Why, with its HTTP status.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// Why, for people and for programs.
    pub failure: Failure,
}

/// What is answered then.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// What went wrong and what to do instead.
    pub error: String,
    /// Further details for programs, if there are any.
    pub details: Value,
}

impl Refusal {
    /// With a text.
    #[must_use]
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, failure: text.into().into() }
    }

    /// 404.
    #[must_use]
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 403.
    #[must_use]
    pub fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 400.
    #[must_use]
    pub fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl Refusal {
    /// As FastNetMon's and ban2bgp's clients know it: whatever the daemon refuses to a caller who may ask is a conflict.
    #[must_use]
    pub fn as_conflict(self) -> Self {
        match self.failure.why {
            Why::Malformed | Why::Missing | Why::Refused | Why::Exhausted => {
                Self { status: StatusCode::CONFLICT, ..self }
            }
            Why::Forbidden | Why::Conflict | Why::Busy => self,
        }
    }
}

/// The daemon understood and refused.
impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let status = match failure.why {
            Why::Malformed => StatusCode::BAD_REQUEST,
            Why::Forbidden => StatusCode::FORBIDDEN,
            Why::Missing => StatusCode::NOT_FOUND,
            Why::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            Why::Conflict => StatusCode::CONFLICT,
            Why::Exhausted => StatusCode::TOO_MANY_REQUESTS,
            Why::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, failure }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = Problem { error: self.failure.text, details: self.failure.json };
        let mut response = (self.status, Json(problem)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON body.
#[derive(Debug)]
pub struct Input<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Input<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let Json(value) = Json::<T>::from_request(request, state).await.map_err(|rejection| {
            let status = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_REQUEST,
            };
            Refusal::new(status, rejection.body_text())
        })?;
        Ok(Self(value))
    }
}

/// The query's parameters.
#[derive(Debug)]
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection| Refusal::bad(rejection.body_text()))
    }
}

/// A parameter of the path.
#[derive(Debug)]
pub struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|rejection| Refusal::bad(rejection.body_text()))
    }
}
