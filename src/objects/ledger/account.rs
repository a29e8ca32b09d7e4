//! The ledger's answers about its tenant and its records.

use super::TenantLedger;
use super::reply::LedgerOutput;
use super::ship::Flushed;
use x402_api::{ApiReply, chains, headers, whoami};
use x402_chain::id::VerificationId;
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::ledger::{AccountView, LedgerEnvelope, LedgerReply};
use x402_core::tenancy::admission::{PresentedKey, authorize_key};
use x402_core::tenancy::payee::{PayeeQuery, resolve_payee};
use x402_core::tenancy::usage;

/// The headers of the rate windows.
type RateHeaders = Vec<(&'static str, String)>;

impl TenantLedger {
    /// Checks a key, notes its use (at most once a minute) and runs the read.
    pub(super) fn with_key<T>(
        &self,
        key: PresentedKey,
        now: UnixMillis,
        read: impl FnOnce(&super::LedgerState, &x402_core::tenancy::tenant::ApiKey) -> Result<T, Fault>,
    ) -> Result<(T, RateHeaders), Fault> {
        let store = self.store();
        self.with_state(|memory| {
            let id = authorize_key(&memory.tenant, key, now)?.id;
            let mut admission = memory.admission.clone();
            if admission.note_key_use(id, now) {
                store.atomically(|| store.put_admission(&admission))?;
                memory.note_written(admission, now);
            }
            let key = authorize_key(&memory.tenant, key, now)?;
            let answer = read(memory, key)?;
            Ok((answer, headers::rate_headers(&memory.admission.rates(&memory.tenant, now), now)))
        })
    }

    /// Counts an export that begins. A ledger without a tenant counts none.
    pub(super) fn count_export(&self, envelope: &LedgerEnvelope, now: UnixMillis) -> Result<(), Fault> {
        if self.memory.borrow().is_none() {
            return Ok(());
        }
        let store = self.store();
        self.with_state(|memory| {
            let mut admission = memory.admission.clone();
            let key = envelope.message.reading_key().map(|key| envelope.present(key));
            admission.count_export(&memory.tenant, key, now)?;
            store.atomically(|| store.put_admission(&admission))?;
            memory.note_written(admission, now);
            Ok(())
        })
    }

    /// Answers about the account.
    pub(super) fn answer_account(
        &self,
        key: PresentedKey,
        view: AccountView,
        off: &[String],
        now: UnixMillis,
    ) -> Result<ApiReply, Fault> {
        let is_on = |network: &Network| !off.iter().any(|chain| chain == network.key);
        let (mut reply, headers) = self.with_key(key, now, |memory, key| {
            let (tenant, admission) = (&memory.tenant, &memory.admission);
            Ok(match view {
                AccountView::Usage => ApiReply::json(200, &usage::usage_of(tenant, admission, is_on, now)),
                AccountView::Chains => ApiReply::json(200, &chains::supported_chains(tenant, is_on))
                    .with("Cache-Control", "private, max-age=3600"),
                AccountView::Whoami => {
                    let last_used = admission.last_used.get(&key.id).copied();
                    ApiReply::json(200, &whoami::whoami(tenant, key, last_used))
                }
            })
        })?;
        reply.headers.extend(headers);
        Ok(reply)
    }

    /// Answers which addresses may stand in requirements: a list of the same length.
    pub(super) fn answer_payees(
        &self,
        key: PresentedKey,
        wanted: &[PayeeQuery],
        off: &[String],
        now: UnixMillis,
    ) -> Result<LedgerOutput, Fault> {
        let is_on = |network: &Network| !off.iter().any(|chain| chain == network.key);
        let (payees, headers) = self.with_key(key, now, |memory, _| {
            wanted.iter().map(|wanted| resolve_payee(&memory.tenant, wanted, is_on)).collect::<Result<Vec<_>, Fault>>()
        })?;
        Ok(LedgerOutput::of(LedgerReply::Payees, ApiReply::json(200, &payees)).with_rates(headers))
    }

    /// Reads a record; [`LedgerReply::NoRecord`] where this ledger does not hold it, or has deleted it.
    pub(super) fn answer_record(
        &self,
        key: PresentedKey,
        id: VerificationId,
        now: UnixMillis,
    ) -> Result<LedgerOutput, Fault> {
        let store = self.store();
        let (row, headers) = self.with_key(key, now, |_, _| store.record(&id.to_string()))?;
        let output = match row {
            Some(row) => ApiReply::stored(200, row.body).into(),
            None => LedgerOutput::empty(LedgerReply::NoRecord),
        };
        Ok(output.with_rates(headers))
    }

    /// Lets a key list records: when this answers, their months hold all of them.
    pub(super) async fn answer_list(&self, key: PresentedKey, now: UnixMillis) -> Result<LedgerOutput, Fault> {
        let ((), headers) = self.with_key(key, now, |_, _| Ok(()))?;
        Ok(self.flush(now, Flushed::Records).await?.with_rates(headers))
    }
}
