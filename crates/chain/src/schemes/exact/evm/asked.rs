//! What only the chain knows of an authorization: the very transaction is
//! simulated, and a payer with code is asked for its signature.

mod reverted;

use super::Terms;
use crate::address::Address;
use crate::evm::memory::Memory;
use crate::evm::sender::Sender;
use crate::evm::{abi, code_kind, eip3009, question, said};
use crate::facts::{Call, ErrorClass, Facts, Reply, RpcError, Unknown};
use crate::reason::Reason;
use crate::schemes::exact::rules::{ChainVerdict, Known, Rules, UNREAD_PAYER};
use crate::trace::CodeKind;
use alloy_primitives::{Address as Address20, U256};
use core::cell::OnceCell;
use std::rc::Rc;

/// What is said of an authorization's state.
const UNUSED: (&str, &str) =
    ("the authorization was not used before", "the authorization was used or cancelled before");

/// What a wallet answers to its own signature (ERC-1271).
const ERC1271_MAGIC: &str = "0x1626ba7e";

/// What may be asked about one sender's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Calls {
    sender: Sender,
    from: Address20,
    /// The code at the payer.
    code: Call,
    /// The code at the token.
    token: Call,
    /// The transfer as it is called for a payer without code.
    plain: OnceCell<Call>,
    /// The transfer as it is called for a contract.
    coded: OnceCell<Call>,
    /// The question to a contract whether this is its signature, as the transaction would ask it.
    wallet: OnceCell<Call>,
}

impl Calls {
    fn transfer(&self, terms: &Terms, code: CodeKind) -> &Call {
        let kept = if code == CodeKind::None { &self.plain } else { &self.coded };
        kept.get_or_init(|| self.simulated(terms, terms.asset, &terms.calldata(code)))
    }

    fn wallet(&self, terms: &Terms) -> &Call {
        self.wallet.get_or_init(|| self.simulated(terms, terms.signed.from, &terms.signature.question(terms.digest())))
    }

    fn simulated(&self, terms: &Terms, contract: Address20, data: &[u8]) -> Call {
        question::simulation(contract, self.from, &self.sender, terms.fees, data)
    }
}

impl Terms {
    fn calls(&self, sender: &Sender) -> Result<Rc<Calls>, Unknown> {
        let Address::Evm(from) = sender.address else { return Err(Unknown::nonsense("sender_of_another_family")) };
        let mut kept = self.calls.borrow_mut();
        if let Some(calls) = kept.as_ref().filter(|calls| calls.sender == *sender) {
            return Ok(Rc::clone(calls));
        }
        let calls = Rc::new(Calls {
            sender: *sender,
            from,
            code: question::code(self.signed.from),
            token: question::code(self.asset),
            plain: OnceCell::new(),
            coded: OnceCell::new(),
            wallet: OnceCell::new(),
        });
        *kept = Some(Rc::clone(&calls));
        Ok(calls)
    }

    /// Whether the payer had code of late; `None` where nobody looked.
    fn had_code(&self, known: Known<'_>) -> Option<bool> {
        known.memory.has_code(&self.separator, self.signed.from, known.now)
    }

    /// Whether the payer counts as one without code: it had none of late. If it
    /// has got some since, the token asks it when the transfer is simulated, and
    /// settling looks again.
    fn is_plain(&self, known: Known<'_>) -> bool {
        !known.settles && !self.signature.is_wrapped() && self.had_code(known) == Some(false)
    }

    /// Whether its own key signed, which is what counts for a payer without code.
    fn is_own(&self, memory: &Memory) -> bool {
        self.signer(memory) == Some(self.signed.from)
    }

    /// What is at the payer's address as far as it is known or the signature's form says: what has no code signs
    /// with 65 bytes, or 64.
    fn guess(&self, known: Known<'_>) -> CodeKind {
        let is_plain = self.signature.may_be_plain() && self.had_code(known) != Some(true);
        if is_plain { CodeKind::None } else { CodeKind::Contract }
    }

    /// What is asked where the transfer would fail: whether the authorization is used, and what the payer holds.
    fn inquiry(&self) -> [Call; 2] {
        let signed = &self.signed;
        let state = view(self.asset, &eip3009::state(signed.from, signed.nonce));
        [state, view(self.asset, &eip3009::balance(signed.from))]
    }
}

/// The transfer itself, and once in a while the code at the payer and at the
/// token, all in one round. A payer who turns out to have code is asked in a
/// second; what a failure means takes one more.
pub(crate) fn on_chain(terms: &Terms, sender: &Sender, known: Known<'_>) -> Result<ChainVerdict, Unknown> {
    let (mut rules, facts) = (Rules::of_state(), known.facts);
    let is_deployed = known.memory.is_deployed(&terms.separator, known.now);
    if is_deployed && terms.is_plain(known) && !terms.is_own(known.memory) {
        // Nothing is asked for it: the payer has signed with a key of their own of late.
        rules = Rules::default();
        own_signature(&mut rules, terms, known.memory);
        return Ok(ChainVerdict::Judged(rules, CodeKind::None));
    }
    let calls = terms.calls(sender)?;
    let guess = terms.guess(known);
    let first = calls.transfer(terms, guess);
    if let Some(ours) = facts.get(first).and_then(ours) {
        return Ok(ours);
    }
    let is_refused = facts.get(first).is_some_and(|reply| failure(reply).is_some());
    if is_refused && facts.get(&calls.code).is_none() {
        // A payer who was plain may have got code: it is read together with what else may be the reason.
        let [state, held] = terms.inquiry();
        facts.have([&calls.code, &state, &held])?;
    }
    let code = (is_refused || !terms.is_plain(known)).then_some(&calls.code);
    let token = (!is_deployed).then_some(&calls.token);
    let wallet = (guess != CodeKind::None).then(|| calls.wallet(terms));
    facts.have([Some(first), code, token, wallet].into_iter().flatten())?;
    let payer = match code {
        Some(code) => kind(facts, code).map_err(|_| Unknown::nonsense(UNREAD_PAYER))?,
        None => CodeKind::None,
    };
    // That there is no code is one node's word, which may be behind: the payer's own signature bears it out.
    if code.is_some() && (payer != CodeKind::None || terms.is_own(known.memory)) {
        known.memory.saw_code(terms.separator, terms.signed.from, payer != CodeKind::None, known.now);
    }
    if let Some(token) = token {
        let deployed = kind(facts, token)? != CodeKind::None;
        let found = ("there is a contract at the asset's address", "there is no contract at the asset's address");
        if !rules.rule("asset_deployed", deployed, Reason::EvmAsset, found) {
            return Ok(ChainVerdict::Judged(rules, payer));
        }
        known.memory.saw_deployed(terms.separator, known.now);
    }
    if payer == CodeKind::None && !own_signature(&mut rules, terms, known.memory) {
        return Ok(ChainVerdict::Judged(rules, payer));
    }
    let simulation = calls.transfer(terms, payer);
    let wallet = (payer != CodeKind::None).then(|| calls.wallet(terms));
    facts.have([Some(simulation), wallet].into_iter().flatten())?;
    let [simulated] = facts.all(core::array::from_ref(simulation))?;
    if let Some(ours) = ours(simulated) {
        return Ok(ours);
    }
    if let Some(wallet) = wallet
        && !asked_signature(&mut rules, facts, wallet, failure(simulated).is_some())?
    {
        return Ok(ChainVerdict::Judged(rules, payer));
    }
    let is_silent =
        wallet.and_then(|ask| failure(facts.get(ask)?)).is_some_and(|error| error.class == ErrorClass::Halted);
    simulated_well(&mut rules, terms, sender, Simulated { reply: simulated, is_silent }, facts)?;
    Ok(ChainVerdict::Judged(rules, payer))
}

/// What is ours of an answer, not the payer's.
fn ours(reply: &Reply) -> Option<ChainVerdict> {
    let Reply::Error(error) = reply else { return None };
    let ours = [(ErrorClass::Poor, ChainVerdict::Poor), (ErrorClass::Underpriced, ChainVerdict::Underpriced)];
    ours.into_iter().find(|(class, _)| *class == error.class).map(|(_, verdict)| verdict)
}

/// An answer that a call was executed, and failed.
const fn failure(reply: &Reply) -> Option<&RpcError> {
    match reply {
        Reply::Error(error) if matches!(error.class, ErrorClass::Revert | ErrorClass::Halted) => Some(error),
        Reply::Error(_) | Reply::Value(_) => None,
    }
}

/// How the transfer came out when it was simulated.
#[derive(Clone, Copy)]
struct Simulated<'a> {
    reply: &'a Reply,
    /// Whether the payer's wallet ran out of gas before it could say whether it signed.
    is_silent: bool,
}

/// Whether the transfer would succeed; why it would not is looked into.
fn simulated_well(
    rules: &mut Rules,
    terms: &Terms,
    sender: &Sender,
    simulated: Simulated<'_>,
    facts: &Facts,
) -> Result<(), Unknown> {
    match (simulated.reply, failure(simulated.reply)) {
        (Reply::Value(_), _) => {
            let detail = match sender.price {
                Some(_) => "the transfer would succeed",
                None => "the transfer would succeed; it was simulated without a price",
            };
            rules.rule("authorization_unused", true, Reason::EvmNonceUsed, UNUSED);
            rules.rule("balance", true, Reason::EvmBalance, "the payer holds the amount".to_owned());
            rules.rule("simulation", true, Reason::EvmSimulation, detail.to_owned());
            Ok(())
        }
        (Reply::Error(_), Some(error)) => look_into(rules, terms, (&error.message, simulated.is_silent), facts),
        (Reply::Error(error), None) => Err(Unknown::nonsense_about("node_error", &error.message)),
    }
}

/// The kind of account, by the code that a node answered.
fn kind(facts: &Facts, call: &Call) -> Result<CodeKind, Unknown> {
    said(facts, call).and_then(|text| code_kind(&text)).ok_or_else(|| Unknown::nonsense("malformed_code"))
}

/// Why the transfer would fail. `is_silent`: a token then calls the signature invalid, and nobody knows whether it is.
fn look_into(rules: &mut Rules, terms: &Terms, (words, is_silent): (&str, bool), facts: &Facts) -> Result<(), Unknown> {
    let signed = &terms.signed;
    let [state, held] = terms.inquiry();
    let [reply, holds] = facts.all(&[state.clone(), held.clone()])?;
    let used = match reply {
        Reply::Value(_) => said(facts, &state).and_then(|text| abi::boolean(&text)),
        Reply::Error(_) if failure(reply).is_some() => {
            let found = "the token does not know EIP-3009".to_owned();
            rules.rule("eip3009", false, Reason::EvmNoEip3009, found);
            return Ok(());
        }
        Reply::Error(error) => return Err(Unknown::nonsense_about("node_error", &error.message)),
    };
    let used = used.ok_or_else(|| Unknown::nonsense("malformed_authorization_state"))?;
    if !rules.rule("authorization_unused", !used, Reason::EvmNonceUsed, UNUSED) {
        return Ok(());
    }
    if let (Reply::Error(error), None) = (holds, failure(holds)) {
        return Err(Unknown::nonsense_about("node_error", &error.message));
    }
    let held = said(facts, &held).and_then(|text| abi::word(&text)).map(U256::from_be_bytes);
    let enough = held.is_none_or(|held| held >= signed.value);
    let held = held.map_or_else(|| "?".to_owned(), |held| held.to_string());
    let detail = format!("the payer holds {held}, and {} are to be paid", signed.value);
    if rules.rule("balance", enough, Reason::EvmBalance, detail) {
        let (reason, detail) = match reverted::meaning(words) {
            (Reason::EvmSignature, _) if is_silent => {
                let detail = format!("the payer's wallet needs more gas than a settlement may use: {words}");
                (Reason::EvmSimulation, detail)
            }
            meaning => meaning,
        };
        rules.rule("simulation", false, reason, detail);
    }
    Ok(())
}

/// An account without code signs by itself.
fn own_signature(rules: &mut Rules, terms: &Terms, memory: &Memory) -> bool {
    if terms.signature.is_wrapped() {
        let found = "the payer's wallet is not deployed, and no factory is on the list".to_owned();
        return rules.rule("wallet_deployed", false, Reason::EvmFactory, found);
    }
    let good = terms.is_own(memory);
    let detail = match terms.signer(memory) {
        Some(_) if good => "signed by the payer".to_owned(),
        Some(signer) => format!("signed by {signer}"),
        None => "signed by nobody".to_owned(),
    };
    rules.rule("signature", good, Reason::EvmSignature, detail)
}

/// One with code is asked (ERC-1271), an EIP-7702 delegation too: the token would ask it as well. `fails`: the
/// transfer does.
fn asked_signature(rules: &mut Rules, facts: &Facts, ask: &Call, fails: bool) -> Result<bool, Unknown> {
    let [answer] = facts.all(core::array::from_ref(ask))?;
    let good = match (answer, failure(answer)) {
        // The gas was too little for an answer, and is so for the transfer: that says why.
        (_, Some(error)) if error.class == ErrorClass::Halted && fails => return Ok(true),
        (_, Some(_)) => false,
        (Reply::Value(_), None) => said(facts, ask).is_some_and(|text| text.starts_with(ERC1271_MAGIC)),
        (Reply::Error(error), None) => return Err(Unknown::nonsense_about("node_error", &error.message)),
    };
    let found = (
        "the payer is a contract, and says that the signature is its own",
        "the payer is a contract, and says that the signature is not its own",
    );
    Ok(rules.rule("signature", good, Reason::EvmSignature, found))
}

fn view(contract: Address20, data: &[u8]) -> Call {
    question::view(contract, format!("0x{}", hex::encode(data)))
}

#[cfg(test)]
mod tests;
