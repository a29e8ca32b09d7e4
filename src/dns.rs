//! The DNS, by a resolver over HTTPS.

use crate::outbound::{OutboundRequest, deadline, exchange, request_headers};
use x402_api::oidc::dns::{read_txt, txt_url};
use x402_core::error::{ErrorCode, Fault};

/// The deadline of one question: a person waits.
const LIMIT_MS: u32 = 3_000;
const ANSWER_MAX: usize = 64 * 1_024;

/// The texts of the TXT records of a name; none where there are no such records.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE` where the resolver does not answer, or could not find out.
pub(crate) async fn txt_records(resolver: &str, name: &str) -> Result<Vec<String>, Fault> {
    let request = OutboundRequest {
        url: &txt_url(resolver, name),
        headers: &request_headers(&[("accept", "application/dns-json")]),
        body: None,
        deadline: deadline(LIMIT_MS),
        answer_max: ANSWER_MAX,
    };
    let unavailable = |cause: String| {
        let detail = "the DNS cannot be asked for the domain's record: try again later";
        Fault::new(ErrorCode::UpstreamUnavailable, detail).after(5).because(cause)
    };
    let answer = exchange(request).await.map_err(|failure| unavailable(format!("DNS: {failure}")))?;
    let texts = if answer.status == 200 { read_txt(&answer.body) } else { None };
    texts.ok_or_else(|| unavailable(format!("the resolver answered {} and no list of records", answer.status)))
}
