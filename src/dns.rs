//! The DNS, by a resolver over HTTPS.

use crate::outbound::{HttpAnswer, OutboundRequest, deadline, exchange, request_headers};
use futures_util::future::try_join;
use std::net::IpAddr;
use x402_api::dns::{RecordKind, is_name_failing, question_url, read_addresses, read_records};
use x402_core::error::{ErrorCode, Fault};

/// The deadline of one question: a person waits.
const LIMIT_MS: u32 = 3_000;
const ANSWER_MAX: usize = 64 * 1_024;

fn unavailable(cause: String) -> Fault {
    let detail = "the DNS cannot be asked for the domain's record: try again later";
    Fault::new(ErrorCode::UpstreamUnavailable, detail).after(5).because(cause)
}

async fn ask(resolver: &str, name: &str, kind: RecordKind) -> Result<HttpAnswer, Fault> {
    let request = OutboundRequest {
        url: &question_url(resolver, name, kind),
        headers: &request_headers(&[("accept", "application/dns-json")]),
        body: None,
        deadline: deadline(LIMIT_MS),
        answer_max: ANSWER_MAX,
    };
    exchange(request).await.map_err(|failure| unavailable(format!("DNS: {failure}")))
}

fn understood<T>(answer: &HttpAnswer, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, Fault> {
    let found = if answer.status == 200 { read(&answer.body) } else { None };
    found.ok_or_else(|| unavailable(format!("the resolver answered {} and no list of records", answer.status)))
}

/// The texts of the TXT records of a name; none where there are no such records.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE` where the resolver does not answer, or could not find out.
pub(crate) async fn txt_records(resolver: &str, name: &str) -> Result<Vec<String>, Fault> {
    understood(&ask(resolver, name, RecordKind::Txt).await?, |body| read_records(body, RecordKind::Txt))
}

/// Why a host's addresses are not known. Both faults are `UPSTREAM_UNAVAILABLE`.
#[derive(Debug)]
pub(crate) enum AddressesUnknown {
    /// The resolver does not answer as one: nothing is known of the host.
    ResolverAway(Fault),
    /// It does, and says that the servers of this name fail.
    NameFailing(Fault),
}

/// Every address of a host, of IPv4 and of IPv6; none where it has none.
///
/// # Errors
/// [`AddressesUnknown`], for either of the two.
pub(crate) async fn addresses(resolver: &str, host: &str) -> Result<Vec<IpAddr>, AddressesUnknown> {
    let asked = try_join(ask(resolver, host, RecordKind::A), ask(resolver, host, RecordKind::Aaaa)).await;
    let (old, new) = asked.map_err(AddressesUnknown::ResolverAway)?;
    let mut all = Vec::new();
    for (answer, kind) in [(old, RecordKind::A), (new, RecordKind::Aaaa)] {
        let found = understood(&answer, |body| read_addresses(body, kind));
        all.extend(found.map_err(|fault| {
            let is_name = answer.status == 200 && is_name_failing(&answer.body);
            if is_name { AddressesUnknown::NameFailing(fault) } else { AddressesUnknown::ResolverAway(fault) }
        })?);
    }
    Ok(all)
}
