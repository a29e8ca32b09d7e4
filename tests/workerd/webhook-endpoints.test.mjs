// Webhook endpoints of a tenant on the real Worker: who makes and changes them, where they may lead, and their secrets. The DNS
// is played here; nothing is sent to an endpoint.
import assert from "node:assert/strict";
import { createDecipheriv, createHmac } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, beforeEach, test } from "node:test";
import { Response, fetch as passed } from "miniflare";
import { Webhook } from "standardwebhooks";
import { Browser, address, mailTo, signedUp } from "./browser.mjs";
import { PEPPERS, startWorker } from "./worker.mjs";

const DAY = 86_400_000;
const ORIGIN = "https://pay.example";
const PATH = "/v1/webhook-endpoints";
const URL_OF_SHOP = "https://shop.example/hooks?shop=1";
const PUBLIC = { A: ["93.184.215.14"], AAAA: ["2606:2800:21f:cb07:6820:80da:af6b:8b2c"] };
const refusal = ({ status, body }) => [status, body?.error_code];
const refusedUrl = ({ status, body }) => [status, body?.error_code, body?.param];
const FORBIDDEN = [422, "INVALID_REQUEST", "url"];
const NOT_FOUND = [404, "NOT_FOUND"];
const MISMATCH = [403, "ENVIRONMENT_MISMATCH"];

/** The addresses of hosts; any other host has a public one. @type {Map<string, { A?: string[], AAAA?: string[] }>} */
const hosts = new Map();
/** What the resolver answers instead, by the type of a question. @type {Record<string, () => Response>} */
let instead = {};
/** The questions to the DNS. @type {string[]} */
let asked = [];

async function outbound(request) {
  const { hostname, searchParams } = new URL(request.url);
  if (hostname === "127.0.0.1") return passed(request);
  assert.equal(hostname, "cloudflare-dns.com", "no other host is asked");
  assert.equal(request.headers.get("accept"), "application/dns-json");
  const [name, type] = ["name", "type"].map((member) => searchParams.get(member) ?? "");
  asked.push(`${type} ${name}`);
  if (instead[type]) return instead[type]();
  const found = (hosts.get(name) ?? PUBLIC)[type] ?? [];
  // An alias comes before what it leads to.
  const alias = { name, type: 5, data: "edge.example." };
  const number = { A: 1, AAAA: 28 }[type];
  return Response.json({ Status: 0, Answer: [alias, ...found.map((data) => ({ name: "edge.example.", type: number, data }))] });
}

let worker;
/** Every answer to a call of `call`. @type {string[]} */
const answers = [];
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox", PUBLIC_URL: ORIGIN }, outbound })));
after(() => worker.stop());
beforeEach(async () => {
  hosts.clear();
  instead = {};
  asked = [];
  // No event reaches what delivers it: `webhooks` tests that.
  await worker.fault({ names: '"endpoint":"whe_', unsent: true, stays: true });
});

const setTier = async (id, tier) =>
  assert.equal((await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { tier } })).status, 200);

/** An owner of a tenant whose tier has webhooks. */
async function seller(tier = "starter") {
  const owner = await signedUp(worker);
  const id = owner.session.tenant.id;
  if (tier !== "free") await setTier(id, tier);
  const call = async (method, path, body) => {
    const answer = await owner.browser.call(method, path, body);
    answers.push(JSON.stringify(answer.body));
    return answer;
  };
  return { ...owner, id, call, person: owner.session.person.id };
}

const body = (more = {}) => ({ url: URL_OF_SHOP, environment: "live", ...more });
async function created(call, more = {}) {
  const made = await call("POST", PATH, body(more));
  assert.equal(made.status, 201, JSON.stringify(made.body));
  return made.body;
}
const one = (id) => `${PATH}/${id}`;
const listed = async (call) => (await call("GET", PATH)).body.data.map(({ id }) => id);
const rowOf = async (id) => (await worker.sql("SELECT * FROM webhook_endpoints WHERE id = ?", id))[0];

/** A key that manages a tenant in an environment, as calls. */
async function managed({ browser }, environment) {
  const made = await browser.call("POST", "/v1/api-keys", { name: "m", environment, scopes: ["manage"] });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  const call = (method, path, body) => worker.call(method, path, { key: made.body.key, body });
  return Object.assign(call, { id: made.body.api_key.id, key: made.body.key });
}

async function member({ browser: owner }, role) {
  const email = address();
  assert.equal((await owner.call("POST", "/v1/members/invitations", { email, role })).status, 201);
  const browser = new Browser(worker);
  assert.equal((await browser.call("POST", "/v1/members/join", { token: (await mailTo(worker, email)).token })).status, 201);
  return (method, path, body) => browser.call(method, path, body);
}

/** The endpoints in the copies that ledgers hold of a tenant, by environment. */
function copies(tenant) {
  const folder = join(worker.state, "do", "-TenantLedger");
  const read = (name) => {
    const db = new DatabaseSync(join(folder, name), { readOnly: true, timeout: 5_000 });
    try {
      const row = db.prepare("SELECT value FROM state WHERE name = 'tenant'").get();
      return row ? [JSON.parse(String(row.value))] : [];
    } finally {
      db.close();
    }
  };
  const all = readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name));
  const own = all.flatMap(read).filter(({ id }) => id === tenant);
  return Object.fromEntries(own.map(({ environment, endpoints = [] }) => [environment, endpoints]));
}

/** What a sealed text holds, opened as an endpoint's. */
function opened(sealed, id) {
  const key = createHmac("sha256", Buffer.from(PEPPERS, "hex")).update("x402 sealed secrets\0v1").digest();
  const [form, nonce, text] = sealed.split(".");
  assert.equal(form, "v1");
  const bytes = Buffer.from(text, "base64url");
  const cipher = createDecipheriv("aes-256-gcm", key, Buffer.from(nonce, "base64url"));
  cipher.setAAD(Buffer.from(`webhook_endpoints\0${id}`)).setAuthTag(bytes.subarray(-16));
  return Buffer.concat([cipher.update(bytes.subarray(0, -16)), cipher.final()]).toString();
}

/** The entries of the audit log about endpoints, the oldest first. */
async function entries({ id }) {
  const rows = await worker.sql("SELECT * FROM audit_log WHERE tenant_id = ? AND action LIKE 'endpoint.%' ORDER BY id", id);
  return rows.map(({ action, subject, detail, environment, actor_kind }) => [action, subject, detail, environment, actor_kind]);
}

test("an endpoint is made, listed, read, changed, paused, resumed and removed, and each change is recorded", async () => {
  const { call, ...of } = await seller();
  const made = await created(call, { events: ["payment.*", "settlement.failed", "payment.*"], description: "Lager" });
  const { webhook_endpoint: endpoint, secret, in_force: inForce } = made;
  const { id, created_at: at, ...rest } = endpoint;
  assert.match(id, /^whe_[0-9A-HJKMNP-TV-Z]{26}$/);
  assert.equal(inForce, true);
  assert.deepEqual(rest, {
    environment: "live",
    url: URL_OF_SHOP,
    events: ["payment.*", "settlement.failed"],
    description: "Lager",
    status: "active",
    disabled_reason: null,
    previous_secret_until: null,
    secret_lost_since: null,
    updated_at: at,
  });
  assert.deepEqual(asked.sort(), ["A shop.example", "AAAA shop.example"]);
  assert.match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
  assert.deepEqual(copies(of.id), { live: [{ id, events: ["payment.*", "settlement.failed"] }], test: [] });
  assert.deepEqual((await call("GET", one(id))).body, { webhook_endpoint: endpoint });
  assert.deepEqual((await call("GET", PATH)).body, { data: [endpoint], next_cursor: null });

  const patch = async (change) => {
    const changed = await call("PATCH", one(id), change);
    assert.equal(changed.status, 200, JSON.stringify(changed.body));
    return changed.body.webhook_endpoint;
  };
  const moved = await patch({ url: "https://other.example/", events: [], description: null });
  assert.deepEqual([moved.url, moved.events, moved.description], ["https://other.example/", [], null]);
  assert.deepEqual(copies(of.id).live, [{ id, events: [] }]);
  assert.equal((await patch({ status: "paused" })).status, "paused");
  assert.deepEqual(copies(of.id).live, [{ id, events: [] }], "events of a paused endpoint wait");
  // What changes nothing is not recorded.
  assert.equal((await patch({ status: "paused" })).status, "paused");
  assert.equal((await patch({})).status, "paused");
  assert.equal((await patch({ status: "active" })).status, "active");

  // The service disables an endpoint; its owner makes it active again.
  const since = { disabled_at: (await rowOf(id)).updated_ms + 1 };
  const disable = "UPDATE webhook_endpoints SET status = 'disabled', disabled_reason = 'gone', updated_ms = ? WHERE id = ?";
  await worker.sql(disable, since.disabled_at, id);
  assert.equal((await call("GET", one(id))).body.webhook_endpoint.disabled_reason, "gone");
  assert.deepEqual(refusal(await call("PATCH", one(id), { status: "disabled" })), [422, "INVALID_REQUEST"]);
  const still = await patch({ description: "again" });
  assert.equal(still.disabled_reason, "gone");
  assert.deepEqual(copies(of.id).live, [{ id, events: [], ...since }], "what has happened before is kept for it");
  const again = await patch({ status: "active" });
  assert.deepEqual([again.status, again.disabled_reason], ["active", null]);
  const active = [{ id, events: [], ...since, active_at: Date.parse(again.updated_at) }];
  assert.deepEqual(copies(of.id).live, active);
  assert.equal((await patch({ description: "once more" })).description, "once more");
  assert.deepEqual(copies(of.id).live, active, "since when it is active does not change with what else does");

  const removed = await call("DELETE", one(id));
  assert.deepEqual([removed.status, removed.body.id], [200, id]);
  assert.equal(await rowOf(id), undefined);
  assert.deepEqual(copies(of.id).live, []);
  for (const [method, path, sent] of [
    ["GET", one(id)],
    ["DELETE", one(id)],
    ["PATCH", one(id), { status: "active" }],
    ["POST", `${one(id)}/rotate-secret`],
  ])
    assert.deepEqual(refusal(await call(method, path, sent)), NOT_FOUND);
  const recorded = (action, detail) => [action, id, detail, "live", "person"];
  assert.deepEqual(await entries(of), [
    recorded("endpoint.created", "live"),
    recorded("endpoint.updated", "url, events, description"),
    recorded("endpoint.updated", "paused"),
    recorded("endpoint.updated", "active"),
    recorded("endpoint.updated", "description"),
    recorded("endpoint.updated", "active"),
    recorded("endpoint.updated", "description"),
    recorded("endpoint.removed", null),
  ]);
});

test("a body that is wrong names its member", async () => {
  const { call } = await seller();
  const { webhook_endpoint: endpoint } = await created(call);
  for (const [more, param] of /** @type {[any, string][]} */ ([
    [{ environment: "both" }, "environment"],
    [{ environment: undefined }, "environment"],
    [{ url: undefined }, "url"],
    [{ events: ["payment.*", "*"] }, "events[1]"],
    [{ events: Array(51).fill("key.created") }, "events"],
    [{ description: "a".repeat(201) }, "description"],
    [{ secret: "whsec_AAAA" }, "secret"],
  ])) {
    const answer = await call("POST", PATH, body(more));
    assert.deepEqual([answer.status, answer.body.param], [422, param], JSON.stringify(more));
  }
  const answer = await call("PATCH", one(endpoint.id), { environment: "test" });
  assert.deepEqual([answer.status, answer.body.param], [422, "environment"]);
  assert.deepEqual(await listed(call), [endpoint.id]);
});

test("a secret is shown once, is stored sealed for its endpoint, and after a rotation both sign for a day", async () => {
  const { call, ...of } = await seller();
  const { webhook_endpoint: endpoint, secret: first } = await created(call);
  const { webhook_endpoint: other } = await created(call, { environment: "test" });
  const { id } = endpoint;
  const rotate = async () => {
    const rotated = await call("POST", `${one(id)}/rotate-secret`);
    assert.equal(rotated.status, 200, JSON.stringify(rotated.body));
    return rotated.body;
  };
  const secrets = [first];
  const before = await rowOf(id);
  assert.equal(opened(before.secret_sealed, id), first);
  // The key is the 32 bytes, as receivers' packages read the text.
  const byKey = createHmac("sha256", Buffer.from(first.slice(6), "base64"))
    .update("msg_1.1700000000.{}")
    .digest("base64");
  assert.equal(new Webhook(first).sign("msg_1", new Date(1_700_000_000_000), "{}"), `v1,${byKey}`);
  assert.throws(() => opened(before.secret_sealed, other.id), "it opens in no other row");
  for (let times = 0; times < 2; times += 1) {
    const { webhook_endpoint: shown, secret } = await rotate();
    assert.ok(/^whsec_[A-Za-z0-9+/]{43}=$/.test(secret) && !secrets.includes(secret));
    const row = await rowOf(id);
    // The one before the previous one signs nothing any more.
    assert.deepEqual([opened(row.secret_sealed, id), opened(row.previous_sealed, id)], [secret, secrets.at(-1)]);
    assert.equal(row.previous_until_ms - row.updated_ms, DAY);
    assert.equal(shown.previous_secret_until, new Date(row.previous_until_ms).toISOString());
    assert.equal((await call("GET", one(id))).body.webhook_endpoint.previous_secret_until, shown.previous_secret_until);
    secrets.push(secret);
  }
  const made = (await entries(of)).filter(([action]) => action === "endpoint.rotated");
  assert.deepEqual(made, Array(2).fill(["endpoint.rotated", id, null, "live", "person"]));
  const events = await call("GET", "/v1/events");
  assert.ok(events.body.data.some(({ data }) => data.action === "endpoint.rotated"));
  await call("PATCH", one(id), { description: "x" });
  await call("GET", PATH);
  await call("GET", "/v1/audit-log");
  for (const secret of secrets) {
    assert.equal(answers.filter((answer) => answer.includes(secret)).length, 1, "it is shown once");
    assert.ok(!worker.log.lines.some((line) => line.includes(secret)), "it is not logged");
    const rows = await worker.sql("SELECT * FROM webhook_endpoints WHERE tenant_id = ?", of.id);
    assert.ok(!JSON.stringify(rows).includes(secret.slice(6)));
  }
  assert.ok(!answers.some((answer) => answer.includes(before.secret_sealed)));
});

/** Addresses that lead into a private network, or nowhere, by their text alone. */
const SPELLINGS = {
  decimal: ["https://2130706433/", "https://0/"],
  hex: ["https://0x7f000001/", "https://0x7f.1/", "https://0x7f.0x0.0x0.0x1/"],
  octal: ["https://0177.0.0.1/", "https://017700000001/"],
  dotted: ["https://127.0.0.1/", "https://169.254.169.254/latest/meta-data", "https://8.8.8.8/"],
  short: ["https://127.1/", "https://127.0.1/"],
  six: ["https://[::1]/", "https://[fd00::1]/", "https://[2606:4700:4700::1111]/"],
  mapped: ["https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[64:ff9b::7f00:1]/"],
  circled: ["https://①②⑦.⓪.⓪.①/", "https://１２７.0.0.1/", "https://127。0。0。1/"],
  escaped: ["https://%31%32%37.0.0.1/", "https://127%2e0%2e0%2e1/"],
  dot: ["https://127.0.0.1./", "https://shop.example./", "https://localhost./", "https://pay.example./"],
  user: ["https://user@shop.example/", "https://user:word@shop.example/", "https://@shop.example/", "https://shop.example@127.0.0.1/"],
  single: ["https://localhost/", "https://LocalHost/", "https://intranet/"],
  reserved: ["https://a.localhost/", "https://printer.local/", "https://metadata.google.internal/", "https://a.home.arpa/"],
  own: [`${ORIGIN}/v1/webhooks/resend`, "https://PAY.example:443/"],
  port: ["https://shop.example:8443/", "https://shop.example:80/", "https://shop.example:22/"],
  scheme: ["http://shop.example/", "ftp://shop.example/", "file:///etc/passwd", "//shop.example/", "javascript:alert(1)"],
  international: ["https://bücher.example/", "https://ѕhop.example/"],
  fragment: ["https://shop.example/#a"],
  mended: [
    "https:\\\\shop.example\\",
    " https://shop.example/",
    "https://shop.example/\n",
    "https:/shop.example/",
    "https:///shop.example/",
  ],
  length: ["", `https://shop.example/${"a".repeat(2_048)}`],
};

test("no spelling leads into a private network, when an endpoint is made nor when it is changed", async () => {
  const { call } = await seller();
  const { webhook_endpoint: endpoint } = await created(call);
  asked = [];
  for (const [name, urls] of Object.entries(SPELLINGS))
    for (const url of urls) {
      assert.deepEqual(refusedUrl(await call("POST", PATH, body({ url }))), FORBIDDEN, `${name}: ${url}`);
      assert.deepEqual(refusedUrl(await call("PATCH", one(endpoint.id), { url })), FORBIDDEN, `${name}: ${url}`);
    }
  assert.deepEqual(asked, [], "such a text is not looked up");
  assert.deepEqual(await listed(call), [endpoint.id]);
  assert.equal((await rowOf(endpoint.id)).url, URL_OF_SHOP);
  for (const url of ["https://xn--bcher-kva.example/", "https://shop.example:443/x", "https://a.pay.example/"])
    assert.equal((await call("PATCH", one(endpoint.id), { url })).status, 200, url);
});

test("no host is taken one of whose addresses is not public, or that has none", async () => {
  const { call } = await seller();
  const { webhook_endpoint: endpoint } = await created(call);
  const [four, six] = [PUBLIC.A, PUBLIC.AAAA];
  for (const found of [
    { A: four, AAAA: ["::1"] },
    { A: ["127.0.0.1"], AAAA: six },
    { A: [...four, "10.0.0.1"] },
    { A: ["100.64.0.1"] },
    { A: ["169.254.169.254"] },
    { A: ["192.168.1.1"] },
    { A: ["0.0.0.0"] },
    { A: ["255.255.255.255"] },
    { A: four, AAAA: ["::ffff:93.184.215.14"] },
    { A: four, AAAA: ["64:ff9b::5db8:d70e"] },
    { A: four, AAAA: ["2002:5db8:d70e::1"] },
    { A: four, AAAA: ["fd00::1"] },
    { A: four, AAAA: ["fe80::1"] },
    { AAAA: [...six, "2001:db8::1"] },
    {},
  ]) {
    hosts.set("rebind.example", found);
    const url = "https://rebind.example/";
    assert.deepEqual(refusedUrl(await call("POST", PATH, body({ url }))), FORBIDDEN, JSON.stringify(found));
    assert.deepEqual(refusedUrl(await call("PATCH", one(endpoint.id), { url })), FORBIDDEN, JSON.stringify(found));
  }
  for (const found of [{ A: four }, { AAAA: six }]) {
    hosts.set("rebind.example", found);
    assert.equal((await call("PATCH", one(endpoint.id), { url: "https://rebind.example/" })).status, 200, JSON.stringify(found));
  }
  instead = { A: () => Response.json({ Status: 3 }), AAAA: () => Response.json({ Status: 3 }) };
  assert.deepEqual(refusedUrl(await call("POST", PATH, body())), FORBIDDEN, "a name that does not exist");
});

test("where the DNS does not answer for one of the two kinds of addresses, nothing is made or changed", async () => {
  const { call } = await seller();
  const { webhook_endpoint: endpoint } = await created(call);
  for (const type of ["A", "AAAA"])
    for (const answer of [
      () => new Response("", { status: 500 }),
      () => Response.json({ Status: 2 }),
      () => new Response("<html>"),
      () => new Response("x".repeat(100_000)),
      () => new Response("", { status: 302, headers: { location: "https://evil.example" } }),
      () => Response.json({ Status: 0, Answer: [{ type: { A: 1, AAAA: 28 }[type], data: "localhost" }] }),
    ]) {
      instead = { [type]: answer };
      const made = await call("POST", PATH, body());
      assert.deepEqual([...refusal(made), made.headers["retry-after"]], [503, "UPSTREAM_UNAVAILABLE", "5"]);
      const changed = await call("PATCH", one(endpoint.id), { url: "https://other.example/" });
      assert.deepEqual(refusal(changed), [503, "UPSTREAM_UNAVAILABLE"]);
    }
  // What changes no address asks nobody.
  asked = [];
  assert.equal((await call("PATCH", one(endpoint.id), { status: "paused" })).status, 200);
  assert.deepEqual([asked, await listed(call)], [[], [endpoint.id]]);
});

test("the free tier has no endpoints; after a downgrade they are kept, shown and removed", async () => {
  const { call, ...of } = await seller("free");
  const refused = await call("POST", PATH, body());
  assert.deepEqual(refusal(refused), [403, "NOT_IN_TIER"]);
  assert.match(refused.body.upgrade_url, /\/docs\/tiers$/);
  assert.deepEqual([asked, await listed(call)], [[], []]);
  await setTier(of.id, "starter");
  const { webhook_endpoint: endpoint } = await created(call);
  await setTier(of.id, "free");
  assert.deepEqual(await listed(call), [endpoint.id]);
  assert.deepEqual(refusal(await call("PATCH", one(endpoint.id), { status: "paused" })), [403, "NOT_IN_TIER"]);
  assert.equal((await call("POST", `${one(endpoint.id)}/rotate-secret`)).status, 200, "a secret that has leaked is replaced");
  assert.equal((await call("DELETE", one(endpoint.id))).status, 200);
});

test("a tenant has ten endpoints in an environment, also of twelve that are made at once", async () => {
  const { call } = await seller();
  const made = await Promise.all(Array.from({ length: 12 }, () => call("POST", PATH, body())));
  assert.equal(made.filter(({ status }) => status === 201).length, 10);
  for (const answer of made.filter(({ status }) => status !== 201))
    assert.deepEqual([...refusal(answer), answer.body.param], [422, "INVALID_REQUEST", "environment"]);
  assert.equal((await listed(call)).length, 10);
  // Those that are disabled count too; those of the other environment do not.
  await worker.sql("UPDATE webhook_endpoints SET status = 'disabled' WHERE id = ?", (await listed(call))[0]);
  assert.deepEqual(refusal(await call("POST", PATH, body())), [422, "INVALID_REQUEST"]);
  await created(call, { environment: "test" });
  await call("DELETE", one((await listed(call)).at(-1)));
  await created(call);
});

test("owners and keys that manage change endpoints, others read or do nothing, and no other tenant sees them", async () => {
  const owner = await seller();
  const { webhook_endpoint: endpoint } = await created(owner.call);
  const changes = (call) => [
    call("POST", PATH, body()),
    call("PATCH", one(endpoint.id), { status: "paused" }),
    call("DELETE", one(endpoint.id)),
    call("POST", `${one(endpoint.id)}/rotate-secret`),
  ];
  for (const role of ["developer", "viewer"]) {
    const call = await member(owner, role);
    for (const refused of await Promise.all(changes(call))) assert.deepEqual(refusal(refused), [403, "INSUFFICIENT_ROLE"]);
    assert.deepEqual(await listed(call), [endpoint.id]);
    assert.deepEqual((await call("GET", one(endpoint.id))).body.webhook_endpoint, endpoint);
  }
  const settling = (method, path, body) => worker.call(method, path, { key: owner.api_keys.live, body });
  for (const refused of await Promise.all([...changes(settling), settling("GET", PATH), settling("GET", one(endpoint.id))]))
    assert.deepEqual(refusal(refused), [403, "INSUFFICIENT_SCOPE"]);
  const stranger = await seller();
  const [, patched, removed, rotated] = await Promise.all(changes(stranger.call));
  for (const refused of [patched, removed, rotated, await stranger.call("GET", one(endpoint.id))])
    assert.deepEqual(refusal(refused), NOT_FOUND);
  assert.ok(!(await listed(stranger.call)).includes(endpoint.id));
  for (const id of ["x", "whe_x", endpoint.id.toLowerCase(), owner.id])
    assert.deepEqual(refusal(await owner.call("GET", one(id))), NOT_FOUND);
  assert.equal((await rowOf(endpoint.id)).status, "active");
  const byKey = await managed(owner, "live");
  const { webhook_endpoint: own } = await created(byKey);
  assert.equal((await byKey("PATCH", one(own.id), { status: "paused" })).body.webhook_endpoint.status, "paused");
  assert.deepEqual((await entries(owner)).slice(-2), [
    ["endpoint.created", own.id, "live", "live", "key"],
    ["endpoint.updated", own.id, "paused", "live", "key"],
  ]);
});

test("a key sees and changes the endpoints of its environment alone, and each ledger holds its own", async () => {
  const owner = await seller();
  const { webhook_endpoint: live } = await created(owner.call);
  const { webhook_endpoint: tried } = await created(owner.call, { environment: "test", events: ["quota.*"] });
  assert.deepEqual(await listed(owner.call), [tried.id, live.id]);
  assert.deepEqual(copies(owner.id), { live: [{ id: live.id, events: [] }], test: [{ id: tried.id, events: ["quota.*"] }] });
  const byKey = await managed(owner, "test");
  assert.deepEqual(await listed(byKey), [tried.id]);
  assert.deepEqual(refusal(await byKey("POST", PATH, body())), MISMATCH);
  assert.deepEqual(refusal(await byKey("GET", one(live.id))), MISMATCH);
  assert.deepEqual(refusal(await byKey("PATCH", one(live.id), { status: "paused" })), MISMATCH);
  assert.deepEqual(refusal(await byKey("POST", `${one(live.id)}/rotate-secret`)), MISMATCH);
  assert.deepEqual(refusal(await byKey("DELETE", one(live.id))), MISMATCH);
  assert.equal((await byKey("DELETE", one(tried.id))).status, 200);
  assert.deepEqual(await listed(owner.call), [live.id]);
});

test("an endpoint is answered with its secret although a ledger is not reached; a change is repeated", async () => {
  const owner = await seller();
  await worker.fault({ names: '"reload"', refused: true, stays: true });
  const made = await created(owner.call);
  assert.equal(made.in_force, false);
  const { id } = made.webhook_endpoint;
  const paused = await owner.call("PATCH", one(id), { status: "paused" });
  assert.deepEqual(refusal(paused), [503, "CHANGE_NOT_LOADED"]);
  await worker.fault(null);
  assert.equal((await owner.call("PATCH", one(id), { status: "paused" })).status, 200);
  assert.deepEqual(copies(owner.id).live, [{ id, events: [] }]);
  assert.equal((await entries(owner)).length, 2, "the repeat changes nothing");
});

test("a key removes an endpoint although its ledger is not reached, and changes nothing else then", async () => {
  const owner = await seller();
  const byKey = await managed(owner, "live");
  const { id } = (await created(byKey)).webhook_endpoint;
  await worker.fault({ names: owner.id, unsent: true, stays: true });
  for (const [method, path, sent] of [
    ["PATCH", one(id), { status: "paused" }],
    ["POST", `${one(id)}/rotate-secret`],
    ["POST", PATH, body()],
    ["GET", one(id)],
  ])
    assert.deepEqual(refusal(await byKey(method, path, sent)), [503, "LEDGER_UNAVAILABLE"], `${method} ${path}`);
  assert.deepEqual(refusal(await byKey("DELETE", one(id))), [503, "CHANGE_NOT_LOADED"]);
  assert.equal(await rowOf(id), undefined);
  await worker.fault(null);
  assert.deepEqual(refusal(await byKey("DELETE", one(id))), NOT_FOUND);
});

test("who is removed while an endpoint is made has made none, nor has a tenant that is being deleted", async () => {
  const owner = await seller();
  const byKey = await managed(owner, "live");
  const made = await worker.whileHeld(
    "INSERT INTO webhook_endpoints",
    () => byKey("POST", PATH, body()),
    () => owner.browser.call("DELETE", `/v1/api-keys/${byKey.id}`),
  );
  assert.deepEqual(refusal(made), [403, "INSUFFICIENT_ROLE"]);
  const due = "INSERT INTO deletions (tenant_id, id, token_hash, asked_by, asked_ms, expires_ms, due_ms) VALUES (?, ?, 'x', ?, 1, 2, ?)";
  const late = await worker.whileHeld(
    "INSERT INTO webhook_endpoints",
    () => owner.call("POST", PATH, body()),
    () => worker.sql(due, owner.id, `del_${owner.id}`, owner.person, Date.now() + DAY),
  );
  assert.deepEqual(refusal(late), [409, "TENANT_DELETING"]);
  assert.deepEqual(await listed(owner.call), []);
});
