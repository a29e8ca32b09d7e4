//! Requests of browsers: cookies, the page that makes the request, the session.

use crate::app::App;
use crate::request::Visitor;
use crate::sessions::{no_session, open_session};
use worker::Headers;
use x402_api::cookies::Cookies;
use x402_api::endpoint::RouteRow;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::origin::RequestSource;
use x402_core::tenancy::access::KeyScope;

/// Headers that carry a key: beside one of them no cookie counts.
const KEY_HEADERS: [&str; 4] = ["authorization", "x-api-key", "x-secret-key", "x-admin-key"];

/// Reads cookies and session of a request, without a key, to a route that takes cookies. What needs no directory is checked first.
///
/// # Errors
/// `INVALID_SESSION`, `INVALID_API_KEY` where the route takes a key too, `CROSS_ORIGIN`, `INSUFFICIENT_ROLE`.
pub(super) async fn read_visitor(
    headers: &Headers,
    row: &RouteRow,
    app: &App,
    now: UnixMillis,
) -> Result<Visitor, Fault> {
    let header = |name: &str| headers.get(name).ok().flatten();
    let has_key = KEY_HEADERS.iter().any(|name| header(name).is_some_and(|text| !text.trim().is_empty()));
    let cookies = header("cookie").filter(|_| !has_key).map(|text| Cookies::read(&text)).unwrap_or_default();
    let role = row.access.role();
    if role.is_some() && cookies.session.is_none() {
        return Err(row.access.key_scope().map_or_else(no_session, no_manager));
    }
    if row.method.is_unsafe() {
        let (fetch_site, origin) = (header("sec-fetch-site"), header("origin"));
        let source =
            RequestSource { fetch_site: fetch_site.as_deref(), origin: origin.as_deref(), has_cookie: cookies.has_any };
        source.check(&app.origin)?;
    }
    let session = match role {
        Some(role) => Some(open_session(app, &cookies, role, now).await?),
        None => None,
    };
    let is_navigation = header("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
    let is_own_page = header("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    Ok(Visitor { cookies, session, is_navigation, is_own_page })
}

fn no_manager(scope: KeyScope) -> Fault {
    let wanted = match scope {
        KeyScope::Only(scope) => format!("an API key with the scope '{}'", scope.name()),
        KeyScope::Any => "an API key".to_owned(),
    };
    Fault::new(ErrorCode::InvalidApiKey, format!("send {wanted}, or sign in: there is neither"))
}
