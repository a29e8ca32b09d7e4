// The audit log and the directory's events, on the real Worker: what every change records, and that its event arrives.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { signedUp } from "./browser.mjs";
import { stored } from "./months.mjs";
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
const arrived = (tenant, on = worker) =>
  stored(on, tenant).flatMap(({ events, environment }) => events.map((event) => ({ ...event, environment })));

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
    const { actor_kind, actor_id: actor, action, subject, detail } = made[at];
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
    ["POST", "/recipients", { ...added, address: OTHER, default: true }, ["operator", "recipient.default", "base", "tenant.updated", "live"]],
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
    const all = arrived(id);
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
    const of = arrived(id).filter(({ subject }) => subject === made.body.api_key.id);
    assert.deepEqual(
      of.map(({ kind }) => kind),
      ["key.created"],
      JSON.stringify(what),
    );
  }
});

/** A key of a tenant with some scopes. */
async function keyWith(tenant, scopes, environment = "test") {
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
  assert.deepEqual((await log(manages)).body, body);
  assert.equal(body.data.length, 6);
  assert.ok(!("access-control-allow-origin" in headers));
  const refused = await log(verifies);
  assert.deepEqual(refusal(refused), [403, "INSUFFICIENT_SCOPE"], "beside the cookie");
  assert.ok(!("access-control-allow-origin" in refused.headers), "the ledger's own answer");
  assert.deepEqual(refusal(await log("x402_test_forged")), [401, "INVALID_API_KEY"], "beside the cookie");
  assert.deepEqual(refusal(await worker.call("GET", "/v1/audit-log")), [401, "INVALID_API_KEY"]);
  const cookie = { cookie: `__Host-session=${"ab".repeat(32)}` };
  assert.deepEqual(refusal(await owner.browser.call("GET", "/v1/audit-log", undefined, cookie)), [401, "INVALID_SESSION"]);
  const stranger = await worker.tenant();
  const other = await worker.call("GET", "/v1/audit-log", { key: await keyWith(stranger.id, ["manage"]) });
  assert.equal(other.body.data.length, 4, "its own");
  await worker.call("PATCH", `/v1/admin/tenants/${tenant}`, { admin: true, body: { status: "suspended" } });
  assert.deepEqual(refusal(await log(manages)), [403, "TENANT_SUSPENDED"]);
  assert.equal((await log()).status, 200);
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
    assert.equal(arrived(id, second).length, 4);
  });
});
