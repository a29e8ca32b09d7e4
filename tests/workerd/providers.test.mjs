// Providers that are slow, lie, lag or answer nonsense: the right error, nothing
// counted; and what the platform is asked for a verification.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { startWorker } from "./worker.mjs";

const BUYER = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
const address = () => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex")}`;
let one, two, worker;

before(async () => {
  [one, two] = [await startMock(), await startMock()];
  worker = await startWorker({ vars: { RPC_BASE: `${one.url},${two.url}` } });
});
after(async () => {
  await worker?.stop();
  one?.stop();
  two?.stop();
});

/**
 * A tenant of its own with a payment that both providers know.
 * @param {{ amount?: number, block?: number, more?: object }} [options] `more`: further members of the tenant
 */
async function paid({ amount = 1_000000, block = 995, more } = {}) {
  for (const mock of [one, two]) mock.reset();
  const to = address();
  const tenant = await worker.tenant({ recipients: { base: to }, ...more });
  const hash = one.addTransfer({ from: BUYER, to, amount, block });
  two.receipts.set(hash, one.receipts.get(hash));
  const ask = (body, headers) => worker.verify(tenant.live, { tx_hash: hash, chain: "base", ...body }, headers);
  const used = async () => (await worker.call("GET", "/v1/usage", { key: tenant.live })).body.verifications_used;
  return { ...tenant, to, hash, ask, used };
}

test("a verification makes two HTTP requests, one ledger call and none to the directory", async () => {
  const { ask } = await paid();
  await ask({ reference: "warm the ledger", claim: false });
  const next = await paid();
  await worker.counts();
  assert.equal((await next.ask()).body.success, true);
  assert.deepEqual(await worker.counts(), { ledger: 1, directory: 0 });
  assert.deepEqual([one.requests + two.requests], [2]);
});

test("a finalized trace is asked for once, for everybody", async () => {
  const { ask } = await paid({ block: 900 });
  assert.equal((await ask({ reference: "a" })).body.status, "finalized");
  const asked = one.requests + two.requests;
  for (let at = 0; at < 3; at++) assert.equal((await ask({ reference: "a" })).body.replayed, true);
  assert.equal(one.requests + two.requests, asked);
});

test("a rate-limited caller costs no chain call and no ledger call", async () => {
  const { ask } = await paid({ more: { limits: { per_minute: 2 } } });
  await ask({ claim: false });
  await ask({ claim: false });
  assert.equal((await ask()).body.error_code, "RATE_LIMITED");
  const asked = one.requests + two.requests;
  await worker.counts();
  const again = await ask();
  assert.equal(again.body.error_code, "RATE_LIMITED");
  assert.ok(again.headers.get("retry-after") && again.headers.get("x-ratelimit-remaining") === "0");
  assert.deepEqual(await worker.counts(), { ledger: 0, directory: 0 });
  assert.equal(one.requests + two.requests, asked);
});

/** What the last requests have cost. */
async function costs(ask) {
  await worker.counts();
  const asked = one.requests + two.requests;
  const answer = await ask();
  const { ledger } = await worker.counts();
  return { answer, ledger, chain: one.requests + two.requests - asked };
}

test("an idempotent repeat costs one ledger call and none to the chain", async () => {
  const { ask, used } = await paid();
  await ask({ reference: "warm the ledger", claim: false });
  const key = { "idempotency-key": crypto.randomUUID() };
  const plain = await costs(() => ask({ reference: "a", claim: false }));
  assert.deepEqual([plain.ledger, plain.chain], [1, 2], "no key, no further call");
  const first = await costs(() => ask({ reference: "a" }, key));
  assert.deepEqual([first.answer.body.success, first.ledger, first.chain], [true, 2, 2]);
  assert.equal(first.answer.headers.get("x-ledger-unrecorded"), null);
  for (let at = 0; at < 3; at++) {
    const again = await costs(() => ask({ reference: "a" }, key));
    assert.deepEqual([again.ledger, again.chain], [1, 0]);
    assert.deepEqual([again.answer.text, again.answer.headers.get("idempotent-replayed")], [first.answer.text, "true"]);
  }
  const other = await costs(() => ask({ reference: "b" }, key));
  assert.deepEqual([other.answer.body.error_code, other.ledger, other.chain], ["IDEMPOTENCY_CONFLICT", 1, 0]);
  assert.equal(await used(), 3);
});

test("whoever polls under one key pays one ledger call a poll", async () => {
  const { ask } = await paid({ block: 1000 });
  const key = { "idempotency-key": crypto.randomUUID() };
  const poll = () => costs(() => ask({}, key));
  const first = await poll();
  assert.deepEqual([first.answer.body.error_code, first.ledger], ["NOT_FINAL", 2]);
  for (let at = 0; at < 2; at++) {
    const { answer, ledger, chain } = await poll();
    assert.deepEqual([answer.body.error_code, ledger, chain > 0], ["NOT_FINAL", 1, true]);
    assert.equal(answer.headers.get("x-ledger-unrecorded"), null, "it is for the Worker only");
  }
  one.head = two.head = 1010;
  try {
    const mined = await poll();
    assert.deepEqual([mined.answer.body.success, mined.ledger], [true, 1]);
    const repeat = await poll();
    assert.deepEqual([repeat.answer.text, repeat.ledger, repeat.chain], [mined.answer.text, 1, 0]);
  } finally {
    one.head = two.head = 1000;
  }
});

test("a provider that misbehaves is passed over", async () => {
  for (const fault of [
    "html",
    "http-429",
    "http-500",
    "string-error",
    "truncated",
    "enormous",
    "nested",
    "lie",
    "other-chain",
    "redirect",
    "garbage",
  ]) {
    const { ask, used } = await paid();
    one.fault = fault;
    const { status, body } = await ask();
    assert.deepEqual([status, body.success], [200, true], `${fault}: ${JSON.stringify(body)}`);
    assert.equal(await used(), 1);
  }
});

test("when all misbehave the chain is unavailable, and nothing is counted", async () => {
  for (const fault of ["html", "http-429", "truncated", "enormous", "nested", "lie", "garbage"]) {
    const { ask, used } = await paid();
    one.fault = two.fault = fault;
    const { status, body, headers } = await ask();
    assert.deepEqual([status, body.error_code, body.retry], [503, "CHAIN_UNAVAILABLE", "later"], fault);
    assert.ok(headers.get("retry-after"));
    assert.ok(!JSON.stringify(body).includes("127.0.0.1:") || !JSON.stringify(body.detail).includes("127.0.0.1"));
    assert.equal(await used(), 0);
  }
});

test("a receipt above 4 MiB is pieced together from the token's events in its block", async () => {
  const { ask, hash, to } = await paid({ amount: 2_500000, block: 991 });
  const other = one.addTransfer({ from: BUYER, to, amount: 9_000000, block: 991 });
  two.receipts.set(other, one.receipts.get(other));
  for (const mock of [one, two]) mock.large.add(hash);
  const { status, body } = await ask({ expected_amount: "2.5" });
  assert.deepEqual([status, body.success, body.amount_usdc], [200, true, "2.500000"], JSON.stringify(body));
  assert.ok([...one.calls, ...two.calls].includes("eth_getLogs"));
});

test("a slow provider is hedged", async () => {
  const { ask } = await paid();
  one.fault = two.fault = undefined;
  one.fault = "silent";
  const began = performance.now();
  assert.equal((await ask()).body.success, true);
  assert.ok(performance.now() - began < 4000);
});

test("null from one is no answer until another agrees", async () => {
  const { ask, hash } = await paid();
  one.receipts.delete(hash);
  assert.equal((await ask({ claim: false })).body.success, true);
  two.receipts.delete(hash);
  const gone = (await ask()).body;
  assert.deepEqual([gone.error_code, gone.retry], ["TX_NOT_FOUND", "later"]);
  const lost = await paid();
  one.receipts.delete(lost.hash);
  two.fault = "http-500";
  assert.equal((await lost.ask()).body.error_code, "CHAIN_UNAVAILABLE");
});

test("a large payment needs two that agree", async () => {
  const large = await paid({ amount: 100_000000 });
  assert.equal((await large.ask()).body.success, true);
  assert.ok(one.requests > 0 && two.requests > 0);
  const alone = await paid({ amount: 100_000000 });
  two.fault = "http-500";
  assert.equal((await alone.ask()).body.error_code, "CHAIN_UNAVAILABLE");
  const small = await paid({ amount: 99_999999 });
  two.fault = "http-500";
  assert.equal((await small.ask()).body.success, true);
});

test("a block ahead of the head is pending", async () => {
  const { ask } = await paid({ block: 1005 });
  assert.equal((await ask()).body.error_code, "TX_PENDING");
});

test("a listed payer is refused, or reported where the tenant wishes so", async () => {
  for (const mock of [one, two]) mock.reset();
  const listed = "0x098b716b8aaf21512996dc57eb0615e2383e2f96";
  for (const [sanctions, wanted] of [
    ["refuse", "SANCTIONED_ADDRESS"],
    ["report", null],
  ]) {
    const to = address();
    const tenant = await worker.tenant({ recipients: { base: to }, sanctions });
    const hash = one.addTransfer({ from: listed, to, amount: 5_000000, block: 990 });
    two.receipts.set(hash, one.receipts.get(hash));
    const { body } = await worker.verify(tenant.live, { tx_hash: hash, chain: "base" });
    assert.deepEqual([body.error_code, body.claimed, body.risk_score], [wanted, wanted === null, 1]);
  }
});

test("what the seller or the operator has mended is judged anew under the same Idempotency-Key", async () => {
  const { id, ask, hash, used } = await paid();
  const [key, stranger] = [{ "idempotency-key": crypto.randomUUID() }, address()];
  const again = (body) => ask({ reference: "a", ...body }, key);
  const admin = (method, path, body) => worker.call(method, `/v1/admin/tenants/${id}${path}`, { admin: true, body });
  for (const mock of [one, two]) mock.addTransfer({ hash, from: BUYER, to: stranger, amount: 2_000000, block: 995 });
  for (let at = 0; at < 2; at++) {
    const { status, body } = await again({ recipient: stranger });
    assert.deepEqual([status, body.error_code], [422, "RECIPIENT_NOT_REGISTERED"]);
  }
  assert.equal((await admin("POST", "/recipients", { chain: "base", address: stranger })).status, 201);
  const first = await again({ recipient: stranger });
  assert.deepEqual([first.body.success, first.body.amount], [true, "2000000"], first.text);
  assert.equal((await again({ recipient: stranger })).text, first.text);
  assert.equal(await used(), 1);
});

test("a chain that the tier does not include is judged anew once it does", async () => {
  const { id, ask } = await paid();
  const key = { "idempotency-key": crypto.randomUUID() };
  const patch = (body) => worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body });
  const onPolygon = () => ask({ chain: "polygon" }, key);
  assert.equal((await patch({ tier: "free" })).status, 200);
  for (let at = 0; at < 2; at++) assert.equal((await onPolygon()).body.error_code, "CHAIN_NOT_ENABLED");
  assert.equal((await patch({ tier: "pro" })).status, 200);
  assert.equal((await onPolygon()).body.error_code, "CHAIN_UNAVAILABLE", "it reached the chain, which has no provider here");
});

test("a refusal is about the recipient that it was judged for", async () => {
  const { id, ask, used, to } = await paid();
  const [key, named] = [{ "idempotency-key": crypto.randomUUID() }, { "idempotency-key": crypto.randomUUID() }];
  const other = address();
  const recipients = (body) => worker.call("POST", `/v1/admin/tenants/${id}/recipients`, { admin: true, body });
  assert.equal((await recipients({ chain: "base", address: other, default: true })).status, 201);
  const wrong = await ask({}, key);
  assert.equal(wrong.body.error_code, "NO_MATCHING_TRANSFER", wrong.text);
  const sure = await ask({ recipient: other }, named);
  assert.equal((await ask({}, key)).text, wrong.text, "nothing has changed");
  assert.ok([200, 201].includes((await recipients({ chain: "base", address: to, default: true })).status));
  const mended = await ask({}, key);
  assert.deepEqual([mended.body.success, mended.body.to_address.toLowerCase()], [true, to]);
  assert.equal((await ask({}, key)).text, mended.text);
  assert.equal((await ask({ recipient: other }, named)).text, sure.text, "the request itself names the recipient");
  assert.equal(await used(), 2, "one request counts once");
});
