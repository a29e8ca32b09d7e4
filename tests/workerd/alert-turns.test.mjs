// Alerts of some hold up no others: tenants with many of them, URLs that hang or answer without end, mails that cannot be queued.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { Response, fetch as passed } from "miniflare";
import { mailsTo, signedUp } from "./browser.mjs";
import { PEPPERS, startWorker, until } from "./worker.mjs";

const [MINUTE, HOUR, DAY] = [60_000, 3_600_000, 86_400_000];
const MINUTELY = "* * * * *";
const OPERATORS = "https://hooks.chat.example/operators";
const VARS = { MAIL_BACKEND: "mailbox", PUBLIC_URL: "https://pay.example", OPERATOR_ALERT_URL: OPERATORS };

/** What was posted, by URL, and what a URL answers. @type {Map<string, string[]>} */
let posted;
/** @type {Map<string, () => any>} */
let answers;
/** Ends what hangs. @type {(() => void)[]} */
let ends;
async function outbound(request) {
  const { hostname, searchParams } = new URL(request.url);
  if (hostname === "127.0.0.1") return passed(request);
  if (hostname === "cloudflare-dns.com") {
    const answer = searchParams.get("type") === "A" ? [{ name: searchParams.get("name"), type: 1, data: "93.184.215.14" }] : [];
    return Response.json({ Status: 0, Answer: answer });
  }
  const { text } = await request.json();
  posted.set(request.url, [...of(request.url), text]);
  return answers.get(request.url)?.() ?? new Response("ok");
}
const of = (url) => posted.get(url) ?? [];
/** An answer that does not come while the test lasts. */
const hangs = () => new Promise((resolve) => ends.push(() => resolve(new Response("late"))));

let state, worker;
const start = (vars = {}) => startWorker({ vars: { ...VARS, ...vars }, state, outbound });
before(async () => {
  state = mkdtempSync(join(tmpdir(), "x402-turns-"));
  worker = await start();
});
after(async () => {
  await worker?.stop();
  rmSync(state, { recursive: true, force: true });
});
beforeEach(async () => {
  for (const end of ends ?? []) end();
  [posted, answers, ends] = [new Map(), new Map(), []];
  // What another test has left is not tried.
  await worker.sql("UPDATE notices SET post_due_ms = NULL");
  worker.log.lines = [];
});

let made = 0;
/** A tenant with an owner and a Slack-compatible URL of its own. */
async function company() {
  const owner = await signedUp(worker);
  const url = `https://hooks.chat.example/services/${++made}`;
  const set = await owner.browser.call("PATCH", "/v1/tenant", { alerts: { slack_url: url } });
  assert.equal(set.status, 200, JSON.stringify(set.body));
  return { ...owner, id: owner.session.tenant.id, url };
}

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/** The first ten letters of a ULID of this time. */
function ulidTime(at) {
  let [time, text] = [at, ""];
  for (let letter = 0; letter < 10; letter++, time = Math.floor(time / 32)) text = CROCKFORD[time % 32] + text;
  return text;
}
let ids = 0;
/** So many ids of a kind, as rows of SQL: `n` counts them from 1. */
function idRows(prefix, count, at = Date.now()) {
  ids += 1_000_000;
  return `(WITH RECURSIVE rows (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM rows WHERE n < ${count})
    SELECT n, '${prefix}_${ulidTime(at)}' || substr('0000000000000000' || (${ids} + n), -16) AS id FROM rows)`;
}

/** Writes so many alerts of a tenant. */
const raise = ({ id }, count = 1, kind = "quota.warning") =>
  worker.sql(
    `INSERT INTO alerts (event_id, tenant_id, kind, subject, data, created_ms) SELECT id, ?, ?, 'subject-' || n, '{}', 1
     FROM ${idRows("evt", count)}`,
    id,
    kind,
  );
/** Writes so many notices of a tenant, or of operators, whose messages are due since that time. */
const notify = (tenant, count = 1, due = 1, kind = tenant ? "quota.warning" : "operator") =>
  worker.sql(
    `INSERT INTO notices (id, tenant_id, kind, text, created_ms, post_due_ms) SELECT id, ?, ?, 'notice ' || n, ?, ?
     FROM ${idRows("ntc", count)}`,
    tenant?.id ?? null,
    kind,
    due,
    due,
  );
const notices = ({ id }) => worker.sql("SELECT post_tries, post_due_ms, posted_ms, text FROM notices WHERE tenant_id = ? ORDER BY id", id);
const mails = async ({ email }) => (await mailsTo(worker, email)).filter(({ text }) => text.includes("turn them off"));
const lines = (message) => worker.log.lines.filter((line) => line.includes(message));

test("keys of one tenant that end in a night hold up no other's alert, and each is raised", async () => {
  const [many, other] = [await company(), await company()];
  const put = ({ id }, count, expires) =>
    worker.sql(
      `INSERT INTO api_keys (id, tenant_id, environment, name, hash, scopes, created_ms, expires_ms)
       SELECT id, ?, 'live', 'k', id, '[]', 1, ? FROM ${idRows("key", count)}`,
      id,
      expires,
    );
  const end = Date.now() + DAY / 2;
  await put(many, 300, end);
  await put(other, 1, end + HOUR);
  const raised = async ({ id }) =>
    (await worker.sql("SELECT COUNT(*) AS n FROM alerts WHERE tenant_id = ? AND kind = 'key.expiring'", id))[0].n;
  // The first one cannot be written, and keeps no other waiting.
  await worker.dbFault({ names: "UPDATE api_keys SET expiry_days" });
  await worker.cron(MINUTELY);
  await worker.dbFault();
  const first = await raised(many);
  assert.ok(first < 300, `${first} of a tenant in one run`);
  assert.equal(await raised(other), 1, "those of others are raised in the same run");
  for (let runs = 0; (await raised(many)) < 300 && runs < 8; runs++) await worker.cron(MINUTELY);
  assert.deepEqual([await raised(many), await raised(other)], [300, 1]);
  await until(async () => (await mails(other)).length === 1, "the other's mail");
  assert.equal(of(other.url).length, 1);
});

test("what a URL answers beside its status is not read", async () => {
  let isOver = false;
  const stream = (bytes, pause) => {
    const text = new Uint8Array(bytes).fill(46);
    return new ReadableStream({
      async pull(controller) {
        if (isOver) return controller.close();
        controller.enqueue(text);
        await pause();
      },
    });
  };
  const wait = (ms) => () => new Promise((resolve) => setTimeout(resolve, ms));
  const silence = () => new Promise((resolve) => ends.push(() => resolve(undefined)));
  const bodies = {
    long: () => "x".repeat(200_000),
    endless: () => stream(65_536, wait(5)),
    dripping: () => stream(1, wait(300)),
    silent: () => stream(1, silence),
  };
  const all = [];
  for (const [name, body] of Object.entries(bodies))
    for (const status of [200, 500]) {
      const own = { ...(await company()), name, status };
      answers.set(own.url, () => new Response(body(), { status }));
      await notify(own);
      all.push(own);
    }
  await worker.cron(MINUTELY);
  await worker.cron(MINUTELY);
  isOver = true;
  for (const own of all) {
    const [{ post_tries, post_due_ms, posted_ms }] = await notices(own);
    const found = [post_tries, post_due_ms === null, posted_ms !== null, of(own.url).length];
    assert.deepEqual(found, own.status === 200 ? [1, true, true, 1] : [1, false, false, 1], `${own.name} ${own.status}`);
  }
});

test("a URL that hangs, and many messages of one tenant, hold up neither other tenants nor operators", async () => {
  const [hung, many, other] = [await company(), await company(), await company()];
  answers.set(hung.url, hangs);
  // Longer due than those of others.
  await notify(hung, 40, 1);
  await notify(many, 20, 2);
  await notify(other, 1, 3);
  await notify(null, 1, 4);
  const began = performance.now();
  let isDone = false;
  const run = worker.cron(MINUTELY).then(() => (isDone = true));
  await until(() => of(other.url).length === 1 && of(OPERATORS).length === 1, "the others' messages", 9_000);
  await until(() => of(many.url).length === 20, "all messages of the other tenant", 15_000);
  assert.ok(!isDone, "the URL hangs");
  await run;
  assert.ok(performance.now() - began < 45_000, "a run ends before the next one");
  const tried = of(hung.url).length;
  assert.ok(tried >= 1 && tried <= 4, `${tried} of a tenant at a time`);
});

test("URLs that were slow wait in a line of their own, from which a quick answer leads back", async () => {
  const slow = await Promise.all([1, 2, 3, 4, 5, 6].map(company));
  const other = await company();
  for (const own of slow) {
    answers.set(own.url, hangs);
    await worker.sql("UPDATE tenants SET alert_slow_ms = 1 WHERE id = ?", own.id);
    await notify(own, 3, 1);
  }
  await notify(other, 1, 2);
  let isDone = false;
  const run = worker.cron(MINUTELY).then(() => (isDone = true));
  await until(() => of(other.url).length === 1, "the other's message", 8_000);
  assert.ok(!isDone);
  await run;
  const isSlow = async ({ id }) => (await worker.sql("SELECT alert_slow_ms AS at FROM tenants WHERE id = ?", id))[0].at !== null;
  assert.deepEqual(await Promise.all(slow.map(isSlow)), Array(6).fill(true));
  answers.clear();
  await worker.cron(MINUTELY);
  assert.deepEqual(await Promise.all([...slow, other].map(isSlow)), Array(7).fill(false));
});

test("a notice is about all alerts that wait, however many: it names some and counts the others", async () => {
  const own = await company();
  await raise(own, 30_000);
  await worker.cron(MINUTELY);
  assert.equal((await worker.sql("SELECT 1 FROM alerts WHERE tenant_id = ? AND notice_id IS NULL", own.id)).length, 0);
  const [{ text }, ...more] = await notices(own);
  assert.deepEqual(more, []);
  assert.ok(text.includes("\nsubject-20\n") && !text.includes("subject-21") && text.endsWith("… and 29980 more"), text);
  await until(async () => (await mails(own)).length === 1, "the mail");
  // One that comes while a notice is made is not left out of its number: the next run counts it.
  await raise(own, 2);
  const counts = "SELECT COUNT(*) AS number";
  await worker.dbFault({ names: counts, after: true, held: true });
  const run = worker.cron(MINUTELY);
  await until(async () => (await fetch(`${worker.url}/__dbfault`)).json(), "the count");
  await worker.sql(
    `INSERT INTO alerts (event_id, tenant_id, kind, subject, data, created_ms)
     SELECT id, ?, 'quota.warning', 'late', '{}', 1 FROM ${idRows("evt", 1, Date.now() - HOUR)}`,
    own.id,
  );
  await worker.dbFault();
  await run;
  assert.equal((await notices(own)).length, 1);
  await worker.cron(MINUTELY);
  const listed = (await notices(own)).at(-1).text.split("\n").slice(1);
  assert.deepEqual(listed, ["late", "subject-1", "subject-2"]);
});

test("a mail that cannot be queued keeps no other waiting", async () => {
  const all = [await company(), await company(), await company()];
  await worker.queueFault("mail_");
  for (const own of all) await raise(own);
  await worker.cron(MINUTELY);
  assert.deepEqual([(await mails(all[0])).length, lines("a mail could not be queued").length], [0, 3]);
  const rows = await worker.sql("SELECT id, address FROM mails WHERE kind = 'alert' AND state = 'queued' ORDER BY id");
  assert.equal(rows.length, 3);
  const [first, ...others] = rows;
  // The first of them.
  await worker.sql("UPDATE mails SET due_ms = CASE WHEN id = ? THEN 1 ELSE 2 END WHERE kind = 'alert' AND state = 'queued'", first.id);
  await worker.queueFault(first.id);
  await worker.advance(2 * MINUTE);
  await worker.cron(MINUTELY);
  for (const { address: email } of others) await until(async () => (await mails({ email })).length === 1, "the others' mails");
  assert.equal((await mails({ email: first.address })).length, 0);
  await worker.queueFault("");
  await worker.advance(2 * MINUTE);
  await worker.cron(MINUTELY);
  await until(async () => (await mails({ email: first.address })).length === 1, "the mail");
});

test("a URL that no pepper opens is logged once for a message, and the mail goes all the same", async () => {
  const own = await company();
  await worker.stop();
  // The pepper by which it was sealed was taken away.
  const pepper = "02".repeat(32);
  worker = await start({ KEY_PEPPERS: pepper });
  const givenUp = () => lines("an alert's message was given up");
  await raise(own);
  for (const minutes of [0, 1, 5, 30, 120, 1]) {
    await worker.advance(minutes * MINUTE);
    await worker.cron(MINUTELY);
  }
  assert.deepEqual([givenUp().length, lines("an alert could not be sent").length, of(own.url).length], [1, 0, 0]);
  assert.match(givenUp()[0], /cannot be opened/);
  const [{ post_tries, post_due_ms, posted_ms }] = await notices(own);
  assert.deepEqual([post_tries, post_due_ms, posted_ms], [1, null, null]);
  await until(async () => (await mails(own)).length === 1, "the mail");
  // The pepper is there again, behind the new one.
  await worker.stop();
  worker = await start({ KEY_PEPPERS: `${pepper},${PEPPERS}` });
  await raise(own);
  await worker.cron(MINUTELY);
  assert.equal(of(own.url).length, 1);
});
