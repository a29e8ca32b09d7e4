//! One attempt to send a message to an endpoint: the check of its URL, the request, and what came of it.

use crate::app;
use crate::app::App;
use crate::d1::endpoints::EndpointTarget;
use crate::dns::AddressesUnknown;
use crate::outbound::{OutboundRequest, USER_AGENT, deadline, request_headers, send_message};
use crate::webhook_target::{TargetRefused, check_target};
use std::cell::Cell;
use std::rc::Rc;
use x402_chain::id::EventId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::webhook::cause::trace_of_message;
use x402_core::webhook::delivery::head_of;
use x402_core::webhook::outcome::AttemptEnd;
use x402_core::webhook::signature::sign;

/// The deadline of an attempt.
const ATTEMPT_MS: u32 = 10_000;
/// For how long a check of the DNS counts: `fetch` asks it again anyway, and the platform remembers its answers as long.
const CHECKED_MS: u64 = 5_000;
/// The most bytes that are read of an answer.
const ANSWER_MAX: usize = 4 * 1_024;

/// A message that is being sent.
pub(super) struct Flight {
    pub(super) event: EventId,
    pub(super) subject: String,
    /// The number of the attempt.
    pub(super) number: u64,
    /// The attempts of the schedule so far, this one included.
    pub(super) tried: u64,
}

/// How an attempt ended.
pub(super) struct Landed {
    pub(super) flight: Flight,
    /// The endpoint as it was when it was sent.
    pub(super) to: Rc<ReadTarget>,
    pub(super) end: AttemptEnd,
    pub(super) duration_ms: u64,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) head: String,
}

/// An endpoint as an alarm has read it.
pub(super) struct ReadTarget {
    target: EndpointTarget,
    /// When the DNS was last found to lead to public addresses alone.
    checked_at: Cell<Option<UnixMillis>>,
}

impl ReadTarget {
    pub(super) const fn new(target: EndpointTarget) -> Self {
        Self { target, checked_at: Cell::new(None) }
    }

    /// Where messages are sent to.
    pub(super) fn url(&self) -> &str {
        &self.target.url
    }

    /// Whether the URL was found to be allowed a moment ago.
    pub(super) fn is_checked(&self) -> bool {
        self.checked_at.get().is_some_and(|at| app::now().since(at) < CHECKED_MS)
    }

    /// Checks the URL. How an attempt ends where nothing may be sent.
    ///
    /// # Errors
    /// Where the resolver is away, so that nothing is known.
    pub(super) async fn check(&self, app: &App) -> Result<Option<AttemptEnd>, Fault> {
        match check_target(app, &self.target.url).await {
            Ok(()) => {
                self.checked_at.set(Some(app::now()));
                Ok(None)
            }
            Err(TargetRefused::Forbidden(_)) => Ok(Some(AttemptEnd::Refused)),
            Err(TargetRefused::Unresolved(AddressesUnknown::NameFailing(_))) => Ok(Some(AttemptEnd::Unreachable)),
            Err(TargetRefused::Unresolved(AddressesUnknown::ResolverAway(fault))) => Err(fault),
        }
    }
}

/// Sends a message once, unless nothing may be sent there.
pub(super) async fn attempt(
    read: Rc<ReadTarget>,
    refused: Option<AttemptEnd>,
    flight: Flight,
    message: String,
) -> Landed {
    let target = &read.target;
    let (began, ends) = (app::now(), deadline(ATTEMPT_MS));
    let id = flight.event.to_string();
    let (end, retry_after_ms, head) = match refused {
        Some(end) => (end, None, String::new()),
        None => {
            let sent_s = app::now().0 / 1_000;
            let keys = target.secrets.iter().map(|secret| secret.key().as_slice());
            let (signature, timestamp) = (sign(keys, &id, sent_s, message.as_bytes()), sent_s.to_string());
            let traceparent = trace_of_message(&message, flight.event, flight.number).to_string();
            let headers = request_headers(&[
                ("content-type", "application/json"),
                ("user-agent", USER_AGENT),
                ("webhook-id", &id),
                ("webhook-timestamp", &timestamp),
                ("webhook-signature", &signature),
                ("traceparent", &traceparent),
            ]);
            let sent = OutboundRequest {
                url: &target.url,
                headers: &headers,
                body: Some(&message),
                deadline: ends.clone(),
                answer_max: ANSWER_MAX,
            };
            match send_message(sent).await {
                Ok(answer) => (AttemptEnd::Status(answer.status), answer.retry_after_ms, head_of(&answer.body)),
                Err(_) if ends.aborted() => (AttemptEnd::TimedOut, None, String::new()),
                Err(_) => (AttemptEnd::Unreachable, None, String::new()),
            }
        }
    };
    Landed { flight, to: read, end, duration_ms: app::now().since(began), retry_after_ms, head }
}
