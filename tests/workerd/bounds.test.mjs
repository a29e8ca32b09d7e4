// What bounds people, their mails and their changes, and what strangers cannot do to them, on the real Worker.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, address, mailTo, mailsTo, signedUp } from "./browser.mjs";
import { startWorker, until } from "./worker.mjs";

const HOUR = 60 * 60_000;
/** By how much the Worker's clock was put forward. */
let ahead = 0;
const now = () => Date.now() + ahead;
let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } })));
after(() => worker.stop());

const refusal = ({ status, body }) => [status, body.error_code];
const invite = (owner, email, role = "developer") => owner.browser.call("POST", "/v1/members/invitations", { email, role });
const remove = (by, person) => by.browser.call("DELETE", `/v1/members/${person}`);
const session = (browser) => browser.call("GET", "/v1/session");
const audit = (tenant) => worker.sql("SELECT action, subject, detail, actor_kind FROM audit_log WHERE tenant_id = ? ORDER BY id", tenant);

/** A person who has joined the tenant of `owner`; `mails` is how many the address has got then. */
async function joined(owner, role, email = address(), mails = 1, browser = new Browser(worker)) {
  const invited = await invite(owner, email, role);
  assert.equal(invited.status, 201, JSON.stringify(invited.body));
  const made = await browser.call("POST", "/v1/members/join", { token: (await mailTo(worker, email, mails)).token });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  return { browser, email, person: made.body.session.person.id, ...made.body };
}

/** The same browser, whose cookies somebody else has copied. */
function copied({ browser }) {
  const copy = new Browser(worker);
  copy.cookies = new Map(browser.cookies);
  return copy;
}

test("a session of before a removal never holds again", async () => {
  const owner = await signedUp(worker);
  for (const by of ["removed", "left"]) {
    const member = await joined(owner, "developer");
    const stolen = copied(member);
    assert.equal((await remove(by === "left" ? member : owner, member.person)).status, 200);
    const [{ ended_ms: ended }] = await worker.sql("SELECT ended_ms FROM sessions WHERE person_id = ?", member.person);
    assert.ok(ended > 0, "it is ended, not only hidden");
    await joined(owner, "owner", member.email, 2);
    assert.deepEqual(refusal(await session(stolen)), [401, "INVALID_SESSION"], by);
  }
  // Nor one that was not ended, as those of the builds before.
  const member = await joined(owner, "developer");
  const stolen = copied(member);
  await worker.sql("DELETE FROM members WHERE person_id = ?", member.person);
  await joined(owner, "owner", member.email, 2);
  assert.deepEqual(refusal(await session(stolen)), [401, "INVALID_SESSION"]);
});

test("what a person was doing when he was removed is not done", async () => {
  const owner = await signedUp(worker);
  const { id } = owner.session.person;
  const requests = {
    "INSERT INTO invitations": (other) => invite(other, address(), "owner"),
    "UPDATE members SET role": ({ browser }) => browser.call("PATCH", `/v1/members/${id}`, { role: "viewer" }),
    "DELETE FROM members WHERE tenant_id": (other) => remove(other, id),
  };
  for (const [names, request] of Object.entries(requests)) {
    const other = await joined(owner, "owner");
    const end = () => worker.sql("DELETE FROM members WHERE person_id = ?", other.person);
    assert.deepEqual(refusal(await worker.whileHeld(names, () => request(other), end)), [403, "INSUFFICIENT_ROLE"], names);
  }
  const { data, invitations } = (await owner.browser.call("GET", "/v1/members")).body;
  assert.deepEqual([data.map(({ role }) => role), invitations], [["owner"], []]);
});

test("an operator's tenant is its contact's, wherever that was invited before", async () => {
  const email = address();
  const { view } = await worker.tenant({ email, company_name: "VIP" });
  const stranger = await signedUp(worker);
  const member = await joined(stranger, "viewer", email);
  assert.equal(member.session.tenant.id, stranger.session.tenant.id);
  for (let mails = 2; mails < 4; mails++) {
    const browser = new Browser(worker);
    await browser.logIn(email);
    const { body } = await browser.session({ token: (await mailTo(worker, email, mails)).token });
    assert.deepEqual([body.session.tenant.id, body.session.role], [view.id, "owner"]);
    assert.deepEqual(
      body.tenants.map(({ id }) => id),
      [view.id, stranger.session.tenant.id],
    );
  }
});

test("a request to one tenant changes no other, and a contact that moves is recorded", async () => {
  const [ann, bill, evil] = [await signedUp(worker), await signedUp(worker), await signedUp(worker)];
  const set = (tenant, email) => worker.call("PATCH", `/v1/admin/tenants/${tenant}`, { admin: true, body: { email } });
  assert.equal((await set(bill.session.tenant.id, address())).status, 200);
  assert.equal((await set(ann.session.tenant.id, bill.email)).status, 200);
  const row = async () => (await worker.sql("SELECT email, version FROM tenants WHERE id = ?", ann.session.tenant.id))[0];
  const before = await row();
  assert.deepEqual(refusal(await remove(evil, bill.session.person.id)), [404, "NOT_FOUND"]);
  assert.deepEqual(await row(), before);
  // An owner who leaves, whose address is the contact.
  const second = await joined(bill, "owner");
  assert.equal((await set(ann.session.tenant.id, ann.email)).status, 200);
  assert.equal((await set(bill.session.tenant.id, bill.email)).status, 200);
  assert.equal((await remove(second, bill.session.person.id)).status, 200);
  const [moved] = (await audit(bill.session.tenant.id)).slice(-1);
  assert.deepEqual([moved.action, moved.detail, moved.actor_kind], ["tenant.updated", "email", "system"]);
  const [{ email }] = await worker.sql("SELECT email FROM tenants WHERE id = ?", bill.session.tenant.id);
  assert.equal(email, second.email);
  assert.equal((await audit(evil.session.tenant.id)).filter(({ action }) => action === "tenant.updated").length, 0);
});

test("beyond three hundred changes of an hour only what ends something goes on", async () => {
  const owner = await signedUp(worker);
  const { id } = owner.session.tenant;
  const call = (...request) => owner.browser.call(...request);
  const other = await joined(owner, "developer");
  const invited = (await invite(owner, address())).body.invitation;
  const key = (await call("POST", "/v1/api-keys", { name: "k", environment: "test" })).body.api_key;
  const count = async () => (await audit(id)).length;
  const fill = (actor, from, upto) =>
    worker.sql(
      `INSERT INTO audit_log (id, tenant_id, actor_kind, actor_id, action, subject, ip_prefix, created_ms)
       SELECT (SELECT substr(MAX(id), 1, 14) FROM audit_log WHERE tenant_id = ?1) || printf('%016d', value), ?1, 'person', ?3, 'tenant.updated',
       'x', 'unknown', 1 FROM json_each(?2)`,
      id,
      JSON.stringify(Array.from({ length: upto - from }, (_, at) => from + at)),
      actor,
    );
  // A thief with a key, or a developer, stops no owner.
  await fill("key_x", 0, 300);
  const byOther = await other.browser.call("POST", "/v1/api-keys", { name: "d", environment: "test" });
  assert.deepEqual(refusal(byOther), [429, "RATE_LIMITED"]);
  assert.equal((await call("PATCH", "/v1/tenant", { company_name: "Goes on" })).status, 200);
  await fill(owner.session.person.id, 300, 600);
  assert.equal((await call("DELETE", `/v1/api-keys/${key.id}`)).status, 200);
  const before = await count();
  for (const refused of [
    await call("PATCH", "/v1/tenant", { company_name: "One more" }),
    await call("POST", "/v1/api-keys", { name: "k", environment: "test" }),
    await invite(owner, address()),
    await call("PATCH", `/v1/members/${other.person}`, { role: "viewer" }),
  ]) {
    assert.deepEqual(refusal(refused), [429, "RATE_LIMITED"]);
    assert.equal(refused.headers["retry-after"], "3600");
    assert.match(refused.body.detail, /300/);
  }
  assert.equal((await call("GET", "/v1/tenant")).body.tenant.company_name, "Goes on", "nothing of it is stored");
  assert.equal(await count(), before);
  // An operator, and what takes something away.
  const operator = await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { company_name: "By an operator" } });
  assert.equal(operator.status, 200, operator.text);
  for (const path of [`/v1/members/invitations/${invited.id}`, `/v1/members/${other.person}`]) {
    assert.equal((await call("DELETE", path)).status, 200, path);
  }
  assert.equal(await count(), before + 3);
  ahead += HOUR + 1_000;
  await worker.advance(HOUR + 1_000);
  assert.equal((await call("PATCH", "/v1/tenant", { company_name: "An hour later" })).status, 200);
});

test("a change that changes nothing is not recorded, and asks no ledger", async () => {
  const owner = await signedUp(worker);
  const { id } = owner.session.tenant;
  const other = await joined(owner, "viewer");
  const body = { company_name: "Same", support_address: "a@b.test", sanctions: "report", branding: null };
  const first = await owner.browser.call("PATCH", "/v1/tenant", body);
  assert.equal(first.status, 200);
  const waits = async () => (await worker.sql("SELECT 1 FROM directory_outbox WHERE tenant_id = ? AND shipped_ms IS NULL", id)).length;
  await until(async () => (await waits()) === 0, "the events are shipped");
  const entries = (await audit(id)).length;
  await worker.counts();
  for (let at = 0; at < 3; at++) {
    const same = await owner.browser.call("PATCH", "/v1/tenant", body);
    assert.deepEqual([same.status, same.body], [200, first.body]);
    const role = await owner.browser.call("PATCH", `/v1/members/${other.person}`, { role: "viewer" });
    assert.deepEqual([role.status, role.body.member.role], [200, "viewer"]);
  }
  assert.deepEqual([(await audit(id)).length, await waits(), (await worker.counts()).ledger], [entries, 0, 0]);
  // Where a ledger has not loaded a change, the same request makes it load it.
  await worker.fault({ names: id, unsent: true, stays: true });
  assert.equal((await owner.browser.call("PATCH", "/v1/tenant", { company_name: "Other" })).status, 503);
  await worker.fault(null);
  assert.equal((await owner.browser.call("PATCH", "/v1/tenant", { company_name: "Other" })).status, 200);
  assert.equal((await worker.call("GET", "/v1/whoami", { key: owner.api_keys.live })).body.tenant.company_name, "Other");
});

test("switches are bounded, and one to the tenant of the session makes no session", async () => {
  const [own, owner] = [await signedUp(worker), await signedUp(worker)];
  const { browser, person } = await joined(owner, "viewer", own.email, 2, own.browser);
  const to = (tenant) => browser.call("POST", "/v1/session/tenant", { tenant });
  const count = async () => (await worker.sql("SELECT COUNT(*) AS n FROM sessions WHERE person_id = ?", person))[0].n;
  const before = await count();
  for (let at = 0; at < 3; at++) {
    const same = await to(owner.session.tenant.id);
    assert.deepEqual([same.status, same.setCookie, same.body], [200, [], (await session(browser)).body]);
  }
  assert.equal(await count(), before);
  let refused;
  for (let at = 0; at < 61 && !refused; at++) {
    const answer = await to([own, owner][at % 2].session.tenant.id);
    if (answer.status !== 200) refused = answer;
  }
  assert.deepEqual([...refusal(refused), await count()], [429, "RATE_LIMITED", 60]);
  assert.equal((await session(browser)).status, 200, "the session goes on");
});

test("of two switches at once the second is answered with what happened", async () => {
  const [own, owner] = [await signedUp(worker), await signedUp(worker)];
  const { browser } = await joined(owner, "viewer", own.email, 2, own.browser);
  const copy = copied({ browser });
  const to = (by) => by.call("POST", "/v1/session/tenant", { tenant: own.session.tenant.id });
  const second = async () => assert.equal((await to(browser)).status, 200);
  assert.deepEqual(refusal(await worker.whileHeld("INSERT INTO sessions", () => to(copy), second)), [401, "INVALID_SESSION"]);
});

test("what was made by a link is answered though the directory fails right after", async () => {
  const [email, invited] = [address(), address()];
  const browser = new Browser(worker);
  await browser.signUp(email);
  const { token } = await mailTo(worker, email);
  // Reads of their own; those within the batch go with it.
  const reads = ["SELECT s.id, s.person_id", "SELECT m.tenant_id, m.role", "SELECT m.person_id"];
  await worker.dbFault({ names: reads[0], skip: 1, stays: true }, { names: reads[1], skip: 2, stays: true });
  const made = await browser.session({ token });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  await worker.dbFault();
  assert.match(`${made.body.api_keys.live} ${made.body.api_keys.test}`, /^x402_live_\w+ x402_test_\w+$/);
  assert.deepEqual((await session(browser)).body, { session: made.body.session, tenants: made.body.tenants });
  // The invitation's checks read once.
  await worker.dbFault({ names: reads[2], skip: 1, stays: true });
  const asked = await invite({ browser }, invited);
  await worker.dbFault();
  assert.equal(asked.status, 201, JSON.stringify(asked.body));
  const { invitation } = asked.body;
  assert.deepEqual((await browser.call("GET", "/v1/members")).body.invitations, [invitation]);
});

const ask = (email, from, browser = new Browser(worker)) => browser.call("POST", "/v1/login", { email }, from);
const statuses = async (times, act) => {
  const all = [];
  for (let at = 0; at < times; at++) all.push((await act(at)).status);
  return all;
};
let around = 0;
/** A network of a /16 of its own. */
const far = () => ({ "cf-connecting-ip": `${100 + (around >> 8)}.${around++ & 255}.7.1` });
const fillWith = (prefix, count, email = "x@x.test") =>
  worker.sql(
    `INSERT INTO sign_ins (id, email, intent, token_hash, browser_hash, ip_prefix, created_ms, expires_ms)
     SELECT ?1 || value || ?4, ?2, 'login', ?1 || value || ?4, ?1 || value || ?4, ?1, ?3, ?3 FROM json_each(?5)`,
    prefix,
    email,
    now(),
    crypto.randomUUID(),
    JSON.stringify(Array.from({ length: count }, (_, at) => at)),
  );

test("a browser that has signed in asks for mails whatever others have asked for", async () => {
  const person = await signedUp(worker);
  const known = person.browser.cookies.get("__Host-known");
  assert.match(known, /^[0-9a-f]{64}$/);
  const from = far();
  const prefix = from["cf-connecting-ip"].replace(/1$/, "0/24");
  // A neighbour uses up what the address may get from the network, and the network's, and strangers all there is.
  await fillWith(prefix, 20, person.email);
  await fillWith("203.0.113.0/24", 2_000);
  try {
    assert.deepEqual(refusal(await ask(person.email, from)), [429, "RATE_LIMITED"], "another browser");
    const own = await statuses(6, () => ask(person.email, from, person.browser));
    assert.deepEqual(own, [202, 202, 202, 202, 202, 429], "bounds of its own");
    // The cookie is of the person, and of a sign-in.
    for (const cookie of ["ab".repeat(32), known.replace(/^../, "00"), known.replace(/..$/, "00")]) {
      const forged = new Browser(worker);
      forged.cookies.set("__Host-known", cookie);
      assert.equal((await ask(person.email, from, forged)).status, 429, cookie);
    }
    assert.equal((await ask(address(), from, copied(person))).status, 429, "of no other address");
  } finally {
    await worker.sql("DELETE FROM sign_ins WHERE email = 'x@x.test'");
  }
  // It opens nothing.
  const bare = new Browser(worker);
  bare.cookies.set("__Host-known", known);
  assert.deepEqual(refusal(await session(bare)), [401, "INVALID_SESSION"]);
});

test("a sign-in keeps the cookie of a known browser, and its bound", async () => {
  const { browser, email } = await signedUp(worker);
  const known = browser.cookies.get("__Host-known");
  await browser.logIn(email);
  const made = await browser.session({ token: (await mailTo(worker, email, 2)).token });
  assert.equal(browser.cookies.get("__Host-known"), known);
  assert.match(made.setCookie[1], /^__Host-known=[0-9a-f]{64}; Max-Age=15552000; Path=\/; Secure; HttpOnly; SameSite=Lax$/);
  const other = await signedUp(worker);
  browser.cookies.set("__Host-known", other.browser.cookies.get("__Host-known"));
  await browser.logIn(email);
  await browser.session({ token: (await mailTo(worker, email, 3)).token });
  assert.notEqual(browser.cookies.get("__Host-known"), other.browser.cookies.get("__Host-known"));
  await worker.sql("UPDATE sign_ins SET known = 'x', created_ms = created_ms - 1000000 WHERE email = ?", email);
  await worker.sql(
    `INSERT INTO sign_ins (id, email, intent, token_hash, browser_hash, ip_prefix, created_ms, expires_ms, known)
     SELECT ?1 || value, ?1, 'login', ?1 || value, ?1 || value, 'p', ?2, ?2, 'x' FROM json_each(?3)`,
    email,
    now() - 20 * 60_000,
    JSON.stringify(Array.from({ length: 40 }, (_, at) => at)),
  );
  const refused = await browser.logIn(email);
  assert.deepEqual(refusal(refused), [429, "RATE_LIMITED"], "forty a day of all the person's browsers");
  assert.ok(Number(refused.headers["retry-after"]) > 80_000, refused.headers["retry-after"]);
});

test("one rented network uses up no address, and a refusal says until when it holds", async () => {
  const { email } = await signedUp(worker);
  const [unknown, rented] = [address(), (at) => ({ "cf-connecting-ip": `2001:db8:${at.toString(16)}::1` })];
  for (const each of [email, unknown]) {
    // The first twenty are of twenty networks; from then on five of the rented one, beside the mail of the sign-up.
    const taken = await statuses(40, (at) => ask(each, at < 20 ? far() : rented(at + 1)));
    const sent = taken.filter((status) => status === 202).length;
    assert.deepEqual([sent, taken.indexOf(429)], [25, 25], each);
    assert.equal((await ask(each, far())).status, 202, "another network");
    const refused = await ask(each, rented(99));
    assert.deepEqual(refusal(refused), [429, "RATE_LIMITED"]);
    const wait = Number(refused.headers["retry-after"]);
    assert.ok(wait > 86_000 && wait <= 86_400, String(wait));
  }
  const from = far();
  const other = address();
  const tags = await statuses(6, (at) => ask(other.replace("@", `+${at}@`), from));
  assert.deepEqual(tags, [202, 202, 202, 202, 202, 429], "one mailbox");
  assert.equal((await ask(other.replace("@", "+9@"), from)).headers["retry-after"], "900");
});

const inviting = async (tier) => {
  const owner = await signedUp(worker);
  if (tier) await worker.call("PATCH", `/v1/admin/tenants/${owner.session.tenant.id}`, { admin: true, body: { tier } });
  return owner;
};

test("nobody is refused an invitation for what tenants of the free tier do, but such tenants", async () => {
  const bob = address();
  const thief = await inviting();
  const roles = ["viewer", "developer", "owner", "viewer"];
  assert.deepEqual(await statuses(4, (at) => invite(thief, bob, roles[at])), [201, 201, 201, 429], "one tenant");
  assert.equal((await invite(await inviting(), bob)).status, 201, "one of the free tier");
  for (let at = 0; at < 2; at++) assert.equal((await invite(await inviting(), bob.replace("@", `+${at}@`))).status, at < 1 ? 201 : 429);
  const [paid, seller] = [await inviting("starter"), await inviting()];
  const put = (outcome) =>
    worker.sql(
      `INSERT INTO rollups (tenant_id, environment, span, start_ms, chain, outcome, count, amount, revision)
       VALUES (?, 'live', 'hour', 1, 'base', ?, 1, '1', 1)`,
      seller.session.tenant.id,
      outcome,
    );
  await put("TX_NOT_FOUND");
  assert.equal((await invite(seller, bob)).status, 429, "a refused payment is none");
  await put("confirmed");
  const { view } = await worker.tenant({ email: address() });
  const browser = new Browser(worker);
  await browser.logIn(view.email);
  await browser.session({ token: (await mailTo(worker, view.email)).token });
  for (const owner of [paid, seller, { browser }]) assert.equal((await invite(owner, bob)).status, 201);
  // The same of the bound of all.
  await worker.sql(
    `INSERT INTO invitations (id, tenant_id, email, role, token_hash, invited_by, created_ms, expires_ms, shared)
     SELECT (SELECT substr(MAX(id), 1, 14) FROM invitations) || printf('%016d', value), 'ten_x', value || '@x.test', 'viewer', 'all' || value, 'x', 1, 1, 1
     FROM json_each(?)`,
    JSON.stringify(Array.from({ length: 5_000 }, (_, at) => at)),
  );
  try {
    assert.deepEqual(await statuses(3, () => invite(thief, address())), [429, 429, 429]);
    const fresh = await inviting();
    assert.deepEqual(await statuses(3, () => invite(fresh, address())), [201, 201, 429]);
    assert.deepEqual(await statuses(4, () => invite(paid, address())), [201, 201, 201, 201]);
  } finally {
    await worker.sql("DELETE FROM invitations WHERE tenant_id = 'ten_x'");
  }
});

test("an invitation that is repeated is the same one, and is sent again a few times", async () => {
  const owner = await signedUp(worker);
  const bob = address();
  const two = await Promise.all([invite(owner, bob), invite(owner, bob)]);
  assert.deepEqual(
    two.map(({ status }) => status),
    [201, 201],
  );
  const all = [...two, ...(await Promise.all(Array.from({ length: 6 }, () => invite(owner, bob))))];
  for (const { status, body } of all) assert.deepEqual([status, body], [201, two[0].body]);
  const { token } = await mailTo(worker, bob, 4);
  const mails = await mailsTo(worker, bob);
  assert.equal(mails.length, 4);
  for (const { text } of mails) assert.ok(text.includes(token), "the same link");
  const asked = (await audit(owner.session.tenant.id)).filter(({ action }) => action === "member.invited");
  assert.equal(asked.length, 1);
  // A mail that was late is not sent once its link was used.
  assert.equal((await new Browser(worker).call("POST", "/v1/members/join", { token })).status, 201);
  const [{ id }] = mails;
  await worker.sql("DELETE FROM mailbox WHERE mail_id = ?", id);
  await worker.sql("UPDATE mails SET state = 'queued', due_ms = 0, created_ms = created_ms - 120000 WHERE id = ?", id);
  await worker.cron("* * * * *");
  const state = async () => (await worker.sql("SELECT state FROM mails WHERE id = ?", id))[0].state;
  await until(async () => (await state()) !== "queued", "the mail is tried");
  assert.deepEqual([await state(), (await mailsTo(worker, bob)).length], ["failed", 3]);
});

test("a mail of a sign-in that was used is not sent", async () => {
  const { email } = await signedUp(worker);
  const { id } = await mailTo(worker, email);
  await worker.sql("DELETE FROM mailbox WHERE mail_id = ?", id);
  await worker.sql("UPDATE mails SET state = 'queued', due_ms = 0, created_ms = created_ms - 120000 WHERE id = ?", id);
  await worker.cron("* * * * *");
  const state = async () => (await worker.sql("SELECT state FROM mails WHERE id = ?", id))[0].state;
  await until(async () => (await state()) !== "queued", "the mail is tried");
  assert.deepEqual([await state(), await mailsTo(worker, email)], ["failed", []]);
});
