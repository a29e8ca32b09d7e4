// Signing in by GitHub, which `emulate` plays. It does not look at PKCE, so the way to it does.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, beforeEach, test } from "node:test";
import { createEmulator } from "emulate";
import { Response, fetch as passed } from "miniflare";
import { Browser, address, mailTo, mailsTo, network, signedUp } from "./browser.mjs";
import { startWorker, until } from "./worker.mjs";

const MINUTE = 60_000;
const URL_OF_PAGES = "https://pay.example";
const CALLBACK = `${URL_OF_PAGES}/v1/session/github/callback`;
const [CLIENT, CLIENT_SECRET] = ["Iv1.of-this-test", "a-client-secret-of-this-test"];
const VARS = { MAIL_BACKEND: "mailbox", PUBLIC_URL: URL_OF_PAGES, GITHUB_CLIENT_ID: CLIENT, GITHUB_CLIENT_SECRET: CLIENT_SECRET };
/** A page of our own, as a browser says it. */
const OWN = { origin: URL_OF_PAGES, "sec-fetch-site": undefined };
const refusal = ({ status, body }) => [status, body?.error_code];
const INVALID = [401, "INVALID_SIGN_IN"];

const people = Array.from({ length: 20 }, (_, at) => ({ login: `person-${at}`, email: address(), name: `Person ${at}` }));
let unused = 0;
/** A person at GitHub who has not signed in here. */
const person = () => people[unused++];

/** The challenges of codes, as GitHub keeps them. @type {Map<string, string>} */
const challenges = new Map();
/** What a path of GitHub answers instead. @type {Record<string, () => Response | Promise<Response>>} */
let instead = {};
let github;

async function outbound(request) {
  const { host, pathname } = new URL(request.url);
  if (!["github.com", "api.github.com"].includes(host)) return passed(request);
  assert.equal(host === "github.com", pathname === "/login/oauth/access_token", request.url);
  assert.equal(request.headers.get("user-agent"), "x402-edge");
  if (instead[pathname]) return instead[pathname]();
  const { method } = request;
  const body = method === "POST" ? await request.text() : undefined;
  if (body) {
    const { code, code_verifier: verifier, redirect_uri: to } = JSON.parse(body);
    const challenge = createHash("sha256").update(verifier).digest("base64url");
    if (challenges.get(code) !== challenge || to !== CALLBACK) return Response.json({ error: "bad_verification_code" });
  }
  const answer = await fetch(`${github.url}${pathname}`, { method, headers: [...request.headers], body });
  return new Response(await answer.text(), { status: answer.status });
}

let worker;
before(async () => {
  const apps = [{ client_id: CLIENT, client_secret: CLIENT_SECRET, name: "x402-edge", redirect_uris: [CALLBACK] }];
  github = await createEmulator({ service: "github", port: 0, seed: { github: { users: people, oauth_apps: apps } } });
  worker = await startWorker({ vars: VARS, outbound });
});
after(async () => {
  await worker.stop();
  await github.close();
});
beforeEach(() => {
  instead = {};
});

/** Sends a browser to GitHub; the address it is sent to. */
async function go(browser) {
  const sent = await browser.call("GET", "/v1/session/github");
  assert.equal(sent.status, 303);
  return { url: new URL(sent.headers.location), setCookie: sent.setCookie };
}

/** A person allows the app at GitHub; the path with which GitHub sends the browser back. */
async function allow(url, { login }) {
  const given = Object.fromEntries(url.searchParams);
  const { code_challenge: challenge, code_challenge_method: way, ...fields } = given;
  assert.equal(way, "S256");
  const answer = await fetch(`${github.url}/login/oauth/callback`, {
    method: "POST",
    redirect: "manual",
    body: new URLSearchParams({ login, ...fields }),
  });
  const back = new URL(answer.headers.get("location") ?? "");
  assert.equal(`${back.origin}${back.pathname}`, CALLBACK);
  challenges.set(back.searchParams.get("code") ?? "", challenge);
  return `${back.pathname}${back.search}`;
}

/** A whole sign-in. */
async function signIn(browser, who) {
  return browser.call("GET", await allow((await go(browser)).url, who), undefined, { "sec-fetch-site": "cross-site" });
}

test("a person signs in by GitHub, and the tenant that is made is theirs", async () => {
  const who = person();
  const browser = new Browser(worker);
  const { url, setCookie } = await go(browser);
  assert.equal(`${url.origin}${url.pathname}`, "https://github.com/login/oauth/authorize");
  const { state, code_challenge: challenge, ...rest } = Object.fromEntries(url.searchParams);
  assert.deepEqual(rest, { client_id: CLIENT, redirect_uri: CALLBACK, scope: "user:email", code_challenge_method: "S256" });
  assert.match(`${state} ${challenge}`, /^[0-9a-f]{64} [\w-]{43}$/);
  assert.match(setCookie.join(), /^__Host-oauth=[0-9a-f]{64}; Max-Age=600; Path=\/; Secure; HttpOnly; SameSite=Lax$/);
  const done = await browser.call("GET", await allow(url, who), undefined, { "sec-fetch-site": "cross-site" });
  assert.deepEqual([done.status, done.headers.location], [303, `${URL_OF_PAGES}/`]);
  const { body } = await browser.call("GET", "/v1/session");
  assert.deepEqual([body.session.person.email, body.session.role, body.session.tenant.tier], [who.email, "owner", "free"]);
  assert.deepEqual(await worker.sql("SELECT id FROM api_keys WHERE tenant_id = ?", body.session.tenant.id), [], "no key is made unseen");
  const audit = await browser.call("GET", "/v1/audit-log");
  assert.deepEqual(
    audit.body.data.map(({ action }) => action),
    ["member.joined", "tenant.created"],
  );
  const again = new Browser(worker);
  assert.equal((await signIn(again, who)).status, 303);
  assert.equal((await again.call("GET", "/v1/session")).body.session.tenant.id, body.session.tenant.id);
});

test("a sign-in begins by a link that a person follows, and makes the browser known", async () => {
  const rows = async () => (await worker.sql("SELECT COUNT(*) AS n FROM oauth_states"))[0].n;
  const before = await rows();
  const browser = new Browser(worker);
  for (const mode of ["no-cors", "cors", "same-origin", "websocket", ""]) {
    const site = { "sec-fetch-site": "cross-site", "sec-fetch-dest": "image", "sec-fetch-mode": mode };
    const refused = await browser.call("GET", "/v1/session/github", undefined, site);
    assert.deepEqual([...refusal(refused), refused.setCookie], [403, "CROSS_ORIGIN", []], mode);
  }
  // A page of another origin that leads its reader there.
  for (const site of ["cross-site", "same-site", ""]) {
    const led = { "sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
    const refused = await browser.call("GET", "/v1/session/github", undefined, led);
    assert.deepEqual([...refusal(refused), refused.setCookie], [403, "CROSS_ORIGIN", []], site);
  }
  assert.equal(await rows(), before);
  const typed = await new Browser(worker).call("GET", "/v1/session/github", undefined, {
    "sec-fetch-site": "none",
    "sec-fetch-mode": "navigate",
  });
  assert.equal(typed.status, 303, "an address that is typed");
  const followed = await browser.call("GET", "/v1/session/github", undefined, { "sec-fetch-mode": "navigate" });
  const path = await allow(new URL(followed.headers.location ?? ""), person());
  const { setCookie } = await browser.call("GET", path, undefined, { "sec-fetch-site": "cross-site" });
  assert.match(setCookie.join(" "), /^__Host-session=\S{64}; .* __Host-known=[0-9a-f]{64}; Max-Age=15552000; /);
});

/** Every row of the directory, but what ledgers copy there: what was used, and when a key was. */
async function directory() {
  const tables = await worker.sql("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\'");
  const all = {};
  for (const { name } of tables.filter(({ name }) => !name.startsWith("sqlite_") && name !== "period_usage"))
    all[name] = (await worker.sql(`SELECT * FROM ${name}`)).map(({ last_used_ms: _, ...row }) => JSON.stringify(row)).sort();
  return all;
}

test("a HEAD begins no sign-in and redeems no code, and changes nothing on any route", async () => {
  const browser = new Browser(worker);
  const { url } = await go(browser);
  const path = await allow(url, person());
  const owner = await signedUp(worker);
  const [{ key }] = [await worker.tenant()].map(({ live }) => ({ key: live }));
  await until(
    async () => (await worker.sql("SELECT 1 FROM directory_outbox WHERE shipped_ms IS NULL OR heard_ms IS NULL")).length === 0,
    "the events of both",
  );
  const before = await directory();
  const { paths } = (await worker.call("GET", "/v1/openapi.json")).body;
  const gets = Object.entries(paths).filter(([, { get }]) => get);
  assert.ok(gets.length > 30, `${gets.length} routes`);
  for (const [template] of gets) {
    const route = template.replaceAll(/\{[a-z_]+\}/g, "x");
    const answers = [await owner.browser.call("HEAD", route)];
    answers.push(await worker.call("HEAD", route, { key }), await worker.call("HEAD", route, { admin: true, headers: network() }));
    // Billing and metrics are not set up here, and chains are not reached.
    const isAway = template.endsWith("health") || template.startsWith("/v1/billing") || template === "/metrics";
    for (const { status } of answers) assert.ok(status < 500 || isAway, `${template}: ${status}`);
  }
  for (const opened of ["/v1/session/github", path, "/v1/session/oidc?email=a@b.example"]) {
    const { status, headers, setCookie } = await browser.call("HEAD", opened, undefined, { "sec-fetch-mode": "navigate" });
    assert.deepEqual([status, headers.allow, setCookie], [405, "GET, OPTIONS", []], opened);
  }
  const after = await directory();
  for (const [table, rows] of Object.entries(before)) assert.deepEqual(after[table], rows, table);
  // The code is still good.
  const done = await browser.call("GET", path, undefined, { "sec-fetch-site": "cross-site" });
  assert.deepEqual([done.status, done.setCookie.length], [303, 2]);
});

test("neither the directory nor the log holds what signs in", async () => {
  const browser = new Browser(worker);
  const { url } = await go(browser);
  const path = await allow(url, person());
  await browser.call("GET", path);
  const rows = JSON.stringify([await worker.sql("SELECT * FROM oauth_states"), await worker.sql("SELECT * FROM identities")]);
  const secrets = [...browser.cookies.values(), url.searchParams.get("state"), new URLSearchParams(path.split("?")[1]).get("code")];
  for (const secret of [...secrets, CLIENT_SECRET]) {
    assert.ok(secret && !rows.includes(secret) && !worker.log.lines.join("\n").includes(secret));
  }
});

test("a person who signed up by a mail is the same by GitHub, and stays so with another address", async () => {
  const who = person();
  const byMail = new Browser(worker);
  await byMail.call("POST", "/v1/signup", { email: who.email }, OWN);
  const made = await byMail.session({ token: (await mailTo(worker, who.email)).token }, OWN);
  const browser = new Browser(worker);
  assert.equal((await signIn(browser, who)).status, 303);
  const first = (await browser.call("GET", "/v1/session")).body.session;
  assert.deepEqual([first.person.id, first.tenant.id], [made.body.session.person.id, made.body.session.tenant.id]);
  // GitHub names them by its id; the address there may be another, or none that is verified.
  for (const emails of [[{ email: address(), primary: true, verified: true }], [{ email: who.email, primary: true, verified: false }]]) {
    instead = { "/user/emails": () => Response.json(emails) };
    const later = new Browser(worker);
    assert.equal((await signIn(later, who)).status, 303);
    assert.equal((await later.call("GET", "/v1/session")).body.session.person.id, first.person.id);
  }
});

/** A person who has signed up by a mail; the browser, and the session's body. */
async function byMail(email) {
  const browser = new Browser(worker);
  await browser.call("POST", "/v1/signup", { email }, OWN);
  return { browser, made: (await browser.session({ token: (await mailTo(worker, email)).token }, OWN)).body };
}

const linkedMails = async (email) => (await mailsTo(worker, email)).filter(({ subject }) => subject.includes("GitHub account"));

test("an account that is linked to a person who was there is reported by a mail and in each tenant's log", async () => {
  const who = person();
  const { browser: owner, made } = await byMail(who.email);
  const other = await byMail(address());
  const { id: self } = made.session.person;
  const second = other.made.session.tenant.id;
  await worker.sql("INSERT INTO members (tenant_id, person_id, role, created_ms) VALUES (?, ?, 'viewer', ?)", second, self, Date.now());
  const browser = new Browser(worker);
  assert.equal((await signIn(browser, who)).status, 303);
  const [mail] = await until(async () => (await linkedMails(who.email)).length && linkedMails(who.email), "the mail");
  const [linked] = (await owner.call("GET", "/v1/session/identities")).body.data;
  assert.match(linked.id, /^github-\d+$/);
  const network = browser.network["cf-connecting-ip"].replace(/1$/, "0/24");
  for (const part of [who.login, linked.id.replace("github-", ""), linked.linked_at, network, "remove the account", URL_OF_PAGES]) {
    for (const text of [mail.text, mail.html]) assert.ok(text.includes(part), `${part}: ${text}`);
  }
  assert.ok(linked.last_used_at);
  assert.deepEqual([linked.provider, linked.name, linked.ip_prefix, linked.ended_at], ["github", who.login, network, null]);
  for (const tenant of [made.session.tenant.id, second]) {
    const rows = await worker.sql("SELECT * FROM audit_log WHERE tenant_id = ? AND action = 'identity.linked'", tenant);
    assert.deepEqual(
      rows.map(({ actor_kind, actor_id, subject, detail, ip_prefix }) => [actor_kind, actor_id, subject, detail, ip_prefix]),
      [["person", self, who.email, "github", network]],
    );
  }
  // Only the first time, and not for somebody who is new.
  assert.equal((await signIn(new Browser(worker), who)).status, 303);
  const fresh = person();
  const newcomer = new Browser(worker);
  assert.equal((await signIn(newcomer, fresh)).status, 303);
  const { tenant } = (await newcomer.call("GET", "/v1/session")).body.session;
  assert.deepEqual(await worker.sql("SELECT 1 FROM audit_log WHERE tenant_id = ? AND action = 'identity.linked'", tenant.id), []);
  await worker.cron("* * * * *");
  assert.equal((await worker.sql("SELECT 1 FROM mails WHERE kind = 'identity' AND address = ?", who.email)).length, 1);
  assert.deepEqual(await worker.sql("SELECT 1 FROM mails WHERE address = ?", fresh.email), []);
  assert.equal((await worker.sql("SELECT 1 FROM audit_log WHERE action = 'identity.linked' AND actor_id = ?", self)).length, 2);
});

test("the first owner of an operator's tenant is reported too", async () => {
  const who = person();
  const { view } = await worker.tenant({ email: who.email });
  const browser = new Browser(worker);
  assert.equal((await signIn(browser, who)).status, 303);
  assert.equal((await browser.call("GET", "/v1/session")).body.session.tenant.id, view.id);
  await until(async () => (await linkedMails(who.email)).length === 1, "the mail");
  const rows = await worker.sql("SELECT 1 FROM audit_log WHERE tenant_id = ? AND action = 'identity.linked'", view.id);
  assert.equal(rows.length, 1);
});

test("a person shuts a linked account out, which is then linked to nobody again", async () => {
  const who = person();
  const { browser: owner, made } = await byMail(who.email);
  const byGithub = new Browser(worker);
  await signIn(byGithub, who);
  const list = async (browser) => (await browser.call("GET", "/v1/session/identities")).body.data;
  const [{ id }] = await list(owner);
  const stranger = (await byMail(address())).browser;
  assert.deepEqual(await list(stranger), []);
  const own = /** @type {Record<string, string | undefined>} */ (OWN);
  const end = (browser, which, headers = own) => browser.call("DELETE", `/v1/session/identities/${which}`, undefined, headers);
  assert.deepEqual(refusal(await end(stranger, id)), [404, "NOT_FOUND"], "another person's");
  const document = (await worker.call("GET", "/v1/openapi.json")).body.paths["/v1/session/identities/{id}"];
  const [{ example }] = document.delete.parameters;
  assert.match(example, /^github-\d+$/);
  for (const none of [example, "x", "github-", "github-1", "gitlab-1"])
    assert.deepEqual(refusal(await end(owner, none)), [404, "NOT_FOUND"], none);
  const elsewhere = { origin: "https://evil.example", "sec-fetch-site": "cross-site" };
  assert.deepEqual(refusal(await end(owner, id, elsewhere)), [403, "CROSS_ORIGIN"]);
  assert.deepEqual(refusal(await end(new Browser(worker), id)), [401, "INVALID_SESSION"]);
  assert.equal((await list(owner))[0].ended_at, null);
  const ended = await end(owner, id);
  assert.deepEqual([ended.status, ended.body.identity], [200, (await list(owner))[0]]);
  assert.ok(ended.body.identity.ended_at);
  assert.deepEqual((await end(owner, id)).body, ended.body, "a repeat changes nothing");
  const log = await worker.sql(
    "SELECT actor_id, subject, detail FROM audit_log WHERE tenant_id = ? AND action = 'identity.ended'",
    made.session.tenant.id,
  );
  assert.deepEqual(log, [{ actor_id: made.session.person.id, subject: who.email, detail: "github" }]);
  // Sessions go on; a new one takes a mail. Neither the same address nor another one links the account again.
  assert.equal((await byGithub.call("GET", "/v1/session")).status, 200);
  for (const emails of [undefined, [{ email: address(), primary: true, verified: true }]]) {
    instead = emails ? { "/user/emails": () => Response.json(emails) } : {};
    const browser = new Browser(worker);
    const refused = await signIn(browser, who);
    assert.deepEqual(refusal(refused), INVALID);
    assert.match(refused.body.detail, /removed/);
    assert.equal(browser.cookies.has("__Host-session"), false);
  }
  assert.equal((await list(owner)).length, 1);
  const again = new Browser(worker);
  await again.call("POST", "/v1/login", { email: who.email }, OWN);
  const mail = await until(async () => (await mailsTo(worker, who.email)).find(({ subject }) => subject === "Sign in"), "the mail");
  assert.equal((await again.session({ token: mail.text.match(/#token=([0-9a-f]{64})/)?.[1] }, OWN)).status, 201);
});

test("an address that GitHub has not verified, or that is not the primary one, signs nobody in", async () => {
  const victim = new Browser(worker);
  const email = address();
  await victim.call("POST", "/v1/signup", { email }, OWN);
  await victim.session({ token: (await mailTo(worker, email)).token }, OWN);
  const other = { email: address(), primary: true, verified: false };
  const who = person();
  for (const emails of [
    [{ email, primary: true, verified: false }],
    [{ email, primary: false, verified: true }, other],
    [{ email, primary: true }],
    [],
    {},
  ]) {
    instead = { "/user/emails": () => Response.json(emails) };
    const browser = new Browser(worker);
    assert.deepEqual(refusal(await signIn(browser, who)), INVALID, JSON.stringify(emails));
    assert.equal(browser.cookies.has("__Host-session"), false);
  }
  assert.deepEqual(await worker.sql("SELECT 1 FROM people WHERE email = ?", other.email), []);
});

test("a state counts once, in the browser that it was made for, for ten minutes", async () => {
  const who = person();
  const browser = new Browser(worker);
  const path = await allow((await go(browser)).url, who);
  assert.deepEqual(refusal(await new Browser(worker).call("GET", path)), INVALID, "no cookie");
  const another = new Browser(worker);
  await go(another);
  assert.deepEqual(refusal(await another.call("GET", path)), INVALID, "another browser's cookie");
  assert.deepEqual(refusal(await browser.call("GET", path, undefined, { authorization: "Bearer x" })), INVALID, "beside a key");
  const own = new URLSearchParams(path.split("?")[1]);
  const changed = (name, value) => {
    const query = new URLSearchParams(own);
    if (value === undefined) query.delete(name);
    else query.set(name, value);
    return `/v1/session/github/callback?${query}`;
  };
  for (const wrong of [
    changed("state", "00".repeat(32)),
    changed("state", undefined),
    changed("code", undefined),
    changed("code", "x".repeat(300)),
    "/v1/session/github/callback?error=access_denied",
    "/v1/session/github/callback",
  ])
    assert.deepEqual(refusal(await browser.call("GET", wrong)), INVALID, wrong);
  const cookie = `__Host-oauth=${browser.cookies.get("__Host-oauth")}`;
  const at = await Promise.all(Array.from({ length: 4 }, () => new Browser(worker).call("GET", path, undefined, { cookie })));
  assert.deepEqual(at.map(({ status }) => status).sort(), [303, 401, 401, 401]);
  // A code that somebody else has got is worth nothing: its verifier is the other browser's.
  const thief = new Browser(worker);
  const { url } = await go(thief);
  const stolen = new URLSearchParams((await allow((await go(new Browser(worker))).url, who)).split("?")[1]).get("code");
  const with_ = `/v1/session/github/callback?code=${stolen}&state=${url.searchParams.get("state")}`;
  assert.deepEqual(refusal(await thief.call("GET", with_)), INVALID);
});

test("a sign-in ends the session that the browser had", async () => {
  const who = person();
  const browser = new Browser(worker);
  await signIn(browser, who);
  const former = browser.cookies.get("__Host-session");
  await signIn(browser, who);
  const old = await new Browser(worker).call("GET", "/v1/session", undefined, { cookie: `__Host-session=${former}` });
  assert.deepEqual(refusal(old), [401, "INVALID_SESSION"]);
});

test("where GitHub does not answer, nobody is signed in", async () => {
  const who = person();
  const closed = [503, "UPSTREAM_UNAVAILABLE"];
  for (const [path, answer, wanted] of /** @type {[string, () => Response, [number, string]][]} */ ([
    ["/login/oauth/access_token", () => new Response("", { status: 502 }), closed],
    ["/login/oauth/access_token", () => new Response("<html>"), closed],
    ["/login/oauth/access_token", () => Response.json({ error: "incorrect_client_credentials" }), [503, "MISCONFIGURED"]],
    ["/login/oauth/access_token", () => Response.json({ error: "bad_verification_code" }), INVALID],
    ["/user", () => new Response("", { status: 401 }), closed],
    ["/user", () => Response.json({ login: who.login }), closed],
    ["/user/emails", () => new Response("", { status: 403 }), closed],
    ["/user/emails", () => new Response("x".repeat(100_000)), closed],
  ])) {
    instead = { [path]: answer };
    assert.deepEqual(refusal(await signIn(new Browser(worker), who)), wanted, path);
  }
  assert.deepEqual(await worker.sql("SELECT 1 FROM people WHERE email = ?", who.email), []);
});

test("a page of another origin is not where a sign-in ends", async () => {
  const browser = new Browser(worker);
  const who = person();
  for (const query of ["?redirect_uri=https://evil.example", "?next=//evil.example", "?return_to=https://evil.example"]) {
    const sent = await browser.call("GET", `/v1/session/github${query}`, undefined, {
      host: "evil.example",
      "sec-fetch-site": "none",
    });
    assert.equal(new URL(String(sent.headers.location)).searchParams.get("redirect_uri"), CALLBACK);
    const path = await allow(new URL(String(sent.headers.location)), who);
    const done = await browser.call("GET", `${path}&${query.slice(1)}`, undefined, { host: "evil.example" });
    assert.equal(done.headers.location, `${URL_OF_PAGES}/`);
  }
  assert.equal((await browser.call("POST", "/v1/session/github", {})).status, 405);
});

test("sign-ins that are begun are bounded by network", async () => {
  const from = network();
  const answers = await Promise.all(
    Array.from({ length: 24 }, () => new Browser(worker).call("GET", "/v1/session/github", undefined, from)),
  );
  assert.equal(answers.filter(({ status }) => status === 303).length, 20);
  assert.deepEqual(refusal(await new Browser(worker).call("GET", "/v1/session/github", undefined, from)), [429, "RATE_LIMITED"]);
});

test("without its settings there is no such route", async () => {
  const bare = await startWorker();
  try {
    for (const path of ["/v1/session/github", "/v1/session/github/callback?code=a&state=b"]) {
      assert.deepEqual(refusal(await new Browser(bare).call("GET", path)), [404, "NOT_FOUND"], path);
    }
  } finally {
    await bare.stop();
  }
});

// The clock goes forward from here on.
test("a state is over after ten minutes, and deleted after a day", async () => {
  const who = person();
  const browser = new Browser(worker);
  const late = await allow((await go(browser)).url, who);
  await worker.advance(10 * MINUTE + 1);
  assert.deepEqual(refusal(await browser.call("GET", late)), INVALID);
  await worker.advance(24 * 60 * MINUTE);
  await worker.cron("17 3 * * *");
  await until(async () => (await worker.sql("SELECT 1 FROM oauth_states")).length === 0, "no state");
});
