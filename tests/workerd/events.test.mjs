// What sellers hear: each event is raised once and read, in its list and by its id, wherever it is; a verification's stays
// what was answered; and nobody else reads it.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { Browser, address, mailTo, signedUp } from "./browser.mjs";
import { startMock } from "./mock-rpc.mjs";
import { archived, archivedFrom, ask, breakMonth, monthOf, stored, timeOf, ulid } from "./months.mjs";
import { random } from "./payment.mjs";
import { startWorker, until, withState } from "./worker.mjs";

const MINUTE = 60_000;
const DAY = 86_400_000;
let mock, worker;

before(async () => {
  mock = await startMock();
  worker = await startWorker({ vars: { RPC_BASE: mock.url, RPC_BASE_SEPOLIA: mock.url, MAIL_BACKEND: "mailbox" } });
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

/** Every event of a list, page by page; a page that is not full may have a cursor. */
async function list(key, query = "", { on = worker, limit = 100 } = {}) {
  const seen = [];
  let cursor = "";
  do {
    const { status, body, text } = await on.call("GET", `/v1/events?limit=${limit}${query && `&${query}`}${cursor}`, { key });
    assert.equal(status, 200, text);
    assert.ok(body.data.length <= limit);
    seen.push(...body.data);
    cursor = body.next_cursor && `&cursor=${body.next_cursor}`;
  } while (cursor);
  const ids = seen.map(({ id }) => id);
  assert.deepEqual(ids, [...new Set(ids)].sort().reverse(), "the newest first, each once");
  return seen;
}

const types = (events) => events.map(({ type }) => type);

/** A seller on Base, and what is asked of it. */
async function seller(on = worker, more = {}) {
  const to = random(20);
  const tenant = await on.tenant({ recipients: { base: to }, limits: { per_minute: 10_000, per_hour: 100_000 }, ...more });
  const verify = async (block = 900) => {
    const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block });
    return on.verify(tenant.live, { tx_hash, chain: "base", max_age_seconds: 315_360_000 });
  };
  const refuse = () => on.verify(tenant.live, { tx_hash: random(32), chain: "base" });
  /** An object's alarm follows the clock when the object is next asked something. */
  const pass = async (ms) => {
    await on.advance(ms);
    await on.call("GET", "/v1/usage", { key: tenant.live });
  };
  /** The types of the events about something, the oldest first. */
  const about = async (subject) => types(await list(tenant.live, `subject=${subject}`, { on })).reverse();
  const read = (id, key = tenant.live) => on.call("GET", `/v1/events/${id}`, { key });
  return { ...tenant, to, verify, refuse, pass, about, read };
}

/** The event of a verification. */
const eventOf = (verification) => verification.replace("ver_", "evt_");

test("a verification is an event at once: its id has the same bits, its data are the answer", async () => {
  const { id: tenant, live, test: other, verify, refuse, read } = await seller();
  const answers = [await verify(), await refuse(), await verify()];
  const events = await list(live, "type=verification.*");
  assert.deepEqual(
    events.map(({ id, type, subject }) => [id, type, subject]),
    answers.map(({ body }) => [eventOf(body.id), body.success ? "verification.succeeded" : "verification.failed", body.id]).reverse(),
  );
  for (const { body, text } of answers) {
    const { status, body: event } = await read(eventOf(body.id));
    const created_at = new Date(timeOf(body.id)).toISOString();
    const { data, ...rest } = event;
    const type = body.success ? "verification.succeeded" : "verification.failed";
    assert.deepEqual([status, rest], [200, { id: eventOf(body.id), type, created_at, environment: "live", subject: body.id }]);
    assert.equal(JSON.stringify(data), text);
    // Of another environment and of another tenant it is nothing.
    for (const key of [other, (await worker.tenant()).live]) assert.equal((await read(event.id, key)).status, 404);
  }
  // No row is written for it.
  assert.deepEqual(
    stored(worker, tenant).flatMap(({ events }) => events),
    [],
  );
  assert.equal((await read(`evt_${ulid(Date.now())}`)).status, 404);
  assert.equal((await read("evt_1")).status, 404);
  assert.deepEqual(await list(other, "type=verification.*"), []);
});

test("a list is filtered by type, subject and time, in pages of any size", async () => {
  const { live, verify, refuse } = await seller();
  const ids = [];
  for (let at = 0; at < 3; at++) ids.push((await verify()).body.id, (await refuse()).body.id);
  const [paid, refused] = [ids.filter((_, at) => at % 2 === 0), ids.filter((_, at) => at % 2 === 1)];
  const subjects = async (query, limit) => (await list(live, query, { limit })).map(({ subject }) => subject).reverse();
  for (const limit of [1, 2, 100]) {
    assert.deepEqual(await subjects("type=verification.succeeded,verification.failed", limit), ids);
    assert.deepEqual(await subjects("type=verification.succeeded", limit), paid);
    assert.deepEqual(await subjects("type=quota.*,verification.failed", limit), refused);
    assert.deepEqual(await subjects(`subject=${paid[1]}`, limit), [paid[1]]);
    assert.deepEqual(await subjects(`subject=${paid[1]}&type=verification.failed`, limit), []);
    const [from, to] = [ids[1], ids[4]].map((id) => new Date(timeOf(id)).toISOString());
    assert.deepEqual(await subjects(`from=${from}&to=${to}&type=verification.*`, limit), ids.slice(1, 4));
  }
  for (const [query, param] of [
    ["type=payment", "type"],
    ["subject=", "subject"],
    ["from=yesterday", "from"],
    ["cursor=ver_1", "cursor"],
    ["environment=all", "environment"],
    ["environment=test", "environment"],
    ["limit=101", "limit"],
    ["types=payment.*", "types"],
  ]) {
    const { status, body } = await worker.call("GET", `/v1/events?${query}`, { key: live });
    assert.deepEqual([status, body.error_code, body.param], [422, "INVALID_REQUEST", param], query);
  }
});

test("a verification's event stays what was answered when its payment becomes final", async () => {
  const { live, verify, pass, about, read } = await seller();
  const { body, text } = await verify(995);
  assert.equal(body.status, "confirmed");
  assert.deepEqual(await about(body.id), ["verification.succeeded"]);
  mock.finalized = 996;
  try {
    await until(
      async () => {
        await pass(MINUTE);
        return (await about(body.id)).length === 2;
      },
      "finality",
      40_000,
    );
  } finally {
    mock.finalized = 990;
  }
  const events = await list(live, `subject=${body.id}`);
  assert.deepEqual(
    events.map(({ type, data }) => [type, data.status]),
    [
      ["payment.finalized", "finalized"],
      ["verification.succeeded", "confirmed"],
    ],
  );
  assert.equal(JSON.stringify(events[1].data), text);
  assert.equal(JSON.stringify((await read(eventOf(body.id))).body), JSON.stringify(events[1]));
  assert.equal((await worker.call("GET", `/v1/verifications/${body.id}`, { key: live })).body.status, "finalized");
});

test("it stays so through a reorganisation, and where the record has changed before its month took it", async () => {
  const { live, verify, pass, about } = await seller();
  const first = await verify(995);
  await list(live);
  // From now on the month takes nothing.
  const mend = breakMonth(worker, monthOf(timeOf(first.body.id)));
  const second = await verify(995);
  const { receipts, hashOf } = mock;
  const taken = [first, second].map(({ body }) => [body.tx_hash, receipts.get(body.tx_hash)]);
  for (const [hash] of taken) receipts.delete(hash);
  mock.hashOf = (height) => (Number(height) === 995 ? `0x${"ef".repeat(32)}` : hashOf.call(mock, height));
  const read = async ({ body }) => (await worker.call("GET", `/v1/verifications/${body.id}`, { key: live })).body.status;
  const reached = (status) =>
    until(
      async () => {
        await pass(MINUTE);
        return (await read(first)) === status && (await read(second)) === status;
      },
      status,
      40_000,
    );
  await reached("reorged");
  mock.hashOf = hashOf;
  for (const [hash, receipt] of taken) receipts.set(hash, receipt);
  mock.finalized = 996;
  try {
    await reached("finalized");
  } finally {
    mock.finalized = 990;
  }
  mend();
  for (const { body, text } of [first, second]) {
    await until(async () => (await worker.call("GET", "/v1/events", { key: live })).status === 200, "the month to take again");
    // It may be final when it is found again.
    const heard = await about(body.id);
    assert.deepEqual(heard.slice(0, 3), ["verification.succeeded", "payment.reorged", "payment.restored"]);
    assert.deepEqual(heard.slice(3), heard.length > 3 ? ["payment.finalized"] : []);
    const [event] = await list(live, `subject=${body.id}&type=verification.*`);
    assert.equal(JSON.stringify(event.data), text);
  }
});

test("events are listed over months, from objects and from the archive, with late revisions", async () => {
  await withState({ RPC_BASE: mock.url }, async ({ worker }) => {
    const { id: tenant, live, verify, refuse, read } = await seller(worker);
    const month = monthOf(timeOf((await verify()).body.id));
    const owner = { tenant, month };
    const start = Date.parse(`${month}-01`);
    // Events of the month as builds of before stored them, without what they are filtered by.
    const old = Array.from({ length: 3 }, (_, at) => ({
      id: `evt_${ulid(start + at)}`,
      kind: "payment.finalized",
      subject: `ver_${ulid(start)}`,
      body: { id: `ver_${ulid(start)}`, at },
      at: start + at,
    }));
    assert.equal(await ask(worker, owner, { take: { records: [], events: old } }), "taken");
    for (let at = 0; at < 4; at++) await refuse();
    await list(live, "", { on: worker });
    forgetColumns(worker);
    await worker.advance(33 * DAY);
    for (let at = 0; at < 3; at++) await verify();
    const all = await list(live, "", { on: worker });
    const ofTenant = all.filter(({ type }) => /^(key|tenant|recipient)\./.test(type));
    assert.equal(all.length, 3 + 5 + old.length + ofTenant.length);
    const same = async (limit) => {
      assert.deepEqual(await list(live, "", { on: worker, limit }), all, `in pages of ${limit}`);
      const some = all.filter(({ type }) => type === "payment.finalized");
      assert.equal(some.length, old.length);
      assert.deepEqual(await list(live, "type=payment.finalized", { on: worker, limit }), some);
      assert.deepEqual(
        await list(live, `subject=${old[1].subject}`, { on: worker, limit }),
        all.filter(({ subject }) => subject === old[1].subject),
      );
      const failed = all.filter(({ type }) => type === "verification.failed");
      assert.deepEqual(await list(live, "type=verification.failed", { on: worker, limit }), failed);
      assert.equal(failed.length, 4);
    };
    for (const limit of [2, 5, 100]) await same(limit);
    const wake = () => ask(worker, owner, { page: { before: null, rows: 1, bytes: 1 } });
    await wake();
    await worker.advance(archivedFrom(month) - Date.now() + 1_000);
    await until(
      async () => {
        await worker.advance(61_000);
        await wake();
        return stored(worker, tenant).every((one) => one.month !== month);
      },
      "the archive",
      60_000,
    );
    assert.ok((await archived(worker, `${tenant}/live/`)).length >= 2);
    for (const limit of [2, 5, 100]) await same(limit);
    for (const event of all) {
      const { status, body } = await read(event.id);
      assert.deepEqual([status, body], [200, event]);
    }
    // A late change: the event as it was answered goes to the month's object with the record.
    const late = all.find(({ subject, type }) => type === "verification.succeeded" && monthOf(timeOf(subject)) === month);
    const record = { ...late.data, status: "reorged", success: false };
    const answered = { id: late.id, kind: late.type, subject: late.subject, body: late.data, at: timeOf(late.id) };
    for (const [records, events] of [
      [[{ id: late.subject, revision: 1, record }], []],
      [[], [answered]],
    ])
      assert.equal(await ask(worker, owner, { take: { records, events } }), "taken");
    for (const limit of [2, 100]) await same(limit);
    assert.deepEqual((await read(late.id)).body, late);
  });
});

test("a page looks at some thousand events, and says how far it came", async () => {
  const { id: tenant, live } = await worker.tenant();
  const now = Date.now();
  const owner = { tenant, month: monthOf(now) };
  const record = (at, more) => {
    const id = `ver_${ulid(now + at)}`;
    const paid = { status: "confirmed", error_code: null, amount: "1" };
    return { id, revision: 0, record: { id, chain: "base", ...paid, ...more } };
  };
  const refused = [record(0, { status: "rejected", error_code: "TX_NOT_FOUND", amount: null })];
  const paid = Array.from({ length: 4_500 }, (_, at) => record(1 + at, {}));
  for (const records of [refused, paid.slice(0, 2_000), paid.slice(2_000)])
    assert.equal(await ask(worker, owner, { take: { records, events: [] } }), "taken");
  // Their ids are of the next seconds, and no clock is ahead of them by more than a minute.
  const sizes = [];
  let cursor = "";
  const found = [];
  do {
    const { body, text } = await worker.call("GET", `/v1/events?type=verification.failed${cursor}`, { key: live });
    assert.ok(body.data, text);
    sizes.push(body.data.length);
    found.push(...body.data);
    cursor = body.next_cursor && `&cursor=${body.next_cursor}`;
  } while (cursor);
  assert.deepEqual(
    found.map(({ subject }) => subject),
    [refused[0].id],
  );
  assert.deepEqual(sizes, [0, 0, 1]);
  assert.equal((await list(live, `subject=${paid[7].id}`)).length, 1);
});

/** Takes from stored events what they are filtered by, as rows of the build before have it. */
function forgetColumns({ state }) {
  const folder = join(state, "do", "-Records");
  for (const name of readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name))) {
    const db = new DatabaseSync(join(folder, name), { timeout: 5_000 });
    try {
      if (db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'events'").get()) db.exec("UPDATE events SET kind = NULL, subject = NULL");
    } finally {
      db.close();
    }
  }
}

test("a change of the tenant is listed as soon as it is answered, in its environment", async () => {
  const { id, live, test: testKey } = await worker.tenant();
  const body = { name: "ci", environment: "test", scopes: ["verify"] };
  const made = await worker.call("POST", `/v1/admin/tenants/${id}/api-keys`, { admin: true, body });
  const [newest] = await list(testKey);
  assert.deepEqual([newest.type, newest.subject, newest.environment], ["key.created", made.body.api_key.id, "test"]);
  assert.deepEqual(newest.data, {
    action: "key.created",
    subject: made.body.api_key.id,
    detail: "test",
    actor_kind: "operator",
    actor: "operator",
  });
  await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { company_name: "B" } });
  assert.equal((await list(live))[0].type, "tenant.updated");
  assert.deepEqual(await list(testKey, "type=tenant.*"), []);
});

test("an address is a subject in any case of its letters", async () => {
  const to = `0x${"aB".repeat(20)}`.toLowerCase();
  const { live } = await worker.tenant({ recipients: { base: to } });
  const made = await list(live, `subject=${to}`);
  assert.deepEqual([made.length > 0, new Set(made.map(({ type }) => type))], [true, new Set(["recipient.added"])]);
  assert.notEqual(made[0].subject, to);
  for (const text of [made[0].subject, `0X${to.slice(2).toUpperCase()}`]) assert.deepEqual(await list(live, `subject=${text}`), made);
  const wrong = await worker.call("GET", `/v1/events?subject=${made[0].subject.replace(/[a-f]/, (letter) => letter.toUpperCase())}`, {
    key: live,
  });
  assert.deepEqual([wrong.status, wrong.body.param], [422, "subject"]);
});

test("a key needs the scope `analytics`; a session reads either environment of its tenant", async () => {
  const owner = await signedUp(worker);
  const key = async (environment, scopes) => {
    const made = await owner.browser.call("POST", "/v1/api-keys", { name: "k", environment, scopes });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    return made.body;
  };
  const [reads, manages] = [await key("test", ["analytics"]), await key("live", ["manage", "verify", "settle"])];
  const refused = await worker.call("GET", "/v1/events", { key: manages.key });
  assert.deepEqual([refused.status, refused.body.error_code], [403, "INSUFFICIENT_SCOPE"]);
  assert.equal((await worker.call("GET", "/v1/events")).status, 401);
  const ofTest = await list(reads.key, "type=key.created");
  // A tenant that signs up is given a key of each environment.
  assert.deepEqual([ofTest.length, ofTest[0].subject], [2, reads.api_key.id]);
  const email = address();
  await owner.browser.call("POST", "/v1/members/invitations", { email, role: "viewer" });
  const viewer = new Browser(worker);
  await viewer.call("POST", "/v1/members/join", { token: (await mailTo(worker, email)).token });
  const get = async (browser, path) => (await browser.call("GET", path)).body;
  assert.deepEqual((await get(viewer, "/v1/events?environment=test&type=key.created")).data, ofTest);
  const live = (await get(viewer, "/v1/events")).data;
  assert.deepEqual(live, (await get(viewer, "/v1/events?environment=live")).data);
  assert.deepEqual([live[0].type, live[0].environment], ["member.joined", "live"]);
  assert.ok(live.some(({ subject }) => subject === manages.api_key.id));
  const [event] = ofTest;
  assert.deepEqual(await get(viewer, `/v1/events/${event.id}?environment=test`), event);
  const stranger = (await signedUp(worker)).browser;
  for (const browser of [viewer, stranger]) {
    const path = browser === viewer ? `/v1/events/${event.id}` : `/v1/events/${event.id}?environment=test`;
    assert.equal((await browser.call("GET", path)).status, 404);
  }
  assert.ok(!(await get(stranger, "/v1/events")).data.some(({ id }) => live.some((own) => own.id === id)));
});

test("a list that may lack what was answered is refused, to a key and to a session", async () => {
  const owner = await signedUp(worker);
  const path = `/v1/admin/tenants/${owner.session.tenant.id}/recipients`;
  assert.equal((await worker.call("POST", path, { admin: true, body: { chain: "base", address: random(20) } })).status, 201);
  const body = { name: "k", environment: "live", scopes: ["verify", "analytics"] };
  const { key } = (await owner.browser.call("POST", "/v1/api-keys", body)).body;
  const verified = async () => (await worker.verify(key, { tx_hash: random(32), chain: "base" })).body.id;
  const first = await verified();
  const lists = async () => [await worker.call("GET", "/v1/events", { key }), await owner.browser.call("GET", "/v1/events")];
  for (const { status, body } of await lists()) assert.deepEqual([status, body.data[0].subject], [200, first]);
  const mend = breakMonth(worker, monthOf(timeOf(first)));
  try {
    const second = await verified();
    for (const { status, body } of await lists()) assert.deepEqual([status, body.error_code], [503, "LEDGER_UNAVAILABLE"]);
    mend();
    for (const { status, body } of await lists()) assert.deepEqual([status, body.data[0].subject], [200, second]);
  } finally {
    mend();
  }
});

test("an object that does not know the message is reported as not available", async () => {
  const { live } = await worker.tenant();
  const month = monthOf(Date.now());
  const reply = await ask(worker, { tenant: "ten_000000000001070707070707", month }, { of_a_later_build: {} });
  assert.deepEqual(reply, { failed: "INTERNAL" });
  await worker.fault({ names: '"page_events"', unsent: true });
  const { status, body, headers } = await worker.call("GET", "/v1/events", { key: live });
  assert.deepEqual([status, body.error_code, headers.get("retry-after")], [503, "LEDGER_UNAVAILABLE", "1"]);
});
