//! Why a request is not answered: the table of error codes, and the one error type.
//!
//! A refused payment is no error; it is a value (see [`crate::verdict`]).

use core::fmt;
use serde_json::error::Category;
use std::borrow::Cow;
use x402_chain::retry::{RepeatRule, Retry};

/// Declares [`ErrorCode`] from its rows: variant, wire name, status, retry, repeat, title, doc.
macro_rules! codes {
    ($($variant:ident $wire:literal $status:literal $retry:ident $repeat:ident $title:literal $doc:literal;)+) => {
        /// Every error code, in the order of introduction. Appended, never renamed, never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ErrorCode {
            $(#[doc = $doc] $variant,)+
        }

        impl ErrorCode {
            /// All codes, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as it is sent: `UPPER_SNAKE_CASE`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire,)+ }
            }

            /// The HTTP status of the problem, 4xx or 5xx.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// Whether a repeat of the request can help.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)+ }
            }

            /// Which answer a repeat gets under the same `Idempotency-Key`.
            #[must_use]
            pub const fn repeat(self) -> RepeatRule {
                match self { $(Self::$variant => RepeatRule::$repeat,)+ }
            }

            /// The code that is sent under this name; `None` for any other text.
            #[must_use]
            pub fn parse(wire: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == wire)
            }

            /// The short human title (RFC 9457 `title`).
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// The sentence that the documentation prints.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)+ }
            }
        }
    };
}

codes! {
    InvalidJson "INVALID_JSON" 400 Never Recorded "Invalid JSON" "The body is not UTF-8, begins with a byte order mark, or is not a JSON object.";
    InvalidApiKey "INVALID_API_KEY" 401 Never Judged "Invalid API key" "The API key is missing, malformed, forged, unknown, revoked or expired.";
    InvalidAdminKey "INVALID_ADMIN_KEY" 401 Never Judged "Invalid admin key" "The `X-Admin-Key` header is missing or wrong.";
    InsufficientScope "INSUFFICIENT_SCOPE" 403 Never Judged "Insufficient scope" "The API key lacks the scope that this route needs.";
    TenantSuspended "TENANT_SUSPENDED" 403 Never Judged "Tenant suspended" "The tenant is suspended or cancelled.";
    ChainNotEnabled "CHAIN_NOT_ENABLED" 403 Never Judged "Chain not enabled" "The tier does not include this chain, or the registry check has switched it off.";
    EnvironmentMismatch "ENVIRONMENT_MISMATCH" 403 Never Recorded "Environment mismatch" "A live key names a test chain, or a test key a live one or what holds in live.";
    NotFound "NOT_FOUND" 404 Never Judged "Not found" "No such route or object; another tenant's object does not exist either.";
    MethodNotAllowed "METHOD_NOT_ALLOWED" 405 Never Recorded "Method not allowed" "The route exists, the method does not; `Allow` names those that do.";
    IdempotencyConflict "IDEMPOTENCY_CONFLICT" 409 Never Judged "Idempotency conflict" "The same `Idempotency-Key` was used before with another body.";
    RecipientTaken "RECIPIENT_TAKEN" 409 Never Judged "Recipient taken" "The address belongs, or belonged, to another tenant in this environment.";
    EmailTaken "EMAIL_TAKEN" 409 Never Judged "E-mail taken" "Another tenant has this e-mail address.";
    PayloadTooLarge "PAYLOAD_TOO_LARGE" 413 Never Recorded "Payload too large" "The body is larger than the route accepts.";
    UnsupportedMediaType "UNSUPPORTED_MEDIA_TYPE" 415 Never Recorded "Unsupported media type" "The body must be `application/json`, and not compressed.";
    InvalidRequest "INVALID_REQUEST" 422 Never Recorded "Invalid request" "A member is missing, of the wrong type or out of bounds; `param` names it.";
    InvalidTxHash "INVALID_TX_HASH" 422 Never Recorded "Invalid transaction hash" "The hash does not have the shape of the chain's transaction ids.";
    InvalidAmount "INVALID_AMOUNT" 422 Never Recorded "Invalid amount" "The amount is not a decimal number of USDC above zero with at most six decimals.";
    InvalidChain "INVALID_CHAIN" 422 Never Recorded "Invalid chain" "No such chain.";
    RecipientNotRegistered "RECIPIENT_NOT_REGISTERED" 422 Never Judged "Recipient not registered" "The recipient is not registered to this tenant, or the tenant has none for this chain.";
    RateLimited "RATE_LIMITED" 429 Later Judged "Rate limited" "Too many requests in the last minute or hour, or too many mails, reports or wrong codes.";
    QuotaExceeded "QUOTA_EXCEEDED" 429 Later Judged "Quota exceeded" "The month's verifications are used up.";
    Internal "INTERNAL" 500 Same Judged "Internal error" "A defect on our side; report the request id.";
    LedgerUnavailable "LEDGER_UNAVAILABLE" 503 Same Judged "Ledger unavailable" "The tenant's ledger did not answer in time; with an `Idempotency-Key` the repeat gets what was recorded.";
    ChainUnavailable "CHAIN_UNAVAILABLE" 503 Later Judged "Chain unavailable" "No provider of the chain gave a usable answer.";
    Misconfigured "MISCONFIGURED" 503 Later Judged "Misconfigured" "The service's own settings are missing or malformed; the operator's log names them.";
    SettlementNotOpen "SETTLEMENT_NOT_OPEN" 409 Later Judged "Settlement not open" "The settlement is not completed, a request waits for it, or it was handed over before.";
    InvalidSession "INVALID_SESSION" 401 Never Judged "Not signed in" "The session's cookie is missing, unknown or malformed, the session has ended, or the request carries a key too, beside which no cookie counts.";
    InvalidSignIn "INVALID_SIGN_IN" 401 Never Judged "Sign-in not valid" "The code or the link is wrong, has expired or was used; or the code was asked for in another browser, tried five times or replaced by that of a newer mail; or the account of another service was removed.";
    CrossOrigin "CROSS_ORIGIN" 403 Never Judged "Cross-origin request" "The request comes from a page of another origin, or carries our cookie and does not say from which page it comes.";
    InsufficientRole "INSUFFICIENT_ROLE" 403 Never Judged "Insufficient role" "The person's role in the tenant is smaller than this route needs.";
    AlreadyMember "ALREADY_MEMBER" 409 Never Judged "Already a member" "The address that is invited belongs to a member of the tenant.";
    LastOwner "LAST_OWNER" 409 Never Judged "Last owner" "A tenant keeps one owner: the last one cannot leave, be removed or get a smaller role.";
    NotInTier "NOT_IN_TIER" 403 Never Judged "Not in the tier" "The tenant's tier does not include this; `upgrade_url` leads to one that does.";
    InvalidProof "INVALID_PROOF" 422 Never Judged "Invalid proof" "The signature does not show that the address is the tenant's: another key, message or wallet, or a challenge that is unknown, has expired or was used. Of a mail domain: its DNS record is not there.";
    SanctionedRecipient "SANCTIONED_RECIPIENT" 403 Never Judged "Sanctioned recipient" "The address is on the sanctions list: it cannot be registered.";
    IpNotAllowed "IP_NOT_ALLOWED" 403 Never Judged "Address not allowed" "The API key may be used from some networks only, and the request comes from another.";
    KeyNotActive "KEY_NOT_ACTIVE" 409 Never Judged "Key not active" "The key is revoked, has expired or was rotated before: it cannot be rotated.";
    InvalidSignature "INVALID_SIGNATURE" 401 Never Judged "Invalid signature" "A webhook's signature is missing, wrong or more than five minutes old.";
    BotRefused "BOT_REFUSED" 403 Never Judged "Not taken for a person" "Turnstile does not accept the token in `turnstile_token`: it is wrong, was used or is too old.";
    UpstreamUnavailable "UPSTREAM_UNAVAILABLE" 503 Later Judged "Other service unavailable" "Turnstile, GitHub, a company's identity provider, the DNS or Stripe did not answer in time or as documented: nobody could be signed in, no address of an endpoint be checked, or no plan be read or changed.";
    TenantDeleting "TENANT_DELETING" 409 Never Judged "Tenant being deleted" "The tenant is being deleted: an owner can undo that until it is due, and nothing else is changed.";
    InvalidConfirmation "INVALID_CONFIRMATION" 422 Never Judged "Invalid confirmation" "The token of the mail that asks whether to delete the tenant is wrong, has expired or was replaced by a newer one.";
    MailNotOpen "MAIL_NOT_OPEN" 409 Never Judged "Mail not sent again" "The mail waits to be sent, its link was used or revoked or has expired, or its address gets no mails.";
    DomainTaken "DOMAIN_TAKEN" 409 Later Judged "Domain taken" "Another tenant has proven the mail domain, and its DNS record is still there.";
    ChangeNotLoaded "CHANGE_NOT_LOADED" 503 Same Judged "Change stored, not loaded yet" "The change is stored, but a ledger of the tenant has not loaded it yet: it takes effect within minutes, or at once where the same request succeeds.";
    PaymentRequired "PAYMENT_REQUIRED" 402 Never Judged "Payment required" "Something is not paid: a larger plan, for which the card could not be charged, so that nothing has changed; or the present plan, which is to be paid first. `action_url` leads to where it can be.";
    NoSubscription "NO_SUBSCRIPTION" 409 Never Judged "No subscription" "The tenant has no subscription that goes on: `POST /v1/billing/checkout` begins one.";
    SubscriptionExists "SUBSCRIPTION_EXISTS" 409 Never Judged "Subscription exists" "The tenant has a subscription: `POST /v1/billing/change` changes its plan, `/resume` has one that ends go on.";
    SubscriptionEnding "SUBSCRIPTION_ENDING" 409 Never Judged "Subscription ending" "The subscription ends with its period: `POST /v1/billing/resume` lets it go on.";
    BillingBusy "BILLING_BUSY" 409 Later Judged "Billing busy" "Another change of the tenant's billing is under way.";
    PlanByOperator "PLAN_BY_OPERATOR" 409 Never Judged "Plan set by the operator" "An operator has set the tenant's tier by hand, and it is not sold here: ask the operator.";
    InvalidMetricsToken "INVALID_METRICS_TOKEN" 401 Never Judged "Invalid token" "The bearer token of the metrics is missing or wrong.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Why a request is not answered. `detail` is for the caller and holds no
/// upstream text, no other tenant and no secret; `cause` is for the log only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The code that clients may rely on; it decides the HTTP status.
    pub code: ErrorCode,
    /// One sentence for the caller.
    pub detail: Cow<'static, str>,
    /// The member or header that is wrong.
    pub param: Option<Cow<'static, str>>,
    /// Seconds after which a repeat can help.
    pub retry_after_s: Option<u64>,
    /// Whether another tier would allow the request.
    pub upgrade: bool,
    /// Where a person can do what is missing.
    pub action_url: Option<String>,
    cause: Option<String>,
}

/// Which kind of error about JSON it is, and where: its text may repeat a value, which may be a key, a token or an address.
#[must_use]
pub fn json_place(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        Category::Io => "the text could not be read",
        Category::Syntax => "no JSON",
        Category::Data => "JSON of another form",
        Category::Eof => "JSON that ends early",
    };
    format!("{kind}: line {}, column {}", error.line(), error.column())
}

impl Fault {
    /// A fault with its sentence for the caller.
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            param: None,
            retry_after_s: None,
            upgrade: false,
            action_url: None,
            cause: None,
        }
    }

    /// An internal error: the caller learns only the request id.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(ErrorCode::Internal, "an internal error; report the request id").because(cause)
    }

    /// An internal error about JSON that was stored or comes from the service itself, logged as [`json_place`].
    #[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
    pub fn internal_json(error: serde_json::Error) -> Self {
        Self::internal(json_place(&error))
    }

    /// A ledger cannot read what the Worker sends it, as during a deployment: the caller may send the request again.
    pub fn other_version(cause: impl fmt::Display) -> Self {
        Self::new(ErrorCode::LedgerUnavailable, "the ledger is of another version").after(1).because(cause)
    }

    /// Names the member or header that is wrong.
    #[must_use]
    pub fn at(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Sets the seconds after which a repeat can help, at least 1.
    #[must_use]
    pub fn after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }

    /// Notes that another tier would allow the request.
    #[must_use]
    pub(crate) fn upgradable(mut self) -> Self {
        self.upgrade = true;
        self
    }

    /// Names where a person can do what is missing.
    #[must_use]
    pub fn leading_to(mut self, url: String) -> Self {
        self.action_url = Some(url);
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Keeps of an error about JSON what may be logged: [`json_place`].
    #[must_use]
    pub fn because_json(self, error: &serde_json::Error) -> Self {
        self.because(json_place(error))
    }

    /// The cause, for the log alone; no answer holds it.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_statuses_are_errors() {
        let wires: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(wires.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert!((400..600).contains(&code.status()), "{code}");
            assert!(!code.title().is_empty() && code.doc().ends_with('.'), "{code}");
            assert_eq!(ErrorCode::parse(code.as_str()), Some(*code));
        }
        assert_eq!(ErrorCode::parse("TX_FAILED"), None);
    }

    #[test]
    fn only_what_another_request_alone_can_change_is_recorded() {
        for code in ErrorCode::ALL {
            assert!(code.retry() == Retry::Never || code.repeat() == RepeatRule::Judged, "{code}");
        }
        // Keys, scopes, tiers, chains, recipients and limits are the seller's or the operator's to change.
        for code in [
            ErrorCode::InvalidApiKey,
            ErrorCode::InsufficientScope,
            ErrorCode::TenantSuspended,
            ErrorCode::ChainNotEnabled,
            ErrorCode::RecipientNotRegistered,
            ErrorCode::RateLimited,
            ErrorCode::QuotaExceeded,
        ] {
            assert_eq!(code.repeat(), RepeatRule::Judged, "{code}");
        }
    }

    #[test]
    fn the_cause_is_not_in_what_the_caller_reads() {
        let fault = Fault::internal("password=hunter2");
        assert_eq!(fault.cause(), Some("password=hunter2"));
        assert!(!fault.detail.contains("hunter2"));
    }
}
