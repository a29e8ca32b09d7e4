//! Members that we add to a settle's success. A parser that refuses unknown members must not fail after money has
//! moved. So the additions are in headers, and in the body only where the request (`Prefer: explain`, RFC 7240) or the
//! tenant's setting asks for them. Refusals always hold them.

use super::ApiReply;
use super::facilitator::{ResponseExtra, SettleResponse};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use x402_chain::checks::Checks;

/// The settlement's id, for `GET /v1/settlements/{id}`.
const SETTLEMENT_ID_HEADER: &str = "X402-Settlement-Id";
/// `true` where a third party has sent the transaction; absent otherwise.
const EXTERNALLY_SETTLED_HEADER: &str = "X402-Externally-Settled";
/// Each rule with its result: a JSON list, in base64.
const CHECKS_HEADER: &str = "X402-Checks";
/// The longest value of that header. Proxies pass on 4 KiB of headers by default (nginx's `proxy_buffer_size`) and
/// answer 502 beyond that, after money has moved. All other headers of an answer, with the platform's, take some 1.7
/// KiB.
const CHECKS_MAX: usize = 2_304;
/// `explain`, where the request asked for it.
const PREFERENCE_APPLIED_HEADER: &str = "Preference-Applied";

/// The headers that this module adds to an answer to settle.
pub const HEADERS: [&str; 4] =
    [SETTLEMENT_ID_HEADER, EXTERNALLY_SETTLED_HEADER, CHECKS_HEADER, PREFERENCE_APPLIED_HEADER];

/// The preference's name in `Prefer`.
const EXPLAIN_PREFERENCE: &str = "explain";

/// Whether a `Prefer` header names the preference: one of a list, alone or with parameters.
#[must_use]
pub fn is_preferred(prefer: &str) -> bool {
    let name = |one: &str| one.split([';', '=']).next().unwrap_or("").trim().eq_ignore_ascii_case(EXPLAIN_PREFERENCE);
    prefer.split(',').any(name)
}

/// What asks for the additions in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplainRequest {
    /// Whether the request sent `Prefer: explain`.
    pub request: bool,
    /// Whether the tenant's setting asks for it on every request.
    pub tenant: bool,
}

/// An answer to verify or settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComposedAnswer {
    /// Its body with all our additions, as it is kept to be repeated.
    pub whole: String,
    /// As it goes out.
    pub reply: ApiReply,
}

/// The answer to settle with its additions, and its whole body. The body of a refusal stays as it is.
#[must_use]
pub(crate) fn explain_body(body: SettleResponse, wish: ExplainRequest) -> ComposedAnswer {
    let reply = ApiReply::json(200, &body);
    let whole = reply.body.clone();
    ComposedAnswer { whole, reply: explain_reply(reply, Some(body), wish) }
}

/// A stored answer to settle, as it is repeated.
#[must_use]
pub fn explain_again(status: u16, body: String, wish: ExplainRequest) -> ApiReply {
    let reply = ApiReply { status, content_type: "application/json", body, headers: Vec::new() };
    if status != 200 {
        return reply;
    }
    let body = serde_json::from_str(&reply.body).ok();
    explain_reply(reply, body, wish)
}

fn explain_reply(mut reply: ApiReply, body: Option<SettleResponse>, wish: ExplainRequest) -> ApiReply {
    if wish.request {
        reply = reply.with(PREFERENCE_APPLIED_HEADER, EXPLAIN_PREFERENCE);
    }
    let Some(mut body) = body else { return reply };
    let Some(extra) = body.extra.take().filter(|_| body.success) else { return reply };
    if !(wish.request || wish.tenant) {
        reply.body = ApiReply::json(200, &body).body;
    }
    extra_headers(&extra).into_iter().fold(reply, |reply, (name, value)| reply.with(name, value))
}

fn extra_headers(extra: &ResponseExtra) -> Vec<(&'static str, String)> {
    let id = extra.settlement_id.as_ref().map(|id| (SETTLEMENT_ID_HEADER, id.clone()));
    let external =
        extra.externally_settled.filter(|external| *external).map(|_| (EXTERNALLY_SETTLED_HEADER, "true".to_owned()));
    let checks = (CHECKS_HEADER, checks_header(&extra.checks));
    id.into_iter().chain(external).chain([checks]).collect()
}

/// The checks in base64: whole, or without their details if they are too long.
fn checks_header(checks: &Checks) -> String {
    #[derive(Serialize, Deserialize)]
    struct BriefCheck {
        name: String,
        passed: bool,
    }
    let whole = BASE64_STANDARD.encode(checks.json());
    if whole.len() <= CHECKS_MAX {
        return whole;
    }
    let brief: Vec<BriefCheck> = serde_json::from_str(checks.json()).unwrap_or_default();
    BASE64_STANDARD.encode(serde_json::to_string(&brief).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use x402_chain::checks::Check;

    fn success(external: bool) -> SettleResponse {
        let checks = Checks::new(&[Check { name: "asset".into(), passed: true, detail: "of \"USDC\" — é".into() }]);
        let extra = ResponseExtra {
            checks,
            settlement_id: Some("stl_1".into()),
            externally_settled: external.then_some(true),
            retry: None,
        };
        SettleResponse {
            success: true,
            error_reason: None,
            error_message: None,
            payer: Some("0x1".into()),
            transaction: "0x2".into(),
            network: "base".into(),
            amount: Some("1".into()),
            extra: Some(extra),
        }
    }

    /// As it goes out for the first time, which is as it goes out again.
    fn settle(body: SettleResponse, wish: ExplainRequest) -> ApiReply {
        let composed = explain_body(body, wish);
        assert_eq!(explain_again(200, composed.whole, wish), composed.reply);
        composed.reply
    }

    fn header<'a>(reply: &'a ApiReply, name: &str) -> Option<&'a str> {
        reply.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    const NOBODY: ExplainRequest = ExplainRequest { request: false, tenant: false };

    #[test]
    fn a_success_has_the_protocols_members_and_ours_in_headers() {
        let reply = settle(success(true), NOBODY);
        let body: Value = serde_json::from_str(&reply.body).expect("JSON");
        assert_eq!(
            body,
            json!({"success": true, "payer": "0x1", "transaction": "0x2", "network": "base", "amount": "1"})
        );
        assert_eq!(
            (header(&reply, SETTLEMENT_ID_HEADER), header(&reply, EXTERNALLY_SETTLED_HEADER)),
            (Some("stl_1"), Some("true"))
        );
        let checks = BASE64_STANDARD.decode(header(&reply, CHECKS_HEADER).expect("checks")).expect("base64");
        let checks: Value = serde_json::from_slice(&checks).expect("JSON");
        assert_eq!(checks[0]["detail"], "of \"USDC\" — é");
        assert_eq!(header(&reply, PREFERENCE_APPLIED_HEADER), None);
        assert_eq!(header(&settle(success(false), NOBODY), EXTERNALLY_SETTLED_HEADER), None);
    }

    #[test]
    fn the_body_holds_them_too_where_asked() {
        for (wish, applied) in [
            (ExplainRequest { request: true, tenant: false }, Some("explain")),
            (ExplainRequest { request: false, tenant: true }, None),
        ] {
            let reply = settle(success(false), wish);
            assert_eq!(reply.body, ApiReply::json(200, &success(false)).body);
            assert_eq!(
                (header(&reply, SETTLEMENT_ID_HEADER), header(&reply, PREFERENCE_APPLIED_HEADER)),
                (Some("stl_1"), applied)
            );
        }
    }

    #[test]
    fn a_long_list_of_checks_goes_without_details() {
        let list = |length: usize| {
            let check = |at| Check { name: format!("a_rule_{at}"), passed: true, detail: "x".repeat(length) };
            Checks::new(&(10..40).map(check).collect::<Vec<_>>())
        };
        let read = |text: &str| {
            serde_json::from_slice::<Vec<Value>>(&BASE64_STANDARD.decode(text).expect("base64")).expect("JSON")
        };
        let (short, long) = (checks_header(&list(5)), checks_header(&list(5_000)));
        assert!(short.len() <= CHECKS_MAX && long.len() <= CHECKS_MAX, "{} {}", short.len(), long.len());
        assert_eq!(read(&short)[0], json!({"name": "a_rule_10", "passed": true, "detail": "xxxxx"}));
        assert_eq!((read(&long).len(), &read(&long)[29]), (30, &json!({"name": "a_rule_39", "passed": true})));
    }

    #[test]
    fn what_is_no_success_keeps_its_body() {
        let extra =
            ResponseExtra { checks: Checks::none(), settlement_id: None, externally_settled: None, retry: None };
        let refused = SettleResponse { success: false, amount: None, extra: Some(extra), ..success(false) };
        for wish in [NOBODY, ExplainRequest { request: true, tenant: true }] {
            assert_eq!(settle(refused.clone(), wish).body, ApiReply::json(200, &refused).body);
        }
        assert_eq!(settle(refused, NOBODY).headers, Vec::new());
        for (status, body) in [(202, "{}"), (429, "{\"success\":true}"), (200, "no JSON")] {
            let other =
                ApiReply { status, content_type: "application/json", body: body.to_owned(), headers: Vec::new() };
            assert_eq!(explain_again(status, body.to_owned(), NOBODY), other);
        }
    }

    #[test]
    fn the_preference_is_found_in_a_list() {
        for yes in ["explain", "Explain", "respond-async, explain", "explain;x=1 , wait=3", "explain=1"] {
            assert!(is_preferred(yes), "{yes}");
        }
        for no in ["", "explained", "wait=explain", "return=minimal"] {
            assert!(!is_preferred(no), "{no}");
        }
    }
}
