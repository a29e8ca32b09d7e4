//! Stripe's API. Every request has a deadline; every `POST` an idempotency key that was stored before, or is of what it is about
//! alone. A `DELETE` has none: it does the same however often it comes.

use crate::app::App;
use crate::outbound::{HttpAnswer, OutboundRequest, deadline, exchange_as, request_headers};
use x402_core::billing::STRIPE_VERSION;
use x402_core::billing::answer::StripeError;
use x402_core::billing::form::{StripeCall, StripeMethod};
use x402_core::error::{ErrorCode, Fault};

const ORIGIN: &str = "https://api.stripe.com";
/// The deadline of one request. Stripe answers within a few seconds where a card is charged.
const LIMIT_MS: u32 = 20_000;
/// The deadline of one read.
const READ_LIMIT_MS: u32 = 10_000;
/// The largest answer: a hundred subscriptions with their items.
const ANSWER_MAX: usize = 4 * 1_024 * 1_024;

/// Why a request did not succeed.
#[derive(Debug)]
pub(crate) enum StripeFailure {
    /// Stripe refused it: nothing has changed.
    Refused(u16, StripeError),
    /// No answer came: it is not known whether it was carried out.
    Unknown(String),
    /// A fault of Stripe's: it is not known whether it was carried out. Stripe keeps this answer for the key.
    Faulted(String),
    /// Too many requests, or one with the same key is under way: nothing was done yet.
    Later(String),
}

impl StripeFailure {
    /// Whether the same request is repeated under the same key: where another key would do it twice, and Stripe keeps no
    /// answer for this one.
    pub(crate) const fn is_open(&self) -> bool {
        match self {
            Self::Unknown(_) | Self::Later(_) => true,
            Self::Refused(..) | Self::Faulted(_) => false,
        }
    }

    /// Whether Stripe knows no such object.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused(_, error) if error.is_missing())
    }
}

impl From<StripeFailure> for Fault {
    fn from(failure: StripeFailure) -> Self {
        let detail = "Stripe does not answer, or not as documented: try again in a moment";
        match failure {
            StripeFailure::Refused(401, error) => {
                let detail = "billing is not set up: Stripe does not accept STRIPE_SECRET_KEY";
                Self::new(ErrorCode::Misconfigured, detail).after(60).because(error.words())
            }
            // A restricted key. Stripe's own sentence names the permission, but also the key.
            StripeFailure::Refused(403, error) => {
                let resource = error.resource();
                let detail =
                    format!("billing is not set up: STRIPE_SECRET_KEY has no permission for Stripe's {resource}");
                Self::new(ErrorCode::Misconfigured, detail).after(60).because(error.words())
            }
            StripeFailure::Refused(status, error) => Self::new(ErrorCode::UpstreamUnavailable, detail)
                .after(5)
                .because(format!("{status} {}", error.words())),
            StripeFailure::Unknown(cause) | StripeFailure::Faulted(cause) | StripeFailure::Later(cause) => {
                Self::new(ErrorCode::UpstreamUnavailable, detail).after(5).because(cause)
            }
        }
    }
}

fn not_set_up(app: &App) -> Fault {
    let gap = app.settings.billing_gap().unwrap_or_default();
    Fault::new(ErrorCode::Misconfigured, format!("billing is not set up: {gap}")).after(60)
}

/// The API with its key.
pub(crate) struct Stripe<'a> {
    key: &'a str,
}

impl<'a> Stripe<'a> {
    /// The API, for what was sold before: a key alone reads it, and ends it.
    ///
    /// # Errors
    /// `MISCONFIGURED`, naming the settings that are missing.
    pub(crate) fn of(app: &'a App) -> Result<Self, Fault> {
        app.settings.stripe_key().map(|key| Self { key }).ok_or_else(|| not_set_up(app))
    }

    /// The API where all is set up, for requests: without the secret of its events what is paid would not be delivered.
    ///
    /// # Errors
    /// `MISCONFIGURED`, naming all settings that are missing.
    pub(crate) fn set_up(app: &'a App) -> Result<Self, Fault> {
        match app.settings.billing_gap() {
            None => Self::of(app),
            Some(_) => Err(not_set_up(app)),
        }
    }

    /// Reads, or ends something; the body of an answer of 200.
    pub(crate) async fn read(&self, call: &StripeCall) -> Result<Vec<u8>, StripeFailure> {
        self.send(call, None, READ_LIMIT_MS).await
    }

    /// Writes; the body of an answer of 200. The key was stored before.
    pub(crate) async fn write(&self, call: &StripeCall, key: &str) -> Result<Vec<u8>, StripeFailure> {
        self.send(call, Some(key), LIMIT_MS).await
    }

    /// Asks by a `POST` that makes nothing.
    pub(crate) async fn preview(&self, call: &StripeCall, key: &str) -> Result<Vec<u8>, StripeFailure> {
        self.send(call, Some(key), READ_LIMIT_MS).await
    }

    async fn send(&self, call: &StripeCall, key: Option<&str>, limit_ms: u32) -> Result<Vec<u8>, StripeFailure> {
        let authorization = format!("Bearer {}", self.key);
        let mut headers = vec![
            ("authorization", authorization.as_str()),
            ("stripe-version", STRIPE_VERSION),
            ("user-agent", "x402-edge"),
        ];
        let (method, body) = match call.method {
            StripeMethod::Get => ("GET", None),
            StripeMethod::Delete => ("DELETE", None),
            StripeMethod::Post => {
                headers.push(("content-type", "application/x-www-form-urlencoded"));
                ("POST", Some(call.encoded()))
            }
        };
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let (headers, url) = (request_headers(&headers), format!("{ORIGIN}{}", call.target()));
        let request = OutboundRequest {
            url: &url,
            headers: &headers,
            body: body.as_deref(),
            deadline: deadline(limit_ms),
            answer_max: ANSWER_MAX,
        };
        let path = &call.path;
        match exchange_as(request, method).await {
            Ok(HttpAnswer { status: 200, body, .. }) => match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
                Ok(_) => Ok(body),
                // A connection that breaks within the answer.
                Err(_) => Err(StripeFailure::Unknown(format!("Stripe, {path}: an answer that is cut short"))),
            },
            Ok(HttpAnswer { status, body, .. }) => {
                let error = StripeError::read(&body, path);
                match status {
                    409 | 429 => Err(StripeFailure::Later(format!("Stripe answered {status} to {path}"))),
                    400..=499 => Err(StripeFailure::Refused(status, error)),
                    _ => Err(StripeFailure::Faulted(format!("Stripe answered {status} to {}", error.words()))),
                }
            }
            Err(failure) => Err(StripeFailure::Unknown(format!("Stripe, {path}: {failure}"))),
        }
    }
}
