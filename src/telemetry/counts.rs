//! What this isolate has counted since it has last sent it to a Meter ([`crate::metering`]). It may be lost with the isolate:
//! what must be exact is counted by ledgers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use x402_chain::time::UnixMillis;
use x402_core::messages::meter::{MeterAddition, ObjectQueue, QueueDepth};
use x402_core::metrics::MetricFamily;
use x402_core::metrics::series::MetricCounts;

/// How often an isolate sends.
const SEND_EVERY_MS: u64 = 10_000;
/// After this time an addition whose sending has not ended counts as not sent: the platform has ended the work.
const SENDING_MS: u64 = 15_000;
/// The most objects whose depths are kept until they are sent.
const DEPTHS_MAX: usize = 200;

/// What waits to be sent.
struct Counted {
    counts: MetricCounts,
    depths: BTreeMap<(ObjectQueue, String), QueueDepth>,
    /// The name of this isolate, once it has sent.
    source: Option<String>,
    /// The number of the last addition.
    sequence: u64,
    /// The last addition, until a Meter has it.
    unsent: Option<MeterAddition>,
    /// When sending has begun; `None` where nothing is being sent.
    sending: Option<UnixMillis>,
    /// When something was last sent, or first counted.
    at: Option<UnixMillis>,
}

thread_local! {
    static COUNTED: RefCell<Counted> = const {
        RefCell::new(Counted {
            counts: MetricCounts { counters: BTreeMap::new(), histograms: BTreeMap::new() },
            depths: BTreeMap::new(),
            source: None,
            sequence: 0,
            unsent: None,
            sending: None,
            at: None,
        })
    };
}

/// Counts one event of a family.
pub(crate) fn count(family: MetricFamily, labels: &[&str]) {
    COUNTED.with_borrow_mut(|counted| counted.counts.count(family, labels, 1));
}

/// Counts a duration.
pub(crate) fn observe(family: MetricFamily, labels: &[&str], ms: u64) {
    COUNTED.with_borrow_mut(|counted| counted.counts.observe(family, labels, ms));
}

/// Notes what waits in an object now.
pub(crate) fn note_depth(depth: QueueDepth) {
    COUNTED.with_borrow_mut(|counted| {
        let key = (depth.queue, depth.object.clone());
        if counted.depths.len() < DEPTHS_MAX || counted.depths.contains_key(&key) {
            counted.depths.insert(key, depth);
        }
    });
}

/// What is to be sent now; `None` where it is not time yet, or something is being sent. It is the same until
/// [`note_sent`] says that a Meter has it. `name` makes this isolate's name.
pub(crate) fn take_due(now: UnixMillis, name: impl FnOnce() -> String) -> Option<MeterAddition> {
    COUNTED.with_borrow_mut(|counted| {
        let since = *counted.at.get_or_insert(now);
        let is_sending = counted.sending.is_some_and(|since| now.since(since) < SENDING_MS);
        if is_sending || now.since(since) < SEND_EVERY_MS {
            return None;
        }
        if counted.unsent.is_none() {
            if counted.counts.is_empty() && counted.depths.is_empty() {
                return None;
            }
            counted.sequence = counted.sequence.saturating_add(1);
            counted.unsent = Some(MeterAddition {
                source: counted.source.get_or_insert_with(name).clone(),
                sequence: counted.sequence,
                counts: core::mem::take(&mut counted.counts),
                depths: core::mem::take(&mut counted.depths).into_values().collect(),
            });
        }
        counted.sending = Some(now);
        counted.at = Some(now);
        counted.unsent.clone()
    })
}

/// Notes how the sending of an addition has ended.
pub(crate) fn note_sent(sequence: u64, is_taken: bool) {
    COUNTED.with_borrow_mut(|counted| {
        counted.sending = None;
        if is_taken && counted.unsent.as_ref().is_some_and(|unsent| unsent.sequence == sequence) {
            counted.unsent = None;
        }
    });
}
