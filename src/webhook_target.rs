//! Whether the service may send a tenant's messages to an address that the tenant gave. It must not lead into a private network
//! (server-side request forgery): neither by its text nor by the DNS. It is checked when an endpoint gets its address, and
//! before each attempt.

use crate::app::App;
use crate::dns;
use x402_api::webhook_endpoints::{endpoint_url, invalid_target};
use x402_core::error::Fault;
use x402_core::net::is_global;

/// Why nothing may be sent to an address at present.
#[derive(Debug)]
pub(crate) enum TargetRefused {
    /// The address itself, or one that the DNS gives for its host, is forbidden. The fault is `INVALID_REQUEST` about `url`.
    Forbidden(Fault),
    /// The DNS did not answer, so that nothing is known. The fault is `UPSTREAM_UNAVAILABLE`.
    Unresolved(Fault),
}

impl From<TargetRefused> for Fault {
    fn from(refused: TargetRefused) -> Self {
        match refused {
            TargetRefused::Forbidden(fault) | TargetRefused::Unresolved(fault) => fault,
        }
    }
}

/// Checks an address by its text, then each address that the DNS gives for its host, of IPv4 and of IPv6.
///
/// `fetch` asks the DNS again and cannot be given the address that was checked: a name that changes between the two is not
/// found out here.
///
/// # Errors
/// [`TargetRefused`].
pub(crate) async fn check_target(app: &App, url: &str) -> Result<(), TargetRefused> {
    let url = endpoint_url(url, &app.origin).map_err(TargetRefused::Forbidden)?;
    let found = dns::addresses(app.settings.resolver(), url.host()).await.map_err(TargetRefused::Unresolved)?;
    if found.is_empty() {
        return Err(TargetRefused::Forbidden(invalid_target("names a host that has no address in the DNS")));
    }
    if !found.into_iter().all(is_global) {
        let rule = "names a host with an address that is not public";
        return Err(TargetRefused::Forbidden(invalid_target(rule)));
    }
    Ok(())
}
