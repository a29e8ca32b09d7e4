// In test an address is its first user's: after the rates, so many and no more, and only until somebody is registered
// for it. A registration takes the whole of the directory's copy.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { randomAccount } from "../../scripts/lib/evm.mjs";
import { sign } from "./payment.mjs";
import { startSettling } from "./settling.mjs";

const address = () => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex")}`;
const NOBODYS = `0x${"77".repeat(32)}`;
let evm, worker, stop;

before(async () => {
  ({ evm, worker, stop } = await startSettling());
});
after(() => stop?.());

/** A tenant that asks for payments to any address, by hash and by x402. */
async function tenant(more) {
  const own = await worker.tenant(more);
  const byHash = async (recipient, key = own.test) =>
    (await worker.verify(key, { tx_hash: NOBODYS, chain: "local-evm", recipient })).body.error_code;
  const x402 = async (to, key = own.test) => {
    const buyer = randomAccount();
    await evm.mint(buyer.address, 10_000n);
    const { body } = await worker.call("POST", "/facilitator/verify", { key, body: await sign({ buyer, to }) });
    return body.isValid ? "valid" : (body.error_code ?? body.invalidReason);
  };
  const admin = (method, path, body) => worker.call(method, `/v1/admin/tenants/${own.id}${path}`, { admin: true, body });
  const register = async (to) => (await admin("POST", "/recipients", { chain: "local-evm", address: to })).status;
  return { ...own, byHash, x402, admin, register };
}

const holders = async (to) => {
  const rows = await worker.sql("SELECT tenant_id, address FROM recipients WHERE environment = 'test'");
  return rows.filter((row) => row.address.toLowerCase() === to.toLowerCase()).map((row) => row.tenant_id);
};

test("a first use registers nothing for a caller whose rates are used up, nor for a request that breaks a rule", async () => {
  for (const way of ["byHash", "x402"]) {
    const [first, second] = [address(), address()];
    const own = await tenant({ limits: { per_minute: 1 } });
    assert.equal(await own[way](first), way === "x402" ? "valid" : "TX_NOT_FOUND");
    assert.deepEqual(await holders(first), [own.id]);
    assert.equal(await own[way](second), "RATE_LIMITED");
    assert.deepEqual(await holders(second), []);
  }
  const own = await tenant();
  const to = address();
  const body = await sign({ buyer: randomAccount(), to });
  body.paymentPayload.payload.signature = `0x${"11".repeat(65)}`;
  const { invalidReason } = (await worker.call("POST", "/facilitator/verify", { key: own.test, body })).body;
  assert.equal(invalidReason, "invalid_exact_evm_signature");
  assert.deepEqual(await holders(to), []);
});

test("a tenant registers a hundred addresses by use, at once or one by one, and an operator more", async () => {
  const own = await tenant();
  const codes = [];
  for (let at = 0; at < 11; at++) codes.push(...(await Promise.all(Array.from({ length: 10 }, () => own.byHash(address())))));
  const count = (code) => codes.filter((each) => each === code).length;
  assert.deepEqual([count("TX_NOT_FOUND"), count("RECIPIENT_NOT_REGISTERED")], [100, 10]);
  const [{ n }] = await worker.sql("SELECT COUNT(*) AS n FROM recipients WHERE tenant_id = ? AND first_use = 1", own.id);
  assert.equal(n, 100);
  const to = address();
  assert.deepEqual([await own.byHash(to), await own.x402(to)], ["RECIPIENT_NOT_REGISTERED", "pay_to_not_allowed"]);
  assert.equal(await own.register(to), 201);
  assert.deepEqual([await own.byHash(to), await own.x402(to)], ["TX_NOT_FOUND", "valid"]);
});

test("a revocation that the ledger has not taken yet holds once a first use has reached the directory", async () => {
  for (const way of ["byHash", "x402"]) {
    const own = await tenant();
    const { api_key: view, key } = (
      await own.admin("POST", "/api-keys", { name: "two", environment: "test", scopes: ["verify", "settle"] })
    ).body;
    // As far as the operator's request has come when the ledger's own registration overtakes it.
    await worker.sql("UPDATE api_keys SET revoked_ms = 1 WHERE id = ?", view.id);
    await worker.sql("UPDATE tenants SET version = version + 1 WHERE id = ?", own.id);
    assert.notEqual(await own[way](address(), own.test), "INVALID_API_KEY");
    assert.equal(await own[way](address(), key), "INVALID_API_KEY", way);
    assert.equal((await worker.call("GET", "/v1/usage", { key })).status, 401);
    // The operator's request ends.
    assert.equal((await own.admin("DELETE", `/api-keys/${view.id}`)).status, 200);
    assert.equal((await worker.call("GET", "/v1/usage", { key })).status, 401);
  }
});

test("whoever is registered for an address takes it from who only used it, and from nobody else", async () => {
  const [ann, bob, carol] = [await tenant(), await tenant(), await tenant()];
  const to = address();
  assert.equal(await ann.x402(to), "valid");
  assert.deepEqual([await bob.x402(to), await bob.byHash(to)], ["pay_to_not_allowed", "RECIPIENT_NOT_REGISTERED"]);
  assert.equal(await bob.register(to), 201);
  assert.deepEqual(await holders(to), [bob.id]);
  assert.deepEqual([await ann.x402(to), await ann.byHash(to)], ["pay_to_not_allowed", "RECIPIENT_NOT_REGISTERED"]);
  assert.deepEqual([await bob.x402(to), await bob.byHash(to)], ["valid", "TX_NOT_FOUND"]);
  assert.equal(await bob.register(to), 201);
  assert.deepEqual([await carol.register(to), await ann.register(to)], [409, 409]);
  // What is used first and then registered is held for good.
  const other = address();
  assert.equal(await ann.byHash(other), "TX_NOT_FOUND");
  assert.equal(await ann.register(other), 201);
  assert.equal(await bob.register(other), 409);
  // A tenant made with the address takes it too.
  const third = address();
  assert.equal(await ann.byHash(third), "TX_NOT_FOUND");
  const made = await tenant({ recipients: { "local-evm": third } });
  assert.deepEqual([await ann.byHash(third), await made.byHash(third)], ["RECIPIENT_NOT_REGISTERED", "TX_NOT_FOUND"]);
});

test("an address that was removed does not come back by use", async () => {
  const own = await tenant();
  const to = address();
  assert.equal(await own.byHash(to), "TX_NOT_FOUND");
  assert.equal((await own.admin("DELETE", `/recipients/${to}`)).status, 200);
  assert.deepEqual([await own.byHash(to), await own.x402(to)], ["RECIPIENT_NOT_REGISTERED", "pay_to_not_allowed"]);
  assert.equal(await own.register(to), 201);
  assert.equal(await own.byHash(to), "TX_NOT_FOUND");
});

test("who asks for another's address is counted: the directory was asked", async () => {
  const [ann, bob] = [await tenant(), await tenant({ limits: { per_minute: 3 } })];
  const to = address();
  assert.equal(await ann.byHash(to), "TX_NOT_FOUND");
  const codes = [];
  for (let at = 0; at < 4; at++) codes.push(await bob.byHash(to));
  assert.deepEqual(codes, [...Array(3).fill("RECIPIENT_NOT_REGISTERED"), "RATE_LIMITED"]);
});
