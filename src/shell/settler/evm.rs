//! On EVM: a nonce and a price for every transaction, the same nonce at a
//! higher price where the first was too low.

use super::store::{Row, Sent, Version, number};
use super::{ALARM_MS, Landed, Settler, network_of, signer_of};
use crate::address::TxId;
use crate::chain::evm::tx::{self, Message, Price};
use crate::chain::facts::{Call, Facts, Reply as Said};
use crate::error::{Code, Fault};
use crate::payment::settlement::SettlementStatus;
use crate::reason::Reason;
use crate::settle::{self, Cargo, Flight, Refused, Report};
use crate::shell::app::{self, App};
use crate::shell::sqlite::{broken, integer, ms, text};
use crate::shell::{log, rpc};
use crate::signer::EvmSigner;
use crate::sql::settler as sql;
use alloy_primitives::Bytes;
use serde_json::json;

/// The same bytes are sent again after this long without a receipt.
const RESEND_MS: u64 = 10_000;
/// A higher price is offered after this long, and again.
const BUMP_MS: u64 = 30_000;
/// What a transfer of the coin takes.
const TRANSFER_GAS: u64 = 21_000;

impl Settler {
    /// Takes a nonce, signs, stores and sends. A report where nothing could be sent.
    pub(super) async fn launch_evm(
        &self,
        app: &App,
        flight: &Flight,
        message: &Message,
    ) -> Result<Option<Report>, Fault> {
        let network = network_of(flight)?;
        let signer = evm_signer(app, flight)?;
        let providers = app.settings.providers(network);
        let count = tx::count_call(signer.address());
        let mut calls = tx::price_calls();
        calls.push(count.clone());
        let facts = rpc::call_all(network, &providers, &calls).await;
        let known = (tx::price(network, &facts), tx::number(&facts, &count));
        let (Some(price), Some(chain)) = known else {
            let detail = "the chain tells no price within the cap, or no nonce";
            return Err(Fault::new(Code::ChainUnavailable, detail).after(5));
        };
        self.wake_by(app::now().plus(ALARM_MS)).await;
        // From here to the stored bytes nothing is awaited: one nonce, one flight.
        if self.row(&flight.key())?.is_some() {
            return Ok(None);
        }
        let db = self.db();
        let now = app::now();
        let version = db.atomically(|| {
            let flying = db.rows(sql::FLIGHTS_COUNT, Vec::new())?;
            let idle = flying.first().is_none_or(|row| integer(row.first()) == 0);
            let mut nonces = self.nonces()?;
            let nonce = nonces.take(chain, idle);
            let version = sign(app, flight, message, nonce, price)?;
            self.put_nonces(&nonces)?;
            let bind = vec![
                flight.key().into(),
                number(nonce),
                serde_json::to_string(flight).map_err(broken)?.into(),
                serde_json::to_string(&Sent { versions: vec![version.clone()], reopened: false })
                    .map_err(broken)?
                    .into(),
                ms(now),
            ];
            db.run(sql::FLIGHT_PUT, bind)?;
            Ok(version)
        })?;
        self.send_evm(app, &flight.key(), &version).await
    }

    /// Hands a version to the chain; a report where it is refused for good.
    pub(super) async fn send_evm(&self, app: &App, key: &str, version: &Version) -> Result<Option<Report>, Fault> {
        let Some(row) = self.row(key)? else { return Ok(None) };
        let network = network_of(&row.flight)?;
        let call = tx::send_call(&version.raw);
        let facts = rpc::call_all(network, &app.settings.providers(network), core::slice::from_ref(&call)).await;
        let Some(Said::Error(error)) = facts.get(&call) else { return Ok(None) };
        let fields = [("chain", network.key.into()), ("words", error.message.as_str().into())];
        log::line("a transaction was refused", &fields);
        match settle::refusal(&error.message) {
            Refused::Known | Refused::Unclear | Refused::Underpriced => Ok(None),
            Refused::NonceUsed => self.renumber(app, &row).await.map(|()| None),
            Refused::Poor => {
                let db = self.db();
                let report = Report {
                    settlement: row.flight.settlement,
                    attempt: Some(row.flight.attempt),
                    status: SettlementStatus::Failed,
                    reason: Some(Reason::UnexpectedSettle),
                    told: "the facilitator cannot pay for gas on this network now".to_owned(),
                    transaction: None,
                    attempts: row.sent.attempts(),
                    external: false,
                    reorged: row.sent.reopened,
                    units: Vec::new(),
                    spent: None,
                    handed: false,
                };
                db.atomically(|| {
                    let mut nonces = self.nonces()?;
                    nonces.give_back(row.nonce);
                    self.put_nonces(&nonces)?;
                    self.end(key, &report)
                })?;
                Ok(None)
            }
        }
    }

    /// Somebody else has used the nonce: none of our versions can be mined any
    /// more, unless one already was.
    async fn renumber(&self, app: &App, row: &Row) -> Result<(), Fault> {
        self.look(app, core::slice::from_ref(row)).await?;
        let network = network_of(&row.flight)?;
        let signer = evm_signer(app, &row.flight)?;
        let count = tx::count_call(signer.address());
        let mut calls = tx::price_calls();
        calls.push(count.clone());
        let facts = rpc::call_all(network, &app.settings.providers(network), &calls).await;
        let (Some(price), Some(chain)) = (tx::price(network, &facts), tx::number(&facts, &count)) else {
            return Ok(());
        };
        let Some(row) = self.row(&row.key)?.filter(|row| row.report.is_none() && chain > row.nonce) else {
            return Ok(());
        };
        let db = self.db();
        let version = db.atomically(|| {
            let mut nonces = self.nonces()?;
            let nonce = nonces.take(chain, false);
            let version = sign(app, &row.flight, message_of(&row.flight)?, nonce, price)?;
            self.put_nonces(&nonces)?;
            self.put_sent(&row, nonce, &version)?;
            Ok(version)
        })?;
        let call = tx::send_call(&version.raw);
        rpc::call_all(network, &app.settings.providers(network), core::slice::from_ref(&call)).await;
        Ok(())
    }

    /// Nonces that were given back while later ones are on their way hold those
    /// up: transfers of nothing to ourselves take their places.
    pub(super) async fn fill_gaps(&self, app: &App) -> Result<(), Fault> {
        let mut nonces = self.nonces()?;
        if nonces.free.is_empty() && nonces.fillers.is_empty() {
            return Ok(());
        }
        let mut latest: Option<Row> = None;
        for key in self.db().rows(sql::FLIGHTS_OPEN, Vec::new())? {
            let row = self.row(&text(key.first()))?.filter(|row| row.report.is_none());
            latest = row.into_iter().chain(latest).max_by_key(|row| row.nonce);
        }
        let Some(latest) = latest else { return Ok(()) };
        let (network, signer) = (network_of(&latest.flight)?, evm_signer(app, &latest.flight)?);
        let count = tx::count_call(signer.address());
        let mut calls = tx::price_calls();
        calls.push(count.clone());
        let providers = app.settings.providers(network);
        let facts = rpc::call_all(network, &providers, &calls).await;
        let (Some(price), Some(chain)) = (tx::price(network, &facts), tx::number(&facts, &count)) else {
            return Ok(());
        };
        let nothing = Message { to: signer.address(), data: Bytes::new(), gas_limit: TRANSFER_GAS };
        let raws = self.db().atomically(|| {
            nonces = self.nonces()?;
            let sign = |nonce| tx::sign(network, signer, nonce, &nothing, price).map(|signed| signed.raw);
            let raws = nonces.fill(chain, latest.nonce, sign);
            self.put_nonces(&nonces)?;
            Ok(raws)
        })?;
        for raw in raws {
            rpc::call_all(network, &providers, core::slice::from_ref(&tx::send_call(&raw))).await;
        }
        Ok(())
    }

    /// Which versions are in a block.
    pub(super) async fn landed_evm(&self, app: &App, rows: &[Row]) -> Result<Vec<Landed>, Fault> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let network = network_of(&first.flight)?;
        let versions = rows.iter().flat_map(|row| &row.sent.versions).map(|version| version.id);
        let calls: Vec<(TxId, Call)> = versions.map(|id| (id, receipt_call(&id))).collect();
        let asked: Vec<Call> = calls.iter().map(|(_, call)| call.clone()).collect();
        let facts = rpc::call_all(network, &app.settings.providers(network), &asked).await;
        Ok(calls
            .into_iter()
            .filter(|(_, call)| is_told(&facts, call))
            .map(|(id, _)| Landed { id, outcome: None })
            .collect())
    }

    /// A flight without receipt: the same bytes again, later a higher price.
    pub(super) async fn push_evm(&self, app: &App, row: &Row) -> Result<(), Fault> {
        let Some(newest) = row.sent.newest() else { return Ok(()) };
        let waited = app::now().since(newest.at);
        let network = network_of(&row.flight)?;
        let cap = network.settle.and_then(|settle| settle.gas()).map_or(0, |gas| gas.max_fee_wei);
        if waited >= BUMP_MS
            && let Some(price) = newest.price.and_then(|price| price.bumped(cap))
        {
            let version = sign(app, &row.flight, message_of(&row.flight)?, row.nonce, price)?;
            self.put_sent(row, row.nonce, &version)?;
            return self.send_evm(app, &row.key, &version).await.map(|_| ());
        }
        if waited >= RESEND_MS {
            return self.send_evm(app, &row.key, newest).await.map(|_| ());
        }
        Ok(())
    }
}

fn evm_signer<'a>(app: &'a App, flight: &Flight) -> Result<&'a EvmSigner, Fault> {
    signer_of(app, flight)?.evm().ok_or_else(|| Fault::internal("a flight with a signer of another family"))
}

fn message_of(flight: &Flight) -> Result<&Message, Fault> {
    match &flight.cargo {
        Cargo::Evm(message) => Ok(message),
        Cargo::Svm(_) => Err(Fault::internal("a flight of another family")),
    }
}

fn sign(app: &App, flight: &Flight, message: &Message, nonce: u64, price: Price) -> Result<Version, Fault> {
    let signed = tx::sign(network_of(flight)?, evm_signer(app, flight)?, nonce, message, price);
    let signed = signed.ok_or_else(|| Fault::internal("the transaction could not be signed"))?;
    Ok(Version { raw: signed.raw, id: TxId::Evm(signed.hash), price: Some(price), until: None, at: app::now() })
}

fn receipt_call(id: &TxId) -> Call {
    Call::new("eth_getTransactionReceipt", &json!([id.to_string()]))
}

fn is_told(facts: &Facts, call: &Call) -> bool {
    match facts.get(call) {
        Some(Said::Value(value)) => value.get() != "null",
        Some(Said::Error(_)) | None => false,
    }
}
