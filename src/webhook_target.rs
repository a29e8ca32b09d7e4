//! Whether the service may send a tenant's messages to an address that the tenant gave. It must not lead into a private network
//! (server-side request forgery): neither by its text nor by the DNS. It is checked when an endpoint gets its address, and
//! before each attempt.

use crate::app::App;
use crate::dns;
use crate::dns::AddressesUnknown;
use x402_api::body::invalid;
use x402_api::webhook_endpoints::target_url;
use x402_core::error::Fault;
use x402_core::net::is_global;

/// Why nothing may be sent to an address at present.
#[derive(Debug)]
pub(crate) enum TargetRefused {
    /// The address itself, or one that the DNS gives for its host, is forbidden: by this rule.
    Forbidden(&'static str),
    /// The DNS gave no answer.
    Unresolved(AddressesUnknown),
}

impl TargetRefused {
    /// The answer to a request that names the address as this member: `INVALID_REQUEST` where it is forbidden.
    pub(crate) fn at(self, param: &'static str) -> Fault {
        match self {
            Self::Forbidden(rule) => invalid(param, rule),
            Self::Unresolved(AddressesUnknown::ResolverAway(fault) | AddressesUnknown::NameFailing(fault)) => fault,
        }
    }
}

/// Checks an address by its text: among the rest it is none of the service, by `PUBLIC_URL` or by the request. Then each address
/// that the DNS gives for its host, of IPv4 and of IPv6.
///
/// `fetch` asks the DNS again and cannot be given the address that was checked: a name that changes between the two is not
/// found out here. Nor is another name of the service, where no request has used it: what is sent there meets no route
/// ([`crate::outbound::USER_AGENT`]).
///
/// # Errors
/// [`TargetRefused`].
pub(crate) async fn check_target(app: &App, url: &str) -> Result<(), TargetRefused> {
    target_url(url, &app.request_origin).map_err(TargetRefused::Forbidden)?;
    let url = target_url(url, &app.origin).map_err(TargetRefused::Forbidden)?;
    check_host(app.settings.resolver(), url.host()).await
}

/// Checks each address that the DNS gives for a host, of IPv4 and of IPv6: there is one, and all are public.
///
/// # Errors
/// [`TargetRefused`].
pub(crate) async fn check_host(resolver: &str, host: &str) -> Result<(), TargetRefused> {
    let found = dns::addresses(resolver, host).await.map_err(TargetRefused::Unresolved)?;
    if found.is_empty() {
        return Err(TargetRefused::Forbidden("names a host that has no address in the DNS"));
    }
    if !found.into_iter().all(is_global) {
        return Err(TargetRefused::Forbidden("names a host with an address that is not public"));
    }
    Ok(())
}
