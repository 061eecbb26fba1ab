//! The dashboard: the files of `web/`, inside the binary. What is there is what was written; there is no build that could be stale.

use axum::Router;
use axum::http::header;
use axum::routing::get;

use super::site::Site;

/// Path, type, content of a module of the dashboard.
macro_rules! script {
    ($path:literal) => {
        (concat!("/", $path), "text/javascript; charset=utf-8", include_str!(concat!("../../web/", $path)))
    };
}

/// Path, type, content.
const FILES: [(&str, &str, &str); 26] = [
    ("/", "text/html; charset=utf-8", include_str!("../../web/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../../web/style.css")),
    script!("app.js"),
    script!("act.js"),
    script!("api.js"),
    script!("attack_tables.js"),
    script!("charts.js"),
    script!("dom.js"),
    script!("live.js"),
    script!("parts.js"),
    script!("rule_columns.js"),
    script!("screens/approvals.js"),
    script!("screens/attack.js"),
    script!("screens/attacks.js"),
    script!("screens/audit.js"),
    script!("screens/config.js"),
    script!("screens/exporters.js"),
    script!("screens/groups.js"),
    script!("screens/host.js"),
    script!("screens/hosts.js"),
    script!("screens/login.js"),
    script!("screens/overview.js"),
    script!("screens/rules.js"),
    script!("session.js"),
    script!("table.js"),
    script!("text.js"),
];

/// Each file at its path; nothing is looked up by a name that a client sends.
pub(super) fn router() -> Router<Site> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, kind)], content)))
    })
}
