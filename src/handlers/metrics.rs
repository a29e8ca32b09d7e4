//! `GET /metrics`: what all isolates and ledgers have counted, and what is read now.

use crate::app::App;
use crate::clients::meter;
use crate::d1::operation;
use crate::d1::operation::rows::{SignerBalanceRow, TierUsageRow};
use futures_util::future::try_join;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use x402_api::ApiReply;
use x402_chain::address::Family;
use x402_chain::network::NETWORKS;
use x402_chain::time::{DAY_MS, Period, UnixMillis};
use x402_core::error::Fault;
use x402_core::messages::meter::{ObjectQueue, QueueDepth};
use x402_core::metrics::MetricFamily;
use x402_core::metrics::signers::{SPENT_DAYS, SignerDay, coins, tenths_left};
use x402_core::metrics::text::{GaugeValues, exposition};
use x402_core::records::rollup::day_of;

/// How long an answer is used again: several Prometheus servers ask as one.
const FRESH_MS: u64 = 5_000;
/// How long what the directory says is used again.
const DIRECTORY_MS: u64 = 60_000;

/// What the directory says.
struct DirectoryFigures {
    usage: Vec<TierUsageRow>,
    balances: Vec<SignerBalanceRow>,
}

thread_local! {
    static METRICS: RefCell<Option<(Rc<str>, UnixMillis)>> = const { RefCell::new(None) };
    static FIGURES: RefCell<Option<(Rc<DirectoryFigures>, UnixMillis)>> = const { RefCell::new(None) };
}

/// `GET /metrics`.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where a Meter or the directory does not answer, `MISCONFIGURED`.
pub(super) async fn read_metrics(app: &App, now: UnixMillis) -> Result<ApiReply, Fault> {
    let known = METRICS.with_borrow(Clone::clone).filter(|(_, at)| now.since(*at) < FRESH_MS);
    let body = match known {
        Some((body, _)) => body,
        None => {
            let meters = app.meters()?;
            let ((counts, depths), figures) = try_join(meter::totals(&meters), directory_figures(app, now)).await?;
            let mut gauges = GaugeValues::default();
            gauges.set(MetricFamily::BuildInfo, &[env!("CARGO_PKG_VERSION")], 1);
            set_depths(&mut gauges, depths);
            set_usage(&mut gauges, &figures.usage);
            set_balances(&mut gauges, &figures.balances, now);
            let body: Rc<str> = exposition(&counts, &gauges).into();
            METRICS.with_borrow_mut(|kept| *kept = Some((Rc::clone(&body), now)));
            body
        }
    };
    Ok(ApiReply::metrics(body.to_string()))
}

async fn directory_figures(app: &App, now: UnixMillis) -> Result<Rc<DirectoryFigures>, Fault> {
    let known = FIGURES.with_borrow(Clone::clone).filter(|(_, at)| now.since(*at) < DIRECTORY_MS);
    if let Some((figures, _)) = known {
        return Ok(figures);
    }
    let db = app.db()?;
    let since = UnixMillis(day_of(now).0.saturating_sub(SPENT_DAYS.saturating_mul(DAY_MS)));
    let (usage, balances) =
        try_join(operation::tier_usage(&db, Period::of(now)), operation::signer_balances(&db, since)).await?;
    let figures = Rc::new(DirectoryFigures { usage, balances });
    FIGURES.with_borrow_mut(|kept| *kept = Some((Rc::clone(&figures), now)));
    Ok(figures)
}

/// Of an object that several isolates have reported, the newest report holds.
fn set_depths(gauges: &mut GaugeValues, depths: Vec<QueueDepth>) {
    let mut newest: BTreeMap<(ObjectQueue, String), QueueDepth> = BTreeMap::new();
    for depth in depths {
        let key = (depth.queue, depth.object.clone());
        if newest.get(&key).is_none_or(|known| known.at <= depth.at) {
            newest.insert(key, depth);
        }
    }
    for (queue, entries) in
        [(ObjectQueue::Outbox, MetricFamily::OutboxEntries), (ObjectQueue::Courier, MetricFamily::CourierEntries)]
    {
        let of = newest.values().filter(|depth| depth.queue == queue);
        gauges.set(entries, &[], of.fold(0_u64, |sum, depth| sum.saturating_add(depth.entries)));
    }
}

fn set_usage(gauges: &mut GaugeValues, usage: &[TierUsageRow]) {
    for row in usage {
        let tier = [row.tier.plan().name];
        gauges.set(MetricFamily::QuotaUsed, &tier, row.used);
        gauges.set(MetricFamily::ActiveTenants, &tier, row.tenants);
    }
}

fn set_balances(gauges: &mut GaugeValues, balances: &[SignerBalanceRow], now: UnixMillis) {
    let mut signers: BTreeMap<(&str, &str), BTreeMap<UnixMillis, SignerDay>> = BTreeMap::new();
    for row in balances {
        let day = SignerDay { held: row.held, spent: row.spent };
        signers.entry((row.chain.as_str(), row.signer.as_str())).or_default().insert(row.day, day);
    }
    for ((chain, signer), days) in signers {
        let Some(network) = NETWORKS.iter().find(|network| network.key == chain) else { continue };
        let Some((_, last)) = days.last_key_value() else { continue };
        let decimals = match network.family {
            Family::Evm => 18,
            Family::Svm => 9,
        };
        let labels = [chain, signer];
        gauges.set_decimal(MetricFamily::SignerBalance, &labels, coins(last.held, decimals));
        if let Some(tenths) = tenths_left(&days, day_of(now)) {
            gauges.set_decimal(MetricFamily::SignerDays, &labels, format!("{}.{}", tenths / 10, tenths % 10));
        }
    }
}
