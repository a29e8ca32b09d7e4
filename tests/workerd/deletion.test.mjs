// A tenant is deleted by its owner, on the real Worker: asked for, confirmed by a mail, undone, or erased after a week.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, address, mailTo, mailsTo, signedUp } from "./browser.mjs";
import { startWorker, until } from "./worker.mjs";

const EVERY_MINUTE = "* * * * *";
const HOUR = 60 * 60_000;
const WEEK = 7 * 24 * HOUR;
const HASH = `0x${"ab".repeat(32)}`;
let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } })));
after(() => worker.stop());

const refusal = ({ status, body }) => [status, body.error_code];
const DELETING = [409, "TENANT_DELETING"];
const idOf = ({ session }) => session.tenant.id;
const ask = (owner, confirm = idOf(owner), more = {}) => owner.browser.call("DELETE", "/v1/tenant", { ...more, confirm });
const confirm = (by, token) => by.browser.call("POST", "/v1/tenant/deletion", { token });
const undo = ({ browser }) => browser.call("DELETE", "/v1/tenant/deletion");
const read = async ({ browser }) => (await browser.call("GET", "/v1/tenant")).body.tenant;
const whoami = (key) => worker.call("GET", "/v1/whoami", { key });
const row = async (tenant) => (await worker.sql("SELECT * FROM deletions WHERE tenant_id = ?", tenant))[0];
const cron = () => worker.cron(EVERY_MINUTE);

/** Asks, and reads the token of the mail. */
async function asked(owner, body = {}) {
  const seen = (await mailsTo(worker, owner.email)).length;
  const answer = await ask(owner, idOf(owner), body);
  assert.equal(answer.status, 202, JSON.stringify(answer.body));
  assert.equal(answer.body.email, owner.email);
  const mail = await mailTo(worker, owner.email, seen + 1);
  assert.equal(mail.subject, "Delete your tenant?");
  assert.ok(mail.text.includes(idOf(owner)) && mail.text.includes(`/delete#token=${mail.token}`), mail.text);
  return mail.token;
}

/** Deletes a tenant, up to the week in which that can be undone. */
async function deleted(owner) {
  const token = await asked(owner);
  const answer = await confirm(owner, token);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return { token, due: answer.body.due_at };
}

/** A person who has joined the tenant of `owner`; `by` is the browser of one who has an account. */
async function joined(owner, role, email = address(), browser = new Browser(worker)) {
  const seen = (await mailsTo(worker, email)).length;
  const invited = await owner.browser.call("POST", "/v1/members/invitations", { email, role });
  assert.equal(invited.status, 201, JSON.stringify(invited.body));
  const { token } = await mailTo(worker, email, seen + 1);
  const made = await browser.call("POST", "/v1/members/join", { token });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  return { browser, email, ...made.body };
}

/** Signs in anew: a session without a request ends after a week. */
async function signedIn(email) {
  const seen = (await mailsTo(worker, email)).length;
  const browser = new Browser(worker);
  await browser.logIn(email);
  const { token } = await mailTo(worker, email, seen + 1);
  return { browser, email, ...(await browser.session({ token })) };
}

/** Where a text stands in the directory, in any column of any table. */
async function placesOf(text) {
  const tables = await worker.sql(
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf%' ESCAPE '\\' AND name NOT LIKE 'sqlite%'",
  );
  const found = [];
  for (const { name } of tables)
    for (const each of await worker.sql(`SELECT * FROM ${name}`))
      for (const [column, value] of Object.entries(each)) if (String(value).includes(text)) found.push(`${name}.${column}`);
  return found;
}

test("the documented bodies are taken, with the values of the tenant and the mail", async () => {
  const ann = await signedUp(worker);
  const { paths } = (await worker.call("GET", "/v1/openapi.json")).body;
  const example = (path, method) => paths[path][method].requestBody.content["application/json"].example;
  const documented = example("/v1/tenant", "delete");
  const stranger = await ann.browser.call("DELETE", "/v1/tenant", documented);
  assert.deepEqual([...refusal(stranger), stranger.body.param], [422, "INVALID_REQUEST", "confirm"]);
  const token = await asked(ann, { ...documented, confirm: idOf(ann) });
  const body = example("/v1/tenant/deletion", "post");
  assert.deepEqual(refusal(await ann.browser.call("POST", "/v1/tenant/deletion", body)), [422, "INVALID_CONFIRMATION"]);
  assert.equal((await ann.browser.call("POST", "/v1/tenant/deletion", { ...body, token })).status, 200);
  assert.equal((await undo(ann)).status, 200);
});

test("nothing is deleted until the mail's token is given back, by an owner of that tenant", async () => {
  const [ann, bob] = [await signedUp(worker), await signedUp(worker)];
  for (const wrong of ["yes", idOf(bob), ""]) {
    const answer = await ask(ann, wrong);
    assert.deepEqual([...refusal(answer), answer.body.param], [422, "INVALID_REQUEST", "confirm"], wrong);
  }
  assert.deepEqual(refusal(await undo(ann)), [404, "NOT_FOUND"]);
  const token = await asked(ann);
  assert.deepEqual([(await read(ann)).status, (await read(ann)).deletion_due_at], ["active", null]);
  assert.equal((await whoami(ann.api_keys.live)).status, 200, "the keys hold");
  for (const wrong of ["x", "ab".repeat(32)]) assert.deepEqual(refusal(await confirm(ann, wrong)), [422, "INVALID_CONFIRMATION"]);
  // It is not another tenant's, and no key takes a session's place.
  assert.deepEqual(refusal(await confirm(bob, token)), [422, "INVALID_CONFIRMATION"]);
  const byKey = await worker.call("POST", "/v1/tenant/deletion", { key: ann.api_keys.live, body: { token } });
  assert.deepEqual(refusal(byKey), [401, "INVALID_SESSION"]);
  // A newer mail replaces the older.
  const newer = await asked(ann);
  assert.deepEqual(refusal(await confirm(ann, token)), [422, "INVALID_CONFIRMATION"]);
  assert.equal((await confirm(ann, newer)).status, 200);
});

test("only owners ask, confirm and undo, and an address gets a few such mails a day", async () => {
  const owner = await signedUp(worker);
  for (const role of ["viewer", "developer"]) {
    const person = await joined(owner, role);
    for (const answer of [await ask(person, idOf(owner)), await confirm(person, "x"), await undo(person)])
      assert.deepEqual(refusal(answer), [403, "INSUFFICIENT_ROLE"], role);
  }
  for (let sent = 0; sent < 5; sent++) await asked(owner);
  assert.deepEqual(refusal(await ask(owner)), [429, "RATE_LIMITED"]);
  const suspended = await signedUp(worker);
  await worker.call("PATCH", `/v1/admin/tenants/${idOf(suspended)}`, { admin: true, body: { status: "suspended" } });
  assert.deepEqual(refusal(await ask(suspended)), [403, "TENANT_SUSPENDED"]);
});

test("once confirmed, the keys are dead for the next request, and the tenant is read and not changed", async () => {
  const ann = await signedUp(worker);
  const viewer = await joined(ann, "viewer");
  const open = address();
  await ann.browser.call("POST", "/v1/members/invitations", { email: open, role: "owner" });
  const { token: invitation } = await mailTo(worker, open);
  const before = Date.now();
  const { token, due } = await deleted(ann);
  assert.ok(Date.parse(due) >= before + WEEK - 60_000 && Date.parse(due) <= Date.now() + WEEK + 60_000, due);
  for (const [environment, key] of Object.entries(ann.api_keys)) {
    const dead = [401, "INVALID_API_KEY"];
    const chain = environment === "live" ? "base" : "base-sepolia";
    assert.deepEqual(refusal(await whoami(key)), dead);
    assert.deepEqual(refusal(await worker.verify(key, { tx_hash: HASH, chain })), dead);
    for (const path of ["/facilitator/verify", "/facilitator/settle"])
      assert.deepEqual(refusal(await worker.call("POST", path, { key, body: {} })), dead, path);
  }
  for (const each of [ann, viewer]) {
    assert.deepEqual([(await read(each)).status, (await read(each)).deletion_due_at], ["deleting", due]);
    const { tenant } = (await each.browser.call("GET", "/v1/session")).body.session;
    assert.deepEqual([tenant.status, tenant.deletion_due_at], ["deleting", due]);
  }
  const { browser } = ann;
  for (const answer of [
    await ask(ann),
    await browser.call("POST", "/v1/api-keys", { name: "n", environment: "test" }),
    await browser.call("PATCH", "/v1/tenant", { company_name: "X" }),
    await browser.call("POST", "/v1/members/invitations", { email: address(), role: "viewer" }),
    await browser.call("POST", "/v1/recipients", { chain: "base-sepolia", address: "derive" }),
    await worker.call("POST", `/v1/admin/tenants/${idOf(ann)}/api-keys`, { admin: true, body: { name: "n", environment: "test" } }),
  ])
    assert.deepEqual(refusal(answer), DELETING, JSON.stringify(answer.body));
  assert.deepEqual(refusal(await new Browser(worker).call("POST", "/v1/members/join", { token: invitation })), [401, "INVALID_SIGN_IN"]);
  // The same again, as after an answer that was lost, and at once.
  const again = await Promise.all([confirm(ann, token), confirm(ann, token)]);
  assert.deepEqual(
    again.map(({ body }) => body),
    [{ due_at: due }, { due_at: due }],
  );
  const entries = (await browser.call("GET", "/v1/audit-log")).body.data.filter(({ action }) => action.startsWith("deletion."));
  assert.deepEqual(
    entries.map(({ action, actor, detail }) => [action, actor, detail]),
    [
      ["deletion.confirmed", ann.session.person.id, due],
      ["deletion.asked", ann.session.person.id, null],
    ],
  );
});

test("keys are dead although a ledger was not reached: the repeat or the timed job reaches it", async () => {
  for (const repeat of [true, false]) {
    const ann = await signedUp(worker);
    const token = await asked(ann);
    await worker.fault({ names: `"reload"`, unsent: true, stays: true });
    assert.deepEqual(refusal(await confirm(ann, token)), [503, "CHANGE_NOT_LOADED"]);
    await worker.fault(null);
    assert.equal((await row(idOf(ann))).closed_ms, null);
    if (repeat) assert.equal((await confirm(ann, token)).status, 200);
    else await cron();
    for (const key of Object.values(ann.api_keys)) assert.deepEqual(refusal(await whoami(key)), [401, "INVALID_API_KEY"]);
    assert.notEqual((await row(idOf(ann))).closed_ms, null);
  }
});

test("within the week an owner undoes it: old keys stay dead, new ones serve", async () => {
  const ann = await signedUp(worker);
  const other = await joined(ann, "owner");
  await deleted(ann);
  assert.equal((await undo(other)).status, 200, "any owner");
  assert.deepEqual([(await read(ann)).status, (await read(ann)).deletion_due_at], ["active", null]);
  assert.deepEqual(refusal(await whoami(ann.api_keys.live)), [401, "INVALID_API_KEY"]);
  const made = await ann.browser.call("POST", "/v1/api-keys", { name: "n", environment: "live" });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  assert.equal((await whoami(made.body.key)).status, 200);
  assert.deepEqual(refusal(await undo(ann)), [404, "NOT_FOUND"]);
  await cron();
  assert.equal((await whoami(made.body.key)).status, 200);
  // It can be deleted again, with a token of its own.
  await deleted(ann);
  assert.deepEqual(refusal(await whoami(made.body.key)), [401, "INVALID_API_KEY"]);
});

// The clock goes forward from here on.
test("a deletion that is undone is undone, although a ledger was not reached", async () => {
  const ann = await signedUp(worker);
  await deleted(ann);
  await worker.fault({ names: `"reload"`, unsent: true, stays: true });
  assert.deepEqual(refusal(await undo(ann)), [503, "CHANGE_NOT_LOADED"]);
  assert.equal((await read(ann)).status, "active");
  await worker.fault(null);
  assert.equal((await undo(ann)).status, 200, "the same request again");
  await cron();
  assert.equal(await row(idOf(ann)), undefined);
  for (const key of Object.values(ann.api_keys)) assert.deepEqual(refusal(await whoami(key)), [401, "INVALID_API_KEY"]);
  assert.deepEqual(refusal(await undo(ann)), [404, "NOT_FOUND"]);
});

test("a token holds for an hour", async () => {
  const ann = await signedUp(worker);
  const token = await asked(ann);
  await worker.advance(HOUR + 1_000);
  assert.deepEqual(refusal(await confirm(ann, token)), [422, "INVALID_CONFIRMATION"]);
  assert.equal((await whoami(ann.api_keys.live)).status, 200);
});

test("after the week all that is personal is erased, and a person of two tenants keeps the other", async () => {
  const [ann, bob] = [await signedUp(worker), await signedUp(worker)];
  const company = `Company ${crypto.randomUUID()}`;
  const support = address();
  await ann.browser.call("PATCH", "/v1/tenant", { company_name: company, support_address: support });
  await worker.sql(`UPDATE tenants SET branding = '{"name":"Ann"}' WHERE id = ?`, idOf(ann));
  const keyName = `key ${crypto.randomUUID()}`;
  await ann.browser.call("POST", "/v1/api-keys", { name: keyName, environment: "test" });
  await joined(ann, "developer", bob.email, bob.browser);
  const gone = await joined(ann, "viewer");
  const invited = address();
  await ann.browser.call("POST", "/v1/members/invitations", { email: invited, role: "viewer" });
  await mailTo(worker, invited);
  const [person, their] = [ann.session.person.id, bob.session.person.id];
  for (const [subject, of] of [
    ["a", person],
    ["b", their],
  ])
    await worker.sql("INSERT INTO identities (provider, subject, person_id, created_ms) VALUES ('github', ?, ?, 1)", subject + of, of);
  // An identity provider of Ann's company, by which both have signed in.
  const secret = `sealed-${crypto.randomUUID()}`;
  await worker.sql(
    "INSERT INTO oidc_connections VALUES (?, ?, 'https://idp.example', 'c', ?, 'viewer', 't', 1, 1, 1, 1)",
    idOf(ann),
    `${idOf(ann).replace("_", "-")}.example`,
    secret,
  );
  await worker.sql(
    `INSERT INTO webhook_endpoints (id, tenant_id, environment, url, events, status, secret_sealed, created_ms, updated_ms)
     VALUES (?, ?, 'live', 'https://shop.example/', '[]', 'active', ?, 1, 1)`,
    "whe_01KB0000000000000000000000",
    idOf(ann),
    secret,
  );
  for (const of of [person, their])
    await worker.sql("INSERT INTO identities (provider, subject, person_id, created_ms) VALUES (?, ?, ?, 1)", `oidc ${idOf(ann)}`, of, of);
  for (const { email } of [ann, bob]) await worker.sql("INSERT INTO mail_addresses VALUES (?, 'complained', 1)", email);
  await worker.sql("DELETE FROM mail_addresses WHERE address = ?", ann.email);
  const { due } = await deleted(ann);
  await worker.sql("INSERT INTO mail_addresses VALUES (?, 'complained', 1)", ann.email);

  await worker.advance(WEEK - HOUR);
  await cron();
  assert.equal((await row(idOf(ann))).erasing_ms, null, "not before it is due");
  await worker.sql("DELETE FROM mail_addresses WHERE address = ?", ann.email);
  const back = await signedIn(ann.email);
  assert.equal((await read(back)).deletion_due_at, due);
  await worker.sql("INSERT INTO mail_addresses VALUES (?, 'complained', 1)", ann.email);
  await worker.advance(HOUR + 60_000);
  // Due, and not erased yet: nobody undoes it.
  assert.deepEqual(refusal(await undo(back)), DELETING);
  const entries = "SELECT id, actor_id, action, detail, created_ms FROM audit_log WHERE tenant_id = ? ORDER BY id";
  const log = await worker.sql(entries, idOf(ann));
  await cron();
  const after = await row(idOf(ann));
  assert.ok(after.erased_ms, JSON.stringify(after));
  for (const text of [ann.email, gone.email, invited, company, support, keyName, secret, `oidc ${idOf(ann)}`])
    assert.deepEqual(await placesOf(text), [], text);
  const [tenant] = await worker.sql("SELECT * FROM tenants WHERE id = ?", idOf(ann));
  assert.deepEqual([tenant.email, tenant.status, tenant.branding], [`${idOf(ann)}@erased.invalid`, "cancelled", null]);
  assert.deepEqual((await worker.sql(entries, idOf(ann))).slice(0, log.length), log, "the log is kept");
  const left = await worker.sql("SELECT * FROM audit_log WHERE tenant_id = ? ORDER BY id", idOf(ann));
  assert.ok(left.every(({ ip_prefix, user_agent, subject }) => ip_prefix === "erased" && user_agent === null && !subject.includes("@")));
  assert.deepEqual([left.at(-1).action, left.at(-1).actor_kind], ["deletion.done", "system"]);
  assert.deepEqual(refusal(await back.browser.call("GET", "/v1/session")), [401, "INVALID_SESSION"]);
  assert.deepEqual(
    (await worker.sql("SELECT person_id FROM identities WHERE person_id IN (?, ?)", person, their)).map((each) => each.person_id),
    [their],
  );
  // Bob is there, in the tenant of his own alone.
  await worker.sql("DELETE FROM mail_addresses WHERE address = ?", bob.email);
  const bobs = await signedIn(bob.email);
  assert.deepEqual(
    bobs.body.tenants.map(({ id }) => id),
    [idOf(bob)],
  );
  assert.equal((await whoami(bob.api_keys.live)).status, 200);
  // The address is free: it makes a tenant of its own.
  const anew = await signedUp(worker, ann.email);
  assert.notEqual(idOf(anew), idOf(ann));
  assert.equal((await read(anew)).status, "active");
  // The nightly and the next runs find nothing to do.
  const wholly = await row(idOf(ann));
  await cron();
  assert.deepEqual(await row(idOf(ann)), wholly);
  assert.equal((await whoami(anew.api_keys.live)).status, 200);
});

test("a run that fails at any step is finished by a later one, and keeps no other tenant waiting", async () => {
  const [ann, bob] = [await signedUp(worker), await signedUp(worker)];
  await joined(ann, "viewer");
  await ann.browser.call("POST", "/v1/members/invitations", { email: address(), role: "viewer" });
  for (const owner of [ann, bob]) await deleted(owner);
  await worker.advance(WEEK + 60_000);
  const stop = (what, when) => `CREATE TRIGGER stop BEFORE ${what} WHEN ${when} BEGIN SELECT RAISE(ABORT, 'stopped'); END`;
  for (const [what, when] of [
    ["UPDATE OF erasing_ms ON deletions", `OLD.tenant_id = '${idOf(ann)}'`],
    ["UPDATE OF email ON tenants", `OLD.id = '${idOf(ann)}'`],
    ["DELETE ON people", `OLD.email = '${ann.email}'`],
    ["DELETE ON invitations", `OLD.tenant_id = '${idOf(ann)}'`],
    ["UPDATE ON audit_log", `OLD.tenant_id = '${idOf(ann)}'`],
    ["UPDATE OF erased_ms ON deletions", `OLD.tenant_id = '${idOf(ann)}'`],
  ]) {
    await worker.sql(stop(what, when));
    await cron();
    await worker.sql("DROP TRIGGER stop");
    assert.equal((await row(idOf(ann))).erased_ms, null, what);
    assert.ok((await row(idOf(bob))).erased_ms, "the other is done");
    assert.deepEqual(refusal(await whoami(ann.api_keys.live)), [401, "INVALID_API_KEY"]);
  }
  await cron();
  assert.ok((await row(idOf(ann))).erased_ms);
  assert.deepEqual(await placesOf(ann.email), []);
  const done = await worker.sql("SELECT 1 FROM audit_log WHERE tenant_id = ? AND action = 'deletion.done'", idOf(ann));
  assert.equal(done.length, 1);
});

test("more than one turn takes is erased in several", async () => {
  const ann = await signedUp(worker);
  const places = (count) => JSON.stringify(Array.from({ length: count }, (_, at) => at));
  await worker.sql(
    `INSERT INTO audit_log (id, tenant_id, actor_id, action, subject, ip_prefix, user_agent, created_ms)
     SELECT 'aud_' || ?1 || value, ?1, ?2, 'member.invited', 'p' || value || '@many.test', '10.0.0.0/24', 'curl', 1
     FROM json_each(?3)`,
    idOf(ann),
    ann.session.person.id,
    places(250),
  );
  const people = "SELECT printf('per_%026d', value), 'p' || value || '@many.test', 1 FROM json_each(?)";
  await worker.sql(`INSERT INTO people ${people}`, places(23));
  const members = "SELECT ?, printf('per_%026d', value), 'viewer', 1 FROM json_each(?)";
  await worker.sql(`INSERT INTO members (tenant_id, person_id, role, created_ms) ${members}`, idOf(ann), places(23));
  await deleted(ann);
  await worker.advance(WEEK + 60_000);
  await cron();
  assert.ok((await row(idOf(ann))).erased_ms);
  assert.deepEqual(await placesOf("@many.test"), []);
});

test("the audit log is changed by an erasure alone, and only so", async () => {
  const ann = await signedUp(worker);
  const change = (what) => worker.sql(`UPDATE audit_log SET ${what} WHERE tenant_id = ?`, idOf(ann));
  const erase = "ip_prefix = 'erased', user_agent = NULL";
  await assert.rejects(change(erase), /the audit log is not changed/);
  await deleted(ann);
  await assert.rejects(change(erase), /the audit log is not changed/, "not while it can be undone");
  await worker.sql("UPDATE deletions SET erasing_ms = 1 WHERE tenant_id = ?", idOf(ann));
  for (const more of ["detail = 'x'", "actor_id = 'x'", "action = 'x'", "created_ms = 1", "subject = 'x'", "actor_kind = 'key'"])
    await assert.rejects(change(`${erase}, ${more}`), /the audit log is not changed/, more);
  await assert.rejects(change("ip_prefix = 'x', user_agent = NULL"), /the audit log is not changed/);
  await assert.rejects(worker.sql("DELETE FROM audit_log WHERE tenant_id = ?", idOf(ann)), /the audit log is kept/);
});

test("events name no address of a person", async () => {
  const ann = await signedUp(worker);
  const person = await joined(ann, "viewer");
  const events = await until(async () => {
    const all = await worker.sql("SELECT * FROM directory_outbox WHERE tenant_id = ?", idOf(ann));
    return all.some(({ kind }) => kind === "member.joined") && all;
  }, "the events");
  assert.ok(events.length >= 5, `${events.length} events`);
  for (const text of [ann.email, person.email]) assert.ok(!JSON.stringify(events).includes(text));
  const [invited] = events.filter(({ kind }) => kind === "member.invited");
  const [entry] = await worker.sql("SELECT subject FROM audit_log WHERE id = ?", invited.subject);
  assert.equal(entry.subject, person.email, "the entry of the audit log, which is erased, names it");
});
