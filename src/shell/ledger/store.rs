//! The ledger's rows: typed access to its SQLite.

use crate::address::Address;
use crate::error::Fault;
use crate::id::{ClaimId, SettlementId};
use crate::ledger::admission::{Admission, Stored};
use crate::ledger::claims::{self, Held, Prior, Unit};
use crate::ledger::payment;
use crate::payment::settlement::Settlement;
use crate::shell::sqlite::{Sqlite, broken, integer, millis, ms, optional, text};
use crate::sql::ledger as sql;
use crate::tenant::Tenant;
use crate::time::UnixMillis;
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker::{SqlStorageValue as Value, Storage};

/// The ledger's rows.
pub(super) struct Store {
    db: Sqlite,
}

/// A record as stored.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) revision: i64,
    pub(crate) body: String,
}

/// An entry of the outbox.
pub(super) struct OutboxRow {
    pub(super) seq: i64,
    pub(super) kind: String,
    pub(super) body: String,
}

impl Store {
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

    pub(super) fn make(&self) -> Result<(), Fault> {
        self.db.make(sql::SCHEMA)?;
        self.db.make(sql::LOG_CLAIMS_SCHEMA)
    }

    /// A value of the state table.
    pub(super) fn state<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Fault> {
        let rows = self.rows(sql::STATE_GET, vec![name.into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        serde_json::from_str(&text(row.first())).map(Some).map_err(broken)
    }

    pub(super) fn put_state(&self, name: &str, value: &impl Serialize) -> Result<(), Fault> {
        let value = serde_json::to_string(value).map_err(broken)?;
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

    /// All that is claimed of a transaction's payment to a recipient.
    pub(super) fn claims(&self, network: &str, tx: &str, recipient: &str) -> Result<Vec<Held>, Fault> {
        let payment: [Value; 3] = [network.into(), tx.into(), recipient.into()];
        let rows = self.rows(sql::CLAIMS_GET, [payment.clone(), payment].concat())?;
        let read = |row: &Vec<Value>| {
            let unit = match row.first() {
                Some(Value::Integer(ordinal)) => Unit::Log(u64::try_from(*ordinal).map_err(broken)?),
                _ => Unit::Whole,
            };
            let id = ClaimId::parse(&text(row.get(1))).ok_or_else(|| broken("a claim without an id"))?;
            Ok(Held { unit, prior: Prior { id, reference: optional(row.get(2)), at: millis(row.get(3)) } })
        };
        rows.iter().map(read).collect()
    }

    /// Claims a unit. What is claimed already is never claimed again: that fails, and the step with it.
    pub(super) fn put_claim(&self, claim: &claims::Row) -> Result<(), Fault> {
        let payment: [Value; 3] =
            [claim.network.as_str().into(), claim.tx.as_str().into(), claim.recipient.as_str().into()];
        let by: [Value; 3] = [claim.id.to_string().into(), claim.reference.clone().into(), ms(claim.at)];
        let (statement, unit) = match claim.unit {
            Unit::Whole => (sql::CLAIM_PUT, None),
            Unit::Log(ordinal) => (sql::LOG_CLAIM_PUT, Some(Value::Integer(i64::try_from(ordinal).map_err(broken)?))),
        };
        let bind = payment.clone().into_iter().chain(unit).chain(by).chain(payment).collect();
        let written = self.rows(statement, bind)?;
        if written.is_empty() { Err(broken("a payment is claimed in another unit")) } else { Ok(()) }
    }

    pub(super) fn record(&self, id: &str) -> Result<Option<Record>, Fault> {
        let rows = self.rows(sql::RECORD_GET, vec![id.into()])?;
        Ok(rows.first().map(|row| Record { id: id.to_owned(), body: text(row.first()), revision: integer(row.get(1)) }))
    }

    pub(super) fn put_record(&self, id: &str, body: &str) -> Result<(), Fault> {
        self.run(sql::RECORD_PUT, vec![id.into(), body.into()])
    }

    pub(super) fn update_record(&self, id: &str, body: &str) -> Result<(), Fault> {
        self.run(sql::RECORD_UPDATE, vec![body.into(), id.into()])
    }

    pub(super) fn records_after(&self, id: &str, limit: i64) -> Result<Vec<Record>, Fault> {
        let rows = self.rows(sql::RECORDS_AFTER, vec![id.into(), limit.into()])?;
        let read =
            |row: &Vec<Value>| Record { id: text(row.first()), revision: integer(row.get(1)), body: text(row.get(2)) };
        Ok(rows.iter().map(read).collect())
    }

    pub(super) fn purge_records(&self, upto: &str, limit: i64) -> Result<(), Fault> {
        self.run(sql::RECORDS_PURGE, vec![upto.into(), limit.into()])
    }

    pub(super) fn idempotency(&self, route: &str, key: &str) -> Result<Option<Stored>, Fault> {
        let rows = self.rows(sql::IDEMPOTENCY_GET, vec![route.into(), key.into()])?;
        Ok(rows.first().map(|row| Stored {
            body_hash: text(row.first()),
            answer: optional(row.get(2)).and_then(|body| Some((u16::try_from(integer(row.get(1))).ok()?, body))),
            at: millis(row.get(3)),
        }))
    }

    pub(super) fn put_idempotency(&self, route: &str, key: &str, stored: &Stored) -> Result<(), Fault> {
        let (status, body) = match &stored.answer {
            Some((status, body)) => (Value::Integer(i64::from(*status)), body.as_str().into()),
            None => (Value::Null, Value::Null),
        };
        let bind = vec![route.into(), key.into(), stored.body_hash.as_str().into(), status, body, ms(stored.at)];
        self.run(sql::IDEMPOTENCY_PUT, bind)
    }

    pub(super) fn purge_idempotency(&self, upto: UnixMillis, limit: i64) -> Result<(), Fault> {
        self.run(sql::IDEMPOTENCY_PURGE, vec![ms(upto), limit.into()])
    }

    pub(super) fn knows_payer(&self, address: &str) -> Result<bool, Fault> {
        Ok(!self.rows(sql::PAYER_GET, vec![address.into()])?.is_empty())
    }

    pub(super) fn put_payer(&self, address: &str) -> Result<(), Fault> {
        self.run(sql::PAYER_PUT, vec![address.into()])
    }

    pub(super) fn payment(&self, authorization: &str) -> Result<Option<payment::Row>, Fault> {
        let rows = self.rows(sql::PAYMENT_GET, vec![authorization.into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let settlement = optional(row.get(1)).map(|body| serde_json::from_str(&body)).transpose().map_err(broken)?;
        let signer = optional(row.get(2)).map(|text| serde_json::from_value(text.into())).transpose();
        Ok(Some(payment::Row { fingerprint: text(row.first()), settlement, signer: signer.map_err(broken)? }))
    }

    /// The same without its settlement.
    pub(super) fn payment_known(&self, authorization: &str) -> Result<Option<payment::Row>, Fault> {
        let rows = self.rows(sql::PAYMENT_KNOWN, vec![authorization.into()])?;
        Ok(rows.first().map(|row| payment::Row { fingerprint: text(row.first()), settlement: None, signer: None }))
    }

    /// The payment that was reserved under an identifier: its authorization and the rest.
    pub(super) fn identified(&self, id: &str) -> Result<Option<(String, payment::Row)>, Fault> {
        let rows = self.rows(sql::IDENTIFIER_GET, vec![id.into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let authorization = text(row.first());
        Ok(self.payment(&authorization)?.map(|row| (authorization, row)))
    }

    pub(super) fn put_identifier(&self, id: &str, authorization: &str) -> Result<(), Fault> {
        self.run(sql::IDENTIFIER_PUT, vec![id.into(), authorization.into()])
    }

    pub(super) fn put_sender(&self, settlement: SettlementId, signer: &Address) -> Result<(), Fault> {
        self.run(sql::SENDER_PUT, vec![settlement.to_string().into(), signer.plain().into()])
    }

    pub(super) fn put_payment(
        &self,
        authorization: &str,
        fingerprint: &str,
        settlement: Option<SettlementId>,
    ) -> Result<(), Fault> {
        let settlement = settlement.map(|id| id.to_string());
        self.run(sql::PAYMENT_PUT, vec![authorization.into(), fingerprint.into(), settlement.into()])
    }

    pub(super) fn settlement(&self, id: SettlementId) -> Result<Option<Settlement>, Fault> {
        let rows = self.rows(sql::SETTLEMENT_GET, vec![id.to_string().into()])?;
        rows.first().map(|row| serde_json::from_str(&text(row.first())).map_err(broken)).transpose()
    }

    pub(super) fn put_settlement(&self, settlement: &Settlement) -> Result<(), Fault> {
        let (id, body) = (settlement.id.to_string(), serde_json::to_string(settlement).map_err(broken)?);
        self.run(sql::SETTLEMENT_PUT, vec![id.as_str().into(), body.into()])?;
        self.put_outbox("settlement", &id)
    }

    /// Binds a settled payment to its settlement: its transaction cannot be spent again. What is
    /// claimed stays so.
    pub(super) fn claim_settled(&self, settlement: &Settlement, tx: &str, at: UnixMillis) -> Result<(), Fault> {
        let held = self.claims(&settlement.network, tx, &settlement.pay_to)?;
        if !held.is_empty() {
            return Ok(());
        }
        self.put_claim(&claims::Row {
            network: settlement.network.clone(),
            tx: tx.to_owned(),
            recipient: settlement.pay_to.clone(),
            unit: Unit::Whole,
            id: ClaimId::Settlement(settlement.id),
            reference: None,
            at,
        })
    }

    pub(super) fn watch(&self, id: &str, at: UnixMillis) -> Result<(), Fault> {
        self.run(sql::WATCH_PUT, vec![id.into(), ms(at)])
    }

    pub(super) fn unwatch(&self, id: &str) -> Result<(), Fault> {
        self.run(sql::WATCH_DELETE, vec![id.into()])
    }

    pub(super) fn watches_due(&self, now: UnixMillis, limit: i64) -> Result<Vec<String>, Fault> {
        let rows = self.rows(sql::WATCHES_DUE, vec![ms(now), limit.into()])?;
        Ok(rows.iter().map(|row| text(row.first())).collect())
    }

    pub(super) fn next_watch(&self) -> Result<Option<UnixMillis>, Fault> {
        let rows = self.rows(sql::WATCH_NEXT, Vec::new())?;
        let next = rows.first().and_then(|row| row.first());
        Ok(matches!(next, Some(Value::Integer(_))).then(|| millis(next)))
    }

    pub(super) fn put_outbox(&self, kind: &str, body: &str) -> Result<(), Fault> {
        self.run(sql::OUTBOX_PUT, vec![kind.into(), body.into()])
    }

    pub(super) fn outbox(&self, limit: i64) -> Result<Vec<OutboxRow>, Fault> {
        let rows = self.rows(sql::OUTBOX_GET, vec![limit.into()])?;
        let read =
            |row: &Vec<Value>| OutboxRow { seq: integer(row.first()), kind: text(row.get(1)), body: text(row.get(2)) };
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
