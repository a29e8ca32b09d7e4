//! The JSON of a fault: RFC 9457 with further members.

use super::body::CONTENT_ENCODING;
use super::{ApiReply, refusal};
use serde::Serialize;
use x402_chain::id::RequestId;
use x402_chain::retry::Retry;
use x402_core::error::{ErrorCode, Fault};

/// The body of every error answer.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Problem<'a> {
    /// The URL that explains the code.
    pub r#type: &'a str,
    /// The code's short title.
    pub title: &'a str,
    /// The HTTP status, as the answer's own.
    pub status: u16,
    /// One sentence about this case.
    pub detail: &'a str,
    /// The path that was requested.
    pub instance: &'a str,
    /// Always `false`: a request that was not answered is no success.
    pub success: bool,
    /// The text of `detail`, for clients that read `error`.
    pub error: &'a str,
    /// The stable error code, as in `/docs/errors`.
    pub error_code: &'a str,
    /// Whether a repeat of the request can help.
    pub retry: Retry,
    /// Seconds after which a repeat can help, as in `Retry-After`; `null` where they are not known. 429 and 503 name them.
    pub retry_after_s: Option<u64>,
    /// The member or header that is wrong; `null` where none is.
    pub param: Option<&'a str>,
    /// The id of the request, as in `X-Request-Id`.
    pub request_id: String,
    /// The address of `type`, for clients that read `docs_url`.
    pub docs_url: &'a str,
    /// The URL of the tiers, if another tier would allow the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_url: Option<String>,
    /// Where a person can do what is missing, as pay for a larger plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_url: Option<&'a str>,
}

/// What the answer to a fault needs of its request.
#[derive(Clone, Copy, Debug)]
pub struct ProblemContext<'a> {
    /// The origin of links: `https://api.example.com`.
    pub origin: &'a str,
    /// The path that was requested.
    pub path: &'a str,
    /// The id of the request, as in `X-Request-Id`.
    pub request_id: RequestId,
}

/// Seconds for `Retry-After` of a 503 that names none.
const RETRY_AFTER_DEFAULT_S: u64 = 5;

/// The answer to a fault, with `Retry-After` on 429, 503 and wherever the fault names it, and `WWW-Authenticate` on 401.
#[must_use]
pub fn problem_reply(fault: &Fault, request: ProblemContext<'_>) -> ApiReply {
    let status = fault.code.status();
    let docs_url = format!("{}/docs/errors#{}", request.origin, fault.code.as_str());
    let retry_after_s = match status {
        429 | 503 => Some(fault.retry_after_s.unwrap_or(RETRY_AFTER_DEFAULT_S)),
        _ => fault.retry_after_s,
    };
    let problem = Problem {
        r#type: &docs_url,
        title: fault.code.title(),
        status,
        detail: &fault.detail,
        instance: request.path,
        success: false,
        error: &fault.detail,
        error_code: fault.code.as_str(),
        retry: fault.code.retry(),
        retry_after_s,
        param: fault.param.as_deref(),
        request_id: request.request_id.to_string(),
        docs_url: &docs_url,
        upgrade_url: fault.upgrade.then(|| format!("{}/docs/tiers", request.origin)),
        action_url: fault.action_url.as_deref(),
    };
    let mut reply = ApiReply::json(status, &problem);
    reply.body = refusal::with_protocol_members(reply.body, request.path, fault.code, &fault.detail);
    reply.content_type = "application/problem+json";
    if let Some(seconds) = retry_after_s {
        reply = reply.with("Retry-After", seconds.to_string());
    }
    if matches!(fault.code, ErrorCode::InvalidApiKey | ErrorCode::InvalidMetricsToken) {
        reply = reply.with("WWW-Authenticate", "Bearer");
    }
    // RFC 9110, section 15.5.16: the codings that are accepted.
    if fault.param.as_deref() == Some(CONTENT_ENCODING) {
        reply = reply.with("Accept-Encoding", "identity");
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::time::UnixMillis;

    #[test]
    fn every_code_makes_a_whole_problem() {
        let asked = ProblemContext {
            origin: "https://x.test",
            path: "/v1/verify",
            request_id: RequestId::new(UnixMillis(0), [0; 10]),
        };
        for code in ErrorCode::ALL {
            let reply = problem_reply(&Fault::new(*code, "detail").because("kept"), asked);
            let body: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
            assert_eq!(body["error_code"], code.as_str());
            assert_eq!(body["status"], code.status());
            assert_eq!(body["type"], format!("https://x.test/docs/errors#{code}"));
            assert!(!reply.body.contains("kept"));
            let waits = reply.headers.iter().any(|(name, _)| *name == "Retry-After");
            assert_eq!(waits, matches!(code.status(), 429 | 503), "{code}");
        }
    }
    #[test]
    fn a_coded_body_is_answered_with_the_coding_that_would_do() {
        let fault = crate::body::check_media_type(Some("application/json"), Some("br")).expect_err("coded");
        let asked = ProblemContext {
            origin: "https://x.test",
            path: "/v1/verify",
            request_id: RequestId::new(UnixMillis(1), [1; 10]),
        };
        let answer = problem_reply(&fault, asked);
        assert_eq!(answer.status, 415);
        assert!(answer.headers.contains(&("Accept-Encoding", "identity".to_owned())));
        let fault = crate::body::check_media_type(Some("text/plain"), None).expect_err("no JSON");
        assert!(!problem_reply(&fault, asked).headers.iter().any(|(name, _)| *name == "Accept-Encoding"));
    }
}
