// Sessions in Chromium: what a real browser keeps, sends and refuses.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { address, mailTo, mailsTo } from "./browser.mjs";
import { ask, startChromium } from "./chromium.mjs";
import { startWorker } from "./worker.mjs";

const OURS = "https://pay.example.test";
/** A secret of a session as a thief may have it. */
const THIEF = "ab".repeat(32);
/** How a page sends a request that needs no preflight. */
const PLAIN = /** @type {const} */ ({ mode: "no-cors", headers: { "content-type": "text/plain" } });
/** The address that a form of a foreign page names. */
const FORMS = "form@example.test";
/** What the sibling tries to set for our name, and what the others find set. */
const SETS = {
  "evil.example.test": [
    `__Host-session=${THIEF}; Secure; Path=/; Domain=example.test`,
    `\u2000__Host-session=${THIEF}; Secure; Path=/v1; Domain=example.test`,
    `__Host-session=${THIEF}; Secure; Path=/v1/session; Domain=example.test`,
  ].map((cookie) => Buffer.from(cookie).toString("latin1")),
};

let worker, chromium;
before(async () => {
  worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox", PUBLIC_URL: OURS } });
  chromium = await startChromium(worker, SETS);
});
after(async () => {
  await chromium?.stop();
  await worker?.stop();
});

/** A page of a browser at an address. */
async function pageAt(person, origin = OURS) {
  const page = await person.newPage();
  await page.goto(`${origin}/empty`);
  return page;
}

/** A browser that has signed up, with a page of ours. */
async function signedUp() {
  const person = await chromium.person();
  const page = await pageAt(person);
  const email = address();
  assert.equal((await ask(page, "POST", "/v1/signup", { email })).status, 202);
  const { code } = await mailTo(worker, email);
  const made = await ask(page, "POST", "/v1/session", { code });
  assert.equal(made.status, 201, JSON.stringify(made));
  return { person, page, email, id: made.body.session.id };
}

test("of two browsers the code signs in the one that asked, and the link the other", async () => {
  const [one, other] = await Promise.all([chromium.person(), chromium.person()]);
  const [page, elsewhere] = await Promise.all([pageAt(one), pageAt(other)]);
  const email = address();
  assert.equal((await ask(page, "POST", "/v1/signup", { email })).status, 202);
  const first = await mailTo(worker, email);
  assert.equal((await ask(elsewhere, "POST", "/v1/session", { code: first.code })).status, 401, "the other has no cookie of the request");
  assert.equal((await ask(page, "POST", "/v1/session", { code: first.code })).status, 201);
  assert.equal((await ask(await pageAt(one), "GET", "/v1/session")).status, 200, "another tab has the session");
  assert.equal((await ask(elsewhere, "GET", "/v1/session")).status, 401);

  assert.equal((await ask(page, "POST", "/v1/login", { email })).status, 202);
  const { token } = await mailTo(worker, email, 2);
  assert.equal((await ask(elsewhere, "POST", "/v1/session", { token })).status, 201);
  assert.equal(await page.evaluate(() => document.cookie), "", "no script reads a cookie of ours");
  const kept = await one.cookies(OURS);
  const { secure, httpOnly, sameSite, domain } = kept.find(({ name }) => name === "__Host-session") ?? {};
  assert.deepEqual([secure, httpOnly, sameSite, domain], [true, true, "Lax", "pay.example.test"]);
});

test("in the clear a page of ours is refused, and without our own URL a browser keeps no cookie", async () => {
  const person = await chromium.person();
  const refused = await ask(await pageAt(person, "http://pay.example.test"), "POST", "/v1/signup", { email: address() });
  assert.deepEqual([refused.status, refused.body.error_code], [403, "CROSS_ORIGIN"]);

  const anywhere = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } });
  const inTheClear = await startChromium(anywhere);
  try {
    const person = await inTheClear.person();
    const page = await pageAt(person, "http://pay.example.test");
    const email = address();
    assert.equal((await ask(page, "POST", "/v1/signup", { email })).status, 202);
    const { code, token } = await mailTo(anywhere, email);
    assert.equal((await ask(page, "POST", "/v1/session", { code })).status, 401, "no cookie names the request");
    assert.equal((await ask(page, "POST", "/v1/session", { token })).status, 201);
    assert.deepEqual(await person.cookies(), []);
    assert.equal((await ask(page, "GET", "/v1/session")).status, 401);
  } finally {
    await inTheClear.stop();
    await anywhere.stop();
  }
});

test("a sibling's cookies take no session's place", async () => {
  const { person, page, id } = await signedUp();
  await pageAt(person, "https://evil.example.test");
  const set = (await person.cookies(`${OURS}/v1/session`)).filter(({ value }) => value === THIEF);
  assert.deepEqual(
    set.map(({ name }) => name),
    ["\u2000__Host-session"],
    "Chromium keeps what only trimming would make a name of ours",
  );
  assert.equal((await ask(page, "GET", "/v1/session")).body.session?.id, id);
});

test("a page of another site or of a sibling changes nothing, and reads nothing", async () => {
  const { person, page, id } = await signedUp();
  for (const origin of ["https://evil.example.test", "https://evil.test", "http://pay.example.test"]) {
    const foreign = await pageAt(person, origin);
    const read = await ask(foreign, "GET", `${OURS}/v1/session`);
    assert.match(read.refused, /TypeError/, `${origin} reads ${JSON.stringify(read)}`);
    for (const more of [{}, PLAIN]) await ask(foreign, "DELETE", `${OURS}/v1/session`, undefined, more);
    await ask(
      foreign,
      "POST",
      `${OURS}/v1/session/tenant`,
      { tenant: "x" },
      { mode: "no-cors", headers: { "content-type": "text/plain" } },
    );
    // A form of the foreign page, which the browser sends as a navigation.
    const sent = foreign.waitForResponse((answer) => answer.url() === `${OURS}/v1/signup`);
    await foreign.evaluate(
      ({ url, email }) => {
        const form = Object.assign(document.createElement("form"), { method: "post", action: url, enctype: "text/plain" });
        form.append(Object.assign(document.createElement("input"), { name: `{"email":"${email}","x":"`, value: '"}' }));
        document.body.append(form);
        form.submit();
      },
      { url: `${OURS}/v1/signup`, email: FORMS },
    );
    assert.ok([403, 415].includes((await sent).status()), `${origin} ${(await sent).status()}`);
  }
  assert.deepEqual(await mailsTo(worker, FORMS), [], "no form has asked for a mail");
  assert.equal((await ask(page, "GET", "/v1/session")).body.session.id, id, "the session is the same, and open");
});

test("signing in again ends the session that the browser had, and signing out the one that it has", async () => {
  const { person, page, email } = await signedUp();
  const [before] = (await person.cookies(OURS)).filter(({ name }) => name === "__Host-session");
  await ask(page, "POST", "/v1/login", { email });
  const { token } = await mailTo(worker, email, 2);
  assert.equal((await ask(page, "POST", "/v1/session", { token })).status, 201);
  const [after] = (await person.cookies(OURS)).filter(({ name }) => name === "__Host-session");
  assert.notEqual(after.value, before.value);
  const thief = await chromium.person();
  await thief.addCookies([before]);
  assert.equal((await ask(await pageAt(thief), "GET", "/v1/session")).status, 401, "the earlier secret is worth nothing");
  assert.equal((await ask(page, "DELETE", "/v1/session")).status, 200);
  assert.deepEqual(
    (await person.cookies(OURS)).filter(({ name }) => name === "__Host-session"),
    [],
  );
});
