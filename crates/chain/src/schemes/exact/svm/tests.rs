use super::*;
use crate::evm::sender::TransactionSender;
use crate::network::by_key;
use crate::schemes::exact::{ExactPayment, OffchainVerdict, verify_offchain_and_onchain};
use crate::svm::fee::MICRO;
use crate::time::UnixSeconds;
use crate::x402::{X402Body, read};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use solana_message::compiled_instruction::CompiledInstruction;
use solana_message::v1::TransactionConfig;
use solana_message::{Hash, MessageHeader, VersionedMessage, legacy, v0, v1};
use solana_transaction::versioned::VersionedTransaction;

const NOW: UnixSeconds = UnixSeconds(1_795_000_000);
const AMOUNT: u64 = 1_000;

fn network() -> &'static Network {
    by_key("solana-devnet").expect("registered")
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> [u8; 32] {
    key(seed).verifying_key().to_bytes()
}

/// The fee payer, the payer and the receiver of tests/fixtures/vectors/svm.json.
const OURS: u8 = 9;
const PAYER: u8 = 7;
const RECEIVER: u8 = 3;

fn ours() -> Address {
    Address::Svm(public(OURS))
}

fn mint() -> [u8; 32] {
    svm_address_bytes(&network().asset.address).expect("of Solana")
}

fn account(seed: u8) -> [u8; 32] {
    associated_account(&public(seed), &TOKEN.to_bytes(), &mint())
}

/// A transaction in the making: accounts as indexes into `keys`.
#[derive(Clone)]
struct Draft {
    header: MessageHeader,
    keys: Vec<[u8; 32]>,
    instructions: Vec<CompiledInstruction>,
    signers: Vec<u8>,
}

fn instruction(program: u8, accounts: &[u8], data: Vec<u8>) -> CompiledInstruction {
    CompiledInstruction { program_id_index: program, accounts: accounts.to_vec(), data }
}

fn transfer(amount: u64) -> Vec<u8> {
    [&[TRANSFER_CHECKED][..], &amount.to_le_bytes(), &[6]].concat()
}

/// What the stock client makes: limit, price, transfer, memo.
fn draft() -> Draft {
    let keys = vec![
        public(OURS),
        public(PAYER),
        account(RECEIVER),
        account(PAYER),
        mint(),
        COMPUTE_BUDGET.to_bytes(),
        MEMO.to_bytes(),
        TOKEN.to_bytes(),
        LIGHTHOUSE.to_bytes(),
    ];
    Draft {
        header: MessageHeader {
            num_required_signatures: 2,
            num_readonly_signed_accounts: 1,
            num_readonly_unsigned_accounts: 5,
        },
        keys,
        instructions: vec![
            instruction(5, &[], [&[2][..], &20_000_u32.to_le_bytes()].concat()),
            instruction(5, &[], [&[3][..], &1_u64.to_le_bytes()].concat()),
            instruction(7, &[3, 4, 2, 1], transfer(AMOUNT)),
            instruction(6, &[], b"order-0001".to_vec()),
        ],
        signers: vec![PAYER],
    }
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Legacy,
    Zero,
    One(TransactionConfig),
}

const CONFIG: TransactionConfig = TransactionConfig {
    priority_fee: Some(7),
    compute_unit_limit: Some(20_000),
    loaded_accounts_data_size_limit: Some(1_048_576),
    heap_size: None,
};

impl Draft {
    fn text(&self, form: Form) -> String {
        let account_keys: Vec<Pubkey> = self.keys.iter().map(|key| Pubkey::new_from_array(*key)).collect();
        let (header, instructions) = (self.header, self.instructions.clone());
        let hash = Hash::new_from_array([5; 32]);
        let message = match form {
            Form::Legacy => {
                VersionedMessage::Legacy(legacy::Message { header, account_keys, recent_blockhash: hash, instructions })
            }
            Form::Zero => VersionedMessage::V0(v0::Message {
                header,
                account_keys,
                recent_blockhash: hash,
                instructions,
                address_table_lookups: Vec::new(),
            }),
            Form::One(config) => VersionedMessage::V1(v1::Message {
                header,
                config,
                lifetime_specifier: hash,
                account_keys,
                instructions,
            }),
        };
        let bytes = message.serialize();
        let mut signatures: Vec<solana_signature::Signature> = vec![[0; 64].into()];
        let sign = |seed: &u8| solana_signature::Signature::from(key(*seed).sign(&bytes).to_bytes());
        signatures.extend(self.signers.iter().map(sign));
        BASE64_STANDARD.encode(wincode::serialize(&VersionedTransaction { signatures, message }).expect("writes"))
    }

    /// The same for a version-1 transaction, which has no compute instructions.
    fn without_budget(mut self) -> Self {
        self.instructions.drain(..2);
        self
    }
}

fn body(transaction: &str) -> Value {
    let requirements = json!({"scheme": "exact", "network": network().caip2, "amount": AMOUNT.to_string(),
        "asset": network().asset.text, "payTo": Address::Svm(public(RECEIVER)).to_string(), "maxTimeoutSeconds": 60,
        "extra": {"feePayer": ours().to_string(), "memo": "order-0001"}});
    json!({"x402Version": 2, "paymentRequirements": requirements, "paymentPayload": {"x402Version": 2,
        "accepted": requirements, "payload": {"transaction": transaction}}})
}

fn judged(body: &Value, simulated: &Value) -> OffchainVerdict {
    let payment = read(&X402Body::parse(body.to_string().as_bytes()).expect("an object")).expect("a payment");
    let mut facts = Facts::new();
    for _ in 0..3 {
        let sender = TransactionSender { address: ours(), gas_limit: None, price: None };
        match verify_offchain_and_onchain(&payment, network(), &sender, &facts, NOW) {
            Ok(judged) => return judged,
            Err(Undecided::Missing(calls)) => {
                assert_eq!(calls.len(), 1);
                for call in calls {
                    let value = match call.method {
                        "getAccountInfo" => json!({"context": {"slot": 1}, "value": simulated.get("account")}),
                        _ => json!({"context": {"slot": 1}, "value": {"err": simulated, "logs": []}}),
                    };
                    facts.insert(call, RpcReply::Value(to_raw_value(&value).expect("JSON")));
                }
            }
            Err(Undecided::Malformed(nonsense)) => panic!("{nonsense:?}"),
        }
    }
    panic!("questions without end")
}

fn reason_of(body: &Value) -> Option<Reason> {
    let rules = judged(body, &Value::Null).rules;
    let good = judged(&super::tests::body(&draft().text(Form::Zero)), &Value::Null).rules.checks;
    // What is said of a broken rule is never what is said where it holds.
    for broken in rules.checks.iter().filter(|check| !check.passed) {
        assert!(!good.iter().any(|kept| kept.detail == broken.detail), "{}: {}", broken.name, broken.detail);
    }
    rules.refusal.map(|(reason, _)| reason)
}

#[test]
fn a_good_transaction_of_every_version_passes() {
    for (draft, form) in [(draft(), Form::Legacy), (draft(), Form::Zero), (draft().without_budget(), Form::One(CONFIG))]
    {
        let found = judged(&body(&draft.text(form)), &Value::Null);
        assert_eq!(found.rules.refusal, None, "{form:?}");
        let Some(ExactPayment::Svm(terms)) = found.payment else { panic!("no terms") };
        let parties = (terms.payer(), terms.pay_to(), terms.amount(), terms.fee_payer());
        let (payer, receiver) = (Address::Svm(public(PAYER)), Address::Svm(public(RECEIVER)));
        assert_eq!(parties, (payer, receiver, Amount::atomic(AMOUNT), ours()));
        assert_eq!(payer_named(terms.base64()), Some(payer));
        assert_eq!(source_named(terms.base64()), Some(Address::Svm(account(PAYER))));
        assert_eq!(terms.fee_lamports(), if matches!(form, Form::One(_)) { 10_007 } else { 10_001 });
        let signer = crate::signer::SvmSigner::parse(&bs58::encode(key(OURS).to_keypair_bytes()).into_string());
        let signed = terms.transaction().clone().sign(&signer.expect("a key pair")).expect("signs");
        let again = SvmTransaction::read(&signed.raw).expect("reads");
        assert_eq!(again.message(), terms.transaction().message());
    }
}

#[test]
fn a_v1_transaction_is_laid_out_as_the_wire_format_says() {
    let text = draft().without_budget().text(Form::One(CONFIG));
    let bytes = BASE64_STANDARD.decode(text).expect("base64");
    // Version, header, then the mask: priority fee (two bits), units, loaded size.
    assert_eq!(bytes[..8], [0x81, 2, 1, 5, 0b1111, 0, 0, 0]);
    assert_eq!((bytes[40], bytes[41]), (2, 9));
}

#[test]
fn every_rule_about_the_requirements_has_its_reason() {
    let good = draft().text(Form::Zero);
    let check = |pointer: &str, new: Value, want: Reason| {
        let mut body = body(&good);
        *body.pointer_mut(pointer).expect("a member") = new;
        assert_eq!(reason_of(&body), Some(want), "{pointer}");
    };
    let both = |pointer: &str, new: Value, want: Reason| {
        let mut body = body(&good);
        for side in ["/paymentRequirements", "/paymentPayload/accepted"] {
            *body.pointer_mut(&format!("{side}{pointer}")).expect("a member") = new.clone();
        }
        assert_eq!(reason_of(&body), Some(want), "{pointer}");
    };
    both("/asset", json!("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"), Reason::AssetNotAllowed);
    both("/scheme", json!("upto"), Reason::SvmScheme);
    check("/paymentPayload/accepted/network", json!("solana:x"), Reason::SvmNetworkMismatch);
    check("/paymentPayload/accepted/amount", json!("1"), Reason::InvalidRequirements);
    both("/extra/feePayer", Value::Null, Reason::SvmNoFeePayer);
    both("/extra/feePayer", json!(Address::Svm(public(PAYER)).to_string()), Reason::SvmFeePayerNotManaged);
    both("/payTo", json!(Address::Svm(public(PAYER)).to_string()), Reason::SvmRecipient);
    both("/payTo", json!("nobody"), Reason::SvmRecipient);
    both("/amount", json!("999"), Reason::SvmAmount);
    both("/extra/memo", json!("order-0002"), Reason::SvmMemo);
    check("/paymentPayload/payload", json!({}), Reason::SvmUndecoded);
    check("/paymentPayload/payload/transaction", json!("nonsense"), Reason::SvmUndecoded);
    check("/paymentPayload/payload/transaction", json!(format!("{good}AAAA")), Reason::SvmUndecoded);
    let mut first = body(&good);
    first["x402Version"] = json!(1);
    first["paymentRequirements"]["maxAmountRequired"] = json!(AMOUNT.to_string());
    first["paymentPayload"] = json!({"x402Version": 1, "scheme": "exact", "network": network().caip2,
        "payload": {"transaction": good}});
    assert_eq!(reason_of(&first), None);
    first["paymentRequirements"]["extra"]["feePayer"] = json!(Address::Svm(public(PAYER)).to_string());
    assert_eq!(reason_of(&first), Some(Reason::SvmFeePayerNotManagedV1));
    first["paymentPayload"]["network"] = json!("solana-devnet");
    assert_eq!(reason_of(&first), Some(Reason::SvmNetworkMismatchV1));
}

#[test]
fn every_rule_about_the_transaction_has_its_reason() {
    let check = |change: &dyn Fn(&mut Draft), want: Reason| {
        for form in [Form::Legacy, Form::Zero] {
            let mut draft = draft();
            change(&mut draft);
            assert_eq!(reason_of(&body(&draft.text(form))), Some(want), "{form:?}");
        }
    };
    check(&|draft| draft.keys[0] = public(1), Reason::SvmFeePayerMismatch);
    check(&|draft| draft.signers = vec![RECEIVER], Reason::SvmSignature);
    check(
        &|draft| {
            draft.header.num_required_signatures = 3;
            draft.keys.insert(2, public(8));
            draft.signers.push(8);
            for each in &mut draft.instructions {
                each.program_id_index = each.program_id_index.saturating_add(1);
            }
        },
        Reason::SvmSigners,
    );
    check(&|draft| draft.instructions[2].accounts[3] = 0, Reason::SvmFeePayerTransfers);
    check(&|draft| draft.instructions[3].accounts = vec![0], Reason::SvmFeePayerNotIsolated);
    check(&|draft| draft.keys[2] = public(OURS), Reason::SvmFeePayerNotIsolated);
    check(&|draft| draft.instructions.truncate(2), Reason::SvmLength);
    check(&|draft| draft.instructions.extend(vec![draft.instructions[3].clone(); 4]), Reason::SvmLength);
    check(&|draft| draft.instructions.swap(0, 1), Reason::SvmLimit);
    check(&|draft| draft.instructions[0].data.push(0), Reason::SvmLimit);
    check(&|draft| draft.instructions[0].data[3] = 7, Reason::SvmLimitHigh);
    check(&|draft| draft.instructions[1].data[0] = 4, Reason::SvmPrice);
    check(&|draft| draft.instructions[1].data[4] = 1, Reason::SvmPriceHigh);
    check(&|draft| draft.instructions[2].data[0] = 3, Reason::SvmNoTransfer);
    check(&|draft| draft.instructions[2].program_id_index = 6, Reason::SvmNoTransfer);
    check(&|draft| draft.instructions[2].accounts.truncate(3), Reason::SvmNoTransfer);
    check(&|draft| draft.keys[4] = public(4), Reason::SvmMint);
    check(&|draft| draft.instructions[2].accounts[2] = 3, Reason::SvmRecipient);
    // From payTo's account to payTo's account.
    check(&|draft| draft.instructions[2].accounts[0] = 2, Reason::SvmRecipient);
    check(&|draft| draft.instructions[2].data = transfer(AMOUNT + 1), Reason::SvmAmount);
    check(&|draft| draft.instructions[3].program_id_index = 5, Reason::SvmFourth);
    let more = |draft: &mut Draft, at: usize| {
        draft.instructions.resize(at, instruction(6, &[], vec![]));
        draft.instructions.push(instruction(5, &[], vec![]));
    };
    check(&|draft| more(draft, 4), Reason::SvmFifth);
    check(&|draft| more(draft, 5), Reason::SvmSixth);
    check(&|draft| more(draft, 6), Reason::SvmSeventh);
    check(&|draft| draft.instructions.truncate(3), Reason::SvmMemoCount);
    check(&|draft| draft.instructions.push(draft.instructions[3].clone()), Reason::SvmMemoCount);
    check(&|draft| draft.instructions[3].data.push(b'x'), Reason::SvmMemo);
}

#[test]
fn a_payer_may_pay_himself_from_another_account() {
    let mut draft = draft();
    (draft.keys[2], draft.keys[3]) = (account(PAYER), public(4));
    let mut body = body(&draft.text(Form::Zero));
    for side in ["paymentRequirements", "paymentPayload"] {
        let part = if side == "paymentPayload" { &mut body[side]["accepted"] } else { &mut body[side] };
        part["payTo"] = json!(Address::Svm(public(PAYER)).to_string());
    }
    assert_eq!(reason_of(&body), None);
}

/// The fee that a transaction with so many units at such a price (millionths of a lamport) has, or why it is refused.
fn fee(units: u32, price: u64) -> Result<u64, Reason> {
    let mut draft = draft();
    draft.instructions[0].data = [&[2][..], &units.to_le_bytes()].concat();
    draft.instructions[1].data = [&[3][..], &price.to_le_bytes()].concat();
    let found = judged(&body(&draft.text(Form::Zero)), &Value::Null);
    match (found.rules.refusal, found.payment) {
        (None, Some(ExactPayment::Svm(terms))) => Ok(terms.fee_lamports()),
        (refusal, _) => Err(refusal.expect("a refusal").0),
    }
}

#[test]
fn the_cap_is_on_the_whole_fee() {
    // What wallets set: few units at a high price.
    assert_eq!(fee(20_000, 100_000), Ok(12_000));
    assert_eq!(fee(200_000, 50_000), Ok(20_000));
    assert_eq!(fee(400_000, 25_000), Ok(20_000));
    assert_eq!(fee(20_000, 500_000), Ok(20_000));
    assert_eq!(fee(20_000, 1), Ok(10_001));
    assert_eq!(fee(0, u64::MAX), Ok(10_000));
    for (units, price) in [(20_000, 500_001), (20_000, 500_050), (200_000, 50_001), (400_000, 25_001), (1, u64::MAX)] {
        assert_eq!(fee(units, price), Err(Reason::SvmPriceHigh), "{units} at {price}");
    }
    assert_eq!(fee(400_001, 0), Err(Reason::SvmLimitHigh));
    assert_eq!(fee(u32::MAX, u64::MAX), Err(Reason::SvmLimitHigh));
}

#[test]
fn a_version_1_transactions_own_words_are_held_to_the_caps() {
    let with = |config: TransactionConfig, draft: Draft| reason_of(&body(&draft.text(Form::One(config))));
    let plain = || draft().without_budget();
    assert_eq!(with(TransactionConfig { compute_unit_limit: None, ..CONFIG }, plain()), Some(Reason::SvmLimit));
    let high = TransactionConfig { compute_unit_limit: Some(400_001), ..CONFIG };
    assert_eq!(with(high, plain()), Some(Reason::SvmLimitHigh));
    assert_eq!(with(TransactionConfig { priority_fee: Some(10_000), ..CONFIG }, plain()), None);
    let dear = TransactionConfig { priority_fee: Some(10_001), ..CONFIG };
    assert_eq!(with(dear, plain()), Some(Reason::SvmPriceHigh));
    assert_eq!(with(CONFIG, draft()), Some(Reason::SvmNoTransfer));
    let mut five = plain();
    five.instructions.extend(vec![instruction(8, &[], vec![]); 4]);
    assert_eq!(with(CONFIG, five), Some(Reason::SvmLength));
    let mut foreign = plain();
    foreign.instructions.push(instruction(5, &[], vec![]));
    assert_eq!(with(CONFIG, foreign), Some(Reason::SvmOptional));
}

#[test]
fn a_lookup_table_is_refused_unread() {
    let text = draft().text(Form::Zero);
    let mut bytes = BASE64_STANDARD.decode(text).expect("base64");
    // The list of tables is the last byte; one table with one writable account.
    bytes.pop();
    bytes.push(1);
    bytes.extend([4; 32]);
    bytes.extend([1, 0, 0]);
    let message = bytes[129..].to_vec();
    bytes[65..129].copy_from_slice(&key(PAYER).sign(&message).to_bytes());
    assert_eq!(reason_of(&body(&BASE64_STANDARD.encode(bytes))), Some(Reason::SvmLookups));
}

#[test]
fn a_simulation_that_fails_is_quoted() {
    let failed = json!({"InstructionError": [2, {"Custom": 1}]});
    let (reason, words) = judged(&body(&draft().text(Form::Zero)), &failed).rules.refusal.expect("a refusal");
    assert_eq!(reason, Reason::SvmSimulation);
    assert!(words.contains("\"Custom\":1"), "{words}");
    let missing = json!({"InstructionError": [2, "InvalidAccountData"]});
    for (form, at) in [(Form::Legacy, 2), (Form::Zero, 2), (Form::One(CONFIG), 0)] {
        let draft = if at == 2 { draft() } else { draft().without_budget() };
        let failed = json!({"InstructionError": [at, "InvalidAccountData"]});
        let (_, words) = judged(&body(&draft.text(form)), &failed).rules.refusal.expect("a refusal");
        let account = Address::Svm(account(RECEIVER)).to_string();
        assert!(words.contains("the seller must create it") && words.contains(&account), "{words}");
    }
    let (_, words) =
        judged(&body(&draft().without_budget().text(Form::One(CONFIG))), &missing).rules.refusal.expect("one");
    assert!(words.starts_with("the transaction would fail"), "another instruction's account: {words}");
}

#[test]
fn a_fee_payer_that_cannot_pay_is_not_the_payers_refusal() {
    let body = body(&draft().text(Form::Zero));
    let payment = read(&X402Body::parse(body.to_string().as_bytes()).expect("an object")).expect("a payment");
    let terms = verify_offchain(&mut SchemeRules::default(), &payment, network(), &[ours()]).expect("good");
    for err in ["InsufficientFundsForFee", "AccountNotFound"] {
        let mut facts = Facts::new();
        let answer = to_raw_value(&json!({"value": {"err": err}})).expect("JSON");
        facts.insert(simulation_call(&terms), RpcReply::Value(answer));
        assert_eq!(
            verify_onchain(payment.version, &terms, &facts),
            Ok(crate::schemes::exact::OnchainVerdict::SignerUnfunded),
            "{err}"
        );
    }
}

#[test]
fn a_seller_without_a_token_account_is_named() {
    let failed = |account: Value| {
        let failed = json!({"InstructionError": [2, "InvalidAccountData"], "account": account});
        judged(&body(&draft().text(Form::Zero)), &failed).rules.refusal.expect("a refusal")
    };
    let (reason, found) = failed(Value::Null);
    let want =
        format!("payTo's token account {} does not exist: the seller must create it", Address::Svm(account(RECEIVER)));
    assert_eq!(reason, Reason::SvmSimulation);
    assert!(found.starts_with(&want), "{found}");
    let (_, found) = failed(json!({"data": ["", "base64"], "owner": "11111111111111111111111111111111"}));
    assert!(found.starts_with("payTo's token account exists, so the payer's may be missing: "), "{found}");
}

#[test]
fn only_the_fee_payers_key_signs() {
    let other = crate::signer::SvmSigner::parse(&bs58::encode(key(PAYER).to_keypair_bytes()).into_string());
    let wire = SvmTransaction::read(&draft().text(Form::Zero)).expect("reads");
    assert_eq!(wire.sign(&other.expect("a key pair")), None);
}

mod guards;

proptest! {
    #[test]
    fn a_flipped_bit_is_never_good(at in 0_usize..600, bit in 0_u8..8, form in 0_u8..3) {
        let (draft, form) = match form {
            0 => (draft(), Form::Legacy),
            1 => (draft(), Form::Zero),
            _ => (draft().without_budget(), Form::One(CONFIG)),
        };
        let mut bytes = BASE64_STANDARD.decode(draft.text(form)).expect("base64");
        // Our own signature's place may hold anything: it is overwritten.
        let ours = match form {
            Form::One(_) => bytes.len().saturating_sub(128)..bytes.len().saturating_sub(64),
            Form::Legacy | Form::Zero => 1..65,
        };
        if let Some(byte) = bytes.get_mut(at).filter(|_| !ours.contains(&at)) {
            *byte ^= 1 << bit;
            prop_assert!(reason_of(&body(&BASE64_STANDARD.encode(&bytes))).is_some());
        }
    }

    #[test]
    fn a_fee_is_rounded_up(units in any::<u32>(), price in 0..=u64::from(u32::MAX)) {
        let micro = u128::from(units).saturating_mul(price.into());
        let paid = u128::from(priority_fee(units, price)).saturating_mul(MICRO);
        prop_assert!(paid >= micro && paid.saturating_sub(micro) < MICRO);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = reason_of(&body(&format!("{}=", BASE64_STANDARD.encode(&bytes))));
        let mut first = BASE64_STANDARD.decode(draft().text(Form::Zero)).expect("base64");
        first.truncate(130);
        first.extend(bytes);
        let _ = reason_of(&body(&BASE64_STANDARD.encode(&first)));
    }
}
