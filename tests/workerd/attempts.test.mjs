// A seller's own attempts at a settlement, named by an Idempotency-Key: the success repeats
// byte for byte for ten minutes, a repeat takes the wait over, and no buyer can name the key.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { keccak256 } from "viem";
import { callers } from "./callers.mjs";
import { LONG, identified, outcome, sign } from "./payment.mjs";
import { startSettling } from "./settling.mjs";
import { until } from "./worker.mjs";

let evm, worker, stop, inThePool, payment, caller, deaf, whileBlocksStand;

before(async () => {
  ({ evm, worker, stop } = await startSettling());
  ({ inThePool, payment, caller, deaf, whileBlocksStand } = callers(worker, evm));
});
after(() => stop?.());

test("under an Idempotency-Key a success repeats byte for byte for ten minutes, and stands for one body", async () => {
  const { settle, buyer, to, body: payload } = await payment();
  const headers = { "idempotency-key": crypto.randomUUID() };
  const first = await settle(payload, headers);
  assert.equal(outcome(first.body), "success", first.text);
  assert.equal(first.headers.get("idempotent-replayed"), null);
  for (let times = 0; times < 3; times++) {
    const again = await settle(payload, headers);
    assert.deepEqual([again.status, again.text, again.headers.get("idempotent-replayed")], [200, first.text, "true"]);
  }
  for (const others of [{}, { "idempotency-key": crypto.randomUUID() }]) {
    assert.equal(outcome((await settle(payload, others)).body), "duplicate_settlement");
  }
  const conflict = await settle(await sign({ buyer, to, ...LONG }), headers);
  assert.deepEqual([conflict.status, conflict.body.success, conflict.body.error_code], [409, false, "IDEMPOTENCY_CONFLICT"]);
  await worker.advance(601_000);
  const late = (await settle(payload, headers)).body;
  assert.deepEqual([outcome(late), late.transaction], ["duplicate_settlement", first.body.transaction]);
  assert.equal(await evm.balance(to), 10_000n);
});

test("a success that was lost under a key repeats under that key, and nowhere else", async () => {
  const headers = { "idempotency-key": crypto.randomUUID() };
  const paid = await payment();
  const socket = deaf(paid, headers);
  const { transaction } = await until(async () => {
    const settlement = await paid.record();
    return settlement?.handed_over && settlement;
  }, "the handing over");
  socket.resetAndDestroy();
  assert.equal(outcome((await paid.settle()).body), "duplicate_settlement");
  const again = await paid.settle(paid.body, headers);
  assert.deepEqual(
    [outcome(again.body), again.body.transaction, again.headers.get("idempotent-replayed")],
    ["success", transaction, "true"],
  );
});

test("a second request under a key in progress takes the wait over", async () => {
  const { settle, body, to } = await payment();
  const headers = { "idempotency-key": crypto.randomUUID() };
  const hasAnswered = await worker.answersFromNow();
  const [first, second] = await whileBlocksStand(async (count) => {
    const waiting = settle(body, headers);
    await inThePool(count + 1);
    const taking = settle(body, headers);
    await until(() => hasAnswered("payment", 2), "the second request to take the wait over");
    // Whoever waits without a key, or with another, takes nothing over.
    for (const others of [{}, { "idempotency-key": crypto.randomUUID() }]) {
      assert.equal(outcome((await settle(body, others)).body), "duplicate_settlement");
    }
    return [waiting, taking];
  }).then((both) => Promise.all(both));
  assert.deepEqual([outcome(first.body), outcome(second.body)], ["duplicate_settlement", "success"]);
  const third = await settle(body, headers);
  assert.deepEqual([third.text, third.headers.get("idempotent-replayed")], [second.text, "true"]);
  assert.equal(await evm.balance(to), 10_000n);
});

test("a request whose wait was taken over ends and reopens nothing when its caller leaves", async () => {
  const { body, key, settle, to, isValid } = await payment();
  const headers = { "idempotency-key": crypto.randomUUID() };
  const hasAnswered = await worker.answersFromNow();
  const taking = await whileBlocksStand(async (count) => {
    const first = caller({ key, body }, headers);
    await inThePool(count + 1);
    const second = settle(body, headers);
    await until(() => hasAnswered("payment", 2), "the second request to take the wait over");
    // The first would be answered at the end only; it leaves before.
    first.cut();
    assert.equal(await first.answer, undefined);
    return [second];
  });
  assert.equal(outcome((await taking[0]).body), "success");
  await until(() => hasAnswered("deliver", 2), "the end of the first request");
  for (let times = 0; times < 3; times++) {
    assert.deepEqual([await isValid(), outcome((await settle()).body)], [false, "duplicate_settlement"]);
  }
  assert.equal(await evm.balance(to), 10_000n);
});

test("a pending settlement is asked for again under the same key, or a new one", async () => {
  for (const same of [true, false]) {
    const { settle, body, to } = await payment();
    const headers = { "idempotency-key": crypto.randomUUID() };
    const again = same ? headers : { "idempotency-key": crypto.randomUUID() };
    await whileBlocksStand(async (count) => {
      const waiting = settle(body, headers);
      await inThePool(count + 1);
      await worker.advance(21_000);
      assert.equal(outcome((await waiting).body), "settlement_pending");
    });
    const { text, body: answer } = await settle(body, again);
    assert.equal(outcome(answer), "success", text);
    assert.equal((await settle(body, again)).text, text);
    assert.equal(outcome((await settle(body, same ? {} : headers)).body), "duplicate_settlement");
    assert.equal(await evm.balance(to), 10_000n);
  }
});

test("a key that a buyer can repeat is refused by name", async () => {
  const { settle, to, body } = await payment();
  identified(body, "order_0123456789abcdef");
  const payload = JSON.stringify(body.paymentPayload);
  const header = Buffer.from(payload).toString("base64");
  const digests = [header, payload, JSON.stringify(body)].flatMap((text) => [
    createHash("sha256").update(text).digest("hex"),
    keccak256(Buffer.from(text)),
  ]);
  const {
    signature,
    authorization: { nonce },
  } = body.paymentPayload.payload;
  const bare = (text) => text.replace(/^0x/, "");
  const keys = [
    "order_0123456789abcdef",
    ...[nonce, signature, ...digests].flatMap((text) => [`0x${bare(text)}`, bare(text), bare(text).toUpperCase()]),
  ];
  for (const key of keys) {
    const { body: answer } = await settle(body, { "idempotency-key": key });
    assert.equal(outcome(answer), "invalid_payload", `${key}: ${JSON.stringify(answer)}`);
    assert.match(answer.errorMessage, /Idempotency-Key/i);
  }
  assert.equal(await evm.balance(to), 0n);
  assert.equal(outcome((await settle(body, { "idempotency-key": crypto.randomUUID() })).body), "success");
});
