//! Payments that somebody else has put on the chain: an authorization is public
//! as soon as one transaction shows it, and anybody may send it.

use super::app::App;
use super::rpc;
use crate::address::{Address, TxId};
use crate::amount::Amount;
use crate::chain::evm::used;
use crate::chain::{head_call, read_head};
use crate::network::Network;
use crate::settle;
use alloy_primitives::B256;

/// What was signed.
pub(crate) struct Signed {
    pub(crate) payer: Address,
    pub(crate) pay_to: Address,
    pub(crate) amount: Amount,
    pub(crate) nonce: B256,
}

/// The transaction that used the authorization and moved its money; `None`
/// where none is found.
pub(crate) async fn find(app: &App, network: &'static Network, signed: &Signed) -> Option<TxId> {
    let providers = app.settings.providers(network);
    let head = head_call(network);
    let facts = rpc::call_all(network, &providers, core::slice::from_ref(&head)).await;
    let call = used::call(network, &signed.payer, &signed.nonce, read_head(&facts, &head)?)?;
    let facts = rpc::call_all(network, &providers, core::slice::from_ref(&call)).await;
    let id = used::read(&facts, &call)?;
    let trace = rpc::trace(&app.settings, network, &id).await?;
    let mined = trace.mined().filter(|mined| mined.failure.is_none())?;
    settle::moved(mined, Some(&signed.payer), &signed.pay_to, signed.amount).then_some(id)
}
