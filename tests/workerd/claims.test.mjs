// One transaction that pays several orders, on real chains (anvil, LiteSVM): each payment is claimed once, and no more.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { encodeFunctionData } from "viem";
import { contracts } from "../../scripts/lib/contract.mjs";
import { ACCOUNTS, KEYS, TOKEN, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { MEMO_PROGRAM, MINT, getTransferCheckedInstruction, signer, startSolana } from "../../scripts/lib/solana.mjs";
import { authorizationCall, isExternal, nonceOf, random, settlementOf, sign } from "./payment.mjs";
import { startWorker, until } from "./worker.mjs";

const CENT = 10_000n;
const TEN = 10_000000n;
const [OPERATOR] = ACCOUNTS;
let evm, solana, worker, hazards;
let seeds = 100;

before(async () => {
  [evm, solana] = await Promise.all([startEvm(), startSolana({ finalityAfter: 1_000_000 })]);
  hazards = await evm.deployHazards();
  worker = await startWorker({ vars: { RPC_LOCAL_EVM: evm.url, RPC_LOCAL_SOLANA: solana.url, EVM_SIGNERS_TEST: KEYS.at(-1) } });
});
after(async () => {
  await worker?.stop();
  evm?.stop();
  solana?.stop();
});

const address = () => random(20);

async function merchant(to = address()) {
  const tenant = await worker.tenant({ recipients: { "local-evm": to } });
  const ask = (tx_hash, body = {}) => worker.verify(tenant.test, { tx_hash, chain: "local-evm", ...body }).then(({ body }) => body);
  return { ...tenant, to, ask };
}

async function tokenData(functionName, args) {
  const { LocalUSDC } = await contracts();
  return encodeFunctionData({ abi: LocalUSDC.abi, functionName, args });
}

/** Sends calls of the token in one transaction; answers its hash. `mine` where the chain does not by itself. */
async function batch(calls, { mine = false } = {}) {
  const { Hazards } = await contracts();
  const hash = await evm.send(OPERATOR, hazards, Hazards.abi, "each", [TOKEN, await Promise.all(calls)]);
  if (mine) await evm.rpc("evm_mine");
  assert.equal((await evm.mined(hash)).status, "success");
  return hash;
}

async function authorized(to, amount, buyer = randomAccount()) {
  await evm.mint(buyer.address, amount);
  const body = await sign({ buyer, to, amount });
  return { buyer, body, payer: buyer.address, nonce: nonceOf(body) };
}

/** One transaction: a cent of one buyer and ten of another, each by an authorization. */
async function two(to) {
  const [cent, ten] = [await authorized(to, CENT), await authorized(to, TEN)];
  return { cent, ten, hash: await batch([authorizationCall(cent.body), authorizationCall(ten.body)]) };
}

const verdict = ({ success, error_code, amount, replayed }) => [success, error_code, amount, replayed];

test("a nonce selects its own payment, and a second order in the transaction has its own", async () => {
  const { to, ask, test: key } = await merchant();
  const { cent, ten, hash } = await two(to);
  const low = await ask(hash, { authorization_nonce: cent.nonce, expected_amount: "10", reference: "dear" });
  assert.deepEqual([low.success, low.error_code, low.amount_usdc, low.transfers.length], [false, "AMOUNT_TOO_LOW", "0.010000", 1]);
  const dear = await ask(hash, { authorization_nonce: ten.nonce, expected_amount: "10", reference: "dear" });
  assert.deepEqual([...verdict(dear), dear.from_address, dear.binding], [true, null, "10000000", false, ten.payer, "authorization"]);
  assert.deepEqual([dear.transfers.length, dear.overpaid, dear.claimed], [1, "0", true]);
  const cheap = await ask(hash, { authorization_nonce: cent.nonce, expected_amount: "0.01", reference: "cheap" });
  assert.deepEqual([...verdict(cheap), cheap.from_address], [true, null, "10000", false, cent.payer]);
  assert.notEqual(cheap.id, dear.id);
  const again = await ask(hash, { expected_amount: "10", reference: "dear" });
  assert.deepEqual([...verdict(again), again.id], [true, null, "10000000", true, dear.id]);
  for (const [reference, inTheWay] of [
    ["cheap", dear],
    ["third", cheap],
  ]) {
    const all = await ask(hash, { expected_amount: "10", reference });
    assert.deepEqual([all.error_code, all.claimed_by.id], ["ALREADY_CLAIMED", inTheWay.id], reference);
  }
  const other = await ask(hash, { authorization_nonce: ten.nonce, reference: "other" });
  assert.deepEqual([other.error_code, other.claimed_by.id], ["ALREADY_CLAIMED", dear.id]);
  const records = (await worker.call("GET", "/v1/verifications", { key })).body.data.filter(({ success }) => success);
  assert.deepEqual(
    records.map(({ id, amount }) => [id, amount]),
    [
      [cheap.id, "10000"],
      [dear.id, "10000000"],
    ],
  );
});

test("a payer selects what they paid, and a request that names nobody gets what is free", async () => {
  const { to, ask } = await merchant();
  const { cent, ten, hash } = await two(to);
  const dear = await ask(hash, { payer: ten.payer, expected_amount: "10", reference: "dear" });
  assert.deepEqual([...verdict(dear), dear.binding], [true, null, "10000000", false, "payer"]);
  const again = await ask(hash, { expected_amount: "10", reference: "late" });
  assert.deepEqual([again.error_code, again.claimed_by.id], ["ALREADY_CLAIMED", dear.id]);
  const looked = await ask(hash, { reference: "late", claim: false });
  assert.deepEqual([...verdict(looked), looked.claimed], [true, null, "10000", false, false]);
  const rest = await ask(hash, { expected_amount: "0.01", reference: "late" });
  assert.deepEqual([...verdict(rest), rest.from_address, rest.transfers.length], [true, null, "10000", false, cent.payer, 1]);
  assert.equal((await ask(hash, { reference: "later" })).error_code, "ALREADY_CLAIMED");
  const mixed = await ask(hash, { payer: cent.payer, authorization_nonce: ten.nonce });
  assert.equal(mixed.error_code, "AUTHORIZATION_MISMATCH");
  assert.equal((await ask(hash, { payer: OPERATOR.address })).error_code, "PAYER_MISMATCH");
});

test("the whole excludes its parts, and a part the whole; under one reference each repeats", async () => {
  const { to, ask } = await merchant();
  const first = await two(to);
  const whole = await ask(first.hash, { reference: "a", expected_amount: "10.01" });
  assert.deepEqual(verdict(whole), [true, null, "10010000", false]);
  const part = await ask(first.hash, { authorization_nonce: first.cent.nonce, reference: "b" });
  assert.deepEqual([part.error_code, part.claimed_by.id], ["ALREADY_CLAIMED", whole.id]);
  const own = await ask(first.hash, { authorization_nonce: first.cent.nonce, reference: "a" });
  assert.deepEqual([...verdict(own), own.id], [true, null, "10000", true, whole.id]);
  const second = await two(to);
  const cent = await ask(second.hash, { payer: second.cent.payer, reference: "a" });
  const all = await ask(second.hash, { reference: "b", expected_amount: "10.01" });
  assert.deepEqual([all.error_code, all.claimed_by.id], ["ALREADY_CLAIMED", cent.id]);
  const more = await ask(second.hash, { reference: "a", expected_amount: "10" });
  assert.deepEqual([...verdict(more), more.id === cent.id], [true, null, "10000000", false, false]);
  const both = await ask(second.hash, { reference: "a", expected_amount: "10.01" });
  assert.deepEqual([...verdict(both), both.id], [true, null, "10010000", true, cent.id]);
});

test("two authorizations of one payer are two payments", async () => {
  const { to, ask } = await merchant();
  const buyer = randomAccount();
  const [one, other] = [await authorized(to, CENT, buyer), await authorized(to, CENT, buyer)];
  const hash = await batch([authorizationCall(one.body), authorizationCall(other.body)]);
  const first = await ask(hash, { authorization_nonce: one.nonce, expected_amount: "0.01", reference: "1" });
  const second = await ask(hash, { authorization_nonce: other.nonce, expected_amount: "0.01", reference: "2" });
  assert.deepEqual(
    [verdict(first), verdict(second)],
    [
      [true, null, "10000", false],
      [true, null, "10000", false],
    ],
  );
  assert.notDeepEqual(first.transfers, second.transfers);
  assert.equal((await ask(hash, { payer: buyer.address, reference: "3" })).error_code, "ALREADY_CLAIMED");
});

test("a nonce that paid somebody else binds nothing", async () => {
  const { to, ask } = await merchant();
  const [ours, theirs] = [await authorized(to, CENT), await authorized(address(), TEN)];
  const hash = await batch([authorizationCall(theirs.body), authorizationCall(ours.body)]);
  assert.equal((await ask(hash, { authorization_nonce: theirs.nonce })).error_code, "AUTHORIZATION_MISMATCH");
  assert.deepEqual(verdict(await ask(hash, { authorization_nonce: ours.nonce })), [true, null, "10000", false]);
});

test("a hundred requests at once for two payments claim each payment once", async () => {
  const { to, ask } = await merchant();
  const { cent, ten, hash } = await two(to);
  const wishes = [{}, { payer: cent.payer }, { authorization_nonce: ten.nonce }, { expected_amount: "10" }];
  const asked = Array.from({ length: 100 }, (_, at) => ask(hash, { ...wishes[at % 4], reference: `order-${at}` }));
  const answers = await Promise.all(asked);
  const paid = answers.filter(({ success }) => success);
  assert.ok(paid.length <= 2 && paid.every(({ replayed }) => !replayed));
  assert.equal(
    paid.reduce((sum, { amount }) => sum + BigInt(amount), 0n),
    TEN + CENT,
  );
  assert.ok(answers.every(({ success, error_code }) => success || error_code === "ALREADY_CLAIMED"));
});

test("where the recipient passed money on, only the whole is claimed", async () => {
  // The recipient is the contract that takes and passes on.
  const { ask } = await merchant(hazards);
  const [one, other] = [randomAccount(), randomAccount()];
  for (const buyer of [one, other]) {
    await evm.rpc("anvil_setBalance", [buyer.address, "0xde0b6b3a7640000"]);
    await evm.mint(buyer.address, TEN);
    await evm.mined(await evm.tokenCall(buyer, "approve", [hazards, TEN]));
  }
  const calls = () => [
    tokenData("transferFrom", [one.address, hazards, 6n]),
    tokenData("transferFrom", [other.address, hazards, 4n]),
    tokenData("transfer", [address(), 3n]),
  ];
  const hash = await batch(calls());
  const low = await ask(hash, { payer: one.address, expected_amount: "0.000004", reference: "a" });
  assert.deepEqual(verdict(low).slice(0, 3), [false, "AMOUNT_TOO_LOW", "3"]);
  const sure = await ask(hash, { payer: one.address, expected_amount: "0.000003", reference: "a" });
  assert.deepEqual([...verdict(sure), sure.transfers.length], [true, null, "3", false, 2]);
  const rest = await ask(hash, { payer: other.address, reference: "b" });
  assert.deepEqual([rest.error_code, rest.claimed_by.id], ["ALREADY_CLAIMED", sure.id]);
  assert.deepEqual(verdict(await ask(await batch(calls()), { reference: "c" })), [true, null, "7", false]);
});

test("an authorization that is being settled is claimed by its settlement, the others are not", async () => {
  const { to, ask, test: key } = await merchant();
  const [ours, direct] = [await authorized(to, CENT), await authorized(to, TEN)];
  await evm.rpc("evm_setAutomine", [false]);
  const settling = worker.call("POST", "/facilitator/settle", { key, body: ours.body });
  const pool = async () => Number((await evm.rpc("txpool_status")).pending);
  await until(async () => (await pool()) === 1, "the settlement in the pool");
  // A stranger is first, and puts both into one transaction.
  await evm.rpc("anvil_dropAllTransactions");
  const hash = await batch([authorizationCall(ours.body), authorizationCall(direct.body)], { mine: true });
  await evm.rpc("evm_setAutomine", [true]);
  const [taken, free] = await Promise.all([
    ask(hash, { authorization_nonce: ours.nonce }),
    ask(hash, { authorization_nonce: direct.nonce }),
  ]);
  assert.deepEqual([taken.error_code, taken.claimed_by.id.slice(0, 4)], ["ALREADY_CLAIMED", "stl_"]);
  assert.deepEqual(verdict(free), [true, null, "10000000", false]);
  const all = await ask(hash, { reference: "all" });
  assert.equal(all.error_code, "ALREADY_CLAIMED");
  const settled = await settling;
  assert.deepEqual([settled.body.success, settled.body.transaction, isExternal(settled)], [true, hash, true], settled.text);
  assert.equal(settlementOf(settled), taken.claimed_by.id);
});

test("a record follows its own payment, and revives with it", async () => {
  const { to, ask, test: key } = await merchant();
  const [cent, ten] = [await authorized(to, CENT), await authorized(to, TEN)];
  const snapshot = await evm.rpc("evm_snapshot");
  const hash = await batch([authorizationCall(cent.body), authorizationCall(ten.body)]);
  const raw = await evm.rpc("eth_getRawTransactionByHash", [hash]);
  const first = await ask(hash, { authorization_nonce: cent.nonce, reference: "a" });
  const second = await ask(hash, { authorization_nonce: ten.nonce, reference: "b" });
  assert.ok(first.success && second.success);
  await evm.rpc("evm_revert", [snapshot]);
  const status = async ({ id }) => (await worker.call("GET", `/v1/verifications/${id}`, { key })).body.status;
  await until(async () => (await status(first)) === "reorged" && (await status(second)) === "reorged", "the reorganisation");
  // It comes back behind another transaction of the token: its logs have other indexes.
  await evm.rpc("evm_setAutomine", [false]);
  await evm.rpc("evm_mine");
  await evm.tokenCall(ACCOUNTS[2], "mint", [address(), 1n]);
  await evm.rpc("eth_sendRawTransaction", [raw]);
  await evm.rpc("evm_mine");
  await evm.rpc("evm_setAutomine", [true]);
  const back = await ask(hash, { authorization_nonce: cent.nonce, reference: "a" });
  assert.deepEqual([...verdict(back), back.id], [true, null, "10000", true, first.id]);
  assert.equal((await ask(hash, { authorization_nonce: cent.nonce, reference: "b" })).error_code, "ALREADY_CLAIMED");
  assert.equal((await ask(hash, { authorization_nonce: ten.nonce, reference: "a" })).error_code, "ALREADY_CLAIMED");
  await until(async () => (await status(second)) !== "reorged", "the revival of the other");
});

async function onSolana(givers, memos) {
  const { address: to } = await signer(seeds++);
  const tenant = await worker.tenant({ recipients: { "local-solana": to } });
  const wallets = await Promise.all(givers.map(async () => signer(seeds++)));
  const instructions = [await solana.createAta(to)];
  for (const [at, wallet] of wallets.entries()) {
    await solana.fund(wallet.address, 1_000000n);
    const [source, destination] = [await solana.ata(wallet.address), await solana.ata(to)];
    instructions.push(
      getTransferCheckedInstruction({ source, mint: MINT, destination, authority: wallet, amount: givers[at], decimals: 6 }),
    );
  }
  for (const memo of memos) instructions.push({ programAddress: MEMO_PROGRAM, accounts: [], data: new TextEncoder().encode(memo) });
  const tx_hash = await solana.run(solana.authority, instructions);
  const ask = (body = {}) => worker.verify(tenant.test, { tx_hash, chain: "local-solana", ...body }).then(({ body }) => body);
  return { ask, payers: wallets.map(({ address }) => address) };
}

test("on Solana a memo among several, or of several payers, names none without its payer", async () => {
  for (const [givers, memos] of [
    [[7n], ["order-1", "order-2"]],
    [[7n, 5n], ["order-1"]],
    [
      [7n, 5n],
      ["order-1", "order-2"],
    ],
  ]) {
    const { ask, payers } = await onSolana(givers, memos);
    const alone = await ask({ memo: "order-1" });
    assert.equal(alone.error_code, "MEMO_MISMATCH", `${givers} ${memos}`);
    const named = await ask({ memo: "order-1", payer: payers[0], expected_amount: "0.000007", reference: "a" });
    assert.deepEqual([...verdict(named), named.binding], [true, null, "7", false, "payer"]);
    // The unit is the whole gain.
    const other = await ask({ payer: payers.at(-1), reference: "b" });
    assert.deepEqual([other.error_code, other.claimed_by.id], ["ALREADY_CLAIMED", named.id]);
  }
  const { ask, payers } = await onSolana([7n, 5n], []);
  const low = await ask({ payer: payers[1], expected_amount: "0.000006" });
  assert.deepEqual(verdict(low).slice(0, 3), [false, "AMOUNT_TOO_LOW", "5"]);
  assert.deepEqual(verdict(await ask({ expected_amount: "0.000012" })), [true, null, "12", false]);
});
