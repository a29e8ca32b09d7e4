//! The operators' key. From one network only so many wrong keys are compared in a minute: an isolate counts them, and the
//! platform counts them for all isolates of a location.

use crate::app::App;
use crate::isolate;
use crate::request::Client;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};

/// Checks the header `X-Admin-Key`. A network that has sent too many wrong keys is refused before the comparison; one
/// that sends none is not counted.
///
/// # Errors
/// `INVALID_ADMIN_KEY`, `RATE_LIMITED`.
pub(super) async fn check_operator(
    app: &App,
    client: &Client,
    key: Option<&str>,
    now: UnixMillis,
) -> Result<(), Fault> {
    let wrong = || Fault::new(ErrorCode::InvalidAdminKey, "the admin key is missing or not valid");
    let key = key.filter(|key| !key.is_empty()).ok_or_else(wrong)?;
    let network = client.ip_prefix();
    check_wrong_keys(&network, now)?;
    if app.settings.is_admin_key(key) {
        return Ok(());
    }
    count_wrong_key(app, network, now).await;
    Err(wrong())
}

/// Checks the bearer token of whoever reads the metrics; wrong ones are bounded as wrong operators' keys are.
///
/// # Errors
/// `INVALID_METRICS_TOKEN`, `RATE_LIMITED`; `MISCONFIGURED` where there is no token.
pub(super) async fn check_metrics_reader(
    app: &App,
    client: &Client,
    authorization: Option<&str>,
    now: UnixMillis,
) -> Result<(), Fault> {
    let wrong = || Fault::new(ErrorCode::InvalidMetricsToken, "the bearer token is missing or not valid");
    let (scheme, token) = authorization.and_then(|text| text.trim().split_once(' ')).ok_or_else(wrong)?;
    let token = Some(token.trim()).filter(|token| !token.is_empty() && scheme.eq_ignore_ascii_case("bearer"));
    let token = token.ok_or_else(wrong)?;
    // Counted apart from operators' keys: a Prometheus with an old token must not lock operators of its network out.
    let network = format!("metrics {}", client.ip_prefix());
    check_wrong_keys(&network, now)?;
    match app.settings.is_metrics_token(token) {
        Some(true) => Ok(()),
        Some(false) => {
            count_wrong_key(app, network, now).await;
            Err(wrong())
        }
        None => Err(Fault::new(ErrorCode::Misconfigured, "the setting METRICS_TOKEN is missing").after(60)),
    }
}

/// Refuses a network that has sent too many wrong keys.
fn check_wrong_keys(network: &str, now: UnixMillis) -> Result<(), Fault> {
    match isolate::wrong_keys_until(network, now) {
        Some(until) => {
            let detail = "too many wrong keys came from this network";
            Err(Fault::new(ErrorCode::RateLimited, detail).after(until.since(now).div_ceil(1_000)))
        }
        None => Ok(()),
    }
}

async fn count_wrong_key(app: &App, network: String, now: UnixMillis) {
    // Before anything is awaited: requests that come at the same time are counted too.
    isolate::note_wrong_key(network.clone(), false, now);
    if let Some(guard) = app.operator_guard() {
        // If the platform's count fails, the isolate's holds.
        let is_over = guard.limit(network.clone()).await.is_ok_and(|outcome| !outcome.success);
        if is_over {
            isolate::note_wrong_key(network, true, now);
        }
    }
}
