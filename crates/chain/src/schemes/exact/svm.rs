//! The scheme `exact` on Solana (docs/spec/protocol.md#p-2-4): a transaction that moves the amount with one
//! `TransferChecked` and does nothing else, for which we pay only the fee.

mod account_exists;
mod failure;

use crate::address::{Address, Family};
use crate::amount::Amount;
use crate::facts::{Call, Facts, RpcReply, Undecided};
use crate::network::{ComputeCap, Network};
use crate::reason::Reason;
use crate::schemes::exact::rules::{
    ACCEPTED_DETAIL, OnchainVerdict, SchemeRules, check_scheme, networks_detail, quote_text,
};
use crate::svm::associated_account;
use crate::svm::fee::{COMPUTE_BUDGET, SET_COMPUTE_UNIT_LIMIT, SET_COMPUTE_UNIT_PRICE, fee_lamports, priority_fee};
use crate::svm::programs;
use crate::svm::wire::{ResolvedInstruction, SvmTransaction};
use crate::trace::CodeKind;
use crate::x402::{AcceptedRequirements, Payload, Payment, Requirements, X402Version};
use failure::SimulationFailure;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use solana_address::Address as Pubkey;

const TOKEN: Pubkey = Pubkey::from_str_const(programs::TOKEN);
const TOKEN_2022: Pubkey = Pubkey::from_str_const(programs::TOKEN_2022);
const MEMO: Pubkey = Pubkey::from_str_const(programs::MEMO);
const LIGHTHOUSE: Pubkey = Pubkey::from_str_const(programs::LIGHTHOUSE);

/// What Lighthouse's instructions about accounts are called by, in their first byte: `AssertAccountData`
/// to `AssertTokenAccountMulti`. They read and never write; the other kinds write memory accounts (0, 1),
/// call other programs (16, 17) or fail by the time (15), which no simulation foresees.
const ASSERTIONS: core::ops::RangeInclusive<u8> = 2..=10;

/// Two signatures at most: the payer's and ours as fee payer.
const SIGNERS_MAX: u8 = 2;
/// Compute limit, compute price, the transfer, and up to four assertions or memos.
const INSTRUCTIONS: core::ops::RangeInclusive<usize> = 3..=7;
/// Without the first two, which a version-1 transaction does not have.
const INSTRUCTIONS_V1: core::ops::RangeInclusive<usize> = 1..=5;
const TRANSFER_CHECKED: u8 = 12;

/// A transaction that passed every rule that needs no chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvmExactPayment {
    payer: [u8; 32],
    pay_to: [u8; 32],
    amount: u64,
    fee_payer: [u8; 32],
    transaction: SvmTransaction,
    base64: String,
}

impl SvmExactPayment {
    /// The payer: the authority over the source account.
    #[must_use]
    pub(crate) const fn payer(&self) -> Address {
        Address::Svm(self.payer)
    }

    /// The recipient: the owner of the destination.
    #[must_use]
    pub(crate) const fn pay_to(&self) -> Address {
        Address::Svm(self.pay_to)
    }

    /// The amount, in the asset's atomic units.
    #[must_use]
    pub(crate) fn amount(&self) -> Amount {
        Amount::atomic(self.amount)
    }

    /// The fee payer, which is one of our signers.
    #[must_use]
    pub const fn fee_payer(&self) -> Address {
        Address::Svm(self.fee_payer)
    }

    /// What the transaction costs the fee payer, lamports.
    #[must_use]
    pub fn fee_lamports(&self) -> u64 {
        fee_lamports(&self.transaction)
    }

    /// The transaction that the payer signed, decoded.
    #[must_use]
    pub const fn transaction(&self) -> &SvmTransaction {
        &self.transaction
    }

    /// The transaction as the buyer sent it, base64.
    #[must_use]
    pub fn base64(&self) -> &str {
        &self.base64
    }
}

/// Checks every rule that needs no chain; `own` are the addresses of our signers.
pub(crate) fn verify_offchain(
    rules: &mut SchemeRules,
    payment: &Payment,
    network: &Network,
    own: &[Address],
) -> Option<SvmExactPayment> {
    let fee_payer = check_requirements(rules, payment, network, own)?;
    let text = match &payment.payload {
        Payload::Transaction(text) => text.as_str(),
        Payload::Eip3009(_) | Payload::Other => "",
    };
    let wire = SvmTransaction::read(text);
    let found = (
        "the payload holds a legacy, v0 or version-1 transaction in base64",
        "the payload holds no legacy, v0 or version-1 transaction in base64 that can be read",
    );
    rules.record("transaction", wire.is_some(), Reason::SvmUndecoded, found).then_some(())?;
    let wire = wire?;
    check_signers(rules, &wire, fee_payer).then_some(())?;
    let instructions = check_instructions(rules, &wire, fee_payer)?;
    let compute = network.settle.and_then(|settle| settle.compute());
    let (limits, rest) = match wire.config() {
        Some(_) => instructions.split_at_checked(0)?,
        None => instructions.split_at_checked(2)?,
    };
    check_compute_cost(rules, &wire, limits, compute.unwrap_or(ComputeCap { units: 0, priority_lamports: 0 }))?;
    let (transfer, others) = check_transfer_position(rules, rest)?;
    let (payer, pay_to, amount) = check_transfer(rules, payment, network, transfer, own)?;
    check_memos(rules, &payment.requirements, &others, limits.len()).then_some(())?;
    Some(SvmExactPayment { payer, pay_to, amount, fee_payer, transaction: wire, base64: text.to_owned() })
}

/// Checks the requirements, and the fee payer that they name.
fn check_requirements(
    rules: &mut SchemeRules,
    payment: &Payment,
    network: &Network,
    own: &[Address],
) -> Option<[u8; 32]> {
    let wanted = &payment.requirements;
    let (scheme_reason, network_reason, managed_reason) = match payment.version {
        X402Version::One => (Reason::UnsupportedScheme, Reason::SvmNetworkMismatchV1, Reason::SvmFeePayerNotManagedV1),
        X402Version::Two => (Reason::SvmScheme, Reason::SvmNetworkMismatch, Reason::SvmFeePayerNotManaged),
    };
    let asset = Address::parse(Family::Svm, &wanted.asset) == Some(network.asset.address);
    let found = format!("the asset is {}, the registered one is {}", quote_text(&wanted.asset), network.asset.text);
    rules.record("asset", asset, Reason::AssetNotAllowed, found).then_some(())?;
    let (is_own, found) = check_scheme(payment);
    rules.record("scheme", is_own, scheme_reason, found).then_some(())?;
    let same = payment.accepted.network() == wanted.network;
    rules.record("network", same, network_reason, networks_detail(payment)).then_some(())?;
    let accepted = match &payment.accepted {
        AcceptedRequirements::Named { .. } => true,
        AcceptedRequirements::Whole(accepted) => matches_requirements(accepted, wanted),
    };
    rules.record("accepted", accepted, Reason::InvalidRequirements, ACCEPTED_DETAIL).then_some(())?;
    let named = wanted.fee_payer.as_deref();
    let found = ("extra.feePayer is named", "extra.feePayer is missing");
    rules.record("fee_payer", named.is_some(), Reason::SvmNoFeePayer, found).then_some(())?;
    let payer = named.and_then(|text| Address::parse(Family::Svm, text)).filter(|payer| own.contains(payer));
    let found =
        format!("extra.feePayer is {}, which is not a signer of this service", quote_text(named.unwrap_or_default()));
    let found = ("extra.feePayer is a signer of this service", found);
    rules.record("fee_payer_managed", payer.is_some(), managed_reason, found).then_some(())?;
    svm_address_bytes(&payer?)
}

/// Base58 has one spelling, so texts are compared unchanged.
fn matches_requirements(accepted: &Requirements, wanted: &Requirements) -> bool {
    let parts = |all: &Requirements| {
        [Some(&all.amount), Some(&all.asset), Some(&all.pay_to), all.fee_payer.as_ref(), all.memo.as_ref()]
            .map(|part| part.cloned())
    };
    parts(accepted) == parts(wanted)
}

const fn svm_address_bytes(address: &Address) -> Option<[u8; 32]> {
    match address {
        Address::Svm(bytes) => Some(*bytes),
        Address::Evm(_) => None,
    }
}

/// Checks the signers: the fee payer first, and at most the payer besides, whose signature must be valid.
fn check_signers(rules: &mut SchemeRules, wire: &SvmTransaction, fee_payer: [u8; 32]) -> bool {
    let count = wire.header().num_required_signatures;
    rules.record(
        "signers",
        count <= SIGNERS_MAX,
        Reason::SvmSigners,
        format!("{count} accounts sign, at most {SIGNERS_MAX} are allowed"),
    ) && rules.record(
        "fee_payer_first",
        wire.fee_payer() == Some(fee_payer),
        Reason::SvmFeePayerMismatch,
        ("the first account is extra.feePayer", "the first account is another than extra.feePayer"),
    ) && rules.record(
        "signature",
        wire.is_signed_by_others(),
        Reason::SvmSignature,
        ("the payer signed the message", "the payer's signature is missing, or is not of this message"),
    )
}

/// The instructions. There must be as many as allowed, and none but an assertion may be given the fee payer's account.
///
/// A message marks accounts writable as a whole, not by instruction, so the fee payer's account is writable for every
/// instruction that is given it. Only the program shows that an instruction does not write: for Lighthouse the kind of
/// instruction does.
fn check_instructions<'a>(
    rules: &mut SchemeRules,
    wire: &'a SvmTransaction,
    fee_payer: [u8; 32],
) -> Option<Vec<ResolvedInstruction<'a>>> {
    let found = ("no account is taken from a lookup table", "some accounts are taken from a lookup table");
    rules.record("lookup_tables", !wire.uses_lookup_tables(), Reason::SvmLookups, found).then_some(())?;
    let instructions = wire.instructions();
    let found = ("every index names an account", "an index names no account");
    rules.record("accounts", instructions.is_some(), Reason::SvmUndecoded, found).then_some(())?;
    let instructions = instructions?;
    // With our signature, an instruction that is given our account could do anything with it.
    let authority = instructions.iter().any(|each| is_transfer(each) && each.accounts.get(3) == Some(&fee_payer));
    let given = |each: &ResolvedInstruction<'_>| each.accounts.contains(&fee_payer) && !is_assertion(each);
    let isolated = !instructions.iter().any(|each| each.program == fee_payer || given(each));
    let reason = if authority { Reason::SvmFeePayerTransfers } else { Reason::SvmFeePayerNotIsolated };
    let found = (
        "no instruction but an assertion is given the fee payer",
        "an instruction that is no assertion is given the fee payer",
    );
    rules.record("fee_payer_isolated", isolated, reason, found).then_some(())?;
    let allowed = if wire.config().is_some() { INSTRUCTIONS_V1 } else { INSTRUCTIONS };
    let count = instructions.len();
    let detail = format!("{count} instructions, {} to {} are allowed", allowed.start(), allowed.end());
    rules.record("instructions", allowed.contains(&count), Reason::SvmLength, detail).then_some(instructions)
}

fn is_transfer(instruction: &ResolvedInstruction<'_>) -> bool {
    [TOKEN.to_bytes(), TOKEN_2022.to_bytes()].contains(&instruction.program)
        && instruction.data.first() == Some(&TRANSFER_CHECKED)
        && instruction.data.len() >= 10
        && instruction.accounts.len() >= 4
}

/// Whether an instruction only asserts something about accounts.
fn is_assertion(instruction: &ResolvedInstruction<'_>) -> bool {
    instruction.program == LIGHTHOUSE.to_bytes()
        && instruction.data.first().is_some_and(|kind| ASSERTIONS.contains(kind))
}

/// The transfer and the instructions after it: positions count without the assertions, which may stand anywhere.
fn check_transfer_position<'a, 'b>(
    rules: &mut SchemeRules,
    rest: &'a [ResolvedInstruction<'b>],
) -> Option<(&'a ResolvedInstruction<'b>, Vec<&'a ResolvedInstruction<'b>>)> {
    let mut left = rest.iter().filter(|each| !is_assertion(each));
    let transfer = left.next().filter(|each| is_transfer(each));
    let found = (
        "the transfer is TransferChecked of a token program",
        "another instruction than TransferChecked of a token program stands in the transfer's place",
    );
    rules.record("transfer", transfer.is_some(), Reason::SvmNoTransfer, found).then_some(())?;
    Some((transfer?, left.collect()))
}

/// What the payer makes us pay, by the first two instructions or the fields of a version-1 transaction: units and
/// priority fee must be within the caps. The fee is capped as a whole, since wallets offer a high price for few units.
fn check_compute_cost(
    rules: &mut SchemeRules,
    wire: &SvmTransaction,
    limits: &[ResolvedInstruction<'_>],
    most: ComputeCap,
) -> Option<()> {
    let (units, fee) = match wire.config() {
        Some(config) => (config.compute_unit_limit.filter(|units| *units > 0), Some(config.priority_fee.unwrap_or(0))),
        None => {
            let argument = |index: usize, word: u8| {
                let each = limits.get(index).filter(|each| each.program == COMPUTE_BUDGET.to_bytes())?;
                each.data.split_first().filter(|(first, _)| **first == word).map(|(_, rest)| rest)
            };
            let units =
                argument(0, SET_COMPUTE_UNIT_LIMIT).and_then(|rest| rest.try_into().ok()).map(u32::from_le_bytes);
            let price =
                argument(1, SET_COMPUTE_UNIT_PRICE).and_then(|rest| rest.try_into().ok()).map(u64::from_le_bytes);
            (units, price.map(|price| priority_fee(units.unwrap_or(0), price)))
        }
    };
    let found = ("a compute unit limit is set, in the first place", "no compute unit limit is set in the first place");
    rules.record("compute_limit", units.is_some(), Reason::SvmLimit, found).then_some(())?;
    let (units, detail) = (units?, format!("{} compute units, at most {}", units?, most.units));
    rules.record("compute_limit_cap", units <= most.units, Reason::SvmLimitHigh, detail).then_some(())?;
    let found =
        ("a compute unit price is set, in the second place", "no compute unit price is set in the second place");
    rules.record("compute_price", fee.is_some(), Reason::SvmPrice, found).then_some(())?;
    let (fee, detail) = (fee?, format!("a priority fee of {} lamports, at most {}", fee?, most.priority_lamports));
    rules.record("compute_price_cap", fee <= most.priority_lamports, Reason::SvmPriceHigh, detail).then_some(())
}

/// Checks the transfer: payer, recipient and amount.
fn check_transfer(
    rules: &mut SchemeRules,
    payment: &Payment,
    network: &Network,
    transfer: &ResolvedInstruction<'_>,
    own: &[Address],
) -> Option<([u8; 32], [u8; 32], u64)> {
    let wanted = &payment.requirements;
    let [source, mint, destination, payer] = transfer.accounts.get(..4)?.try_into().ok()?;
    let amount = u64::from_le_bytes(transfer.data.get(1..9)?.try_into().ok()?);
    let foreign = !own.contains(&Address::Svm(payer));
    let found = ("the payer is not a signer of this service", "the payer is a signer of this service");
    rules.record("authority", foreign, Reason::SvmFeePayerTransfers, found).then_some(())?;
    let same = network.asset.address == Address::Svm(mint);
    rules.record("mint", same, Reason::SvmMint, format!("the mint is {}", Address::Svm(mint))).then_some(())?;
    let pay_to = Address::parse(Family::Svm, &wanted.pay_to).as_ref().and_then(svm_address_bytes);
    let account = pay_to.map(|owner| associated_account(&owner, &transfer.program, &mint));
    let found = (
        "the transfer goes to the associated token account of payTo",
        format!(
            "the transfer goes to {}, which is not the associated token account of payTo",
            Address::Svm(destination)
        ),
    );
    rules.record("recipient", account == Some(destination), Reason::SvmRecipient, found).then_some(())?;
    let found = ("the transfer comes from another account", "the transfer goes back to the account that it comes from");
    rules.record("source", source != destination, Reason::SvmRecipient, found).then_some(())?;
    let same = Amount::parse_atomic(&wanted.amount) == Some(Amount::atomic(amount));
    let detail = format!("{amount} signed, {} required", wanted.amount);
    rules.record("amount", same, Reason::SvmAmount, detail).then_some((payer, pay_to?, amount))
}

/// Checks the instructions after the transfer, assertions left out: only memos are allowed. `before` is the number of
/// instructions before the transfer.
fn check_memos(
    rules: &mut SchemeRules,
    wanted: &Requirements,
    others: &[&ResolvedInstruction<'_>],
    before: usize,
) -> bool {
    const UNKNOWN: [Reason; 4] = [Reason::SvmFourth, Reason::SvmFifth, Reason::SvmSixth, Reason::SvmSeventh];
    let unknown = others.iter().position(|each| each.program != MEMO.to_bytes());
    // The names count as if two instructions stood before the transfer.
    let reason = match before {
        2 => unknown.and_then(|at| UNKNOWN.get(at)).copied().unwrap_or(Reason::SvmOptional),
        _ => Reason::SvmOptional,
    };
    if !rules.record(
        "other_instructions",
        unknown.is_none(),
        reason,
        (
            "the other instructions are memos and assertions about accounts",
            "the transaction has another instruction that is neither a memo nor an assertion about accounts",
        ),
    ) {
        return false;
    }
    let Some(memo) = &wanted.memo else { return true };
    let same = others.iter().all(|each| each.data == memo.as_bytes());
    let count = ("one memo, as extra.memo requires", format!("{} memos, and extra.memo requires one", others.len()));
    rules.record("memo_count", others.len() == 1, Reason::SvmMemoCount, count)
        && rules.record(
            "memo",
            same,
            Reason::SvmMemo,
            ("the memo is extra.memo", "the memo is another than extra.memo"),
        )
}

fn simulation_call(terms: &SvmExactPayment) -> Call {
    let options = json!({"encoding": "base64", "sigVerify": false, "replaceRecentBlockhash": false,
        "commitment": "confirmed"});
    Call::new("simulateTransaction", &json!([terms.base64, options]))
}

/// Simulates the transaction, which checks balance, accounts and block hash at once. A fee payer that cannot pay is a
/// failure on our side.
pub(crate) fn verify_onchain(
    version: X402Version,
    terms: &SvmExactPayment,
    facts: &Facts,
) -> Result<OnchainVerdict, Undecided> {
    #[derive(Deserialize)]
    struct SimulationResult<'a> {
        #[serde(borrow)]
        value: SimulationOutcome<'a>,
    }
    #[derive(Deserialize)]
    struct SimulationOutcome<'a> {
        #[serde(borrow)]
        err: Option<&'a RawValue>,
    }
    let call = simulation_call(terms);
    let [reply] = facts.require_all(core::array::from_ref(&call))?;
    let value = match reply {
        RpcReply::Value(value) => value,
        RpcReply::Error(error) => return Err(Undecided::malformed_with("node_error", &error.message)),
    };
    let simulated: SimulationResult<'_> =
        serde_json::from_str(value.get()).map_err(|error| Undecided::malformed_with("malformed_simulation", error))?;
    let failure = simulated.value.err.map(RawValue::get).filter(|text| *text != "null");
    let reason = match version {
        X402Version::One => Reason::SvmSimulationV1,
        X402Version::Two => Reason::SvmSimulation,
    };
    let mut rules = SchemeRules::of_state();
    let Some(err) = failure else {
        rules.record("simulation", true, reason, "the transaction would succeed".to_owned());
        return Ok(OnchainVerdict::Checked(rules, CodeKind::None));
    };
    let instructions = terms.transaction.instructions().unwrap_or_default();
    let transfer = instructions.iter().position(is_transfer);
    let paid = transfer.and_then(|at| instructions.get(at)?.accounts.get(2).copied().map(Address::Svm));
    let failure =
        SimulationFailure { err, transfer, paid: &paid.map(|account| account.to_string()).unwrap_or_default() };
    if failure.is_fee_payer_fault() {
        return Ok(OnchainVerdict::SignerUnfunded);
    }
    let reason = if failure.is_processed() { Reason::DuplicateSettlement } else { reason };
    let is_there = if failure.is_of_an_account() { account_exists::account_exists(failure.paid, facts)? } else { None };
    let message = failure.message(is_there);
    rules.record("simulation", false, reason, message);
    Ok(OnchainVerdict::Checked(rules, CodeKind::None))
}

/// The authority of the first transfer in a transaction, valid or not.
pub(crate) fn payer_named(text: &str) -> Option<Address> {
    transfer_account(text, 3)
}

/// The source account of the first transfer in a transaction.
pub fn source_named(text: &str) -> Option<Address> {
    transfer_account(text, 0)
}

fn transfer_account(text: &str, at: usize) -> Option<Address> {
    let wire = SvmTransaction::read(text)?;
    let instructions = wire.instructions()?;
    let transfer = instructions.iter().find(|each| is_transfer(each))?;
    transfer.accounts.get(at).copied().map(Address::Svm)
}

#[cfg(test)]
mod tests;
