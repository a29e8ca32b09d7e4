//! What becomes of an event on its way to an endpoint, and the message that is sent.

use super::outcome::AttemptEnd;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use x402_chain::id::EventId;
use x402_chain::time::{DAY_MS, UnixMillis};

/// How long a delivery is kept after its end at most, and for how long one that may be sent waits.
pub const KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// The most deliveries of an endpoint that wait; what comes beyond them is exhausted at once.
pub const WAITING_MAX: u64 = 100_000;
/// The attempts of a delivery that are kept, the newest: each redelivery brings more.
pub const ATTEMPTS_KEPT: u64 = 100;
/// The bytes of an answer that are kept.
pub const HEAD_BYTES: usize = 512;

/// What has become of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It is sent, or sent again, or comes after another event of its subject.
    Waiting,
    /// The endpoint has taken it.
    Delivered,
    /// The endpoint has not taken it in any of its attempts, or it has waited for too long.
    Exhausted,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::Exhausted];

    /// The name in JSON and in storage.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Exhausted => "exhausted",
        }
    }

    /// The state with this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == text)
    }
}

/// A delivery, without its attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverySummary {
    /// The event.
    pub event: EventId,
    /// The name of its kind.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// What has become of it.
    pub state: DeliveryState,
    /// How often it was sent.
    pub attempts: u64,
    /// When it is sent next, as far as the endpoint is sent anything; `None` where it has ended or waits for another event.
    pub next_at: Option<UnixMillis>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
}

/// A delivery with its attempts, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// The delivery.
    pub summary: DeliverySummary,
    /// Its attempts.
    pub attempts: Vec<AttemptRecord>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// When it began.
    pub at: UnixMillis,
    /// How long it took; `None` while it goes on, and where it was cut off.
    pub duration_ms: Option<u64>,
    /// The status that was answered; `None` where there was no answer.
    pub status: Option<u16>,
    /// Why there was no answer, by [`failure_name`].
    pub failure: Option<String>,
    /// The first bytes of the answer.
    pub head: String,
}

/// The name of an attempt's failure without an answer; `None` where there was one.
#[must_use]
pub const fn failure_name(end: AttemptEnd) -> Option<&'static str> {
    match end {
        AttemptEnd::Status(_) => None,
        AttemptEnd::TimedOut => Some("timed_out"),
        AttemptEnd::Unreachable => Some("unreachable"),
        AttemptEnd::Refused => Some("refused"),
    }
}

/// The body of the message of an event of a kind, by its name: the same in each attempt, since it is signed as it is. A test
/// event says so.
///
/// # Errors
/// None that our own types can raise.
pub fn message_body((kind, at): (&str, UnixMillis), data: &RawValue, test: bool) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Message<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        timestamp: String,
        data: &'a RawValue,
        #[serde(skip_serializing_if = "core::ops::Not::not")]
        test: bool,
    }
    serde_json::to_string(&Message { kind, timestamp: at.rfc3339(), data, test })
}

/// Whether an event is accepted: not where it is so old that its delivery may have ended and been forgotten.
#[must_use]
pub fn is_acceptable(event: EventId, now: UnixMillis) -> bool {
    now.since(event.created_at()) < KEPT_MS
}

/// Since when an event that has just come is due: now, or by the clock of whoever made it, where that is less. A clock that is
/// ahead makes it wait for no longer; and what comes late waits as long as others, but for a day.
#[must_use]
pub fn first_due(event: EventId, now: UnixMillis) -> UnixMillis {
    event.created_at().max(UnixMillis(now.0.saturating_sub(DAY_MS))).min(now)
}

/// What is kept of an answer: its first bytes as text, in which what is not printed is replaced.
#[must_use]
pub fn head_of(answer: &[u8]) -> String {
    let head = answer.get(..HEAD_BYTES).unwrap_or(answer);
    let is_shown = |c: char| !c.is_control() && c != '\u{fffd}';
    String::from_utf8_lossy(head).chars().map(|c| if is_shown(c) { c } else { '\u{b7}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_names() {
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::parse(state.name()), Some(state));
            assert_eq!(serde_json::to_value(state).expect("JSON"), state.name());
        }
        assert_eq!(DeliveryState::parse("gone"), None);
    }

    #[test]
    fn a_message_holds_its_event_byte_for_byte() {
        let body = RawValue::from_string("{\"b\":1,\"a\":\"1.50\"}".to_owned()).expect("JSON");
        let of = ("payment.finalized", UnixMillis(1_795_910_400_000));
        assert_eq!(
            message_body(of, &body, false).expect("JSON"),
            r#"{"type":"payment.finalized","timestamp":"2026-11-29T00:00:00.000Z","data":{"b":1,"a":"1.50"}}"#
        );
        assert!(message_body(of, &body, true).expect("JSON").ends_with(r#","test":true}"#));
    }

    #[test]
    fn an_event_that_may_have_been_forgotten_is_not_accepted() {
        let (at, event) = (UnixMillis(1_795_910_400_000), EventId::new(UnixMillis(1_795_910_400_000), [3; 10]));
        assert!(is_acceptable(event, at) && is_acceptable(event, UnixMillis(0)));
        assert!(is_acceptable(event, at.plus(KEPT_MS - 1)) && !is_acceptable(event, at.plus(KEPT_MS)));
    }

    #[test]
    fn what_comes_is_due_whatever_clock_has_taken_it() {
        let (at, event) = (UnixMillis(1_795_910_400_000), EventId::new(UnixMillis(1_795_910_400_000), [3; 10]));
        assert_eq!([UnixMillis(7), at, at.plus(9)].map(|now| first_due(event, now)), [UnixMillis(7), at, at]);
        assert_eq!(first_due(event, at.plus(KEPT_MS)), at.plus(KEPT_MS - DAY_MS));
    }

    #[test]
    fn of_an_answer_little_is_kept_and_nothing_is_interpreted() {
        assert_eq!(head_of(b"<b>ok\n\x1b[31m\0</b> \xc3\xa4\xff"), "<b>ok··[31m·</b> ä·");
        assert_eq!(head_of(&[b'a'; 4_096]).len(), HEAD_BYTES);
        assert_eq!(head_of(b""), "");
    }
}
