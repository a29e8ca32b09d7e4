//! Transfers of nothing to ourselves: they take nonces that were given back while
//! later ones are on their way, which they would hold up.

use super::evm::evm_signer;
use super::quote::quote;
use super::{Settler, network_of};
use crate::chain::evm::tx::{self, TRANSFER_GAS};
use crate::error::Fault;
use crate::settle::refusal::{Handed, Refused};
use crate::settle::{Flight, Spent};
use crate::shell::app::App;
use crate::shell::rpc;
use std::collections::BTreeSet;

const GAS: &str = "transfer_gas";
/// No chain asks more for a transfer of its coin.
const GAS_MAX: u64 = 1_000_000;

impl Settler {
    /// The gas of a transfer of nothing: 21,000, unless the chain has asked more.
    pub(super) fn transfer_gas(&self) -> Result<u64, Fault> {
        Ok(self.value::<u64>(GAS)?.max(TRANSFER_GAS))
    }

    /// Asks how much a transfer of nothing takes, with a fifth on top: part of it pays for layer 1.
    pub(super) async fn learn_gas(&self, app: &App, flight: &Flight) -> Result<(), Fault> {
        let (network, signer) = (network_of(flight)?, evm_signer(app, flight)?);
        let call = tx::nothing_call(signer.address());
        let calls = core::slice::from_ref(&call);
        let providers = app.settings.providers(network);
        let facts = rpc::call_until(network, &providers, calls, |facts| tx::number(facts, &call).is_some()).await;
        let Some(asked) = tx::number(&facts, &call) else { return Ok(()) };
        self.put_value(GAS, &asked.saturating_add(asked / 5).min(GAS_MAX))
    }

    /// Nonces that were given back while later ones are on their way are filled.
    pub(super) async fn fill_gaps(&self, app: &App) -> Result<(), Fault> {
        let nonces = self.nonces()?;
        if nonces.free.is_empty() && nonces.fillers.is_empty() {
            return Ok(());
        }
        let keys = self.open_keys()?;
        let latest = keys.iter().rev().find_map(|key| self.open_rows(core::slice::from_ref(key)).pop());
        let Some(latest) = latest else { return Ok(()) };
        let (network, signer) = (network_of(&latest.flight)?, evm_signer(app, &latest.flight)?);
        let observed = quote(app, &latest.flight, true).await?;
        let (Some(price), Some(chain)) = (observed.price, observed.nonce) else { return Ok(()) };
        let nothing = tx::nothing(signer.address(), self.transfer_gas()?);
        // Nobody looks for their receipts: each is charged at its worst, unless no node takes it.
        let cost = Spent { total: u128::from(nothing.gas_limit).saturating_mul(price.max_wei), l1_fee: 0 };
        let (fillers, fresh) = self.db().atomically(|| {
            let mut nonces = self.nonces()?;
            let known: BTreeSet<u64> = nonces.fillers.keys().copied().collect();
            let sign = |nonce| tx::sign(network, signer, nonce, &nothing, price).map(|signed| signed.raw);
            nonces.fill(chain, latest.nonce, sign);
            let fresh: BTreeSet<u64> = nonces.fillers.keys().copied().filter(|nonce| !known.contains(nonce)).collect();
            for _ in &fresh {
                self.charge(cost, false)?;
            }
            self.put_nonces(&nonces)?;
            Ok((nonces.fillers, fresh))
        })?;
        let providers = app.settings.providers(network);
        for (nonce, raw) in fillers {
            let (handing, _) = rpc::hand(network, &providers, &tx::send_call(&raw)).await;
            let is_too_cheap = matches!(handing.refused, Some(Refused::BelowMarket | Refused::GasTooLow));
            if handing.refused == Some(Refused::GasTooLow) {
                self.learn_gas(app, &latest.flight).await?;
            }
            if is_too_cheap && handing.handed == Handed::No {
                self.db().atomically(|| {
                    let mut nonces = self.nonces()?;
                    nonces.unfill(nonce);
                    self.put_nonces(&nonces)?;
                    if fresh.contains(&nonce) { self.uncharge(cost) } else { Ok(()) }
                })?;
            }
        }
        Ok(())
    }
}
