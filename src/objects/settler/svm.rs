//! On Solana: our signature in its place, the same bytes again until they are
//! seen, or until their block hash is too old for them ever to be.

use super::books::budget;
use super::orders::Launch;
use super::store::Row;
use super::{ALARM_MS, LOOK_MAX, Landed, Settler, network_of, signer_of};
use crate::app;
use crate::app::App;
use crate::{rpc, telemetry};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use x402_chain::address::TxId;
use x402_chain::amount::Amount;
use x402_chain::confirm::{Basis, Decided};
use x402_chain::facts::{Call, Facts, Reply as Said, Unknown};
use x402_chain::reason::Reason;
use x402_chain::svm;
use x402_chain::svm::fee::fee;
use x402_chain::svm::wire::Wire;
use x402_core::error::Fault;
use x402_core::settlement::expiry::{Expiry, Word};
use x402_core::settlement::flight::{Ending, Kind, Version};
use x402_core::settlement::launch::{Aloft, Denied, beforehand, covered, paid_for, source, uncrowded};
use x402_core::settlement::refusal::Handed;
use x402_core::settlement::{Cargo, Flight, Report};
use x402_core::tenancy::budget::Spent;

/// Nodes drop what they cannot place at once, so that it must be sent again and again.
const RESEND_MS: u64 = 2_000;
/// Transactions that are sent at once.
const SEND_AT_ONCE: usize = 8;
/// Nobody waits longer for transactions to be sent again: whoever is waited for comes first.
const PUSH_MS: u64 = 5_000;

impl Settler {
    /// Signs, stores and sends. A report where nothing is to be sent.
    pub(super) async fn launch_svm(
        &self,
        app: &App,
        flight: &Flight,
        text: &str,
        launch: &Rc<Launch>,
    ) -> Result<Option<Report>, Fault> {
        if let Err(denied) = beforehand(flight, self.penalty(&flight.payer)?, app::now()) {
            return Ok(Some(denied.report(flight)));
        }
        let signer = signer_of(app, flight)?.svm();
        let signed = Wire::read(text).zip(signer).and_then(|(wire, signer)| wire.signed(signer));
        let signed = signed.ok_or_else(|| Fault::internal("the transaction could not be signed"))?;
        for is_last in [false, true] {
            let before = self.flying()?;
            if let Err(denied) = uncrowded(flight, before.iter().map(|(_, other)| other)) {
                return Ok(Some(denied.report(flight)));
            }
            let (observed, basis) = self.observed(app, flight, &before).await?;
            self.wake_by(app::now().plus(ALARM_MS)).await;
            // From here to the stored bytes nothing is awaited.
            if self.row(&flight.key())?.is_some() || !self.is_current(&flight.key(), launch) {
                return Ok(None);
            }
            match self.decide_svm(app, flight, observed, before)? {
                // What is in a block by now is no longer owed.
                Err(Denied::Balance) if !is_last => self.look_for_payer(app, &flight.payer).await?,
                Err(Denied::Balance) if basis == Basis::Unconfirmed => {
                    return Ok(Some(Denied::Unconfirmed.report(flight)));
                }
                Err(denied) => return Ok(Some(denied.report(flight))),
                Ok(until) => {
                    // Its block hash is at most as young as the newest one.
                    let (price, until, at) = (None, Some(until), app::now());
                    let (kind, handed) = (Kind::Transfer, Handed::Maybe);
                    let version = Version { raw: signed.raw, id: signed.id, price, until, at, kind, handed };
                    self.put_flight(flight, 0, version.clone())?;
                    if let Some(row) = self.row(&flight.key())? {
                        self.send_svm(app, &row, &version, true).await?;
                    }
                    return Ok(None);
                }
            }
        }
        Ok(Some(Denied::Balance.report(flight)))
    }

    /// What must be known to launch a flight, of one node in one round; a second is asked where the account is
    /// reported to hold too little.
    async fn observed(&self, app: &App, flight: &Flight, before: &[(String, Flight)]) -> Result<(First, Basis), Fault> {
        let network = network_of(flight)?;
        let (hash, holding) = (hash_call(), source(flight).map(|account| svm::holding_call(&account)));
        let rule = |facts: &Facts| {
            facts.have([Some(&hash), holding.as_ref()].into_iter().flatten())?;
            let until = last_valid(facts, &hash).ok_or_else(|| Unknown::nonsense("malformed_block_hash"))?;
            let Some(call) = &holding else { return Ok(Weighed((Some(until), None), false)) };
            let holds = svm::holding(facts, call).ok_or_else(|| Unknown::nonsense("malformed_balance"))?;
            // What cannot be read fails when the launch is decided on.
            let now = self.flying().unwrap_or_default();
            let known: BTreeMap<&str, &Flight> =
                before.iter().chain(&now).map(|(key, other)| (key.as_str(), other)).collect();
            let is_short = covered(flight, known.into_values(), Some(holds)) == Err(Denied::Balance);
            Ok(Weighed((Some(until), Some(holds)), is_short))
        };
        let decided = rpc::decide(network, &app.settings.providers(network), rule).await;
        Ok(decided.map_or(((None, None), Basis::Plain), |(Weighed(first, _), basis)| (first, basis)))
    }

    /// Whether the flight may be launched now, and the last block that can hold it. `before` is what was
    /// on its way before the chain was asked: the balance that was read may still hold what has moved since.
    fn decide_svm(
        &self,
        app: &App,
        flight: &Flight,
        (until, holds): First,
        before: Vec<(String, Flight)>,
    ) -> Result<Result<u64, Denied>, Fault> {
        let (network, spending, now) = (network_of(flight)?, self.spending()?, self.flying()?);
        let known: BTreeMap<String, Flight> = before.into_iter().chain(now.clone()).collect();
        let open = || now.iter().map(|(_, other)| other);
        let penalty = self.penalty(&flight.payer)?;
        Ok(beforehand(flight, penalty, app::now())
            .and_then(|()| uncrowded(flight, open()))
            .and_then(|()| covered(flight, known.values(), holds))
            .and_then(|()| {
                let aloft = Aloft::of(open(), flight, &spending, network);
                paid_for(flight, network, &spending, aloft, budget(&app.settings, network, flight))
            })
            .and_then(|()| until.ok_or(Denied::Unknown)))
    }

    /// Hands the bytes to the chain. What a node says against bytes that another has is no end: only the chain, or
    /// the height, ends them.
    async fn send_svm(&self, app: &App, row: &Row, version: &Version, fresh: bool) -> Result<(), Fault> {
        let network = network_of(&row.flight)?;
        self.note_sending(row, version.id, fresh)?;
        let options = json!({"encoding": "base64", "skipPreflight": true, "maxRetries": 0});
        let call = Call::new("sendTransaction", &json!([version.raw, options]));
        let (handing, words) = rpc::hand(network, &app.settings.providers(network), &call).await;
        if handing.handed != Handed::Taken {
            let fields = [("chain", network.key.into()), ("words", words.into())];
            telemetry::line("a transaction was refused", &fields);
        }
        self.note_sent(&row.key, version.id, handing.handed)
    }

    /// Which transactions are in a block that is confirmed, and how they came out
    /// there: all their instructions succeeded, the transfer among them, or none.
    pub(super) async fn landed_svm(&self, app: &App, rows: &[Row]) -> Result<Vec<Landed>, Fault> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let network = network_of(&first.flight)?;
        let fees = rows.iter().flat_map(|row| row.sent.versions.iter().map(|sent| (sent.id, spent(&row.flight))));
        let (ids, fees): (Vec<TxId>, Vec<Option<Spent>>) = fees.unzip();
        let call = statuses_call(&ids, false);
        let facts = rpc::call_all(network, &app.settings.providers(network), core::slice::from_ref(&call)).await;
        let statuses = statuses(&facts, &call, ids.len()).unwrap_or_default();
        let landed = ids.into_iter().zip(fees).zip(statuses);
        Ok(landed
            .filter_map(|((id, spent), status)| {
                let outcome = Some(status.filter(Status::is_confirmed)?.outcome());
                Some(Landed { id, outcome, spent })
            })
            .collect())
    }

    /// All that is on its way, once more; what can never arrive any more ends.
    pub(super) async fn push_all_svm(&self, app: &App) -> Result<(), Fault> {
        let now = app::now();
        if self.pushed_at.get().is_some_and(|at| now.since(at) < RESEND_MS) {
            return Ok(());
        }
        self.pushed_at.set(Some(now));
        let keys = self.open_keys()?;
        let turn = self.rotas.borrow_mut().push.next(keys, |key| self.is_awaited(key), LOOK_MAX);
        let mut due = self.open_rows(&turn);
        due.retain(|row| row.sent.newest().is_some_and(|version| now.since(version.at) >= RESEND_MS));
        let over = self.over(app, &due).await?;
        for rows in due.chunks(SEND_AT_ONCE) {
            if app::now().since(now) >= PUSH_MS {
                break;
            }
            join_all(rows.iter().map(|row| self.push_svm(app, row, over.contains(&row.key)))).await;
        }
        Ok(())
    }

    async fn push_svm(&self, app: &App, row: &Row, is_over: bool) {
        if let Err(fault) = self.push_one_svm(app, row, is_over).await {
            self.stuck(&row.key, &fault);
        }
    }

    async fn push_one_svm(&self, app: &App, row: &Row, is_over: bool) -> Result<(), Fault> {
        // It may be on its way to a node since the row was read, or have ended.
        let Some(row) = self.open_row(&row.key)? else { return Ok(()) };
        let Some(version) = row.sent.newest() else { return Ok(()) };
        if row.sent.is_unwanted(app::now()) {
            let ending = Ending::unhanded(&row.flight, app::now());
            return self.end(&row.key, &Report::of(&row.flight, &row.sent, None, ending));
        }
        if is_over {
            let message = "the block hash expired before the transaction was taken: it can never be";
            let ending = Ending::failed(Reason::SvmFailed, message);
            return self.end(&row.key, &Report::of(&row.flight, &row.sent, Some(version.id), ending));
        }
        self.send_svm(app, &row, version, false).await
    }

    /// Which flights the chain has gone past the last block of that could hold them, for good, without them: on two
    /// nodes' word where there are two. A height is finalized some ten seconds after the node has seen all that its
    /// block holds.
    async fn over(&self, app: &App, rows: &[Row]) -> Result<BTreeSet<String>, Fault> {
        let Some(first) = rows.first() else { return Ok(BTreeSet::new()) };
        let network = network_of(&first.flight)?;
        let newest: Vec<(&Row, &Version)> = rows.iter().filter_map(|row| Some((row, row.sent.newest()?))).collect();
        let ids: Vec<TxId> = newest.iter().map(|(_, version)| version.id).collect();
        let height = Call::new("getBlockHeight", &json!([{"commitment": "finalized"}]));
        let known = statuses_call(&ids, true);
        let providers = app.settings.providers(network);
        let expiry = RefCell::new(Expiry::new(newest.len(), providers.len()));
        let hear = |facts: &Facts| {
            let height = match facts.get(&height) {
                Some(Said::Value(value)) => value.get().parse::<u64>().ok(),
                Some(Said::Error(_)) | None => None,
            };
            let statuses = statuses(facts, &known, ids.len());
            let words = newest.iter().enumerate().map(|(at, (_, version))| {
                let is_known = statuses.as_ref().and_then(|all| all.get(at)).map(Option::is_some);
                Word::of(height, version.until, is_known)
            });
            expiry.borrow_mut().hear(words)
        };
        rpc::call_until(network, &providers, &[height.clone(), known.clone()], hear).await;
        let over = newest.iter().zip(expiry.into_inner().verdicts()).filter(|(_, is_over)| *is_over);
        Ok(over.map(|((row, _), _)| row.key.clone()).collect())
    }
}

/// What a flight's transaction takes, whether it succeeds or fails.
fn spent(flight: &Flight) -> Option<Spent> {
    match &flight.cargo {
        Cargo::Svm(text) => Wire::read(text).map(|wire| Spent { total: fee(&wire).into(), l1_fee: 0 }),
        Cargo::Evm(_) => None,
    }
}

/// What a node answers before a launch: the last block that can hold what names today's newest block hash, and what
/// the account holds that the payment is taken from.
type First = (Option<u64>, Option<Amount>);

/// The same, and whether that is too little.
struct Weighed(First, bool);

impl Decided for Weighed {
    type Refusal = ();

    fn refusal(&self) -> Option<()> {
        self.1.then_some(())
    }
}

fn hash_call() -> Call {
    Call::new("getLatestBlockhash", &json!([{"commitment": "confirmed"}]))
}

fn last_valid(facts: &Facts, call: &Call) -> Option<u64> {
    #[derive(Deserialize)]
    struct Answer {
        value: Value,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Value {
        last_valid_block_height: u64,
    }
    let Some(Said::Value(value)) = facts.get(call) else { return None };
    serde_json::from_str::<Answer>(value.get()).ok().map(|answer| answer.value.last_valid_block_height)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    confirmation_status: Option<String>,
    // Required: a status that does not say is none.
    #[serde(deserialize_with = "Deserialize::deserialize")]
    err: Option<serde_json::Value>,
}

impl Status {
    fn outcome(&self) -> Result<(), String> {
        match &self.err {
            None => Ok(()),
            Some(error) => Err(svm::failure(error)),
        }
    }

    fn is_confirmed(&self) -> bool {
        matches!(self.confirmation_status.as_deref(), Some("confirmed" | "finalized"))
    }
}

fn statuses_call(ids: &[TxId], history: bool) -> Call {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    Call::new("getSignatureStatuses", &json!([ids, {"searchTransactionHistory": history}]))
}

/// As many as were asked for, or nothing.
fn statuses(facts: &Facts, call: &Call, asked: usize) -> Option<Vec<Option<Status>>> {
    #[derive(Deserialize)]
    struct Answer {
        value: Vec<Option<Status>>,
    }
    let Some(Said::Value(value)) = facts.get(call) else { return None };
    let answer: Answer = serde_json::from_str(value.get()).ok()?;
    (answer.value.len() == asked).then_some(answer.value)
}
