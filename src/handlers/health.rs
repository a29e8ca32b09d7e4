//! Health: the results of the last checks, answered at once; old ones are renewed after the answer.

use crate::app;
use crate::app::App;
use crate::clients;
use crate::rpc::trace;
use crate::{d1, isolate};
use futures_util::future::{Either, join3, select};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use worker::{Context, Delay};
use x402_api::health::{ComponentHealth, Condition, ServiceChecks, ServiceHealth};
use x402_chain::collect::map_of;
use x402_chain::id::TenantId;
use x402_chain::network::{Environment, NETWORKS};
use x402_chain::time::UnixMillis;
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage};
use x402_core::sanctions;
use x402_core::sanctions::ListFreshness;

/// How long a check of the directory and the ledgers is reused.
const CORE_MS: u64 = 10_000;
/// How long a check of a chain is reused.
const CHAIN_MS: u64 = 30_000;
/// Chains that are checked after one answer: the platform opens six connections.
const CHAINS_AT_ONCE: usize = 4;
/// The greatest age of a report about flights that cannot be carried on; settlers renew it once a minute.
const STUCK_MS: u64 = 180_000;
/// The answer comes within a second even if components are down.
const DEADLINE_MS: u64 = 800;

#[derive(Clone)]
struct CoreHealth {
    database: ComponentHealth,
    ledger: ComponentHealth,
    /// Settlements that cannot be carried on, by chain.
    stuck: BTreeMap<String, u64>,
    at: UnixMillis,
}

thread_local! {
    static CORE: RefCell<Option<CoreHealth>> = const { RefCell::new(None) };
    static CHAINS: RefCell<BTreeMap<&'static str, (ComponentHealth, UnixMillis)>> = const { RefCell::new(BTreeMap::new()) };
}

const fn component(status: Condition, latency_ms: Option<u64>) -> ComponentHealth {
    ComponentHealth { status, latency_ms, detail: None, head: None, checked_at: None }
}

/// The health of the service, from the last checks; old ones are renewed after the answer.
pub(crate) async fn service_health(app: Rc<App>, context: &Context, now: UnixMillis) -> ServiceHealth {
    let kept = CORE.with_borrow(Clone::clone).filter(|core| now.since(core.at) < CORE_MS);
    let core = match kept {
        Some(core) => core,
        None => {
            let core = check_core(&app, now).await;
            CORE.with_borrow_mut(|kept| *kept = Some(core.clone()));
            core
        }
    };
    refresh_chains(Rc::clone(&app), context, now);
    let chains = CHAINS.with_borrow(|known| {
        let checked = |key: &'static str| {
            known.get(key).map_or_else(|| component(Condition::Unknown, None), |(part, _)| part.clone())
        };
        let chain = |key: &'static str| with_stuck_flights(checked(key), core.stuck.get(key).copied());
        map_of(NETWORKS.iter().map(|network| (network.key, chain(network.key))))
    });
    let checks =
        ServiceChecks { database: core.database, ledger: core.ledger, chains, sanctions: sanctions_health(now) };
    ServiceHealth { status: checks.condition(), version: env!("CARGO_PKG_VERSION"), timestamp: now.rfc3339(), checks }
}

/// A chain's component, with its settlements that cannot be carried on.
fn with_stuck_flights(chain: ComponentHealth, flights: Option<u64>) -> ComponentHealth {
    match flights {
        Some(flights) => {
            let detail = Some(format!("{flights} settlements cannot be carried on: the log says why"));
            ComponentHealth { status: chain.status.max(Condition::Degraded), detail, ..chain }
        }
        None => chain,
    }
}

fn sanctions_health(now: UnixMillis) -> ComponentHealth {
    let list = isolate::sanctions();
    let (status, detail) = match sanctions::list_freshness(list.as_deref(), now) {
        ListFreshness::Current => (Condition::Ok, None),
        ListFreshness::Stale { days } => (Condition::Degraded, Some(format!("the list is {days} days old"))),
        ListFreshness::Absent => (Condition::Degraded, Some("no sanctions list could be read".to_owned())),
    };
    let listed_at = list.map(|list| list.date().rfc3339());
    ComponentHealth { status, latency_ms: Some(0), detail, head: None, checked_at: listed_at }
}

/// Runs a check within the deadline and measures its time.
async fn timed_probe(probe: impl Future<Output = bool>) -> ComponentHealth {
    let began = app::now();
    let deadline = Delay::from(Duration::from_millis(DEADLINE_MS));
    let is_well = match select(pin!(probe), pin!(deadline)).await {
        Either::Left((is_well, _)) => is_well,
        Either::Right(_) => false,
    };
    component(if is_well { Condition::Ok } else { Condition::Down }, Some(app::now().since(began)))
}

async fn check_core(app: &App, now: UnixMillis) -> CoreHealth {
    let database = timed_probe(async {
        match app.db() {
            Ok(db) => d1::ping(&db).await.is_ok(),
            Err(_) => false,
        }
    });
    // The ledger of no tenant: it only shows that objects can be reached.
    let (tenant, request_id) = (TenantId([0; 12]), app::request_id(now));
    let envelope = LedgerEnvelope::without_request(tenant, Environment::Test, request_id, LedgerMessage::Ping);
    let ledger = timed_probe(async {
        clients::ledger::call_ledger(app, &envelope, None).await.is_ok_and(|response| response.is_done())
    });
    let stuck = Cell::new(BTreeMap::new());
    let stuck_probe = timed_probe(async {
        let Ok(db) = app.db() else { return false };
        let found = d1::read_stuck(&db, UnixMillis(now.0.saturating_sub(STUCK_MS))).await;
        found.map(|found| stuck.set(found)).is_ok()
    });
    let (database, ledger, _) = join3(database, ledger, stuck_probe).await;
    CoreHealth { database, ledger, stuck: stuck.take(), at: now }
}

/// Checks the chains whose last check is the oldest, after the answer.
fn refresh_chains(app: Rc<App>, context: &Context, now: UnixMillis) {
    let mut due: Vec<_> = CHAINS.with_borrow(|known| {
        let at = |key: &'static str| known.get(key).map(|(_, at)| *at);
        let due = NETWORKS.iter().map(|network| (at(network.key), network));
        due.filter(|(at, _)| at.is_none_or(|at| now.since(at) >= CHAIN_MS)).collect()
    });
    due.sort_by_key(|(at, _)| *at);
    for (_, network) in due.into_iter().take(CHAINS_AT_ONCE) {
        CHAINS.with_borrow_mut(|known| {
            let part =
                known.get(network.key).map_or_else(|| component(Condition::Unknown, None), |(part, _)| part.clone());
            known.insert(network.key, (part, now));
        });
        let app = Rc::clone(&app);
        app::after_answer(context, async move {
            let (head, took) = trace::fetch_head(&app.settings, network).await;
            let status = if head.is_some() { Condition::Ok } else { Condition::Down };
            let at = app::now();
            let found = ComponentHealth { head, checked_at: Some(at.rfc3339()), ..component(status, Some(took)) };
            CHAINS.with_borrow_mut(|known| drop(known.insert(network.key, (found, at))));
        });
    }
}
