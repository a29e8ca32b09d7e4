//! The rules that need the chain: the transaction is simulated as it would be sent, and a payer with code is asked
//! about its signature.

mod revert_reason;

use super::EvmExactPayment;
use crate::address::Address;
use crate::evm::cache::VerificationCache;
use crate::evm::sender::TransactionSender;
use crate::evm::{abi, answered_text, calls, code_kind, eip3009};
use crate::facts::{Call, ErrorClass, Facts, RpcError, RpcReply, Undecided};
use crate::reason::Reason;
use crate::schemes::exact::rules::{OnchainContext, OnchainVerdict, SchemeRules, UNREAD_PAYER};
use crate::trace::CodeKind;
use alloy_primitives::{Address as Address20, U256};
use core::cell::OnceCell;
use std::rc::Rc;

/// The sentences about an authorization's state.
const UNUSED_DETAIL: (&str, &str) =
    ("the authorization was not used before", "the authorization was used or cancelled before");

/// The calls about one sender's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SimulationCalls {
    sender: TransactionSender,
    from: Address20,
    /// `eth_getCode` of the payer's address.
    payer_code: Call,
    /// `eth_getCode` of the token's address.
    token_code: Call,
    /// The transfer, called for a payer without code.
    eoa_transfer: OnceCell<Call>,
    /// The transfer, called for a payer with code.
    contract_transfer: OnceCell<Call>,
    /// The call that asks a contract whether the signature is its own, as the transaction would make it.
    wallet_signature: OnceCell<Call>,
}

impl SimulationCalls {
    fn transfer_call(&self, terms: &EvmExactPayment, code: CodeKind) -> &Call {
        let kept = if code == CodeKind::None { &self.eoa_transfer } else { &self.contract_transfer };
        kept.get_or_init(|| self.simulation_call(terms, terms.asset, &terms.calldata(code)))
    }

    fn wallet_call(&self, terms: &EvmExactPayment) -> &Call {
        self.wallet_signature.get_or_init(|| {
            self.simulation_call(terms, terms.signed.from, &terms.signature.erc1271_calldata(terms.digest()))
        })
    }

    fn simulation_call(&self, terms: &EvmExactPayment, contract: Address20, data: &[u8]) -> Call {
        calls::simulation_call(contract, self.from, &self.sender, terms.fees, data)
    }
}

impl EvmExactPayment {
    fn simulation_calls(&self, sender: &TransactionSender) -> Result<Rc<SimulationCalls>, Undecided> {
        let Address::Evm(from) = sender.address else { return Err(Undecided::malformed("sender_of_another_family")) };
        let mut kept = self.calls.borrow_mut();
        if let Some(calls) = kept.as_ref().filter(|calls| calls.sender == *sender) {
            return Ok(Rc::clone(calls));
        }
        let calls = Rc::new(SimulationCalls {
            sender: *sender,
            from,
            payer_code: calls::code_call(self.signed.from),
            token_code: calls::code_call(self.asset),
            eoa_transfer: OnceCell::new(),
            contract_transfer: OnceCell::new(),
            wallet_signature: OnceCell::new(),
        });
        *kept = Some(Rc::clone(&calls));
        Ok(calls)
    }

    /// Whether the payer recently had code; `None` where that is not remembered.
    fn cached_has_code(&self, known: OnchainContext<'_>) -> Option<bool> {
        known.memory.has_code(&self.separator, self.signed.from, known.now)
    }

    /// Whether the payer is taken to have no code, since it had none a moment ago. If it has got code since, the token
    /// calls it when the transfer is simulated, and settling reads the code anew.
    fn is_cached_eoa(&self, known: OnchainContext<'_>) -> bool {
        !known.settles && !self.signature.is_wrapped() && self.cached_has_code(known) == Some(false)
    }

    /// Whether the payer's own key signed, which counts for a payer without code.
    fn recovers_to_payer(&self, memory: &VerificationCache) -> bool {
        self.signer(memory) == Some(self.signed.from)
    }

    /// The kind of account at the payer's address, as far as it is known or the signature's length shows: an account
    /// without code signs with 65 bytes, or 64.
    fn likely_code_kind(&self, known: OnchainContext<'_>) -> CodeKind {
        let is_plain = self.signature.may_be_eoa() && self.cached_has_code(known) != Some(true);
        if is_plain { CodeKind::None } else { CodeKind::Contract }
    }

    /// The calls where the transfer would fail: whether the authorization is used, and the payer's balance.
    fn failure_calls(&self) -> [Call; 2] {
        let signed = &self.signed;
        let state = token_view_call(self.asset, &eip3009::authorization_state_calldata(signed.from, signed.nonce));
        [state, token_view_call(self.asset, &eip3009::balance_calldata(signed.from))]
    }
}

/// Simulates the transfer and, unless the cache has it, reads the code of payer and token, all in one round. A payer
/// that turns out to have code takes a second round; the reason of a failure takes one more.
pub(crate) fn verify_onchain(
    terms: &EvmExactPayment,
    sender: &TransactionSender,
    known: OnchainContext<'_>,
) -> Result<OnchainVerdict, Undecided> {
    let (mut rules, facts) = (SchemeRules::of_state(), known.facts);
    let is_deployed = known.memory.is_deployed(&terms.separator, known.now);
    if is_deployed && terms.is_cached_eoa(known) && !terms.recovers_to_payer(known.memory) {
        // No call is needed: the payer recently signed with its own key and had no code.
        rules = SchemeRules::default();
        check_eoa_signature(&mut rules, terms, known.memory);
        return Ok(OnchainVerdict::Checked(rules, CodeKind::None));
    }
    let calls = terms.simulation_calls(sender)?;
    let guess = terms.likely_code_kind(known);
    let first = calls.transfer_call(terms, guess);
    if let Some(ours) = facts.get(first).and_then(signer_fault) {
        return Ok(ours);
    }
    let is_refused = facts.get(first).is_some_and(|reply| execution_error(reply).is_some());
    if is_refused && facts.get(&calls.payer_code).is_none() {
        // A payer without code may have got code: it is read together with other possible reasons.
        let [state, held] = terms.failure_calls();
        facts.require([&calls.payer_code, &state, &held])?;
    }
    let code = (is_refused || !terms.is_cached_eoa(known)).then_some(&calls.payer_code);
    let token = (!is_deployed).then_some(&calls.token_code);
    let wallet = (guess != CodeKind::None).then(|| calls.wallet_call(terms));
    facts.require([Some(first), code, token, wallet].into_iter().flatten())?;
    let payer = match code {
        Some(code) => read_code_kind(facts, code).map_err(|_| Undecided::malformed(UNREAD_PAYER))?,
        None => CodeKind::None,
    };
    // That there is no code is the report of one node, which may be behind; the payer's own signature supports it.
    if code.is_some() && (payer != CodeKind::None || terms.recovers_to_payer(known.memory)) {
        known.memory.note_code(terms.separator, terms.signed.from, payer != CodeKind::None, known.now);
    }
    if let Some(token) = token {
        let deployed = read_code_kind(facts, token)? != CodeKind::None;
        let found = ("there is a contract at the asset's address", "there is no contract at the asset's address");
        if !rules.record("asset_deployed", deployed, Reason::EvmAsset, found) {
            return Ok(OnchainVerdict::Checked(rules, payer));
        }
        known.memory.note_deployed(terms.separator, known.now);
    }
    if payer == CodeKind::None && !check_eoa_signature(&mut rules, terms, known.memory) {
        return Ok(OnchainVerdict::Checked(rules, payer));
    }
    let simulation = calls.transfer_call(terms, payer);
    let wallet = (payer != CodeKind::None).then(|| calls.wallet_call(terms));
    facts.require([Some(simulation), wallet].into_iter().flatten())?;
    let [simulated] = facts.require_all(core::array::from_ref(simulation))?;
    if let Some(ours) = signer_fault(simulated) {
        return Ok(ours);
    }
    if let Some(wallet) = wallet
        && !check_wallet_signature(&mut rules, facts, wallet, execution_error(simulated).is_some())?
    {
        return Ok(OnchainVerdict::Checked(rules, payer));
    }
    let is_silent =
        wallet.and_then(|ask| execution_error(facts.get(ask)?)).is_some_and(|error| error.class == ErrorClass::Halted);
    check_simulation(
        &mut rules,
        terms,
        sender,
        TransferSimulation { reply: simulated, wallet_out_of_gas: is_silent },
        facts,
    )?;
    Ok(OnchainVerdict::Checked(rules, payer))
}

/// A failure on our side, not the payer's.
fn signer_fault(reply: &RpcReply) -> Option<OnchainVerdict> {
    let RpcReply::Error(error) = reply else { return None };
    let ours = [
        (ErrorClass::SignerUnfunded, OnchainVerdict::SignerUnfunded),
        (ErrorClass::Underpriced, OnchainVerdict::Underpriced),
    ];
    ours.into_iter().find(|(class, _)| *class == error.class).map(|(_, verdict)| verdict)
}

/// An answer that a call was executed and failed.
const fn execution_error(reply: &RpcReply) -> Option<&RpcError> {
    match reply {
        RpcReply::Error(error) if matches!(error.class, ErrorClass::Revert | ErrorClass::Halted) => Some(error),
        RpcReply::Error(_) | RpcReply::Value(_) => None,
    }
}

/// The result of simulating the transfer.
#[derive(Clone, Copy)]
struct TransferSimulation<'a> {
    reply: &'a RpcReply,
    /// Whether the payer's wallet ran out of gas before it could answer about the signature.
    wallet_out_of_gas: bool,
}

/// Whether the transfer would succeed; if not, the reason is read.
fn check_simulation(
    rules: &mut SchemeRules,
    terms: &EvmExactPayment,
    sender: &TransactionSender,
    simulated: TransferSimulation<'_>,
    facts: &Facts,
) -> Result<(), Undecided> {
    match (simulated.reply, execution_error(simulated.reply)) {
        (RpcReply::Value(_), _) => {
            let detail = match sender.price {
                Some(_) => "the transfer would succeed",
                None => "the transfer would succeed; it was simulated without a price",
            };
            rules.record("authorization_unused", true, Reason::EvmNonceUsed, UNUSED_DETAIL);
            rules.record("balance", true, Reason::EvmBalance, "the payer holds the amount".to_owned());
            rules.record("simulation", true, Reason::EvmSimulation, detail.to_owned());
            Ok(())
        }
        (RpcReply::Error(_), Some(error)) => {
            explain_failure(rules, terms, (&error.message, simulated.wallet_out_of_gas), facts)
        }
        (RpcReply::Error(error), None) => Err(Undecided::malformed_with("node_error", &error.message)),
    }
}

/// The kind of account, by the code that a node answered.
fn read_code_kind(facts: &Facts, call: &Call) -> Result<CodeKind, Undecided> {
    answered_text(facts, call).and_then(|text| code_kind(&text)).ok_or_else(|| Undecided::malformed("malformed_code"))
}

/// Why the transfer would fail. `is_silent`: a token reports an invalid signature then, although its validity is
/// unknown.
fn explain_failure(
    rules: &mut SchemeRules,
    terms: &EvmExactPayment,
    (words, is_silent): (&str, bool),
    facts: &Facts,
) -> Result<(), Undecided> {
    let signed = &terms.signed;
    let [state, held] = terms.failure_calls();
    let [reply, holds] = facts.require_all(&[state.clone(), held.clone()])?;
    let used = match reply {
        RpcReply::Value(_) => answered_text(facts, &state).and_then(|text| abi::boolean(&text)),
        RpcReply::Error(_) if execution_error(reply).is_some() => {
            let found = "the token does not implement EIP-3009".to_owned();
            rules.record("eip3009", false, Reason::EvmNoEip3009, found);
            return Ok(());
        }
        RpcReply::Error(error) => return Err(Undecided::malformed_with("node_error", &error.message)),
    };
    let used = used.ok_or_else(|| Undecided::malformed("malformed_authorization_state"))?;
    if !rules.record("authorization_unused", !used, Reason::EvmNonceUsed, UNUSED_DETAIL) {
        return Ok(());
    }
    if let (RpcReply::Error(error), None) = (holds, execution_error(holds)) {
        return Err(Undecided::malformed_with("node_error", &error.message));
    }
    let held = answered_text(facts, &held).and_then(|text| abi::word(&text)).map(U256::from_be_bytes);
    let enough = held.is_none_or(|held| held >= signed.value);
    let detail = match held {
        Some(held) => format!("the payer holds {held}, and {} are to be paid", signed.value),
        None => "the token does not report the payer's balance".to_owned(),
    };
    if rules.record("balance", enough, Reason::EvmBalance, detail) {
        let (reason, detail) = match revert_reason::revert_meaning(words) {
            (Reason::EvmSignature, _) if is_silent => {
                let detail = format!("the payer's wallet needs more gas than a settlement may use: {words}");
                (Reason::EvmSimulation, detail)
            }
            meaning => meaning,
        };
        rules.record("simulation", false, reason, detail);
    }
    Ok(())
}

/// An account without code signs with its own key.
fn check_eoa_signature(rules: &mut SchemeRules, terms: &EvmExactPayment, memory: &VerificationCache) -> bool {
    if terms.signature.is_wrapped() {
        let found = "the payer's wallet is not deployed, and this service deploys none".to_owned();
        return rules.record("wallet_deployed", false, Reason::EvmFactory, found);
    }
    let good = terms.recovers_to_payer(memory);
    let detail = match terms.signer(memory) {
        Some(_) if good => "signed by the payer".to_owned(),
        Some(signer) => format!("signed by {signer}"),
        None => "no signer can be recovered from the signature".to_owned(),
    };
    rules.record("signature", good, Reason::EvmSignature, detail)
}

/// A payer with code is asked (ERC-1271), one with an EIP-7702 delegation too, since the token would ask it as well.
/// `fails`: the transfer fails.
fn check_wallet_signature(rules: &mut SchemeRules, facts: &Facts, ask: &Call, fails: bool) -> Result<bool, Undecided> {
    let [answer] = facts.require_all(core::array::from_ref(ask))?;
    let good = match (answer, execution_error(answer)) {
        // The gas did not suffice for an answer, and does not for the transfer: that is the reason.
        (_, Some(error)) if error.class == ErrorClass::Halted && fails => return Ok(true),
        (_, Some(_)) => false,
        (RpcReply::Value(_), None) => answered_text(facts, ask).is_some_and(|text| eip3009::accepts_signature(&text)),
        (RpcReply::Error(error), None) => return Err(Undecided::malformed_with("node_error", &error.message)),
    };
    let found = (
        "the payer is a contract, and accepts the signature",
        "the payer is a contract, and does not accept the signature",
    );
    Ok(rules.record("signature", good, Reason::EvmSignature, found))
}

fn token_view_call(contract: Address20, data: &[u8]) -> Call {
    calls::view_call(contract, calls::prefixed_hex(data))
}

#[cfg(test)]
mod tests;
