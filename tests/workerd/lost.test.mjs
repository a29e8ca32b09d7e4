// Deliveries that end without a word: a killed workerd, Solana's lost answers; and
// what is refused so early that nothing of it is kept.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { request as http } from "node:http";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ACCOUNTS, KEYS, startEvm } from "../../scripts/lib/evm.mjs";
import { keyPairText, signer, startSolana } from "../../scripts/lib/solana.mjs";
import { startProxy } from "./proxy.mjs";
import { sign, signedPayment, signedSvmPayment } from "./payment.mjs";
import { startWorker, until } from "./worker.mjs";

const SIGNER = ACCOUNTS.at(-1).address;
const LONG = { change: { validBefore: 4_000_000_000n } };
const told = ({ success, errorReason }) => (success ? "success" : errorReason);
let evm, solana, node, vars;

before(async () => {
  [evm, solana] = await Promise.all([startEvm(), startSolana()]);
  solana.svm.airdrop((await signer(0x21)).address, 1_000_000_000n);
  node = await startProxy(solana.url);
  const pair = await keyPairText(new Uint8Array(32).fill(0x21));
  vars = { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1), RPC_LOCAL_SOLANA: node.url, SOLANA_SIGNERS_TEST: pair };
});
after(() => {
  node?.stop();
  evm?.stop();
  solana?.stop();
});

async function withWorker(act, state = mkdtempSync(join(tmpdir(), "x402-lost-"))) {
  const running = { worker: await startWorker({ vars, state }) };
  running.again = async () => {
    await running.worker.stop();
    return (running.worker = await startWorker({ vars, state }));
  };
  try {
    return await act(running, state);
  } finally {
    await running.worker.stop();
    rmSync(state, { recursive: true, force: true });
  }
}

test("a delivery whose Worker was killed while it waited is open after its lease, and not before", () =>
  withWorker(async (running) => {
    const { settle, body, to, test: key } = await signedPayment(running.worker, evm, LONG);
    await evm.rpc("evm_setAutomine", [false]);
    const lost = settle().catch(() => undefined);
    await until(async () => Number(await evm.rpc("eth_getTransactionCount", [SIGNER, "pending"])) > Number(await evm.rpc("eth_getTransactionCount", [SIGNER, "latest"])), "the settlement in the pool");
    running.worker.crash();
    await lost;
    await evm.rpc("evm_setAutomine", [true]);
    await evm.rpc("evm_mine");
    const worker = await running.again();
    const post = async (verb) => (await worker.call("POST", `/facilitator/${verb}`, { key, body })).body;
    const [{ id }] = (await worker.call("GET", "/v1/settlements", { key })).body.data;
    const read = async () => (await worker.call("GET", `/v1/settlements/${id}`, { key })).body;
    await until(async () => (await read()).status === "completed", "the alarm");
    await worker.advance(31_000);
    assert.equal((await read()).handed_over, null);
    assert.equal((await post("verify")).isValid, true);
    const answers = await Promise.all(Array.from({ length: 6 }, () => post("settle")));
    assert.deepEqual(answers.map(told).sort(), [...Array(5).fill("duplicate_settlement"), "success"]);
    assert.equal(await evm.balance(to), 10_000n);
  }));

/** The rows of a table in every ledger that has been written under `state`. */
function rows(state, table) {
  const folder = join(state, "do", "-TenantLedger");
  return readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name)).flatMap((name) => {
    const db = new DatabaseSync(join(folder, name));
    try {
      const has = db.prepare("SELECT 1 FROM sqlite_master WHERE name = ?").get(table);
      return has ? db.prepare(`SELECT * FROM ${table}`).all() : [];
    } finally {
      db.close();
    }
  });
}

test("a signature that fails in process leaves no row, counts nothing, and is limited all the same", () =>
  withWorker(async (running, state) => {
    const { worker } = running;
    const { buyer, to, test: key } = await signedPayment(worker, evm, LONG);
    for (const verb of ["verify", "verify", "settle"]) {
      const [body, other] = [await sign({ buyer, to, ...LONG }), await sign({ buyer, to, ...LONG })];
      body.paymentPayload.payload.signature = other.paymentPayload.payload.signature;
      const answer = (await worker.call("POST", `/facilitator/${verb}`, { key, body })).body;
      assert.equal(answer.invalidReason ?? answer.errorReason, "invalid_exact_evm_signature");
    }
    const usage = (await worker.call("GET", "/v1/usage", { key })).body;
    assert.deepEqual([usage.verifications_used, usage.rate.minute.used >= 3], [0, true]);
    await worker.stop();
    assert.deepEqual([rows(state, "payments"), rows(state, "settlements")], [[], []]);
  }));

test("what the chain refuses does not count, and what was found good counts once", () =>
  withWorker(async ({ worker }) => {
    const poor = await signedPayment(worker, evm, { ...LONG, holds: 5_000n });
    const used = async (key) => (await worker.call("GET", "/v1/usage", { key })).body.verifications_used;
    for (let times = 0; times < 3; times++) assert.equal((await poor.verify()).body.invalidReason, "invalid_exact_evm_insufficient_balance");
    assert.equal((await poor.settle()).body.errorReason, "invalid_exact_evm_insufficient_balance");
    assert.equal(await used(poor.test), 0);
    await evm.mint(poor.buyer.address, 5_000n);
    assert.equal((await poor.verify()).body.isValid, true);
    assert.equal((await poor.verify()).body.isValid, true);
    assert.equal((await poor.settle()).body.success, true);
    assert.equal((await poor.settle()).body.errorReason, "duplicate_settlement");
    assert.equal(await used(poor.test), 1);
  }));

test("a Solana payment fifty times at once is handed over once, and its lost answer is healed from the record", () =>
  withWorker(async ({ worker }) => {
    const many = await signedSvmPayment(worker, solana);
    const answers = await Promise.all(Array.from({ length: 50 }, () => many.settle()));
    const won = answers.filter(({ body }) => body.success);
    assert.deepEqual([won.length, answers.filter(({ body }) => told(body) === "duplicate_settlement").length], [1, 49]);
    assert.equal((await many.verify()).body.invalidReason, "duplicate_settlement");
    assert.equal(told((await many.settle()).body), "duplicate_settlement");
    assert.equal(await many.paid(), 10_000n);

    const paid = await signedSvmPayment(worker, solana);
    const sends = solana.sends.length;
    await solana.answer("local_drop", [1_000_000]);
    const text = JSON.stringify(paid.body);
    const { hostname, port } = new URL(worker.url);
    const headers = { authorization: `Bearer ${paid.test}`, "content-type": "application/json", "content-length": Buffer.byteLength(text) };
    const request = http({ hostname, port, path: "/facilitator/settle", method: "POST", agent: false, headers });
    const gone = new Promise((resolve) => request.once("error", resolve).once("response", () => resolve("an answer")));
    request.end(text);
    await until(() => solana.sends.length > sends, "the transaction");
    request.socket.resetAndDestroy();
    assert.notEqual(await gone, "an answer");
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
      assert.deepEqual(asked.map(({ body }) => told(body)).sort(), [...Array(5).fill("duplicate_settlement"), "success"]);
      assert.equal((await paid.verify()).body.invalidReason, "duplicate_settlement");
    } finally {
      node.down = false;
    }
  }));
