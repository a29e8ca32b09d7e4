// Every route of the real Worker: who may call it, what it answers.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { randomAccount } from "../../scripts/lib/evm.mjs";
import { Browser, address, mailTo, network, signedUp } from "./browser.mjs";
import { startWorker } from "./worker.mjs";

/** The account m/44'/60'/0' of "test test … junk". */
const XPUB = "xpub6Ce9NcJvTk36xtLSrJLZqE7wtgA5deCeYs7rSQtreh4cj6ByPtrg9sD7V2FNFLPnf8heNP3FGkeV9qwfzvZNSd54JoNXVsXFYSYwHsnJxqP";
let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox", METRICS_TOKEN: "m".repeat(32) } })));
after(() => worker.stop());

const HASH = `0x${"ab".repeat(32)}`;
const MERCHANT = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

const routes = async () => {
  const { body } = await worker.call("GET", "/v1/openapi.json");
  return Object.entries(body.paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([method]) => ["get", "post", "put", "patch", "delete"].includes(method))
      .map(([method, operation]) => ({
        method: method.toUpperCase(),
        template: path,
        path: path.replaceAll(/\{[a-z_]+\}/g, "x"),
        access: operation.security?.length ? Object.keys(operation.security[0])[0] : "public",
        scope: operation.security?.[0]?.apiKey?.[0],
        role: operation.security?.find(({ session }) => session)?.session[0],
        anybody: operation.security?.some((way) => Object.keys(way).length === 0) ?? false,
        takesBody: operation.requestBody !== undefined,
      })),
  );
};

test("every route refuses those who may not call it", async () => {
  const all = await routes();
  assert.ok(all.length >= 20, `${all.length} routes`);
  for (const { method, path, access, anybody, takesBody } of all) {
    if (access === "public") continue;
    const options = takesBody ? { body: {} } : {};
    const own = { adminKey: "INVALID_ADMIN_KEY", metricsToken: "INVALID_METRICS_TOKEN", session: "INVALID_SESSION" };
    const wanted = own[access] ?? "INVALID_API_KEY";
    const forged = [{ key: "x402_live_forged" }, { key: "x402_test_1111", admin: "wrong" }];
    for (const more of anybody ? forged : [{}, ...forged]) {
      // Wrong operators' keys of one network are bounded.
      const answer = await worker.call(method, path, { ...options, ...more, headers: network() });
      assert.equal(answer.status, 401, `${method} ${path}`);
      assert.equal(answer.body.error_code, wanted, `${method} ${path}`);
      if (["INVALID_API_KEY", "INVALID_METRICS_TOKEN"].includes(wanted)) assert.equal(answer.headers.get("www-authenticate"), "Bearer");
    }
  }
});

/** A body with which the ledger is asked; a route that is not here has none. */
const BODIES = {
  "/v1/verify": { tx_hash: HASH, chain: "base-sepolia" },
  "/facilitator/verify": {},
  "/facilitator/settle": {},
  "/facilitator/accepts": { accepts: [] },
  "/v1/recipients/challenge": { chain: "base-sepolia", address: MERCHANT },
  "/v1/recipients": { chain: "base-sepolia", address: "derive" },
  "/v1/recipients/x": { default_for: "base-sepolia" },
  "/v1/tenant": {},
  "/v1/api-keys": {},
  "/v1/api-keys/x/rotate": {},
  "/v1/webhook-endpoints": {},
  "/v1/webhook-endpoints/x": {},
  "/v1/webhook-endpoints/x/test": { type: "quota.reset" },
  "/v1/webhook-endpoints/x/redeliver": { since: "2026-11-30T00:00:00Z" },
  "/v1/billing/checkout": { plan: "pro" },
  "/v1/billing/change": { plan: "pro" },
  "/v1/billing/cancel": { at: "now" },
};

/** Every route that takes a key in a header, with the call of it. */
async function keyRoutes() {
  const all = (await routes()).filter(({ access, path }) => access === "apiKey" && !path.startsWith("/facilitator/k/"));
  assert.ok(all.length >= 12, `${all.length} routes`);
  return all.map(({ method, path, scope, takesBody }) => {
    assert.ok(!takesBody || BODIES[path], `a body for ${path}`);
    return {
      name: `${method} ${path}`,
      scope,
      call: (key) => worker.call(method, path, { key, body: takesBody ? BODIES[path] : undefined }),
    };
  });
}

test("a key serves the routes whose scope it has, and no other", async () => {
  const { id } = await worker.tenant();
  const scopes = ["verify", "settle", "analytics", "manage"];
  const keys = {};
  for (const scope of scopes) {
    const body = { name: scope, environment: "test", scopes: [scope] };
    keys[scope] = (await worker.call("POST", `/v1/admin/tenants/${id}/api-keys`, { admin: true, body })).body.key;
  }
  const all = await keyRoutes();
  for (const scope of ["verify", "settle", undefined])
    assert.ok(
      all.some((route) => route.scope === scope),
      `${scope}`,
    );
  for (const route of all) {
    for (const held of scopes) {
      const { status, body } = await route.call(keys[held]);
      const refused = route.scope !== undefined && route.scope !== held;
      assert.equal(body?.error_code === "INSUFFICIENT_SCOPE", refused, `${route.name} with ${held}: ${JSON.stringify(body)}`);
      if (refused) assert.equal(status, 403, route.name);
    }
  }
});

/** A browser in which a person has joined the tenant of an owner. */
async function joined(owner, role) {
  const email = address();
  const invited = await owner.browser.call("POST", "/v1/members/invitations", { email, role });
  assert.equal(invited.status, 201);
  const browser = new Browser(worker);
  assert.equal((await browser.call("POST", "/v1/members/join", { token: (await mailTo(worker, email)).token })).status, 201);
  return browser;
}

test("a session serves the routes whose role its person has, and no other", async () => {
  const roles = ["viewer", "developer", "owner"];
  const owner = await signedUp(worker);
  // Signing out comes last.
  const ends = ({ method, path }) => method === "DELETE" && ["/v1/session", "/v1/sessions"].includes(path);
  const all = (await routes()).filter(({ role }) => role).sort((one, other) => Number(ends(one)) - Number(ends(other)));
  for (const role of roles)
    assert.ok(
      all.some((route) => route.role === role),
      role,
    );
  for (const role of roles) {
    const browser = role === "owner" ? owner.browser : await joined(owner, role);
    for (const route of all) {
      const { status, body } = await browser.call(route.method, route.path, route.takesBody ? {} : undefined);
      const refused = roles.indexOf(role) < roles.indexOf(route.role);
      assert.equal(body.error_code === "INSUFFICIENT_ROLE", refused, `${route.method} ${route.path} as ${role}: ${JSON.stringify(body)}`);
      if (refused) assert.equal(status, 403);
    }
  }
});

/** Settlements and verifications take a payment: `delivery` and `evm` ask for those of another tenant. */
const PAID = ["/v1/settlements/{id}", "/v1/settlements/{id}/hand-over", "/v1/verifications/{id}"];

test("the ids of another tenant name nothing, on every route that takes one", async () => {
  const [ours, theirs] = [await signedUp(worker), await signedUp(worker)];
  const call = (...given) => theirs.browser.call(...given);
  const invited = (await call("POST", "/v1/members/invitations", { email: address(), role: "viewer" })).body;
  const { api_key: key } = (await call("POST", "/v1/api-keys", { name: "theirs", environment: "test", scopes: ["verify"] })).body;
  const tenant = theirs.session.tenant.id;
  const recipient = { chain: "base-sepolia", address: randomAccount().address };
  const added = await worker.call("POST", `/v1/admin/tenants/${tenant}/recipients`, { admin: true, body: recipient });
  assert.equal(added.status, 201, JSON.stringify(added.body));
  const [event] = (await call("GET", "/v1/events")).body.data;
  await worker.sql(
    "INSERT INTO identities (provider, subject, person_id, created_ms) VALUES ('github', '583231', ?, 1)",
    theirs.session.person.id,
  );
  const endpoint = "whe_01KB0000000000000000000000";
  await worker.sql(
    `INSERT INTO webhook_endpoints (id, tenant_id, environment, url, events, status, secret_sealed, created_ms, updated_ms)
     VALUES (?, ?, 'live', 'https://shop.example/', '[]', 'active', 'v1.x.x', 1, 1)`,
    endpoint,
    tenant,
  );
  const ids = {
    "/v1/webhook-endpoints/{id}": [endpoint],
    "/v1/webhook-endpoints/{id}/rotate-secret": [endpoint],
    "/v1/webhook-endpoints/{id}/test": [endpoint],
    "/v1/webhook-endpoints/{id}/redeliver": [endpoint],
    "/v1/webhook-endpoints/{id}/deliveries": [endpoint],
    "/v1/webhook-endpoints/{id}/deliveries/{event_id}": [endpoint, event.id],
    "/v1/webhook-endpoints/{id}/deliveries/{event_id}/redeliver": [endpoint, event.id],
    "/v1/api-keys/{key_id}": [key.id],
    "/v1/api-keys/{key_id}/rotate": [key.id],
    "/v1/sessions/{id}": [theirs.session.id],
    "/v1/session/identities/{id}": ["github-583231"],
    "/v1/members/invitations/{id}": [invited.invitation.id],
    "/v1/members/{person_id}": [theirs.session.person.id],
    "/v1/recipients/{address}": [recipient.address],
    "/v1/events/{id}": [event.id],
    "/v1/admin/tenants/{id}/api-keys/{key_id}": [ours.session.tenant.id, key.id],
    "/v1/admin/tenants/{id}/recipients/{address}": [ours.session.tenant.id, recipient.address],
  };
  const bodies = {
    "PATCH /v1/members/{person_id}": { role: "viewer" },
    "PATCH /v1/recipients/{address}": { default_for: "base-sepolia" },
    "POST /v1/webhook-endpoints/{id}/test": { type: "quota.reset" },
    "POST /v1/webhook-endpoints/{id}/redeliver": { since: "2026-11-30T00:00:00Z" },
  };
  const made = await ours.browser.call("POST", "/v1/api-keys", { name: "m", environment: "live", scopes: ["manage", "analytics"] });
  const state = async () => ({
    keys: (await call("GET", "/v1/api-keys")).body.data.map(({ id, revoked_at, rotated_from }) => [id, revoked_at, rotated_from]),
    members: (await call("GET", "/v1/members")).body,
    recipients: (await call("GET", "/v1/recipients")).body,
    endpoints: await worker.sql("SELECT * FROM webhook_endpoints WHERE tenant_id = ?", tenant),
    identities: (await call("GET", "/v1/session/identities")).body.data.map(({ id, ended_at }) => [id, ended_at]),
  });
  const before = await state();
  assert.deepEqual(before.identities, [["github-583231", null]]);
  // An operator names any tenant by its id: what else stands in such a path must belong to it.
  const all = (await routes()).filter(({ template, access }) => template.match(access === "adminKey" ? /\{id\}\/.*\{/ : /\{/));
  for (const { method, path, template, access, role, takesBody } of all) {
    // A route without a credential takes no id as anybody's.
    if (access === "public" || template.startsWith("/facilitator/k/") || PAID.includes(template)) continue;
    assert.ok(ids[template], `an id for ${template}`);
    let at = 0;
    const there = template.replaceAll(/\{[a-z_]+\}/g, () => ids[template][at++]);
    const body = takesBody ? (bodies[`${method} ${template}`] ?? {}) : undefined;
    const answers = [];
    if (access === "adminKey") answers.push(await worker.call(method, there, { admin: true, body }));
    if (role) answers.push(await ours.browser.call(method, there, body));
    if (access === "apiKey") answers.push(await worker.call(method, there, { key: made.body.key, body }));
    assert.ok(answers.length > 0, path);
    for (const { status, body: got } of answers) assert.equal(status, 404, `${method} ${template}: ${JSON.stringify(got)}`);
  }
  assert.deepEqual(await state(), before);
  assert.equal((await call("GET", "/v1/session")).status, 200);
});

test("of a suspended tenant a session reads, and a key with the scope `manage` does nothing", async () => {
  const owner = await signedUp(worker);
  const made = await owner.browser.call("POST", "/v1/api-keys", { name: "m", environment: "test", scopes: ["manage"] });
  assert.equal(made.status, 201);
  await worker.call("PATCH", `/v1/admin/tenants/${owner.session.tenant.id}`, { admin: true, body: { status: "suspended" } });
  const managed = (await routes()).filter(({ role, scope }) => role && scope === "manage");
  assert.ok(managed.length >= 5, `${managed.length} routes`);
  for (const { method, path, takesBody } of managed) {
    const body = takesBody ? {} : undefined;
    const byKey = await worker.call(method, path, { key: made.body.key, body });
    assert.deepEqual([byKey.status, byKey.body.error_code], [403, "TENANT_SUSPENDED"], `${method} ${path}`);
    const bySession = await owner.browser.call(method, path, body);
    // Who is charged can end that, and see the invoices.
    const ends = ["/v1/billing/cancel", "/v1/billing/portal"].includes(path);
    assert.equal(bySession.body.error_code === "TENANT_SUSPENDED", method !== "GET" && !ends, `${method} ${path}`);
  }
});

test("every route names the methods it has", async () => {
  const all = await routes();
  for (const { path } of all) {
    const method = all.some((route) => route.path === path && route.method === "PUT") ? "PATCH" : "PUT";
    const answer = await worker.call(method, path);
    // Under a key in the path every answer is 200.
    assert.equal(answer.status, path.startsWith("/facilitator/k/") ? 200 : 405, path);
    assert.equal(answer.body.error_code, "METHOD_NOT_ALLOWED");
    assert.match(answer.headers.get("allow"), /OPTIONS/);
  }
  assert.equal((await worker.call("GET", "/v1/nowhere")).body.error_code, "NOT_FOUND");
});

test("a route of another service does not exist without its settings", async () => {
  const all = await routes();
  for (const { method, path, body: sent } of [
    { method: "POST", path: "/v1/webhooks/resend", body: { type: "email.bounced" } },
    { method: "GET", path: "/v1/session/github" },
    { method: "GET", path: "/v1/session/oidc?email=ann@corp.example" },
    { method: "GET", path: `/v1/session/oidc/x/callback?code=a&state=${"00".repeat(32)}` },
    { method: "GET", path: `/v1/session/github/callback?code=a&state=${"00".repeat(32)}` },
  ]) {
    assert.ok(
      all.some((route) => route.method === method && route.path === path.split("?")[0]),
      `${path} is documented`,
    );
    for (const credential of [{}, { key: "x402_live_forged" }, { admin: true }]) {
      const { status, body } = await worker.call(method, path, { body: sent, ...credential });
      assert.deepEqual([status, body.error_code], [404, "NOT_FOUND"], path);
    }
  }
});

test("size, media type, key and body are looked at in that order", async () => {
  const { test: key } = await worker.tenant();
  const large = "x".repeat(20_000);
  const post = (options) => worker.call("POST", "/v1/verify", options);
  assert.equal((await post({ raw: large })).body.error_code, "PAYLOAD_TOO_LARGE");
  assert.equal((await post({ raw: "{}", headers: { "content-type": "text/plain" } })).body.error_code, "UNSUPPORTED_MEDIA_TYPE");
  assert.equal((await post({ raw: "{", headers: { "content-type": "application/json" } })).body.error_code, "INVALID_API_KEY");
  assert.equal((await post({ key, raw: "{", headers: { "content-type": "application/json" } })).body.error_code, "INVALID_JSON");
  assert.equal(
    (await post({ key, raw: "[]", headers: { "content-type": "application/json; charset=utf-8" } })).body.error_code,
    "INVALID_JSON",
  );
  assert.equal((await post({ key, body: { tx_hash: HASH, chain: "dogecoin" } })).body.error_code, "INVALID_CHAIN");
  assert.equal((await post({ key, body: { tx_hash: "0x1", chain: "base-sepolia" } })).body.error_code, "INVALID_TX_HASH");
  assert.equal((await post({ key, body: { tx_hash: HASH, chain: "base" } })).body.error_code, "ENVIRONMENT_MISMATCH");
});

/** A body as bytes, with its length given or in chunks. */
const inTwoWays = (bytes) => [
  Buffer.from(bytes),
  new ReadableStream({
    start(controller) {
      controller.enqueue(new Uint8Array(Buffer.from(bytes)));
      controller.close();
    },
  }),
];

async function sent(key, body, headers = {}) {
  /** @type {RequestInit & { duplex: "half" }} */
  const request = {
    method: "POST",
    duplex: "half",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
    body,
  };
  const response = await fetch(`${worker.url}/v1/verify`, request);
  return { status: response.status, headers: response.headers, body: await response.json() };
}

test("a body is read alike with and without its length", async () => {
  const { test: key } = await worker.tenant();
  const text = (reference) =>
    Buffer.concat([Buffer.from(`{"tx_hash":"${HASH}","chain":"base-sepolia","reference":"order `), reference, Buffer.from('"}')]);
  const answer = async (bytes, headers) => {
    const answers = [];
    for (const body of inTwoWays(bytes)) answers.push(await sent(key, body, headers));
    const [one, other] = answers;
    assert.deepEqual([one.status, one.body.error_code, one.body.detail], [other.status, other.body.error_code, other.body.detail]);
    return one;
  };
  const good = await answer(text(Buffer.from("\u00e9")));
  assert.deepEqual([good.status, good.body.error_code], [422, "RECIPIENT_NOT_REGISTERED"], "it was read");
  for (const wrong of [[0xe9], [0xff], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf0, 0x9f]]) {
    const { status, body } = await answer(text(Buffer.from(wrong)));
    assert.deepEqual([status, body.error_code], [400, "INVALID_JSON"], String(wrong));
    assert.match(body.detail, /UTF-8/);
  }
  const marked = await answer(Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), text(Buffer.from("7"))]));
  assert.deepEqual([marked.status, marked.body.error_code], [400, "INVALID_JSON"]);
  assert.match(marked.body.detail, /byte order mark/);
  const large = await answer(Buffer.alloc(20_000, " "));
  assert.deepEqual([large.status, large.body.error_code], [413, "PAYLOAD_TOO_LARGE"]);
});

test("a body in a content coding is refused", async () => {
  const { test: key } = await worker.tenant();
  const text = JSON.stringify({ tx_hash: HASH, chain: "base-sepolia" });
  /** @type {[string, string | Buffer][]} */
  const codings = [
    ["gzip", gzipSync(text)],
    ["br", brotliCompressSync(text)],
    ["deflate", deflateSync(text)],
    ["gzip", text],
  ];
  for (const [coding, bytes] of codings) {
    for (const body of inTwoWays(bytes)) {
      const { status, headers, body: problem } = await sent(key, body, { "content-encoding": coding });
      assert.deepEqual([status, problem.error_code, problem.param], [415, "UNSUPPORTED_MEDIA_TYPE", "Content-Encoding"], coding);
      assert.equal(headers.get("accept-encoding"), "identity");
    }
  }
  assert.equal((await sent(key, text, { "content-encoding": "identity" })).body.error_code, "RECIPIENT_NOT_REGISTERED");
});

test("0X begins a hash and an address as 0x does", async () => {
  const { test: key } = await worker.tenant();
  const body = {
    tx_hash: HASH.replace("0x", "0X"),
    chain: "base-sepolia",
    payer: MERCHANT.toUpperCase(),
    recipient: MERCHANT.replace("0x", "0X"),
  };
  assert.equal((await worker.verify(key, body)).body.error_code, "CHAIN_UNAVAILABLE", "it reached the chain");
});

test("an error is a whole problem and every answer has its headers", async () => {
  const answer = await worker.call("POST", "/v1/verify", { body: {} });
  assert.equal(answer.headers.get("content-type"), "application/problem+json");
  for (const member of [
    "type",
    "title",
    "status",
    "detail",
    "instance",
    "success",
    "error",
    "error_code",
    "retry",
    "retry_after_s",
    "param",
    "request_id",
    "docs_url",
  ]) {
    assert.ok(member in answer.body, member);
  }
  assert.equal(answer.body.error, answer.body.detail);
  assert.equal(answer.body.instance, "/v1/verify");
  assert.equal(answer.headers.get("x-request-id"), answer.body.request_id);
  for (const name of ["strict-transport-security", "content-security-policy", "x-content-type-options", "access-control-allow-origin"]) {
    assert.ok(answer.headers.get(name), name);
  }
  const preflight = await worker.call("OPTIONS", "/v1/verify");
  assert.equal(preflight.status, 204);
  assert.match(preflight.headers.get("access-control-allow-headers"), /Idempotency-Key/);
  const docs = await worker.call("GET", new URL(answer.body.docs_url).pathname);
  assert.match(docs.text, /id="INVALID_API_KEY"/);
});

test("the older paths answer the same", async () => {
  const { test: key } = await worker.tenant();
  for (const path of ["usage", "supported-chains"]) {
    const [now, then] = await Promise.all([
      worker.call("GET", `/v1/${path}`, { key }),
      worker.call("GET", `/api/v1/x402/${path}`, { key }),
    ]);
    assert.equal(now.status, 200);
    assert.deepEqual(now.body, then.body);
  }
  assert.equal((await worker.call("GET", "/api/v1/x402/health")).status, 200);
  assert.equal((await worker.call("POST", "/api/v1/x402/verify", { key, body: {} })).body.error_code, "INVALID_REQUEST");
  const made = await worker.call("POST", "/api/v1/x402/admin/create-tenant", { admin: true, body: { email: "old@example.test" } });
  assert.equal(made.status, 201);
  assert.match(made.body.api_keys.live, /^x402_live_/);
});

test("a tenant is made, read, changed and listed", async () => {
  const made = await worker.call("POST", "/v1/admin/tenants", {
    admin: true,
    body: {
      email: "Ann@Example.test",
      company_name: "Ann",
      tier: "starter",
      region: "weur",
      recipients: { base: MERCHANT.toLowerCase() },
      limits: { per_minute: 7 },
    },
  });
  assert.equal(made.status, 201);
  const { tenant } = made.body;
  assert.deepEqual(Object.keys(made.body.api_keys).sort(), ["live", "test"]);
  assert.equal(tenant.email, "ann@example.test");
  assert.equal(tenant.recipients.base, MERCHANT);
  assert.deepEqual(tenant.limits, { per_minute: 7, per_hour: 5000, per_month: 50000 });
  const path = `/v1/admin/tenants/${tenant.id}`;
  assert.deepEqual((await worker.call("GET", path, { admin: true })).body.tenant, tenant);
  const changed = await worker.call("PATCH", path, {
    admin: true,
    body: { tier: "pro", company_name: null, limits: { per_minute: null }, recipients: { base: null } },
  });
  assert.equal(changed.status, 200);
  assert.equal(changed.body.tenant.tier, "pro");
  assert.equal(changed.body.tenant.company_name, null);
  assert.equal(changed.body.tenant.limits.per_minute, 500);
  assert.deepEqual(changed.body.tenant.recipients, {});
  assert.equal((await worker.call("PATCH", path, { admin: true, body: { region: "apac" } })).status, 422);
  assert.equal(
    (await worker.call("POST", "/v1/admin/tenants", { admin: true, body: { email: "ann@example.test" } })).body.error_code,
    "EMAIL_TAKEN",
  );
  assert.equal((await worker.call("GET", "/v1/admin/tenants/ten_000000000000000000000000", { admin: true })).status, 404);
  const first = await worker.call("GET", "/v1/admin/tenants?limit=1", { admin: true });
  assert.equal(first.body.data.length, 1);
  const second = await worker.call("GET", `/v1/admin/tenants?limit=1&cursor=${first.body.next_cursor}`, { admin: true });
  assert.notEqual(second.body.data[0].id, first.body.data[0].id);
});

test("an address belongs to one tenant in an environment, for good", async () => {
  const own = `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex")}`;
  const [ann, bob] = [await worker.tenant({ recipients: { base: own } }), await worker.tenant()];
  const recipients = (id) => `/v1/admin/tenants/${id}/recipients`;
  const take = (id, chain) => worker.call("POST", recipients(id), { admin: true, body: { chain, address: own } });
  assert.equal((await take(bob.id, "polygon")).body.error_code, "RECIPIENT_TAKEN");
  assert.equal((await take(bob.id, "base-sepolia")).status, 201);
  assert.equal((await worker.call("DELETE", `${recipients(ann.id)}/${own}`, { admin: true })).status, 200);
  assert.equal((await take(bob.id, "base")).body.error_code, "RECIPIENT_TAKEN");
  assert.equal((await take(ann.id, "base")).status, 201);
  const listed = await worker.call("GET", recipients(ann.id), { admin: true });
  assert.deepEqual(listed.body.data[0].default_for, ["base"]);
  const clash = await worker.call("POST", "/v1/admin/tenants", {
    admin: true,
    body: { email: "clash@example.test", recipients: { base: own } },
  });
  assert.equal(clash.body.error_code, "RECIPIENT_TAKEN");
  assert.deepEqual(await worker.sql("SELECT * FROM tenants WHERE email = 'clash@example.test'"), []);
});

test("an address can be derived from the operator's extended public key", async () => {
  const none = await worker.call("POST", "/v1/admin/tenants", {
    admin: true,
    body: { email: "none@example.test", recipients: { base: "derive" } },
  });
  assert.deepEqual([none.status, none.body.param], [422, "recipients.base"]);
  const { id } = await worker.tenant();
  const alone = await worker.call("POST", `/v1/admin/tenants/${id}/recipients`, {
    admin: true,
    body: { chain: "base", address: "derive" },
  });
  assert.deepEqual([alone.status, alone.body.param], [422, "address"]);
  const own = await startWorker({ vars: { EVM_XPUB: XPUB } });
  try {
    // Children 1, 2 and 3 of the account that every development chain knows.
    const [first, second, third] = [
      "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
      "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
      "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    ];
    const tenant = await own.tenant({ recipients: { base: "derive", polygon: "derive", "base-sepolia": "derive" } });
    const read = await own.call("GET", `/v1/admin/tenants/${tenant.id}`, { admin: true });
    const { base, polygon } = read.body.tenant.recipients;
    assert.equal(base, polygon);
    assert.deepEqual([base, read.body.tenant.recipients["base-sepolia"]].sort(), [first, second].sort());
    const more = await own.call("POST", `/v1/admin/tenants/${tenant.id}/recipients`, {
      admin: true,
      body: { chain: "base", address: "derive" },
    });
    assert.deepEqual([more.status, more.body.recipient?.address], [201, third]);
    await own.call("DELETE", `/v1/admin/tenants/${tenant.id}/recipients/${third}`, { admin: true });
    const next = await own.call("POST", `/v1/admin/tenants/${tenant.id}/recipients`, {
      admin: true,
      body: { chain: "base", address: "derive" },
    });
    assert.equal(next.body.recipient.address, "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65");
  } finally {
    await own.stop();
  }
});

test("keys have scopes and an end, and a revoked one is refused at once", async () => {
  const { id } = await worker.tenant();
  const keys = `/v1/admin/tenants/${id}/api-keys`;
  const make = (body) => worker.call("POST", keys, { admin: true, body: { name: "one", environment: "test", ...body } });
  const made = await make({ scopes: ["analytics"] });
  assert.equal(made.status, 201);
  const { key, api_key: view } = made.body;
  assert.equal((await worker.call("GET", "/v1/usage", { key })).status, 200);
  const scope = await worker.verify(key, { tx_hash: HASH, chain: "local-evm" });
  assert.equal(scope.body.error_code, "INSUFFICIENT_SCOPE");
  const listed = await worker.call("GET", keys, { admin: true });
  assert.equal(listed.body.data.length, 3);
  assert.ok(!listed.text.includes(key), "a key is shown once");
  assert.equal((await worker.call("DELETE", `${keys}/${view.id}`, { admin: true })).status, 200);
  const after = await worker.call("GET", "/v1/usage", { key });
  assert.equal(after.body.error_code, "INVALID_API_KEY");
  const soon = new Date(Date.now() + 1500).toISOString();
  const brief = (await make({ expires_at: soon })).body.key;
  assert.equal((await worker.call("GET", "/v1/whoami", { key: brief })).status, 200);
  const { until } = await import("./worker.mjs");
  await until(async () => (await worker.call("GET", "/v1/whoami", { key: brief })).status === 401, "the key's end");
});

test("a key in force is listed and revoked, however many are revoked", async () => {
  const { id, test: key } = await worker.tenant();
  const keys = `/v1/admin/tenants/${id}/api-keys`;
  const first = (await worker.call("GET", "/v1/whoami", { key })).body.api_key.id;
  // A thousand younger ones, all revoked.
  await worker.sql(
    `WITH RECURSIVE n (i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 1999)
     INSERT INTO api_keys (id, tenant_id, environment, name, hash, scopes, created_ms, revoked_ms)
     SELECT 'key_7ZZZZZZZZZZZZZZZZZZZZZ' || i, ?1, 'test', 'old', ?1 || i, '["verify"]', 1, 2 FROM n`,
    id,
  );
  const ids = (await worker.call("GET", keys, { admin: true })).body.data.map((each) => each.id);
  assert.deepEqual([ids.length, ids.includes(first)], [1002, true]);
  assert.deepEqual(ids, ids.toSorted().reverse());
  const revoked = await worker.call("DELETE", `${keys}/${first}`, { admin: true });
  assert.equal(revoked.status, 200, revoked.text);
  assert.equal((await worker.call("GET", "/v1/whoami", { key })).status, 401);
});

test("an operator may check no chain, and each only once", async () => {
  const check = async (chains) => (await worker.call("POST", "/v1/admin/chains/check", { admin: true, body: { chains } })).body;
  assert.deepEqual(await check([]), { chains: [] });
  assert.deepEqual(
    (await check(["base", "eip155:8453"])).chains.map(({ chain }) => chain),
    ["base"],
  );
  assert.equal((await check(["base", "doge"])).param, "chains[1]");
});

test("a suspended tenant is refused at once, and served again", async () => {
  const { id, test: key } = await worker.tenant();
  const set = (status) => worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { status } });
  assert.equal((await set("suspended")).status, 200);
  for (const { name, call } of await keyRoutes()) assert.equal((await call(key)).body.error_code, "TENANT_SUSPENDED", name);
  await set("active");
  assert.equal((await worker.call("GET", "/v1/usage", { key })).status, 200);
});

test("usage, chains and whoami tell of the key's own tenant", async () => {
  const { id, test: key, live } = await worker.tenant({ tier: "free" });
  const usage = (await worker.call("GET", "/v1/usage", { key: live })).body;
  assert.deepEqual([usage.tier, usage.environment, usage.verifications_limit, usage.verifications_remaining], ["free", "live", 1000, 1000]);
  assert.deepEqual(usage.enabled_chains, ["base", "solana"]);
  assert.deepEqual(usage.rate, { minute: { limit: 10, used: 0 }, hour: { limit: 100, used: 0 } });
  assert.equal((await worker.call("GET", "/v1/usage", { key })).body.verifications_limit, -1);
  const chains = await worker.call("GET", "/v1/supported-chains", { key });
  assert.match(chains.headers.get("cache-control"), /max-age=3600/);
  const row = chains.body.all_chains.find((chain) => chain.chain === "base-sepolia");
  assert.deepEqual(row, {
    chain: "base-sepolia",
    network: "eip155:84532",
    name: "Base Sepolia",
    environment: "test",
    enabled: true,
    reason: null,
    asset: { address: "0x036CbD53842c5426634e7929541eC2318f3dCF7e", symbol: "USDC", decimals: 6 },
    confirmations: 2,
    finality: "tag",
  });
  assert.equal(chains.body.all_chains.length, 28);
  const me = (await worker.call("GET", "/v1/whoami", { key })).body;
  assert.equal(me.tenant.id, id);
  assert.deepEqual(me.api_key.scopes, ["verify", "settle", "analytics"]);
});

test("a chain whose row is not proven is off", async () => {
  const { live } = await worker.tenant();
  const chains = (await worker.call("GET", "/v1/supported-chains", { key: live })).body;
  const reasons = Object.fromEntries(chains.all_chains.map((chain) => [chain.chain, chain.reason]));
  assert.deepEqual([reasons.iotex, reasons.peaq, reasons.base], ["registry_check", "registry_check", null]);
  const answer = await worker.verify(live, { tx_hash: HASH, chain: "peaq" });
  assert.equal(answer.body.error_code, "CHAIN_NOT_ENABLED");
});

test("health answers at once and says what it knows", async () => {
  const began = performance.now();
  const { status, body } = await worker.call("GET", "/v1/health");
  assert.equal(status, 200);
  assert.ok(performance.now() - began < 1000);
  assert.deepEqual(Object.keys(body.checks).sort(), ["chains", "database", "ledger", "sanctions"]);
  assert.equal(body.checks.database.status, "ok");
  assert.equal(body.checks.ledger.status, "ok");
  assert.equal(Object.keys(body.checks.chains).length, 28);
});
