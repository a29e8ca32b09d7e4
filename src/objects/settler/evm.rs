//! EVM flights: a nonce and a price for each transaction, a higher price under the same nonce where the first was too
//! low, and after the authorization has expired a transaction that only takes the nonce.

use super::flight_end::signer_budget;
use super::orders::LaunchState;
use super::quote::quote_price_and_nonce;
use super::store::FlightRow;
use super::{ADVANCE_MAX, ALARM_MS, LandedTransaction, POLL_CALLS_MAX, POLL_MAX, Settler, network_of, signer_of};
use crate::app;
use crate::app::App;
use crate::rpc;
use crate::rpc::third_party;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use std::rc::Rc;
use x402_chain::address::{Address, TxId};
use x402_chain::collect::map_of;
use x402_chain::confirm::VerdictBasis;
use x402_chain::evm::sender::GasPrice;
use x402_chain::evm::tx;
use x402_chain::evm::tx::ContractCall;
use x402_chain::facts::Call;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::signer::EvmSigner;
use x402_core::error::Fault;
use x402_core::settlement::flight;
use x402_core::settlement::flight::{
    FlightEnding, FlightStep, FlightVersion, VersionKind, cancel_cap_wei, cap_price, replacement_price,
};
use x402_core::settlement::launch;
use x402_core::settlement::launch::{InFlightTotals, LaunchDenial, LaunchFacts};
use x402_core::settlement::plan::UNFUNDED_MESSAGE;
use x402_core::settlement::quote::NonceCount;
use x402_core::settlement::refusal::{NodeAcceptance, SendOutcome, SendRefusal};
use x402_core::settlement::{Flight, FlightPayload};
use x402_core::tenancy::budget::TransactionCost;

/// The most versions sent in one turn: the first, and one at the market's new price.
const SENDS_MAX: usize = 4;

/// The first version of a flight, or why it is not launched; neither where the flight exists already.
type FirstVersion = Result<Option<FlightVersion>, LaunchDenial>;

impl Settler {
    /// Takes a nonce, signs, stores and sends, unless the flight was launched already. The inner error says why nothing
    /// is sent.
    pub(super) async fn launch_evm(
        &self,
        app: &App,
        flight: &Flight,
        message: &ContractCall,
        launch: &Rc<LaunchState>,
    ) -> Result<Result<(), LaunchDenial>, Fault> {
        match self.store_first_version(app, flight, message, launch).await? {
            Err(denied) => return Ok(Err(denied)),
            Ok(None) => {}
            Ok(Some(version)) => self.send_evm(app, &flight.key(), version, true).await?,
        }
        Ok(Ok(()))
    }

    /// Reads the chain, decides, and stores the first version.
    async fn store_first_version(
        &self,
        app: &App,
        flight: &Flight,
        message: &ContractCall,
        launch: &Rc<LaunchState>,
    ) -> Result<FirstVersion, Fault> {
        let penalty = self.penalty(&flight.payer)?;
        if let Err(denied) = launch::check_before_chain(flight, penalty, app::now()) {
            return Ok(Err(denied));
        }
        for is_last in [false, true] {
            let (before, launched) = (self.flights_in_flight()?, self.launched.get());
            let (observed, basis) = self.quote_launch(app, flight, &before).await?;
            self.wake_by(app::now().plus(ALARM_MS)).await;
            // Nothing is awaited from here until the bytes are stored, so that each nonce has one flight.
            if self.flight_row(&flight.key())?.is_some() || !self.is_current_launch(&flight.key(), launch) {
                return Ok(Ok(None));
            }
            // A row that cannot be read has used its nonce too.
            let idle = before.is_empty() && self.launched.get() == launched && self.open_keys()?.is_empty();
            match self.decide_launch(app, flight, observed, before)? {
                // Payments mined meanwhile are no longer owed.
                Err(LaunchDenial::Balance) if !is_last => self.poll_payer_flights(app, &flight.payer).await?,
                Err(LaunchDenial::Balance) if basis == VerdictBasis::Unconfirmed => {
                    return Ok(Err(LaunchDenial::Unconfirmed));
                }
                Err(denied) => return Ok(Err(denied)),
                Ok((chain, price)) => {
                    let version = self.sign_first_version(app, flight, message, (chain, idle, price))?;
                    return Ok(Ok(Some(version)));
                }
            }
        }
        Ok(Err(LaunchDenial::Balance))
    }

    /// Whether the flight may be launched now. `before` are the flights before the chain was asked: the balance that
    /// was read may not yet lack what was mined since.
    fn decide_launch(
        &self,
        app: &App,
        flight: &Flight,
        observed: LaunchFacts,
        before: Vec<(String, Flight)>,
    ) -> Result<Result<(u64, GasPrice), LaunchDenial>, Fault> {
        let (network, spending, now) = (network_of(flight)?, self.spending()?, self.flights_in_flight()?);
        let known = map_of(before.into_iter().chain(now.clone()));
        let owed = InFlightTotals::of(known.values(), flight, &spending, network).owed;
        let aloft = InFlightTotals {
            owed,
            ..InFlightTotals::of(now.iter().map(|(_, other)| other), flight, &spending, network)
        };
        let penalty = self.penalty(&flight.payer)?;
        Ok(launch::check_before_chain(flight, penalty, app::now())
            .and_then(|()| launch::check_with_chain(flight, network, observed, aloft))
            .and_then(|launched| {
                let budget = signer_budget(&app.settings, network, flight);
                launch::check_daily_budget(flight, network, &spending, aloft, budget).map(|()| launched)
            }))
    }

    fn sign_first_version(
        &self,
        app: &App,
        flight: &Flight,
        message: &ContractCall,
        (chain, idle, price): (u64, bool, GasPrice),
    ) -> Result<FlightVersion, Fault> {
        self.sqlite().atomically(|| {
            let mut nonces = self.nonces()?;
            let nonce = nonces.take_next(chain, idle);
            let version = sign_version(app, flight, (message, VersionKind::Transfer), nonce, price)?;
            self.put_nonces(&nonces)?;
            self.put_flight(flight, nonce, version.clone())?;
            Ok(version)
        })
    }

    /// Polls the open flights of a payer.
    pub(super) async fn poll_payer_flights(&self, app: &App, payer: &Address) -> Result<(), Fault> {
        let flying = self.flights_in_flight()?.into_iter().filter(|(_, flight)| flight.payer == *payer);
        let keys: Vec<String> = flying.map(|(key, _)| key).take(ADVANCE_MAX).collect();
        for batch in keys.chunks(POLL_MAX) {
            self.poll_flights(app, &self.open_rows(batch)).await?;
        }
        Ok(())
    }

    /// Sends a version, and acts on a refusal in the same turn. `fresh`: it was signed in this turn, so no node can
    /// have it yet.
    pub(super) async fn send_evm(
        &self,
        app: &App,
        key: &str,
        version: FlightVersion,
        fresh: bool,
    ) -> Result<(), Fault> {
        let (mut version, mut fresh) = (version, fresh);
        for _ in 0..SENDS_MAX {
            let Some(row) = self.open_flight_row(key)? else { return Ok(()) };
            // A version that the chain cannot accept any more is not sent.
            if version.kind == VersionKind::Transfer && row.flight.is_expired(app::now()) {
                self.note_sending(&row, version.id, fresh)?;
                return self.note_sent(key, version.id, NodeAcceptance::No);
            }
            let handing = self.send_version(app, &row, &version, fresh).await?;
            let Some(row) = self.open_flight_row(key)? else { return Ok(()) };
            let next = match handing.refusal {
                // Another transaction waits under the nonce.
                Some(SendRefusal::Outbid) if !row.sent.may_be_accepted() => {
                    self.sign_replacement(app, &row, version.kind).await?
                }
                None | Some(SendRefusal::Known | SendRefusal::Node | SendRefusal::Unclear | SendRefusal::Outbid) => {
                    None
                }
                Some(SendRefusal::NonceUsed) => self.sign_with_new_nonce(app, &row).await?,
                Some(SendRefusal::SignerUnfunded) => {
                    self.end_unfunded(&row, UNFUNDED_MESSAGE, true)?;
                    None
                }
                Some(SendRefusal::BelowMarket) => self.sign_replacement(app, &row, version.kind).await?,
                Some(SendRefusal::GasTooLow) => {
                    self.measure_transfer_gas(app, &row.flight).await?;
                    let cancels = version.kind == VersionKind::Cancel;
                    if cancels { self.sign_replacement(app, &row, VersionKind::Cancel).await? } else { None }
                }
            };
            let Some(next) = next else { return Ok(()) };
            (version, fresh) = (next, true);
        }
        Ok(())
    }

    /// Sends a version and notes the result.
    async fn send_version(
        &self,
        app: &App,
        row: &FlightRow,
        version: &FlightVersion,
        fresh: bool,
    ) -> Result<SendOutcome, Fault> {
        let network = network_of(&row.flight)?;
        self.note_sending(row, version.id, fresh)?;
        let call = tx::send_call(&version.raw);
        let (handing, words) = rpc::send_bytes(network, &app.settings.providers(network), &call).await;
        if handing.acceptance != NodeAcceptance::Taken {
            event(TelemetryKind::TransactionRefused, &[TelemetryField::Chain(network), TelemetryField::Words(words)]);
        }
        self.note_sent(&row.key, version.id, handing.acceptance)?;
        Ok(handing)
    }

    /// Ends a flight that cannot be paid for, if no node has any version of it; otherwise the flight goes on.
    fn end_unfunded(&self, row: &FlightRow, message: &str, poor: bool) -> Result<(), Fault> {
        if row.sent.may_be_accepted() {
            return Ok(());
        }
        let reason = if poor { Reason::EvmRelayerPoor } else { Reason::UnexpectedSettle };
        self.end_never_accepted(row, FlightEnding::failed(reason, message), poor)
    }

    /// Signs and stores a version that replaces the newest, at the market's price or an eighth more, whichever is
    /// higher. `None` where the authorization has expired or the cap is reached.
    async fn sign_replacement(
        &self,
        app: &App,
        row: &FlightRow,
        kind: VersionKind,
    ) -> Result<Option<FlightVersion>, Fault> {
        let network = network_of(&row.flight)?;
        let signer = match evm_signer(app, &row.flight) {
            Ok(signer) => signer,
            // A version that was signed before is sent as it is.
            Err(fault) => {
                self.note_stuck(&row.key, &fault);
                return Ok(None);
            }
        };
        let observed = quote_price_and_nonce(app, &row.flight, NonceCount::Pending).await?;
        let Some(row) = self.open_flight_row(&row.key)? else { return Ok(None) };
        let Some(newest) = row.sent.newest() else { return Ok(None) };
        if kind == VersionKind::Transfer && (newest.kind == VersionKind::Cancel || row.flight.is_expired(app::now())) {
            return Ok(None);
        }
        let nothing = tx::empty_transfer(signer.address(), self.transfer_gas()?);
        let (message, cap) = match kind {
            VersionKind::Transfer => (contract_call_of(&row.flight)?, row.flight.cap_wei(network)),
            VersionKind::Cancel => (&nothing, cancel_cap_wei(&row.flight, network, nothing.gas_limit)),
        };
        let Some(price) = newest.price.and_then(|newest| replacement_price(newest, observed.price, cap)) else {
            event(TelemetryKind::PriceAboveCap, &[TelemetryField::Chain(network)]);
            self.end_unfunded(&row, "the gas price on this network exceeds this service's cap at present", false)?;
            return Ok(None);
        };
        let version = sign_version(app, &row.flight, (message, kind), row.nonce, price)?;
        self.put_version(&row, row.nonce, &version)?;
        Ok(Some(version))
    }

    /// Another transaction has used the nonce: none of our versions can be mined, unless one was. A version under a new
    /// nonce follows, if the authorization is still valid.
    async fn sign_with_new_nonce(&self, app: &App, row: &FlightRow) -> Result<Option<FlightVersion>, Fault> {
        self.poll_flights(app, core::slice::from_ref(row)).await?;
        let network = network_of(&row.flight)?;
        let observed = quote_price_and_nonce(app, &row.flight, NonceCount::Pending).await?;
        let Some(mut row) = self.open_flight_row(&row.key)? else { return Ok(None) };
        let Some(newest) = row.sent.newest() else { return Ok(None) };
        // A version is in a block, and its result is not known yet.
        if self.deferred.borrow().contains_key(&row.key) {
            return Ok(None);
        }
        if newest.kind == VersionKind::Cancel || row.flight.is_expired(app::now()) {
            if flight::is_nonce_lost(&row.sent, app::now()) {
                let id = row.sent.transfer().map_or(newest.id, |version| version.id);
                // After a block past its expiry, an unused authorization can never be used.
                let end = row.flight.valid_before;
                let block = match end {
                    Some(end) => third_party::block_at_or_after(app, network, end).await,
                    None => None,
                };
                self.conclude_flight(app, &row, (id, FlightEnding::expired()), (block, None)).await?;
            } else if row.sent.lost_at.is_none() {
                row.sent.lost_at = Some(app::now());
                self.put_sent(&row.key, row.nonce, &row.sent)?;
            }
            return Ok(None);
        }
        let (Some(price), Some(chain)) = (observed.price, observed.nonce.filter(|chain| *chain > row.nonce)) else {
            return Ok(None);
        };
        let price = cap_price(price, row.flight.cap_wei(network));
        let db = self.sqlite();
        db.atomically(|| {
            let mut nonces = self.nonces()?;
            let nonce = nonces.take_next(chain, false);
            let version =
                sign_version(app, &row.flight, (contract_call_of(&row.flight)?, VersionKind::Transfer), nonce, price)?;
            self.put_nonces(&nonces)?;
            self.put_version(&row, nonce, &version)?;
            Ok(Some(version))
        })
    }

    /// Which versions are in a block, and what they cost; of many versions, those whose turn it is.
    pub(super) async fn landed_evm(&self, app: &App, rows: &[FlightRow]) -> Result<Vec<LandedTransaction>, Fault> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let network = network_of(&first.flight)?;
        let flights: Vec<(&str, usize)> = rows.iter().map(|row| (row.key.as_str(), row.sent.versions.len())).collect();
        let turn = self.turns.borrow_mut().versions.next_turn(&flights, POLL_CALLS_MAX);
        let asked = |(row, turn): (&FlightRow, Vec<usize>)| -> Vec<(TxId, Call, (u64, GasPrice))> {
            let most = |version: &FlightVersion| {
                let price = version.price.unwrap_or(GasPrice { max_wei: row.flight.cap_wei(network), tip_wei: 0 });
                (row.flight.gas_limit(), price)
            };
            let versions = turn.into_iter().filter_map(|at| row.sent.versions.get(at));
            versions.map(|sent| (sent.id, tx::receipt_call(&sent.id), most(sent))).collect()
        };
        let asked: Vec<_> = rows.iter().zip(turn).flat_map(asked).collect();
        let calls: Vec<Call> = asked.iter().map(|(_, call, _)| call.clone()).collect();
        let facts = rpc::call_all(network, &app.settings.providers(network), &calls).await;
        let landed = asked.into_iter().filter_map(|(id, call, most)| {
            let (total, l1_fee) = tx::read_cost(&facts, &call, most)?;
            Some(LandedTransaction { id, outcome: None, spent: Some(TransactionCost { total, l1_fee }) })
        });
        Ok(landed.collect())
    }

    /// Advances a flight without a receipt: sends the same bytes again, later at a higher price, and takes its nonce
    /// after the authorization has expired.
    pub(super) async fn advance_evm(&self, app: &App, row: &FlightRow) -> Result<(), Fault> {
        let Some(newest) = row.sent.newest() else { return Ok(()) };
        let kind = match flight::next_flight_step(&row.flight, &row.sent, app::now()) {
            FlightStep::Wait => return Ok(()),
            FlightStep::End => {
                return self.end_never_accepted(row, FlightEnding::never_accepted(&row.flight, app::now()), false);
            }
            FlightStep::Resend if !is_newest_outpriced(app, row).await? => {
                return self.send_evm(app, &row.key, newest.clone(), false).await;
            }
            FlightStep::Resend => newest.kind,
            FlightStep::Bump => VersionKind::Transfer,
            FlightStep::Cancel => VersionKind::Cancel,
        };
        match self.sign_replacement(app, row, kind).await? {
            Some(version) => self.send_evm(app, &row.key, version, true).await,
            // The nodes that had the newest version may have dropped it. A version that came too late is not sent
            // again.
            None if kind == newest.kind && (kind == VersionKind::Cancel || !row.flight.is_expired(app::now())) => {
                self.send_evm(app, &row.key, newest.clone(), false).await
            }
            None => Ok(()),
        }
    }
}

/// Whether the newest version's price is below the market.
async fn is_newest_outpriced(app: &App, row: &FlightRow) -> Result<bool, Fault> {
    let newest = row.sent.newest().and_then(|version| version.price);
    let today = quote_price_and_nonce(app, &row.flight, NonceCount::Pending).await?.price;
    Ok(newest.zip(today).is_some_and(|(newest, today)| flight::is_outpriced(newest, today)))
}

pub(super) fn evm_signer<'a>(app: &'a App, flight: &Flight) -> Result<&'a EvmSigner, Fault> {
    signer_of(app, flight)?.evm().ok_or_else(|| Fault::internal("a flight's signer is of another chain family"))
}

fn contract_call_of(flight: &Flight) -> Result<&ContractCall, Fault> {
    match &flight.cargo {
        FlightPayload::Evm(message) => Ok(message),
        FlightPayload::Svm(_) => Err(Fault::internal("a flight's payload is of another chain family")),
    }
}

fn sign_version(
    app: &App,
    flight: &Flight,
    what: (&ContractCall, VersionKind),
    nonce: u64,
    price: GasPrice,
) -> Result<FlightVersion, Fault> {
    let (message, kind) = what;
    let network: &'static Network = network_of(flight)?;
    let signed = tx::sign_transaction(network, evm_signer(app, flight)?, nonce, message, price);
    let signed = signed.ok_or_else(|| Fault::internal("the transaction could not be signed"))?;
    let id = TxId::Evm(signed.hash);
    let (price, at, handed) = (Some(price), app::now(), NodeAcceptance::Maybe);
    Ok(FlightVersion { raw: signed.raw, id, price, until: None, at, kind, handed })
}
