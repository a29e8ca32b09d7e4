//! What operators are alerted to. Every five minutes each check finds something wrong, well, or cannot find out; what has
//! changed is stored with the notice that says so, in one batch.

use super::{mails_to, queue};
use crate::app;
use crate::app::App;
use crate::d1::alerts::{self, CheckChanges, NewNotice};
use crate::d1::endpoints::rows::LostSecrets;
use crate::d1::operation;
use crate::d1::operation::rows::SignerBalanceRow;
use crate::d1::rebuild::rows::LostLedgerRow;
use crate::rpc::{registry, signer_balance, trace};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use crate::{d1, isolate};
use futures_util::stream::{self, StreamExt};
use worker::D1Database;
use x402_chain::id::NoticeId;
use x402_chain::network::{NETWORKS, Network};
use x402_chain::reader::min_native_balance;
use x402_chain::time::{DAY_MS, UnixMillis};
use x402_core::alert::operator::{
    AlertStep, Check, Finding, KeptAlert, OperatorAlert, check_balance, check_error_rate, step,
};
use x402_core::error::Fault;
use x402_core::metrics::signers;
use x402_core::metrics::signers::SignerDay;
use x402_core::records::rollup::{day_of, hour_of};
use x402_core::sanctions::{ListFreshness, list_freshness};

/// Chains that are asked at the same time: the platform opens six connections.
const AT_ONCE: usize = 5;
/// How long after its end an hour is judged: months copy their totals to the directory within minutes.
const COPIED_MS: u64 = 10 * 60_000;
const HOUR_MS: u64 = 60 * 60_000;
/// Tenants with an unknown price that are named.
const PRICES_MAX: u64 = 50;
/// The same of ledgers that are lost.
const LOST_MAX: u64 = 50;

/// Runs all checks and stores what has changed; returns how many alerts did.
///
/// # Errors
/// Where the directory fails, or another run has changed something meanwhile: the next one begins anew.
pub(crate) async fn check(app: &App, now: UnixMillis) -> Result<usize, Fault> {
    let db = app.db()?;
    let before = alerts::checks_changed(&db).await?;
    let kept = alerts::operator_alerts(&db).await?;
    let mut checks = vec![error_rate(&db, now).await, sanctions(now), lost_secrets(&db).await];
    checks.extend(unknown_prices(&db, &kept).await);
    checks.extend(lost_ledgers(&db, &kept).await);
    let outcomes = d1::read_checks(&db).await?;
    let on = NETWORKS.iter().filter(|network| !network.local && registry::is_chain_on(network, Some(&outcomes)));
    let of_chains: Vec<(Vec<Check>, Vec<HeldBalance>)> =
        stream::iter(on).map(|network| check_chain(app, network)).buffer_unordered(AT_ONCE).collect().await;
    let (of_chains, held): (Vec<_>, Vec<_>) = of_chains.into_iter().unzip();
    checks.extend(of_chains.into_iter().flatten());
    if let Err(fault) = store_balances(&db, held.into_iter().flatten().collect(), now).await {
        event(TelemetryKind::AlertFailed, &[TelemetryField::Cause(&fault)]);
    }
    // What is not checked any more is not wrong any more.
    let gone = |open: &&KeptAlert| !checks.iter().any(|check| is_of(open, check));
    let gone: Vec<Check> = kept.iter().filter(gone).map(as_well).collect();
    checks.extend(gone);

    let (mut changes, mut lines) = (CheckChanges::default(), Vec::new());
    for check in &checks {
        let open = kept.iter().find(|open| is_of(open, check));
        match step(open, check, now) {
            AlertStep::Nothing => {}
            AlertStep::Keep(next, line) => {
                changes.kept.push(next);
                lines.extend(line);
            }
            AlertStep::End(line) => {
                changes.ended.extend(open.cloned());
                lines.extend(line);
            }
        }
    }
    let changed = changes.kept.len().saturating_add(changes.ended.len());
    if changed > 0 {
        store(app, &db, (before, now), (&changes, &lines)).await?;
    }
    Ok(changed)
}

/// Tells operators something once, by the same ways as alerts.
///
/// # Errors
/// Where the directory fails.
pub(crate) async fn tell(app: &App, text: &str, now: UnixMillis) -> Result<(), Fault> {
    let address = app.settings.operator_mail().filter(|_| app.settings.mail().is_some());
    let mails = mails_to(address.map(str::to_owned).into_iter(), now)?;
    let new = NewNotice {
        id: NoticeId::new(now, app::random()?),
        text,
        at: now,
        is_posted: app.settings.operator_alert_url().is_some(),
        mails: &mails,
        origin: &app.origin,
    };
    alerts::put_operator_notice(&app.db()?, &new).await?;
    queue(app, &mails).await;
    Ok(())
}

/// Tenants whose price is not of the table of tiers. Where that cannot be read, alerts that have begun last.
async fn unknown_prices(db: &D1Database, kept: &[KeptAlert]) -> Vec<Check> {
    let check = |subject, finding| Check { kind: OperatorAlert::UnknownPrice, subject, finding };
    match d1::billing::unknown_prices(db, PRICES_MAX).await {
        Ok(rows) => {
            let wrong = |row: d1::billing::rows::UnknownPriceRow| {
                check(row.tenant.to_string(), Finding::Wrong(format!("the price is {}", row.price)))
            };
            rows.into_iter().map(wrong).collect()
        }
        Err(_) => {
            let open = kept.iter().filter(|open| open.kind == OperatorAlert::UnknownPrice);
            open.map(|open| check(open.subject.clone(), Finding::Unknown)).collect()
        }
    }
}

/// Ledgers that serve nobody until they are rebuilt. Where that cannot be read, alerts that have begun last.
async fn lost_ledgers(db: &D1Database, kept: &[KeptAlert]) -> Vec<Check> {
    let check = |subject, finding| Check { kind: OperatorAlert::LedgerLost, subject, finding };
    match d1::rebuild::lost_ledgers(db, LOST_MAX).await {
        Ok(rows) => {
            let subject = |row: LostLedgerRow| format!("{}:{}", row.tenant, row.environment.name());
            let wrong = || Finding::Wrong("it is empty, and refuses all requests until it is rebuilt".to_owned());
            rows.into_iter().map(|row| check(subject(row), wrong())).collect()
        }
        Err(_) => {
            let open = kept.iter().filter(|open| open.kind == OperatorAlert::LedgerLost);
            open.map(|open| check(open.subject.clone(), Finding::Unknown)).collect()
        }
    }
}

fn is_of(open: &KeptAlert, check: &Check) -> bool {
    open.kind == check.kind && open.subject == check.subject
}

fn as_well(open: &KeptAlert) -> Check {
    Check { kind: open.kind, subject: open.subject.clone(), finding: Finding::Well }
}

async fn store(
    app: &App,
    db: &D1Database,
    (before, now): (UnixMillis, UnixMillis),
    (changes, lines): (&CheckChanges, &[String]),
) -> Result<(), Fault> {
    let address = app.settings.operator_mail().filter(|_| app.settings.mail().is_some());
    let mails = mails_to(address.map(str::to_owned).filter(|_| !lines.is_empty()).into_iter(), now)?;
    let new = NewNotice {
        id: NoticeId::new(now, app::random()?),
        text: &lines.join("\n"),
        at: now,
        is_posted: app.settings.operator_alert_url().is_some(),
        mails: &mails,
        origin: &app.origin,
    };
    alerts::put_checks(db, (before, now), changes, (!lines.is_empty()).then_some(&new)).await?;
    queue(app, &mails).await;
    Ok(())
}

const fn whole(kind: OperatorAlert, finding: Finding) -> Check {
    Check { kind, subject: String::new(), finding }
}

/// What cannot be read of the hour keeps no other check from being made.
async fn error_rate(db: &D1Database, now: UnixMillis) -> Check {
    let hour = hour_of(UnixMillis(now.0.saturating_sub(COPIED_MS).saturating_sub(HOUR_MS)));
    let finding = match alerts::hour_results(db, hour).await {
        Ok(found) => check_error_rate(hour, found.faults, found.answered),
        Err(fault) => {
            event(TelemetryKind::AlertFailed, &[TelemetryField::Cause(&fault)]);
            Finding::Unknown
        }
    };
    whole(OperatorAlert::ErrorRate, finding)
}

/// Endpoints of whose secrets their objects have found that no pepper opens them.
async fn lost_secrets(db: &D1Database) -> Check {
    let finding = match d1::endpoints::lost_secrets(db).await {
        Ok(LostSecrets { count, first: Some(first) }) => {
            let rule = "webhook endpoints whose secret no pepper of KEY_PEPPERS opens";
            Finding::Wrong(format!("{rule}: {count}, among them {first}"))
        }
        Ok(LostSecrets { first: None, .. }) => Finding::Well,
        Err(fault) => {
            event(TelemetryKind::AlertFailed, &[TelemetryField::Cause(&fault)]);
            Finding::Unknown
        }
    };
    whole(OperatorAlert::SecretsLost, finding)
}

fn sanctions(now: UnixMillis) -> Check {
    let finding = match list_freshness(isolate::sanctions().as_deref(), now) {
        ListFreshness::Current => Finding::Well,
        ListFreshness::Stale { days } => Finding::Wrong(format!("the list is {days} days old")),
        ListFreshness::Absent => Finding::Wrong("no list could be read".to_owned()),
    };
    whole(OperatorAlert::SanctionsStale, finding)
}

/// Whether a chain can be reached and our signers on it can pay. Balances of a chain that is not reached are unknown.
async fn check_chain(app: &App, network: &'static Network) -> (Vec<Check>, Vec<HeldBalance>) {
    let (head, _) = trace::fetch_head(&app.settings, network).await;
    let finding = match head {
        Some(_) => Finding::Well,
        None => Finding::Wrong("no provider reports its newest block".to_owned()),
    };
    let mut checks = vec![Check { kind: OperatorAlert::ChainUnreachable, subject: network.key.to_owned(), finding }];
    let mut balances = Vec::new();
    if network.settle.is_some() {
        for (signer, held) in signer_balance::read_balances(&app.settings, network, head.is_some()).await {
            let finding = check_balance(held, min_native_balance(network));
            if let Some(held) = held.filter(|held| *held > 0) {
                balances.push(HeldBalance { chain: network.key, signer: signer.to_string(), held });
            }
            checks.push(Check {
                kind: OperatorAlert::SignerLow,
                subject: format!("{} {signer}", network.key),
                finding,
            });
        }
    }
    (checks, balances)
}

/// What a signer holds on a chain, in the coin's smallest unit.
struct HeldBalance {
    chain: &'static str,
    signer: String,
    held: u128,
}

/// Stores what signers hold, and what they have spent since the check before.
async fn store_balances(db: &D1Database, balances: Vec<HeldBalance>, now: UnixMillis) -> Result<(), Fault> {
    let (today, yesterday) = (day_of(now), UnixMillis(day_of(now).0.saturating_sub(DAY_MS)));
    let known = operation::signer_balances(db, yesterday).await?;
    let row = |HeldBalance { chain, signer, held }: HeldBalance| {
        let own = || known.iter().filter(|row| row.chain == chain && row.signer == signer);
        let last = own().max_by_key(|row| row.at).map(|row| row.held);
        let so_far = own().find(|row| row.day == today).map(|row| SignerDay { held: row.held, spent: row.spent });
        let SignerDay { held, spent } = signers::checked(last, so_far, held);
        SignerBalanceRow { chain: chain.to_owned(), signer, day: today, held, spent, at: now }
    };
    let rows: Vec<SignerBalanceRow> = balances.into_iter().map(row).collect();
    operation::put_signer_balances(db, &rows).await
}
