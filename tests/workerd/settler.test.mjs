// Settlement when things go wrong: slow blocks, a chain that swallows what is
// sent, a killed workerd. One payment moves money once, and every end is reported.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { createWalletClient, http } from "viem";
import { ACCOUNTS, KEYS, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { flight, order } from "./flights.mjs";
import { signedPayment } from "./payment.mjs";
import { startProxy } from "./proxy.mjs";
import { SIGNER, moveAway, sent, startSettling } from "./settling.mjs";
import { startWorker, until, withState } from "./worker.mjs";

/** A request whose Worker has died holds its lease for 30 s: whoever asks then is served. */
const afterTheLease = (worker, key, body) =>
  until(
    async () => {
      const answer = (await worker.call("POST", "/facilitator/settle", { key, body })).body;
      return answer.errorReason === "duplicate_settlement" ? undefined : answer;
    },
    "the end of the lease",
    45_000,
  );

/** A test with a chain of its own, a proxy in front of it, and a Worker that crashes and starts again. */
const crashing = (name, run) =>
  test(name, async () => {
    const evm = await startEvm();
    const proxy = await startProxy(evm.url);
    try {
      await withState({ RPC_LOCAL_EVM: proxy.url, EVM_SIGNERS_TEST: KEYS.at(-1) }, (running) => run({ evm, proxy, running }));
    } finally {
      proxy.stop();
      evm.stop();
    }
  });

test("sixteen payments at once on slow blocks all succeed, without a gap", async () => {
  const { evm, worker, stop } = await startSettling({ evm: { blockTime: 2 } });
  try {
    const buyer = randomAccount();
    await evm.mint(buyer.address, 10_000_000n);
    const all = await Promise.all(Array.from({ length: 16 }, () => signedPayment(worker, evm, { buyer, holds: 0n })));
    const answers = await Promise.all(all.map(({ settle }) => settle()));
    const failed = answers.find(({ body }) => !body.success);
    assert.equal(failed, undefined, JSON.stringify(failed?.body));
    assert.deepEqual([await sent(evm, "latest"), await sent(evm, "pending")], [16, 16]);
  } finally {
    await stop();
  }
});

test("a payment that no block takes is pending, and completed later", async () => {
  const { evm, worker, stop } = await startSettling();
  try {
    const { settle, to, test: key } = await signedPayment(worker, evm);
    await evm.rpc("evm_setAutomine", [false]);
    const waiting = (await settle()).body;
    assert.deepEqual([waiting.success, waiting.errorReason], [false, "settlement_pending"]);
    assert.match(waiting.transaction, /^0x[0-9a-f]{64}$/);
    const read = () => worker.call("GET", `/v1/settlements/${waiting.extra.settlementId}`, { key });
    assert.equal((await read()).body.status, "pending");
    await evm.rpc("evm_mine");
    // Nobody asks: the alarm alone finds the end.
    await until(async () => (await read()).body.status === "completed", "the alarm");
    const again = (await settle()).body;
    assert.deepEqual([again.success, again.transaction], [true, waiting.transaction]);
    assert.equal(await evm.balance(to), 10_000n);
    await until(async () => (await worker.sql("SELECT id FROM settlements WHERE status = 'completed'")).length === 1, "the directory");
  } finally {
    await stop();
  }
});

test("a reverted settlement is reported as failed, and its payer is not served for a while", async () => {
  const { evm, worker, stop } = await startSettling();
  try {
    const { settle, to, buyer, test: key } = await signedPayment(worker, evm, { holds: 10_000n });
    await evm.rpc("evm_setAutomine", [false]);
    const settling = settle();
    await until(async () => (await sent(evm, "pending")) === 1, "the settlement in the pool");
    await moveAway(evm, buyer, 10_000n);
    await evm.rpc("evm_mine");
    const failed = (await settling).body;
    assert.deepEqual([failed.success, failed.errorReason], [false, "invalid_exact_evm_transaction_failed"], JSON.stringify(failed));
    assert.match(failed.transaction, /^0x[0-9a-f]{64}$/);
    assert.equal((await settle()).body.errorReason, "invalid_exact_evm_insufficient_balance");
    await evm.rpc("evm_setAutomine", [true]);
    await evm.mint(buyer.address, 10_000n);
    const waits = (await settle()).body;
    assert.deepEqual([waits.success, waits.errorReason], [false, "unexpected_settle_error"], JSON.stringify(waits));
    assert.match(waits.errorMessage, /no other is sent before 20\d\d-.*Z$/);
    assert.deepEqual([await evm.balance(to), await sent(evm, "pending")], [0n, 1]);
    const read = (await worker.call("GET", `/v1/settlements/${waits.extra.settlementId}`, { key })).body;
    assert.deepEqual([read.status, read.attempts.map(({ transaction }) => transaction)], ["failed", [failed.transaction]]);
    // What has failed is not among those that may be handed over, whatever else is asked.
    const open = (await worker.call("GET", `/v1/settlements?handed_over=false&payer=${buyer.address}`, { key })).body;
    assert.deepEqual(open.data, []);
    const takes = await worker.call("POST", `/v1/settlements/${waits.extra.settlementId}/hand-over`, { key });
    assert.deepEqual([takes.status, takes.body.error_code, takes.body.retry], [409, "SETTLEMENT_NOT_OPEN", "later"]);
    // Others are served.
    const other = await signedPayment(worker, evm);
    assert.equal((await other.settle()).body.success, true);
  } finally {
    await stop();
  }
});

test("a payer whose settlement reverted is served by no other signer", async () => {
  const evm = await startEvm();
  const signers = ACCOUNTS.slice(-2);
  const worker = await startWorker({ vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.slice(-2).join() } });
  try {
    const { settle, buyer } = await signedPayment(worker, evm, { holds: 10_000n });
    const count = async (tag) => {
      const all = signers.map(({ address }) => evm.rpc("eth_getTransactionCount", [address, tag]));
      return (await Promise.all(all)).map(Number);
    };
    await evm.rpc("evm_setAutomine", [false]);
    const settling = settle();
    await until(async () => (await count("pending")).includes(1), "the settlement in the pool");
    await moveAway(evm, buyer, 10_000n);
    await evm.rpc("evm_mine");
    assert.equal((await settling).body.errorReason, "invalid_exact_evm_transaction_failed");
    await evm.rpc("evm_setAutomine", [true]);
    // The payer's own signer has no more money for gas: the other one would send it.
    const used = (await count("latest")).indexOf(1);
    await evm.rpc("anvil_setBalance", [signers[used].address, "0x1"]);
    const next = await signedPayment(worker, evm, { buyer });
    const refused = await until(async () => {
      const { body } = await next.verify();
      return !body.isValid && body;
    }, "the wait to be known");
    assert.equal(refused.invalidReason, "unexpected_verify_error");
    assert.match(refused.invalidMessage, /failed on the chain: nothing is sent for them until 20/);
    const { body } = await next.settle();
    assert.deepEqual([body.success, body.errorReason], [false, "unexpected_settle_error"], JSON.stringify(body));
    const other = 1 - used;
    assert.equal((await count("pending"))[other], 0);
    assert.equal((await (await signedPayment(worker, evm)).settle()).body.success, true);
    assert.equal((await count("latest"))[other], 1);
  } finally {
    await worker.stop();
    evm.stop();
  }
});

test("a nonce that somebody else has used is replaced, and the payment moves once", async () => {
  const { evm, worker, stop } = await startSettling();
  try {
    const { settle, to } = await signedPayment(worker, evm);
    await evm.rpc("evm_setAutomine", [false]);
    const settling = settle();
    await until(async () => (await sent(evm, "pending")) === 1, "the settlement in the pool");
    const wallet = createWalletClient({ account: ACCOUNTS[ACCOUNTS.length - 1], chain: evm.definition, transport: http(evm.url) });
    await wallet.sendTransaction({
      to: SIGNER,
      nonce: 0,
      gas: 21_000n,
      maxFeePerGas: 90_000_000_000n,
      maxPriorityFeePerGas: 80_000_000_000n,
    });
    await evm.rpc("evm_mine");
    assert.equal(await evm.balance(to), 0n);
    await evm.rpc("evm_setAutomine", [true]);
    const { body } = await settling;
    assert.equal(body.success, true, JSON.stringify(body));
    assert.deepEqual([await evm.balance(to), await sent(evm, "latest")], [10_000n, 2]);
  } finally {
    await stop();
  }
});

crashing("what was signed before a crash is sent again after it, byte for byte", async ({ evm, proxy, running }) => {
  let { worker } = running;
  const { settle, to, body, test: key } = await signedPayment(worker, evm);
  proxy.swallow = true;
  const lost = settle().catch(() => undefined);
  await until(() => proxy.raw.length > 0, "the first attempt to send");
  worker.crash();
  await lost;
  await worker.stop();
  assert.equal(await sent(evm, "pending"), 0);
  proxy.swallow = false;
  worker = await running.again();
  await until(async () => (await evm.balance(to)) === 10_000n, "the alarm", 40_000);
  assert.equal(new Set(proxy.raw).size, 1);
  const again = await afterTheLease(worker, key, body);
  assert.deepEqual([again.success, await sent(evm, "latest")], [true, 1]);
});

crashing("what the build before has signed is sent and finished by this one", async ({ evm, proxy, running }) => {
  let { worker } = running;
  const { id: tenant } = await worker.tenant();
  const { settle, buyer, to } = await flight({ tenant });
  await evm.mint(buyer.address, 10_000n);
  proxy.swallow = true;
  const lost = order(worker, { settle }).catch(() => undefined);
  await until(() => proxy.raw.length > 0, "the first attempt to send");
  worker.crash();
  await lost;
  await worker.stop();
  // Its state as the build before wrote it: no tables and no members of today, and no number of its schema.
  const folder = join(running.state, "do", "-Settler");
  const file = readdirSync(folder).find((name) => /^[0-9a-f]{64}\.sqlite$/.test(name)) ?? "no file of the Settler";
  const db = new DatabaseSync(join(folder, file));
  db.exec("DROP TABLE refused; DROP TABLE penalties; DROP INDEX flights_flying; DROP INDEX flights_ended");
  db.exec("DELETE FROM state WHERE name = 'schema'");
  db.exec(`UPDATE flights SET flight = json_remove(flight, '$.valid_before', '$.price', '$.max_fee_wei', '$.free'),
    sent = json_remove(sent, '$.lost_at', '$.versions[0].kind', '$.versions[0].handed')`);
  const [row] = db.prepare("SELECT flight, sent FROM flights").all();
  db.close();
  assert.deepEqual([JSON.parse(String(row.flight)).valid_before, JSON.parse(String(row.sent)).versions[0].handed], [undefined, undefined]);
  proxy.swallow = false;
  worker = await running.again();
  await until(async () => (await evm.balance(to)) === 10_000n, "the alarm", 40_000);
  const report = await order(worker, { settle });
  assert.deepEqual([report.status, report.units, new Set(proxy.raw).size, await sent(evm, "latest")], ["completed", [1], 1, 1]);
  assert.deepEqual(await order(worker, "held"), []);
});

crashing("what was sent before a crash is found after it, and not paid again", async ({ evm, running }) => {
  let { worker } = running;
  const { settle, to, body, test: key } = await signedPayment(worker, evm);
  await evm.rpc("evm_setAutomine", [false]);
  const lost = settle().catch(() => undefined);
  await until(async () => (await sent(evm, "pending")) === 1, "the settlement in the pool");
  worker.crash();
  await lost;
  await worker.stop();
  await evm.rpc("evm_mine");
  await evm.rpc("evm_setAutomine", [true]);
  assert.equal(await evm.balance(to), 10_000n);
  worker = await running.again();
  const again = await afterTheLease(worker, key, body);
  assert.equal(again.success, true, JSON.stringify(again));
  assert.deepEqual([await evm.balance(to), await sent(evm, "latest")], [10_000n, 1]);
});

test("a transaction that nodes take and drop is sent again, byte for byte", async () => {
  const evm = await startEvm();
  const proxy = await startProxy(evm.url);
  const worker = await startWorker({ vars: { RPC_LOCAL_EVM: proxy.url, EVM_SIGNERS_TEST: KEYS.at(-1) } });
  try {
    const { settle, to } = await signedPayment(worker, evm);
    proxy.drop = true;
    const settling = settle();
    await until(() => proxy.raw.length > 0, "the first attempt to send");
    proxy.drop = false;
    const { body } = await settling;
    assert.equal(body.success, true, JSON.stringify(body));
    assert.deepEqual([new Set(proxy.raw).size, await evm.balance(to)], [1, 10_000n]);
  } finally {
    await worker.stop();
    proxy.stop();
    evm.stop();
  }
});
