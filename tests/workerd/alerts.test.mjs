// What owners of tenants are sent beside events: mails, and messages to a Slack-compatible URL, which is played here.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, beforeEach, test } from "node:test";
import { Response, fetch as passed } from "miniflare";
import { Browser, address, mailTo, mailsTo, signedUp } from "./browser.mjs";
import { startMock } from "./mock-rpc.mjs";
import { random } from "./payment.mjs";
import { startWorker, until } from "./worker.mjs";

const [MINUTE, DAY] = [60_000, 86_400_000];
const MINUTELY = "* * * * *";
const HOOK = "https://hooks.chat.example/services/T00/B00/a-secret-of-this-test";

/** The DNS: `inside.example` leads into a private network, and nobody finds out where `lost.example` leads. */
function resolved(name, type) {
  if (name === "lost.example") return new Response("", { status: 500 });
  const data = name === "inside.example" ? "10.0.0.7" : "93.184.215.14";
  return Response.json({ Status: 0, Answer: type === "A" ? [{ name, type: 1, data }] : [] });
}

/** What was posted, and what the URL answers. @type {{ url: string, text: string }[]} */
let posted = [];
let answer = () => new Response("ok");
async function outbound(request) {
  const { hostname, searchParams } = new URL(request.url);
  if (hostname === "127.0.0.1") return passed(request);
  if (hostname === "cloudflare-dns.com") return resolved(searchParams.get("name"), searchParams.get("type"));
  assert.deepEqual([request.method, request.headers.get("content-type")], ["POST", "application/json"]);
  posted.push({ url: request.url, ...(await request.json()) });
  return answer();
}

let mock, state, worker;
const start = () =>
  startWorker({ vars: { MAIL_BACKEND: "mailbox", PUBLIC_URL: "https://pay.example", RPC_BASE: mock.url }, state, outbound });
before(async () => {
  state = mkdtempSync(join(tmpdir(), "x402-alerts-"));
  mock = await startMock();
  worker = await start();
});
after(async () => {
  await worker?.stop();
  mock?.stop();
  rmSync(state, { recursive: true, force: true });
});
beforeEach(() => {
  posted = [];
  answer = () => new Response("ok");
});

const settings = ({ browser }, alerts) => browser.call("PATCH", "/v1/tenant", { alerts });
const refusal = ({ status, body }) => [status, body.error_code, body.param];

/**
 * A tenant with an owner; with `url` it has set a Slack-compatible URL.
 * @param {{ url?: string | null, limits?: any, recipients?: any }} [wanted]
 */
async function company({ url = HOOK, ...more } = {}) {
  const owner = await signedUp(worker);
  const id = owner.session.tenant.id;
  // The mail about another tier is not of these tests: the tier is there, and the ledgers load it.
  await worker.sql("UPDATE tenants SET tier = 'pro', tier_by = 'operator' WHERE id = ?", id);
  const changed = await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { tier: "pro", ...more } });
  assert.equal(changed.status, 200, changed.text);
  if (url) assert.equal((await settings(owner, { slack_url: url })).status, 200);
  const key = owner.api_keys.live;
  const events = async (type, of = key) => (await worker.call("GET", `/v1/events?limit=100&type=${type}`, { key: of })).body.data;
  return { ...owner, id, key, events };
}

/** The alerts of a tenant that are stored, and their notices. */
const stored = ({ id }) => worker.sql("SELECT kind, subject, notice_id FROM alerts WHERE tenant_id = ? ORDER BY event_id", id);
const notices = ({ id }) => worker.sql("SELECT kind, post_tries, post_due_ms, posted_ms FROM notices WHERE tenant_id = ? ORDER BY id", id);
/** The mails about alerts to a tenant's owner, the oldest first. */
const mails = async ({ email }) => (await mailsTo(worker, email)).filter(({ text }) => text.includes("turn them off")).reverse();

/** Runs the job of a minute, and waits until the mails that it made were sent. */
async function minute() {
  await worker.cron(MINUTELY);
  await until(async () => (await worker.sql("SELECT 1 FROM mails WHERE kind = 'alert' AND state = 'queued'")).length === 0, "the mails");
}

test("80 % and 100 % of the quota are alerts once a month each, whatever is repeated and whoever is killed", async () => {
  const to = random(20);
  const limits = { per_minute: 10_000, per_hour: 100_000, per_month: 5 };
  const own = await company({ limits, recipients: { base: to } });
  const verify = () => {
    const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block: 900 });
    return worker.verify(own.key, { tx_hash, chain: "base", max_age_seconds: 315_360_000 });
  };
  // The Worker is killed when its ledger has shipped, before it knows that.
  await worker.halt({ what: "TenantLedger batch", isDone: true });
  for (let times = 0; times < 5; times++) assert.equal((await verify()).status, 200);
  assert.equal((await verify()).status, 429);
  await until(async () => (await worker.halted()).isReached, "the shipment");
  worker.crash();
  await worker.stop();
  worker = await start();
  for (let times = 0; times < 3; times++) assert.equal((await own.events("quota.*")).length, 2);
  const kinds = ["quota.exceeded", "quota.warning"];
  await until(async () => (await stored(own)).length === 2, "the alerts");
  assert.deepEqual((await stored(own)).map(({ kind }) => kind).sort(), kinds);
  // A run whose batch is written and not acknowledged makes no second notice.
  await worker.dbFault({ names: "INSERT INTO notices", after: true, stays: true });
  await worker.cron(MINUTELY);
  await worker.dbFault();
  await worker.sql("UPDATE mails SET created_ms = created_ms - 120000 WHERE kind = 'alert'");
  for (let times = 0; times < 3; times++) await minute();
  await Promise.all([worker.cron(MINUTELY), worker.cron(MINUTELY)]);
  assert.deepEqual((await notices(own)).map(({ kind }) => kind).sort(), kinds);
  const sent = await mails(own);
  assert.deepEqual(sent.map(({ subject }) => subject).sort(), [
    "80 % of the month's verifications are used",
    "The month's verifications are used",
  ]);
  const warning = sent.find(({ subject }) => subject.startsWith("80 %"));
  for (const part of [own.id, "4 of 5 verifications are used", "https://pay.example"]) assert.ok(warning.text.includes(part), warning.text);
  assert.deepEqual(
    posted.map(({ url }) => url),
    [HOOK, HOOK],
  );
  assert.ok(posted.some(({ text }) => text.startsWith("*80 % of the month's verifications are used*\n") && text.includes("4 of 5")));
});

test("a key that ends is an alert seven days before and one, once each", async () => {
  const own = await company({ url: null });
  const make = async (environment, days) => {
    const expires_at = new Date(Date.now() + days * DAY).toISOString();
    const made = await own.browser.call("POST", "/v1/api-keys", { name: "k", environment, scopes: ["verify"], expires_at });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    return made.body.api_key;
  };
  const [key, other] = [await make("live", 30), await make("test", 30)];
  await make("live", 300);
  const night = async (days) => {
    await worker.sql("UPDATE api_keys SET expires_ms = ?, created_ms = 1 WHERE id IN (?, ?)", Date.now() + days * DAY, key.id, other.id);
    for (let times = 0; times < 2; times++) await minute();
    return (await stored(own)).length;
  };
  assert.deepEqual([await night(7.5), await night(6.5), await night(5.5), await night(0.5), await night(0.3)], [0, 1, 1, 2, 2]);
  const sent = await mails(own);
  assert.deepEqual(
    sent.map(({ subject }) => subject),
    ["An API key ends soon", "An API key ends soon"],
  );
  assert.ok(
    sent.every(({ text }) => text.includes(`${key.id} ends at 20`)),
    sent[0].text,
  );
  const events = await own.events("key.expiring");
  assert.deepEqual(
    events.map(({ subject, data }) => [subject, data.action, data.actor_kind]),
    [1, 2].map(() => [key.id, "key.expiring", "system"]),
  );
  // A key of test ends by events alone.
  assert.equal((await own.events("key.expiring", own.api_keys.test)).length, 2);
  const audit = await own.browser.call("GET", "/v1/audit-log?action=key.expiring");
  assert.equal(audit.body.data.length, 4);
});

/** Writes what a ledger has yet to ship. The Worker must have stopped. */
function putOutbox({ id }, environment, entries) {
  let found = 0;
  for (const name of readdirSync(state, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".sqlite") || !name.includes("TenantLedger")) continue;
    const db = new DatabaseSync(join(state, name));
    const tenant = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'outbox'").get() && db.prepare("SELECT * FROM state").all();
    const text = JSON.stringify(tenant ?? []);
    if (text.includes(id) && text.includes(`\\"environment\\":\\"${environment}\\"`)) {
      found++;
      for (const body of entries) db.prepare("INSERT INTO outbox (kind, body) VALUES ('event', ?)").run(JSON.stringify(body));
    }
    db.close();
  }
  assert.equal(found, 1, environment);
}

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/** A ULID of this time. */
function ulid() {
  let [time, text] = [Date.now(), ""];
  for (let at = 0; at < 10; at++, time = Math.floor(time / 32)) text = CROCKFORD[time % 32] + text;
  return text + Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => CROCKFORD[byte % 32]).join("");
}
const undelivered = () => {
  const id = `stl_${ulid()}`;
  return { id: `evt_${ulid()}`, kind: "settlement.undelivered", subject: id, body: { id, network: "eip155:8453" }, at: Date.now() };
};

test("settlements that nobody took are one mail for those of some minutes, and of test none", async () => {
  const own = await company();
  for (const key of [own.key, own.api_keys.test]) assert.equal((await worker.call("GET", "/v1/usage", { key })).status, 200);
  await worker.stop();
  const lost = [undelivered(), undelivered(), undelivered()];
  putOutbox(own, "live", lost);
  putOutbox(own, "test", [undelivered()]);
  worker = await start();
  assert.equal((await own.events("settlement.undelivered")).length, 3);
  assert.equal((await own.events("settlement.undelivered", own.api_keys.test)).length, 1);
  await until(async () => (await stored(own)).length === 3, "the alerts");
  await minute();
  assert.deepEqual(await notices(own), [], "they are gathered");
  await worker.advance(3 * MINUTE);
  await minute();
  const [mail, ...more] = await mails(own);
  assert.deepEqual(more, []);
  for (const { subject } of lost) assert.ok(mail.text.includes(`${subject} on eip155:8453`), mail.text);
  assert.equal(posted.length, 1);
  // The next wait for an hour, and no number of them is more than one mail.
  for (let at = 0; at < 60; at++) {
    const { id, subject } = undelivered();
    await worker.sql(
      "INSERT INTO alerts (event_id, tenant_id, kind, subject, data, created_ms) VALUES (?, ?, ?, ?, '{}', ?)",
      id,
      own.id,
      "settlement.undelivered",
      subject,
      Date.now(),
    );
  }
  await worker.advance(30 * MINUTE);
  await minute();
  assert.equal((await mails(own)).length, 1);
  await worker.advance(31 * MINUTE);
  await minute();
  await minute();
  assert.ok((await mails(own)).at(-1).text.includes("… and 40 more"));
  assert.equal((await mails(own)).length, 2);
});

test("an endpoint that was disabled is an alert, in live alone", async () => {
  const own = await company();
  const raise = (environment) =>
    worker.sql(
      `INSERT INTO directory_outbox (event_id, tenant_id, environment, kind, subject, body, created_ms, loaded_ms)
       VALUES (?, ?, ?, 'endpoint.disabled', 'whe_1', '{"action":"endpoint.disabled","subject":"whe_1","detail":"gone","actor_kind":"system","actor":"system"}', ?, 1)`,
      `evt_${ulid()}`,
      own.id,
      environment,
      Date.now(),
    );
  await raise("live");
  await raise("test");
  await minute();
  await minute();
  assert.deepEqual(
    (await stored(own)).map(({ kind }) => kind),
    ["endpoint.disabled"],
  );
  const [mail, ...more] = await mails(own);
  assert.deepEqual([mail.subject, more.length, posted.length], ["A webhook endpoint was disabled", 0, 1]);
  assert.ok(mail.text.includes("whe_1: gone"));
});

test("the URL is a secret of public hosts, and mails can be turned off", async () => {
  const own = await company({ url: null });
  const shown = async () => (await own.browser.call("GET", "/v1/tenant")).body.tenant.alerts;
  assert.deepEqual(await shown(), { mail: true, slack_host: null });
  for (const url of [
    "http://hooks.chat.example/x",
    "https://127.0.0.1/x",
    "https://[::1]/x",
    "https://2130706433/x",
    "https://localhost/x",
    "https://printer.local/x",
    "https://metadata.google.internal/x",
    "https://hooks.chat.example:8443/x",
    "https://user@hooks.chat.example/x",
    "https://pay.example/v1/webhooks/resend",
    "https://inside.example/x",
    "",
  ])
    assert.deepEqual(refusal(await settings(own, { slack_url: url })), [422, "INVALID_REQUEST", "alerts.slack_url"], url);
  assert.deepEqual(refusal(await settings(own, { slack_url: "https://lost.example/x" })).slice(0, 2), [503, "UPSTREAM_UNAVAILABLE"]);
  const set = await settings(own, { slack_url: HOOK, mail: false });
  assert.deepEqual(set.body.tenant.alerts, { mail: false, slack_host: "hooks.chat.example" });
  const row = JSON.stringify(await worker.sql("SELECT * FROM tenants WHERE id = ?", own.id));
  assert.ok(row.includes("v1.") && !row.includes("a-secret-of-this-test"));
  assert.ok(!worker.log.lines.join("\n").includes("a-secret-of-this-test"));
  const [entry] = (await own.browser.call("GET", "/v1/audit-log?action=tenant.updated")).body.data;
  assert.equal(entry.detail, "alerts");
  assert.ok(!JSON.stringify(await own.events("tenant.updated")).includes("a-secret"));
  const put = (kind) =>
    worker.sql(
      "INSERT INTO alerts (event_id, tenant_id, kind, subject, data, created_ms) VALUES (?, ?, ?, '2026-11', '{}', ?)",
      `evt_${ulid()}`,
      own.id,
      kind,
      Date.now(),
    );
  await put("quota.warning");
  await minute();
  assert.deepEqual([(await mails(own)).length, posted.length], [0, 1]);
  // A sealed text of another row opens nothing.
  const other = await company();
  await worker.sql("UPDATE tenants SET alert_url = (SELECT alert_url FROM tenants WHERE id = ?) WHERE id = ?", other.id, own.id);
  await put("quota.exceeded");
  await minute();
  assert.equal(posted.length, 1);
  assert.deepEqual((await settings(own, { slack_url: null, mail: true })).body.tenant.alerts, { mail: true, slack_host: null });
  await put("quota.exceeded");
  await minute();
  assert.deepEqual([(await mails(own)).length, posted.length], [1, 1]);
});

test("owners change how they are alerted, others read it", async () => {
  const own = await company();
  for (const role of ["viewer", "developer"]) {
    const email = address();
    assert.equal((await own.browser.call("POST", "/v1/members/invitations", { email, role })).status, 201);
    const browser = new Browser(worker);
    assert.equal((await browser.call("POST", "/v1/members/join", { token: (await mailTo(worker, email)).token })).status, 201);
    assert.deepEqual(refusal(await settings({ browser }, { mail: false })).slice(0, 2), [403, "INSUFFICIENT_ROLE"]);
    assert.equal((await browser.call("GET", "/v1/tenant")).body.tenant.alerts.slack_host, "hooks.chat.example");
  }
  const key = async (scopes, environment = "live") =>
    (await own.browser.call("POST", "/v1/api-keys", { name: "k", environment, scopes })).body.key;
  const patch = async (held, body) => worker.call("PATCH", "/v1/tenant", { key: held, body });
  assert.equal((await patch(await key(["verify"]), { alerts: { mail: false } })).body.error_code, "INSUFFICIENT_SCOPE");
  assert.equal((await patch(await key(["manage"], "test"), { alerts: { mail: false } })).body.error_code, "ENVIRONMENT_MISMATCH");
  assert.deepEqual((await patch(await key(["manage"]), { alerts: { mail: false } })).body.tenant.alerts, {
    mail: false,
    slack_host: "hooks.chat.example",
  });
});

test("a URL that fails is tried five times, and given up", async () => {
  const own = await company();
  answer = () => new Response("no_service", { status: 500 });
  await worker.sql(
    "INSERT INTO alerts (event_id, tenant_id, kind, subject, data, created_ms) VALUES (?, ?, 'quota.warning', '2026-11', '{}', 1)",
    `evt_${ulid()}`,
    own.id,
  );
  const lines = () => worker.log.lines.filter((line) => line.includes("an alert's message was given up")).length;
  // A URL that cannot be opened was given up before.
  const before = lines();
  const givenUp = () => lines() - before;
  await Promise.all([worker.cron(MINUTELY), worker.cron(MINUTELY)]);
  await worker.cron(MINUTELY);
  assert.equal(posted.length, 1, "not again within the minute");
  for (const minutes of [1, 5, 30]) {
    await worker.advance(minutes * MINUTE);
    await worker.cron(MINUTELY);
  }
  assert.deepEqual([posted.length, givenUp()], [4, 0]);
  answer = () => new Response("", { status: 302, headers: { location: "https://elsewhere.example/" } });
  await worker.advance(120 * MINUTE);
  await worker.cron(MINUTELY);
  await until(() => givenUp() === 1, "the log");
  await worker.advance(7 * DAY);
  await worker.cron(MINUTELY);
  assert.deepEqual([posted.length, givenUp()], [5, 1]);
  assert.ok(
    posted.every(({ url }) => url === HOOK),
    "a redirect is not followed",
  );
  assert.ok(!worker.log.lines.join("\n").includes("a-secret-of-this-test"));
  const [{ post_tries, post_due_ms, posted_ms }] = await notices(own);
  assert.deepEqual([post_tries, post_due_ms, posted_ms], [5, null, null]);
  assert.equal((await mails(own)).length, 1);
});
