// Deliveries that end without a word: a killed workerd, Solana's lost answers; and
// what is refused so early that nothing of it is kept.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { KEYS, startEvm } from "../../scripts/lib/evm.mjs";
import { keyPairText, signer, startSolana } from "../../scripts/lib/solana.mjs";
import { caller } from "./callers.mjs";
import { LONG, outcome, sign, signedPayment, signedSvmPayment } from "./payment.mjs";
import { startProxy } from "./proxy.mjs";
import { sent } from "./settling.mjs";
import { readObjects } from "./state.mjs";
import { until, withState } from "./worker.mjs";

let evm, solana, node, vars;

before(async () => {
  [evm, solana] = await Promise.all([startEvm(), startSolana()]);
  solana.airdrop((await signer(0x21)).address, 1_000_000_000n);
  node = await startProxy(solana.url);
  const pair = await keyPairText(new Uint8Array(32).fill(0x21));
  vars = { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1), RPC_LOCAL_SOLANA: node.url, SOLANA_SIGNERS_TEST: pair };
});
after(() => {
  node?.stop();
  evm?.stop();
  solana?.stop();
});

test("a delivery whose Worker was killed while it waited is open after its lease, and not before", () =>
  withState(vars, async (running) => {
    const { settle, body, to, test: key } = await signedPayment(running.worker, evm, LONG);
    await evm.rpc("evm_setAutomine", [false]);
    const lost = settle().catch(() => undefined);
    await until(async () => (await sent(evm, "pending")) > (await sent(evm)), "the settlement in the pool");
    running.worker.crash();
    await lost;
    await evm.rpc("evm_setAutomine", [true]);
    await evm.rpc("evm_mine");
    const worker = await running.again();
    const post = async (verb) => (await worker.call("POST", `/facilitator/${verb}`, { key, body })).body;
    assert.equal((await post("verify")).invalidReason, "duplicate_settlement");
    const [{ id }] = (await worker.call("GET", "/v1/settlements", { key })).body.data;
    const read = async () => (await worker.call("GET", `/v1/settlements/${id}`, { key })).body;
    await until(async () => (await read()).status === "completed", "the alarm");
    await worker.advance(31_000);
    assert.equal((await read()).handed_over, null);
    assert.equal((await post("verify")).isValid, true);
    const answers = await Promise.all(Array.from({ length: 6 }, () => post("settle")));
    assert.deepEqual(answers.map(outcome).sort(), [...Array(5).fill("duplicate_settlement"), "success"]);
    assert.equal(await evm.balance(to), 10_000n);
  }));

/** The rows of a table in every ledger that has been written under `state`. */
function rows(state, table) {
  const found = readObjects({ state }, "TenantLedger", table, (all) => all(`SELECT * FROM ${table}`));
  assert.ok(found.length > 0, `no ledger has a table ${table}`);
  return found.flat();
}

test("a signature that fails in process leaves no row and no count, but counts against the rates", () =>
  withState(vars, async ({ worker, state }) => {
    const { buyer, to, test: key, verify } = await signedPayment(worker, evm, LONG);
    for (const verb of ["verify", "verify", "settle"]) {
      const [body, other] = [await sign({ buyer, to, ...LONG }), await sign({ buyer, to, ...LONG })];
      body.paymentPayload.payload.signature = other.paymentPayload.payload.signature;
      const answer = (await worker.call("POST", `/facilitator/${verb}`, { key, body })).body;
      assert.equal(answer.invalidReason ?? answer.errorReason, "invalid_exact_evm_signature");
    }
    const usage = (await worker.call("GET", "/v1/usage", { key })).body;
    assert.deepEqual([usage.verifications_used, usage.rate.minute.used >= 3], [0, true]);
    // One whose signature is good leaves a row.
    assert.equal((await verify()).body.isValid, true);
    await worker.stop();
    assert.deepEqual([rows(state, "payments").length, rows(state, "settlements")], [1, []]);
  }));

test("what the chain refuses does not count, and what was found good counts once", () =>
  withState(vars, async ({ worker }) => {
    const poor = await signedPayment(worker, evm, { ...LONG, holds: 5_000n });
    const used = async (key) => (await worker.call("GET", "/v1/usage", { key })).body.verifications_used;
    for (let times = 0; times < 3; times++)
      assert.equal((await poor.verify()).body.invalidReason, "invalid_exact_evm_insufficient_balance");
    assert.equal((await poor.settle()).body.errorReason, "invalid_exact_evm_insufficient_balance");
    assert.equal(await used(poor.test), 0);
    await evm.mint(poor.buyer.address, 5_000n);
    assert.equal((await poor.verify()).body.isValid, true);
    assert.equal((await poor.verify()).body.isValid, true);
    assert.equal((await poor.settle()).body.success, true);
    assert.equal((await poor.settle()).body.errorReason, "duplicate_settlement");
    assert.equal(await used(poor.test), 1);
  }));

test("a Solana payment is handed over once to fifty callers at once, and a lost answer is healed from the record", () =>
  withState(vars, async ({ worker }) => {
    const many = await signedSvmPayment(worker, solana);
    // A fresh Worker asks the chain for more first: that is not what is tested.
    assert.equal((await many.verify()).body.isValid, true);
    const answers = await Promise.all(Array.from({ length: 50 }, () => many.settle()));
    assert.deepEqual(
      answers.map(({ body }) => outcome(body)).sort(),
      [...Array(49).fill("duplicate_settlement"), "success"],
      answers.find(({ body }) => outcome(body) !== "duplicate_settlement")?.text,
    );
    assert.equal((await many.verify()).body.invalidReason, "duplicate_settlement");
    assert.equal(outcome((await many.settle()).body), "duplicate_settlement");
    assert.equal(await many.paid(), 10_000n);

    const paid = await signedSvmPayment(worker, solana);
    const sends = solana.sends.length;
    await solana.answer("local_drop", [1_000_000]);
    const gone = caller(worker, { key: paid.test, body: paid.body });
    await until(() => solana.sends.length > sends, "the transaction");
    gone.cut();
    assert.equal(await gone.answer, undefined);
    await solana.answer("local_drop", [0]);
    // Sooner than the lease ends.
    await until(async () => (await paid.verify()).body.isValid, "the delivery to reopen", 15_000);
    assert.equal(await paid.paid(), 10_000n);
    // Long after the block hash is gone, and without a node.
    await solana.answer("local_skip", [500]);
    await worker.advance(600_000);
    node.down = true;
    try {
      assert.equal((await paid.verify()).body.isValid, true);
      const asked = await Promise.all(Array.from({ length: 6 }, () => paid.settle()));
      assert.deepEqual(asked.map(({ body }) => outcome(body)).sort(), [...Array(5).fill("duplicate_settlement"), "success"]);
      assert.equal((await paid.verify()).body.invalidReason, "duplicate_settlement");
    } finally {
      node.down = false;
    }
  }));
