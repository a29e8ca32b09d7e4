//! The ledger's rows: typed access to its SQLite.

use crate::objects::sqlite::{Sqlite, broken, integer, millis, ms, optional, text};
use crate::sql::ledger as sql;
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker::{SqlStorageValue as Value, Storage};
use x402_api::Reply;
use x402_chain::id::{ClaimId, SettlementId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::outbox::Record;
use x402_core::settlement::payment;
use x402_core::settlement::payment::{Kept, PaymentRow};
use x402_core::settlement::status::{Filter, Settlement};
use x402_core::tenancy::admission::{Admission, Stored};
use x402_core::tenancy::tenant::Tenant;
use x402_core::verification::claims;
use x402_core::verification::claims::{Held, Prior, Unit};

/// The ledger's rows.
pub(super) struct Store {
    db: Sqlite,
}

/// An entry of the outbox.
pub(super) struct OutboxRow {
    pub(super) seq: i64,
    pub(super) kind: String,
    pub(super) body: String,
}

fn kept(body: &str, course: &str) -> Result<Kept, Fault> {
    let settlement = serde_json::from_str(body).map_err(broken)?;
    Ok(Kept { settlement, course: serde_json::from_str(course).map_err(broken)? })
}

/// A column that counts bytes.
fn bytes(value: Option<&Value>) -> Result<usize, Fault> {
    usize::try_from(integer(value)).map_err(broken)
}

/// A column of unix milliseconds that may be null.
fn maybe_millis(value: Option<&Value>) -> Option<UnixMillis> {
    matches!(value, Some(Value::Integer(_))).then(|| millis(value))
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

    /// Makes the schema, and brings that of an older build up to date.
    pub(super) fn make(&self) -> Result<(), Fault> {
        self.db.make(sql::STATE_SCHEMA)?;
        let version: usize = self.state("schema")?.unwrap_or(0);
        if version == 0 {
            self.db.make(sql::SCHEMA)?;
        }
        for (at, migration) in sql::MIGRATIONS.iter().enumerate().skip(version) {
            self.atomically(|| {
                self.db.make(migration)?;
                self.put_state("schema", &at.saturating_add(1))
            })?;
        }
        Ok(())
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

    /// The oldest records after an id, with their sizes in bytes.
    pub(super) fn record_sizes(&self, id: &str, limit: i64) -> Result<Vec<(String, usize)>, Fault> {
        let rows = self.rows(sql::RECORD_SIZES, vec![id.into(), limit.into()])?;
        rows.iter().map(|row| Ok((text(row.first()), bytes(row.get(1))?))).collect()
    }

    /// The records after an id, up to another.
    pub(super) fn records_between(&self, after: &str, upto: &str) -> Result<Vec<Record>, Fault> {
        let rows = self.rows(sql::RECORDS_BETWEEN, vec![after.into(), upto.into()])?;
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
            answer_until: maybe_millis(row.get(4)),
            at: millis(row.get(3)),
        }))
    }

    pub(super) fn put_idempotency(&self, route: &str, key: &str, stored: &Stored) -> Result<(), Fault> {
        let (status, body) = match &stored.answer {
            Some((status, body)) => (Value::Integer(i64::from(*status)), body.as_str().into()),
            None => (Value::Null, Value::Null),
        };
        let until = stored.answer_until.map_or(Value::Null, ms);
        let bind = vec![route.into(), key.into(), stored.body_hash.as_str().into(), status, body, ms(stored.at), until];
        self.run(sql::IDEMPOTENCY_PUT, bind)
    }

    /// Keeps the answer to what came under a key, until then; or forgets it.
    pub(super) fn answer_idempotency(
        &self,
        route: &str,
        key: &str,
        answer: Option<(&Reply, UnixMillis)>,
    ) -> Result<(), Fault> {
        let (status, body, until) = match answer {
            Some((reply, until)) => {
                (Value::Integer(i64::from(reply.status)), Value::from(reply.body.as_str()), ms(until))
            }
            None => (Value::Null, Value::Null, Value::Null),
        };
        self.run(sql::IDEMPOTENCY_ANSWER, vec![status, body, until, route.into(), key.into()])
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
        let kept = optional(row.get(3)).map(|body| kept(&body, &text(row.get(4)))).transpose()?;
        Ok(Some(payment::Row {
            fingerprint: text(row.first()),
            proof: optional(row.get(1)),
            expires_at: maybe_millis(row.get(2)),
            kept,
        }))
    }

    /// The payment that was reserved under a payer's identifier: its authorization and the rest.
    pub(super) fn identified(&self, payer: &str, id: &str) -> Result<Option<(String, payment::Row)>, Fault> {
        let rows = self.rows(sql::IDENTIFIER_GET, vec![payer.into(), id.into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let authorization = text(row.first());
        Ok(self.payment(&authorization)?.map(|row| (authorization, row)))
    }

    pub(super) fn put_identifier(&self, payer: &str, id: &str, authorization: &str) -> Result<(), Fault> {
        self.run(sql::IDENTIFIER_PUT, vec![payer.into(), id.into(), authorization.into()])
    }

    pub(super) fn put_payment(&self, row: &PaymentRow) -> Result<(), Fault> {
        let settlement = row.settlement.map(|id| id.to_string());
        let bind = vec![
            row.authorization.as_str().into(),
            row.fingerprint.as_str().into(),
            row.proof.as_str().into(),
            settlement.into(),
            ms(row.expires_at),
        ];
        self.run(sql::PAYMENT_PUT, bind)
    }

    pub(super) fn purge_payments(&self, upto: UnixMillis, limit: i64) -> Result<(), Fault> {
        self.run(sql::PAYMENTS_PURGE, vec![ms(upto), limit.into()])
    }

    /// When the first payment without a settlement ends.
    pub(super) fn next_payment(&self) -> Result<Option<UnixMillis>, Fault> {
        self.first_time(sql::PAYMENTS_NEXT)
    }

    fn first_time(&self, statement: &str) -> Result<Option<UnixMillis>, Fault> {
        Ok(self.rows(statement, Vec::new())?.first().and_then(|row| maybe_millis(row.first())))
    }

    /// A settlement with its course, and the revision that the directory's copy follows.
    pub(super) fn settlement(&self, id: SettlementId) -> Result<Option<(Kept, i64)>, Fault> {
        let rows = self.rows(sql::SETTLEMENT_GET, vec![id.to_string().into()])?;
        let read = |row: &Vec<Value>| Ok((kept(&text(row.first()), &text(row.get(1)))?, integer(row.get(2))));
        rows.first().map(read).transpose()
    }

    pub(super) fn put_settlement(&self, kept: &Kept) -> Result<(), Fault> {
        let settlement = &kept.settlement;
        let id = settlement.id.to_string();
        let bind = vec![
            id.as_str().into(),
            serde_json::to_string(settlement).map_err(broken)?.into(),
            serde_json::to_string(&kept.course).map_err(broken)?.into(),
            settlement.status.name().into(),
            settlement.network.as_str().into(),
            settlement.payer.as_str().into(),
            settlement.transaction.clone().into(),
            Value::Integer(i64::from(settlement.handed_over.is_some())),
            kept.due().map_or(Value::Null, ms),
        ];
        self.run(sql::SETTLEMENT_PUT, bind)?;
        self.put_outbox("settlement", &id)
    }

    pub(super) fn put_settlement_due(&self, id: SettlementId, at: Option<UnixMillis>) -> Result<(), Fault> {
        self.run(sql::SETTLEMENT_DUE, vec![at.map_or(Value::Null, ms), id.to_string().into()])
    }

    /// Settlements that are to be looked at by now.
    pub(super) fn settlements_due(&self, now: UnixMillis, limit: i64) -> Result<Vec<SettlementId>, Fault> {
        let rows = self.rows(sql::SETTLEMENTS_DUE, vec![ms(now), limit.into()])?;
        let read =
            |row: &Vec<Value>| SettlementId::parse(&text(row.first())).ok_or_else(|| broken("a settlement's id"));
        rows.iter().map(read).collect()
    }

    pub(super) fn next_settlement(&self) -> Result<Option<UnixMillis>, Fault> {
        self.first_time(sql::SETTLEMENTS_NEXT)
    }

    /// Settlements older than an id, the newest first: id and text.
    pub(super) fn settlements(
        &self,
        filter: &Filter,
        before: &str,
        limit: i64,
    ) -> Result<Vec<(String, String)>, Fault> {
        let mut bind = vec![
            before.into(),
            filter.network.clone().into(),
            filter.handed_over.map_or(Value::Null, |handed| Value::Integer(i64::from(handed))),
            limit.into(),
        ];
        let Filter { authorization, transaction, payer, .. } = filter;
        let (statement, last) = match (authorization, transaction, payer, filter.handed_over) {
            (Some(_), ..) => (sql::SETTLEMENTS_OF_AUTHORIZATION, vec![authorization, transaction]),
            (None, Some(_), ..) => (sql::SETTLEMENTS_OF_TRANSACTION, vec![transaction, payer]),
            (None, None, Some(_), _) => (sql::SETTLEMENTS_OF_PAYER, vec![payer]),
            (None, None, None, Some(false)) => (sql::SETTLEMENTS_OPEN, Vec::new()),
            (None, None, None, _) => (sql::SETTLEMENTS_BEFORE, Vec::new()),
        };
        bind.extend(last.into_iter().cloned().map(Value::from));
        Ok(self.rows(statement, bind)?.iter().map(|row| (text(row.first()), text(row.get(1)))).collect())
    }

    /// Whether one of a payer's settlements is completed here.
    pub(super) fn has_paid(&self, payer: &str) -> Result<bool, Fault> {
        Ok(!self.rows(sql::PAYER_HAS_PAID, vec![payer.into()])?.is_empty())
    }

    /// Binds a settled payment to its settlement: it cannot be spent again. What it holds already stays so.
    pub(super) fn claim_settled(&self, settlement: &Settlement, unit: Unit, at: UnixMillis) -> Result<(), Fault> {
        let tx = settlement.transaction.clone().ok_or_else(|| broken("a settlement without a transaction"))?;
        let id = ClaimId::Settlement(settlement.id);
        let held = self.claims(&settlement.network, &tx, &settlement.pay_to)?;
        if held.iter().any(|held| held.prior.id == id && held.unit == unit) {
            return Ok(());
        }
        let (network, recipient) = (settlement.network.clone(), settlement.pay_to.clone());
        self.put_claim(&claims::Row { network, tx, recipient, unit, id, reference: None, at })
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
        self.first_time(sql::WATCH_NEXT)
    }

    pub(super) fn put_outbox(&self, kind: &str, body: &str) -> Result<(), Fault> {
        self.run(sql::OUTBOX_PUT, vec![kind.into(), body.into()])
    }

    /// The oldest entries of the outbox, with their sizes in bytes.
    pub(super) fn outbox_sizes(&self, limit: i64) -> Result<Vec<(i64, usize)>, Fault> {
        let rows = self.rows(sql::OUTBOX_SIZES, vec![limit.into()])?;
        rows.iter().map(|row| Ok((integer(row.first()), bytes(row.get(1))?))).collect()
    }

    /// The entries of the outbox up to one.
    pub(super) fn outbox(&self, upto: i64) -> Result<Vec<OutboxRow>, Fault> {
        let rows = self.rows(sql::OUTBOX_GET, vec![upto.into()])?;
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
