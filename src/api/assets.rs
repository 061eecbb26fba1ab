//! The dashboard: the files of `web/`, inside the binary. What is there is what was written; there is no build that could be stale.

use axum::Router;
use axum::http::header;
use axum::routing::get;

use super::site::Site;

/// Path, type, content.
const FILES: [(&str, &str, &str); 3] = [
    ("/", "text/html; charset=utf-8", include_str!("../../web/index.html")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("../../web/app.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../../web/style.css")),
];

/// Each file at its path; nothing is looked up by a name that a client sends.
pub(super) fn router() -> Router<Site> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, kind)], content)))
    })
}
