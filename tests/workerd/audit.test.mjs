// The audit log and the directory's events, on the real Worker: what every change records, and that its event arrives.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, address, mailTo, signedUp } from "./browser.mjs";
import { storedChanges } from "./months.mjs";
import { startWorker, until, withState } from "./worker.mjs";

const EVM = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
const OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const EVERY_MINUTE = "* * * * *";
const VARS = { MAIL_BACKEND: "mailbox" };
let worker;
before(async () => (worker = await startWorker({ vars: VARS })));
after(() => worker.stop());

const entries = (tenant, on = worker) => on.sql("SELECT * FROM audit_log WHERE tenant_id = ? ORDER BY id", tenant);
const outbox = (tenant, on = worker) => on.sql("SELECT * FROM directory_outbox WHERE tenant_id = ? ORDER BY seq", tenant);

/** What a call has recorded: entries and events, each event that of its entry. */
async function recorded(tenant, act) {
  const before = (await entries(tenant)).length;
  const answer = await act();
  const [made, events] = [(await entries(tenant)).slice(before), (await outbox(tenant)).slice(before)];
  assert.deepEqual(
    events.map(({ event_id }) => event_id.slice(4)),
    made.map(({ id }) => id.slice(4)),
  );
  for (const [at, { body, ...event }] of events.entries()) {
    const { id, actor_kind, actor_id: actor, action, detail } = made[at];
    // An event is kept for good: it names the entry in place of a person's address.
    const subject = made[at].subject.includes("@") ? id : made[at].subject;
    assert.deepEqual(JSON.parse(body), { action, subject, detail, actor_kind, actor });
    assert.equal(event.subject, subject);
  }
  return { answer, made, events };
}

const brief = ({ made, events }) =>
  made.map(({ actor_kind, action, detail }, at) => [actor_kind, action, detail, events[at].kind, events[at].environment]);

test("each change by an operator records one entry and one event, a repeat none", async () => {
  const { id } = await worker.tenant();
  const path = `/v1/admin/tenants/${id}`;
  const call = (method, rest, body) => () => worker.call(method, path + rest, { admin: true, body });
  const made = await recorded(id, call("POST", "/api-keys", { name: "ci", environment: "test" }));
  assert.deepEqual(brief(made), [["operator", "key.created", "test", "key.created", "test"]]);
  const key = made.answer.body.api_key.id;
  assert.equal(made.made[0].subject, key);
  const added = { chain: "base", address: EVM };
  const test = { chain: "base-sepolia", address: EVM };
  for (const [method, rest, body, want] of [
    ["DELETE", `/api-keys/${key}`, undefined, ["operator", "key.revoked", "test", "key.revoked", "test"]],
    ["POST", "/recipients", added, ["operator", "recipient.added", "base", "recipient.added", "live"]],
    ["POST", "/recipients", test, ["operator", "recipient.added", "base-sepolia", "recipient.added", "test"]],
    ["POST", "/recipients", { ...added, address: OTHER }, ["operator", "recipient.added", "base", "recipient.added", "live"]],
    [
      "POST",
      "/recipients",
      { ...added, address: OTHER, default: true },
      ["operator", "recipient.default", "base", "tenant.updated", "live"],
    ],
    ["DELETE", `/recipients/${EVM}`, undefined, ["operator", "recipient.retired", null, "recipient.retired", "live"]],
    ["PATCH", "", { recipients: { base: null } }, ["operator", "recipient.retired", null, "recipient.retired", "live"]],
    ["POST", "/recipients", added, ["operator", "recipient.added", "base", "recipient.added", "live"]],
  ]) {
    const once = await recorded(id, call(method, rest, body));
    assert.ok([200, 201].includes(once.answer.status), `${method} ${rest}: ${once.answer.text}`);
    assert.deepEqual(brief(once), [want], `${method} ${rest} ${JSON.stringify(body)}`);
    const again = await recorded(id, call(method, rest, body));
    assert.deepEqual([again.answer.status, brief(again)], [once.answer.status, []], `again ${method} ${rest}`);
  }
  const patched = await recorded(id, call("PATCH", "", { status: "suspended", company_name: "B" }));
  assert.deepEqual(brief(patched), [["operator", "tenant.updated", "status=suspended, company_name", "tenant.updated", "live"]]);
  const refused = await recorded(id, call("PATCH", "", { tier: "gold" }));
  assert.deepEqual([refused.answer.status, brief(refused)], [422, []]);
});

test("each change of members records one entry and one event", async () => {
  const owner = await signedUp(worker);
  const { id } = owner.session.tenant;
  const call = (method, rest, body) => () => owner.browser.call(method, `/v1/members${rest}`, body);
  const email = address();
  const invited = await recorded(id, call("POST", "/invitations", { email, role: "viewer" }));
  assert.deepEqual(brief(invited), [["person", "member.invited", "viewer", "member.invited", "live"]]);
  const { token } = await mailTo(worker, email);
  const join = () => new Browser(worker).call("POST", "/v1/members/join", { token });
  const joined = await recorded(id, join);
  assert.deepEqual(brief(joined), [["person", "member.joined", "viewer", "member.joined", "live"]]);
  const { person } = joined.answer.body.session;
  assert.equal(joined.made[0].actor_id, person.id, "who joins is the actor");
  assert.deepEqual(brief(await recorded(id, join)), [], "an invitation that was used");
  const changed = await recorded(id, call("PATCH", `/${person.id}`, { role: "developer" }));
  assert.deepEqual(brief(changed), [["person", "member.changed", "developer", "tenant.updated", "live"]]);
  const removed = await recorded(id, call("DELETE", `/${person.id}`));
  assert.deepEqual(brief(removed), [["person", "member.removed", null, "member.removed", "live"]]);
  assert.deepEqual(brief(await recorded(id, call("DELETE", `/${person.id}`))), []);
  assert.deepEqual(brief(await recorded(id, call("DELETE", `/${owner.session.person.id}`))), [], "the last owner stays");
  const other = await owner.browser.call("POST", "/v1/members/invitations", { email: address(), role: "viewer" });
  const revoked = await recorded(id, call("DELETE", `/invitations/${other.body.invitation.id}`));
  assert.deepEqual(brief(revoked), [["person", "invitation.revoked", null, "tenant.updated", "live"]]);
});

test("a new tenant records itself, its keys and its recipients", async () => {
  const { id } = await worker.tenant({ recipients: { base: `0x${"5e".repeat(20)}` } });
  const made = (await entries(id)).map(({ actor_kind, actor_id, action }) => [actor_kind, actor_id, action]);
  const actions = ["tenant.created", "key.created", "key.created", "recipient.added"];
  assert.deepEqual(
    made,
    actions.map((action) => ["operator", "operator", action]),
  );
  assert.equal((await outbox(id)).length, actions.length);
});

test("an address that another tenant held by its first use is recorded once", async () => {
  const [first, second] = [await worker.tenant(), await worker.tenant()];
  const address = `0x${"7a".repeat(20)}`;
  await worker.sql(
    "INSERT INTO recipients (environment, address, tenant_id, created_ms, first_use) VALUES ('test', ?, ?, 1, 1)",
    "0x7a7a7a7A7a7A7a7A7a7a7A7A7A7a7a7a7a7a7a7a",
    first.id,
  );
  const body = { chain: "base-sepolia", address };
  const taken = await recorded(second.id, () => worker.call("POST", `/v1/admin/tenants/${second.id}/recipients`, { admin: true, body }));
  assert.equal(taken.answer.status, 201, taken.answer.text);
  assert.deepEqual(brief(taken), [["operator", "recipient.added", "base-sepolia", "recipient.added", "test"]]);
});

test("events go to the records of their month and environment, once", async () => {
  const { id } = await worker.tenant();
  const events = await until(() => {
    const all = storedChanges(worker, id);
    return all.length >= 3 && all;
  }, "three events");
  const rows = await until(async () => {
    const all = await outbox(id);
    return all.every(({ shipped_ms }) => shipped_ms !== null) && all;
  }, "the mark of each event");
  const got = (all) => all.map(({ id, kind, subject, body, at, environment }) => [id, kind, subject, body, at, environment]).sort();
  const want = rows.map(({ event_id, kind, subject, body, created_ms, environment }) => [
    event_id,
    kind,
    subject,
    JSON.parse(body),
    created_ms,
    environment,
  ]);
  assert.deepEqual(got(events), want.sort());
});

test("an event that is lost on its way, or whose answer is, arrives by the timed job, once", async () => {
  for (const what of [{ unsent: true }, { lost: true }, { refused: true }]) {
    const { id } = await worker.tenant();
    await until(async () => (await outbox(id)).every(({ shipped_ms }) => shipped_ms !== null), "the first events");
    // The change itself arrives: only the way to the records is faulty.
    await worker.fault({ names: `"month"`, ...what, stays: true });
    const made = await worker.call("POST", `/v1/admin/tenants/${id}/api-keys`, { admin: true, body: { name: "ci", environment: "live" } });
    assert.equal(made.status, 201, made.text);
    await until(async () => (await outbox(id)).some(({ tries }) => tries > 0), "a try");
    assert.equal((await outbox(id)).filter(({ shipped_ms }) => shipped_ms === null).length, 1, JSON.stringify(what));
    await worker.fault(null);
    await worker.cron(EVERY_MINUTE);
    assert.ok((await outbox(id)).every(({ shipped_ms }) => shipped_ms !== null));
    const of = storedChanges(worker, id).filter(({ subject }) => subject === made.body.api_key.id);
    assert.deepEqual(
      of.map(({ kind }) => kind),
      ["key.created"],
      JSON.stringify(what),
    );
  }
});

/** A key of a tenant with some scopes. */
async function keyWith(tenant, scopes, environment = "live") {
  const body = { name: scopes.join(), environment, scopes };
  return (await worker.call("POST", `/v1/admin/tenants/${tenant}/api-keys`, { admin: true, body })).body.key;
}

const refusal = ({ status, body }) => [status, body.error_code];

test("the log is read by an owner's session, or by a key with the scope `manage`, whose refusal no cookie mends", async () => {
  const owner = await signedUp(worker);
  const tenant = owner.session.tenant.id;
  const [manages, verifies] = [await keyWith(tenant, ["manage"]), await keyWith(tenant, ["verify", "settle", "analytics"])];
  const log = (key) => owner.browser.call("GET", "/v1/audit-log", undefined, key && { authorization: `Bearer ${key}` });
  const { body, headers } = await log();
  assert.equal(body.data.length, 6);
  const { data } = (await log(manages)).body;
  assert.deepEqual(
    data,
    body.data.filter(({ detail }) => detail !== "test"),
    "all but what is about test",
  );
  assert.ok(!("access-control-allow-origin" in headers));
  const refused = await log(verifies);
  assert.deepEqual(refusal(refused), [403, "INSUFFICIENT_SCOPE"], "beside the cookie");
  assert.ok(!("access-control-allow-origin" in refused.headers), "the ledger's own answer");
  assert.deepEqual(refusal(await log("x402_live_forged")), [401, "INVALID_API_KEY"], "beside the cookie");
  assert.deepEqual(refusal(await worker.call("GET", "/v1/audit-log")), [401, "INVALID_API_KEY"]);
  const cookie = { cookie: `__Host-session=${"ab".repeat(32)}` };
  assert.deepEqual(refusal(await owner.browser.call("GET", "/v1/audit-log", undefined, cookie)), [401, "INVALID_SESSION"]);
  const stranger = await worker.tenant();
  const other = await worker.call("GET", "/v1/audit-log", { key: await keyWith(stranger.id, ["manage"]) });
  assert.equal(other.body.data.length, 3, "its own");
  await worker.call("PATCH", `/v1/admin/tenants/${tenant}`, { admin: true, body: { status: "suspended" } });
  assert.deepEqual(refusal(await log(manages)), [403, "TENANT_SUSPENDED"]);
  assert.equal((await log()).status, 200);
});

test("a key reads what is about its own environment, and a live one what is about the tenant as a whole", async () => {
  const owner = await signedUp(worker);
  const { id } = owner.session.tenant;
  const [live, test] = [await keyWith(id, ["manage"], "live"), await keyWith(id, ["manage"], "test")];
  const changes = [
    ["POST", `/v1/admin/tenants/${id}/recipients`, { chain: "base", address: `0x${"6b".repeat(20)}` }],
    ["POST", `/v1/admin/tenants/${id}/recipients`, { chain: "base-sepolia", address: `0x${"6b".repeat(20)}` }],
    ["PATCH", `/v1/admin/tenants/${id}`, { company_name: "B" }],
  ];
  for (const [method, path, body] of changes) await worker.call(method, path, { admin: true, body });
  await owner.browser.call("POST", "/v1/members/invitations", { email: address(), role: "viewer" });
  const rows = await entries(id);
  const of = (wanted) =>
    rows
      .filter(({ environment }) => wanted.includes(environment))
      .map(({ id: entry }) => entry)
      .reverse();
  const seen = async (key) => {
    const { body } = await worker.call("GET", "/v1/audit-log?limit=100", { key });
    const file = (await worker.call("GET", "/v1/audit-log?format=csv", { key })).text.split("\r\n").slice(1, -1);
    const ids = body.data.map(({ id: entry }) => entry);
    assert.deepEqual(
      file.map((line) => line.split('"')[1]),
      ids,
      "the file holds the same",
    );
    return ids;
  };
  assert.deepEqual(await seen(test), of(["test"]));
  assert.deepEqual(await seen(live), of(["live", null]));
  const whole = (await owner.browser.call("GET", "/v1/audit-log?limit=100")).body.data;
  assert.equal(whole.length, rows.length);
  const bound = rows.filter(({ action }) => /^(key|recipient)\./.test(action));
  assert.deepEqual(
    bound.map(({ environment }) => environment),
    ["live", "test", "live", "test", "live", "test"],
  );
  assert.ok(rows.every((row) => bound.includes(row) === (row.environment !== null)));
  for (const [key, environment] of [
    [live, "live"],
    [test, "test"],
  ]) {
    const { data } = (await worker.call("GET", "/v1/api-keys", { key })).body;
    assert.deepEqual(
      data.map((each) => each.environment),
      [environment, environment],
    );
  }
  assert.equal((await owner.browser.call("GET", "/v1/api-keys")).body.data.length, 4);
});

test("entries are filtered by actor, action and time, and exported without formulas", async () => {
  const owner = await signedUp(worker);
  const [tenant, person] = [owner.session.tenant.id, owner.session.person.id];
  const key = await keyWith(tenant, ["manage"]);
  const { id } = (await worker.call("GET", "/v1/whoami", { key })).body.api_key;
  const agent = { "user-agent": '=HYPERLINK("https://x.test"),2' };
  const body = { name: "ci", environment: "live", scopes: ["manage"] };
  assert.equal((await worker.call("POST", "/v1/api-keys", { key, body, headers: agent })).status, 201);
  const log = async (query) => {
    const { status, body } = await owner.browser.call("GET", `/v1/audit-log?${query}`);
    assert.equal(status, 200, `${query}: ${JSON.stringify(body)}`);
    return body.data;
  };
  const all = await log("");
  assert.deepEqual(
    all.map(({ actor }) => actor),
    [id, "operator", person, person, person, person],
  );
  const by = (wanted) => all.filter(wanted);
  assert.deepEqual(await log(`actor=${person}`), all.slice(2));
  assert.deepEqual(await log(`actor=${id}`), all.slice(0, 1));
  assert.deepEqual(await log("actor=operator"), all.slice(1, 2));
  assert.deepEqual(await log("actor=system"), []);
  assert.deepEqual(
    await log(`actor=${person}&action=key.created`),
    by(({ actor, action }) => actor === person && action === "key.created"),
  );
  const { created_at: at } = all[1];
  assert.deepEqual(
    await log(`since=${at}`),
    by(({ created_at }) => created_at >= at),
  );
  assert.deepEqual(
    await log(`until=${at}`),
    by(({ created_at }) => created_at < at),
  );
  assert.deepEqual(await log(`since=${at}&until=${at}`), []);
  // Pages keep the filters.
  const page = async (query) => (await owner.browser.call("GET", `/v1/audit-log?${query}`)).body;
  const first = await page(`actor=${person}&limit=3&until=2100-01-01T00:00:00Z`);
  const second = await page(`actor=${person}&limit=3&cursor=${first.next_cursor}`);
  assert.deepEqual([...first.data, ...second.data, second.next_cursor], [...all.slice(2), null]);
  for (const wrong of ["actor=me", "action=x", "since=x", "until=1", "format=xml", "cursor=x"])
    assert.deepEqual(refusal(await worker.call("GET", `/v1/audit-log?${wrong}`, { key })), [422, "INVALID_REQUEST"], wrong);
  const file = await worker.call("GET", "/v1/audit-log?format=csv&action=key.created", { key });
  assert.equal(file.status, 200);
  assert.match(file.headers.get("content-type"), /^text\/csv/);
  assert.match(file.headers.get("content-disposition"), /^attachment/);
  const lines = file.text.split("\r\n");
  assert.equal(lines[0], "id,created_at,actor_kind,actor,action,subject,detail,ip_prefix,user_agent");
  const made = by(({ action, detail }) => action === "key.created" && detail === "live");
  assert.deepEqual([lines.length, lines.at(-1)], [1 + made.length + 1, ""]);
  assert.ok(lines[1].startsWith(`"${all[0].id}","${all[0].created_at}","key","${id}","key.created","`), lines[1]);
  assert.ok(lines[1].endsWith(`,"'=HYPERLINK(""https://x.test""),2"`), lines[1]);
  assert.equal(file.headers.get("link"), null);
});

test("an export of more entries than it holds names the next part", async () => {
  const { id } = await worker.tenant();
  const key = await keyWith(id, ["manage"]);
  await worker.sql(
    `INSERT INTO audit_log (id, tenant_id, actor_id, action, subject, ip_prefix, created_ms)
     SELECT 'aud_01' || printf('%024d', value), ?, 'operator', 'tenant.updated', value, 'unknown', 1 FROM json_each(?)`,
    id,
    JSON.stringify(Array.from({ length: 6_000 }, (_, at) => at)),
  );
  const first = await worker.call("GET", "/v1/audit-log?format=csv&action=tenant.updated", { key });
  const lines = first.text.split("\r\n");
  assert.equal(lines.length, 1 + 5_000 + 1);
  const [, next] = first.headers.get("link").match(/^<(.*)>; rel="next"$/);
  const second = await worker.call("GET", new URL(next).pathname + new URL(next).search, { key });
  const subjects = [first, second].flatMap(({ text }) =>
    text
      .split("\r\n")
      .slice(1, -1)
      .map((line) => Number(line.split('"')[11])),
  );
  assert.deepEqual(
    subjects,
    Array.from({ length: 6_000 }, (_, at) => 5_999 - at),
  );
  assert.equal(second.headers.get("link"), null);
});

test("nobody changes the audit log, and shipped events go after a month", async () => {
  const { id } = await worker.tenant();
  for (const sql of ["UPDATE audit_log SET detail = 'x'", "DELETE FROM audit_log"]) await assert.rejects(worker.sql(sql), /audit log/);
  await until(async () => (await outbox(id)).every(({ shipped_ms }) => shipped_ms !== null), "the events");
  await worker.advance(31 * 86_400_000);
  await worker.cron("17 3 * * *");
  assert.equal((await outbox(id)).length, 0);
  assert.equal((await entries(id)).length, 3);
});

// Every workerd of this process is killed: the last test.
test("a Worker that is killed between the change and the shipping loses no event", async () => {
  await withState(VARS, async (running) => {
    const { worker: first } = running;
    const { id } = await first.tenant();
    await until(async () => (await outbox(id, first)).every(({ shipped_ms }) => shipped_ms !== null), "the first events");
    await first.fault({ names: `"month"`, slow: 60_000, stays: true });
    const body = { name: "ci", environment: "live" };
    assert.equal((await first.call("POST", `/v1/admin/tenants/${id}/api-keys`, { admin: true, body })).status, 201);
    first.crash();
    const second = await running.again();
    assert.equal((await outbox(id, second)).filter(({ shipped_ms }) => shipped_ms === null).length, 1);
    await second.cron(EVERY_MINUTE);
    assert.ok((await outbox(id, second)).every(({ shipped_ms }) => shipped_ms !== null));
    assert.equal(storedChanges(second, id).length, 4);
  });
});
