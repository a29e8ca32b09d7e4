//! What owners of a tenant are alerted to: the kinds of events, their texts, and when mails and messages are sent.

pub mod operator;

use crate::event::{EventKind, EventSubject};
use crate::tenancy::quota::QuotaUse;
use serde::{Deserialize, Serialize};
use x402_chain::network::Environment;
use x402_chain::time::{DAY_MS, UnixMillis};

/// A kind of event that is an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertRow {
    /// The event.
    pub kind: EventKind,
    /// The subject line of the mail.
    pub title: &'static str,
    /// What has happened and what to do about it.
    pub sentence: &'static str,
}

const fn row(kind: EventKind, title: &'static str, sentence: &'static str) -> AlertRow {
    AlertRow { kind, title, sentence }
}

/// Every kind of event that is an alert. The directory's trigger `alerts_of_changes` names those among its changes.
pub const ALERTS: &[AlertRow] = &[
    row(
        EventKind::QuotaWarning,
        "80 % of the month's verifications are used",
        "Most of the verifications that your tier includes this month are used. When all are, requests are refused until \
         the next month begins. A larger tier raises the limit.",
    ),
    row(
        EventKind::QuotaExceeded,
        "The month's verifications are used",
        "All verifications that your tier includes this month are used: requests are refused until the next month begins. \
         A larger tier raises the limit at once.",
    ),
    row(
        EventKind::KeyExpiring,
        "An API key ends soon",
        "Requests with the key are refused once it has ended. Replace it before: rotate it, or make another.",
    ),
    row(
        EventKind::EndpointDisabled,
        "A webhook endpoint was disabled",
        "Attempts of five days to deliver something to the endpoint have failed, or it answered 410. It gets no events until you resume it.",
    ),
    row(
        EventKind::SettlementUndelivered,
        "A payment was settled and not handed over",
        "The buyer has paid, and no request of yours got the success within five minutes: the goods may not be delivered. \
         Read the settlement, deliver, and take its success by hand.",
    ),
];

/// The row of a kind; `None` where it is no alert.
#[must_use]
pub fn alert_row(kind: EventKind) -> Option<&'static AlertRow> {
    ALERTS.iter().find(|row| row.kind == kind)
}

/// Whether an event is an alert: of `test` none is, so that attempts of developers wake nobody.
#[must_use]
pub fn is_alert(kind: EventKind, environment: Environment) -> bool {
    environment == Environment::Live && alert_row(kind).is_some()
}

#[derive(Serialize, Deserialize)]
struct SettledOn {
    network: String,
}

#[derive(Deserialize)]
struct ChangedTo {
    detail: Option<String>,
}

/// What is kept of an event's data for its alert: of a settlement only the network.
#[must_use]
pub fn kept_data(kind: EventKind, data: &str) -> String {
    match kind.subject() {
        EventSubject::Settlement => {
            let settled = serde_json::from_str::<SettledOn>(data).ok();
            settled.and_then(|settled| serde_json::to_string(&settled).ok()).unwrap_or_else(|| "{}".to_owned())
        }
        EventSubject::Quota | EventSubject::Change | EventSubject::Verification => data.to_owned(),
    }
}

/// The line of an alert, from the subject of its event and what was kept of the data.
fn line(kind: EventKind, subject: &str, data: &str) -> String {
    let known = match kind.subject() {
        EventSubject::Quota => serde_json::from_str::<QuotaUse>(data)
            .ok()
            .map(|quota| format!("{subject}: {} of {} verifications are used", quota.used, quota.limit)),
        EventSubject::Settlement => {
            serde_json::from_str::<SettledOn>(data).ok().map(|settled| format!("{subject} on {}", settled.network))
        }
        EventSubject::Change if kind == EventKind::KeyExpiring => {
            changed_to(data).map(|end| format!("{subject} ends at {end}"))
        }
        EventSubject::Change | EventSubject::Verification => {
            changed_to(data).map(|detail| format!("{subject}: {detail}"))
        }
    };
    known.unwrap_or_else(|| subject.to_owned())
}

fn changed_to(data: &str) -> Option<String> {
    serde_json::from_str::<ChangedTo>(data).ok()?.detail
}

/// The most alerts of one notice that its text names; it counts the others.
pub const LISTED_MAX: u64 = 20;

/// The text of a notice about so many alerts of one kind, of which the first are listed, each by the subject and the kept data
/// of its event: a paragraph a line.
#[must_use]
pub fn notice_text(row: &AlertRow, listed: &[(String, String)], number: u64) -> String {
    let mut text = row.sentence.to_owned();
    for (subject, data) in listed {
        text.push('\n');
        text.push_str(&line(row.kind, subject, data));
    }
    let more = number.saturating_sub(u64::try_from(listed.len()).unwrap_or(u64::MAX));
    if more > 0 {
        text.push_str(&format!("\n… and {more} more"));
    }
    text
}

/// A message for Slack and what understands its form: the title in bold, then the text. `&`, `<` and `>` are escaped, as
/// Slack's formatting asks.
#[must_use]
pub fn slack_text(title: &str, text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("*{title}*\n{escaped}")
}

/// The most notices of a tenant and kind in a day. Alerts beyond it wait, and go together in the next.
pub const NOTICES_DAY_MAX: u64 = 10;
/// How long settlements are gathered for one notice.
const GATHER_MS: u64 = 3 * 60_000;
/// From one notice about settlements to the next.
const PAUSE_MS: u64 = 60 * 60_000;

/// Alerts of a tenant and kind that wait for a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingAlerts {
    /// Their kind.
    pub kind: EventKind,
    /// When the oldest was raised.
    pub oldest: UnixMillis,
    /// When the last notice of the kind was made.
    pub last_notice: Option<UnixMillis>,
    /// Notices of the kind in the last day.
    pub notices_in_day: u64,
}

impl WaitingAlerts {
    /// Whether a notice is due: at once, but for settlements, which are gathered.
    #[must_use]
    pub fn is_due(&self, now: UnixMillis) -> bool {
        let is_gathered = self.kind != EventKind::SettlementUndelivered
            || (now.since(self.oldest) >= GATHER_MS && self.last_notice.is_none_or(|last| now.since(last) >= PAUSE_MS));
        is_gathered && self.notices_in_day < NOTICES_DAY_MAX
    }
}

/// The times by which the directory selects what [`WaitingAlerts::is_due`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueTimes {
    /// Since when notices are counted for [`NOTICES_DAY_MAX`].
    pub day: UnixMillis,
    /// Settlements are gathered of which the oldest was raised until then.
    pub gathered: UnixMillis,
    /// Until when the last notice about settlements must have been made.
    pub paused: UnixMillis,
}

impl DueTimes {
    /// The times for a run.
    #[must_use]
    pub const fn of(now: UnixMillis) -> Self {
        Self { day: before(now, DAY_MS), gathered: before(now, GATHER_MS), paused: before(now, PAUSE_MS) }
    }
}

const fn before(now: UnixMillis, ms: u64) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(ms))
}

/// A message that takes so long is slow: the next ones to its URL wait in a line of their own, so that they hold up no other.
pub const SLOW_POST_MS: u64 = 2_000;

/// From one try to post a message to the next.
const POST_PAUSES_MS: [u64; 4] = [60_000, 5 * 60_000, 30 * 60_000, 2 * 60 * 60_000];

/// When a message is posted again if this try fails; `tries` counts those before. `None`: it is then given up.
#[must_use]
pub fn next_post(tries: u64, now: UnixMillis) -> Option<UnixMillis> {
    let pause = usize::try_from(tries).ok().and_then(|at| POST_PAUSES_MS.get(at))?;
    Some(now.plus(*pause))
}

/// How long before their ends keys are alerted to, days. The directory's column `alert_due_ms` has the same.
pub const KEY_ENDS_DAYS: [u64; 2] = [1, 7];

/// The alert that is due of a key that ends then: the last one where both are.
#[must_use]
pub fn key_ends_days(end: UnixMillis, now: UnixMillis) -> u64 {
    let [last, first] = KEY_ENDS_DAYS;
    if end.since(now) <= last.saturating_mul(DAY_MS) { last } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_910_400_000);

    #[test]
    fn a_notice_names_what_it_is_about() {
        let of = |kind, subject: &str, data: &str| {
            let row = alert_row(kind).expect("an alert");
            let text = notice_text(row, &[(subject.to_owned(), kept_data(kind, data))], 1);
            let (sentence, line) = text.split_once('\n').expect("two lines");
            assert_eq!(sentence, row.sentence);
            line.to_owned()
        };
        let quota = r#"{"period":"2026-11","used":800,"limit":1000}"#;
        assert_eq!(of(EventKind::QuotaWarning, "2026-11", quota), "2026-11: 800 of 1000 verifications are used");
        let change = |detail: &str| format!(r#"{{"action":"a","subject":"s","detail":{detail},"actor":"system"}}"#);
        let end = change(r#""2026-12-07T09:00:00.000Z""#);
        assert_eq!(of(EventKind::KeyExpiring, "key_1", &end), "key_1 ends at 2026-12-07T09:00:00.000Z");
        assert_eq!(of(EventKind::EndpointDisabled, "whe_1", &change(r#""gone""#)), "whe_1: gone");
        assert_eq!(of(EventKind::EndpointDisabled, "whe_1", &change("null")), "whe_1");
        let settled = r#"{"id":"stl_1","network":"eip155:8453","payer":"0xP"}"#;
        assert_eq!(kept_data(EventKind::SettlementUndelivered, settled), r#"{"network":"eip155:8453"}"#);
        assert_eq!(of(EventKind::SettlementUndelivered, "stl_1", settled), "stl_1 on eip155:8453");
        // Data of another build.
        assert_eq!(of(EventKind::SettlementUndelivered, "stl_1", "[]"), "stl_1");
        assert_eq!(of(EventKind::QuotaExceeded, "2026-11", "{}"), "2026-11");
    }

    #[test]
    fn a_long_list_is_cut() {
        let row = alert_row(EventKind::SettlementUndelivered).expect("an alert");
        let listed: Vec<_> = (0..LISTED_MAX).map(|at| (format!("stl_{at}"), "{}".to_owned())).collect();
        let text = notice_text(row, &listed, 25);
        assert!(text.contains("stl_19") && text.ends_with("… and 5 more"), "{text}");
        assert!(notice_text(row, &listed, 1_000_000).ends_with("… and 999980 more"));
        assert!(!notice_text(row, &listed, LISTED_MAX).contains("more"));
        assert_eq!(slack_text("A", "b <c> & d"), "*A*\nb &lt;c&gt; &amp; d");
    }

    #[test]
    fn only_some_events_of_live_are_alerts() {
        for kind in EventKind::ALL {
            assert!(!is_alert(*kind, Environment::Test), "{kind:?}");
            assert_eq!(is_alert(*kind, Environment::Live), alert_row(*kind).is_some(), "{kind:?}");
        }
        assert_eq!(ALERTS.len(), 5);
        assert!(!is_alert(EventKind::QuotaReset, Environment::Live));
    }

    #[test]
    fn settlements_are_gathered_and_nothing_floods() {
        let at = |minutes: u64| UnixMillis(NOW.0 + minutes * 60_000);
        let waiting =
            |kind, last_notice, notices_in_day| WaitingAlerts { kind, oldest: NOW, last_notice, notices_in_day };
        assert!(waiting(EventKind::QuotaWarning, Some(NOW), 9).is_due(NOW));
        assert!(!waiting(EventKind::QuotaWarning, Some(NOW), NOTICES_DAY_MAX).is_due(at(60)));
        let first = waiting(EventKind::SettlementUndelivered, None, 0);
        assert_eq!([0, 2, 3].map(|minutes| first.is_due(at(minutes))), [false, false, true]);
        let next = waiting(EventKind::SettlementUndelivered, Some(at(3)), 1);
        assert_eq!([6, 62, 63].map(|minutes| next.is_due(at(minutes))), [false, false, true]);
        assert!(!waiting(EventKind::SettlementUndelivered, Some(at(3)), NOTICES_DAY_MAX).is_due(at(63)));
    }

    #[test]
    fn of_a_key_that_ends_the_last_alert_is_due() {
        let days = |ms: u64| key_ends_days(NOW.plus(ms), NOW);
        assert_eq!([0, DAY_MS, DAY_MS + 1, 7 * DAY_MS].map(days), [1, 1, 7, 7]);
    }

    #[test]
    fn a_message_is_tried_five_times() {
        let pauses: Vec<_> = (0..6).map(|tries| next_post(tries, NOW).map(|next| next.since(NOW) / 60_000)).collect();
        assert_eq!(pauses, [Some(1), Some(5), Some(30), Some(120), None, None]);
    }
}
