// Signing in by a company's own identity provider. `emulate` plays it (Okta's), and checks PKCE and the client's secret; tokens
// that a provider should not give are signed here.
import assert from "node:assert/strict";
import { createSign, generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { createEmulator } from "emulate";
import { Response, fetch as passed } from "miniflare";
import { Browser, address, mailTo, network, signedUp } from "./browser.mjs";
import { PEPPERS, startWorker } from "./worker.mjs";

const DAY = 24 * 60 * 60_000;
const PAGES = "https://pay.example";
const IDP = "https://idp.corp.example";
const ISSUER = `${IDP}/oauth2/default`;
const [DISCOVERY, TOKEN, KEYS] = [".well-known/openid-configuration", "v1/token", "v1/keys"].map((end) => `/oauth2/default/${end}`);
const [CLIENT, CLIENT_SECRET] = ["client-of-this-test", "a client-secret+of/this%test"];
const VARS = { MAIL_BACKEND: "mailbox", PUBLIC_URL: PAGES };
const refusal = ({ status, body }) => [status, body?.error_code];
const INVALID = [401, "INVALID_SIGN_IN"];
const CLOSED = [503, "UPSTREAM_UNAVAILABLE"];

const people = Array.from({ length: 12 }, (_, at) => ({ login: `person-${at}@corp.example`, email: `Person-${at}@Corp.example` }));
let unused = 0;
/** A person of the company who has not signed in here. */
const person = () => people[unused++];
const stranger = { login: "stranger@other.example", email: "stranger@other.example" };

/** The texts of TXT records by their names. @type {Map<string, string[]>} */
const records = new Map();
/** What a path of the provider answers instead. @type {Record<string, (request: Request, body: string) => Response>} */
let instead = {};
/** Each request to the outside, without those for nodes and for addresses. @type {string[]} */
let asked = [];
/** The hosts whose addresses the DNS was asked for. @type {string[]} */
let looked = [];
/** The addresses of hosts; `*` are those of all others.
 * @type {{ v4: Record<string, string[]>, v6: Record<string, string[]>, away?: (name: string) => Response | undefined }} */
let addresses;
let provider;
let port;

async function outbound(request) {
  const { hostname, pathname, searchParams } = new URL(request.url);
  if (hostname === "127.0.0.1") return passed(request);
  if (hostname === "cloudflare-dns.com" && searchParams.get("type") !== "TXT") {
    const name = searchParams.get("name") ?? "";
    looked.push(name);
    const [type, all] = searchParams.get("type") === "A" ? [1, addresses.v4] : [28, addresses.v6];
    return addresses.away?.(name) ?? Response.json({ Status: 0, Answer: (all[name] ?? all["*"]).map((data) => ({ name, type, data })) });
  }
  asked.push(request.url);
  if (hostname === "cloudflare-dns.com") {
    assert.deepEqual([request.headers.get("accept"), searchParams.get("type")], ["application/dns-json", "TXT"]);
    if (instead.dns) return instead.dns(request, "");
    const texts = records.get(searchParams.get("name") ?? "");
    if (!texts) return Response.json({ Status: 3 });
    return Response.json({ Status: 0, Answer: texts.map((text) => ({ name: searchParams.get("name"), type: 16, data: `"${text}"` })) });
  }
  assert.equal(new URL(request.url).origin, IDP, "no other host is asked");
  const { method } = request;
  const body = method === "POST" ? await request.text() : "";
  if (instead[pathname]) return instead[pathname](request, body);
  const answer = await fetch(`http://127.0.0.1:${port}${pathname}`, { method, headers: [...request.headers], body: body || undefined });
  return new Response(await answer.text(), { status: answer.status });
}

/** A port that nobody listens on: the provider must know its public address before it listens. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const found = /** @type {import("node:net").AddressInfo} */ (server.address()).port;
  await new Promise((resolve) => server.close(resolve));
  return found;
}

let worker;
/** A tenant of the largest tier, with its owner. */
async function company(of = worker, email = address()) {
  const owner = await signedUp(of, email);
  const id = owner.session.tenant.id;
  const done = await of.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { tier: "enterprise" } });
  assert.equal(done.status, 200);
  return { ...owner, id };
}
const settings = (more = {}) => ({ domain: "corp.example", issuer: ISSUER, client_id: CLIENT, client_secret: CLIENT_SECRET, ...more });
const set = (of, more) => of.browser.call("PUT", "/v1/tenant/oidc", settings(more));
const prove = (of) => of.browser.call("POST", "/v1/tenant/oidc/prove", {});
async function publish(of) {
  const { dns_record: record } = (await of.browser.call("GET", "/v1/tenant/oidc")).body.oidc;
  records.set(record.name, [...(records.get(record.name) ?? []), record.value]);
  return record;
}

let corp;
before(async () => {
  worker = await startWorker({ vars: VARS, outbound });
  corp = await company();
  port = await freePort();
  const client = { client_id: CLIENT, client_secret: CLIENT_SECRET, name: "x402-edge", redirect_uris: [callback(corp.id)] };
  provider = await createEmulator({
    service: "okta",
    port,
    baseUrl: IDP,
    seed: { okta: { users: [...people, stranger], oauth_clients: [client], authorization_servers: [{ id: "default", name: "default" }] } },
  });
});
after(async () => {
  await worker.stop();
  await provider.close();
});
beforeEach(() => {
  instead = {};
  asked = [];
  looked = [];
  addresses = { v4: { "*": ["93.184.215.14"] }, v6: { "*": [] } };
});

const path = (tenant) => `/v1/session/oidc/${tenant}/callback`;
const callback = (tenant) => `${PAGES}${path(tenant)}`;
const ask = (browser, email) => browser.call("GET", `/v1/session/oidc?email=${encodeURIComponent(email)}`);

/** Sends a browser to the provider; the address it is sent to. */
async function go(browser, email = people[0].email) {
  const sent = await ask(browser, email);
  assert.equal(sent.status, 303, JSON.stringify(sent.body));
  return new URL(sent.headers.location);
}

/** A person signs in at the provider; the path with which it sends the browser back. */
async function allow(url, { login }) {
  const answer = await fetch(`http://127.0.0.1:${port}${url.pathname}/callback`, {
    method: "POST",
    redirect: "manual",
    body: new URLSearchParams({ ...Object.fromEntries(url.searchParams), user_ref: login }),
  });
  const back = new URL(answer.headers.get("location") ?? (await answer.text()));
  return `${back.pathname}${back.search}`;
}

/** A whole sign-in. */
async function signIn(browser, who) {
  return browser.call("GET", await allow(await go(browser, who.email), who), undefined, { "sec-fetch-site": "cross-site" });
}

const encoded = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const short = generateKeyPairSync("rsa", { modulusLength: 1024 });
const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
const jwk = ({ publicKey }, more = {}) => ({ ...publicKey.export({ format: "jwk" }), kid: "own", ...more });
function signed(header, claims, key) {
  const text = `${encoded(header)}.${encoded(claims)}`;
  return `${text}.${createSign("SHA256").update(text).sign({ key: key.privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}
const claimsOf = (url, more = {}) => {
  const now = Math.floor(Date.now() / 1000);
  const rest = { iss: ISSUER, aud: CLIENT, sub: "sub-1", email: "forged@corp.example", iat: now, exp: now + 60 };
  return { ...rest, nonce: url.searchParams.get("nonce"), ...more };
};
/** The provider gives this token, and lists these keys. */
function give(token, keys = [jwk(rsa)]) {
  instead[TOKEN] = () => Response.json({ id_token: token, token_type: "Bearer", access_token: "x" });
  instead[KEYS] = () => Response.json({ keys });
}
const back = (url, code = "a-code") =>
  `${new URL(url.searchParams.get("redirect_uri")).pathname}?code=${code}&state=${url.searchParams.get("state")}`;

test("a provider is set by an owner of the largest tier, and its secret is never shown", async () => {
  const small = await signedUp(worker);
  assert.deepEqual(refusal(await set(small)), [403, "NOT_IN_TIER"]);
  assert.deepEqual(refusal(await prove(small)), [403, "NOT_IN_TIER"]);
  assert.deepEqual(refusal(await corp.browser.call("GET", "/v1/tenant/oidc")), [404, "NOT_FOUND"]);
  for (const [more, param] of /** @type {[any, string][]} */ ([
    [{ issuer: "http://idp.corp.example" }, "issuer"],
    [{ issuer: "https://127.0.0.1" }, "issuer"],
    [{ issuer: "https://localhost" }, "issuer"],
    [{ issuer: PAGES }, "issuer"],
    [{ domain: "corp" }, "domain"],
    [{ default_role: "owner" }, "default_role"],
    [{ client_secret: undefined }, "client_secret"],
  ])) {
    const answer = await set(corp, more);
    assert.deepEqual([answer.status, answer.body.param], [422, param], JSON.stringify(more));
  }
  const put = await set(corp, { domain: "Corp.Example", default_role: "developer" });
  assert.equal(put.status, 200, JSON.stringify(put.body));
  const { oidc } = put.body;
  const { dns_record: record, updated_at: _, ...rest } = oidc;
  assert.deepEqual(rest, {
    domain: "corp.example",
    issuer: ISSUER,
    client_id: CLIENT,
    default_role: "developer",
    redirect_uri: callback(corp.id),
    proven_at: null,
    checked_at: null,
  });
  assert.deepEqual([record.type, record.name], ["TXT", "_x402-edge.corp.example"]);
  assert.match(record.value, /^x402-edge-domain=[0-9a-f]{64}$/);
  const key = (await corp.browser.call("POST", "/v1/api-keys", { name: "m", environment: "live", scopes: ["manage"] })).body.key;
  assert.deepEqual((await worker.call("GET", "/v1/tenant/oidc", { key })).body.oidc, oidc);
  const [row] = await worker.sql("SELECT secret_sealed FROM oidc_connections WHERE tenant_id = ?", corp.id);
  assert.match(row.secret_sealed, /^v1\.[\w-]{16}\.[\w-]+$/);
  assert.ok(!JSON.stringify([oidc, await worker.sql("SELECT * FROM oidc_connections"), worker.log.lines]).includes(CLIENT_SECRET));
});

test("nobody signs in before the domain is proven by its record", async () => {
  const before = await ask(new Browser(worker), people[0].email);
  assert.deepEqual(refusal(before), [404, "NOT_FOUND"]);
  assert.deepEqual(refusal(await prove(corp)), [422, "INVALID_PROOF"]);
  records.set("_x402-edge.corp.example", ["v=spf1 -all", `x402-edge-domain=${"0".repeat(64)}`]);
  assert.deepEqual(refusal(await prove(corp)), [422, "INVALID_PROOF"]);
  for (const dns of [
    () => new Response("", { status: 500 }),
    () => Response.json({ Status: 2 }),
    () => new Response("<html>"),
    () => new Response("x".repeat(100_000)),
    () => new Response("", { status: 302, headers: { location: "https://evil.example" } }),
  ]) {
    instead = { dns };
    assert.deepEqual(refusal(await prove(corp)), CLOSED);
  }
  instead = {};
  await publish(corp);
  const proven = await prove(corp);
  assert.equal(proven.status, 200, JSON.stringify(proven.body));
  assert.ok(proven.body.oidc.proven_at && proven.body.oidc.checked_at);
  assert.equal((await prove(corp)).body.oidc.proven_at, proven.body.oidc.proven_at);
  // The proof stays with the domain, whatever else is set.
  assert.equal((await set(corp, { default_role: "developer" })).body.oidc.proven_at, proven.body.oidc.proven_at);
  const entries = (await corp.browser.call("GET", "/v1/audit-log")).body.data.filter(({ action }) => action.startsWith("oidc."));
  assert.deepEqual(
    entries.map(({ action, subject, detail }) => [action, subject, detail]),
    [
      ["oidc.updated", "corp.example", ISSUER],
      ["oidc.proven", "corp.example", null],
      ["oidc.updated", "corp.example", ISSUER],
    ],
  );
});

test("a person of the company signs in, and is a member of its tenant with the role that is set", async () => {
  const who = person();
  const browser = new Browser(worker);
  const sent = await ask(browser, who.email);
  const url = new URL(String(sent.headers.location));
  assert.equal(`${url.origin}${url.pathname}`, `${ISSUER}/v1/authorize`);
  const { state, nonce, code_challenge: challenge, ...rest } = Object.fromEntries(url.searchParams);
  assert.deepEqual(rest, {
    response_type: "code",
    scope: "openid email",
    client_id: CLIENT,
    redirect_uri: callback(corp.id),
    code_challenge_method: "S256",
    login_hint: who.email.toLowerCase(),
  });
  assert.match(`${state} ${nonce} ${challenge}`, /^[0-9a-f]{64} [0-9a-f]{64} [\w-]{43}$/);
  assert.match(sent.setCookie.join(), /^__Host-oauth=[0-9a-f]{64}; Max-Age=600; Path=\/; Secure; HttpOnly; SameSite=Lax$/);
  const done = await browser.call("GET", await allow(url, who), undefined, { "sec-fetch-site": "cross-site" });
  assert.deepEqual([done.status, done.headers.location], [303, `${PAGES}/`], JSON.stringify(done.body));
  const { body } = await browser.call("GET", "/v1/session");
  const email = who.email.toLowerCase();
  assert.deepEqual([body.session.person.email, body.session.role, body.session.tenant.id], [email, "developer", corp.id]);
  const joined = async () => (await corp.browser.call("GET", "/v1/audit-log?action=member.joined")).body.data;
  assert.deepEqual([(await joined())[0].subject, (await joined())[0].detail], [email, "developer"]);
  const count = (await joined()).length;
  // The provider's id counts from then on, so that another address there changes nothing here.
  const again = new Browser(worker);
  const [{ subject }] = await worker.sql("SELECT subject FROM identities WHERE provider = ?", `oidc ${corp.id}`);
  const next = await go(again, who.email);
  give(signed({ alg: "RS256", kid: "own" }, claimsOf(next, { sub: subject.split(" ")[1], email: "renamed@corp.example" }), rsa));
  assert.equal((await again.call("GET", back(next))).status, 303);
  assert.equal((await again.call("GET", "/v1/session")).body.session.person.id, body.session.person.id);
  assert.equal((await joined()).length, count, "nobody joins twice");
  const secrets = [...browser.cookies.values(), state, CLIENT_SECRET];
  const tables = ["oauth_states", "identities", "sessions", "oidc_connections", "audit_log"];
  const rows = await Promise.all(tables.map((table) => worker.sql(`SELECT * FROM ${table}`)));
  for (const secret of secrets) assert.ok(!JSON.stringify([rows, worker.log.lines]).includes(secret));
});

test("a session that the company's provider begins reaches no other tenant of its person", async () => {
  const who = person();
  const email = who.email.toLowerCase();
  const own = await signedUp(worker, email);
  const browser = new Browser(worker);
  assert.equal((await signIn(browser, who)).status, 303);
  const { session, tenants } = (await browser.call("GET", "/v1/session")).body;
  assert.deepEqual([session.person.id, session.tenant.id], [own.session.person.id, corp.id], "the same person");
  assert.deepEqual(
    tenants.map(({ id }) => id),
    [corp.id],
  );
  const mine = own.session.tenant.id;
  const switched = await browser.call("POST", "/v1/session/tenant", { tenant: mine });
  assert.deepEqual(refusal(switched), [404, "NOT_FOUND"]);
  assert.equal((await browser.call("GET", "/v1/session")).body.session.tenant.id, corp.id);
  const listed = (await browser.call("GET", "/v1/sessions")).body.data;
  assert.deepEqual(
    listed.map(({ id }) => id),
    [session.id],
  );
  assert.deepEqual(refusal(await browser.call("DELETE", `/v1/sessions/${own.session.id}`)), [404, "NOT_FOUND"]);
  // An invitation to a third tenant needs a session that reaches more.
  const third = await signedUp(worker);
  await third.browser.call("POST", "/v1/members/invitations", { email, role: "owner" });
  const invited = { token: (await mailTo(worker, email, 2)).token };
  assert.deepEqual(refusal(await browser.call("POST", "/v1/members/join", invited)), INVALID);
  assert.equal((await browser.call("DELETE", "/v1/sessions")).status, 200);
  assert.deepEqual(refusal(await browser.call("GET", "/v1/session")), [401, "INVALID_SESSION"]);
  // The person's own session is untouched, reaches both tenants, and accepts the invitation.
  const after = await own.browser.call("GET", "/v1/session");
  assert.deepEqual(after.body.tenants.map(({ id }) => id).sort(), [mine, corp.id].sort());
  assert.equal((await own.browser.call("POST", "/v1/session/tenant", { tenant: corp.id })).status, 200);
  assert.equal((await own.browser.call("POST", "/v1/members/join", invited)).status, 201);
});

test("a state counts once, in the browser and for the tenant that it was made for", async () => {
  const who = person();
  const browser = new Browser(worker);
  const whole = await allow(await go(browser, who.email), who);
  const states = () => worker.sql("SELECT * FROM oauth_states ORDER BY 1");
  const begun = await states();
  for (const opened of [whole, `/v1/session/oidc?email=${encodeURIComponent(who.email)}`]) {
    const head = await browser.call("HEAD", opened, undefined, { "sec-fetch-site": "none" });
    assert.deepEqual([head.status, head.headers.allow, head.setCookie], [405, "GET, OPTIONS", []], "a scanner's");
  }
  assert.deepEqual(await states(), begun);
  assert.deepEqual(refusal(await new Browser(worker).call("GET", whole)), INVALID, "no cookie");
  const another = new Browser(worker);
  const url = await go(another, who.email);
  assert.deepEqual(refusal(await another.call("GET", whole)), INVALID, "another browser's cookie");
  assert.deepEqual(refusal(await browser.call("GET", whole.replace(corp.id, own404))), INVALID, "another tenant's way back");
  const query = new URLSearchParams(whole.split("?")[1]);
  for (const [name, value] of /** @type {[string, string | undefined][]} */ ([
    ["state", "00".repeat(32)],
    ["state", undefined],
    ["code", undefined],
    ["code", "x".repeat(9_000)],
  ])) {
    const changed = new URLSearchParams(query);
    if (value === undefined) changed.delete(name);
    else changed.set(name, value);
    assert.deepEqual(refusal(await browser.call("GET", `${path(corp.id)}?${changed}`)), INVALID, name);
  }
  assert.deepEqual(refusal(await browser.call("GET", `${path(corp.id)}?error=access_denied`)), INVALID);
  const cookie = `__Host-oauth=${browser.cookies.get("__Host-oauth")}`;
  const at = await Promise.all(Array.from({ length: 4 }, () => new Browser(worker).call("GET", whole, undefined, { cookie })));
  assert.deepEqual(at.map(({ status }) => status).sort(), [303, 401, 401, 401]);
  // A code that somebody else has got is worth nothing: its verifier is the other browser's.
  const stolen = new URLSearchParams((await allow(await go(new Browser(worker), who.email), who)).split("?")[1]).get("code");
  assert.deepEqual(refusal(await another.call("GET", back(url, stolen ?? ""))), INVALID);
  // The issuer of the way back, where the provider names it.
  const named = new Browser(worker);
  const evil = `${await allow(await go(named, who.email), who)}&iss=https%3A%2F%2Fevil.example`;
  assert.deepEqual(refusal(await named.call("GET", evil)), INVALID);
});
/** The id of no tenant. */
const own404 = "ten_01a22830e24a3a1f7b1ccee9";

test("an ID token is refused unless it is signed by the provider, and for this sign-in", async () => {
  const header = { alg: "RS256", kid: "own" };
  const now = Math.floor(Date.now() / 1000);
  const token = (url, more, of = header, key = rsa) => signed(of, claimsOf(url, more), key);
  const unsigned = (url, alg) => `${encoded({ ...header, alg })}.${encoded(claimsOf(url))}.`;
  const cases = /** @type {[string, (url: URL) => string, any[]?][]} */ ([
    ["another key", (url) => token(url, {}, header, generateKeyPairSync("rsa", { modulusLength: 2048 }))],
    ["a changed claim", (url) => token(url, {}).replace(/\.[^.]+\./, `.${encoded(claimsOf(url, { email: "boss@corp.example" }))}.`)],
    ["alg none", (url) => unsigned(url, "none")],
    ["alg none with a signature", (url) => token(url, {}, { ...header, alg: "none" })],
    ["alg HS256", (url) => token(url, {}, { ...header, alg: "HS256" })],
    ["alg RS512", (url) => token(url, {}, { ...header, alg: "RS512" })],
    ["an unknown key", (url) => token(url, {}, { ...header, kid: "other" })],
    ["a short key", (url) => token(url, {}, header, short), [jwk(short)]],
    ["a symmetric key", (url) => token(url), [{ kty: "oct", kid: "own", k: "AAAA" }]],
    ["no keys", (url) => token(url), []],
    ["another nonce", (url) => token(url, { nonce: "0".repeat(64) })],
    ["no nonce", (url) => token(url, { nonce: undefined })],
    ["another audience", (url) => token(url, { aud: "other" })],
    ["another authorized party", (url) => token(url, { aud: [CLIENT, "other"], azp: "other" })],
    ["another issuer", (url) => token(url, { iss: "https://evil.example" })],
    ["expired", (url) => token(url, { exp: now - 61 })],
    ["of the future", (url) => token(url, { iat: now + 600 })],
    ["another domain", (url) => token(url, { email: "ann@other.example" })],
    ["a domain below", (url) => token(url, { email: "ann@a.corp.example" })],
    ["two addresses", (url) => token(url, { email: "ann@corp.example,bob@other.example" })],
    ["an address that is not verified", (url) => token(url, { email_verified: false })],
    ["no address", (url) => token(url, { email: undefined })],
    ["no subject", (url) => token(url, { sub: undefined })],
    ["no token", () => "abc"],
  ]);
  for (const [name, make, keys] of cases) {
    const browser = new Browser(worker);
    const url = await go(browser);
    give(make(url), keys);
    assert.deepEqual(refusal(await browser.call("GET", back(url))), INVALID, name);
    assert.equal(browser.cookies.has("__Host-session"), false, name);
    instead = {};
  }
  assert.deepEqual(await worker.sql("SELECT 1 FROM people WHERE email LIKE 'forged@%' OR email LIKE 'boss@%'"), []);
  // The same tokens, with nothing wrong: by RSA, and by a curve.
  for (const [of, key] of /** @type {[any, any][]} */ ([
    [header, rsa],
    [{ alg: "RS256" }, rsa],
    [{ alg: "ES256", kid: "own" }, ec],
  ])) {
    const browser = new Browser(worker);
    const url = await go(browser);
    give(token(url, {}, of, key), [jwk(key)]);
    const done = await browser.call("GET", back(url));
    assert.equal(done.status, 303, JSON.stringify(done.body));
    instead = {};
  }
  const wrong = new Browser(worker);
  assert.deepEqual(refusal(await wrong.call("GET", await allow(await go(wrong), stranger))), INVALID, "a person of another domain");
});

test("the provider is called within bounds, and only at public hosts", async () => {
  const described = { issuer: ISSUER, authorization_endpoint: `${IDP}/a`, token_endpoint: `${IDP}/t`, jwks_uri: `${IDP}/k` };
  for (const answer of [
    () => new Response("", { status: 500 }),
    () => new Response("<html>"),
    () => new Response("x".repeat(200_000)),
    () => new Response("", { status: 302, headers: { location: "https://evil.example/" } }),
    () => Response.json({ ...described, issuer: "https://evil.example" }),
    () => Response.json({ ...described, authorization_endpoint: "javascript:alert(1)" }),
    () => Response.json({ ...described, token_endpoint: "https://169.254.169.254/t" }),
    () => Response.json({ ...described, jwks_uri: "http://idp.corp.example/k" }),
    () => Response.json({ ...described, jwks_uri: "https://idp.corp.example:8443/k" }),
    () => Response.json({ ...described, token_endpoint_auth_methods_supported: ["private_key_jwt"] }),
  ]) {
    instead = { [DISCOVERY]: answer };
    assert.deepEqual(refusal(await ask(new Browser(worker), people[0].email)), CLOSED);
  }
  const who = person();
  for (const [of, answer, wanted] of /** @type {[string, () => Response, any][]} */ ([
    [TOKEN, () => new Response("", { status: 502 }), CLOSED],
    [TOKEN, () => Response.json({ access_token: "x" }), CLOSED],
    [TOKEN, () => new Response("", { status: 307, headers: { location: "https://evil.example/" } }), CLOSED],
    [TOKEN, () => Response.json({ error: "invalid_client" }, { status: 401 }), INVALID],
    [TOKEN, () => Response.json({ error: "invalid_grant" }, { status: 400 }), INVALID],
    [KEYS, () => new Response("", { status: 404 }), CLOSED],
    [KEYS, () => new Response("x".repeat(200_000)), CLOSED],
  ])) {
    instead = { [of]: answer };
    assert.deepEqual(refusal(await signIn(new Browser(worker), who)), wanted, of);
  }
  assert.ok(
    asked.every((url) => url.startsWith(IDP)),
    "no redirect is followed",
  );
});

test("a public name of the provider leads to no private address, whichever of its addresses is asked", async () => {
  const host = new URL(IDP).hostname;
  const closed = async () => assert.deepEqual(refusal(await ask(new Browser(worker), people[0].email)), CLOSED);
  for (const [v4, v6] of [
    [["127.0.0.1"], []],
    [["10.0.0.7"], []],
    [["169.254.169.254"], []],
    [["93.184.215.14", "192.168.0.1"], []],
    [["93.184.215.14"], ["::1"]],
    [["93.184.215.14"], ["fd00::1"]],
    [["93.184.215.14"], ["::ffff:10.0.0.1"]],
    [[], ["fe80::1"]],
    [[], []],
  ]) {
    addresses = { v4: { "*": v4 }, v6: { "*": v6 } };
    await closed();
  }
  addresses.away = () => Response.json({ Status: 2 });
  await closed();
  addresses.away = () => new Response("", { status: 500 });
  await closed();
  assert.deepEqual([asked, new Set(looked)], [[], new Set([host])], "the provider is not asked");
  // It moves after it was described, before its token and its keys are asked for.
  addresses = { v4: { "*": ["93.184.215.14"] }, v6: { "*": [] } };
  for (const [end, name] of [
    [TOKEN, "token.corp.example"],
    [KEYS, "keys.corp.example"],
  ]) {
    const endpoints = { authorization_endpoint: `${IDP}/a`, token_endpoint: `${IDP}${TOKEN}`, jwks_uri: `${IDP}${KEYS}` };
    const member = end === TOKEN ? "token_endpoint" : "jwks_uri";
    const description = { issuer: ISSUER, ...endpoints, [member]: `https://${name}/x` };
    instead = { [DISCOVERY]: () => Response.json(description) };
    const browser = new Browser(worker);
    const url = await go(browser);
    give(signed({ alg: "RS256", kid: "own" }, claimsOf(url), rsa));
    addresses.v4[name] = ["10.1.2.3"];
    assert.deepEqual(refusal(await browser.call("GET", back(url), undefined, { "sec-fetch-site": "cross-site" })), CLOSED, name);
    assert.equal(looked.at(-1), name);
  }
  assert.ok(
    asked.every((url) => url.startsWith(IDP)),
    "nothing was sent there",
  );
});

test("a secret is opened for its own row only, and under an older pepper", async () => {
  const [{ secret_sealed: sealed }] = await worker.sql("SELECT secret_sealed FROM oidc_connections WHERE tenant_id = ?", corp.id);
  const other = await company();
  const { paths } = (await worker.call("GET", "/v1/openapi.json")).body;
  const { example } = paths["/v1/tenant/oidc"].put.requestBody.content["application/json"];
  assert.equal((await other.browser.call("PUT", "/v1/tenant/oidc", example)).status, 200, "the documented body is taken");
  assert.equal((await set(other, { domain: "moved.example" })).status, 200);
  const [{ secret_sealed: moved }] = await worker.sql("SELECT secret_sealed FROM oidc_connections WHERE tenant_id = ?", other.id);
  const put = (text) => worker.sql("UPDATE oidc_connections SET secret_sealed = ? WHERE tenant_id = ?", text, corp.id);
  await put(moved);
  assert.deepEqual(refusal(await signIn(new Browser(worker), person())), [503, "MISCONFIGURED"]);
  await put(sealed);
  const state = mkdtempSync(join(tmpdir(), "x402-oidc-"));
  let second = await startWorker({ vars: VARS, outbound, state });
  try {
    const of = await company(second);
    await set(of, { domain: "turned.example" });
    await publish(of);
    assert.equal((await prove(of)).status, 200);
    await second.stop();
    second = await startWorker({ vars: { ...VARS, KEY_PEPPERS: `${"02".repeat(32)},${PEPPERS}` }, outbound, state });
    const browser = new Browser(second);
    const url = await go(browser, "ann@turned.example");
    give(signed({ alg: "RS256", kid: "own" }, claimsOf(url, { email: "ann@turned.example" }), rsa));
    const answer = instead[TOKEN];
    let sent = "";
    instead[TOKEN] = (request, body) => {
      sent = request.headers.get("authorization") ?? "";
      return answer(request, body);
    };
    const done = await browser.call("GET", back(url));
    assert.equal(done.status, 303, JSON.stringify(done.body));
    const form = (text) => new URLSearchParams({ a: text }).toString().slice(2).replaceAll("+", "%20");
    assert.equal(sent, `Basic ${Buffer.from(`${form(CLIENT)}:${form(CLIENT_SECRET)}`).toString("base64")}`);
  } finally {
    await second.stop();
    rmSync(state, { recursive: true, force: true });
  }
});

test("a domain belongs to one tenant, as long as its record is there", async () => {
  const [first, second] = [await company(), await company()];
  for (const of of [first, second]) {
    assert.equal((await set(of, { domain: "shared.example" })).status, 200);
    await publish(of);
  }
  assert.equal((await prove(first)).status, 200);
  assert.deepEqual(refusal(await prove(second)), [409, "DOMAIN_TAKEN"]);
  records.delete("_x402-edge.shared.example");
  await publish(second);
  assert.equal((await prove(second)).status, 200);
  assert.equal((await first.browser.call("GET", "/v1/tenant/oidc")).body.oidc.proven_at, null);
  const [lost] = (await first.browser.call("GET", "/v1/audit-log?action=oidc.taken")).body.data;
  assert.deepEqual([lost.subject, lost.actor_kind, lost.ip_prefix], ["shared.example", "system", "unknown"]);
  const url = await go(new Browser(worker), "ann@shared.example");
  assert.equal(url.searchParams.get("redirect_uri"), callback(second.id));
  assert.deepEqual(refusal(await prove(first)), [422, "INVALID_PROOF"]);
  const removed = await second.browser.call("DELETE", "/v1/tenant/oidc");
  assert.deepEqual([removed.status, removed.body.domain], [200, "shared.example"]);
  assert.deepEqual(refusal(await second.browser.call("DELETE", "/v1/tenant/oidc")), [404, "NOT_FOUND"]);
  assert.deepEqual(refusal(await ask(new Browser(worker), "ann@shared.example")), [404, "NOT_FOUND"]);
  const [gone] = (await second.browser.call("GET", "/v1/audit-log?action=oidc.removed")).body.data;
  assert.equal(gone.subject, "shared.example");
  // Another domain is another proof.
  assert.equal((await set(first, { domain: "next.example" })).body.oidc.proven_at, null);
});

test("of a smaller tier, or a suspended tenant, nobody signs in, and the settings stay", async () => {
  const who = person();
  const browser = new Browser(worker);
  const begun = await allow(await go(browser, who.email), who);
  const patch = (body) => worker.call("PATCH", `/v1/admin/tenants/${corp.id}`, { admin: true, body });
  for (const [change, undo] of /** @type {[any, any][]} */ ([
    [{ tier: "pro" }, { tier: "enterprise" }],
    [{ status: "suspended" }, { status: "active" }],
  ])) {
    assert.equal((await patch(change)).status, 200);
    assert.deepEqual(refusal(await ask(new Browser(worker), who.email)), [404, "NOT_FOUND"]);
    assert.deepEqual(refusal(await browser.call("GET", begun)), INVALID, "one that was begun before");
    assert.equal((await corp.browser.call("GET", "/v1/tenant/oidc")).status, 200);
    assert.equal((await patch(undo)).status, 200);
  }
  assert.equal((await signIn(new Browser(worker), who)).status, 303);
});

test("a tenant has so many members, and its people no more", async () => {
  const who = person();
  const ids = Array.from({ length: 100 }, (_, at) => `per_01KB${String(at).padStart(22, "0")}`);
  for (const id of ids) {
    await worker.sql("INSERT INTO people VALUES (?, ?, 1)", id, `${id}@full.example`);
    await worker.sql("INSERT INTO members VALUES (?, ?, 'viewer', 1)", corp.id, id);
  }
  assert.deepEqual(refusal(await signIn(new Browser(worker), who)), INVALID);
  await worker.sql("DELETE FROM members WHERE tenant_id = ? AND created_ms = 1", corp.id);
  assert.equal((await signIn(new Browser(worker), who)).status, 303);
});

test("sign-ins that are begun are bounded by network, and name an address", async () => {
  const from = network();
  const begin = () => new Browser(worker).call("GET", `/v1/session/oidc?email=${people[0].email}`, undefined, from);
  const answers = await Promise.all(Array.from({ length: 24 }, begin));
  assert.equal(answers.filter(({ status }) => status === 303).length, 20);
  assert.deepEqual(refusal(await begin()), [429, "RATE_LIMITED"]);
  for (const query of ["", "?email=", "?email=ann", "?email=ann@corp.example%20"]) {
    assert.deepEqual(refusal(await new Browser(worker).call("GET", `/v1/session/oidc${query}`)), [422, "INVALID_REQUEST"], query);
  }
});

// The clock goes forward from here on.
test("a page of another site begins no sign-in, and uses up none", async () => {
  const from = network();
  const begin = (headers) =>
    new Browser(worker).call("GET", `/v1/session/oidc?email=${people[0].email}`, undefined, { ...from, ...headers });
  for (const headers of [
    { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" },
    { "sec-fetch-site": "same-site", "sec-fetch-mode": "navigate" },
    { "sec-fetch-site": "same-origin", "sec-fetch-mode": "no-cors" },
  ])
    for (let times = 0; times < 8; times++) assert.deepEqual(refusal(await begin(headers)), [403, "CROSS_ORIGIN"]);
  assert.equal((await begin({ "sec-fetch-site": "none", "sec-fetch-mode": "navigate" })).status, 303, "an address that is typed");
});

test("a state is over after ten minutes, and a proof is checked again after a day", async () => {
  const who = people[0];
  const browser = new Browser(worker);
  const late = await allow(await go(browser, who.email), who);
  assert.ok(!asked.some((url) => url.includes("cloudflare-dns")), "not before");
  await worker.advance(10 * 60_000 + 1);
  assert.deepEqual(refusal(await browser.call("GET", late)), INVALID);
  await worker.advance(DAY);
  const kept = records.get("_x402-edge.corp.example") ?? [];
  records.delete("_x402-edge.corp.example");
  assert.deepEqual(refusal(await ask(new Browser(worker), who.email)), INVALID, "the record is gone");
  instead = { dns: () => new Response("", { status: 500 }) };
  assert.deepEqual(refusal(await ask(new Browser(worker), who.email)), CLOSED);
  instead = {};
  const byMail = new Browser(worker);
  assert.equal((await byMail.logIn(who.email)).status, 202);
  const { token } = await mailTo(worker, who.email.toLowerCase());
  assert.equal((await byMail.session({ token })).status, 201, "a mail signs in");
  records.set("_x402-edge.corp.example", kept);
  asked = [];
  await go(new Browser(worker), who.email);
  await go(new Browser(worker), who.email);
  assert.equal(asked.filter((url) => url.includes("cloudflare-dns")).length, 1, "and once");
});
