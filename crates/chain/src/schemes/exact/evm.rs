//! The scheme `exact` with EIP-3009 (docs/spec/protocol.md#p-2-1): what is free first, then
//! one round of questions to the chain.

mod asked;

pub(crate) use asked::on_chain;

use crate::address::{Address, Family, hex_bytes};
use crate::amount::Amount;
use crate::evm::eip3009;
use crate::evm::eip3009::{Signed, TransferWithAuthorization};
use crate::evm::memory::Memory;
use crate::network::{Fees, Network};
use crate::reason::Reason;
use crate::schemes::exact::rules::{ACCEPTED, Rules, networks, quoted, schemes};
use crate::time::UnixSeconds;
use crate::trace::CodeKind;
use crate::x402::{Accepted, Eip3009, Payload, Payment, Requirements, Version};
use alloy_primitives::{Address as Address20, B256, U256};
use core::cell::{OnceCell, RefCell};
use std::rc::Rc;

/// Seconds that an authorization must last beyond now, at least: the reference's margin for three blocks of two.
const MARGIN_S: u64 = 6;
/// Seconds that it must last beyond two blocks: one to be seen and signed, and two for clocks that differ.
const BEYOND_BLOCKS_S: u64 = 3;

/// An authorization whose every member is of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    signed: TransferWithAuthorization,
    signature: Signed,
    asset: Address20,
    separator: [u8; 32],
    fees: Fees,
    /// The questions about a sender: they are asked for again after the answers, and cost hex.
    calls: RefCell<Option<Rc<asked::Calls>>>,
    /// Whose key signed it: a recovery, and looking one up, cost hashes.
    signer: OnceCell<Option<Address20>>,
}

impl Terms {
    /// Who pays.
    #[must_use]
    pub const fn payer(&self) -> Address {
        Address::Evm(self.signed.from)
    }

    /// Who is paid.
    #[must_use]
    pub const fn pay_to(&self) -> Address {
        Address::Evm(self.signed.to)
    }

    /// How much.
    #[must_use]
    pub const fn amount(&self) -> Amount {
        Amount(self.signed.value)
    }

    /// Whether the payer's own key signed it, as an account without code does.
    #[must_use]
    pub fn is_own_key(&self) -> bool {
        self.signature.signer(self.digest()) == Some(self.signed.from)
    }

    /// The authorization's nonce.
    #[must_use]
    pub const fn nonce(&self) -> B256 {
        self.signed.nonce
    }

    /// From when on it is worthless.
    #[must_use]
    pub fn valid_before(&self) -> UnixSeconds {
        UnixSeconds(self.signed.validBefore.saturating_to())
    }

    /// The signature as the buyer gave it.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        self.signature.given()
    }

    /// What an account without code signs.
    fn digest(&self) -> B256 {
        eip3009::digest(self.separator, &self.signed)
    }

    /// Whose key signed it, if any's did.
    fn signer(&self, memory: &Memory) -> Option<Address20> {
        *self.signer.get_or_init(|| memory.signer(&self.signature, self.digest()))
    }

    /// The token's call that moves the money, by what is at the payer's address.
    #[must_use]
    pub fn calldata(&self, code: CodeKind) -> Vec<u8> {
        self.signature.transfer(&self.signed, code)
    }
}

/// All that can be judged without the chain.
pub(crate) fn free(rules: &mut Rules, payment: &Payment, network: &Network, now: UnixSeconds) -> Option<Terms> {
    let wanted = &payment.requirements;
    let asset = Address::parse(Family::Evm, &wanted.asset).filter(|asset| *asset == network.asset.address);
    let found = format!("the asset is {}, the registered one is {}", quoted(&wanted.asset), network.asset.text);
    rules.rule("asset", asset.is_some(), Reason::AssetNotAllowed, found).then_some(())?;
    let scheme = wanted.scheme == "exact" && payment.accepted.scheme() == wanted.scheme;
    rules.rule("scheme", scheme, Reason::EvmScheme, schemes(payment)).then_some(())?;
    verifying_contract(rules, wanted, network).then_some(())?;
    domain(rules, wanted, network).then_some(())?;
    let same = payment.accepted.network() == wanted.network;
    rules.rule("network", same, Reason::EvmNetworkMismatch, networks(payment)).then_some(())?;
    let accepted = match &payment.accepted {
        Accepted::Named { .. } => true,
        Accepted::Whole(accepted) => agree(accepted, wanted),
    };
    rules.rule("accepted", accepted, Reason::InvalidRequirements, ACCEPTED).then_some(())?;
    let terms = typed(rules, payment, network)?;
    let good = conditions(rules, payment, &terms, (now, margin_s(network)));
    (good || is_only_late(rules, payment, &terms)).then_some(terms)
}

/// Whether nothing else that is free to judge is wrong with it than that its time is over: it
/// may have been settled in time. Who signed it is a question of its own ([`Terms::is_own_key`]).
fn is_only_late(rules: &Rules, payment: &Payment, terms: &Terms) -> bool {
    rules.refusal.as_ref().is_some_and(|(reason, _)| *reason == Reason::EvmValidBefore)
        && Amount::parse_atomic(&payment.requirements.amount) == Some(terms.amount())
}

/// Requirements that name another contract than the token for the signature are another party's, who settles
/// them through a contract of their own (a gateway): here they would fail as a wrong name or signature.
fn verifying_contract(rules: &mut Rules, wanted: &Requirements, network: &Network) -> bool {
    let Some(named) = &wanted.verifying_contract else { return true };
    let own = Address::parse(Family::Evm, named) == Some(network.asset.address);
    let found = format!(
        "extra.verifyingContract is {}, another contract than the asset (a gateway of another party): that is not settled here",
        quoted(named)
    );
    let found = ("extra.verifyingContract is the asset", found);
    rules.rule("verifying_contract", own, Reason::InvalidRequirements, found)
}

/// A name or version that is given must be the token's; one that is missing is filled in from the registry.
fn domain(rules: &mut Rules, wanted: &Requirements, network: &Network) -> bool {
    let Some((name, version)) = network.asset.eip712 else {
        let found = "the token has no EIP-712 domain".to_owned();
        return rules.rule("eip712_domain", false, Reason::EvmMissingDomain, found);
    };
    let same = |given: &Option<String>, own: &str| given.as_deref().is_none_or(|given| given == own);
    let found = |member: &str, given: &Option<String>, own: &str| match given {
        Some(given) => format!("extra.{member} is {}, the token's {member} is '{own}'", quoted(given)),
        None => format!("the token's {member} is '{own}'"),
    };
    let of_name = found("name", &wanted.name, name);
    rules.rule("token_name", same(&wanted.name, name), Reason::EvmTokenName, of_name)
        && rules.rule(
            "token_version",
            same(&wanted.version, version),
            Reason::EvmTokenVersion,
            found("version", &wanted.version, version),
        )
}

fn agree(accepted: &Requirements, wanted: &Requirements) -> bool {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    accepted.amount == wanted.amount
        && same(&accepted.asset, &wanted.asset)
        && same(&accepted.pay_to, &wanted.pay_to)
        && accepted.name == wanted.name
        && accepted.version == wanted.version
}

/// The authorization with every member parsed; the amount and `payTo` of the requirements must parse too.
fn typed(rules: &mut Rules, payment: &Payment, network: &Network) -> Option<Terms> {
    let Payload::Eip3009(given) = &payment.payload else {
        let found = "the payload lacks an authorization of six texts, or its signature".to_owned();
        rules.rule("payload", false, Reason::InvalidPayload, found);
        return None;
    };
    let found = (
        "addresses of 20 bytes, decimal numbers and a nonce of 32 bytes",
        "an address of the authorization is not 20 bytes, a number is not decimal, or the nonce is not 32 bytes",
    );
    let signed = authorization(given);
    rules.rule("payload", signed.is_some(), Reason::InvalidPayload, found).then_some(())?;
    let signature = Signed::read(&given.signature);
    let found = ("the signature is hex", "the signature is not hex, or too long");
    rules.rule("signature_form", signature.is_some(), Reason::EvmUnparsedSignature, found).then_some(())?;
    let (Address::Evm(asset), Some(separator)) = (network.asset.address, network.asset.separator) else { return None };
    Some(Terms {
        signed: signed?,
        signature: signature?,
        asset,
        separator,
        fees: network.settle.and_then(|settle| settle.gas()).map_or(Fees::Eip1559, |gas| gas.fees),
        calls: RefCell::new(None),
        signer: OnceCell::new(),
    })
}

fn authorization(given: &Eip3009) -> Option<TransferWithAuthorization> {
    let address = |text: &str| match Address::parse(Family::Evm, text)? {
        Address::Evm(address) => Some(address),
        Address::Svm(_) => None,
    };
    let number = |text: &str| Amount::parse_atomic(text).map(|Amount(number)| number);
    Some(TransferWithAuthorization {
        from: address(&given.from)?,
        to: address(&given.to)?,
        value: number(&given.value)?,
        validAfter: number(&given.valid_after)?,
        validBefore: number(&given.valid_before)?,
        nonce: hex_bytes::<32>(&given.nonce)?.into(),
    })
}

/// How long an authorization must last to be judged, sent and mined: two blocks and some, six seconds at least.
fn margin_s(network: &Network) -> u64 {
    let two_blocks_s = network.block_time_ms.saturating_mul(2).div_ceil(1_000);
    two_blocks_s.saturating_add(BEYOND_BLOCKS_S).max(MARGIN_S)
}

fn conditions(rules: &mut Rules, payment: &Payment, terms: &Terms, (now, margin_s): (UnixSeconds, u64)) -> bool {
    let wanted = &payment.requirements;
    let signed = &terms.signed;
    let to = Address::parse(Family::Evm, &wanted.pay_to);
    let now_s = U256::from(now.0);
    let soonest = now_s.saturating_add(U256::from(margin_s));
    let value_reason = match payment.version {
        Version::One => Reason::EvmValueV1,
        Version::Two => Reason::EvmValue,
    };
    let amount = Amount::parse_atomic(&wanted.amount);
    rules.rule(
        "recipient",
        to == Some(terms.pay_to()),
        Reason::EvmRecipient,
        format!("it pays {:#x}, payTo is {}", signed.to, quoted(&wanted.pay_to)),
    ) && rules.rule(
        "valid_before",
        signed.validBefore >= soonest,
        Reason::EvmValidBefore,
        format!("valid until {}, it is {}, and {margin_s} s are needed", signed.validBefore, now.0),
    ) && rules.rule(
        "valid_after",
        signed.validAfter < now_s,
        Reason::EvmValidAfter,
        format!("valid after {}, it is {}", signed.validAfter, now.0),
    ) && rules.rule(
        "value",
        amount == Some(terms.amount()),
        value_reason,
        format!("{} signed, {} required", signed.value, wanted.amount),
    )
}

#[cfg(test)]
mod tests;
