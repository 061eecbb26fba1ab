//! Refusals as the OpenAPI document names them: each path lists those that it can come to.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::refusal::Problem;

/// The same body under each of these statuses.
fn responses(statuses: &[u16]) -> BTreeMap<String, RefOr<Response>> {
    let problem = || Ref::from_schema_name(Problem::name());
    let response = || {
        let content = ContentBuilder::new().schema(Some(problem())).build();
        ResponseBuilder::new().content("application/json", content).build()
    };
    statuses.iter().map(|status| (status.to_string(), response().into())).collect()
}

macro_rules! refused {
    ($($(#[$meaning:meta])* $name:ident: $($status:literal)+;)+) => {$(
        $(#[$meaning])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[$($status),+])
            }
        }
    )+};
}

refused! {
    /// The request itself is wrong.
    BadInput: 400;
    /// Nobody is logged in, and no token came with it.
    NoToken: 401;
    /// No token, or one that may not do this.
    Denied: 401 403;
    /// There is no such thing.
    Missing: 404;
    /// The daemon refused: what is named is not there (404), it does not fit how things stand (409), it is against the rules and
    /// will be refused again (422), or a share is used up (429).
    Conflict: 404 409 422 429;
    /// The body is beyond its limit.
    TooLarge: 413;
    /// Too many attempts.
    TooMany: 429;
    /// The daemon is busy or stopping.
    Busy: 503;
}
