//! Verified payments that are not final are polled until they are, in groups: rows written are the bill.

use super::TenantLedger;
use super::ship::ShippedState;
use super::store::LedgerStore;
use crate::app;
use crate::app::App;
use crate::objects::alarm::PacedWork;
use crate::rpc::trace;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::join_all;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use x402_chain::address::TxId;
use x402_chain::id::VerificationId;
use x402_chain::network::{Network, by_key};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::event::EventKind;
use x402_core::outbox::{OutboxEntry, OutboxEvent, RecordChange, StoredRecord};
use x402_core::settings::Settings;
use x402_core::verification::answer::VerificationAnswer;
use x402_core::verification::finality;

/// The name of the stored id of the newest record that was looked at for a group.
pub(super) const WATCHED: &str = "watched";
/// The most records looked at for groups in one turn.
const TURN_ROWS_MAX: i64 = 500;
/// The most payments in a group.
const GROUP_MAX: usize = 100;
/// The most groups read in one alarm.
const GROUPS_MAX: i64 = 10;
/// Payments polled at once; each takes a few requests, and the platform opens six connections at once.
const POLLS_AT_ONCE: usize = 12;
/// After this long an alarm begins no further poll.
pub(super) const POLL_MS: u64 = 4_000;
/// What an alarm had no time for is polled this long after.
pub(super) const LATE_AFTER_MS: u64 = 4_000;
/// After a failure the next poll is put off, not dropped.
const FAILED_AFTER_MS: u64 = 60_000;

/// The largest record that is stored a second time beside its change; a larger one is an entry of its own: a row holds 2 MB.
const JOINED_BYTES_MAX: usize = 400_000;

/// Writes a record's new body with whether it is polled further, and an outbox entry for it and its event. A record is the
/// event that it was answered: with its first change goes the text of before, so that the event stays what it was.
pub(super) fn write_record_change(
    store: &LedgerStore,
    record: &VerificationAnswer,
    (event, is_watched): (Option<EventKind>, bool),
    now: UnixMillis,
) -> Result<(), Fault> {
    let id = record.id.to_string();
    let first = store.record(&id)?.filter(|stored| stored.revision == 0);
    let mut answered = match first {
        Some(StoredRecord { body, .. }) => {
            Some(OutboxEvent::answered(record.id, RawValue::from_string(body).map_err(Fault::internal)?)?)
        }
        None => None,
    };
    store.update_record(&id, &serde_json::to_string(record).map_err(Fault::internal)?, is_watched)?;
    let is_apart = |answered: &mut OutboxEvent| event.is_none() || answered.body.get().len() > JOINED_BYTES_MAX;
    if let Some(apart) = answered.take_if(is_apart) {
        store.put_outbox(&OutboxEntry::Event(apart))?;
    }
    let Some(kind) = event else { return store.put_outbox(&OutboxEntry::Record(record.id)) };
    let body = serde_json::value::to_raw_value(record).map_err(Fault::internal)?;
    let event = OutboxEvent { id: app::event_id(now)?, kind: kind.into(), subject: id, body, at: now };
    store.put_outbox(&OutboxEntry::Change(RecordChange { event, answered }))
}

/// Groups the records after an id, up to another, that are to be polled, so that none costs a row of its own.
fn group_watched(store: &LedgerStore, after: &str, upto: &str) -> Result<(), Fault> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in store.watched_between(after, upto)? {
        groups.entry(row.chain).or_default().push(row.id);
    }
    for (chain, ids) in groups {
        for ids in ids.chunks(GROUP_MAX) {
            let since = ids.first().and_then(|id| VerificationId::parse(id)).map(VerificationId::created_at);
            let pause = by_key(&chain).map_or(0, finality::first_pause_ms);
            store.put_group(None, since.unwrap_or_default().plus(pause), ids)?;
        }
    }
    Ok(())
}

/// Stores what was polled in groups by when it is due next, in the places of those that it was read from.
fn put_groups(store: &LedgerStore, polled: Vec<i64>, next: NextPolls) -> Result<(), Fault> {
    let mut places = polled.into_iter();
    for ((at, _), ids) in next {
        let ids: Vec<String> = ids.into_iter().collect();
        for ids in ids.chunks(GROUP_MAX) {
            store.put_group(places.next(), at, ids)?;
        }
    }
    places.try_for_each(|seq| store.delete_group(seq))
}

/// Payments by when they are polled again, and by chain, so that a chain which does not answer is a group of its own.
pub(super) type NextPolls = BTreeMap<(UnixMillis, &'static str), BTreeSet<String>>;

/// A payment whose transaction must be read, after its chain; the empty chain where its record cannot be read.
pub(super) type UnreadPayment = (&'static str, String);

/// A record with the transaction that it is about.
pub(super) struct TrackedPayment {
    pub(super) record: VerificationAnswer,
    pub(super) network: &'static Network,
    tx: TxId,
}

/// A record that is polled; `None` where it is not, or the ledger has deleted it.
pub(super) fn tracked_payment(store: &LedgerStore, id: &str) -> Result<Option<TrackedPayment>, Fault> {
    let Some(body) = store.watched_record(id)? else { return Ok(None) };
    let record: VerificationAnswer = serde_json::from_str(&body).map_err(Fault::internal_json)?;
    let (network, tx) = record.transaction()?;
    Ok(Some(TrackedPayment { record, network, tx }))
}

/// Stores what a poll has found, `Some` where the record has changed; returns when to poll it again.
pub(super) fn write_poll(
    store: &LedgerStore,
    polled: &TrackedPayment,
    changed: Option<Option<EventKind>>,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, Fault> {
    let record = &polled.record;
    let next = finality::next_poll(polled.network, record, record.id.created_at(), now);
    match changed {
        Some(event) => write_record_change(store, record, (event, next.is_some()), now)?,
        None if next.is_none() => store.watch_record(&record.id.to_string(), false)?,
        None => {}
    }
    Ok(next.map(|at| finality::shared_poll(at, now)))
}

impl TenantLedger {
    /// Notes from where on records are put into groups, where that is not noted: a ledger that ships before its first alarm
    /// would otherwise take what it ships as put into groups.
    pub(super) fn begin_watching(&self) -> Result<(), Fault> {
        let store = self.store();
        if store.state::<String>(WATCHED)?.is_some() {
            return Ok(());
        }
        let shipped = store.state::<ShippedState>("shipped")?.unwrap_or_default().record;
        store.atomically(|| store.put_state(WATCHED, &shipped))
    }

    /// Puts the records that are new since the last alarm into groups, whether they can be shipped or not.
    pub(super) async fn watch_new(&self) -> Result<(), Fault> {
        let store = self.store();
        let mut work = PacedWork::begin();
        loop {
            let is_over = store.atomically(|| {
                let after = match store.state::<String>(WATCHED)? {
                    Some(after) => after,
                    None => store.state::<ShippedState>("shipped")?.unwrap_or_default().record,
                };
                let Some(end) = store.next_records_end(&after, TURN_ROWS_MAX)? else { return Ok(true) };
                group_watched(&store, &after, &end)?;
                store.put_state(WATCHED, &end).map(|()| false)
            })?;
            if is_over {
                return Ok(());
            }
            work.pause_if_due().await;
        }
    }

    /// Takes over what an older build polls.
    pub(super) async fn take_older_watches(&self, now: UnixMillis) -> Result<(), Fault> {
        let store = self.store();
        let mut work = PacedWork::begin();
        loop {
            let is_over = store.atomically(|| {
                let ids = store.take_watches(i64::try_from(GROUP_MAX).unwrap_or(i64::MAX))?;
                if !ids.is_empty() {
                    store.put_group(None, now, &ids)?;
                }
                Ok(ids.is_empty())
            })?;
            if is_over {
                return Ok(());
            }
            work.pause().await;
        }
    }

    /// Reads the transactions whose next poll is due.
    pub(super) async fn poll_due_payments(&self, now: UnixMillis) -> Result<(), Fault> {
        let store = self.store();
        let due = store.groups_due(now, GROUPS_MAX)?;
        if due.is_empty() {
            return Ok(());
        }
        let (settings, began) = (App::new(self.env.clone(), "")?.settings, app::now());
        let mut work = PacedWork::begin();
        let (mut polled, mut next) = (Vec::new(), NextPolls::new());
        for group in due {
            // What there is no time for stays due, and is then the oldest.
            if app::now().since(began) >= POLL_MS {
                break;
            }
            let unread = self.poll_blocks(group.ids, (&settings, began), &mut next, &mut work).await?;
            for some in unread.chunks(POLLS_AT_ONCE) {
                if app::now().since(began) >= POLL_MS {
                    for (chain, id) in some {
                        next.entry((app::now().plus(LATE_AFTER_MS), *chain)).or_default().insert(id.clone());
                    }
                    continue;
                }
                let polls = some.iter().map(|(_, id)| self.poll_payment(id, Rc::clone(&settings), now));
                for ((chain, id), at) in some.iter().zip(join_all(polls).await) {
                    let at = at.unwrap_or_else(|fault| {
                        let id = TelemetryField::Verification(VerificationId::parse(id));
                        event(TelemetryKind::PaymentNotPolled, &[id, TelemetryField::Cause(&fault)]);
                        Some(now.plus(FAILED_AFTER_MS))
                    });
                    if let Some(at) = at {
                        next.entry((at, *chain)).or_default().insert(id.clone());
                    }
                }
                work.pause_if_due().await;
            }
            polled.push(group.seq);
        }
        store.atomically(|| put_groups(&store, polled, next))
    }

    /// Reads a payment's transaction; returns when to poll it again.
    async fn poll_payment(
        &self,
        id: &str,
        settings: Rc<Settings>,
        now: UnixMillis,
    ) -> Result<Option<UnixMillis>, Fault> {
        let store = self.store();
        let Some(tracked) = tracked_payment(&store, id)? else { return Ok(None) };
        let trace = trace::poll_transaction(&settings, tracked.network, &tracked.tx, now).await;
        // The record may have changed while the chain was asked: apply the trace to its newest body.
        let now = app::now();
        let Some(mut fresh) = tracked_payment(&store, id)? else { return Ok(None) };
        store.atomically(|| {
            let (changed, event) = match &trace {
                Some(trace) => finality::apply_trace(&mut fresh.record, fresh.network, trace),
                None => (false, None),
            };
            write_poll(&store, &fresh, changed.then_some(event), now)
        })
    }
}
