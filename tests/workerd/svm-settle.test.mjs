// x402 payments on Solana (LiteSVM with the real token program): verified,
// settled once, sent again when lost, ended for certain when they expire.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { COMPUTE_BUDGET, MEMO_PROGRAM, keyPairText, signer, startSolana } from "../../scripts/lib/solana.mjs";
import { settlementOf, signSvm, signedSvmPayment } from "./payment.mjs";
import { startWorker, until } from "./worker.mjs";

let chain, worker;

before(async () => {
  chain = await startSolana();
  const bytes = [0x21, 0x22];
  const pairs = await Promise.all(bytes.map((byte) => keyPairText(new Uint8Array(32).fill(byte))));
  for (const byte of bytes) chain.airdrop((await signer(byte)).address, 1_000_000_000n);
  worker = await startWorker({ vars: { RPC_LOCAL_SOLANA: chain.url, SOLANA_SIGNERS_TEST: pairs.join() } });
  const { body } = await worker.call("GET", "/facilitator/supported");
  assert.equal(body.signers["solana:*"].length, 2);
});
after(async () => {
  await worker?.stop();
  chain?.stop();
});

const payment = (wishes) => signedSvmPayment(worker, chain, wishes);

for (const version of ["legacy", 0, 1]) {
  test(`a payment of version ${version} is valid, moves money once and is claimed`, async () => {
    const { verify, settle, paid, buyer, test: key } = await payment({ version });
    const verified = (await verify()).body;
    assert.deepEqual([verified.isValid, verified.payer], [true, buyer.address], JSON.stringify(verified));
    const answer = await settle();
    const [first, settlement] = [answer.body, settlementOf(answer)];
    assert.deepEqual([first.success, first.network, first.payer], [true, "solana:local", buyer.address], JSON.stringify(first));
    assert.equal(await paid(), 10_000n);
    // Proxies hand on 4 KiB of headers by default, and the platform adds some of its own.
    const size = [...answer.headers].reduce((sum, [name, value]) => sum + name.length + value.length + 4, 0);
    assert.ok(size < 3_600, `${size} bytes of headers`);
    const checks = JSON.parse(Buffer.from(answer.headers.get("x402-checks") ?? "", "base64").toString());
    assert.ok(checks.length > 20 && checks.every(({ name, passed }) => name && passed), JSON.stringify(checks));
    const again = (await settle()).body;
    assert.deepEqual([again.success, again.errorReason, again.transaction], [false, "duplicate_settlement", first.transaction]);
    assert.equal((await verify()).body.invalidReason, "duplicate_settlement");
    const claimed = (await worker.verify(key, { tx_hash: first.transaction, chain: "local-solana" })).body;
    assert.deepEqual([claimed.error_code, claimed.claimed_by.id], ["ALREADY_CLAIMED", settlement]);
    const { body } = await worker.call("GET", `/v1/settlements/${settlement}`, { key });
    assert.deepEqual([body.status, body.transaction, body.attempts.length], ["completed", first.transaction, 1]);
    assert.equal((await worker.call("GET", "/v1/usage", { key })).body.verifications_used, 2);
  });
}

test("a fee payer that cannot pay is not the buyer's fault", async () => {
  const { verify, settle, feePayer } = await payment();
  const account = chain.svm.getAccount(feePayer);
  chain.svm.setAccount({ ...account, lamports: 1n });
  try {
    const verified = (await verify()).body;
    assert.deepEqual([verified.isValid, verified.invalidReason], [false, "unexpected_verify_error"], JSON.stringify(verified));
    assert.equal((await settle()).body.errorReason, "unexpected_settle_error");
  } finally {
    chain.svm.setAccount(account);
  }
});

test("the same payment fifty times at once is one transaction and one success", async () => {
  const { settle, paid } = await payment();
  const sends = chain.sends.length;
  const answers = await Promise.all(Array.from({ length: 50 }, () => settle()));
  const duplicates = answers.filter(({ body }) => body.errorReason === "duplicate_settlement");
  assert.deepEqual([answers.filter(({ body }) => body.success).length, duplicates.length], [1, 49]);
  assert.equal(new Set(chain.sends.slice(sends)).size, 1);
  assert.equal(await paid(), 10_000n);
});

const compute = (word, value, bytes) => ({
  programAddress: COMPUTE_BUDGET,
  data: new Uint8Array([word, ...Array.from({ length: bytes }, (_, at) => Number((BigInt(value) >> BigInt(8 * at)) & 255n))]),
});
const budget = (units, price) => (all) => [compute(2, units, 4), compute(3, price, 8), ...all.slice(2)];

test("the priority fee is capped as a whole: few units at a high price are settled", async () => {
  // What wallets set: 20,000 units at 100,000 millionths of a lamport are 2,000 lamports.
  for (const [units, price, fee] of [
    [20_000, 100_000, 12_000n],
    [200_000, 50_000, 20_000n],
  ]) {
    const { settle, paid, feePayer } = await payment({ instructions: budget(units, price) });
    const had = chain.svm.getBalance(feePayer);
    const { body } = await settle();
    assert.equal(body.success, true, JSON.stringify(body));
    assert.deepEqual([await paid(), had - chain.svm.getBalance(feePayer)], [10_000n, fee]);
  }
  const dearer = await payment({ instructions: budget(200_000, 50_001) });
  assert.equal(
    (await dearer.settle()).body.errorReason,
    "invalid_exact_svm_payload_transaction_instructions_compute_price_instruction_too_high",
  );
  const larger = await payment({ instructions: budget(400_001, 0) });
  assert.equal(
    (await larger.settle()).body.errorReason,
    "invalid_exact_svm_payload_transaction_instructions_compute_limit_instruction_too_high",
  );
});

test("a wallet's guards before and behind the transfer are settled, the fee payer among what they guard", async () => {
  // LiteSVM has no Lighthouse: a program that takes what is text and whose accounts have signed stands in for it.
  const lighthouse = "L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95";
  chain.svm.addProgram(lighthouse, chain.svm.getAccount(MEMO_PROGRAM).data);
  const guard = (kind, buyer, feePayer) => ({
    programAddress: lighthouse,
    accounts: [feePayer, buyer.address].map((address) => ({ address, role: 0 })),
    data: new Uint8Array([kind, 0, 1]),
  });
  const guarded =
    (kind, { buyer, feePayer }) =>
    (all) => {
      const [one, at] = [guard(kind, buyer, feePayer), all.length - 2];
      return [...all.slice(0, at), one, one, ...all.slice(at), one];
    };
  for (const version of /** @type {const} */ (["legacy", 0, 1])) {
    const made = await payment({ version });
    const { buyer, to, feePayer, settle, paid } = made;
    const sent = (kind) => signSvm({ chain, buyer, to, feePayer, version, instructions: guarded(kind, made) });
    assert.equal((await settle(await sent(1))).body.errorReason, "invalid_exact_svm_smart_wallet_fee_payer_not_isolated");
    const { body } = await settle(await sent(5));
    assert.equal(body.success, true, `${version}: ${JSON.stringify(body)}`);
    assert.equal(await paid(), 10_000n);
  }
});

test("what would cost the fee payer is refused by name", async () => {
  const { buyer, to, feePayer, verify } = await payment();
  const reason = async (instructions) => (await verify(await signSvm({ chain, buyer, to, feePayer, instructions }))).body.invalidReason;
  const price = ([limit, , ...rest]) => [
    limit,
    { programAddress: COMPUTE_BUDGET, data: new Uint8Array([3, 0, 0, 0, 1, 0, 0, 0, 0]) },
    ...rest,
  ];
  assert.equal(await reason(price), "invalid_exact_svm_payload_transaction_instructions_compute_price_instruction_too_high");
  const given = (all) => [...all.slice(0, 3), { ...all[3], accounts: [{ address: feePayer, role: 3 }] }];
  assert.equal(await reason(given), "invalid_exact_svm_smart_wallet_fee_payer_not_isolated");
  const poor = await payment({ holds: 9_999n });
  const { body } = await poor.verify();
  assert.deepEqual([body.invalidReason, body.extra.checks.at(-1).name], ["invalid_exact_svm_transaction_simulation_failed", "simulation"]);
});

test("another tenant and other requirements get nothing of a settled payment", async () => {
  const { settle, body } = await payment();
  assert.equal((await settle()).body.success, true);
  const other = await worker.tenant();
  assert.equal((await settle(body, other.test)).body.errorReason, "pay_to_not_allowed");
  const elsewhere = structuredClone(body);
  elsewhere.paymentPayload.resource.url = "https://shop.test/b";
  assert.equal((await settle(elsewhere)).body.errorReason, "duplicate_settlement");
});

test("a transaction that nodes drop is sent again, the same bytes", async () => {
  const { settle, paid } = await payment();
  const sends = chain.sends.length;
  await chain.answer("local_drop", [1]);
  const { body } = await settle();
  assert.equal(body.success, true, JSON.stringify(body));
  const raw = chain.sends.slice(sends);
  assert.deepEqual([raw.length, new Set(raw).size], [2, 1]);
  assert.equal(await paid(), 10_000n);
});

test("a transaction that no block takes is pending, and failed for certain once it cannot be taken", async () => {
  const { settle, verify, paid, test: key } = await payment();
  await chain.answer("local_drop", [1_000_000]);
  const waiting = (await settle()).body;
  assert.deepEqual([waiting.success, waiting.errorReason], [false, "settlement_pending"]);
  const read = async () => (await worker.call("GET", `/v1/settlements/${waiting.extra.settlementId}`, { key })).body;
  assert.equal((await read()).status, "pending");
  // 151 blocks more, and the 32 that make the last of them final.
  await chain.answer("local_skip", [200]);
  await until(async () => (await read()).status === "failed", "the end");
  await chain.answer("local_drop", [0]);
  const ended = await read();
  assert.deepEqual([ended.reason, ended.transaction], ["invalid_exact_svm_transaction_failed", waiting.transaction]);
  assert.equal(await paid(), 0n);
  assert.equal((await verify()).body.invalidReason, "invalid_exact_svm_transaction_simulation_failed");
});
