// Signing up and in by a mail on the real Worker, with D1 and the queue; sessions, cookies and pages of other origins.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, address, mailTo, mailsTo, network, signedUp } from "./browser.mjs";
import { startWorker, until } from "./worker.mjs";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } })));
after(() => worker.stop());

const refusal = ({ status, body }) => [status, body.error_code];
const INVALID = [401, "INVALID_SIGN_IN"];
const other = (code) => String((Number(code) + 1) % 1_000_000).padStart(6, "0");

test("a sign-up makes a free tenant with two keys, shown once", async () => {
  const email = address();
  const browser = new Browser(worker);
  const asked = await browser.signUp(email.toUpperCase(), { company_name: "Example Ltd" });
  assert.equal(asked.status, 202);
  assert.equal(asked.body.email, email);
  assert.ok(Date.parse(asked.body.expires_at) > Date.now());
  const mail = await mailTo(worker, email);
  const made = await browser.session({ code: mail.code });
  assert.equal(made.status, 201);
  const { session, tenants, api_keys: keys } = made.body;
  assert.deepEqual([session.person.email, session.role, session.tenant.tier, session.tenant.status], [email, "owner", "free", "active"]);
  assert.deepEqual(tenants, [{ id: session.tenant.id, company_name: "Example Ltd", role: "owner" }]);
  for (const environment of ["live", "test"]) {
    const { body } = await worker.call("GET", "/v1/whoami", { key: keys[environment] });
    assert.deepEqual([body.tenant.id, body.environment], [session.tenant.id, environment]);
  }
  const read = await browser.call("GET", "/v1/session");
  assert.deepEqual([read.status, read.body], [200, { session, tenants }]);
  const again = await new Browser(worker).signUp(email);
  assert.deepEqual(Object.keys(again.body), Object.keys(asked.body));
  const second = await mailTo(worker, email, 2);
  assert.match(second.text, /already have an account/);
  const signedIn = await browser.session({ token: second.token });
  assert.deepEqual([signedIn.status, signedIn.body.api_keys], [201, null]);
  assert.equal(signedIn.body.session.tenant.id, session.tenant.id);
});

test("known and unknown addresses are answered alike, and only the mail differs", async () => {
  const { email: known } = await signedUp(worker);
  const unknown = address();
  for (const way of ["signUp", "logIn"]) {
    const answers = [];
    for (const email of [known, unknown]) answers.push(await new Browser(worker)[way](email));
    const [one, two] = answers.map(({ status, headers, body, setCookie }) => ({
      status,
      headers: Object.keys(headers).sort(),
      body: Object.keys(body),
      cookie: setCookie.map((text) => text.replace(/[0-9a-f]{64}/, "…")),
    }));
    assert.deepEqual(one, two, way);
    assert.equal(one.status, 202);
  }
  const [login] = (await until(async () => (await mailsTo(worker, unknown)).length === 2 && mailsTo(worker, unknown), "both mails")).filter(
    ({ subject }) => subject.startsWith("No account"),
  );
  assert.ok(login && !/\d{6}|token/.test(login.text), login?.text);
  // Nobody is made by asking.
  assert.deepEqual(await worker.sql("SELECT id FROM people WHERE email = ?", unknown), []);
});

test("neither the directory nor an answer holds a token or a code", async () => {
  const email = address();
  const asked = await new Browser(worker).signUp(email);
  const { token, code, id } = await mailTo(worker, email);
  const [row] = await worker.sql("SELECT * FROM sign_ins WHERE email = ?", email);
  const [mail] = await worker.sql("SELECT * FROM mails WHERE id = ?", id);
  assert.equal(mail.state, "sent");
  for (const text of [row, mail, asked.body, asked.headers].map((each) => JSON.stringify(each))) {
    assert.ok(!text.includes(token) && !text.includes(`"${code}"`), text);
  }
});

test("a code counts in the browser that asked for it, and the link in any", async () => {
  const email = address();
  const [own, another] = [new Browser(worker), new Browser(worker)];
  await own.signUp(email);
  await another.signUp(address());
  const { code, token } = await mailTo(worker, email);
  assert.deepEqual(refusal(await new Browser(worker).session({ code })), INVALID);
  assert.deepEqual(refusal(await another.session({ code })), INVALID);
  assert.equal((await another.session({ token })).status, 201);
});

test("five codes are compared and no sixth, also when they come at once", async () => {
  const email = address();
  const browser = new Browser(worker);
  await browser.signUp(email);
  const { code } = await mailTo(worker, email);
  const guesses = await Promise.all(Array.from({ length: 12 }, () => browser.session({ code: other(code) })));
  for (const guess of guesses) assert.deepEqual(refusal(guess), INVALID);
  const [{ tries }] = await worker.sql("SELECT tries FROM sign_ins WHERE email = ?", email);
  assert.equal(tries, 5);
  assert.deepEqual(refusal(await browser.session({ code })), INVALID);
  const second = address();
  await browser.signUp(second);
  const mail = await mailTo(worker, second);
  for (let guess = 0; guess < 4; guess++) assert.deepEqual(refusal(await browser.session({ code: other(mail.code) })), INVALID);
  assert.equal((await browser.session({ code: mail.code })).status, 201);
});

/** A browser of a network that has asked for a mail to a new address; with what the mail holds. */
async function asked(from = network()) {
  const browser = new Browser(worker);
  browser.network = from;
  const email = address();
  assert.equal((await browser.signUp(email)).status, 202);
  return { browser, email, ...(await mailTo(worker, email)) };
}

const STOPPED = [429, "RATE_LIMITED"];
/** What an answer says, without what belongs to one request. */
const said = ({ status, headers, body: { request_id: _, retry_after_s: wait, ...body } }) => [
  status,
  headers["content-type"],
  wait > 0,
  body,
];
const wrongOf = async (prefix) => (await worker.sql("SELECT wrong FROM wrong_codes WHERE ip_prefix = ?", prefix))[0]?.wrong ?? 0;

test("from a network with twenty wrong codes no code is compared, and links sign in", async () => {
  const from = network();
  const prefix = from["cf-connecting-ip"].replace(/1$/, "0/24");
  const all = await wrongOf("all");
  for (let at = 0; at < 4; at++) {
    const { browser, code } = await asked(from);
    const guesses = at < 3 ? 5 : 4;
    for (let guess = 0; guess < guesses; guess++) assert.deepEqual(refusal(await browser.session({ code: other(code) })), INVALID);
  }
  // A right code is none of them, however often one signs in.
  for (let at = 0; at < 2; at++) {
    const { browser, code } = await asked(from);
    assert.equal((await browser.session({ code })).status, 201);
  }
  assert.deepEqual([await wrongOf(prefix), (await wrongOf("all")) - all], [19, 19]);
  const [one, two] = [await asked(from), await asked(from)];
  const guesses = await Promise.all(Array.from({ length: 5 }, () => one.browser.session({ code: other(one.code) })));
  assert.deepEqual(guesses.map(({ status }) => status).sort(), [401, 429, 429, 429, 429], "also of those that come at once");
  assert.deepEqual([await wrongOf(prefix), (await wrongOf("all")) - all], [20, 20]);
  const [right, wrong] = [await two.browser.session({ code: two.code }), await two.browser.session({ code: other(two.code) })];
  assert.deepEqual(refusal(right), STOPPED);
  assert.deepEqual(said(right), said(wrong), "which of them was right is not said");
  assert.match(right.body.detail, /link/);
  assert.ok(Number(right.headers["retry-after"]) <= 86_400);
  assert.deepEqual(await worker.sql("SELECT tries FROM sign_ins WHERE email = ?", two.email), [{ tries: 0 }], "it was not compared");
  const elsewhere = await asked();
  assert.equal((await elsewhere.browser.session({ code: elsewhere.code })).status, 201, "another network");
  assert.equal((await two.browser.session({ token: two.token })).status, 201, "the link");
  // From then on the browser shows that the person has signed in in it.
  await two.browser.logIn(two.email);
  const { code } = await mailTo(worker, two.email, 2);
  assert.equal((await two.browser.session({ code })).status, 201, "strangers stop no code there");
});

test("after a thousand wrong codes of a day none is compared, links sign in, and the log says it", async () => {
  const alarm = () => worker.log.lines.filter((line) => line.includes("too many codes of sign-ins were wrong")).length;
  const before = await wrongOf("all");
  await worker.sql("UPDATE wrong_codes SET wrong = 998 WHERE ip_prefix = 'all'");
  try {
    const people = await Promise.all(Array.from({ length: 5 }, () => asked()));
    assert.equal(alarm(), 0);
    const guesses = await Promise.all(people.map(({ browser, code }) => browser.session({ code: other(code) })));
    assert.deepEqual(guesses.map(({ status }) => status).sort(), [401, 401, 429, 429, 429]);
    await until(() => alarm() === 1, "the line for operators");
    const [{ browser, code, token }] = people;
    const [right, wrong] = [await browser.session({ code }), await browser.session({ code: other(code) })];
    assert.deepEqual(refusal(right), STOPPED);
    assert.deepEqual(said(right), said(wrong));
    assert.equal((await browser.session({ token })).status, 201);
    assert.deepEqual([await wrongOf("all"), alarm()], [1_000, 1]);
  } finally {
    await worker.sql("UPDATE wrong_codes SET wrong = ? WHERE ip_prefix = 'all'", before);
  }
});

test("the refusal of a code says that only the newest mail's counts", async () => {
  const { browser, email, code } = await asked();
  await browser.signUp(email);
  const second = await mailTo(worker, email, 2);
  const refused = await browser.session({ code });
  assert.deepEqual(refusal(refused), INVALID);
  assert.match(refused.body.detail, /only that of the newest mail/);
  assert.equal((await browser.session({ code: second.code })).status, 201);
});

test("a link and a code are used once, and only one of those that come at once", async () => {
  for (const by of ["token", "code"]) {
    const email = address();
    const browser = new Browser(worker);
    await browser.signUp(email);
    const mail = await mailTo(worker, email);
    const cookie = `__Host-sign-in=${browser.cookies.get("__Host-sign-in")}`;
    // The same browser in several tabs.
    const all = await Promise.all(Array.from({ length: 4 }, () => new Browser(worker).session({ [by]: mail[by] }, { cookie })));
    assert.deepEqual(all.map(({ status }) => status).sort(), [201, 401, 401, 401], by);
    assert.deepEqual(refusal(await browser.session({ token: mail.token })), INVALID);
    assert.deepEqual(refusal(await browser.session({ code: mail.code })), INVALID);
  }
});

test("whoever has signed in leaves no other mail that signs in", async () => {
  const email = address();
  const [one, two] = [new Browser(worker), new Browser(worker)];
  await one.signUp(email);
  const first = await mailTo(worker, email);
  await two.signUp(email);
  const second = await mailTo(worker, email, 2);
  assert.equal((await two.session({ token: second.token })).status, 201);
  assert.deepEqual(refusal(await one.session({ token: first.token })), INVALID);
  assert.equal((await worker.sql("SELECT id FROM tenants WHERE email = ?", email)).length, 1);
});

test("a scanner that opens every link spends nothing", async () => {
  const email = address();
  const browser = new Browser(worker);
  await browser.signUp(email);
  const mail = await mailTo(worker, email);
  const [link] = mail.text.match(/https?:\S+/);
  assert.equal(new URL(link).origin, worker.url);
  for (const method of ["GET", "HEAD"]) await fetch(link, { method });
  assert.ok(mail.html.includes(link));
  assert.equal((await browser.session({ token: mail.token })).status, 201);
});

test("a body that names no proof, or two, is refused, and one of another form is wrong", async () => {
  const browser = new Browser(worker);
  for (const body of [{}, { token: "x", code: "1" }, { pin: "1" }, { token: 1 }]) {
    assert.equal((await browser.session(body)).status, 422, JSON.stringify(body));
  }
  for (const body of [{ token: "x" }, { code: "x" }, { token: "ab".repeat(32) }, { code: "012345" }]) {
    assert.deepEqual(refusal(await browser.session(body)), INVALID, JSON.stringify(body));
  }
  for (const email of ["", "x", "a@b@c", "a b@c", "a@b\nc"]) assert.equal((await browser.logIn(email)).status, 422, email);
});

test("what the document shows as an example is taken", async () => {
  const { body } = await worker.call("GET", "/v1/openapi.json");
  for (const [path, status] of Object.entries({ "/v1/signup": 202, "/v1/login": 202, "/v1/session": 401 })) {
    const { example } = body.paths[path].post.requestBody.content["application/json"];
    assert.equal((await new Browser(worker).call("POST", path, example)).status, status, path);
  }
  assert.equal(body.components.securitySchemes.session.name, "__Host-session");
});

test("cookies have the attributes that keep them", async () => {
  const email = address();
  const browser = new Browser(worker);
  const kept = "Path=/; Secure; HttpOnly; SameSite=Lax";
  const asked = await browser.signUp(email);
  assert.match(asked.setCookie.join("\n"), new RegExp(`^__Host-sign-in=[0-9a-f]{64}; Max-Age=900; ${kept}$`));
  const made = await browser.session({ token: (await mailTo(worker, email)).token });
  assert.equal(made.setCookie.length, 2);
  assert.match(made.setCookie[0], new RegExp(`^__Host-session=[0-9a-f]{64}; Max-Age=1209600; ${kept}$`));
  assert.match(made.setCookie[1], new RegExp(`^__Host-known=[0-9a-f]{64}; Max-Age=15552000; ${kept}$`));
  const [{ hash }] = await worker.sql("SELECT hash FROM sessions WHERE id = ?", made.body.session.id);
  assert.ok(!made.setCookie[0].includes(hash), "the directory holds the secret's hash");
  const ended = await browser.call("DELETE", "/v1/session");
  assert.deepEqual([ended.status, ended.body.id], [200, made.body.session.id]);
  assert.equal(ended.setCookie.join("\n"), `__Host-session=; Max-Age=0; ${kept}`);
});

test("a session that was signed out is over", async () => {
  const { browser } = await signedUp(worker);
  const kept = new Map(browser.cookies);
  assert.equal((await browser.call("DELETE", "/v1/session")).status, 200);
  browser.cookies = kept;
  assert.deepEqual(refusal(await browser.call("GET", "/v1/session")), [401, "INVALID_SESSION"]);
  assert.deepEqual(refusal(await new Browser(worker).call("GET", "/v1/session")), [401, "INVALID_SESSION"]);
  for (const cookie of ["__Host-session=", "__Host-session=x", `__Host-session=${"ab".repeat(32)}`, `session=${"ab".repeat(32)}`]) {
    const answer = await new Browser(worker).call("GET", "/v1/session", undefined, { cookie });
    assert.deepEqual(refusal(answer), [401, "INVALID_SESSION"], cookie);
  }
});

test("a page of another origin changes nothing, and reads nothing", async () => {
  const { browser } = await signedUp(worker);
  const refused = [403, "CROSS_ORIGIN"];
  const none = { "sec-fetch-site": undefined };
  const foreign = [
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
    { "sec-fetch-site": "none" },
    { "sec-fetch-site": "same-site", origin: worker.url },
    { ...none, origin: "https://evil.example" },
    { ...none, origin: "null" },
    { ...none, origin: worker.url.replace("http:", "https:") },
    none,
  ];
  for (const headers of foreign) {
    assert.deepEqual(refusal(await browser.call("DELETE", "/v1/session", undefined, headers)), refused, JSON.stringify(headers));
    for (const [path, body] of [
      ["/v1/signup", { email: address() }],
      ["/v1/login", { email: address() }],
      ["/v1/session", { code: "012345" }],
    ]) {
      assert.deepEqual(refusal(await browser.call("POST", path, body, headers)), refused, `${path} ${JSON.stringify(headers)}`);
    }
  }
  const read = await browser.call("GET", "/v1/session", undefined, { "sec-fetch-site": "cross-site", origin: "https://evil.example" });
  assert.equal(read.headers["access-control-allow-origin"], undefined);
  assert.equal(read.headers["cross-origin-resource-policy"], "same-origin");
  for (const path of ["/v1/session", "/v1/signup", "/v1/login"]) {
    const preflight = await worker.call("OPTIONS", path, { headers: { origin: "https://evil.example" } });
    assert.equal(preflight.headers.get("access-control-allow-origin"), null, path);
  }
  // A form of another page is no JSON by its media type.
  const form = await browser.call("POST", "/v1/login", { email: address() }, { "content-type": "text/plain" });
  assert.deepEqual(refusal(form), [415, "UNSUPPORTED_MEDIA_TYPE"]);
  assert.equal((await browser.call("DELETE", "/v1/session", undefined, { ...none, origin: worker.url })).status, 200);
});

test("a program that is no browser needs no origin", async () => {
  const email = address();
  const program = { "sec-fetch-site": undefined, cookie: undefined };
  const browser = new Browser(worker);
  assert.equal((await browser.call("POST", "/v1/signup", { email }, program)).status, 202);
  const made = await browser.session({ token: (await mailTo(worker, email)).token }, program);
  assert.equal(made.status, 201);
});

test("a cookie counts only without any key", async () => {
  const { browser, api_keys: keys } = await signedUp(worker);
  for (const headers of [
    { authorization: `Bearer ${keys.test}` },
    { authorization: "Bearer x402_live_forged" },
    { authorization: "Basic eDp5" },
    { "x-api-key": keys.test },
    { "x-secret-key": keys.live },
    { "x-admin-key": "wrong" },
  ]) {
    for (const method of ["GET", "DELETE"]) {
      const answer = await browser.call(method, "/v1/session", undefined, headers);
      assert.deepEqual(refusal(answer), [401, "INVALID_SESSION"], JSON.stringify(headers));
    }
  }
  // And no cookie stands in for a key.
  assert.deepEqual(refusal(await browser.call("GET", "/v1/whoami")), [401, "INVALID_API_KEY"]);
  assert.equal((await browser.call("GET", "/v1/session")).status, 200);
});

test("a sign-in makes a new secret and ends the session that the browser had", async () => {
  const { browser, email, session } = await signedUp(worker);
  const former = browser.cookies.get("__Host-session");
  await browser.logIn(email);
  const { code } = await mailTo(worker, email, 2);
  const made = await browser.session({ code });
  assert.equal(made.status, 201);
  assert.notEqual(browser.cookies.get("__Host-session"), former);
  assert.notEqual(made.body.session.id, session.id);
  const old = await new Browser(worker).call("GET", "/v1/session", undefined, { cookie: `__Host-session=${former}` });
  assert.deepEqual(refusal(old), [401, "INVALID_SESSION"]);
  // A secret that somebody planted before is none after: a session's secret is ours alone.
  const planted = new Browser(worker);
  planted.cookies.set("__Host-session", "cd".repeat(32));
  await planted.logIn(email);
  assert.equal((await planted.session({ code: (await mailTo(worker, email, 3)).code })).status, 201);
  assert.notEqual(planted.cookies.get("__Host-session"), "cd".repeat(32));
});

test("a person sees and ends sessions of his own, and nobody else's", async () => {
  const { browser: one, email, session } = await signedUp(worker);
  const two = new Browser(worker);
  await two.call("POST", "/v1/login", { email });
  const second = await two.session({ token: (await mailTo(worker, email, 2)).token }, { "user-agent": "Second/1.0" });
  const stranger = await signedUp(worker);
  const list = async (browser) => (await browser.call("GET", "/v1/sessions")).body.data;
  const all = await list(two);
  assert.deepEqual(
    all.map(({ id, current, tenant, user_agent: agent }) => ({ id, current, tenant, agent })),
    [
      { id: second.body.session.id, current: true, tenant: session.tenant.id, agent: "Second/1.0" },
      { id: session.id, current: false, tenant: session.tenant.id, agent: null },
    ],
  );
  assert.match(all[0].ip_prefix, /^10\.\d+\.\d+\.0\/24$/);
  for (const id of [session.id, "ses_x", "ses_01KB0000000000000000000000"]) {
    assert.deepEqual(refusal(await stranger.browser.call("DELETE", `/v1/sessions/${id}`)), [404, "NOT_FOUND"]);
  }
  const ended = await two.call("DELETE", `/v1/sessions/${session.id}`);
  assert.deepEqual([ended.status, ended.body.id, ended.setCookie], [200, session.id, []]);
  assert.deepEqual(refusal(await two.call("DELETE", `/v1/sessions/${session.id}`)), [404, "NOT_FOUND"], "it has ended");
  assert.deepEqual(refusal(await one.call("GET", "/v1/session")), [401, "INVALID_SESSION"]);
  assert.equal((await list(two)).length, 1);
  const own = await two.call("DELETE", `/v1/sessions/${second.body.session.id}`);
  assert.match(own.setCookie.join(), /^__Host-session=; Max-Age=0/);
  assert.equal((await list(stranger.browser)).length, 1);
});

test("signing out everywhere ends every session of the person", async () => {
  const { browser: one, email } = await signedUp(worker);
  const two = new Browser(worker);
  await two.logIn(email);
  await two.session({ code: (await mailTo(worker, email, 2)).code });
  const kept = new Map(two.cookies);
  assert.equal((await two.call("DELETE", "/v1/sessions")).status, 200);
  two.cookies = kept;
  for (const browser of [one, two]) assert.deepEqual(refusal(await browser.call("GET", "/v1/session")), [401, "INVALID_SESSION"]);
});

test("a session acts for another tenant of the person after it was switched, with a new secret", async () => {
  const { browser, session } = await signedUp(worker);
  const other = await signedUp(worker);
  const to = (tenant) => browser.call("POST", "/v1/session/tenant", { tenant });
  const strange = other.session.tenant.id;
  for (const tenant of [strange, "ten_x", "ten_000000000000000000000000"]) {
    assert.deepEqual(refusal(await to(tenant)), [404, "NOT_FOUND"], tenant);
  }
  assert.equal((await browser.call("GET", "/v1/session")).status, 200, "a refused switch changes nothing");
  await worker.sql(
    "INSERT INTO members (tenant_id, person_id, role, created_ms) VALUES (?, ?, 'viewer', ?)",
    strange,
    session.person.id,
    Date.now(),
  );
  const former = browser.cookies.get("__Host-session");
  const switched = await to(strange);
  assert.deepEqual([switched.status, switched.body.session.tenant.id, switched.body.session.role], [200, strange, "viewer"]);
  assert.equal(switched.body.tenants.length, 2);
  assert.notEqual(browser.cookies.get("__Host-session"), former);
  assert.equal(switched.body.session.expires_at, session.expires_at, "it ends when it would have");
  const old = await new Browser(worker).call("GET", "/v1/session", undefined, { cookie: `__Host-session=${former}` });
  assert.deepEqual(refusal(old), [401, "INVALID_SESSION"]);
  const again = await Promise.all([to(session.tenant.id), to(session.tenant.id)]);
  assert.deepEqual(
    again
      .map(({ status }) => status)
      .sort()
      .slice(0, 1),
    [200],
    "of two at once one at least",
  );
});

test("a person who leaves a tenant has no session of it", async () => {
  const { browser, session } = await signedUp(worker);
  await worker.sql("UPDATE members SET role = 'viewer' WHERE person_id = ?", session.person.id);
  assert.equal((await browser.call("GET", "/v1/session")).body.session.role, "viewer");
  await worker.sql("DELETE FROM members WHERE person_id = ?", session.person.id);
  assert.deepEqual(refusal(await browser.call("GET", "/v1/session")), [401, "INVALID_SESSION"]);
});

test("who proves the address of an operator's tenant owns it, as long as it has no member", async () => {
  const { view } = await worker.tenant({ company_name: "Made by hand" });
  const browser = new Browser(worker);
  await browser.logIn(view.email);
  const mail = await mailTo(worker, view.email);
  const made = await browser.session({ code: mail.code });
  assert.deepEqual([made.status, made.body.session.tenant.id, made.body.session.role], [201, view.id, "owner"]);
  assert.equal(made.body.api_keys, null);
});

test("mails are bounded by address and by network, alike for known and unknown", async () => {
  const known = (await signedUp(worker)).email;
  const unknown = address();
  const ask = (email, from) => new Browser(worker).call("POST", "/v1/login", { email }, from);
  for (const email of [known, unknown]) {
    const from = network();
    for (let sent = 0; sent < 5; sent++) assert.equal((await ask(email, from)).status, 202, `${email} ${sent}`);
    const refused = await ask(email, from);
    assert.deepEqual(refusal(refused), [429, "RATE_LIMITED"]);
    assert.equal(refused.headers["retry-after"], "900");
  }
  const from = network();
  const answers = await Promise.all(Array.from({ length: 24 }, () => ask(address(), from)));
  assert.equal(answers.filter(({ status }) => status === 202).length, 20);
  const neighbour = { "cf-connecting-ip": from["cf-connecting-ip"].replace(/1$/, "77") };
  assert.equal((await ask(address(), neighbour)).status, 429);
});

test("strangers keep nobody from signing in", async () => {
  const victim = await signedUp(worker);
  const ask = (from, browser = new Browser(worker)) => browser.call("POST", "/v1/login", { email: victim.email }, from);
  const far = (at) => ({ "cf-connecting-ip": `${at < 50 ? 172 : 173}.${at}.7.1` });
  const strangers = Array.from({ length: 4 }, network);
  for (const from of strangers) for (let sent = 0; sent < 5; sent++) await ask(from);
  const all = "SELECT 1 FROM sign_ins WHERE email = ?";
  // The victim's own, of the sign-up, is one of twenty.
  assert.equal((await worker.sql(all, victim.email)).length, 20);
  for (const from of strangers) assert.equal((await ask(from)).status, 429);
  // A network that is new to the address asks once; five of one /16 do.
  assert.deepEqual([(await ask(far(0))).status, (await ask(far(0))).status], [202, 429]);
  const others = await Promise.all(Array.from({ length: 90 }, (_, at) => ask(far(at + 1))));
  assert.equal(others.filter(({ status }) => status === 202).length, 79, "a hundred in a day");
  // The browser in which the person has signed in has bounds of its own, in any network.
  assert.equal((await ask(far(200))).status, 429);
  for (let sent = 0; sent < 5; sent++) assert.equal((await ask(far(200), victim.browser)).status, 202);
  assert.equal((await ask(victim.browser.network, victim.browser)).status, 429, "five in 15 minutes");
});

test("strangers use up nothing of the service for networks that ask for little", async () => {
  const ask = (from) => new Browser(worker).call("POST", "/v1/login", { email: address() }, from);
  const fill = `INSERT INTO sign_ins (id, email, intent, token_hash, browser_hash, ip_prefix, created_ms, expires_ms)
    SELECT 'full' || value, 'x', 'login', 'full' || value, 'full' || value, '203.' || (value % 200) || '.1.0/24', ?, ?
    FROM json_each(?)`;
  const numbers = JSON.stringify(Array.from({ length: 2_000 }, (_, at) => at));
  await worker.sql(fill, Date.now(), Date.now(), numbers);
  try {
    const from = { "cf-connecting-ip": "198.18.7.1" };
    const sent = [];
    for (let at = 0; at < 3; at++) sent.push((await ask(from)).status);
    assert.deepEqual(sent, [202, 202, 429]);
    const around = await Promise.all(Array.from({ length: 30 }, (_, at) => ask({ "cf-connecting-ip": `198.18.${at + 20}.1` })));
    assert.equal(around.filter(({ status }) => status === 202).length, 18, "twenty from the network around it");
  } finally {
    await worker.sql("DELETE FROM sign_ins WHERE email = 'x'");
  }
});

test("without a mail backend nobody signs up, and there is no mailbox", async () => {
  const bare = await startWorker();
  try {
    assert.deepEqual(refusal(await new Browser(bare).signUp(address())), [404, "NOT_FOUND"]);
    assert.deepEqual(refusal(await bare.call("GET", "/v1/admin/mailbox", { admin: true })), [404, "NOT_FOUND"]);
  } finally {
    await bare.stop();
  }
});

test("a mail that was lost on its way to the queue is queued again, and is the same mail", async () => {
  const email = address();
  await new Browser(worker).signUp(email);
  const first = await mailTo(worker, email);
  await worker.sql("DELETE FROM mailbox WHERE mail_id = ?", first.id);
  await worker.sql("UPDATE mails SET state = 'queued', due_ms = 0, created_ms = created_ms - 120000 WHERE id = ?", first.id);
  await worker.cron("* * * * *");
  assert.deepEqual(await mailTo(worker, email), { ...first, sent_at: (await mailTo(worker, email)).sent_at });
  // What was sent is not sent again.
  await worker.cron("* * * * *");
  assert.equal((await mailsTo(worker, email)).length, 1);
});

/** The test of Mann and Whitney: how many standard deviations the ranks of `one` are from those of equal samples. */
function deviation(one, two) {
  const all = [...one.map((ms) => ({ ms, of: one })), ...two.map((ms) => ({ ms, of: two }))].sort((a, b) => a.ms - b.ms);
  const ranks = all.reduce((sum, { of }, at) => sum + (of === one ? at + 1 : 0), 0);
  const [n, m] = [one.length, two.length];
  return (ranks - (n * (n + m + 1)) / 2) / Math.sqrt((n * m * (n + m + 1)) / 12);
}

test("a thousand answers take the same time for known and unknown addresses", async () => {
  const known = Array.from({ length: 100 }, address);
  const owner = (await signedUp(worker)).session;
  for (const email of known) {
    await worker.sql("INSERT INTO people (id, email, created_ms) VALUES (?, ?, 1)", `per_${email}`, email);
    await worker.sql(
      "INSERT INTO members (tenant_id, person_id, role, created_ms) VALUES (?, ?, 'viewer', 1)",
      owner.tenant.id,
      `per_${email}`,
    );
  }
  const unknown = Array.from({ length: 100 }, address);
  /** @type {number[][]} */
  const times = [[], []];
  for (let round = 0; round < 5; round++) {
    for (let at = 0; at < known.length; at++) {
      // Which comes first changes, so that neither has a place of its own.
      const both = [known[at], unknown[at]].map((email, which) => ({ email, which }));
      for (const { email, which } of (round + at) % 2 ? both : both.reverse()) {
        const begin = performance.now();
        assert.equal((await new Browser(worker).logIn(email)).status, 202);
        times[which].push(performance.now() - begin);
      }
    }
  }
  // Of equal samples one in 16,000 is four deviations off.
  assert.ok(Math.abs(deviation(times[0], times[1])) < 4, `${deviation(times[0], times[1])} deviations`);
});

// The clock goes forward from here on.
test("a link and a code hold for 15 minutes", async () => {
  const email = address();
  const browser = new Browser(worker);
  await browser.signUp(email);
  const late = await mailTo(worker, email);
  await worker.advance(14 * MINUTE);
  const second = address();
  await browser.signUp(second);
  const intime = await mailTo(worker, second);
  await worker.advance(MINUTE + 1);
  assert.deepEqual(refusal(await browser.session({ token: late.token })), INVALID);
  await worker.advance(12 * MINUTE);
  assert.equal((await browser.session({ code: intime.code })).status, 201);
});

test("what a client says of the time prolongs nothing", async () => {
  const { browser, code, token } = await asked();
  const { browser: signedIn } = await signedUp(worker);
  await worker.advance(15 * MINUTE + 1);
  for (const date of ["Mon, 30 Nov 2020 09:00:00 GMT", "Mon, 30 Nov 2099 09:00:00 GMT", "x"]) {
    const says = { date, "x-date": date, "if-modified-since": date, age: "999999999" };
    for (const proof of [{ code }, { token }]) assert.deepEqual(refusal(await browser.session(proof, says)), INVALID, date);
    assert.equal((await signedIn.call("GET", "/v1/session", undefined, says)).status, 200, date);
  }
  // A browser that keeps its cookie for longer has it for nothing: the end is the directory's.
  const kept = signedIn.cookies.get("__Host-session");
  await worker.advance(7 * DAY);
  const cookie = `__Host-session=${kept}; Max-Age=999999999`;
  assert.deepEqual(refusal(await signedIn.call("GET", "/v1/session", undefined, { cookie })), [401, "INVALID_SESSION"]);
});

test("wrong codes count for a day, and are deleted after it", async () => {
  const { browser, code } = await asked();
  assert.deepEqual(refusal(await browser.session({ code: other(code) })), INVALID);
  await worker.sql("UPDATE wrong_codes SET wrong = 1000 WHERE ip_prefix = 'all'");
  assert.deepEqual(refusal(await browser.session({ code })), STOPPED);
  await worker.advance(DAY);
  const next = await asked();
  assert.deepEqual(refusal(await next.browser.session({ code: other(next.code) })), INVALID);
  assert.equal((await next.browser.session({ code: next.code })).status, 201);
  await worker.cron("17 3 * * *");
  const prefix = next.browser.network["cf-connecting-ip"].replace(/1$/, "0/24");
  assert.deepEqual(await worker.sql("SELECT ip_prefix, wrong FROM wrong_codes ORDER BY wrong, ip_prefix"), [
    { ip_prefix: prefix, wrong: 1 },
    { ip_prefix: "all", wrong: 1 },
  ]);
});

test("a session ends after seven days without a request, and after 14 in any case", async () => {
  const idle = await signedUp(worker);
  await worker.advance(7 * DAY - MINUTE);
  const busy = await signedUp(worker);
  assert.equal((await idle.browser.call("GET", "/v1/session")).status, 200, "a request within seven days");
  await worker.advance(7 * DAY - 10 * MINUTE);
  assert.equal((await idle.browser.call("GET", "/v1/session")).status, 200, "its idleness began anew");
  assert.equal((await busy.browser.call("GET", "/v1/session")).status, 200);
  await worker.advance(11 * MINUTE);
  assert.deepEqual(refusal(await idle.browser.call("GET", "/v1/session")), [401, "INVALID_SESSION"], "14 days are over");
  await worker.advance(7 * DAY);
  assert.deepEqual(refusal(await busy.browser.call("GET", "/v1/session")), [401, "INVALID_SESSION"], "seven idle days");
});

test("requests to sign in are deleted after a day, sessions and mails after a month", async () => {
  const { email, session } = await signedUp(worker);
  const left = async () => {
    const counted = [];
    for (const [table, column, value] of [
      ["sign_ins", "email", email],
      ["mails", "address", email],
      ["mailbox", "address", email],
      ["sessions", "id", session.id],
    ])
      counted.push((await worker.sql(`SELECT 1 FROM ${table} WHERE ${column} = ?`, value)).length);
    return counted;
  };
  await worker.cron("17 3 * * *");
  assert.deepEqual(await left(), [1, 1, 1, 1]);
  await worker.advance(DAY + MINUTE);
  await worker.cron("17 3 * * *");
  assert.deepEqual(await left(), [0, 1, 1, 1]);
  await worker.advance(30 * DAY);
  await worker.cron("17 3 * * *");
  assert.deepEqual(await left(), [0, 0, 0, 1]);
  await worker.advance(14 * DAY);
  await worker.cron("17 3 * * *");
  assert.deepEqual(await left(), [0, 0, 0, 0]);
});
