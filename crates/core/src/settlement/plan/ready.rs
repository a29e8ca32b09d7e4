//! A payment that the Settler may be called for, and the flight that it is sent.

use super::PlannedPayment;
use crate::error::Fault;
use crate::settlement::payment::{LEASE_MS, PaymentRequest, ReservedSettlement};
use crate::settlement::{Flight, FlightPayload};
use crate::tenancy::key::Caller;
use alloy_primitives::B256;
use x402_chain::address::{Address, TxId};
use x402_chain::checks::Checks;
use x402_chain::evm::sender::GasPrice;
use x402_chain::evm::tx::ContractCall;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::schemes::exact::ExactPayment;
use x402_chain::time::UnixMillis;
use x402_chain::trace::CodeKind;

/// A payment with a complete authorization.
#[derive(Clone, Debug)]
pub struct ReadyPayment {
    /// The payment's network.
    pub network: &'static Network,
    /// The network as the request wrote it.
    pub network_text: String,
    /// Each rule that was checked, with its result.
    pub checks: Checks,
    /// The terms that the payer signed.
    pub(super) terms: ExactPayment,
    /// Why nothing new may be sent for it.
    pub(super) held: Option<(Reason, String)>,
    /// The price at which it was simulated (EVM).
    pub(super) price: Option<GasPrice>,
    /// The id that the transaction gets by our signature (Solana).
    pub(super) completed: Option<TxId>,
}

impl PlannedPayment<'_> {
    /// The message to the ledger, and the payment for the Settler.
    pub(super) fn into_ready(
        self,
        held: Option<(Reason, String)>,
        price: Option<GasPrice>,
        checks: Checks,
    ) -> (PaymentRequest, ReadyPayment) {
        let Self { asked, network, terms, completed, .. } = self;
        let network_text = asked.network_text.clone();
        (asked, ReadyPayment { network, network_text, checks, terms, held, price, completed })
    }
}

impl ReadyPayment {
    /// The flight for the Settler. A reservation of this request was checked by it; an older one whose transaction was
    /// never sent is sent only if the payment is good now.
    ///
    /// # Errors
    /// `INTERNAL` on a network that is only read, and for a reservation without a signer.
    pub fn flight(&self, caller: &Caller, reserved: &ReservedSettlement, now: UnixMillis) -> Result<Flight, Fault> {
        let cargo = self.payload(reserved.has_code);
        let cargo = cargo.ok_or_else(|| Fault::internal("a settlement is on a network without settlement"))?;
        let is_fresh = now.since(reserved.reserved_at) < LEASE_MS;
        Ok(Flight {
            settlement: reserved.settlement.id,
            attempt: reserved.attempt,
            tenant: caller.tenant,
            environment: caller.environment,
            network: self.network.key.to_owned(),
            signer: reserved.signer.ok_or_else(|| Fault::internal("a settlement has no signer"))?,
            held: self.held.clone().filter(|_| !is_fresh),
            cargo,
            payer: self.terms.payer(),
            pay_to: self.terms.pay_to(),
            amount: self.terms.amount(),
            nonce: self.nonce(),
            valid_before: self.terms.valid_before(),
            price: self.price,
            max_fee_wei: reserved.max_fee_wei,
            free: reserved.free,
        })
    }

    const fn nonce(&self) -> Option<B256> {
        match &self.terms {
            ExactPayment::Evm(terms) => Some(terms.nonce()),
            ExactPayment::Svm(_) => None,
        }
    }

    /// What the Settler sends; for a payer with code it is another function of the token.
    fn payload(&self, has_code: bool) -> Option<FlightPayload> {
        match &self.terms {
            ExactPayment::Evm(terms) => {
                let Address::Evm(to) = self.network.asset.address else { return None };
                let gas_limit = self.network.settle?.gas()?.limit;
                let payer = if has_code { CodeKind::Contract } else { CodeKind::None };
                Some(FlightPayload::Evm(ContractCall { to, data: terms.calldata(payer).into(), gas_limit }))
            }
            ExactPayment::Svm(terms) => Some(FlightPayload::Svm(terms.base64().to_owned())),
        }
    }
}
