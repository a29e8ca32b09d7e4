//! The registry check: compares the chains' answers with the registry's rows, and remembers the results in the isolate.

use crate::app::{self, App};
use crate::isolate::RegistryOutcomes;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use crate::{d1, isolate, rpc};
use futures_util::stream::{self, StreamExt};
use worker::{Context, D1Database};
use x402_chain::network::{NETWORKS, Network};
use x402_chain::registry_check::{RegistryCheckOutcome, RegistryCheckReport, check_against_row, check_calls};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::settings::Settings;

/// The age at which an isolate's copy is read again, in the background.
const COPY_MS: u64 = 60_000;
/// Chains checked at the same time: the platform opens six connections.
const AT_ONCE: usize = 5;

/// Whether a chain may be used: its row is proven, or it has passed the check; never if it differs.
pub(crate) fn is_chain_on(network: &Network, checks: Option<&RegistryOutcomes>) -> bool {
    match checks.and_then(|checks| checks.get(network.key)) {
        Some(RegistryCheckOutcome::Differs) => false,
        Some(RegistryCheckOutcome::Passed) => true,
        // It was never reached.
        Some(RegistryCheckOutcome::Unreachable) | None => network.proven,
    }
}

/// Whether a chain may be used. The copy is refreshed in the background; only a chain whose row is not proven waits for
/// the first copy.
pub(crate) async fn is_chain_allowed(app: &App, context: &Context, network: &Network, now: UnixMillis) -> bool {
    if isolate::registry_outcomes().is_none() && !network.proven {
        refresh_outcomes(app.db(), now).await;
    } else {
        refresh_outcomes_later(app, context, now);
    }
    is_chain_on(network, isolate::registry_outcomes().map(|(checks, _)| checks).as_deref())
}

/// Chains that are switched off, by key.
pub(crate) async fn disabled_chains(app: &App, context: &Context, now: UnixMillis) -> Vec<String> {
    if isolate::registry_outcomes().is_none() {
        refresh_outcomes(app.db(), now).await;
    } else {
        refresh_outcomes_later(app, context, now);
    }
    let checks = isolate::registry_outcomes().map(|(checks, _)| checks);
    NETWORKS
        .iter()
        .filter(|network| !is_chain_on(network, checks.as_deref()))
        .map(|network| network.key.to_owned())
        .collect()
}

fn refresh_outcomes_later(app: &App, context: &Context, now: UnixMillis) {
    let kept = isolate::registry_outcomes();
    let fresh = kept.as_ref().is_some_and(|(_, at)| now.since(*at) < COPY_MS);
    if !fresh {
        // A request that comes meanwhile finds a fresh copy and does not refresh it again.
        let old = kept.map(|(checks, _)| RegistryOutcomes::clone(&checks)).unwrap_or_default();
        isolate::cache_registry_outcomes(old, now);
        let db = app.db();
        app::after_answer(context, async move { refresh_outcomes(db, app::now()).await });
    }
}

async fn refresh_outcomes(db: Result<D1Database, Fault>, now: UnixMillis) {
    let read = match db {
        Ok(db) => d1::read_checks(&db).await,
        Err(fault) => Err(fault),
    };
    match read {
        Ok(checks) => isolate::cache_registry_outcomes(checks, now),
        Err(fault) => event(TelemetryKind::RegistryUnread, &[TelemetryField::Cause(&fault)]),
    }
}

/// Checks chains and stores the results.
///
/// # Errors
/// Where the directory does not take them.
pub(crate) async fn run_registry_check(
    settings: &Settings,
    db: &D1Database,
    networks: &[&'static Network],
    now: UnixMillis,
) -> Result<Vec<RegistryCheckReport>, Fault> {
    let one = |network: &'static Network| async move {
        let facts = rpc::call_all(network, &settings.providers(network), &check_calls(network)).await;
        check_against_row(network, &facts)
    };
    let reports: Vec<RegistryCheckReport> =
        stream::iter(networks.iter().copied()).map(one).buffered(AT_ONCE).collect().await;
    let mut rows = Vec::new();
    for report in &reports {
        rows.push((report.chain, report.outcome, serde_json::to_string(report).map_err(Fault::internal)?));
    }
    d1::put_checks(db, &rows, now).await?;
    isolate::cache_registry_outcomes(d1::read_checks(db).await?, now);
    Ok(reports)
}
