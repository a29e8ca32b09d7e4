//! Fills gaps in the nonces: a transfer of zero to ourselves takes a nonce that no payment has, since later
//! transactions would wait for it.

use super::evm::evm_signer;
use super::quote::quote_price_and_nonce;
use super::sql;
use super::store::FlightRow;
use super::{Settler, network_of};
use crate::app;
use crate::app::App;
use crate::rpc;
use std::collections::BTreeSet;
use x402_chain::address::Family;
use x402_chain::collect::set_of;
use x402_chain::evm::tx;
use x402_chain::evm::tx::TRANSFER_GAS;
use x402_core::error::Fault;
use x402_core::settlement::Flight;
use x402_core::settlement::nonces::Nonces;
use x402_core::settlement::quote::NonceCount;
use x402_core::settlement::refusal::{NodeAcceptance, SendRefusal};
use x402_core::tenancy::budget::TransactionCost;

const TRANSFER_GAS_VALUE: &str = "transfer_gas";
/// No chain needs more gas than this for a transfer of its coin.
const TRANSFER_GAS_MAX: u64 = 1_000_000;
/// A flight open for this long may be waiting for a nonce that no row knows.
const HELD_UP_MS: u64 = 30_000;
/// A nonce for which the chain has waited this long is a gap: a node may be some blocks behind.
const MISSING_NONCE_MS: u64 = 15_000;

impl Settler {
    /// The gas of a transfer of zero: 21,000, unless the chain has asked for more.
    pub(super) fn transfer_gas(&self) -> Result<u64, Fault> {
        Ok(self.stored_value::<u64>(TRANSFER_GAS_VALUE)?.max(TRANSFER_GAS))
    }

    /// Asks for the gas of a transfer of zero, and adds a fifth: part of it pays for layer 1.
    pub(super) async fn measure_transfer_gas(&self, app: &App, flight: &Flight) -> Result<(), Fault> {
        let (network, signer) = (network_of(flight)?, evm_signer(app, flight)?);
        let call = tx::empty_transfer_gas_call(signer.address());
        let calls = core::slice::from_ref(&call);
        let providers = app.settings.providers(network);
        let facts = rpc::call_until(network, &providers, calls, |facts| tx::read_number(facts, &call).is_some()).await;
        let Some(asked) = tx::read_number(&facts, &call) else { return Ok(()) };
        self.put_stored_value(TRANSFER_GAS_VALUE, &asked.saturating_add(asked / 5).min(TRANSFER_GAS_MAX))
    }

    /// Fills nonces that no payment has while later ones are open: those that were freed, and one for which the chain
    /// waits although its transaction had ended and was dropped since.
    pub(super) async fn fill_gaps(&self, app: &App) -> Result<(), Fault> {
        let nonces = self.nonces()?;
        let keys = self.open_keys()?;
        let first = |mut keys: core::slice::Iter<'_, String>| keys.find_map(|key| self.one_row(key));
        let Some(lowest) = first(keys.iter()).filter(|row| is_evm(&row.flight)) else { return Ok(()) };
        let launched = lowest.sent.versions.first().map_or_else(app::now, |version| version.at);
        let is_held_up = app::now().since(launched) >= HELD_UP_MS;
        if nonces.free.is_empty() && nonces.fillers.is_empty() && !is_held_up {
            return Ok(());
        }
        let (network, signer) = (network_of(&lowest.flight)?, evm_signer(app, &lowest.flight)?);
        let observed = quote_price_and_nonce(app, &lowest.flight, NonceCount::Mined).await?;
        let Some((mined, price)) = observed.nonce.zip(observed.price) else { return Ok(()) };
        let nothing = tx::empty_transfer(signer.address(), self.transfer_gas()?);
        let (fillers, fresh) = self.sqlite().atomically(|| {
            let (mut nonces, open) = (self.nonces()?, self.open_nonces()?);
            let Some(latest) = open.last() else { return Ok((nonces.fillers, BTreeSet::new())) };
            if self.is_gap(mined, &nonces, &open) {
                nonces.free.insert(mined);
            }
            let known = set_of(nonces.fillers.keys().copied());
            let more = nonces.fill_gaps((mined, *latest), price, |nonce, price| {
                tx::sign_transaction(network, signer, nonce, &nothing, price).map(|signed| signed.raw)
            });
            self.put_nonces(&nonces)?;
            // Their receipts are not polled: each is charged at its worst price, unless no node accepts it.
            let total = u128::from(nothing.gas_limit).saturating_mul(more);
            self.charge_spending(TransactionCost { total, l1_fee: 0 }, false)?;
            let fresh = set_of(nonces.fillers.keys().copied().filter(|nonce| !known.contains(nonce)));
            Ok((nonces.fillers, fresh))
        })?;
        let providers = app.settings.providers(network);
        for (nonce, raw) in fillers {
            let (handing, _) = rpc::send_bytes(network, &providers, &tx::send_call(&raw)).await;
            let is_too_cheap = matches!(handing.refusal, Some(SendRefusal::BelowMarket | SendRefusal::GasTooLow));
            if handing.refusal == Some(SendRefusal::GasTooLow) {
                self.measure_transfer_gas(app, &lowest.flight).await?;
            }
            if is_too_cheap && handing.acceptance == NodeAcceptance::No {
                self.sqlite().atomically(|| {
                    let mut nonces = self.nonces()?;
                    let price =
                        nonces.prices.get(&nonce).filter(|_| fresh.contains(&nonce)).map_or(0, |price| price.max_wei);
                    nonces.reopen_gap(nonce);
                    self.put_nonces(&nonces)?;
                    self.uncharge_spending(TransactionCost {
                        total: u128::from(nothing.gas_limit).saturating_mul(price),
                        l1_fee: 0,
                    })
                })?;
            }
        }
        Ok(())
    }

    /// Whether the chain has waited long enough for a nonce that no row knows.
    fn is_gap(&self, mined: u64, nonces: &Nonces, open: &BTreeSet<u64>) -> bool {
        if !nonces.is_missing(mined, open) {
            self.missing_nonce.set(None);
            return false;
        }
        let since =
            self.missing_nonce.get().filter(|(nonce, _)| *nonce == mined).map_or_else(app::now, |(_, since)| since);
        self.missing_nonce.set(Some((mined, since)));
        app::now().since(since) >= MISSING_NONCE_MS
    }

    fn one_row(&self, key: &str) -> Option<FlightRow> {
        self.open_rows(&[key.to_owned()]).pop()
    }

    fn open_nonces(&self) -> Result<BTreeSet<u64>, Fault> {
        let rows = self.sqlite().rows(sql::FLIGHTS_NONCES, Vec::new())?;
        Ok(set_of(rows.into_iter().map(|row| row.nonce)))
    }
}

fn is_evm(flight: &Flight) -> bool {
    network_of(flight).is_ok_and(|network| network.family == Family::Evm)
}
