//! Typed access to a Courier's SQLite.

use super::rows::DueRow;
use super::{migrations, sql};
use crate::objects::sqlite::{Sqlite, millis_value, storage_failed};
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker::{SqlStorageValue as Value, Storage};
use x402_chain::id::EventId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::courier::CourierItem;
use x402_core::records::pack::{pack, unpack};
use x402_core::webhook::delivery::{
    ATTEMPTS_KEPT, DeliveryRecord, DeliveryState, DeliverySummary, failure_name, first_due, message_body,
};
use x402_core::webhook::outcome::AttemptEnd;
use x402_core::webhook::redelivery::Redelivery;

/// Typed reads and writes of a Courier's tables.
pub(super) struct CourierStore {
    db: Sqlite,
}

/// How an attempt ended, as it is stored.
pub(super) struct EndedAttempt<'a> {
    pub(super) event: EventId,
    /// The attempt's number.
    pub(super) number: u64,
    pub(super) duration_ms: u64,
    pub(super) end: AttemptEnd,
    pub(super) head: &'a str,
}

/// A number as a value to bind.
fn number_value(number: impl TryInto<i64>) -> Result<Value, Fault> {
    number.try_into().map(Value::Integer).map_err(|_| storage_failed("a number beyond 63 bits"))
}

impl CourierStore {
    pub(super) fn new(storage: &Storage) -> Self {
        Self { db: Sqlite::new(storage) }
    }

    /// Runs a step as one transaction: all its writes, or none.
    pub(super) fn atomically<T>(&self, step: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        self.db.atomically(step)
    }

    /// Whether anything is stored. Reading an object that stores nothing writes nothing.
    pub(super) fn is_made(&self) -> Result<bool, Fault> {
        Ok(self.db.first(sql::TABLES_GET, Vec::new())?.is_some())
    }

    /// Creates the schema, or migrates that of an older build.
    pub(super) fn make_schema(&self) -> Result<(), Fault> {
        self.db.migrate(migrations::MIGRATIONS)
    }

    /// The bytes of all that is stored.
    pub(super) fn bytes(&self) -> u64 {
        self.db.bytes()
    }

    pub(super) fn state<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Fault> {
        self.db.state(name)
    }

    pub(super) fn put_state(&self, name: &str, value: &impl Serialize) -> Result<(), Fault> {
        self.db.put_state(name, value)
    }

    /// Stores a delivery; whether its event is new.
    pub(super) fn put(&self, item: &CourierItem, seq: i64, now: UnixMillis) -> Result<bool, Fault> {
        let due = first_due(item.event.id, now);
        Ok(self.db.first(sql::DELIVERY_PUT, Self::values(item, seq, due)?)?.is_some())
    }

    /// Stores a delivery that is not sent.
    pub(super) fn put_ended(&self, item: &CourierItem, seq: i64, now: UnixMillis) -> Result<(), Fault> {
        self.db.run(sql::DELIVERY_PUT_ENDED, Self::values(item, seq, now)?)
    }

    /// `at`: when it is due, or has ended.
    fn values(item: &CourierItem, seq: i64, at: UnixMillis) -> Result<Vec<Value>, Fault> {
        let event = &item.event;
        let body = message_body((&event.kind, event.at), &event.body, item.test).map_err(Fault::internal)?;
        let [id, subject, kind] = [event.id.to_string(), event.subject.clone(), event.kind.clone()].map(Value::from);
        Ok(vec![id, Value::Integer(seq), subject, kind, millis_value(at), Value::Blob(pack(&body))])
    }

    pub(super) fn due(&self, now: UnixMillis, limit: usize) -> Result<Vec<DueRow>, Fault> {
        self.db.rows(sql::DELIVERIES_DUE, vec![millis_value(now), number_value(limit)?])
    }

    /// Has what is due later than a time be due now.
    pub(super) fn hasten_later_than(&self, at: UnixMillis, now: UnixMillis) -> Result<(), Fault> {
        self.db.run(sql::DELIVERIES_SOONER, vec![millis_value(now), millis_value(at)])
    }

    /// When the last of those that are exhausted has ended.
    pub(super) fn last_exhausted(&self) -> Result<Option<UnixMillis>, Fault> {
        let exhausted = vec![DeliveryState::Exhausted.name().into()];
        Ok(self.db.first(sql::LAST_END, exhausted)?.and_then(|row| row.0))
    }

    /// When the next delivery is due.
    pub(super) fn next_due(&self) -> Result<Option<UnixMillis>, Fault> {
        Ok(self.db.first(sql::NEXT_DUE, Vec::new())?.and_then(|row| row.0))
    }

    /// When the first of those that have ended did.
    pub(super) fn first_end(&self) -> Result<Option<UnixMillis>, Fault> {
        let mut first = None;
        for state in [DeliveryState::Delivered, DeliveryState::Exhausted] {
            let end = self.db.first(sql::FIRST_END, vec![state.name().into()])?.and_then(|row| row.0);
            first = [first, end].into_iter().flatten().min();
        }
        Ok(first)
    }

    /// A message, or why what is stored is none that this build reads.
    pub(super) fn message(&self, event: EventId) -> Result<Result<String, Fault>, Fault> {
        let row = self.db.first(sql::MESSAGE_GET, vec![event.to_string().into()])?;
        Ok(unpack(&row.ok_or_else(|| storage_failed("a delivery that is due is not stored"))?.body))
    }

    /// How many attempts of its schedule a delivery has had; `None` where it does not wait.
    pub(super) fn tried(&self, event: EventId) -> Result<Option<u64>, Fault> {
        Ok(self.db.first(sql::TRIED_GET, vec![event.to_string().into()])?.map(|row| row.count))
    }

    /// Notes that an attempt begins. It counts as lost at `lost`.
    pub(super) fn begin(
        &self,
        (event, number): (EventId, u64),
        (now, lost): (UnixMillis, UnixMillis),
    ) -> Result<(), Fault> {
        let id = event.to_string();
        self.db.run(sql::DELIVERY_BEGIN, vec![millis_value(lost), id.as_str().into()])?;
        if number > ATTEMPTS_KEPT {
            let upto = number_value(number.saturating_sub(ATTEMPTS_KEPT))?;
            self.db.run(sql::ATTEMPTS_FORGET, vec![id.as_str().into(), upto])?;
        }
        self.db.run(sql::ATTEMPT_PUT, vec![id.into(), number_value(number)?, millis_value(now)])
    }

    pub(super) fn end_attempt(&self, of: &EndedAttempt<'_>) -> Result<(), Fault> {
        let status = match of.end {
            AttemptEnd::Status(status) => Value::Integer(status.into()),
            AttemptEnd::TimedOut | AttemptEnd::Unreachable | AttemptEnd::Refused => Value::Null,
        };
        let failure = failure_name(of.end).map_or(Value::Null, Value::from);
        let (duration, number) = (number_value(of.duration_ms)?, number_value(of.number)?);
        let values = vec![duration, status, failure, of.head.into(), of.event.to_string().into(), number];
        self.db.run(sql::ATTEMPT_END, values)
    }

    pub(super) fn send_again(&self, event: EventId, at: UnixMillis) -> Result<(), Fault> {
        self.db.run(sql::DELIVERY_AGAIN, vec![millis_value(at), event.to_string().into()])
    }

    /// Ends a delivery; the next one of its subject is due. Whether it has waited.
    pub(super) fn end(&self, event: EventId, state: DeliveryState, now: UnixMillis) -> Result<bool, Fault> {
        let ended = vec![state.name().into(), millis_value(now), event.to_string().into()];
        let Some(row) = self.db.first(sql::DELIVERY_END, ended)? else { return Ok(false) };
        self.next_of_subject(row.subject, now)?;
        Ok(true)
    }

    fn next_of_subject(&self, subject: String, now: UnixMillis) -> Result<(), Fault> {
        self.db.run(sql::SUBJECT_NEXT, vec![millis_value(now), subject.into()])
    }

    /// Has a delivery sent again that has ended; whether it has.
    pub(super) fn reopen(&self, event: EventId, seq: i64, now: UnixMillis) -> Result<bool, Fault> {
        let bind = vec![Value::Integer(seq), event.to_string().into()];
        let Some(row) = self.db.first(sql::DELIVERY_REOPEN, bind)? else { return Ok(false) };
        self.next_of_subject(row.subject, now)?;
        Ok(true)
    }

    /// Has a delivery sent from now on that waits for its next attempt.
    pub(super) fn hasten(&self, event: EventId, now: UnixMillis) -> Result<(), Fault> {
        self.db.run(sql::DELIVERY_HASTEN, vec![millis_value(now), event.to_string().into()])
    }

    /// Exhausted deliveries of a demand, the oldest first.
    pub(super) fn exhausted(&self, of: &Redelivery, limit: usize) -> Result<Vec<EventId>, Fault> {
        let bind = vec![of.from.as_str().into(), millis_value(of.asked_at), number_value(limit)?];
        Ok(self.db.rows(sql::EXHAUSTED_FROM, bind)?.into_iter().map(|row| row.event).collect())
    }

    /// How many exhausted deliveries there are from an id on.
    pub(super) fn count_exhausted(&self, from: &str) -> Result<u64, Fault> {
        Ok(self.db.first(sql::EXHAUSTED_COUNT, vec![from.into()])?.map_or(0, |row| row.count))
    }

    pub(super) fn before(&self, id: &str, limit: usize) -> Result<Vec<DeliverySummary>, Fault> {
        let rows = self.db.rows(sql::DELIVERIES_BEFORE, vec![id.into(), number_value(limit)?])?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    /// A delivery with its newest attempts.
    pub(super) fn delivery(&self, event: EventId) -> Result<Option<DeliveryRecord>, Fault> {
        let id = event.to_string();
        let Some(row) = self.db.first(sql::DELIVERY_GET, vec![id.as_str().into()])? else { return Ok(None) };
        let attempts = self.db.rows(sql::ATTEMPTS_GET, vec![id.into()])?;
        Ok(Some(DeliveryRecord { summary: row.0, attempts: attempts.into_iter().rev().map(|row| row.0).collect() }))
    }

    /// How many deliveries wait.
    pub(super) fn waiting(&self) -> Result<u64, Fault> {
        Ok(self.db.first(sql::WAITING_COUNT, Vec::new())?.map_or(0, |row| row.count))
    }

    /// Deliveries that ended in a state before a time.
    pub(super) fn ended_before(
        &self,
        state: DeliveryState,
        at: UnixMillis,
        limit: usize,
    ) -> Result<Vec<EventId>, Fault> {
        let bind = vec![state.name().into(), millis_value(at), number_value(limit)?];
        Ok(self.db.rows(sql::ENDED_BEFORE, bind)?.into_iter().map(|row| row.event).collect())
    }

    /// Deliveries that wait, and have been due since before a time.
    pub(super) fn due_before(&self, at: UnixMillis, limit: usize) -> Result<Vec<EventId>, Fault> {
        let rows = self.db.rows(sql::DUE_BEFORE, vec![millis_value(at), number_value(limit)?])?;
        Ok(rows.into_iter().map(|row| row.event).collect())
    }

    /// Forgets a delivery and its attempts.
    pub(super) fn forget(&self, event: EventId) -> Result<(), Fault> {
        let id = event.to_string();
        self.db.run(sql::ATTEMPTS_DELETE, vec![id.as_str().into()])?;
        self.db.run(sql::DELIVERY_DELETE, vec![id.into()])
    }
}
