//! What a ledger takes over when it is rebuilt, and what it gives the directory.

use super::LedgerStore;
use crate::objects::ledger::rows::StoredSettlement;
use crate::objects::ledger::sql;
use crate::objects::sqlite::{millis_value, storage_failed};
use worker::SqlStorageValue as Value;
use x402_chain::id::SettlementId;
use x402_core::error::Fault;
use x402_core::messages::ledger::rebuild::KeptRecord;
use x402_core::outbox::OutboxEntry;
use x402_core::settlement::restored::RestoredSettlement;
use x402_core::tenancy::admission::ClosedPeriod;
use x402_core::verification::claims::{ClaimRow, ClaimUnit};

/// The name of the stored list of periods that are over.
const PERIODS: &str = "periods";

impl LedgerStore {
    /// Ships the totals of a period that is over, and keeps them: one row a month.
    pub(in crate::objects::ledger) fn close_period(&self, closed: ClosedPeriod) -> Result<(), Fault> {
        self.put_outbox(&OutboxEntry::Period(closed))?;
        let mut periods = self.closed_periods()?;
        periods.retain(|one| one.period != closed.period);
        periods.push(closed);
        self.put_closed_periods(&periods)
    }

    /// The totals of the periods that are over, as far as they were kept.
    pub(in crate::objects::ledger) fn closed_periods(&self) -> Result<Vec<ClosedPeriod>, Fault> {
        Ok(self.state(PERIODS)?.unwrap_or_default())
    }

    pub(in crate::objects::ledger) fn put_closed_periods(&self, periods: &[ClosedPeriod]) -> Result<(), Fault> {
        self.put_state(PERIODS, &periods)
    }

    /// Settlements after an id, the oldest first.
    pub(in crate::objects::ledger) fn settlements_after(
        &self,
        after: Option<SettlementId>,
        limit: i64,
    ) -> Result<Vec<StoredSettlement>, Fault> {
        // The empty id is less than every id.
        let after = after.map_or_else(String::new, |id| id.to_string());
        self.rows(sql::SETTLEMENTS_AFTER, vec![after.into(), limit.into()])
    }

    /// Takes a claim over. More may be claimed than was, where the part is not known: never less.
    pub(in crate::objects::ledger) fn restore_claim(&self, claim: &ClaimRow) -> Result<(), Fault> {
        let ClaimRow { network, tx, recipient, unit, id, reference, at } = claim;
        let mut bind: Vec<Value> = [network, tx, recipient].map(|text| text.as_str().into()).into();
        let statement = match unit {
            ClaimUnit::Whole => sql::CLAIM_RESTORE,
            ClaimUnit::Log(ordinal) => {
                bind.push(Value::Integer(i64::try_from(*ordinal).map_err(storage_failed)?));
                sql::LOG_CLAIM_RESTORE
            }
        };
        bind.extend([id.to_string().into(), reference.clone().into(), millis_value(*at)]);
        self.run(statement, bind)
    }

    /// Takes over a record that is polled on.
    pub(in crate::objects::ledger) fn restore_record(&self, record: &KeptRecord) -> Result<(), Fault> {
        let bind = vec![
            record.id.to_string().into(),
            Value::Integer(record.revision),
            record.body.as_str().into(),
            record.units.clone().into(),
        ];
        self.run(sql::RECORD_RESTORE, bind)
    }

    /// Takes over a settlement, with its authorization and its claim.
    pub(in crate::objects::ledger) fn restore_settlement(
        &self,
        restored: &RestoredSettlement,
        revision: i64,
    ) -> Result<(), Fault> {
        let settlement = &restored.record.settlement;
        let bind = vec![
            settlement.id.to_string().into(),
            serde_json::to_string(settlement).map_err(storage_failed)?.into(),
            serde_json::to_string(&restored.record.progress).map_err(storage_failed)?.into(),
            settlement.status.name().into(),
            settlement.network.as_str().into(),
            settlement.payer.as_str().into(),
            settlement.transaction.clone().into(),
            Value::Integer(i64::from(settlement.handed_over.is_some())),
            restored.due.map_or(Value::Null, millis_value),
            Value::Integer(revision),
        ];
        self.run(sql::SETTLEMENT_RESTORE, bind)?;
        if let Some(payment) = &restored.payment {
            self.put_payment(payment)?;
        }
        restored.claim.as_ref().map_or(Ok(()), |claim| self.restore_claim(claim))
    }
}
