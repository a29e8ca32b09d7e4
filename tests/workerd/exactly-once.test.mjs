// One payment, one movement of money, whoever asks, however often, and whoever
// else interferes: identifiers, keys, other senders, lost answers, reorganisations.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ACCOUNTS, KEYS, randomAccount } from "../../scripts/lib/evm.mjs";
import { identified, isExternal, sendAsStranger, settlementOf, sign, signedPayment } from "./payment.mjs";
import { sent, startSettling } from "./settling.mjs";
import { startWorker, until } from "./worker.mjs";

let evm, worker, stop;

before(async () => {
  ({ evm, worker, stop } = await startSettling());
});
after(() => stop?.());

const payment = (wishes) => signedPayment(worker, evm, wishes);

test("another authorization under an identifier is a conflict, and the first still stands", async () => {
  const { settle, verify, buyer, to, body } = await payment();
  const id = "order_0123456789abcdef";
  const answer = await settle(identified(body, id));
  const [first, settlement] = [answer.body, settlementOf(answer)];
  assert.equal(first.success, true, JSON.stringify(first));
  const anew = identified(await sign({ buyer, to }), id);
  assert.notEqual(anew.paymentPayload.payload.authorization.nonce, body.paymentPayload.payload.authorization.nonce);
  const looked = (await verify(anew)).body;
  assert.deepEqual([looked.isValid, looked.invalidReason, looked.extra.settlementId], [false, "payment_identifier_conflict", settlement]);
  const again = (await settle(anew)).body;
  assert.deepEqual([again.success, again.errorReason, again.transaction], [false, "payment_identifier_conflict", first.transaction]);
  assert.equal(again.extra.settlementId, settlement);
  assert.equal(await evm.balance(to), 10_000n);
  const dearer = (await settle(identified(await sign({ buyer, to, amount: 20_000n }), id))).body;
  assert.deepEqual([dearer.success, dearer.errorReason], [false, "payment_identifier_conflict"]);
  // Identifiers are each payer's own.
  const other = randomAccount();
  await evm.mint(other.address, 1_000_000n);
  assert.equal((await settle(identified(await sign({ buyer: other, to }), id))).body.success, true);
  const forged = identified(await sign({ buyer, to }), id);
  forged.paymentPayload.payload.signature = body.paymentPayload.payload.signature;
  assert.equal((await settle(forged)).body.errorReason, "invalid_exact_evm_signature");
  assert.equal(await evm.balance(to), 20_000n);
});

test("an identifier that is required and missing, or malformed, is refused", async () => {
  const { verify, body } = await payment();
  for (const id of [undefined, "short", "with spaces in its name"]) {
    assert.equal((await verify(identified(body, id))).body.invalidReason, "invalid_payload");
  }
});

test("an Idempotency-Key stands for one body", async () => {
  const { test: key, body, buyer, to } = await payment();
  const settle = (sent) => worker.call("POST", "/facilitator/settle", { key, body: sent, headers: { "idempotency-key": "k-1" } });
  const first = await settle(body);
  const again = await settle(body);
  assert.equal(first.body.success, true);
  assert.deepEqual([again.text, again.headers.get("idempotent-replayed")], [first.text, "true"]);
  const other = await settle(await sign({ buyer, to }));
  assert.deepEqual(
    [other.status, other.body.success, other.body.errorReason, other.body.error_code],
    [409, false, "payment_identifier_conflict", "IDEMPOTENCY_CONFLICT"],
  );
});

test("what somebody else has put on the chain counts as paid, once", async () => {
  const { settle, verify, to, body, test: key } = await payment();
  const hash = await sendAsStranger(evm, body);
  assert.equal((await verify()).body.invalidReason, "invalid_exact_evm_nonce_already_used");
  const answer = await settle();
  const { body: settled, headers } = answer;
  assert.deepEqual([settled.success, settled.transaction, settled.extra], [true, hash, undefined], JSON.stringify(settled));
  assert.ok(isExternal({ headers }));
  assert.equal(await evm.balance(to), 10_000n);
  const claimed = (await worker.verify(key, { tx_hash: hash, chain: "local-evm" })).body;
  assert.deepEqual([claimed.error_code, claimed.claimed_by.id], ["ALREADY_CLAIMED", settlementOf(answer)]);
});

test("what somebody else has sent and was verified by its hash is not paid again", async () => {
  const { settle, body, test: key } = await payment();
  const hash = await sendAsStranger(evm, body);
  assert.equal((await worker.verify(key, { tx_hash: hash, chain: "local-evm", reference: "order-9" })).body.success, true);
  assert.equal((await settle()).body.errorReason, "invalid_exact_evm_nonce_already_used");
});

test("a payment whose time is over is answered from its record, and no other", async () => {
  const validBefore = BigInt(Math.floor(Date.now() / 1000) + 9);
  const paid = await payment({ change: { validBefore } });
  const unpaid = await payment({ change: { validBefore } });
  const first = (await paid.settle()).body;
  assert.equal(first.success, true, JSON.stringify(first));
  await until(() => BigInt(Math.floor(Date.now() / 1000)) > validBefore, "the end of its time");
  const again = (await paid.settle()).body;
  assert.deepEqual([again.errorReason, again.transaction], ["duplicate_settlement", first.transaction]);
  const late = "invalid_exact_evm_payload_authorization_valid_before";
  assert.equal((await unpaid.settle()).body.errorReason, late);
  const forged = structuredClone(paid.body);
  forged.paymentPayload.payload.signature = unpaid.body.paymentPayload.payload.signature;
  assert.equal((await paid.settle(forged)).body.errorReason, late);
});

test("a settlement whose block leaves the chain is sent again", async () => {
  const { settle, to, test: key } = await payment();
  const answer = await settle();
  const { body } = answer;
  assert.equal(body.success, true);
  await evm.rpc("anvil_reorg", [1, []]);
  assert.equal(await evm.balance(to), 0n);
  await until(async () => (await evm.balance(to)) === 10_000n, "the same bytes in another block", 60_000);
  assert.notEqual(await evm.rpc("eth_getTransactionReceipt", [body.transaction]), null);
  const read = (await worker.call("GET", `/v1/settlements/${settlementOf(answer)}`, { key })).body;
  assert.deepEqual([read.status, read.transaction], ["completed", body.transaction]);
});

test("a settlement that the tenant's daily budget cannot pay for is refused before anything is sent", async () => {
  // Less than one settlement may cost at worst, at the registry's dollar a coin.
  const own = await startWorker({ vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-2), SETTLE_DAILY_USD: "0.0001" } });
  try {
    const { settle, to } = await signedPayment(own, evm);
    assert.equal((await settle()).body.errorReason, "quota_exceeded");
    assert.deepEqual([await evm.balance(to), await sent(evm, "pending", ACCOUNTS.at(-2)?.address)], [0n, 0]);
  } finally {
    await own.stop();
  }
});

test("a network whose signers are all too poor is not offered, and the richer one serves", async () => {
  const [poor, rich] = ACCOUNTS.slice(-3);
  await evm.rpc("anvil_setBalance", [poor.address, "0x1"]);
  const kinds = async (keys) => {
    const own = await startWorker({ vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: keys.join() } });
    try {
      const { body } = await own.call("GET", "/facilitator/supported");
      if (keys.length < 2) return body.kinds.length;
      const before = await sent(evm, "latest", rich.address);
      for (let at = 0; at < 4; at++) assert.equal((await (await signedPayment(own, evm)).settle()).body.success, true);
      assert.equal(await sent(evm, "latest", rich.address), before + 4);
      return body.kinds.length;
    } finally {
      await own.stop();
    }
  };
  assert.equal(await kinds([KEYS.at(-3)]), 0);
  assert.equal(await kinds([KEYS.at(-3), KEYS.at(-2)]), 1);
});
