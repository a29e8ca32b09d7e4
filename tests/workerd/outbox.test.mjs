// What follows a change of the directory when something is away: ledgers that hang, records, another build's events.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { mailTo, mailsTo, signedUp } from "./browser.mjs";
import { storedChanges } from "./months.mjs";
import { startWorker, until } from "./worker.mjs";

const EVERY_MINUTE = "* * * * *";
let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } })));
after(() => worker.stop());

const cron = () => worker.cron(EVERY_MINUTE);
const rows = (tenant) => worker.sql("SELECT * FROM directory_outbox WHERE tenant_id = ? ORDER BY seq", tenant);
const waiting = async (tenant) => (await rows(tenant)).filter(({ shipped_ms }) => shipped_ms === null);
const settled = (tenant) => until(async () => (await waiting(tenant)).length === 0, "the events of earlier changes");
const whoami = async (key) => (await worker.call("GET", "/v1/whoami", { key })).status;

/** An owner whose earlier events are shipped, with a key in use. */
async function seller(environment = "live") {
  const made = await signedUp(worker);
  const { id } = made.session.tenant;
  const { status, body } = await made.browser.call("POST", "/v1/api-keys", { name: "k", environment });
  assert.equal(status, 201, JSON.stringify(body));
  assert.equal(await whoami(body.key), 200);
  await settled(id);
  return { ...made, id, key: body.key, revoke: () => made.browser.call("DELETE", `/v1/api-keys/${body.api_key.id}`) };
}

/** Tenants whose ids begin so, each with some events that wait. */
async function backlog(prefix, tenants, events, kind) {
  const ids = JSON.stringify(Array.from({ length: tenants }, (_, at) => at));
  await worker.sql(
    `INSERT INTO tenants (id, email, tier, status, limits, sanctions, version, created_ms, updated_ms)
     SELECT ?1 || printf('%020d', value), ?1 || value || '@x.test', 'free', 'active', '{}', 'refuse', 1, 1, 1 FROM json_each(?2)`,
    prefix,
    ids,
  );
  await worker.sql(
    `INSERT INTO directory_outbox (event_id, tenant_id, environment, kind, subject, body, created_ms)
     SELECT (SELECT substr(MAX(event_id), 1, 14) FROM directory_outbox) || substr(hex(randomblob(8)), 1, 16), t.id, 'live', ?2, 'x', '{}', 1
     FROM tenants t, json_each(?3) WHERE t.id LIKE ?1 || '%'`,
    prefix,
    kind,
    JSON.stringify(Array.from({ length: events }, (_, at) => at)),
  );
}

test("one ledger of a tenant loads a revocation while the other is away", async () => {
  const ann = await seller("test");
  await worker.fault({ names: `"reload"`, unsent: true, stays: true });
  assert.equal((await ann.revoke()).body.error_code, "CHANGE_NOT_LOADED");
  await worker.fault({ names: `"${ann.id}","environment":"live"`, unsent: true, stays: true });
  await cron();
  assert.equal(await whoami(ann.key), 401);
  assert.equal((await waiting(ann.id)).length, 1, "the event waits for the other");
  await worker.fault(null);
  await cron();
  assert.equal((await waiting(ann.id)).length, 0);
});

test("a backlog of events and hung ledgers delay no revocation of another tenant, and no mail", async () => {
  const ann = await seller();
  const { browser, email } = await signedUp(worker);
  // Its link is not used: a used one's mail is not sent.
  await browser.logIn(email);
  const { id: mail } = await mailTo(worker, email, 2);
  await worker.fault({ names: `"${ann.id}"`, unsent: true, stays: true });
  assert.equal((await ann.revoke()).body.error_code, "CHANGE_NOT_LOADED");
  // It has failed before.
  for (let times = 0; times < 2; times++) await cron();
  await backlog("ten_dead", 30, 1, "key.revoked");
  await backlog("ten_beef", 30, 15, "key.created");
  await worker.fault({ names: `"ten_dead`, slow: 15_000, stays: true });
  await worker.sql("UPDATE mails SET state = 'queued', due_ms = 0 WHERE id = ?", mail);
  await worker.sql("DELETE FROM mailbox WHERE address = ?", email);
  await worker.advance(120_000);
  const run = cron();
  await until(async () => (await mailsTo(worker, email)).length, "the lost mail");
  const untried = "SELECT 1 FROM directory_outbox WHERE tenant_id LIKE 'ten_dead%' AND loads = 0";
  assert.ok((await worker.sql(untried)).length, "the mail waits for no ledger");
  await run;
  assert.equal(await whoami(ann.key), 401, "after one run");
  const left = await worker.sql("SELECT DISTINCT substr(tenant_id, 1, 8) AS of FROM directory_outbox WHERE shipped_ms IS NULL");
  assert.deepEqual(left, [{ of: "ten_dead" }], "all that can be done is done, of 450 events too");
  const tried = await worker.sql("SELECT DISTINCT loads FROM directory_outbox WHERE tenant_id LIKE 'ten_dead%'");
  assert.deepEqual(tried, [{ loads: 1 }]);
  await worker.fault(null);
  await cron();
  assert.equal((await worker.sql("SELECT 1 FROM directory_outbox WHERE shipped_ms IS NULL")).length, 0);
});

test("records that are away delay no revocation", async () => {
  const ann = await seller();
  await worker.fault({ names: `"reload"`, unsent: true, stays: true });
  assert.equal((await ann.revoke()).body.error_code, "CHANGE_NOT_LOADED");
  await worker.fault({ names: `"month"`, unsent: true, stays: true });
  await cron();
  assert.equal(await whoami(ann.key), 401);
  const [event] = await waiting(ann.id);
  assert.deepEqual([event.tries, event.loaded_ms !== null], [1, true]);
  await worker.fault(null);
  await cron();
  assert.equal((await waiting(ann.id)).length, 0);
});

test("an event of another build is loaded and shipped as it is, and holds no other up", async () => {
  const [ann, bill] = [await seller(), await seller()];
  await worker.fault({ names: `"reload"`, unsent: true, stays: true });
  for (const each of [ann, bill]) assert.equal((await each.revoke()).body.error_code, "CHANGE_NOT_LOADED");
  const note = (kind, tenant) =>
    worker.sql("UPDATE directory_outbox SET kind = ? WHERE tenant_id = ? AND shipped_ms IS NULL", kind, tenant);
  await note("sso.updated", ann.id);
  await worker.fault(null);
  await cron();
  for (const each of [ann, bill]) {
    assert.equal(await whoami(each.key), 401);
    assert.deepEqual(await waiting(each.id), []);
  }
  const kinds = storedChanges(worker, ann.id).map(({ kind }) => kind);
  assert.equal(kinds.filter((kind) => kind === "sso.updated").length, 1);
});

test("an event that a month's object or this build does not take waits alone", async () => {
  const [ann, bill] = [await seller(), await seller()];
  const copy = (kind, environment, { id }) =>
    worker.sql(
      `INSERT INTO directory_outbox (event_id, tenant_id, environment, kind, subject, body, created_ms)
       SELECT substr(event_id, 1, 14) || substr(hex(randomblob(8)), 1, 16), tenant_id, ?, ?, subject, body, 1
       FROM directory_outbox WHERE tenant_id = ? ORDER BY seq LIMIT 1`,
      environment,
      kind,
      id,
    );
  // An object of the build before knows no such kind; this build knows no such environment.
  await copy("sso.updated", "live", ann);
  await copy("key.created", "live", ann);
  await copy("key.created", "moon", bill);
  await copy("key.created", "live", bill);
  await worker.fault({ names: "sso.updated", refused: true, stays: true });
  const before = worker.log.lines.length;
  for (let times = 1; times <= 2; times++) {
    await cron();
    for (const [each, wanted] of [
      [ann, ["sso.updated", "live", times]],
      [bill, ["key.created", "moon", times]],
    ])
      assert.deepEqual(
        (await waiting(each.id)).map(({ kind, environment, tries }) => [kind, environment, tries]),
        [wanted],
      );
  }
  const logged = worker.log.lines.slice(before).filter((line) => line.includes("events of the directory could not be shipped"));
  assert.ok(logged.length >= 4, `${logged.length} lines`);
  await worker.fault(null);
  await cron();
  assert.deepEqual(await waiting(ann.id), []);
});
