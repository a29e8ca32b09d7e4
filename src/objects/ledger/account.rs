//! What a ledger answers of its tenant and its records.

use super::TenantLedger;
use crate::clients::ledger::View;
use x402_api::{Reply, chains, headers, whoami};
use x402_chain::id::VerificationId;
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;
use x402_core::error::{Code, Fault};
use x402_core::tenancy::admission::authorise;
use x402_core::tenancy::key::KeyHash;
use x402_core::tenancy::payee::{Payee, Wanted, payee};
use x402_core::tenancy::tenant::Scope;
use x402_core::tenancy::usage;

/// The headers of the rate windows.
type RateHeaders = Vec<(&'static str, String)>;

impl TenantLedger {
    /// Lets a key in, notes its use (at most once a minute) and reads what it asks for.
    pub(super) fn known<T>(
        &self,
        key: &KeyHash,
        scope: Option<Scope>,
        now: UnixMillis,
        read: impl FnOnce(&super::Memory, &x402_core::tenancy::tenant::Key) -> Result<T, Fault>,
    ) -> Result<(T, RateHeaders), Fault> {
        let store = self.store();
        self.with(|memory| {
            let id = authorise(&memory.tenant, key, scope, now)?.id;
            let mut admission = memory.admission.clone();
            if admission.touch(id, now) {
                store.atomically(|| store.put_admission(&admission))?;
                memory.wrote(admission, now);
            }
            let key = authorise(&memory.tenant, key, scope, now)?;
            let answer = read(memory, key)?;
            Ok((answer, headers::rate(&memory.admission.rates(&memory.tenant, now), now)))
        })
    }

    /// Answers about the account.
    pub(super) fn account(&self, key: &KeyHash, view: View, off: &[String], now: UnixMillis) -> Result<Reply, Fault> {
        let is_on = |network: &Network| !off.iter().any(|chain| chain == network.key);
        let (mut reply, headers) = self.known(key, None, now, |memory, key| {
            let (tenant, admission) = (&memory.tenant, &memory.admission);
            Ok(match view {
                View::Usage => Reply::json(200, &usage::usage(tenant, admission, is_on, now)),
                View::Chains => {
                    Reply::json(200, &chains::supported(tenant, is_on)).with("Cache-Control", "private, max-age=3600")
                }
                View::Whoami => {
                    let last_used = admission.last_used.get(&key.id).copied();
                    Reply::json(200, &whoami::whoami(tenant, key, last_used))
                }
            })
        })?;
        reply.headers.extend(headers);
        Ok(reply)
    }

    /// Says who may be paid for requirements: a list of the same length.
    pub(super) fn payees(
        &self,
        key: &KeyHash,
        wanted: &[Wanted],
        off: &[String],
        now: UnixMillis,
    ) -> Result<Reply, Fault> {
        let is_on = |network: &Network| !off.iter().any(|chain| chain == network.key);
        let (payees, headers) = self.known(key, Some(Scope::Verify), now, |memory, _| {
            Ok(wanted.iter().map(|wanted| payee(&memory.tenant, wanted, is_on)).collect::<Vec<Payee>>())
        })?;
        let mut reply = Reply::json(200, &payees);
        reply.headers.extend(headers);
        Ok(reply)
    }

    /// Reads a record; 404 where this ledger does not hold it (any more).
    pub(super) fn record(&self, key: &KeyHash, id: VerificationId, now: UnixMillis) -> Result<Reply, Fault> {
        let store = self.store();
        let (row, headers) = self.known(key, Some(Scope::Verify), now, |_, _| store.record(&id.to_string()))?;
        let mut reply = match row {
            Some(row) => Reply { status: 200, content_type: "application/json", body: row.body, headers: Vec::new() },
            None => {
                let fault = Fault::new(Code::NotFound, "no such verification");
                Reply { status: fault.code.status(), content_type: "", body: String::new(), headers: Vec::new() }
            }
        };
        reply.headers.extend(headers);
        Ok(reply)
    }

    /// Lets a key list records: all of them are in the directory when this answers.
    pub(super) async fn list(&self, key: &KeyHash, now: UnixMillis) -> Result<Reply, Fault> {
        let ((), headers) = self.known(key, Some(Scope::Verify), now, |_, _| Ok(()))?;
        let mut reply = self.flush(now).await?;
        reply.headers.extend(headers);
        Ok(reply)
    }
}
