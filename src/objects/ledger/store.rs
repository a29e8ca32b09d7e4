//! Typed access to the ledger's SQLite.

use crate::objects::sqlite::{
    Sqlite, integer_column, millis_column, millis_value, optional_text_column, storage_failed, text_column,
};
use crate::sql::ledger as sql;
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker::{SqlStorageValue as Value, Storage};
use x402_api::ApiReply;
use x402_chain::id::{ClaimId, SettlementId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::outbox::StoredRecord;
use x402_core::settlement::payment;
use x402_core::settlement::payment::{PaymentWrite, SettlementRecord};
use x402_core::settlement::status::{Settlement, SettlementFilter};
use x402_core::tenancy::admission::{Admission, IdempotencyRecord};
use x402_core::tenancy::tenant::Tenant;
use x402_core::verification::claims;
use x402_core::verification::claims::{ClaimUnit, HeldClaim, PriorClaim};

/// Typed reads and writes of the ledger's tables.
pub(super) struct LedgerStore {
    db: Sqlite,
}

/// An entry of the outbox.
pub(super) struct OutboxRow {
    pub(super) seq: i64,
    pub(super) kind: String,
    pub(super) body: String,
}

fn read_settlement_record(body: &str, course: &str) -> Result<SettlementRecord, Fault> {
    let settlement = serde_json::from_str(body).map_err(storage_failed)?;
    Ok(SettlementRecord { settlement, progress: serde_json::from_str(course).map_err(storage_failed)? })
}

/// A column that counts bytes.
fn byte_count(value: Option<&Value>) -> Result<usize, Fault> {
    usize::try_from(integer_column(value)).map_err(storage_failed)
}

/// A column of unix milliseconds that may be null.
fn optional_millis(value: Option<&Value>) -> Option<UnixMillis> {
    matches!(value, Some(Value::Integer(_))).then(|| millis_column(value))
}

impl LedgerStore {
    pub(super) fn new(storage: &Storage) -> Self {
        Self { db: Sqlite::new(storage) }
    }

    /// Runs a step as one transaction: all its writes, or none.
    pub(super) fn atomically<T>(&self, step: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        self.db.atomically(step)
    }

    fn rows(&self, statement: &str, bind: Vec<Value>) -> Result<Vec<Vec<Value>>, Fault> {
        self.db.rows(statement, bind)
    }

    fn run(&self, statement: &str, bind: Vec<Value>) -> Result<(), Fault> {
        self.db.run(statement, bind)
    }

    /// Creates the schema, or migrates that of an older build.
    pub(super) fn make_schema(&self) -> Result<(), Fault> {
        self.db.exec_schema(sql::STATE_SCHEMA)?;
        let version: usize = self.state("schema")?.unwrap_or(0);
        if version == 0 {
            self.db.exec_schema(sql::SCHEMA)?;
        }
        for (at, migration) in sql::MIGRATIONS.iter().enumerate().skip(version) {
            self.atomically(|| {
                self.db.exec_schema(migration)?;
                self.put_state("schema", &at.saturating_add(1))
            })?;
        }
        Ok(())
    }

    /// A value of the state table.
    pub(super) fn state<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Fault> {
        let rows = self.rows(sql::STATE_GET, vec![name.into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        serde_json::from_str(&text_column(row.first())).map(Some).map_err(storage_failed)
    }

    pub(super) fn put_state(&self, name: &str, value: &impl Serialize) -> Result<(), Fault> {
        let value = serde_json::to_string(value).map_err(storage_failed)?;
        self.run(sql::STATE_PUT, vec![name.into(), value.into()])
    }

    pub(super) fn tenant(&self) -> Result<Option<Tenant>, Fault> {
        self.state("tenant")
    }

    pub(super) fn put_tenant(&self, tenant: &Tenant) -> Result<(), Fault> {
        self.put_state("tenant", tenant)
    }

    pub(super) fn admission(&self) -> Result<Option<Admission>, Fault> {
        self.state("admission")
    }

    pub(super) fn put_admission(&self, admission: &Admission) -> Result<(), Fault> {
        self.put_state("admission", admission)
    }

    /// All claims on a transaction's payment to a recipient.
    pub(super) fn claims(&self, network: &str, tx: &str, recipient: &str) -> Result<Vec<HeldClaim>, Fault> {
        let payment: [Value; 3] = [network.into(), tx.into(), recipient.into()];
        let rows = self.rows(sql::CLAIMS_GET, [payment.clone(), payment].concat())?;
        let read = |row: &Vec<Value>| {
            let unit = match row.first() {
                Some(Value::Integer(ordinal)) => ClaimUnit::Log(u64::try_from(*ordinal).map_err(storage_failed)?),
                _ => ClaimUnit::Whole,
            };
            let id = ClaimId::parse(&text_column(row.get(1))).ok_or_else(|| storage_failed("a claim has no id"))?;
            Ok(HeldClaim {
                unit,
                prior: PriorClaim { id, reference: optional_text_column(row.get(2)), at: millis_column(row.get(3)) },
            })
        };
        rows.iter().map(read).collect()
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
        let written = self.rows(statement, bind)?;
        if written.is_empty() { Err(storage_failed("a payment is claimed in another unit already")) } else { Ok(()) }
    }

    pub(super) fn record(&self, id: &str) -> Result<Option<StoredRecord>, Fault> {
        let rows = self.rows(sql::RECORD_GET, vec![id.into()])?;
        Ok(rows.first().map(|row| StoredRecord {
            id: id.to_owned(),
            body: text_column(row.first()),
            revision: integer_column(row.get(1)),
        }))
    }

    pub(super) fn put_record(&self, id: &str, body: &str) -> Result<(), Fault> {
        self.run(sql::RECORD_PUT, vec![id.into(), body.into()])
    }

    pub(super) fn update_record(&self, id: &str, body: &str) -> Result<(), Fault> {
        self.run(sql::RECORD_UPDATE, vec![body.into(), id.into()])
    }

    /// The oldest records after an id, with their sizes in bytes.
    pub(super) fn record_sizes(&self, id: &str, limit: i64) -> Result<Vec<(String, usize)>, Fault> {
        let rows = self.rows(sql::RECORD_SIZES, vec![id.into(), limit.into()])?;
        rows.iter().map(|row| Ok((text_column(row.first()), byte_count(row.get(1))?))).collect()
    }

    /// The records after an id, up to another.
    pub(super) fn records_between(&self, after: &str, upto: &str) -> Result<Vec<StoredRecord>, Fault> {
        let rows = self.rows(sql::RECORDS_BETWEEN, vec![after.into(), upto.into()])?;
        let read = |row: &Vec<Value>| StoredRecord {
            id: text_column(row.first()),
            revision: integer_column(row.get(1)),
            body: text_column(row.get(2)),
        };
        Ok(rows.iter().map(read).collect())
    }

    pub(super) fn purge_records(&self, upto: &str, limit: i64) -> Result<(), Fault> {
        self.run(sql::RECORDS_PURGE, vec![upto.into(), limit.into()])
    }

    pub(super) fn idempotency(&self, route: &str, key: &str) -> Result<Option<IdempotencyRecord>, Fault> {
        let rows = self.rows(sql::IDEMPOTENCY_GET, vec![route.into(), key.into()])?;
        Ok(rows.first().map(|row| IdempotencyRecord {
            body_hash: text_column(row.first()),
            answer: optional_text_column(row.get(2))
                .and_then(|body| Some((u16::try_from(integer_column(row.get(1))).ok()?, body))),
            answer_until: optional_millis(row.get(4)),
            at: millis_column(row.get(3)),
        }))
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
        answer: Option<(&ApiReply, UnixMillis)>,
    ) -> Result<(), Fault> {
        let (status, body, until) = match answer {
            Some((reply, until)) => {
                (Value::Integer(i64::from(reply.status)), Value::from(reply.body.as_str()), millis_value(until))
            }
            None => (Value::Null, Value::Null, Value::Null),
        };
        self.run(sql::IDEMPOTENCY_ANSWER, vec![status, body, until, route.into(), key.into()])
    }

    pub(super) fn purge_idempotency(&self, upto: UnixMillis, limit: i64) -> Result<(), Fault> {
        self.run(sql::IDEMPOTENCY_PURGE, vec![millis_value(upto), limit.into()])
    }

    pub(super) fn knows_payer(&self, address: &str) -> Result<bool, Fault> {
        Ok(!self.rows(sql::PAYER_GET, vec![address.into()])?.is_empty())
    }

    pub(super) fn put_payer(&self, address: &str) -> Result<(), Fault> {
        self.run(sql::PAYER_PUT, vec![address.into()])
    }

    pub(super) fn payment(&self, authorization: &str) -> Result<Option<payment::PaymentRecord>, Fault> {
        let rows = self.rows(sql::PAYMENT_GET, vec![authorization.into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let kept = optional_text_column(row.get(3))
            .map(|body| read_settlement_record(&body, &text_column(row.get(4))))
            .transpose()?;
        Ok(Some(payment::PaymentRecord {
            fingerprint: text_column(row.first()),
            proof: optional_text_column(row.get(1)),
            expires_at: optional_millis(row.get(2)),
            settlement_record: kept,
        }))
    }

    /// The payment that was reserved under a payer's identifier: its authorization and its row.
    pub(super) fn payment_by_identifier(
        &self,
        payer: &str,
        id: &str,
    ) -> Result<Option<(String, payment::PaymentRecord)>, Fault> {
        let rows = self.rows(sql::IDENTIFIER_GET, vec![payer.into(), id.into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let authorization = text_column(row.first());
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

    fn first_time(&self, statement: &str) -> Result<Option<UnixMillis>, Fault> {
        Ok(self.rows(statement, Vec::new())?.first().and_then(|row| optional_millis(row.first())))
    }

    /// A settlement with its progress and its revision, which the directory's copy follows.
    pub(super) fn settlement(&self, id: SettlementId) -> Result<Option<(SettlementRecord, i64)>, Fault> {
        let rows = self.rows(sql::SETTLEMENT_GET, vec![id.to_string().into()])?;
        let read = |row: &Vec<Value>| {
            Ok((
                read_settlement_record(&text_column(row.first()), &text_column(row.get(1)))?,
                integer_column(row.get(2)),
            ))
        };
        rows.first().map(read).transpose()
    }

    pub(super) fn put_settlement(&self, kept: &SettlementRecord) -> Result<(), Fault> {
        let settlement = &kept.settlement;
        let id = settlement.id.to_string();
        let bind = vec![
            id.as_str().into(),
            serde_json::to_string(settlement).map_err(storage_failed)?.into(),
            serde_json::to_string(&kept.progress).map_err(storage_failed)?.into(),
            settlement.status.name().into(),
            settlement.network.as_str().into(),
            settlement.payer.as_str().into(),
            settlement.transaction.clone().into(),
            Value::Integer(i64::from(settlement.handed_over.is_some())),
            kept.due_at().map_or(Value::Null, millis_value),
        ];
        self.run(sql::SETTLEMENT_PUT, bind)?;
        self.put_outbox("settlement", &id)
    }

    pub(super) fn put_settlement_due(&self, id: SettlementId, at: Option<UnixMillis>) -> Result<(), Fault> {
        self.run(sql::SETTLEMENT_DUE, vec![at.map_or(Value::Null, millis_value), id.to_string().into()])
    }

    /// Settlements whose check is due at `now`.
    pub(super) fn settlements_due(&self, now: UnixMillis, limit: i64) -> Result<Vec<SettlementId>, Fault> {
        let rows = self.rows(sql::SETTLEMENTS_DUE, vec![millis_value(now), limit.into()])?;
        let read = |row: &Vec<Value>| {
            SettlementId::parse(&text_column(row.first())).ok_or_else(|| storage_failed("a settlement's id"))
        };
        rows.iter().map(read).collect()
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
        Ok(self.rows(statement, bind)?.iter().map(|row| (text_column(row.first()), text_column(row.get(1)))).collect())
    }

    /// Whether one of a payer's settlements is completed here.
    pub(super) fn has_paid(&self, payer: &str) -> Result<bool, Fault> {
        Ok(!self.rows(sql::PAYER_HAS_PAID, vec![payer.into()])?.is_empty())
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

    pub(super) fn track_finality(&self, id: &str, at: UnixMillis) -> Result<(), Fault> {
        self.run(sql::WATCH_PUT, vec![id.into(), millis_value(at)])
    }

    pub(super) fn untrack_finality(&self, id: &str) -> Result<(), Fault> {
        self.run(sql::WATCH_DELETE, vec![id.into()])
    }

    pub(super) fn finality_polls_due(&self, now: UnixMillis, limit: i64) -> Result<Vec<String>, Fault> {
        let rows = self.rows(sql::WATCHES_DUE, vec![millis_value(now), limit.into()])?;
        Ok(rows.iter().map(|row| text_column(row.first())).collect())
    }

    pub(super) fn next_finality_poll(&self) -> Result<Option<UnixMillis>, Fault> {
        self.first_time(sql::WATCH_NEXT)
    }

    pub(super) fn put_outbox(&self, kind: &str, body: &str) -> Result<(), Fault> {
        self.run(sql::OUTBOX_PUT, vec![kind.into(), body.into()])
    }

    /// The oldest entries of the outbox, with their sizes in bytes.
    pub(super) fn outbox_sizes(&self, limit: i64) -> Result<Vec<(i64, usize)>, Fault> {
        let rows = self.rows(sql::OUTBOX_SIZES, vec![limit.into()])?;
        rows.iter().map(|row| Ok((integer_column(row.first()), byte_count(row.get(1))?))).collect()
    }

    /// The entries of the outbox up to a number.
    pub(super) fn outbox(&self, upto: i64) -> Result<Vec<OutboxRow>, Fault> {
        let rows = self.rows(sql::OUTBOX_GET, vec![upto.into()])?;
        let read = |row: &Vec<Value>| OutboxRow {
            seq: integer_column(row.first()),
            kind: text_column(row.get(1)),
            body: text_column(row.get(2)),
        };
        Ok(rows.iter().map(read).collect())
    }

    pub(super) fn clear_outbox(&self, upto: i64) -> Result<(), Fault> {
        self.run(sql::OUTBOX_DELETE, vec![upto.into()])
    }

    #[cfg(x402_bench)]
    pub(super) fn bench_row(&self, id: &str) -> Result<(), Fault> {
        self.run(sql::PAYER_PUT, vec![id.into()])
    }
}
