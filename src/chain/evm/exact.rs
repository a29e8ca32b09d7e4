//! The scheme `exact` with EIP-3009 (PROTOCOL 2.1): what is free first, then
//! one round of questions to the chain.

use super::eip3009::{self, Signed, TransferWithAuthorization};
use super::memory::Memory;
use super::{abi, code_kind, question, said};
use crate::address::{Address, Family};
use crate::amount::Amount;
use crate::chain::exact::{Known, Rules};
use crate::chain::facts::{Call, ErrorClass, Facts, Reply, Unknown};
use crate::chain::trace::CodeKind;
use crate::network::Network;
use crate::payment::x402::{Accepted, Eip3009, Payload, Payment, Requirements, Version};
use crate::reason::Reason;
use crate::time::UnixSeconds;
use alloy_primitives::{Address as Address20, B256, U256};
use core::cell::OnceCell;

/// Seconds that an authorization must last beyond now: the reference's margin for three blocks of two.
const MARGIN_S: u64 = 6;
/// What a wallet answers to its own signature (ERC-1271).
const ERC1271_MAGIC: &str = "0x1626ba7e";

/// An authorization whose every member is of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    signed: TransferWithAuthorization,
    signature: Signed,
    asset: Address20,
    separator: [u8; 32],
    /// The questions of the first round: they are asked for twice, before and after the answers.
    calls: OnceCell<[Call; 3]>,
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

    /// The authorization's nonce.
    #[must_use]
    pub const fn nonce(&self) -> B256 {
        self.signed.nonce
    }

    /// The code at the payer, the transfer itself, and the code at the token.
    fn calls(&self, sender: Address20) -> &[Call; 3] {
        self.calls.get_or_init(|| {
            [
                question::code(self.signed.from),
                question::simulation(self.asset, sender, &self.calldata()),
                question::code(self.asset),
            ]
        })
    }

    /// What an account without code signs.
    fn digest(&self) -> B256 {
        eip3009::digest(self.separator, &self.signed)
    }

    /// Whose key signed it, if any's did.
    fn signer(&self, memory: &Memory) -> Option<Address20> {
        *self.signer.get_or_init(|| memory.signer(&self.signature, self.digest()))
    }

    /// Whether a verdict needs no look at the payer's code: it signed by itself
    /// and had none of late. If it has got some since, the token asks it when the
    /// transfer is simulated, and settling looks again.
    fn is_plain(&self, known: Known<'_>) -> bool {
        let payer = self.signed.from;
        !known.settles
            && !self.signature.wrapped
            && known.memory.is_plain(&self.separator, payer, known.now)
            && self.signer(known.memory) == Some(payer)
    }

    /// What is asked where the transfer would fail: whether the authorization is used, and what the payer holds.
    fn inquiry(&self) -> [Call; 2] {
        let signed = &self.signed;
        let state = view(self.asset, &eip3009::state(signed.from, signed.nonce));
        [state, view(self.asset, &eip3009::balance(signed.from))]
    }

    /// The token's call that moves the money.
    #[must_use]
    pub fn calldata(&self) -> Vec<u8> {
        self.signature.transfer(&self.signed)
    }
}

/// All that can be judged without the chain.
pub(crate) fn free(rules: &mut Rules, payment: &Payment, network: &Network, now: UnixSeconds) -> Option<Terms> {
    let wanted = &payment.requirements;
    let asset = Address::parse(Family::Evm, &wanted.asset).filter(|asset| *asset == network.asset.address);
    let told = format!("the registered asset is {}", network.asset.text);
    rules.rule("asset", asset.is_some(), Reason::AssetNotAllowed, told).then_some(())?;
    let scheme = wanted.scheme == "exact" && payment.accepted.scheme() == wanted.scheme;
    rules.rule("scheme", scheme, Reason::EvmScheme, "the scheme is exact on both sides").then_some(())?;
    domain(rules, wanted, network).then_some(())?;
    let same = payment.accepted.network() == wanted.network;
    rules.rule("network", same, Reason::EvmNetworkMismatch, "one network on both sides").then_some(())?;
    let accepted = match &payment.accepted {
        Accepted::Named { .. } => true,
        Accepted::Whole(accepted) => agree(accepted, wanted),
    };
    let told = "the buyer accepted these requirements";
    rules.rule("accepted", accepted, Reason::InvalidRequirements, told).then_some(())?;
    let terms = typed(rules, payment, network)?;
    let good = conditions(rules, payment, &terms, now);
    (good || is_only_late(rules, payment, &terms)).then_some(terms)
}

/// Whether nothing is wrong with it but that its time is over, which is free
/// to say of an account that signs by itself: it may have been settled in time.
fn is_only_late(rules: &Rules, payment: &Payment, terms: &Terms) -> bool {
    rules.refusal.as_ref().is_some_and(|(reason, _)| *reason == Reason::EvmValidBefore)
        && Amount::parse_atomic(&payment.requirements.amount) == Some(terms.amount())
        && terms.signature.signer(terms.digest()) == Some(terms.signed.from)
}

/// A name or version that is given must be the token's; one that is missing is filled in from the registry.
fn domain(rules: &mut Rules, wanted: &Requirements, network: &Network) -> bool {
    let Some((name, version)) = network.asset.eip712 else {
        return rules.rule("eip712_domain", false, Reason::EvmMissingDomain, "the token has no EIP-712 domain");
    };
    let same = |given: &Option<String>, own: &str| given.as_deref().is_none_or(|given| given == own);
    rules.rule("token_name", same(&wanted.name, name), Reason::EvmTokenName, format!("the token is named '{name}'"))
        && rules.rule(
            "token_version",
            same(&wanted.version, version),
            Reason::EvmTokenVersion,
            format!("the token's version is '{version}'"),
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
        rules.rule("payload", false, Reason::InvalidPayload, "an authorization and its signature are expected");
        return None;
    };
    let told = "addresses of 20 bytes, decimal numbers and a nonce of 32 bytes";
    let signed = authorization(given);
    rules.rule("payload", signed.is_some(), Reason::InvalidPayload, told).then_some(())?;
    let signature = Signed::read(&given.signature);
    let told = "the signature is hex";
    rules.rule("signature_form", signature.is_some(), Reason::EvmUnparsedSignature, told).then_some(())?;
    let (Address::Evm(asset), Some(separator)) = (network.asset.address, network.asset.separator) else { return None };
    Some(Terms {
        signed: signed?,
        signature: signature?,
        asset,
        separator,
        calls: OnceCell::new(),
        signer: OnceCell::new(),
    })
}

fn authorization(given: &Eip3009) -> Option<TransferWithAuthorization> {
    let address = |text: &str| match Address::parse(Family::Evm, text)? {
        Address::Evm(address) => Some(address),
        Address::Svm(_) => None,
    };
    let number = |text: &str| Amount::parse_atomic(text).map(|Amount(number)| number);
    let mut nonce = [0_u8; 32];
    hex::decode_to_slice(given.nonce.strip_prefix("0x")?, &mut nonce).ok()?;
    Some(TransferWithAuthorization {
        from: address(&given.from)?,
        to: address(&given.to)?,
        value: number(&given.value)?,
        validAfter: number(&given.valid_after)?,
        validBefore: number(&given.valid_before)?,
        nonce: nonce.into(),
    })
}

fn conditions(rules: &mut Rules, payment: &Payment, terms: &Terms, now: UnixSeconds) -> bool {
    let wanted = &payment.requirements;
    let signed = &terms.signed;
    let to = Address::parse(Family::Evm, &wanted.pay_to);
    let now_s = U256::from(now.0);
    let soonest = now_s.saturating_add(U256::from(MARGIN_S));
    let value_reason = match payment.version {
        Version::One => Reason::EvmValueV1,
        Version::Two => Reason::EvmValue,
    };
    let amount = Amount::parse_atomic(&wanted.amount);
    rules.rule("recipient", to == Some(terms.pay_to()), Reason::EvmRecipient, format!("it pays {:#x}", signed.to))
        && rules.rule(
            "valid_before",
            signed.validBefore >= soonest,
            Reason::EvmValidBefore,
            format!("valid until {}, it is {}", signed.validBefore, now.0),
        )
        && rules.rule(
            "valid_after",
            signed.validAfter < now_s,
            Reason::EvmValidAfter,
            format!("valid after {}, it is {}", signed.validAfter, now.0),
        )
        && rules.rule(
            "value",
            amount == Some(terms.amount()),
            value_reason,
            format!("{} signed, {} required", signed.value, wanted.amount),
        )
}

/// The transfer itself, and once in a while the code at the payer and at the
/// token, all in one round; what a failure means in a second.
pub(crate) fn on_chain(rules: &mut Rules, terms: &Terms, sender: &Address, known: Known<'_>) -> Result<(), Unknown> {
    let Address::Evm(sender) = *sender else { return Err(Unknown::nonsense("sender_of_another_family")) };
    let facts = known.facts;
    let [code, simulation, token] = terms.calls(sender);
    let reverts = |reply: &Reply| matches!(reply, Reply::Error(error) if error.class == ErrorClass::Revert);
    let is_refused = facts.get(simulation).is_some_and(reverts);
    if is_refused && facts.get(code).is_none() {
        // A payer who was plain may have got code: it is read together with what else may be the reason.
        let [state, held] = terms.inquiry();
        facts.have([code, &state, &held])?;
    }
    let code = (is_refused || !terms.is_plain(known)).then_some(code);
    let token = (!known.memory.is_deployed(&terms.separator, known.now)).then_some(token);
    facts.have([Some(simulation), code, token].into_iter().flatten())?;
    let payer = match code {
        Some(code) => kind(facts, code)?,
        None => CodeKind::None,
    };
    if code.is_some() && payer == CodeKind::None {
        known.memory.saw_plain(terms.separator, terms.signed.from, known.now);
    }
    if let Some(token) = token {
        let deployed = kind(facts, token)? != CodeKind::None;
        let told = "there is a contract at the asset's address";
        if !rules.rule("asset_deployed", deployed, Reason::EvmAsset, told) {
            return Ok(());
        }
        known.memory.saw_deployed(terms.separator, known.now);
    }
    if !signature(rules, terms, payer, known)? {
        return Ok(());
    }
    match facts.get(simulation) {
        Some(Reply::Value(_)) => {
            rules.rule("authorization_unused", true, Reason::EvmNonceUsed, "the authorization was not used before");
            rules.rule("balance", true, Reason::EvmBalance, "the payer holds the amount");
            rules.rule("simulation", true, Reason::EvmSimulation, "the transfer would succeed");
            Ok(())
        }
        Some(Reply::Error(error)) if error.class == ErrorClass::Revert => {
            look_into(rules, terms, &error.message, facts)
        }
        Some(Reply::Error(error)) => Err(Unknown::nonsense_about("node_error", &error.message)),
        None => Err(Unknown::Missing(vec![simulation.clone()])),
    }
}

/// The code that a node told.
fn kind(facts: &Facts, call: &Call) -> Result<CodeKind, Unknown> {
    said(facts, call).and_then(|text| code_kind(&text)).ok_or_else(|| Unknown::nonsense("malformed_code"))
}

/// Why the transfer would fail.
fn look_into(rules: &mut Rules, terms: &Terms, words: &str, facts: &Facts) -> Result<(), Unknown> {
    let signed = &terms.signed;
    let [state, held] = terms.inquiry();
    let [told, _] = facts.all(&[state.clone(), held.clone()])?;
    let used = match told {
        Reply::Value(_) => said(facts, &state).and_then(|text| abi::boolean(&text)),
        Reply::Error(error) if error.class == ErrorClass::Revert => {
            rules.rule("eip3009", false, Reason::EvmNoEip3009, "the token does not know EIP-3009");
            return Ok(());
        }
        Reply::Error(error) => return Err(Unknown::nonsense_about("node_error", &error.message)),
    };
    let used = used.ok_or_else(|| Unknown::nonsense("malformed_authorization_state"))?;
    if !rules.rule("authorization_unused", !used, Reason::EvmNonceUsed, "the authorization was not used before") {
        return Ok(());
    }
    let held = said(facts, &held).and_then(|text| abi::word(&text)).map(U256::from_be_bytes);
    let enough = held.is_none_or(|held| held >= signed.value);
    let told = format!("the payer holds {}", held.map_or_else(|| "?".to_owned(), |held| held.to_string()));
    if rules.rule("balance", enough, Reason::EvmBalance, told) {
        let told = format!("the transfer would fail: {words}");
        rules.rule("simulation", false, Reason::EvmSimulation, told);
    }
    Ok(())
}

/// An account without code signs by itself; one with code is asked (ERC-1271),
/// an EIP-7702 delegation too: the token would ask it as well.
fn signature(rules: &mut Rules, terms: &Terms, code: CodeKind, known: Known<'_>) -> Result<bool, Unknown> {
    let (name, facts) = ("signature", known.facts);
    match code {
        CodeKind::None if terms.signature.wrapped => {
            let told = "the payer's wallet is not deployed, and no factory is on the list";
            Ok(rules.rule("wallet_deployed", false, Reason::EvmFactory, told))
        }
        CodeKind::None => {
            let signer = terms.signer(known.memory);
            let good = signer == Some(terms.signed.from);
            let told = match signer {
                Some(_) if good => "signed by the payer".to_owned(),
                Some(signer) => format!("signed by {signer}"),
                None => "signed by nobody".to_owned(),
            };
            Ok(rules.rule(name, good, Reason::EvmSignature, told))
        }
        CodeKind::Delegated | CodeKind::Contract => {
            let ask = view(terms.signed.from, &terms.signature.question(terms.digest()));
            let [answer] = facts.all(core::array::from_ref(&ask))?;
            let good = match answer {
                Reply::Value(_) => said(facts, &ask).is_some_and(|text| text.starts_with(ERC1271_MAGIC)),
                Reply::Error(error) if error.class == ErrorClass::Revert => false,
                Reply::Error(error) => return Err(Unknown::nonsense_about("node_error", &error.message)),
            };
            Ok(rules.rule(name, good, Reason::EvmSignature, "the payer is a contract, and was asked"))
        }
    }
}

fn view(contract: Address20, data: &[u8]) -> Call {
    question::view(contract, format!("0x{}", hex::encode(data)))
}

#[cfg(test)]
mod tests;
