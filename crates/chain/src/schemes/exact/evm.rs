//! The scheme `exact` with EIP-3009 (docs/spec/protocol.md#p-2-1): first the rules that need no chain, then one round
//! of calls.

mod onchain;

pub(crate) use onchain::verify_onchain;

use crate::address::{Address, Family, hex_bytes};
use crate::amount::Amount;
use crate::evm::cache::VerificationCache;
use crate::evm::eip3009;
use crate::evm::eip3009::{PayerSignature, TransferWithAuthorization};
use crate::network::{FeeModel, Network};
use crate::reason::Reason;
use crate::schemes::exact::rules::{ACCEPTED_DETAIL, SchemeRules, check_scheme, networks_detail, quote_text};
use crate::time::UnixSeconds;
use crate::trace::CodeKind;
use crate::x402::{AcceptedRequirements, Eip3009, Payload, Payment, Requirements, X402Version};
use alloy_primitives::{Address as Address20, B256, U256};
use core::cell::{OnceCell, RefCell};
use std::rc::Rc;

/// The least seconds that an authorization must still be valid: the reference's margin, three blocks of two seconds.
const MARGIN_S: u64 = 6;
/// Seconds that it must be valid beyond two blocks: one to be checked and sent, two for clocks that differ.
const BEYOND_BLOCKS_S: u64 = 3;

/// An authorization with every member parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvmExactPayment {
    signed: TransferWithAuthorization,
    signature: PayerSignature,
    asset: Address20,
    separator: [u8; 32],
    fees: FeeModel,
    /// The calls about a sender, cached: they are needed again after the answers, and cost hex encoding.
    calls: RefCell<Option<Rc<onchain::SimulationCalls>>>,
    /// The recovered signer, cached: recovering it, or finding it in the cache, costs hashes.
    signer: OnceCell<Option<Address20>>,
}

impl EvmExactPayment {
    /// The address whose tokens move.
    #[must_use]
    pub const fn payer(&self) -> Address {
        Address::Evm(self.signed.from)
    }

    /// The address that is paid (`payTo`).
    #[must_use]
    pub(crate) const fn pay_to(&self) -> Address {
        Address::Evm(self.signed.to)
    }

    /// The amount, in the asset's atomic units.
    #[must_use]
    pub(crate) const fn amount(&self) -> Amount {
        Amount(self.signed.value)
    }

    /// Whether the payer's own key signed it, as an account without code does.
    #[must_use]
    pub fn is_signed_by_payer(&self) -> bool {
        self.signature.signer(self.digest()) == Some(self.signed.from)
    }

    /// The authorization's nonce.
    #[must_use]
    pub const fn nonce(&self) -> B256 {
        self.signed.nonce
    }

    /// From when on it is invalid (`validBefore`).
    #[must_use]
    pub(crate) fn valid_before(&self) -> UnixSeconds {
        UnixSeconds(self.signed.validBefore.saturating_to())
    }

    /// The signature as the buyer sent it.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        self.signature.original_bytes()
    }

    /// The digest that an account without code signs.
    fn digest(&self) -> B256 {
        eip3009::digest(self.separator, &self.signed)
    }

    /// The address whose key signed it, if it can be recovered.
    fn signer(&self, memory: &VerificationCache) -> Option<Address20> {
        *self.signer.get_or_init(|| memory.signer(&self.signature, self.digest()))
    }

    /// The calldata that moves the tokens, by the kind of account at the payer's address.
    #[must_use]
    pub fn calldata(&self, code: CodeKind) -> Vec<u8> {
        self.signature.transfer_calldata(&self.signed, code)
    }
}

/// Checks every rule that needs no chain.
pub(crate) fn verify_offchain(
    rules: &mut SchemeRules,
    payment: &Payment,
    network: &Network,
    now: UnixSeconds,
) -> Option<EvmExactPayment> {
    let wanted = &payment.requirements;
    let asset = Address::parse(Family::Evm, &wanted.asset).filter(|asset| *asset == network.asset.address);
    let found = format!("the asset is {}, the registered one is {}", quote_text(&wanted.asset), network.asset.text);
    rules.record("asset", asset.is_some(), Reason::AssetNotAllowed, found).then_some(())?;
    let (is_own, found) = check_scheme(payment);
    rules.record("scheme", is_own, Reason::EvmScheme, found).then_some(())?;
    check_verifying_contract(rules, wanted, network).then_some(())?;
    check_eip712_domain(rules, wanted, network).then_some(())?;
    let same = payment.accepted.network() == wanted.network;
    rules.record("network", same, Reason::EvmNetworkMismatch, networks_detail(payment)).then_some(())?;
    let accepted = match &payment.accepted {
        AcceptedRequirements::Named { .. } => true,
        AcceptedRequirements::Whole(accepted) => matches_requirements(accepted, wanted),
    };
    rules.record("accepted", accepted, Reason::InvalidRequirements, ACCEPTED_DETAIL).then_some(())?;
    let terms = read_authorization_and_signature(rules, payment, network)?;
    let good = check_authorization(rules, payment, &terms, (now, margin_s(network)));
    (good || is_only_expired(rules, payment, &terms)).then_some(terms)
}

/// Whether its time is the only rule that failed: it may have been settled in time. Who signed it is checked apart
/// ([`EvmExactPayment::is_signed_by_payer`]).
fn is_only_expired(rules: &SchemeRules, payment: &Payment, terms: &EvmExactPayment) -> bool {
    rules.refusal.as_ref().is_some_and(|(reason, _)| *reason == Reason::EvmValidBefore)
        && Amount::parse_atomic(&payment.requirements.amount) == Some(terms.amount())
}

/// Requirements that name another contract than the token for the signature are another party's, who settles them
/// through its own contract (a gateway): here they would fail as a wrong name or signature.
fn check_verifying_contract(rules: &mut SchemeRules, wanted: &Requirements, network: &Network) -> bool {
    let Some(named) = &wanted.verifying_contract else { return true };
    let own = Address::parse(Family::Evm, named) == Some(network.asset.address);
    let found = format!(
        "extra.verifyingContract is {}, another contract than the asset: only the asset's own is settled here",
        quote_text(named)
    );
    let found = ("extra.verifyingContract is the asset", found);
    rules.record("verifying_contract", own, Reason::InvalidRequirements, found)
}

/// A name or version that is given must be the token's; one that is missing is filled in from the registry.
fn check_eip712_domain(rules: &mut SchemeRules, wanted: &Requirements, network: &Network) -> bool {
    let Some((name, version)) = network.asset.eip712 else {
        let found = "the token has no EIP-712 domain".to_owned();
        return rules.record("eip712_domain", false, Reason::EvmMissingDomain, found);
    };
    let same = |given: &Option<String>, own: &str| given.as_deref().is_none_or(|given| given == own);
    let found = |member: &str, given: &Option<String>, own: &str| match given {
        Some(given) => format!("extra.{member} is {}, the token's {member} is '{own}'", quote_text(given)),
        None => format!("the token's {member} is '{own}'"),
    };
    let of_name = found("name", &wanted.name, name);
    rules.record("token_name", same(&wanted.name, name), Reason::EvmTokenName, of_name)
        && rules.record(
            "token_version",
            same(&wanted.version, version),
            Reason::EvmTokenVersion,
            found("version", &wanted.version, version),
        )
}

fn matches_requirements(accepted: &Requirements, wanted: &Requirements) -> bool {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    accepted.amount == wanted.amount
        && same(&accepted.asset, &wanted.asset)
        && same(&accepted.pay_to, &wanted.pay_to)
        && accepted.name == wanted.name
        && accepted.version == wanted.version
}

/// The authorization with every member parsed; the amount and `payTo` of the requirements must parse too.
fn read_authorization_and_signature(
    rules: &mut SchemeRules,
    payment: &Payment,
    network: &Network,
) -> Option<EvmExactPayment> {
    let Payload::Eip3009(given) = &payment.payload else {
        let found = "the payload lacks 'authorization' with its six members as strings, or 'signature'".to_owned();
        rules.record("payload", false, Reason::InvalidPayload, found);
        return None;
    };
    let found = (
        "the authorization has addresses of 20 bytes, decimal numbers and a nonce of 32 bytes",
        "an address of the authorization is not 20 bytes, a number is not decimal, or the nonce is not 32 bytes",
    );
    let signed = read_authorization(given);
    rules.record("payload", signed.is_some(), Reason::InvalidPayload, found).then_some(())?;
    let signature = PayerSignature::read(&given.signature);
    let found = ("the signature is hex", "the signature is not hex, or is longer than 8,192 bytes");
    rules.record("signature_form", signature.is_some(), Reason::EvmUnparsedSignature, found).then_some(())?;
    let (Address::Evm(asset), Some(separator)) = (network.asset.address, network.asset.separator) else { return None };
    Some(EvmExactPayment {
        signed: signed?,
        signature: signature?,
        asset,
        separator,
        fees: network.settle.and_then(|settle| settle.gas()).map_or(FeeModel::Eip1559, |gas| gas.fees),
        calls: RefCell::new(None),
        signer: OnceCell::new(),
    })
}

fn read_authorization(given: &Eip3009) -> Option<TransferWithAuthorization> {
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

/// How long an authorization must be valid to be checked, sent and mined: a little more than two blocks, six seconds at
/// least.
fn margin_s(network: &Network) -> u64 {
    let two_blocks_s = network.block_time_ms.saturating_mul(2).div_ceil(1_000);
    two_blocks_s.saturating_add(BEYOND_BLOCKS_S).max(MARGIN_S)
}

fn check_authorization(
    rules: &mut SchemeRules,
    payment: &Payment,
    terms: &EvmExactPayment,
    (now, margin_s): (UnixSeconds, u64),
) -> bool {
    let wanted = &payment.requirements;
    let signed = &terms.signed;
    let to = Address::parse(Family::Evm, &wanted.pay_to);
    let now_s = U256::from(now.0);
    let soonest = now_s.saturating_add(U256::from(margin_s));
    let value_reason = match payment.version {
        X402Version::One => Reason::EvmValueV1,
        X402Version::Two => Reason::EvmValue,
    };
    let amount = Amount::parse_atomic(&wanted.amount);
    rules.record(
        "recipient",
        to == Some(terms.pay_to()),
        Reason::EvmRecipient,
        format!("it pays {:#x}, payTo is {}", signed.to, quote_text(&wanted.pay_to)),
    ) && rules.record(
        "valid_before",
        signed.validBefore >= soonest,
        Reason::EvmValidBefore,
        format!("valid before {}; the time is {}, and {margin_s} s must be left", signed.validBefore, now.0),
    ) && rules.record(
        "valid_after",
        signed.validAfter < now_s,
        Reason::EvmValidAfter,
        format!("valid after {}; the time is {}", signed.validAfter, now.0),
    ) && rules.record(
        "value",
        amount == Some(terms.amount()),
        value_reason,
        format!("{} signed, {} required", signed.value, wanted.amount),
    )
}

#[cfg(test)]
mod tests;
