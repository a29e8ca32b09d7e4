//! Faults under `/facilitator` in the protocol's words: stock clients read its
//! members, whatever else stands beside them. A key in the path makes every
//! answer 200 ([`super::place`]), so these members are all that tells a client.

use serde_json::{Map, Value, json};
use x402_chain::reason::Reason;
use x402_core::error::Code;

/// What a client expects to read, by the route's last part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `isValid`.
    Verify,
    /// `success`.
    Settle,
    /// `kinds`.
    Supported,
    /// `accepts`.
    Accepts,
    /// Nothing that is known, under a key in the path: the members of verify and settle both.
    Any,
}

impl Expected {
    /// By the path as it is shown; `None` outside of the protocol's routes.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        let (_, route) = path.rsplit_once("/facilitator/")?;
        let route = route.strip_suffix('/').unwrap_or(route);
        let (keyed, last) = match route.strip_prefix("k/") {
            Some(rest) => (true, rest.split_once('/').map_or("", |(_, last)| last)),
            None => (false, route),
        };
        match last {
            "verify" => Some(Self::Verify),
            "settle" => Some(Self::Settle),
            "supported" => Some(Self::Supported),
            "accepts" => Some(Self::Accepts),
            _ => keyed.then_some(Self::Any),
        }
    }

    /// The members that say no.
    fn members(self, reason: Reason, message: &str) -> Value {
        match self {
            Self::Verify => json!({"isValid": false, "invalidReason": reason, "invalidMessage": message}),
            Self::Settle => json!({"success": false, "errorReason": reason, "errorMessage": message,
                "transaction": "", "network": ""}),
            Self::Supported => json!({"kinds": [], "extensions": [], "signers": {}}),
            Self::Accepts => json!({"x402Version": 2, "resource": {"url": ""}, "accepts": []}),
            Self::Any => json!({"isValid": false, "invalidReason": reason, "invalidMessage": message,
                "success": false, "errorReason": reason, "errorMessage": message, "transaction": "", "network": ""}),
        }
    }
}

/// The protocol's word for a fault.
const fn reason(code: Code, settles: bool) -> Reason {
    match code {
        Code::QuotaExceeded => Reason::QuotaExceeded,
        Code::RateLimited => Reason::RateLimited,
        Code::TenantSuspended => Reason::TenantSuspended,
        Code::IdempotencyConflict => Reason::IdentifierConflict,
        Code::InvalidApiKey | Code::InsufficientScope => Reason::Unauthorized,
        Code::LedgerUnavailable | Code::Misconfigured => Reason::FacilitatorUnavailable,
        Code::InvalidJson
        | Code::InvalidRequest
        | Code::PayloadTooLarge
        | Code::UnsupportedMediaType
        | Code::NotFound
        | Code::MethodNotAllowed => Reason::InvalidPayload,
        Code::InvalidAdminKey
        | Code::IpNotAllowed
        | Code::ChainNotEnabled
        | Code::EnvironmentMismatch
        | Code::RecipientTaken
        | Code::EmailTaken
        | Code::SettlementNotOpen
        | Code::InvalidTxHash
        | Code::InvalidAmount
        | Code::InvalidChain
        | Code::RecipientNotRegistered
        | Code::Internal
        | Code::ChainUnavailable => {
            if settles {
                Reason::UnexpectedSettle
            } else {
                Reason::UnexpectedVerify
            }
        }
    }
}

/// A problem's body with the members that a client of the path reads; unchanged outside of the protocol's routes.
#[must_use]
pub fn with_members(body: String, path: &str, code: Code, message: &str) -> String {
    let Some(expected) = Expected::at(path) else { return body };
    let reason = reason(code, expected == Expected::Settle);
    match (serde_json::from_str::<Map<String, Value>>(&body), expected.members(reason, message)) {
        (Ok(mut all), Value::Object(members)) => {
            all.extend(members);
            Value::Object(all).to_string()
        }
        _ => body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_says_what_is_expected() {
        for (path, want) in [
            ("/facilitator/verify", Some(Expected::Verify)),
            ("/v1/facilitator/settle/", Some(Expected::Settle)),
            ("/facilitator/k/…/verify", Some(Expected::Verify)),
            ("/v1/facilitator/k/…/settle", Some(Expected::Settle)),
            ("/facilitator/k/…/supported", Some(Expected::Supported)),
            ("/facilitator/accepts", Some(Expected::Accepts)),
            ("/facilitator/k/…/nothing", Some(Expected::Any)),
            ("/facilitator/k/…", Some(Expected::Any)),
            ("/facilitator/health", None),
            ("/facilitator/nothing", None),
            ("/facilitator", None),
            ("/v1/verify", None),
            ("/", None),
        ] {
            assert_eq!(Expected::at(path), want, "{path}");
        }
    }

    #[test]
    fn every_route_says_no_in_its_own_members() {
        let body = |path| {
            let body =
                with_members(json!({"error": "why", "success": false}).to_string(), path, Code::InvalidApiKey, "why");
            serde_json::from_str::<Value>(&body).expect("JSON")
        };
        let verify = body("/facilitator/k/…/verify");
        assert_eq!((&verify["isValid"], &verify["invalidReason"]), (&json!(false), &json!("unauthorized")));
        assert_eq!(verify["invalidMessage"], "why");
        let settle = body("/facilitator/settle");
        assert_eq!((&settle["success"], &settle["errorReason"]), (&json!(false), &json!("unauthorized")));
        assert_eq!(
            (&settle["transaction"], &settle["network"], &settle["errorMessage"]),
            (&json!(""), &json!(""), &json!("why"))
        );
        let supported = body("/facilitator/k/…/supported");
        assert_eq!((&supported["kinds"], &supported["error"]), (&json!([]), &json!("why")));
        let accepts = body("/facilitator/k/…/accepts");
        assert_eq!(
            (&accepts["accepts"], &accepts["resource"]["url"], &accepts["error"]),
            (&json!([]), &json!(""), &json!("why"))
        );
        let any = body("/facilitator/k/…/foo");
        assert_eq!((&any["isValid"], &any["success"]), (&json!(false), &json!(false)));
        assert_eq!(body("/v1/verify"), json!({"error": "why", "success": false}));
    }
}
