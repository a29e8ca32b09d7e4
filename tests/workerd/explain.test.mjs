// What an answer to settle adds to the protocol's members: in headers, and in the body where asked.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { signedPayment } from "./payment.mjs";
import { startSettling } from "./settling.mjs";

let evm, worker, stop;

before(async () => {
  ({ evm, worker, stop } = await startSettling());
});
after(() => stop?.());

const ours = ({ headers }) => ["x402-settlement-id", "x402-externally-settled", "x402-checks"].map((name) => headers.get(name));
const checksOf = ({ headers }) => JSON.parse(Buffer.from(headers.get("x402-checks"), "base64").toString());

async function payment() {
  const paid = await signedPayment(worker, evm);
  const settle = (headers, body = paid.body) => worker.call("POST", "/facilitator/settle", { key: paid.test, body, headers });
  return { ...paid, settle };
}

test("a success has the protocol's members alone, and ours in headers", async () => {
  const { settle, test: key, buyer } = await payment();
  const settled = await settle();
  // What the strictest client (PyPI aneepay-x402 0.1.0) takes, and no member more.
  const { transaction } = settled.body;
  assert.deepEqual(settled.body, { success: true, payer: buyer.address, transaction, network: "eip155:31337", amount: "10000" });
  const [id, external] = ours(settled);
  assert.equal(external, null);
  const checks = checksOf(settled);
  assert.ok(checks.length > 8 && checks.every(({ name, passed, detail }) => name && passed && detail), JSON.stringify(checks));
  assert.equal(settled.headers.get("preference-applied"), null);
  assert.match(settled.headers.get("access-control-expose-headers"), /X402-Settlement-Id/);
  assert.equal((await worker.call("GET", `/v1/settlements/${id}`, { key })).body.transaction, transaction);
});

test("Prefer: explain puts them into the body too, and says so", async () => {
  const { settle } = await payment();
  const settled = await settle({ prefer: "respond-async, explain" });
  assert.equal(settled.headers.get("preference-applied"), "explain");
  const { extra } = settled.body;
  assert.deepEqual(
    [settled.body.success, extra.settlementId, extra.checks],
    [true, settled.headers.get("x402-settlement-id"), checksOf(settled)],
  );
});

test("a tenant's setting does it for every request", async () => {
  const { settle, id } = await payment();
  const set = (explain) => worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { explain } });
  assert.equal((await worker.call("GET", `/v1/admin/tenants/${id}`, { admin: true })).body.tenant.explain, false);
  assert.equal((await set(true)).body.tenant.explain, true);
  const settled = await settle();
  assert.equal(settled.body.extra.settlementId, settled.headers.get("x402-settlement-id"));
  assert.equal(settled.headers.get("preference-applied"), null);
  assert.equal((await set("yes")).body.param, "explain");
  assert.equal((await set(false)).body.tenant.explain, false);
});

test("verify and refusals always hold them in the body", async () => {
  const { settle, verify } = await payment();
  assert.ok((await verify()).body.extra.checks.length > 8);
  const settled = await settle();
  const again = await settle();
  assert.deepEqual(
    [again.body.errorReason, again.body.extra.settlementId],
    ["duplicate_settlement", settled.headers.get("x402-settlement-id")],
  );
  assert.deepEqual([typeof again.body.errorMessage, ours(again)], ["string", [null, null, null]]);
});

test("a repeat under an Idempotency-Key repeats the headers, byte for byte", async () => {
  for (const prefer of [{}, { prefer: "explain" }]) {
    const { settle } = await payment();
    const headers = { "idempotency-key": crypto.randomUUID(), ...prefer };
    const first = await settle(headers);
    const again = await settle(headers);
    assert.deepEqual([first.body.success, again.text, again.headers.get("idempotent-replayed")], [true, first.text, "true"]);
    assert.deepEqual(ours(again), ours(first));
    assert.ok(ours(first)[0]);
    assert.equal(again.headers.get("preference-applied"), first.headers.get("preference-applied"));
  }
});
