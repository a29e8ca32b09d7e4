// x402 payments by EIP-3009 on a real EVM chain (anvil): verified, settled once, claimed.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { randomAccount } from "../../scripts/lib/evm.mjs";
import { asVersionOne, settlementOf, signedPayment } from "./payment.mjs";
import { SIGNER, sent, startSettling } from "./settling.mjs";

let evm, worker, stop;

before(async () => {
  ({ evm, worker, stop } = await startSettling());
});
after(() => stop?.());

const payment = (wishes) => signedPayment(worker, evm, wishes);
const seconds = () => BigInt(Math.floor(Date.now() / 1000));

test("a good payment is valid, and every check says so", async () => {
  const { verify, buyer } = await payment();
  const { status, body, headers } = await verify();
  assert.deepEqual([status, body.isValid, body.payer], [200, true, buyer.address], JSON.stringify(body));
  assert.ok(body.extra.checks.length > 8 && body.extra.checks.every((check) => check.passed));
  assert.ok(headers.get("ratelimit"));
});

test("what the chain refuses has the reference's reason", async () => {
  const poor = await payment({ holds: 5_000n });
  assert.equal((await poor.verify()).body.invalidReason, "invalid_exact_evm_insufficient_balance");
  const forged = await payment();
  forged.body.paymentPayload.payload.authorization.validBefore = String(seconds() + 700n);
  assert.equal((await forged.verify()).body.invalidReason, "invalid_exact_evm_signature");
  const late = await payment({ change: { validBefore: seconds() + 2n } });
  assert.equal((await late.verify()).body.invalidReason, "invalid_exact_evm_payload_authorization_valid_before");
  const cheap = await payment();
  cheap.body.paymentRequirements = { ...cheap.body.paymentRequirements, amount: "20000" };
  cheap.body.paymentPayload.accepted = cheap.body.paymentRequirements;
  assert.equal((await cheap.verify()).body.invalidReason, "invalid_exact_evm_payload_authorization_value_mismatch");
});

test("a payer who has got code since the last verification is asked by it", async () => {
  const { verify, settle, buyer, to } = await payment();
  assert.equal((await verify()).body.isValid, true);
  // It reverts whatever it is asked.
  await evm.rpc("anvil_setCode", [buyer.address, "0x60006000fd"]);
  assert.equal((await verify()).body.invalidReason, "invalid_exact_evm_signature");
  assert.equal((await settle()).body.errorReason, "invalid_exact_evm_signature");
  assert.equal(await evm.balance(to), 0n);
});

test("a settled payment moves money once, is claimed, and is handed over once", async () => {
  const { settle, verify, to, test: key, buyer } = await payment({ amount: 25_000n });
  const first = await settle();
  assert.deepEqual([first.status, first.body.success, first.body.network], [200, true, "eip155:31337"], JSON.stringify(first.body));
  assert.match(first.body.transaction, /^0x[0-9a-f]{64}$/);
  assert.deepEqual([first.body.payer, first.body.amount], [buyer.address, "25000"]);
  assert.equal(await evm.balance(to), 25_000n);
  const again = (await settle()).body;
  assert.deepEqual([again.success, again.errorReason, again.transaction], [false, "duplicate_settlement", first.body.transaction]);
  assert.equal(again.extra.settlementId, settlementOf(first));
  assert.equal(await evm.balance(to), 25_000n);
  const looked = (await verify()).body;
  assert.deepEqual(
    [looked.isValid, looked.invalidReason, looked.extra.settlementId],
    [false, "duplicate_settlement", again.extra.settlementId],
  );
  const claimed = await worker.verify(key, { tx_hash: first.body.transaction, chain: "local-evm" });
  assert.equal(claimed.body.error_code, "ALREADY_CLAIMED");
  assert.equal(claimed.body.claimed_by.id, settlementOf(first));
  const read = await worker.call("GET", `/v1/settlements/${settlementOf(first)}`, { key });
  assert.deepEqual(
    [read.status, read.body.status, read.body.transaction, read.body.attempts.length],
    [200, "completed", first.body.transaction, 1],
  );
  assert.equal(read.body.handed_over.request_id, first.headers.get("x-request-id"));
  assert.deepEqual((await worker.call("GET", "/v1/usage", { key })).body.verifications_used, 2);
});

test("another tenant and other requirements get nothing of a settled payment", async () => {
  const { settle, body } = await payment();
  assert.equal((await settle()).body.success, true);
  const other = await worker.tenant();
  const stolen = await settle(body, other.test);
  assert.deepEqual([stolen.status, stolen.body.errorReason, stolen.body.transaction], [200, "pay_to_not_allowed", ""]);
  // In version 2 the resource is the buyer's own text: it makes no other payment.
  const elsewhere = structuredClone(body);
  elsewhere.paymentPayload.resource.url = "https://shop.test/b";
  assert.equal((await settle(elsewhere)).body.errorReason, "duplicate_settlement");
});

test("in version 2 the resource is the buyer's own text: another one makes no other payment", async () => {
  const { verify, body } = await payment();
  assert.equal((await verify()).body.isValid, true);
  const renamed = structuredClone(body);
  renamed.paymentPayload.resource.url = "https://shop.test/b";
  assert.equal((await verify(renamed)).body.isValid, true);
});

test("payments at once take nonces without a gap", async () => {
  const buyer = randomAccount();
  await evm.mint(buyer.address, 10_000_000n);
  const all = await Promise.all(Array.from({ length: 12 }, () => payment({ buyer, holds: 0n })));
  const before = await sent(evm);
  const answers = await Promise.all(all.map(({ settle }) => settle()));
  assert.deepEqual(
    answers.map(({ body }) => body.success),
    answers.map(() => true),
    JSON.stringify(answers.find(({ body }) => !body.success)?.body),
  );
  assert.equal(await sent(evm), before + 12);
});

test("version 1 is served under its own names", async () => {
  const { body, settle, verify, to } = await payment();
  const old = asVersionOne(body);
  assert.equal((await verify(old)).body.isValid, true);
  const settled = await settle(old);
  assert.deepEqual([settled.body.success, settled.body.network], [true, "local-evm"], JSON.stringify(settled.body));
  assert.equal(await evm.balance(to), 10_000n);
});

test("refusals carry the protocol's members whatever their status", async () => {
  const { body } = await payment();
  const forged = await worker.call("POST", "/facilitator/verify", { key: "x402_test_abc", body });
  assert.deepEqual([forged.status, forged.body.isValid, forged.body.invalidReason], [401, false, "unauthorized"]);
  const { test: key } = await worker.tenant();
  const broken = await worker.call("POST", "/facilitator/settle", { key, raw: "{", headers: { "content-type": "application/json" } });
  assert.deepEqual([broken.status, broken.body.success, broken.body.transaction], [400, false, ""]);
  const empty = await worker.call("POST", "/v1/facilitator/verify/", { key, body: {} });
  assert.deepEqual([empty.status, empty.body.invalidReason], [200, "invalid_x402_version"]);
  assert.equal((await worker.call("GET", "/facilitator/settle")).body.method, "POST");
});

test("what is settled is answered, to everybody and to a tenant", async () => {
  const all = await worker.call("GET", "/facilitator/supported");
  assert.ok(all.body.kinds.some((kind) => kind.network === "eip155:31337" && kind.x402Version === 2 && kind.scheme === "exact"));
  assert.deepEqual(all.body.signers["eip155:*"], [SIGNER]);
  const { test: key } = await worker.tenant({ tier: "free" });
  const own = await worker.call("GET", "/facilitator/supported", { key });
  assert.ok(own.body.kinds.some((kind) => kind.network === "eip155:31337"));
  // No other chain's provider answers here, so that none is offered.
  assert.deepEqual(new Set(all.body.kinds.map((kind) => kind.network)), new Set(["eip155:31337"]));
});
