//! On EVM: a nonce and a price for every transaction, the same nonce at a higher
//! price where the first was too low, and once its time is over a transaction
//! that only takes the nonce.

use super::books::budget;
use super::orders::Launch;
use super::quote::quote;
use super::store::Row;
use super::{ALARM_MS, CARRY_MAX, LOOK_CALLS_MAX, LOOK_MAX, Landed, Settler, network_of, signer_of};
use crate::app;
use crate::app::App;
use crate::rpc::{external, gas};
use crate::{rpc, telemetry};
use std::collections::BTreeMap;
use std::rc::Rc;
use x402_chain::address::{Address, TxId};
use x402_chain::confirm::Basis;
use x402_chain::evm::sender::Price;
use x402_chain::evm::tx;
use x402_chain::evm::tx::Message;
use x402_chain::facts::Call;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::signer::EvmSigner;
use x402_core::error::Fault;
use x402_core::settlement::flight;
use x402_core::settlement::flight::{Ending, Kind, Step, Version, cancel_cap_wei, replacing, within};
use x402_core::settlement::launch;
use x402_core::settlement::launch::{Aloft, Denied, Observed};
use x402_core::settlement::refusal::{Handed, Handing, Refused};
use x402_core::settlement::{Cargo, Flight, Report};
use x402_core::tenancy::budget::Spent;

/// Versions that are sent in one turn: the first, and what the market asks once it has moved.
const SENDS_MAX: usize = 4;

/// The first version of a flight, or why there is none; neither where it flies already.
type First = Result<Option<Version>, Denied>;

impl Settler {
    /// Takes a nonce, signs, stores and sends. A report where nothing is to be sent.
    pub(super) async fn launch_evm(
        &self,
        app: &App,
        flight: &Flight,
        message: &Message,
        launch: &Rc<Launch>,
    ) -> Result<Option<Report>, Fault> {
        match self.take_off(app, flight, message, launch).await? {
            Err(denied) => Ok(Some(denied.report(flight))),
            Ok(None) => Ok(None),
            Ok(Some(version)) => self.send_evm(app, &flight.key(), version, true).await.map(|()| None),
        }
    }

    /// Asks what must be known, decides, and stores the first version.
    async fn take_off(
        &self,
        app: &App,
        flight: &Flight,
        message: &Message,
        launch: &Rc<Launch>,
    ) -> Result<First, Fault> {
        let penalty = self.penalty(&flight.payer)?;
        if let Err(denied) = launch::beforehand(flight, penalty, app::now()) {
            return Ok(Err(denied));
        }
        for is_last in [false, true] {
            let (before, launched) = (self.flying()?, self.launched.get());
            let (observed, basis) = self.quote_first(app, flight, &before).await?;
            self.wake_by(app::now().plus(ALARM_MS)).await;
            // From here to the stored bytes nothing is awaited: one nonce, one flight.
            if self.row(&flight.key())?.is_some() || !self.is_current(&flight.key(), launch) {
                return Ok(Ok(None));
            }
            // Also one that cannot be read has its nonce.
            let idle = before.is_empty() && self.launched.get() == launched && self.open_keys()?.is_empty();
            match self.decide(app, flight, observed, before)? {
                // What has been mined meanwhile is no longer owed.
                Err(Denied::Balance) if !is_last => self.look_for_payer(app, &flight.payer).await?,
                Err(Denied::Balance) if basis == Basis::Unconfirmed => return Ok(Err(Denied::Unconfirmed)),
                Err(denied) => return Ok(Err(denied)),
                Ok((chain, price)) => {
                    let version = self.store_first(app, flight, message, (chain, idle, price))?;
                    return Ok(Ok(Some(version)));
                }
            }
        }
        Ok(Err(Denied::Balance))
    }

    /// Whether the flight may be launched now. `before` is what was on its way before the chain was
    /// asked: the balance that was read may still hold what has been mined since.
    fn decide(
        &self,
        app: &App,
        flight: &Flight,
        observed: Observed,
        before: Vec<(String, Flight)>,
    ) -> Result<Result<(u64, Price), Denied>, Fault> {
        let (network, spending, now) = (network_of(flight)?, self.spending()?, self.flying()?);
        let known: BTreeMap<String, Flight> = before.into_iter().chain(now.clone()).collect();
        let owed = Aloft::of(known.values(), flight, &spending, network).owed;
        let aloft = Aloft { owed, ..Aloft::of(now.iter().map(|(_, other)| other), flight, &spending, network) };
        let penalty = self.penalty(&flight.payer)?;
        Ok(launch::beforehand(flight, penalty, app::now())
            .and_then(|()| launch::on_chain(flight, network, observed, aloft))
            .and_then(|launched| {
                let budget = budget(&app.settings, network, flight);
                launch::paid_for(flight, network, &spending, aloft, budget).map(|()| launched)
            }))
    }

    fn store_first(
        &self,
        app: &App,
        flight: &Flight,
        message: &Message,
        (chain, idle, price): (u64, bool, Price),
    ) -> Result<Version, Fault> {
        self.db().atomically(|| {
            let mut nonces = self.nonces()?;
            let nonce = nonces.take(chain, idle);
            let version = sign(app, flight, (message, Kind::Transfer), nonce, price)?;
            self.put_nonces(&nonces)?;
            self.put_flight(flight, nonce, version.clone())?;
            Ok(version)
        })
    }

    /// Looks for what is on its way for a payer.
    pub(super) async fn look_for_payer(&self, app: &App, payer: &Address) -> Result<(), Fault> {
        let flying = self.flying()?.into_iter().filter(|(_, flight)| flight.payer == *payer);
        let keys: Vec<String> = flying.map(|(key, _)| key).take(CARRY_MAX).collect();
        for batch in keys.chunks(LOOK_MAX) {
            self.look(app, &self.open_rows(batch)).await?;
        }
        Ok(())
    }

    /// Hands a version to the chain, and does what a refusal asks for, in the same turn.
    /// `fresh`: it was signed in this turn, so that nobody can have it yet.
    pub(super) async fn send_evm(&self, app: &App, key: &str, version: Version, fresh: bool) -> Result<(), Fault> {
        let (mut version, mut fresh) = (version, fresh);
        for _ in 0..SENDS_MAX {
            let Some(row) = self.open_row(key)? else { return Ok(()) };
            // What the chain takes no more is not offered.
            if version.kind == Kind::Transfer && row.flight.is_late(app::now()) {
                self.note_sending(&row, version.id, fresh)?;
                return self.note_sent(key, version.id, Handed::No);
            }
            let handing = self.hand(app, &row, &version, fresh).await?;
            let Some(row) = self.open_row(key)? else { return Ok(()) };
            let next = match handing.refused {
                // Somebody else's transaction waits under the nonce.
                Some(Refused::Outbid) if !row.sent.is_handed() => self.replaced(app, &row, version.kind).await?,
                None | Some(Refused::Known | Refused::Node | Refused::Unclear | Refused::Outbid) => None,
                Some(Refused::NonceUsed) => self.renumbered(app, &row).await?,
                Some(Refused::Poor) => {
                    self.give_up(&row, gas::POOR_MESSAGE, true)?;
                    None
                }
                Some(Refused::BelowMarket) => self.replaced(app, &row, version.kind).await?,
                Some(Refused::GasTooLow) => {
                    self.learn_gas(app, &row.flight).await?;
                    let cancels = version.kind == Kind::Cancel;
                    if cancels { self.replaced(app, &row, Kind::Cancel).await? } else { None }
                }
            };
            let Some(next) = next else { return Ok(()) };
            (version, fresh) = (next, true);
        }
        Ok(())
    }

    /// Hands a version out and notes what becomes of it.
    async fn hand(&self, app: &App, row: &Row, version: &Version, fresh: bool) -> Result<Handing, Fault> {
        let network = network_of(&row.flight)?;
        self.note_sending(row, version.id, fresh)?;
        let call = tx::send_call(&version.raw);
        let (handing, words) = rpc::hand(network, &app.settings.providers(network), &call).await;
        if handing.handed != Handed::Taken {
            let fields = [("chain", network.key.into()), ("words", words.into())];
            telemetry::line("a transaction was refused", &fields);
        }
        self.note_sent(&row.key, version.id, handing.handed)?;
        Ok(handing)
    }

    /// Ends a flight that cannot be paid for, if no node has any of it; one that is in the air stays there.
    fn give_up(&self, row: &Row, message: &str, poor: bool) -> Result<(), Fault> {
        if row.sent.is_handed() {
            return Ok(());
        }
        let reason = if poor { Reason::EvmRelayerPoor } else { Reason::UnexpectedSettle };
        self.end_unhanded(row, Ending::failed(reason, message), poor)
    }

    /// Signs and stores a version in the newest one's place, at today's price or an eighth more,
    /// whichever is higher. `None` where it may not be: the time is over, or the cap is reached.
    async fn replaced(&self, app: &App, row: &Row, kind: Kind) -> Result<Option<Version>, Fault> {
        let network = network_of(&row.flight)?;
        let signer = match evm_signer(app, &row.flight) {
            Ok(signer) => signer,
            // What was signed before is sent as it is.
            Err(fault) => {
                self.stuck(&row.key, &fault);
                return Ok(None);
            }
        };
        let observed = quote(app, &row.flight, true).await?;
        let Some(row) = self.open_row(&row.key)? else { return Ok(None) };
        let Some(newest) = row.sent.newest() else { return Ok(None) };
        if kind == Kind::Transfer && (newest.kind == Kind::Cancel || row.flight.is_late(app::now())) {
            return Ok(None);
        }
        let nothing = tx::nothing(signer.address(), self.transfer_gas()?);
        let (message, cap) = match kind {
            Kind::Transfer => (message_of(&row.flight)?, row.flight.cap_wei(network)),
            Kind::Cancel => (&nothing, cancel_cap_wei(&row.flight, network, nothing.gas_limit)),
        };
        let Some(price) = newest.price.and_then(|newest| replacing(newest, observed.price, cap)) else {
            telemetry::line("a price would be above the cap", &[("chain", network.key.into())]);
            self.give_up(&row, "gas costs more than this service pays on this network now", false)?;
            return Ok(None);
        };
        let version = sign(app, &row.flight, (message, kind), row.nonce, price)?;
        self.put_version(&row, row.nonce, &version)?;
        Ok(Some(version))
    }

    /// Somebody else has used the nonce: none of our versions can be mined any more, unless
    /// one already was. A version under a new nonce, where the authorization still has time.
    async fn renumbered(&self, app: &App, row: &Row) -> Result<Option<Version>, Fault> {
        self.look(app, core::slice::from_ref(row)).await?;
        let network = network_of(&row.flight)?;
        let observed = quote(app, &row.flight, true).await?;
        let Some(mut row) = self.open_row(&row.key)? else { return Ok(None) };
        let Some(newest) = row.sent.newest() else { return Ok(None) };
        // It is in a block, and how it ends is not known yet.
        if self.put_off.borrow().contains_key(&row.key) {
            return Ok(None);
        }
        if newest.kind == Kind::Cancel || row.flight.is_late(app::now()) {
            if flight::is_lost(&row.sent, app::now()) {
                let id = row.sent.transfer().map_or(newest.id, |version| version.id);
                // By a block after its time an authorization that is not used is never used.
                let end = row.flight.valid_before;
                let block = match end {
                    Some(end) => external::block_since(app, network, end).await,
                    None => None,
                };
                self.conclude(app, &row, (id, Ending::late()), (block, None)).await?;
            } else if row.sent.lost_at.is_none() {
                row.sent.lost_at = Some(app::now());
                self.put_sent(&row.key, row.nonce, &row.sent)?;
            }
            return Ok(None);
        }
        let (Some(price), Some(chain)) = (observed.price, observed.nonce.filter(|chain| *chain > row.nonce)) else {
            return Ok(None);
        };
        let price = within(price, row.flight.cap_wei(network));
        let db = self.db();
        db.atomically(|| {
            let mut nonces = self.nonces()?;
            let nonce = nonces.take(chain, false);
            let version = sign(app, &row.flight, (message_of(&row.flight)?, Kind::Transfer), nonce, price)?;
            self.put_nonces(&nonces)?;
            self.put_version(&row, nonce, &version)?;
            Ok(Some(version))
        })
    }

    /// Which versions are in a block, and what they took: of many versions, of those whose turn it is.
    pub(super) async fn landed_evm(&self, app: &App, rows: &[Row]) -> Result<Vec<Landed>, Fault> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let network = network_of(&first.flight)?;
        let flights: Vec<(&str, usize)> = rows.iter().map(|row| (row.key.as_str(), row.sent.versions.len())).collect();
        let turn = self.rotas.borrow_mut().versions.next(&flights, LOOK_CALLS_MAX);
        let asked = |(row, turn): (&Row, Vec<usize>)| -> Vec<(TxId, Call, (u64, Price))> {
            let most = |version: &Version| {
                let price = version.price.unwrap_or(Price { max_wei: row.flight.cap_wei(network), tip_wei: 0 });
                (row.flight.gas_limit(), price)
            };
            let versions = turn.into_iter().filter_map(|at| row.sent.versions.get(at));
            versions.map(|sent| (sent.id, tx::receipt_call(&sent.id), most(sent))).collect()
        };
        let asked: Vec<_> = rows.iter().zip(turn).flat_map(asked).collect();
        let calls: Vec<Call> = asked.iter().map(|(_, call, _)| call.clone()).collect();
        let facts = rpc::call_all(network, &app.settings.providers(network), &calls).await;
        let landed = asked.into_iter().filter_map(|(id, call, most)| {
            let (total, l1_fee) = tx::spent(&facts, &call, most)?;
            Some(Landed { id, outcome: None, spent: Some(Spent { total, l1_fee }) })
        });
        Ok(landed.collect())
    }

    /// A flight without receipt: the same bytes again, later a higher price, and once its
    /// time is over its nonce is taken.
    pub(super) async fn push_evm(&self, app: &App, row: &Row) -> Result<(), Fault> {
        let Some(newest) = row.sent.newest() else { return Ok(()) };
        let kind = match flight::step(&row.flight, &row.sent, app::now()) {
            Step::Wait => return Ok(()),
            Step::End => return self.end_unhanded(row, Ending::unhanded(&row.flight, app::now()), false),
            Step::Resend if !is_outpriced(app, row).await? => {
                return self.send_evm(app, &row.key, newest.clone(), false).await;
            }
            Step::Resend => newest.kind,
            Step::Bump => Kind::Transfer,
            Step::Cancel => Kind::Cancel,
        };
        match self.replaced(app, row, kind).await? {
            Some(version) => self.send_evm(app, &row.key, version, true).await,
            // Whoever has the newest version may have dropped it; what came too late is not sent again.
            None if kind == newest.kind && (kind == Kind::Cancel || !row.flight.is_late(app::now())) => {
                self.send_evm(app, &row.key, newest.clone(), false).await
            }
            None => Ok(()),
        }
    }
}

/// Whether the market has left a flight's newest version behind.
async fn is_outpriced(app: &App, row: &Row) -> Result<bool, Fault> {
    let newest = row.sent.newest().and_then(|version| version.price);
    let today = quote(app, &row.flight, true).await?.price;
    Ok(newest.zip(today).is_some_and(|(newest, today)| flight::is_outpriced(newest, today)))
}

pub(super) fn evm_signer<'a>(app: &'a App, flight: &Flight) -> Result<&'a EvmSigner, Fault> {
    signer_of(app, flight)?.evm().ok_or_else(|| Fault::internal("a flight with a signer of another family"))
}

fn message_of(flight: &Flight) -> Result<&Message, Fault> {
    match &flight.cargo {
        Cargo::Evm(message) => Ok(message),
        Cargo::Svm(_) => Err(Fault::internal("a flight of another family")),
    }
}

fn sign(app: &App, flight: &Flight, what: (&Message, Kind), nonce: u64, price: Price) -> Result<Version, Fault> {
    let (message, kind) = what;
    let network: &'static Network = network_of(flight)?;
    let signed = tx::sign(network, evm_signer(app, flight)?, nonce, message, price);
    let signed = signed.ok_or_else(|| Fault::internal("the transaction could not be signed"))?;
    let id = TxId::Evm(signed.hash);
    let (price, at, handed) = (Some(price), app::now(), Handed::Maybe);
    Ok(Version { raw: signed.raw, id, price, until: None, at, kind, handed })
}
