//! Typed access to the ledger's SQLite.

mod outbox;
mod restore;
mod webhooks;

pub(super) use super::rows::IdempotencyPlace;
use super::rows::{ClaimPlace, ClaimText, RecordSize, WatchGroup, WatchedRow};
use super::{migrations, sql};
use crate::app;
use crate::objects::sqlite::{Sqlite, millis_value, storage_failed};
use crate::storage::{FirstTime, FromRow, Statement};
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker::{SqlStorageValue as Value, Storage};
use x402_chain::id::{ClaimId, SettlementId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::outbox::{OutboxEntry, OutboxEvent, StoredRecord};
use x402_core::settlement::payment;
use x402_core::settlement::payment::{PaymentWrite, SettlementRecord};
use x402_core::settlement::status::{Settlement, SettlementFilter};
use x402_core::tenancy::admission::{Admission, IdempotencyRecord};
use x402_core::tenancy::tenant::Tenant;
use x402_core::verification::claims;
use x402_core::verification::claims::{BoundReference, ClaimUnit, HeldClaim};

/// Typed reads and writes of the ledger's tables.
pub(super) struct LedgerStore {
    db: Sqlite,
}

/// What an erasure deletes.
#[derive(Clone, Copy)]
pub(super) enum RowKind {
    Records,
    Groups,
    Watches,
    Idempotency,
    Identifiers,
    Payers,
    Parked,
    Webhooks,
}

impl RowKind {
    pub(super) const ERASED: [Self; 8] = [
        Self::Records,
        Self::Groups,
        Self::Watches,
        Self::Idempotency,
        Self::Identifiers,
        Self::Payers,
        Self::Parked,
        Self::Webhooks,
    ];
}

fn claim_values(place: &ClaimPlace) -> [Value; 3] {
    [&place.network, &place.tx, &place.recipient].map(|text| text.as_str().into())
}

/// Whether a record is polled for finality: 1 or null.
const fn watched_value(is_watched: bool) -> Value {
    if is_watched { Value::Integer(1) } else { Value::Null }
}

impl LedgerStore {
    pub(super) fn new(storage: &Storage) -> Self {
        Self { db: Sqlite::new(storage) }
    }

    /// Runs a step as one transaction: all its writes, or none.
    pub(super) fn atomically<T>(&self, step: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        self.db.atomically(step)
    }

    fn rows<T: FromRow>(&self, statement: Statement<T>, bind: Vec<Value>) -> Result<Vec<T>, Fault> {
        self.db.rows(statement, bind)
    }

    fn first<T: FromRow>(&self, statement: Statement<T>, bind: Vec<Value>) -> Result<Option<T>, Fault> {
        self.db.first(statement, bind)
    }

    fn run(&self, statement: Statement<()>, bind: Vec<Value>) -> Result<(), Fault> {
        self.db.run(statement, bind)
    }

    /// Creates the schema, or migrates that of an older build.
    pub(super) fn make_schema(&self) -> Result<(), Fault> {
        self.db.migrate(migrations::MIGRATIONS)
    }

    /// A value of the state table.
    pub(super) fn state<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Fault> {
        self.db.state(name)
    }

    pub(super) fn put_state(&self, name: &str, value: &impl Serialize) -> Result<(), Fault> {
        self.db.put_state(name, value)
    }

    pub(super) fn tenant(&self) -> Result<Option<Tenant>, Fault> {
        self.state("tenant")
    }

    pub(super) fn put_tenant(&self, tenant: &Tenant) -> Result<(), Fault> {
        self.put_state("tenant", &tenant.stored())
    }

    /// The admission as it was stored last, with what records have counted since; and whether any has.
    pub(super) fn admission(&self) -> Result<Option<(Admission, bool)>, Fault> {
        let Some(mut admission) = self.state::<Admission>("admission")? else { return Ok(None) };
        // The empty id is less than every id.
        let last = admission.last_id.map_or_else(String::new, |id| id.to_string());
        let counted = self.rows(sql::RECORDS_COUNTED, vec![last.into()])?;
        for row in &counted {
            admission.count_record(row.id, row.used);
        }
        Ok(Some((admission, !counted.is_empty())))
    }

    pub(super) fn put_admission(&self, admission: &Admission) -> Result<(), Fault> {
        self.put_state("admission", admission)
    }

    /// All claims on a transaction's payment to a recipient.
    pub(super) fn claims(&self, network: &str, tx: &str, recipient: &str) -> Result<Vec<HeldClaim>, Fault> {
        let payment: [Value; 3] = [network.into(), tx.into(), recipient.into()];
        self.rows(sql::CLAIMS_GET, [payment.clone(), payment].concat())
    }

    /// Claims a unit. If it is claimed already, this fails, and so does the step.
    pub(super) fn put_claim(&self, claim: &claims::ClaimRow) -> Result<(), Fault> {
        let payment: [Value; 3] =
            [claim.network.as_str().into(), claim.tx.as_str().into(), claim.recipient.as_str().into()];
        let by: [Value; 3] = [claim.id.to_string().into(), claim.reference.clone().into(), millis_value(claim.at)];
        let (statement, unit) = match claim.unit {
            ClaimUnit::Whole => (sql::CLAIM_PUT, None),
            ClaimUnit::Log(ordinal) => {
                (sql::LOG_CLAIM_PUT, Some(Value::Integer(i64::try_from(ordinal).map_err(storage_failed)?)))
            }
        };
        let bind = payment.clone().into_iter().chain(unit).chain(by).chain(payment).collect();
        match self.db.run_counted(statement, bind)? {
            0 => Err(storage_failed("a payment is claimed in another unit already")),
            _ => Ok(()),
        }
    }

    /// The claims after a place, with the texts of their references: on logs, or on whole payments.
    pub(super) fn claims_after(&self, after: &ClaimPlace, of_logs: bool, limit: i64) -> Result<Vec<ClaimText>, Fault> {
        let ordinal = of_logs.then(|| after.ordinal.into());
        let bind = claim_values(after).into_iter().chain(ordinal).chain([limit.into()]).collect();
        self.rows(if of_logs { sql::LOG_CLAIMS_AFTER } else { sql::CLAIMS_AFTER }, bind)
    }

    /// Puts the hash of a claim's reference in its place.
    pub(super) fn hash_reference(&self, at: &ClaimPlace, of_logs: bool, reference: &str) -> Result<(), Fault> {
        let hash = [Value::from(BoundReference::hash_of(reference))];
        let ordinal = of_logs.then(|| at.ordinal.into());
        let bind = hash.into_iter().chain(claim_values(at)).chain(ordinal).collect();
        self.run(if of_logs { sql::LOG_CLAIM_HASH } else { sql::CLAIM_HASH }, bind)
    }

    /// Deletes rows of a kind, at most `limit`; returns how many rows were written, none where none was left.
    pub(super) fn erase_rows(&self, kind: RowKind, limit: i64) -> Result<usize, Fault> {
        let statement = match kind {
            RowKind::Records => sql::RECORDS_ERASE,
            RowKind::Groups => sql::GROUPS_ERASE,
            RowKind::Watches => sql::WATCHES_ERASE,
            RowKind::Idempotency => sql::IDEMPOTENCY_ERASE,
            RowKind::Identifiers => sql::IDENTIFIERS_ERASE,
            RowKind::Payers => sql::PAYERS_ERASE,
            RowKind::Parked => sql::PARKED_ERASE,
            RowKind::Webhooks => sql::WEBHOOKS_ERASE,
        };
        self.db.run_counted(statement, vec![limit.into()])
    }

    /// Deletes entries of the outbox that name or hold records, after a number, up to another.
    pub(super) fn erase_outbox(&self, (after, upto): (i64, i64)) -> Result<(), Fault> {
        self.run(sql::OUTBOX_ERASE, vec![after.into(), upto.into()])
    }

    pub(super) fn record(&self, id: &str) -> Result<Option<StoredRecord>, Fault> {
        let row = self.first(sql::RECORD_GET, vec![id.into()])?;
        Ok(row.map(|row| StoredRecord { id: id.to_owned(), body: row.body, revision: row.revision, units: row.units }))
    }

    /// Reads a record that is polled for finality.
    pub(super) fn watched_record(&self, id: &str) -> Result<Option<String>, Fault> {
        Ok(self.first(sql::WATCHED_GET, vec![id.into()])?.map(|row| row.body))
    }

    /// Stores a new record with the logs that it has claimed. `counted`: what it counts against the quota, where the admission
    /// is not stored with it.
    pub(super) fn put_record(
        &self,
        (id, body): (&str, &str),
        (is_watched, counted): (bool, Option<u64>),
        units: Option<String>,
    ) -> Result<(), Fault> {
        let counted = counted.map_or(Value::Null, |used| Value::Integer(i64::from(used > 0)));
        self.run(sql::RECORD_PUT, vec![id.into(), body.into(), watched_value(is_watched), counted, units.into()])
    }

    pub(super) fn update_record(&self, id: &str, body: &str, is_watched: bool) -> Result<(), Fault> {
        self.run(sql::RECORD_UPDATE, vec![body.into(), watched_value(is_watched), id.into()])
    }

    pub(super) fn watch_record(&self, id: &str, is_watched: bool) -> Result<(), Fault> {
        self.run(sql::RECORD_WATCH, vec![watched_value(is_watched), id.into()])
    }

    /// The records after an id, up to another, that are polled for finality.
    pub(super) fn watched_between(&self, after: &str, upto: &str) -> Result<Vec<WatchedRow>, Fault> {
        self.rows(sql::WATCHED_BETWEEN, vec![after.into(), upto.into()])
    }

    /// The oldest records after an id, with their sizes in bytes.
    pub(super) fn record_sizes(&self, id: &str, limit: i64) -> Result<Vec<RecordSize>, Fault> {
        self.rows(sql::RECORD_SIZES, vec![id.into(), limit.into()])
    }

    /// The records after an id, up to another.
    pub(super) fn records_between(&self, after: &str, upto: &str) -> Result<Vec<StoredRecord>, Fault> {
        self.rows(sql::RECORDS_BETWEEN, vec![after.into(), upto.into()])
    }

    /// The end of the next `limit` records after an id: the last of them, or the newest record. `None` where none follow.
    pub(super) fn next_records_end(&self, after: &str, limit: i64) -> Result<Option<String>, Fault> {
        let newest = self.first(sql::RECORD_NEWEST, vec![after.into()])?.map(|row| row.id);
        let Some(newest) = newest else { return Ok(None) };
        let end = self.first(sql::RECORD_AT, vec![after.into(), newest.as_str().into(), limit.into()])?;
        Ok(Some(end.map_or(newest, |row| row.id)))
    }

    /// Deletes records after an id, up to another, that are final and shipped: looks at `limit` of them. Returns the last that was
    /// looked at, if more may follow.
    pub(super) fn purge_records(&self, after: &str, upto: &str, limit: i64) -> Result<Option<String>, Fault> {
        let end = self.first(sql::RECORD_AT, vec![after.into(), upto.into(), limit.into()])?.map(|row| row.id);
        self.run(sql::RECORDS_PURGE, vec![after.into(), end.as_deref().unwrap_or(upto).into()])?;
        Ok(end)
    }

    pub(super) fn idempotency(&self, route: &str, key: &str) -> Result<Option<IdempotencyRecord>, Fault> {
        self.first(sql::IDEMPOTENCY_GET, vec![route.into(), key.into()])
    }

    pub(super) fn put_idempotency(&self, route: &str, key: &str, stored: &IdempotencyRecord) -> Result<(), Fault> {
        let (status, body) = match &stored.answer {
            Some((status, body)) => (Value::Integer(i64::from(*status)), body.as_str().into()),
            None => (Value::Null, Value::Null),
        };
        let until = stored.answer_until.map_or(Value::Null, millis_value);
        let bind = vec![
            route.into(),
            key.into(),
            stored.body_hash.as_str().into(),
            status,
            body,
            millis_value(stored.at),
            until,
        ];
        self.run(sql::IDEMPOTENCY_PUT, bind)
    }

    /// Stores the answer under a key until a time, or removes it.
    pub(super) fn answer_idempotency(
        &self,
        route: &str,
        key: &str,
        answer: Option<(u16, &str, UnixMillis)>,
    ) -> Result<(), Fault> {
        let (status, body, until) = match answer {
            Some((status, body, until)) => (Value::Integer(i64::from(status)), Value::from(body), millis_value(until)),
            None => (Value::Null, Value::Null, Value::Null),
        };
        self.run(sql::IDEMPOTENCY_ANSWER, vec![status, body, until, route.into(), key.into()])
    }

    /// Deletes idempotency records after a place that were written by then: looks at `limit` of them. Returns the last
    /// that was looked at, if more may follow.
    pub(super) fn purge_idempotency(
        &self,
        after: &IdempotencyPlace,
        written_by: UnixMillis,
        limit: i64,
    ) -> Result<Option<IdempotencyPlace>, Fault> {
        let from: [Value; 2] = [after.route.as_str().into(), after.key.as_str().into()];
        let [route, key] = from.clone();
        let end = self.first(sql::IDEMPOTENCY_AT, vec![route, key, limit.saturating_sub(1).into()])?;
        // A text is less than every blob; the platform binds an empty one as null.
        let [route, key] = match &end {
            Some(end) => [end.route.as_str().into(), end.key.as_str().into()],
            None => [Value::Blob(vec![0]), Value::Null],
        };
        let [first_route, first_key] = from;
        let bind = vec![first_route, first_key, route, key, millis_value(written_by)];
        self.run(sql::IDEMPOTENCY_PURGE, bind)?;
        Ok(end)
    }

    pub(super) fn knows_payer(&self, address: &str) -> Result<bool, Fault> {
        Ok(self.first(sql::PAYER_GET, vec![address.into()])?.is_some())
    }

    pub(super) fn put_payer(&self, address: &str) -> Result<(), Fault> {
        self.run(sql::PAYER_PUT, vec![address.into()])
    }

    pub(super) fn payment(&self, authorization: &str) -> Result<Option<payment::PaymentRecord>, Fault> {
        self.first(sql::PAYMENT_GET, vec![authorization.into()])
    }

    /// The payment that was reserved under a payer's identifier: its authorization and its row.
    pub(super) fn payment_by_identifier(
        &self,
        payer: &str,
        id: &str,
    ) -> Result<Option<(String, payment::PaymentRecord)>, Fault> {
        let row = self.first(sql::IDENTIFIER_GET, vec![payer.into(), id.into()])?;
        let Some(authorization) = row.map(|row| row.authorization) else { return Ok(None) };
        Ok(self.payment(&authorization)?.map(|row| (authorization, row)))
    }

    pub(super) fn put_identifier(&self, payer: &str, id: &str, authorization: &str) -> Result<(), Fault> {
        self.run(sql::IDENTIFIER_PUT, vec![payer.into(), id.into(), authorization.into()])
    }

    pub(super) fn put_payment(&self, row: &PaymentWrite) -> Result<(), Fault> {
        let settlement = row.settlement.map(|id| id.to_string());
        let bind = vec![
            row.authorization.as_str().into(),
            row.fingerprint.as_str().into(),
            row.proof.as_str().into(),
            settlement.into(),
            millis_value(row.expires_at),
        ];
        self.run(sql::PAYMENT_PUT, bind)
    }

    pub(super) fn purge_payments(&self, upto: UnixMillis, limit: i64) -> Result<(), Fault> {
        self.run(sql::PAYMENTS_PURGE, vec![millis_value(upto), limit.into()])
    }

    /// When the first payment without a settlement expires.
    pub(super) fn next_payment(&self) -> Result<Option<UnixMillis>, Fault> {
        self.first_time(sql::PAYMENTS_NEXT)
    }

    fn first_time(&self, statement: Statement<FirstTime>) -> Result<Option<UnixMillis>, Fault> {
        Ok(self.first(statement, Vec::new())?.and_then(|first| first.0))
    }

    /// A settlement with its progress and its revision, which the directory's copy follows.
    pub(super) fn settlement(&self, id: SettlementId) -> Result<Option<(SettlementRecord, i64)>, Fault> {
        let row = self.first(sql::SETTLEMENT_GET, vec![id.to_string().into()])?;
        Ok(row.map(|row| (row.record, row.revision)))
    }

    /// Stores a settlement, with an entry of the outbox: with an event where it has reached another status than it had.
    pub(super) fn put_settlement(&self, kept: &SettlementRecord, now: UnixMillis) -> Result<(), Fault> {
        let settlement = &kept.settlement;
        let stored = self.settlement(settlement.id)?.map(|(stored, _)| stored.settlement.status);
        let body = serde_json::value::to_raw_value(settlement).map_err(storage_failed)?;
        let bind = vec![
            settlement.id.to_string().into(),
            body.get().into(),
            serde_json::to_string(&kept.progress).map_err(storage_failed)?.into(),
            settlement.status.name().into(),
            settlement.network.as_str().into(),
            settlement.payer.as_str().into(),
            settlement.transaction.clone().into(),
            Value::Integer(i64::from(settlement.handed_over.is_some())),
            kept.due_at().map_or(Value::Null, millis_value),
        ];
        self.run(sql::SETTLEMENT_PUT, bind)?;
        if stored == Some(settlement.status) {
            return self.put_outbox(&OutboxEntry::Settlement(settlement.id));
        }
        let (kind, subject) = (settlement.status.event(), settlement.id.to_string());
        let event = OutboxEvent { id: app::event_id(now)?, kind: kind.into(), subject, body, at: now };
        self.put_outbox(&OutboxEntry::SettlementEvent(settlement.id, event))
    }

    pub(super) fn put_settlement_due(&self, id: SettlementId, at: Option<UnixMillis>) -> Result<(), Fault> {
        self.run(sql::SETTLEMENT_DUE, vec![at.map_or(Value::Null, millis_value), id.to_string().into()])
    }

    /// Settlements whose check is due at `now`.
    pub(super) fn settlements_due(&self, now: UnixMillis, limit: i64) -> Result<Vec<SettlementId>, Fault> {
        let rows = self.rows(sql::SETTLEMENTS_DUE, vec![millis_value(now), limit.into()])?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    pub(super) fn next_settlement(&self) -> Result<Option<UnixMillis>, Fault> {
        self.first_time(sql::SETTLEMENTS_NEXT)
    }

    /// Settlements with a smaller id, the newest first: id and body.
    pub(super) fn settlements(
        &self,
        filter: &SettlementFilter,
        before: &str,
        limit: i64,
    ) -> Result<Vec<(String, String)>, Fault> {
        let mut bind = vec![
            before.into(),
            filter.network.clone().into(),
            filter.handed_over.map_or(Value::Null, |handed| Value::Integer(i64::from(handed))),
            limit.into(),
        ];
        let SettlementFilter { authorization, transaction, payer, .. } = filter;
        let (statement, last) = match (authorization, transaction, payer, filter.handed_over) {
            (Some(_), ..) => (sql::SETTLEMENTS_OF_AUTHORIZATION, vec![authorization, transaction]),
            (None, Some(_), ..) => (sql::SETTLEMENTS_OF_TRANSACTION, vec![transaction, payer]),
            (None, None, Some(_), _) => (sql::SETTLEMENTS_OF_PAYER, vec![payer]),
            (None, None, None, Some(false)) => (sql::SETTLEMENTS_OPEN, Vec::new()),
            (None, None, None, _) => (sql::SETTLEMENTS_BEFORE, Vec::new()),
        };
        bind.extend(last.into_iter().cloned().map(Value::from));
        Ok(self.rows(statement, bind)?.into_iter().map(|row| (row.id, row.body)).collect())
    }

    /// Whether one of a payer's settlements is completed here.
    pub(super) fn has_paid(&self, payer: &str) -> Result<bool, Fault> {
        Ok(self.first(sql::PAYER_HAS_PAID, vec![payer.into()])?.is_some())
    }

    /// Claims the unit of a settled payment for its settlement. A unit that it holds already is left as it is.
    pub(super) fn claim_settled(&self, settlement: &Settlement, unit: ClaimUnit, at: UnixMillis) -> Result<(), Fault> {
        let tx = settlement
            .transaction
            .clone()
            .ok_or_else(|| storage_failed("a completed settlement has no transaction"))?;
        let id = ClaimId::Settlement(settlement.id);
        let held = self.claims(&settlement.network, &tx, &settlement.pay_to)?;
        if held.iter().any(|held| held.prior.id == id && held.unit == unit) {
            return Ok(());
        }
        let (network, recipient) = (settlement.network.clone(), settlement.pay_to.clone());
        self.put_claim(&claims::ClaimRow { network, tx, recipient, unit, id, reference: None, at })
    }

    /// Stores a group of records that are polled together: in the place of an earlier one, or as a new one.
    pub(super) fn put_group(&self, seq: Option<i64>, at: UnixMillis, ids: &[String]) -> Result<(), Fault> {
        let (at, ids) = (millis_value(at), Value::from(ids.join(" ")));
        match seq {
            Some(seq) => self.run(sql::GROUP_UPDATE, vec![at, ids, seq.into()]),
            None => self.run(sql::GROUP_PUT, vec![at, ids]),
        }
    }

    pub(super) fn delete_group(&self, seq: i64) -> Result<(), Fault> {
        self.run(sql::GROUP_DELETE, vec![seq.into()])
    }

    pub(super) fn groups_due(&self, now: UnixMillis, limit: i64) -> Result<Vec<WatchGroup>, Fault> {
        self.rows(sql::GROUPS_DUE, vec![millis_value(now), limit.into()])
    }

    pub(super) fn next_finality_poll(&self) -> Result<Option<UnixMillis>, Fault> {
        self.first_time(sql::GROUPS_NEXT)
    }

    /// Takes over records that an older build polls for finality, at most `limit`; returns their ids.
    pub(super) fn take_watches(&self, limit: i64) -> Result<Vec<String>, Fault> {
        let ids: Vec<String> = self.rows(sql::WATCHES_GET, vec![limit.into()])?.into_iter().map(|row| row.id).collect();
        for id in &ids {
            self.watch_record(id, true)?;
            self.run(sql::WATCH_DELETE, vec![id.as_str().into()])?;
        }
        Ok(ids)
    }

    #[cfg(x402_bench)]
    pub(super) fn bench_row(&self, id: &str) -> Result<(), Fault> {
        self.run(sql::PAYER_PUT, vec![id.into()])
    }
}
