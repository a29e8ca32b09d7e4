//! The events of one isolate that wait to be sent: a bounded queue, behind a bucket of tokens. What is left out is counted, and
//! the next envelope reports it (a client report).

use super::limits::{TokenBucket, is_sampled};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use x402_chain::time::UnixMillis;

/// The most events that wait.
const WAITING_MAX: usize = 16;
/// After this time a sending whose end nobody has noted is over: the platform has ended the work.
const SENDING_MS: u64 = 60_000;

/// Why an event was not sent, in the words of Sentry's client reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LossReason {
    /// Too many waited.
    QueueOverflow,
    /// The bucket was empty, or Sentry has asked for a pause.
    Backoff,
    /// It was not sampled.
    SampleRate,
    /// Sentry was not reached in time.
    NetworkError,
    /// Sentry has refused it.
    SendError,
}

impl LossReason {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::QueueOverflow, Self::Backoff, Self::SampleRate, Self::NetworkError, Self::SendError];

    /// The name in a client report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueOverflow => "queue_overflow",
            Self::Backoff => "ratelimit_backoff",
            Self::SampleRate => "sample_rate",
            Self::NetworkError => "network_error",
            Self::SendError => "send_error",
        }
    }
}

/// How many events were not sent, by the reason.
pub type LostEvents = BTreeMap<LossReason, u64>;

/// An event that waits.
#[derive(Clone, Debug)]
pub struct WaitingEvent {
    /// The event as JSON, not scrubbed.
    pub event: Value,
    /// Whether it is sent however few are sampled: a panic.
    pub is_always_sent: bool,
}

/// What waits to be sent.
#[derive(Debug)]
pub struct SentryOutbox {
    waiting: VecDeque<WaitingEvent>,
    bucket: TokenBucket,
    lost: LostEvents,
    paused_until: UnixMillis,
    sending: Option<UnixMillis>,
    is_off: bool,
}

impl Default for SentryOutbox {
    fn default() -> Self {
        Self::new()
    }
}

impl SentryOutbox {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            bucket: TokenBucket::full(),
            lost: LostEvents::new(),
            paused_until: UnixMillis(0),
            sending: None,
            is_off: false,
        }
    }

    /// Whether events are taken: until it is known that there is no DSN.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.is_off
    }

    /// From now on, nothing is taken.
    pub fn switch_off(&mut self) {
        self.is_off = true;
        self.waiting.clear();
    }

    /// Whether something waits.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes an event.
    pub fn put(&mut self, event: WaitingEvent) {
        if self.waiting.len() >= WAITING_MAX {
            self.lose(LossReason::QueueOverflow, 1);
        } else if self.is_on() {
            self.waiting.push_back(event);
        }
    }

    /// Counts events that are not sent.
    pub fn lose(&mut self, reason: LossReason, count: u64) {
        let lost = self.lost.entry(reason).or_default();
        *lost = lost.saturating_add(count);
    }

    /// The events to send now; empty where others are being sent, or none may be. [`Self::end`] follows where it is not.
    pub fn take(&mut self, now: UnixMillis, per_mille: u16, mut random: impl FnMut() -> u32) -> Vec<Value> {
        if self.sending.is_some_and(|since| now.since(since) < SENDING_MS) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for waiting in core::mem::take(&mut self.waiting) {
            if now < self.paused_until {
                self.lose(LossReason::Backoff, 1);
            } else if !waiting.is_always_sent && !is_sampled(per_mille, random()) {
                self.lose(LossReason::SampleRate, 1);
            } else if self.bucket.take(now) {
                taken.push(waiting.event);
            } else {
                self.lose(LossReason::Backoff, 1);
            }
        }
        self.sending = (!taken.is_empty()).then_some(now);
        taken
    }

    /// What the next envelope reports.
    pub fn take_lost(&mut self) -> LostEvents {
        core::mem::take(&mut self.lost)
    }

    /// Puts back what an envelope that was not taken would have reported.
    pub fn restore_lost(&mut self, lost: LostEvents) {
        for (reason, count) in lost {
            self.lose(reason, count);
        }
    }

    /// Nothing is sent until then.
    pub fn pause(&mut self, until: UnixMillis) {
        self.paused_until = self.paused_until.max(until);
    }

    /// Whether Sentry has asked for a pause that lasts.
    #[must_use]
    pub fn is_paused(&self, now: UnixMillis) -> bool {
        now < self.paused_until
    }

    /// The sending has ended.
    pub fn end(&mut self) {
        self.sending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: UnixMillis = UnixMillis(1_795_910_400_000);

    fn filled(count: usize, is_always_sent: bool) -> SentryOutbox {
        let mut outbox = SentryOutbox::new();
        for number in 0..count {
            outbox.put(WaitingEvent { event: json!(number), is_always_sent });
        }
        outbox
    }

    #[test]
    fn the_queue_is_bounded_and_says_what_it_left_out() {
        let mut outbox = filled(WAITING_MAX + 5, false);
        assert_eq!(outbox.take(NOW, 1_000, || 0).len(), WAITING_MAX);
        assert_eq!(outbox.take_lost(), LostEvents::from([(LossReason::QueueOverflow, 5)]));
        assert_eq!(outbox.take_lost(), LostEvents::new());
    }

    #[test]
    fn one_sending_at_a_time_until_it_is_over() {
        let mut outbox = filled(1, false);
        assert_eq!(outbox.take(NOW, 1_000, || 0), [json!(0)]);
        outbox.put(WaitingEvent { event: json!(1), is_always_sent: false });
        assert!(outbox.take(NOW, 1_000, || 0).is_empty());
        assert!(outbox.is_waiting());
        outbox.end();
        assert_eq!(outbox.take(NOW, 1_000, || 0), [json!(1)]);
        // A sending that never ended.
        outbox.put(WaitingEvent { event: json!(2), is_always_sent: false });
        assert!(outbox.take(NOW.plus(SENDING_MS - 1), 1_000, || 0).is_empty());
        assert_eq!(outbox.take(NOW.plus(SENDING_MS), 1_000, || 0), [json!(2)]);
    }

    #[test]
    fn the_bucket_bounds_what_is_sent() {
        let mut outbox = SentryOutbox::new();
        let mut sent = 0_usize;
        for number in 0..100 {
            outbox.put(WaitingEvent { event: json!(number), is_always_sent: true });
            sent += outbox.take(NOW, 1_000, || 0).len();
            outbox.end();
        }
        assert_eq!((sent, outbox.take_lost().get(&LossReason::Backoff)), (20, Some(&80)));
    }

    #[test]
    fn sampling_leaves_panics() {
        assert!(filled(3, false).take(NOW, 500, || 500).is_empty());
        assert_eq!(filled(3, false).take(NOW, 500, || 499).len(), 3);
        assert_eq!(filled(3, true).take(NOW, 0, || 0).len(), 3);
    }

    #[test]
    fn a_pause_is_kept_and_what_it_cost_is_reported() {
        let mut outbox = filled(2, true);
        outbox.pause(NOW.plus(1_000));
        assert!(outbox.is_paused(NOW) && outbox.take(NOW, 1_000, || 0).is_empty());
        outbox.put(WaitingEvent { event: json!(9), is_always_sent: true });
        assert_eq!(outbox.take(NOW.plus(1_000), 1_000, || 0), [json!(9)]);
        let lost = outbox.take_lost();
        assert_eq!(lost, LostEvents::from([(LossReason::Backoff, 2)]));
        outbox.restore_lost(lost.clone());
        assert_eq!(outbox.take_lost(), lost);
    }

    #[test]
    fn without_a_dsn_nothing_is_kept() {
        let mut outbox = filled(2, true);
        outbox.switch_off();
        outbox.put(WaitingEvent { event: json!(9), is_always_sent: true });
        assert!(!outbox.is_on() && !outbox.is_waiting());
        assert!(outbox.take(NOW, 1_000, || 0).is_empty());
    }
}
