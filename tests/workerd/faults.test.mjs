// What goes wrong between the Worker and its objects: an answer that is held back, or is
// lost after its change was written. No payment is given goods for twice, and none is lost.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { keccak256 } from "viem";
import { randomAccount } from "../../scripts/lib/evm.mjs";
import { callers } from "./callers.mjs";
import { outcome, random } from "./payment.mjs";
import { sent, startSettling } from "./settling.mjs";
import { until } from "./worker.mjs";

let evm, worker, stop, on;

before(async () => {
  ({ evm, worker, stop } = await startSettling());
  on = callers(worker, evm);
});
after(() => stop?.());

const deliver = '"deliver"';

test("a success that was repeated under its key is not reopened by the first caller's abort", async () => {
  const paid = await on.payment();
  const key = { "idempotency-key": crypto.randomUUID() };
  await worker.fault({ names: deliver, held: true });
  const first = on.caller(paid, key);
  await until(async () => (await paid.record())?.handed_over, "the handing over");
  first.cut();
  assert.equal(await first.answer, undefined);
  const second = await paid.settle(paid.body, key);
  assert.deepEqual([outcome(second.body), second.headers.get("idempotent-replayed")], ["success", "true"]);
  // Whoever asks without the key gets nothing, now and once the first request is over.
  assert.equal(outcome((await paid.settle()).body), "duplicate_settlement");
  const hasAnswered = await worker.answersFromNow();
  await worker.release();
  await until(() => hasAnswered("reopen", 1), "the first request to reopen what it was given");
  assert.equal((await paid.record()).handed_over.request_id, second.headers.get("x-request-id"));
  assert.equal(outcome((await paid.settle()).body), "duplicate_settlement");
});

test("a repeat under a key whose answer is lost reopens nothing: the first may have been served", async () => {
  const paid = await on.payment();
  const key = { "idempotency-key": crypto.randomUUID() };
  assert.equal(outcome((await paid.settle(paid.body, key)).body), "success");
  await worker.fault({ names: '"payment":', lost: true });
  assert.equal((await paid.settle(paid.body, key)).status, 503);
  assert.equal(outcome((await paid.settle()).body), "duplicate_settlement");
  const again = await paid.settle(paid.body, key);
  assert.deepEqual([outcome(again.body), again.headers.get("idempotent-replayed")], ["success", "true"]);
});

test("a success whose answer is lost between the ledger and the Worker is open again", async () => {
  const paid = await on.payment();
  await worker.fault({ names: deliver, lost: true });
  const first = await paid.settle();
  assert.deepEqual([first.status, first.body.error_code], [503, "LEDGER_UNAVAILABLE"]);
  assert.equal((await paid.record()).handed_over, null);
  assert.equal(outcome((await paid.settle()).body), "success");
  assert.equal(outcome((await paid.settle()).body), "duplicate_settlement");
  assert.equal(await evm.balance(paid.to), 10_000n);
});

test("a success whose delivery the ledger refuses is open for the next request", async () => {
  const paid = await on.payment();
  await worker.fault({ names: deliver, refused: true });
  const first = await paid.settle();
  assert.deepEqual([first.status, first.body.error_code, first.headers.get("retry-after")], [503, "LEDGER_UNAVAILABLE", "1"]);
  // Sooner than the lease ends.
  assert.equal(outcome((await paid.settle()).body), "success");
  assert.equal(outcome((await paid.settle()).body), "duplicate_settlement");
});

test("a success of the payment's own step, and a reservation, whose answers are lost are open again", async () => {
  const open = await on.lost();
  await worker.fault({ names: '"payment":', lost: true });
  assert.equal((await open.settle()).status, 503);
  assert.equal(outcome((await open.settle()).body), "success");
  const fresh = await on.payment();
  await worker.fault({ names: '"payment":', lost: true });
  assert.equal((await fresh.settle()).status, 503);
  // The reservation stands, and nobody is waited for.
  assert.equal(outcome((await fresh.settle()).body), "success");
  assert.equal(await evm.balance(fresh.to), 10_000n);
});

test("a step that reaches the ledger after its caller has given up gives nothing away", async () => {
  const open = await on.lost();
  const hasAnswered = await worker.answersFromNow();
  await worker.fault({ names: '"payment":', slow: 7_000 });
  assert.deepEqual([(await open.settle()).status, (await open.record()).handed_over], [503, null]);
  await until(() => hasAnswered("payment", 1), "the ledger to answer the late call");
  assert.equal((await open.record()).handed_over, null);
  assert.deepEqual([outcome((await open.settle()).body), outcome((await open.settle()).body)], ["success", "duplicate_settlement"]);
});

test("an old reservation that was never sent is judged anew before it is sent", async () => {
  const paid = await on.payment();
  await worker.fault({ names: '"settle"', unsent: true });
  assert.equal((await paid.settle()).status, 503);
  await worker.advance(35_000);
  // The payer's money is gone meanwhile.
  const before = await sent(evm);
  await evm.rpc("anvil_setBalance", [paid.buyer.address, "0xde0b6b3a7640000"]);
  await evm.mined(await evm.tokenCall(paid.buyer, "transfer", [randomAccount().address, 1_000_000n]));
  const answers = [(await paid.settle()).body, (await paid.settle()).body];
  assert.ok(
    answers.every((body) => !body.success),
    JSON.stringify(answers),
  );
  assert.equal(answers[1].errorReason, "invalid_exact_evm_insufficient_balance");
  assert.equal(await sent(evm), before);
});

test("a contract's open payment is answered from its record past its time", async () => {
  const signature = random(65);
  const address = await evm.deploy("OddWallet", [keccak256(signature), 0n, 0n, 2n ** 255n]);
  const validBefore = BigInt(Math.floor(Date.now() / 1000)) + 200_000n;
  const paid = await on.lost({ buyer: { address, signTypedData: async () => signature }, change: { validBefore } });
  await worker.advance(300_000_000);
  assert.equal((await paid.verify()).body.isValid, true);
  const forged = structuredClone(paid.body);
  forged.paymentPayload.payload.signature = random(65);
  assert.equal((await paid.verify(forged)).body.isValid, false);
  assert.notEqual(outcome((await paid.settle(forged)).body), "success");
  assert.equal(outcome((await paid.settle()).body), "success");
  assert.equal(outcome((await paid.settle()).body), "duplicate_settlement");
});
