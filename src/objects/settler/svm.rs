//! Solana flights: our signature is added as fee payer, and the same bytes are sent until the transaction is in a block
//! or its block hash has expired.

use super::flight_end::signer_budget;
use super::orders::LaunchState;
use super::store::FlightRow;
use super::{ALARM_MS, LandedTransaction, POLL_MAX, Settler, network_of, signer_of};
use crate::app;
use crate::app::App;
use crate::rpc;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use x402_chain::address::TxId;
use x402_chain::amount::Amount;
use x402_chain::collect::{map_of, set_of};
use x402_chain::confirm::{StateDecision, VerdictBasis};
use x402_chain::facts::{Call, Facts, RpcReply, Undecided};
use x402_chain::reason::Reason;
use x402_chain::svm;
use x402_chain::svm::fee::fee_lamports;
use x402_chain::svm::wire::SvmTransaction;
use x402_core::error::Fault;
use x402_core::settlement::expiry::{ExpiryAnswer, ExpiryVote};
use x402_core::settlement::flight::{FlightEnding, FlightVersion, VersionKind};
use x402_core::settlement::launch::{
    InFlightTotals, LaunchDenial, check_account_balance, check_before_chain, check_daily_budget, check_payer_crowd,
    source_account,
};
use x402_core::settlement::refusal::NodeAcceptance;
use x402_core::settlement::{Flight, FlightPayload, SettlementReport};
use x402_core::tenancy::budget::TransactionCost;

/// Nodes drop a transaction that they cannot place at once, so it is sent this often.
const RESEND_MS: u64 = 2_000;
/// Transactions sent at the same time.
const SEND_AT_ONCE: usize = 8;
/// The longest a transaction waits to be sent again; those with a waiting caller come first.
const RESEND_TURN_MS: u64 = 5_000;

impl Settler {
    /// Signs, stores and sends, unless the flight was launched already. The inner error says why nothing is sent.
    pub(super) async fn launch_svm(
        &self,
        app: &App,
        flight: &Flight,
        text: &str,
        launch: &Rc<LaunchState>,
    ) -> Result<Result<(), LaunchDenial>, Fault> {
        if let Err(denied) = check_before_chain(flight, self.penalty(&flight.payer)?, app::now()) {
            return Ok(Err(denied));
        }
        let signer = signer_of(app, flight)?.svm();
        let signed = SvmTransaction::read(text).zip(signer).and_then(|(wire, signer)| wire.sign(signer));
        let signed = signed.ok_or_else(|| Fault::internal("the transaction could not be signed"))?;
        for is_last in [false, true] {
            let before = self.flights_in_flight()?;
            if let Err(denied) = check_payer_crowd(flight, before.iter().map(|(_, other)| other)) {
                return Ok(Err(denied));
            }
            let (observed, basis) = self.observe_launch(app, flight, &before).await?;
            self.wake_by(app::now().plus(ALARM_MS)).await;
            // Nothing is awaited from here until the bytes are stored.
            if self.flight_row(&flight.key())?.is_some() || !self.is_current_launch(&flight.key(), launch) {
                return Ok(Ok(()));
            }
            match self.decide_svm(app, flight, observed, before)? {
                // Payments in a block by now are no longer owed.
                Err(LaunchDenial::Balance) if !is_last => self.poll_payer_flights(app, &flight.payer).await?,
                Err(LaunchDenial::Balance) if basis == VerdictBasis::Unconfirmed => {
                    return Ok(Err(LaunchDenial::Unconfirmed));
                }
                Err(denied) => return Ok(Err(denied)),
                Ok(until) => {
                    // Its block hash is at most as recent as the newest one.
                    let (price, until, at) = (None, Some(until), app::now());
                    let (kind, handed) = (VersionKind::Transfer, NodeAcceptance::Maybe);
                    let version = FlightVersion { raw: signed.raw, id: signed.id, price, until, at, kind, handed };
                    self.put_flight(flight, 0, version.clone())?;
                    if let Some(row) = self.flight_row(&flight.key())? {
                        self.send_svm(app, &row, &version, true).await?;
                    }
                    return Ok(Ok(()));
                }
            }
        }
        Ok(Err(LaunchDenial::Balance))
    }

    /// Reads what a launch needs, from one node in one round; a second node is asked where the first reports that the
    /// balance is too low.
    async fn observe_launch(
        &self,
        app: &App,
        flight: &Flight,
        before: &[(String, Flight)],
    ) -> Result<(BlockhashAndBalance, VerdictBasis), Fault> {
        let network = network_of(flight)?;
        let (hash, holding) =
            (blockhash_call(), source_account(flight).map(|account| svm::token_balance_call(&account)));
        let rule = |facts: &Facts| {
            facts.require([Some(&hash), holding.as_ref()].into_iter().flatten())?;
            let until = last_valid_height(facts, &hash).ok_or_else(|| Undecided::malformed("malformed_block_hash"))?;
            let Some(call) = &holding else { return Ok(WeighedLaunch((Some(until), None), false)) };
            let holds =
                svm::read_token_balance(facts, call).ok_or_else(|| Undecided::malformed("malformed_balance"))?;
            // What could not be read is refused when the launch is decided.
            let now = self.flights_in_flight().unwrap_or_default();
            let known = map_of(before.iter().chain(&now).map(|(key, other)| (key.as_str(), other)));
            let is_short =
                check_account_balance(flight, known.into_values(), Some(holds)) == Err(LaunchDenial::Balance);
            Ok(WeighedLaunch((Some(until), Some(holds)), is_short))
        };
        let decided = rpc::decide_by_providers(network, &app.settings.providers(network), None, rule).await;
        Ok(decided.map_or(((None, None), VerdictBasis::Definite), |(WeighedLaunch(first, _), basis)| (first, basis)))
    }

    /// Whether the flight may be launched now, and the last block that can hold it. `before` are the flights before the
    /// chain was asked: the balance that was read may not yet lack what has moved since.
    fn decide_svm(
        &self,
        app: &App,
        flight: &Flight,
        (until, holds): BlockhashAndBalance,
        before: Vec<(String, Flight)>,
    ) -> Result<Result<u64, LaunchDenial>, Fault> {
        let (network, spending, now) = (network_of(flight)?, self.spending()?, self.flights_in_flight()?);
        let known = map_of(before.into_iter().chain(now.clone()));
        let open = || now.iter().map(|(_, other)| other);
        let penalty = self.penalty(&flight.payer)?;
        Ok(check_before_chain(flight, penalty, app::now())
            .and_then(|()| check_payer_crowd(flight, open()))
            .and_then(|()| check_account_balance(flight, known.values(), holds))
            .and_then(|()| {
                let aloft = InFlightTotals::of(open(), flight, &spending, network);
                check_daily_budget(flight, network, &spending, aloft, signer_budget(&app.settings, network, flight))
            })
            .and_then(|()| until.ok_or(LaunchDenial::Unknown)))
    }

    /// Sends the bytes. A node's refusal of bytes that another node has ends nothing: only a block or the expiry does.
    async fn send_svm(&self, app: &App, row: &FlightRow, version: &FlightVersion, fresh: bool) -> Result<(), Fault> {
        let network = network_of(&row.flight)?;
        self.note_sending(row, version.id, fresh)?;
        let options = json!({"encoding": "base64", "skipPreflight": true, "maxRetries": 0});
        let call = Call::new("sendTransaction", &json!([version.raw, options]));
        let (handing, words) = rpc::send_bytes(network, &app.settings.providers(network), &call).await;
        if handing.acceptance != NodeAcceptance::Taken {
            event(TelemetryKind::TransactionRefused, &[TelemetryField::Chain(network), TelemetryField::Words(words)]);
        }
        self.note_sent(&row.key, version.id, handing.acceptance)
    }

    /// Which transactions are in a confirmed block, and their results: either all instructions succeeded, with the
    /// transfer, or none.
    pub(super) async fn landed_svm(&self, app: &App, rows: &[FlightRow]) -> Result<Vec<LandedTransaction>, Fault> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let network = network_of(&first.flight)?;
        let fees = rows.iter().flat_map(|row| row.sent.versions.iter().map(|sent| (sent.id, cost_of(&row.flight))));
        let (ids, fees): (Vec<TxId>, Vec<Option<TransactionCost>>) = fees.unzip();
        let call = statuses_call(&ids, false);
        let facts = rpc::call_all(network, &app.settings.providers(network), core::slice::from_ref(&call)).await;
        let statuses = read_statuses(&facts, &call, ids.len()).unwrap_or_default();
        let landed = ids.into_iter().zip(fees).zip(statuses);
        Ok(landed
            .filter_map(|((id, spent), status)| {
                let outcome = Some(status.filter(SvmSignatureStatus::is_confirmed)?.outcome());
                Some(LandedTransaction { id, outcome, spent })
            })
            .collect())
    }

    /// Sends all open flights once more; ends those that have expired.
    pub(super) async fn resend_all_svm(&self, app: &App) -> Result<(), Fault> {
        let now = app::now();
        if self.resent_at.get().is_some_and(|at| now.since(at) < RESEND_MS) {
            return Ok(());
        }
        self.resent_at.set(Some(now));
        let keys = self.open_keys()?;
        let turn = self.turns.borrow_mut().resend.next_turn(keys, |key| self.is_awaited(key), POLL_MAX);
        let mut due = self.open_rows(&turn);
        due.retain(|row| row.sent.newest().is_some_and(|version| now.since(version.at) >= RESEND_MS));
        let over = self.expired_flights(app, &due).await?;
        for rows in due.chunks(SEND_AT_ONCE) {
            if app::now().since(now) >= RESEND_TURN_MS {
                break;
            }
            join_all(rows.iter().map(|row| self.resend_svm_or_note(app, row, over.contains(&row.key)))).await;
        }
        Ok(())
    }

    async fn resend_svm_or_note(&self, app: &App, row: &FlightRow, is_over: bool) {
        if let Err(fault) = self.resend_svm(app, row, is_over).await {
            self.note_stuck(&row.key, &fault);
        }
    }

    async fn resend_svm(&self, app: &App, row: &FlightRow, is_over: bool) -> Result<(), Fault> {
        // It may have been sent since the row was read, or have ended.
        let Some(row) = self.open_flight_row(&row.key)? else { return Ok(()) };
        let Some(version) = row.sent.newest() else { return Ok(()) };
        if row.sent.is_abandoned(app::now()) {
            let ending = FlightEnding::never_accepted(&row.flight, app::now());
            return self.end_flight(&row.key, &SettlementReport::of(&row.flight, &row.sent, None, ending));
        }
        if is_over {
            let message = "the block hash expired before the transaction was mined: it can no longer be mined";
            let ending = FlightEnding::failed(Reason::SvmFailed, message);
            return self.end_flight(&row.key, &SettlementReport::of(&row.flight, &row.sent, Some(version.id), ending));
        }
        self.send_svm(app, &row, version, false).await
    }

    /// Flights that can no longer be mined: the finalized height is past their last valid block, and no node knows
    /// them; two nodes must report it where two are configured. A height is finalized some ten seconds after the node
    /// has seen everything in its block.
    async fn expired_flights(&self, app: &App, rows: &[FlightRow]) -> Result<BTreeSet<String>, Fault> {
        let Some(first) = rows.first() else { return Ok(BTreeSet::new()) };
        let network = network_of(&first.flight)?;
        let newest: Vec<(&FlightRow, &FlightVersion)> =
            rows.iter().filter_map(|row| Some((row, row.sent.newest()?))).collect();
        let ids: Vec<TxId> = newest.iter().map(|(_, version)| version.id).collect();
        let height = Call::new("getBlockHeight", &json!([{"commitment": "finalized"}]));
        let known = statuses_call(&ids, true);
        let providers = app.settings.providers(network);
        let expiry = RefCell::new(ExpiryVote::new(newest.len(), providers.len()));
        let hear = |facts: &Facts| {
            let height = match facts.get(&height) {
                Some(RpcReply::Value(value)) => value.get().parse::<u64>().ok(),
                Some(RpcReply::Error(_)) | None => None,
            };
            let statuses = read_statuses(facts, &known, ids.len());
            let words = newest.iter().enumerate().map(|(at, (_, version))| {
                let is_known = statuses.as_ref().and_then(|all| all.get(at)).map(Option::is_some);
                ExpiryAnswer::of(height, version.until, is_known)
            });
            expiry.borrow_mut().count_answers(words)
        };
        rpc::call_until(network, &providers, &[height.clone(), known.clone()], hear).await;
        let over = newest.iter().zip(expiry.into_inner().expired()).filter(|(_, is_over)| *is_over);
        Ok(set_of(over.map(|((row, _), _)| row.key.clone())))
    }
}

/// The fee of a flight's transaction, which is taken on success and on failure.
fn cost_of(flight: &Flight) -> Option<TransactionCost> {
    match &flight.cargo {
        FlightPayload::Svm(text) => {
            SvmTransaction::read(text).map(|wire| TransactionCost { total: fee_lamports(&wire).into(), l1_fee: 0 })
        }
        FlightPayload::Evm(_) => None,
    }
}

/// A node's answers before a launch: the last block valid for the newest block hash, and the balance of the account
/// that pays.
type BlockhashAndBalance = (Option<u64>, Option<Amount>);

/// The same answers, and whether the balance is too low.
struct WeighedLaunch(BlockhashAndBalance, bool);

impl StateDecision for WeighedLaunch {
    type Refusal = ();

    fn refusal(&self) -> Option<()> {
        self.1.then_some(())
    }
}

fn blockhash_call() -> Call {
    Call::new("getLatestBlockhash", &json!([{"commitment": "confirmed"}]))
}

fn last_valid_height(facts: &Facts, call: &Call) -> Option<u64> {
    #[derive(Deserialize)]
    struct BlockhashResult {
        value: BlockhashValue,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct BlockhashValue {
        last_valid_block_height: u64,
    }
    let Some(RpcReply::Value(value)) = facts.get(call) else { return None };
    serde_json::from_str::<BlockhashResult>(value.get()).ok().map(|answer| answer.value.last_valid_block_height)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SvmSignatureStatus {
    confirmation_status: Option<String>,
    // Required: a status without it does not count.
    #[serde(deserialize_with = "Deserialize::deserialize")]
    err: Option<serde_json::Value>,
}

impl SvmSignatureStatus {
    fn outcome(&self) -> Result<(), String> {
        match &self.err {
            None => Ok(()),
            Some(error) => Err(svm::failure_text(error)),
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

/// As many entries as were asked for, or `None`.
fn read_statuses(facts: &Facts, call: &Call, asked: usize) -> Option<Vec<Option<SvmSignatureStatus>>> {
    #[derive(Deserialize)]
    struct StatusesResult {
        value: Vec<Option<SvmSignatureStatus>>,
    }
    let Some(RpcReply::Value(value)) = facts.get(call) else { return None };
    let answer: StatusesResult = serde_json::from_str(value.get()).ok()?;
    (answer.value.len() == asked).then_some(answer.value)
}
