// Payments on a real EVM chain (anvil), judged by the real Worker.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { contracts } from "../../scripts/lib/contract.mjs";
import { ACCOUNTS, TOKEN, startEvm } from "../../scripts/lib/evm.mjs";
import { stored, storedEvents } from "./months.mjs";
import { startWorker, until } from "./worker.mjs";

const [OPERATOR, BUYER] = ACCOUNTS;
let evm, worker, hazards;

before(async () => {
  evm = await startEvm();
  await evm.mint(BUYER.address, 1_000_000_000000n);
  hazards = await evm.deployHazards();
  await evm.mint(hazards, 1_000_000000n);
  worker = await startWorker({ vars: { RPC_LOCAL_EVM: evm.url } });
});
after(async () => {
  await worker?.stop();
  evm?.stop();
});

const address = () => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex")}`;

async function merchant(more = {}) {
  const to = address();
  const tenant = await worker.tenant({ recipients: { "local-evm": to }, ...more });
  const ask = (tx_hash, body = {}, headers) => worker.verify(tenant.test, { tx_hash, chain: "local-evm", ...body }, headers);
  return { ...tenant, to, ask };
}

const hazard = async (functionName, args, account = OPERATOR) => {
  const { Hazards } = await contracts();
  const hash = await evm.send(account, hazards, Hazards.abi, functionName, args);
  await evm.mined(hash);
  return hash;
};

test("a payment is answered member for member", async () => {
  const { to, ask } = await merchant();
  const hash = await evm.pay({ to, amount: 1_500000n });
  const { status, body } = await ask(hash, { expected_amount: "1.50", reference: "order-1" });
  assert.equal(status, 200);
  const members = [
    "id",
    "request_id",
    "success",
    "status",
    "tx_hash",
    "chain",
    "network",
    "amount_usdc",
    "amount",
    "asset",
    "from_address",
    "to_address",
    "transfers",
    "payers",
    "overpaid",
    "confirmations",
    "block_number",
    "block_hash",
    "block_time",
    "finality",
    "binding",
    "claimed",
    "claimed_by",
    "reference",
    "replayed",
    "risk_score",
    "risk_level",
    "risk_factors",
    "checks",
    "error",
    "error_code",
    "retry",
  ];
  assert.deepEqual(Object.keys(body), members);
  assert.equal(body.success, true);
  assert.equal(body.from_address, BUYER.address);
  assert.deepEqual([body.amount, body.amount_usdc, body.overpaid], ["1500000", "1.500000", "0"]);
  assert.deepEqual([body.claimed, body.replayed, body.error, body.error_code, body.retry], [true, false, null, null, null]);
  assert.equal(body.asset, TOKEN);
});

test("an amount is compared to the last atomic unit", async () => {
  const { to, ask } = await merchant();
  const hash = await evm.pay({ to, amount: 1_500000n });
  const low = (await ask(hash, { expected_amount: "1.500001" })).body;
  assert.deepEqual([low.success, low.error_code, low.retry, low.status], [false, "AMOUNT_TOO_LOW", "never", "rejected"]);
  const over = (await ask(hash, { expected_amount: 1.499999 })).body;
  assert.deepEqual([over.success, over.overpaid], [true, "1"]);
});

test("a claim is bound to its reference, once", async () => {
  const { to, ask } = await merchant();
  const hash = await evm.pay({ to, amount: 1_000000n });
  const dry = (await ask(hash, { reference: "a", claim: false })).body;
  assert.deepEqual([dry.success, dry.claimed], [true, false]);
  const first = (await ask(hash, { reference: "a" })).body;
  const again = (await ask(hash, { reference: "a" })).body;
  assert.deepEqual([again.success, again.id, again.replayed, again.claimed], [true, first.id, true, true]);
  for (const reference of ["b", undefined]) {
    const other = (await ask(hash, { reference })).body;
    assert.deepEqual([other.error_code, other.claimed_by.id, other.claimed_by.reference], ["ALREADY_CLAIMED", first.id, "a"]);
  }
  const strict = (await ask(hash, { reference: "a", expected_amount: "2" })).body;
  assert.equal(strict.error_code, "AMOUNT_TOO_LOW", "a repeat is judged by its own conditions");
});

test("of fifty simultaneous claims of one payment one claims it", async () => {
  const { to, ask } = await merchant();
  const hash = await evm.pay({ to, amount: 1_000000n });
  const answers = await Promise.all(Array.from({ length: 50 }, (_, at) => ask(hash, { reference: `order-${at}` })));
  const codes = answers.map(({ body }) => body.error_code);
  assert.equal(codes.filter((code) => code === null).length, 1);
  assert.equal(codes.filter((code) => code === "ALREADY_CLAIMED").length, 49);
});

test("of two hundred simultaneous requests a quota of a hundred answers a hundred", async () => {
  const base = await startEvm({ chainId: 8453, token: "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913" });
  const own = await startWorker({ vars: { RPC_BASE: base.url } });
  try {
    const to = address();
    await base.mint(BUYER.address, 10_000000n);
    const hash = await base.pay({ to, amount: 1_000000n });
    await base.mine(8);
    const tenant = await own.tenant({ recipients: { base: to }, limits: { per_month: 100 } });
    const ask = () => own.verify(tenant.live, { tx_hash: hash, chain: "base", claim: false });
    const answers = await Promise.all(Array.from({ length: 200 }, ask));
    const good = answers.filter(({ body }) => body.success);
    const refused = answers.filter(({ body }) => body.error_code === "QUOTA_EXCEEDED");
    assert.deepEqual([good.length, refused.length], [100, 100]);
    assert.equal(refused[0].status, 429);
    assert.ok(Number(refused[0].headers.get("retry-after")) > 0);
    const usage = (await own.call("GET", "/v1/usage", { key: tenant.live })).body;
    assert.deepEqual([usage.verifications_used, usage.verifications_remaining], [100, 0]);
  } finally {
    await own.stop();
    base.stop();
  }
});

test("the minute's limit is exact and stands in every header", async () => {
  const { to, ask } = await merchant({ limits: { per_minute: 5 } });
  const hash = await evm.pay({ to, amount: 1_000000n });
  const answers = [];
  for (let at = 0; at < 7; at++) answers.push(await ask(hash, { claim: false }));
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200, 200, 200, 429, 429],
  );
  assert.equal(answers[0].headers.get("x-ratelimit-limit"), "5");
  assert.equal(answers[0].headers.get("x-ratelimit-remaining"), "4");
  assert.match(answers[0].headers.get("ratelimit-policy"), /^"minute";q=5;w=60, "hour";q=200000;w=3600$/);
  const limited = answers[5];
  assert.equal(limited.body.error_code, "RATE_LIMITED");
  assert.ok(Number(limited.headers.get("retry-after")) <= 61);
  assert.equal(limited.body.retry_after_s, Number(limited.headers.get("retry-after")));
});

test("an idempotent repeat is the same answer byte for byte and counts nothing", async () => {
  const { to, ask, test: key } = await merchant();
  const hash = await evm.pay({ to, amount: 1_000000n });
  const headers = { "idempotency-key": "one" };
  const first = await ask(hash, { reference: "a" }, headers);
  const again = await ask(hash, { reference: "a" }, headers);
  assert.equal(again.text, first.text);
  assert.equal(again.headers.get("idempotent-replayed"), "true");
  const other = await ask(hash, { reference: "b" }, headers);
  assert.deepEqual([other.status, other.body.error_code], [409, "IDEMPOTENCY_CONFLICT"]);
  const usage = (await worker.call("GET", "/v1/usage", { key })).body;
  assert.deepEqual([usage.verifications_used, usage.rate.minute.used], [1, 1]);
  const pending = await ask(`0x${"77".repeat(32)}`, {}, { "idempotency-key": "two" });
  assert.deepEqual([pending.body.error_code, pending.body.retry], ["TX_NOT_FOUND", "later"]);
  assert.equal((await ask(hash, {}, { "idempotency-key": "two" })).status, 409);
  assert.equal((await ask(hash, {}, { "idempotency-key": "x".repeat(256) })).status, 422);
});

test("what a verifier meets in the field is no payment", async () => {
  const { to, ask } = await merchant();
  const code = async (hash, body) => (await ask(hash, body)).body.error_code;
  assert.equal(await code(await hazard("tryPay", [TOKEN, to, 10n ** 30n])), "NO_MATCHING_TRANSFER");
  assert.equal(await code(await hazard("counterfeit", [BUYER.address, to, 5_000000n])), "NO_MATCHING_TRANSFER");
  assert.equal(await code(await hazard("poison", [TOKEN, BUYER.address, to])), "NO_MATCHING_TRANSFER");
  assert.equal(await code(await evm.pay({ to: address(), amount: 1n })), "NO_MATCHING_TRANSFER");
  const failed = await evm.tokenCall(BUYER, "transferFrom", [OPERATOR.address, to, 1n]).catch((error) => error);
  assert.equal(await code((await evm.mined(failed)).transactionHash), "TX_FAILED");
  const many = (await ask(await hazard("pay", [TOKEN, [to, to, address()], [2n, 3n, 4n]]), { expected_amount: "0.000005" })).body;
  assert.deepEqual([many.success, many.amount, many.transfers.length], [true, "5", 2]);
  const mint = (await ask(await evm.mint(to, 7n))).body;
  assert.deepEqual([mint.success, mint.from_address, mint.payers], [true, null, []]);
  assert.ok(mint.risk_factors.some(({ code }) => code === "minted_or_bridged_in"));
});

test("a recipient that passes it on was not paid", async () => {
  const account = OPERATOR;
  const tenant = await worker.tenant({ recipients: { "local-evm": hazards } });
  await evm.mined(await evm.tokenCall(account, "approve", [hazards, 10n ** 12n]));
  await evm.mint(account.address, 100n);
  const hash = await hazard("forward", [TOKEN, address(), 50n]);
  const { body } = await worker.verify(tenant.test, { tx_hash: hash, chain: "local-evm" });
  assert.equal(body.error_code, "RECIPIENT_FORWARDED");
});

test("a nonce and a payer bind a payment to its buyer", async () => {
  const { to, ask } = await merchant();
  const { hash, nonce } = await evm.payWithAuthorization({ to, amount: 1_000000n });
  const ours = (await ask(hash, { authorization_nonce: nonce, claim: false })).body;
  assert.deepEqual([ours.success, ours.binding], [true, "authorization"]);
  const other = (await ask(hash, { authorization_nonce: `0x${"11".repeat(32)}` })).body;
  assert.equal(other.error_code, "AUTHORIZATION_MISMATCH");
  const payer = (await ask(hash, { payer: BUYER.address.toLowerCase(), claim: false })).body;
  assert.deepEqual([payer.success, payer.binding], [true, "payer"]);
  assert.equal((await ask(hash, { payer: OPERATOR.address })).body.error_code, "PAYER_MISMATCH");
});

test("the issuer's blacklist stands in the risk factors", async () => {
  const { to, ask } = await merchant();
  const hash = await evm.pay({ to, amount: 1_000000n });
  await evm.mined(await evm.tokenCall(OPERATOR, "blacklist", [to]));
  const { body } = await ask(hash);
  assert.ok(body.risk_factors.some(({ code }) => code === "issuer_blacklisted_recipient"));
  assert.deepEqual([body.risk_score, body.risk_level], [1, "severe"]);
});

test("an unmined payment is pending, and finality is waited for", async () => {
  const { to, ask } = await merchant();
  await evm.rpc("evm_setAutomine", [false]);
  const hash = await evm.pay({ to, amount: 1_000000n, wait: false });
  const pending = (await ask(hash)).body;
  assert.deepEqual([pending.error_code, pending.retry, pending.status], ["TX_PENDING", "later", "pending"]);
  await evm.mine();
  await evm.rpc("evm_setAutomine", [true]);
  const early = (await ask(hash, { finality: "finalized" })).body;
  assert.deepEqual([early.error_code, early.retry], ["NOT_FINAL", "later"]);
  await evm.mine(3);
  const late = (await ask(hash, { finality: "finalized" })).body;
  assert.deepEqual([late.success, late.status, late.finality], [true, "finalized", "finalized"]);
});

test("a verified payment is followed until it is final, and shipped", async () => {
  const { id, to, ask, test: key } = await merchant();
  const hash = await evm.pay({ to, amount: 1_000000n });
  const { body } = await ask(hash);
  assert.equal(body.status, "confirmed");
  await evm.mine(4);
  const read = async () => (await worker.call("GET", `/v1/verifications/${body.id}`, { key })).body;
  await until(async () => (await read()).status === "finalized", "finality");
  const [event] = await until(() => {
    const events = storedEvents(worker, body.id);
    return events.length && events;
  }, "the event in its month");
  assert.equal(event.kind, "payment.finalized");
  const rows = stored(worker, id).flatMap(({ records }) => records.filter((record) => record.id === body.id));
  assert.deepEqual(
    rows.map(({ revision, record }) => [revision, record.status]),
    [[1, "finalized"]],
  );
});

test("a payment that is listed before its ledger's first alarm is followed all the same", async () => {
  const { to, ask, test: key } = await merchant();
  const { body } = await ask(await evm.pay({ to, amount: 1_000000n }));
  const listed = await worker.call("GET", "/v1/verifications", { key });
  assert.deepEqual([body.status, listed.body.data.map(({ id }) => id)], ["confirmed", [body.id]]);
  await evm.mine(4);
  const read = async () => (await worker.call("GET", `/v1/verifications/${body.id}`, { key })).body;
  await until(async () => (await read()).status === "finalized", "finality");
});

test("a reorganised payment is reorged, keeps its claim, and revives", async () => {
  const { to, ask, test: key } = await merchant();
  const snapshot = await evm.rpc("evm_snapshot");
  const hash = await evm.pay({ to, amount: 1_000000n });
  const raw = await evm.rpc("eth_getRawTransactionByHash", [hash]);
  const { body } = await ask(hash, { reference: "a" });
  assert.equal(body.success, true);
  await evm.rpc("evm_revert", [snapshot]);
  const read = async () => (await worker.call("GET", `/v1/verifications/${body.id}`, { key })).body;
  await until(async () => (await read()).status === "reorged", "the reorganisation");
  assert.equal((await ask(hash, { reference: "b" })).body.error_code, "TX_NOT_FOUND");
  await evm.mine();
  await evm.mined(await evm.rpc("eth_sendRawTransaction", [raw]));
  assert.equal((await ask(hash, { reference: "b" })).body.error_code, "ALREADY_CLAIMED");
  const back = (await ask(hash, { reference: "a" })).body;
  assert.deepEqual([back.success, back.id, back.replayed], [true, body.id, true]);
  const revived = await until(async () => {
    const record = await read();
    return record.status !== "reorged" && record;
  }, "the revival");
  assert.notEqual(revived.block_hash, body.block_hash);
});

test("another tenant's object does not exist", async () => {
  const [ann, bob] = [await merchant(), await merchant()];
  const hash = await evm.pay({ to: ann.to, amount: 1_000000n });
  const { body } = await ann.ask(hash, { reference: "private" });
  const read = (key) => worker.call("GET", `/v1/verifications/${body.id}`, { key });
  assert.equal((await read(ann.test)).status, 200);
  assert.equal((await read(bob.test)).status, 404);
  assert.equal((await read(ann.live)).status, 404);
  const list = async (key) => (await worker.call("GET", "/v1/verifications", { key })).body.data;
  assert.deepEqual(
    (await list(ann.test)).map(({ id }) => id),
    [body.id],
  );
  assert.deepEqual(await list(bob.test), []);
  const theirs = await bob.ask(hash, { recipient: ann.to });
  assert.deepEqual([theirs.status, theirs.body.error_code], [422, "RECIPIENT_NOT_REGISTERED"]);
  const { id: keyId } = (await worker.call("GET", `/v1/admin/tenants/${ann.id}/api-keys`, { admin: true })).body.data[0];
  assert.equal((await worker.call("DELETE", `/v1/admin/tenants/${bob.id}/api-keys/${keyId}`, { admin: true })).status, 404);
});

test("in test an address that nobody holds is the first user's", async () => {
  const [ann, bob] = [await merchant(), await merchant()];
  const fresh = address();
  const hash = await evm.pay({ to: fresh, amount: 1_000000n });
  assert.equal((await ann.ask(hash, { recipient: fresh })).body.success, true);
  assert.equal((await bob.ask(hash, { recipient: fresh })).body.error_code, "RECIPIENT_NOT_REGISTERED");
});

test("a tier that lacks the chain refuses it and says where another is to be had", async () => {
  const { test: key } = await worker.tenant({ tier: "free" });
  const answer = await worker.verify(key, { tx_hash: `0x${"12".repeat(32)}`, chain: "sepolia" });
  assert.deepEqual([answer.status, answer.body.error_code], [403, "CHAIN_NOT_ENABLED"]);
  assert.match(answer.body.upgrade_url, /tiers/);
});

test("pages of records go from the newest to the oldest, without a gap", async () => {
  const { to, ask, test: key } = await merchant();
  const ids = [];
  for (let at = 0; at < 5; at++) {
    const hash = await evm.pay({ to, amount: BigInt(at + 1) });
    ids.unshift((await ask(hash)).body.id);
  }
  const seen = [];
  let cursor = "";
  do {
    const { body } = await worker.call("GET", `/v1/verifications?limit=2${cursor && `&cursor=${cursor}`}`, { key });
    seen.push(...body.data.map(({ id }) => id));
    cursor = body.next_cursor;
  } while (cursor);
  assert.deepEqual(seen, ids);
});

test("the first of the month closes the period in the directory", async () => {
  const { id } = await merchant();
  await worker.sql("INSERT INTO period_usage VALUES (?, 'test', '2020-01', 7, 9, 1, NULL)", id);
  await worker.cron("0 0 1 * *");
  const [row] = await worker.sql("SELECT * FROM period_usage WHERE tenant_id = ? AND period = '2020-01'", id);
  assert.ok(row.closed_ms > 0);
  assert.equal(row.verifications, 7);
});

test("the registry check reads the chain and records what it found", async () => {
  const { body } = await worker.call("POST", "/v1/admin/chains/check", { admin: true, body: { chains: ["local-evm"] } });
  assert.deepEqual([body.chains[0].outcome, body.chains[0].differences], ["passed", []]);
  const [row] = await worker.sql("SELECT * FROM chain_checks WHERE chain = 'local-evm'");
  assert.equal(row.outcome, "passed");
});
