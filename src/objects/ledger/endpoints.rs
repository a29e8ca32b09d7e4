//! The tenant's webhook endpoints as the ledger knows them. An endpoint is to get what happens from its creation on, and the
//! ledger loads it later: what it has shipped meanwhile is read from the months and sent first (`waiting.rs`).

use super::TenantLedger;
use super::store::LedgerStore;
use crate::app;
use crate::app::db;
use crate::d1;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::{Either, select};
use std::pin::pin;
use std::time::Duration;
use worker::Delay;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::tenancy::tenant::Tenant;
use x402_core::webhook::subscription::{behind, learned};

/// The directory's deadline where endpoints are loaded before something is shipped.
const LOAD_MS: u64 = 2_000;
/// A build that knows no endpoints may have shipped events before this one does. While a deployment goes on it is a matter of
/// minutes: what happened so long before is sent too.
const UNHEARD_MS: u64 = 600_000;
/// How far the clocks of two machines may be apart.
const CLOCKS_MS: u64 = 60_000;
/// The name of the stored time from which on events are shipped without knowing who is to get them.
const UNHEARD: &str = "webhooks_unheard";

/// Stores a copy of the tenant in the place of another, and which endpoints have missed events: one that is new to the
/// ledger since its creation, one that was disabled since it is active again, all of them where the ledger did not know its
/// endpoints. Returns the copy, and whether any has.
pub(super) fn put_copy(
    store: &LedgerStore,
    before: &Tenant,
    mut tenant: Tenant,
    now: UnixMillis,
) -> Result<(Tenant, bool), Fault> {
    let Some(loaded) = tenant.webhooks.take() else {
        return Err(Fault::internal("a tenant was loaded without its endpoints"));
    };
    tenant.webhooks = Some(learned(loaded, before.endpoints(), now));
    let unheard: Option<UnixMillis> = match before.webhooks {
        Some(_) => None,
        None => store.state::<Option<UnixMillis>>(UNHEARD)?.flatten(),
    };
    let since = match before.webhooks {
        Some(_) => UnixMillis(0),
        None => unheard.unwrap_or(UnixMillis(now.0.saturating_sub(UNHEARD_MS))),
    };
    let known = store.missed()?;
    let mut missed = known.clone();
    missed.keep(tenant.endpoints());
    for (id, from) in behind(tenant.endpoints(), before.endpoints()) {
        missed.add(id, (from.max(since), now.plus(CLOCKS_MS)));
    }
    store.atomically(|| {
        store.put_tenant(&tenant)?;
        if unheard.is_some() {
            store.put_state(UNHEARD, &None::<UnixMillis>)?;
        }
        if missed == known { Ok(()) } else { store.put_missed(&missed) }
    })?;
    Ok((tenant, !missed.is_empty()))
}

impl TenantLedger {
    /// Loads the endpoints where the stored copy of the tenant is of a build that knows none. Where that fails, they get what
    /// is shipped meanwhile once they are loaded.
    ///
    /// # Errors
    /// Those of the ledger's own storage.
    pub(super) async fn load_endpoints(&self, now: UnixMillis) -> Result<(), Fault> {
        let wanted = |tenant: &Tenant| tenant.webhooks.is_none().then_some((tenant.id, tenant.environment));
        let Some((tenant, environment)) = self.with_state(|memory| Ok(wanted(&memory.tenant)))? else {
            return Ok(());
        };
        let loading = async { d1::load_tenant(&db(&self.env)?, tenant, environment).await };
        let deadline = Delay::from(Duration::from_millis(LOAD_MS));
        let loaded = match select(pin!(loading), pin!(deadline)).await {
            Either::Left((loaded, _)) => loaded,
            Either::Right(_) => Err(Fault::internal(format!("the directory did not answer in {LOAD_MS} ms"))),
        };
        match loaded {
            Ok(Some(tenant)) => self.take_newer_copy(tenant, app::now()).await,
            // The tenant is gone, and its endpoints with it.
            Ok(None) => Ok(()),
            Err(fault) => {
                event(TelemetryKind::EndpointsNotLoaded, &[TelemetryField::Cause(&fault)]);
                let store = self.store();
                match store.state::<Option<UnixMillis>>(UNHEARD)?.flatten() {
                    Some(_) => Ok(()),
                    None => store.put_state(UNHEARD, &Some(UnixMillis(now.0.saturating_sub(UNHEARD_MS)))),
                }
            }
        }
    }

    /// Takes a copy of the tenant; endpoints are sent what they have missed, now or by the next alarm.
    pub(super) async fn take_newer_copy(&self, tenant: Tenant, now: UnixMillis) -> Result<(), Fault> {
        if self.take_tenant_copy(tenant, now)? {
            self.wake_soon(now).await;
            self.send_waiting()?;
        }
        Ok(())
    }
}
