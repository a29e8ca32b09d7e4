//! Faults under `/facilitator`, with the members of the protocol: public x402 clients read those and ignore the rest.
//! With a key in the path every answer has status 200 ([`super::place`]), and only these members show the refusal.

use serde_json::{Map, Value, json};
use x402_chain::reason::Reason;
use x402_core::error::ErrorCode;

/// The body that a client expects, by the last part of the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedBody {
    /// `isValid: false` with its reason.
    Verify,
    /// `success: false` with its reason.
    Settle,
    /// An empty list of `kinds`.
    Supported,
    /// An empty list of `accepts`.
    Accepts,
    /// An unknown route under a key in the path: the members of both verify and settle.
    Any,
}

impl ExpectedBody {
    /// The expected body for a shown path; `None` outside of the protocol's routes.
    #[must_use]
    pub(crate) fn at(path: &str) -> Option<Self> {
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

    /// The members that state the refusal.
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

/// The protocol's reason for a fault; `settles`: the request is a settle.
const fn reason_for(code: ErrorCode, settles: bool) -> Reason {
    match code {
        ErrorCode::QuotaExceeded => Reason::QuotaExceeded,
        ErrorCode::RateLimited => Reason::RateLimited,
        ErrorCode::TenantSuspended => Reason::TenantSuspended,
        ErrorCode::IdempotencyConflict => Reason::IdentifierConflict,
        ErrorCode::InvalidApiKey | ErrorCode::InsufficientScope | ErrorCode::IpNotAllowed => Reason::Unauthorized,
        ErrorCode::LedgerUnavailable | ErrorCode::Misconfigured => Reason::FacilitatorUnavailable,
        ErrorCode::InvalidJson
        | ErrorCode::InvalidRequest
        | ErrorCode::PayloadTooLarge
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::NotFound
        | ErrorCode::MethodNotAllowed => Reason::InvalidPayload,
        ErrorCode::InvalidAdminKey
        | ErrorCode::ChainNotEnabled
        | ErrorCode::EnvironmentMismatch
        | ErrorCode::RecipientTaken
        | ErrorCode::EmailTaken
        | ErrorCode::DomainTaken
        | ErrorCode::SettlementNotOpen
        | ErrorCode::InvalidTxHash
        | ErrorCode::InvalidAmount
        | ErrorCode::InvalidChain
        | ErrorCode::RecipientNotRegistered
        | ErrorCode::Internal
        | ErrorCode::InvalidSession
        | ErrorCode::InvalidSignIn
        | ErrorCode::CrossOrigin
        | ErrorCode::InsufficientRole
        | ErrorCode::AlreadyMember
        | ErrorCode::LastOwner
        | ErrorCode::NotInTier
        | ErrorCode::InvalidProof
        | ErrorCode::SanctionedRecipient
        | ErrorCode::KeyNotActive
        | ErrorCode::InvalidSignature
        | ErrorCode::BotRefused
        | ErrorCode::TenantDeleting
        | ErrorCode::InvalidConfirmation
        | ErrorCode::UpstreamUnavailable
        | ErrorCode::MailNotOpen
        | ErrorCode::ChangeNotLoaded
        | ErrorCode::PaymentRequired
        | ErrorCode::NoSubscription
        | ErrorCode::SubscriptionExists
        | ErrorCode::SubscriptionEnding
        | ErrorCode::BillingBusy
        | ErrorCode::PlanByOperator
        | ErrorCode::InvalidMetricsToken
        | ErrorCode::ChainUnavailable => {
            if settles {
                Reason::UnexpectedSettle
            } else {
                Reason::UnexpectedVerify
            }
        }
    }
}

/// A problem's body with the members that the route's client reads; unchanged outside of the protocol's routes.
#[must_use]
pub(crate) fn with_protocol_members(body: String, path: &str, code: ErrorCode, message: &str) -> String {
    let Some(expected) = ExpectedBody::at(path) else { return body };
    let reason = reason_for(code, expected == ExpectedBody::Settle);
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
            ("/facilitator/verify", Some(ExpectedBody::Verify)),
            ("/v1/facilitator/settle/", Some(ExpectedBody::Settle)),
            ("/facilitator/k/…/verify", Some(ExpectedBody::Verify)),
            ("/v1/facilitator/k/…/settle", Some(ExpectedBody::Settle)),
            ("/facilitator/k/…/supported", Some(ExpectedBody::Supported)),
            ("/facilitator/accepts", Some(ExpectedBody::Accepts)),
            ("/facilitator/k/…/nothing", Some(ExpectedBody::Any)),
            ("/facilitator/k/…", Some(ExpectedBody::Any)),
            ("/facilitator/health", None),
            ("/facilitator/nothing", None),
            ("/facilitator", None),
            ("/v1/verify", None),
            ("/", None),
        ] {
            assert_eq!(ExpectedBody::at(path), want, "{path}");
        }
    }

    #[test]
    fn every_route_says_no_in_its_own_members() {
        let body = |path| {
            let body = with_protocol_members(
                json!({"error": "why", "success": false}).to_string(),
                path,
                ErrorCode::InvalidApiKey,
                "why",
            );
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
