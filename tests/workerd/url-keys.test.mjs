// Keys in the path: where they count, what they may do, that every answer is 200, and that nothing holds one.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { settlementOf, signedPayment } from "./payment.mjs";
import { startSettling } from "./settling.mjs";
import { until } from "./worker.mjs";

let evm, worker, stop;

before(async () => {
  ({ evm, worker, stop } = await startSettling());
});
after(() => stop?.());

/** Makes a key for URLs; answers the key and what its list says of it. */
async function urlKey(tenant, more = {}) {
  const body = { name: "shop", environment: "test", kind: "url", ...more };
  const made = await worker.call("POST", `/v1/admin/tenants/${tenant}/api-keys`, { admin: true, body });
  assert.equal(made.status, 201, made.text);
  return { key: made.body.key, view: made.body.api_key };
}

/** A paid-for request by path alone: no header names anybody. */
const at = (key, route, more = {}) => worker.call(more.method ?? "POST", `/facilitator/k/${key}/${route}`, more);

/** Every file below a folder that holds a text. */
function holding(folder, text) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => readFileSync(path).includes(text));
}

test("a key of the kind url verifies and settles in the path, and has a prefix of its own", async () => {
  const { id, body, to } = await signedPayment(worker, evm);
  const { key, view } = await urlKey(id);
  assert.match(key, /^x402_url_test_/);
  assert.deepEqual([view.kind, view.scopes], ["url", ["verify", "settle"]]);
  assert.match((await urlKey(id, { environment: "live" })).key, /^x402_url_live_/);
  const listed = await worker.call("GET", `/v1/admin/tenants/${id}/api-keys`, { admin: true });
  assert.deepEqual(listed.body.data.map(({ kind }) => kind).sort(), ["bearer", "bearer", "url", "url"]);
  const { status, body: verified } = await at(key, "verify", { body });
  assert.deepEqual([status, verified.isValid], [200, true], JSON.stringify(verified));
  const settled = await worker.call("POST", `/v1/facilitator//k/${key}/settle/`, { body });
  assert.deepEqual([settled.status, settled.body.success], [200, true], settled.text);
  assert.equal(await evm.balance(to), 10_000n);
  const { kinds } = (await at(key, "supported", { method: "GET" })).body;
  assert.ok(
    kinds.some(({ network }) => network === "eip155:31337"),
    JSON.stringify(kinds),
  );
  assert.ok(kinds.every(({ network }) => !["eip155:8453", "base"].includes(network)));
});

test("it may do nothing else, and is no key in any other place", async () => {
  const { id, test: bearer, body } = await signedPayment(worker, evm);
  for (const scopes of [["analytics"], ["verify", "manage"]]) {
    const body = { name: "shop", environment: "test", kind: "url", scopes };
    const refused = await worker.call("POST", `/v1/admin/tenants/${id}/api-keys`, { admin: true, body });
    assert.deepEqual([refused.status, refused.body.param], [422, "scopes"]);
  }
  const { key } = await urlKey(id, { scopes: ["verify"] });
  for (const headers of [{ authorization: `Bearer ${key}` }, { "x-api-key": key }, { "x-secret-key": key }]) {
    for (const [method, path, sent] of [
      ["POST", "/facilitator/verify", body],
      ["GET", "/v1/usage"],
      ["GET", "/v1/whoami"],
      ["GET", "/facilitator/supported"],
    ]) {
      const refused = await worker.call(method, path, { body: sent, headers });
      assert.deepEqual([refused.status, refused.body.error_code], [401, "INVALID_API_KEY"], `${path} ${JSON.stringify(headers)}`);
    }
  }
  const asBearer = await at(bearer, "verify", { body });
  assert.deepEqual([asBearer.status, asBearer.body.isValid, asBearer.body.invalidReason], [200, false, "unauthorized"]);
  const unscoped = await at(key, "settle", { body });
  assert.deepEqual(
    [unscoped.status, unscoped.body.success, unscoped.body.errorReason, unscoped.body.error_code],
    [200, false, "unauthorized", "INSUFFICIENT_SCOPE"],
  );
  const [secret, coded] = [key.slice("x402_url_test_".length), key.replace("_", "%5F")];
  const spelled = [`/facilitator/%6B/${coded}/verify`, `/facilitator/k%2F${coded}/verify`, `/facilitator/${coded}/verify`];
  for (const path of [`/v1/k/${key}/usage`, `/k/${key}/verify`, `/facilitator/${key}/verify`, ...spelled]) {
    const refused = await worker.call("GET", path);
    assert.equal(refused.status, 404, path);
    assert.ok(!refused.text.includes(secret) && refused.body.instance.includes("…"), refused.text);
  }
});

test("under a key in the path every answer is 200, with the protocol's refusal", async () => {
  const { id, body } = await signedPayment(worker, evm);
  const { key } = await urlKey(id);
  const forged = `${key.slice(0, -1)}${key.endsWith("2") ? "3" : "2"}`;
  const json = { "content-type": "application/json" };
  for (const [name, used, more] of [
    ["a forged key", forged, { body }],
    ["broken JSON", key, { raw: "{", headers: json }],
    ["another media type", key, { raw: "{}", headers: { "content-type": "text/plain" } }],
    ["too large", key, { raw: `{"x":"${"y".repeat(70_000)}"}`, headers: json }],
    ["another method", key, { method: "DELETE" }],
    ["two keys", key, { body, headers: { "x-api-key": "x402_test_other" } }],
  ]) {
    const answers = await Promise.all(
      ["verify", "settle", "supported", "accepts"].map((route) =>
        at(used, route, { ...more, ...(route === "supported" && more.body ? { method: "GET", body: undefined } : {}) }),
      ),
    );
    const [verify, settle, supported, accepts] = answers;
    for (const { status, headers, text, body } of answers) {
      assert.equal(status, 200, `${name}: ${text}`);
      assert.equal(headers.get("content-type"), "application/json", name);
      assert.equal(headers.get("www-authenticate"), null, name);
      assert.ok(!used || !text.includes(used), `${name} holds the key: ${text}`);
      if (body.instance) assert.match(body.instance, /^\/facilitator\/k\/…/, name);
    }
    assert.deepEqual(
      [verify.body.isValid, typeof verify.body.invalidReason, typeof verify.body.invalidMessage],
      [false, "string", "string"],
      name,
    );
    assert.deepEqual(
      [settle.body.success, settle.body.transaction, settle.body.network, typeof settle.body.errorReason, typeof settle.body.errorMessage],
      [false, "", "", "string", "string"],
      name,
    );
    assert.deepEqual(supported.body.kinds, [], name);
    assert.deepEqual([accepts.body.accepts, typeof accepts.body.error], [[], "string"], name);
  }
  const keyless = await worker.call("POST", "/facilitator/k/verify", { body });
  assert.deepEqual([keyless.status, keyless.body.isValid, keyless.body.success], [200, false, false], keyless.text);
  const nowhere = await at(key, "nowhere", { method: "GET" });
  assert.deepEqual([nowhere.status, nowhere.body.isValid, nowhere.body.success, nowhere.body.error_code], [200, false, false, "NOT_FOUND"]);
  assert.equal((await at(key, "verify", { method: "GET" })).body.endpoint, "/facilitator/k/…/verify");
  assert.deepEqual((await worker.call("OPTIONS", `/facilitator/k/${key}/verify`)).status, 204);
});

test("a rate limit and a revoked key are refusals with status 200, and are remembered", async () => {
  const { id, body } = await signedPayment(worker, evm);
  const { key, view } = await urlKey(id);
  const limits = (per_minute) => worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { limits: { per_minute } } });
  await limits(0);
  for (let times = 0; times < 2; times++) {
    const limited = await at(key, "verify", { body });
    assert.deepEqual(
      [limited.status, limited.body.invalidReason, limited.body.error_code],
      [200, "rate_limited", "RATE_LIMITED"],
      limited.text,
    );
    assert.ok(limited.headers.get("retry-after"));
  }
  await limits(1000);
  await worker.call("DELETE", `/v1/admin/tenants/${id}/api-keys/${view.id}`, { admin: true });
  const revoked = await at(key, "settle", { body });
  assert.equal(revoked.status, 200);
  assert.ok(["unauthorized", "rate_limited"].includes(revoked.body.errorReason), revoked.text);
  const supported = await at(key, "supported", { method: "GET" });
  assert.deepEqual([supported.status, supported.body.kinds, supported.body.error_code], [200, [], "INVALID_API_KEY"]);
});

test("no answer, log line, record or event holds a key that was used in a path", async () => {
  const { id, body, test: bearer } = await signedPayment(worker, evm);
  const { key } = await urlKey(id);
  const secret = key.slice("x402_url_test_".length);
  /** @type {string[]} */
  const texts = [];
  const asked = async (route, more) => {
    const { text, headers } = await at(key, route, more);
    texts.push(text, JSON.stringify([...headers]));
  };
  await asked("verify", { body });
  await asked("settle", { body });
  await asked("settle", { body });
  await asked("supported", { method: "GET" });
  await asked("accepts", { body: {} });
  await asked("nowhere", { method: "GET" });
  await asked("verify", { raw: "{", headers: { "content-type": "application/json" } });
  // Read through the ledger and the directory, after all of it was shipped.
  const settlements = await worker.call("GET", "/v1/settlements", { key: bearer });
  texts.push(settlements.text);
  assert.equal(settlements.body.data.length, 1, settlements.text);
  for (const table of ["tenants", "api_keys", "settlements", "events", "verifications"]) {
    texts.push(JSON.stringify(await worker.sql(`SELECT * FROM ${table}`)));
  }
  await until(async () => (await worker.sql("SELECT id FROM settlements WHERE tenant_id = ?", id)).length === 1, "the shipped settlement");
  assert.ok(
    worker.log.lines.some((line) => line.includes('"request"')),
    "the failed requests are logged",
  );
  texts.push(...worker.log.lines);
  for (const text of texts) assert.ok(!text.includes(secret), text);
  // Not in the ledgers' own storage either, nor in the directory's file.
  assert.deepEqual(holding(worker.state, secret), []);
});

test("without Authorization other headers count, and two different keys are refused", async () => {
  const [one, two] = [await signedPayment(worker, evm), await worker.tenant()];
  const verify = (headers) => worker.call("POST", "/facilitator/verify", { body: one.body, headers });
  for (const headers of [
    { "x-api-key": one.test },
    { "x-secret-key": one.test },
    { "x-api-key": one.test, "x-secret-key": one.test, authorization: `Bearer ${one.test}` },
  ]) {
    const { status, body } = await verify(headers);
    assert.deepEqual([status, body.isValid], [200, true], JSON.stringify(body));
    assert.equal((await worker.call("GET", "/v1/whoami", { headers })).body.tenant.id, one.id);
  }
  for (const headers of [
    { "x-api-key": one.test, "x-secret-key": two.test },
    { authorization: `Bearer ${one.test}`, "x-api-key": two.test },
    { authorization: `Bearer ${one.test}`, "x-secret-key": two.test },
    { authorization: "Basic eDp5", "x-api-key": one.test },
  ]) {
    const { status, body } = await verify(headers);
    assert.deepEqual([status, body.error_code, body.invalidReason], [401, "INVALID_API_KEY", "unauthorized"], JSON.stringify(headers));
  }
  assert.equal((await worker.call("GET", "/facilitator/supported", { headers: { "x-api-key": "x402_test_forged" } })).status, 401);
});

test("a settle's additions come in headers under a key in the path too", async () => {
  const { id, body, test: bearer } = await signedPayment(worker, evm);
  const { key } = await urlKey(id);
  const settled = await at(key, "settle", { body });
  assert.deepEqual([settled.body.success, settled.body.extra], [true, undefined], settled.text);
  assert.equal((await worker.call("GET", `/v1/settlements/${settlementOf(settled)}`, { key: bearer })).body.status, "completed");
});
