// What a webhook endpoint's object keeps and for how long, and that nothing puts it to sleep while something waits: changes that
// come while it is at work, storage that fails, an endpoint that is removed while the object is away.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, afterEach, before, test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { random } from "./payment.mjs";
import { hearing, received, receivers } from "./receivers.mjs";
import { startWorker, until } from "./worker.mjs";

const [SECOND, MINUTE] = [1_000, 60_000];
const DAY = 86_400_000;
/** Bytes above which an object forgets what was delivered, and what is exhausted, and from which on nothing more waits. */
const [DELIVERED_MAX, EXHAUSTED_MAX, WAITING_MAX] = [2 ** 30, 1.5 * 2 ** 30, 2 ** 31];
/** The statement by which an object reads its endpoint. */
const READS = "JOIN tenants t ON t.id = e.tenant_id";
const play = receivers();
let mock, worker;

// Without PUBLIC_URL: the service knows its name by a request alone.
before(async () => {
  mock = await startMock();
  worker = await startWorker({ vars: { RPC_BASE: mock.url, MAIL_BACKEND: "mailbox" }, outbound: play.outbound });
});
afterEach(async () => {
  await Promise.all([worker.fault(null), worker.dbFault(), worker.storageFault()]);
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

let hosts = 0;
function host(act = /** @type {any} */ (200)) {
  const name = `courier-${hosts++}.example`;
  play.set(name, act);
  return name;
}

/** How far the Worker's clock is ahead of this one. */
let ahead = 0;
const now = () => Date.now() + ahead;

const LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
let made = 0;
/** The id of an event of now. */
function eventId() {
  const digits = (number, count) => Array.from({ length: count }, (_, at) => LETTERS[Math.floor(number / 32 ** (count - 1 - at)) % 32]);
  return `evt_${digits(now(), 10).join("")}${digits(made++, 16).join("")}`;
}

/** Hands events to an endpoint's object, as a ledger does, each about something of its own; their ids. */
async function hand(endpoint, count, size = 0) {
  const couriers = await worker.mf.getDurableObjectNamespace("COURIERS");
  const accept = Array.from({ length: count }, () => {
    const id = eventId();
    const body = { id, filled: randomBytes(size).toString("hex") };
    return { event: { id, kind: "verification.failed", subject: `test of ${id}`, body, at: now() } };
  });
  const stub = couriers.get(couriers.idFromName(endpoint.id));
  const answer = await stub.fetch("https://courier/", {
    method: "POST",
    body: JSON.stringify({ endpoint: endpoint.id, message: { accept } }),
  });
  assert.match(await answer.text(), /"taken"/);
  return accept.map(({ event }) => event.id);
}

/** The rows of the objects of an endpoint, or `[]` where nothing is stored. */
function stored(endpoint, statement = "SELECT event_id, state, attempts, ended_ms FROM deliveries") {
  const folder = join(worker.state, "do", "-Courier");
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name)) : [];
  return files.flatMap((name) => {
    const db = new DatabaseSync(join(folder, name), { readOnly: true, timeout: 5_000 });
    try {
      if (!db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'deliveries'").get()) return [];
      const own = db.prepare("SELECT value FROM state WHERE name = 'endpoint'").get();
      return own?.value === JSON.stringify(endpoint.id) ? db.prepare(statement).all() : [];
    } finally {
      db.close();
    }
  });
}
const inState = (endpoint, state) => stored(endpoint).filter((row) => row.state === state);

async function seller(more = {}) {
  const tenant = await hearing(worker, { to: random(20), ...more });
  const patch = async ({ path }, change) => {
    const changed = await tenant.call("PATCH", path, change);
    assert.equal(changed.status, 200, changed.text);
  };
  const pass = async (ms, ...endpoints) => {
    ahead += ms;
    await tenant.pass(ms, ...endpoints);
  };
  const read = async ({ path }, event) => (await tenant.call("GET", `${path}/deliveries/${event}`)).body;
  /** An endpoint, paused. */
  const paused = async (shop) => {
    const own = await tenant.endpoint(shop);
    await patch(own, { status: "paused" });
    return own;
  };
  /** So many events of an endpoint that is paused, which have waited for too long. */
  const exhausted = async (own, count, size = 0) => {
    const ids = [];
    while (ids.length < count) ids.push(...(await hand(own, Math.min(count - ids.length, 2_000), size)));
    await pass(30 * DAY + MINUTE, own);
    await until(() => inState(own, "exhausted").length === count, "events that have waited for too long", 60_000);
    return ids;
  };
  return { ...tenant, patch, pass, read, paused, exhausted };
}

/** Does something while the object of an endpoint has been answered by the directory and does not know it yet. */
async function whileRead(begin, act) {
  await worker.dbFault({ names: READS, held: true, after: true });
  await begin();
  await until(async () => (await fetch(`${worker.url}/__dbfault`)).json(), "an alarm that reads its endpoint");
  try {
    await act();
  } finally {
    await worker.dbFault();
  }
}

test("an object that is full forgets what was taken, the oldest first, then what is exhausted, and has nothing more wait", async () => {
  const { paused, exhausted, patch } = await seller();
  const shop = host();
  const own = await paused(shop);
  // They ended before all that was delivered.
  const old = await exhausted(own, 30, 200);
  await patch(own, { status: "active" });
  await hand(own, 60, 1_000);
  await until(() => inState(own, "delivered").length === 60, "the first deliveries");
  await hand(own, 60, 1_000);
  await until(() => inState(own, "delivered").length === 120, "the others");
  const ends = inState(own, "delivered")
    .map((row) => Number(row.ended_ms))
    .sort((a, b) => a - b);
  await worker.storageFault(null, DELIVERED_MAX + 1);
  await patch(own, { description: "one byte too many" });
  await until(() => inState(own, "delivered").length < 120, "room");
  const left = inState(own, "delivered").map((row) => Number(row.ended_ms));
  assert.equal(left.length, 20, "so many as are forgotten at a time");
  assert.ok(Math.min(...left) >= ends[99], "those that ended first are gone");
  assert.equal(stored(own, "SELECT event_id FROM attempts").length, 20);
  assert.deepEqual(
    inState(own, "exhausted")
      .map((row) => row.event_id)
      .sort(),
    [...old].sort(),
  );
  await worker.storageFault(null, EXHAUSTED_MAX + 1);
  await patch(own, { description: "more still" });
  await until(() => stored(own).length === 0, "more room");
  // What waits is not forgotten, and nothing more waits.
  await worker.storageFault();
  await patch(own, { status: "paused" });
  const [waits] = await hand(own, 1);
  await worker.storageFault(null, WAITING_MAX);
  const [more] = await hand(own, 1);
  await worker.storageFault();
  await patch(own, { status: "active" });
  await received(play, shop, 121);
  await until(() => inState(own, "waiting").length === 0, "its end");
  assert.ok(play.of(shop).some(({ id }) => id === waits));
  assert.ok(play.of(shop).every(({ id }) => id !== more));
});

test("of many redeliveries the newest hundred attempts are kept", async () => {
  const { endpoint, call } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  const [event] = await hand(own, 1);
  for (let count = 1; count <= 103; count++) {
    await until(() => inState(own, "delivered").length === 1 && play.of(shop).length === count, `delivery ${count}`);
    if (count <= 102) assert.equal((await call("POST", `${own.path}/deliveries/${event}/redeliver`)).status, 202);
  }
  assert.deepEqual(
    { ...stored(own, "SELECT MIN(n) AS first, MAX(n) AS last, COUNT(*) AS count FROM attempts")[0] },
    {
      first: 4,
      last: 103,
      count: 100,
    },
  );
});

test("an endpoint that is resumed while its object reads that it is paused gets what has waited at once", async () => {
  const { paused, patch } = await seller();
  const shop = host();
  const own = await paused(shop);
  await whileRead(
    () => hand(own, 3),
    () => patch(own, { status: "active" }),
  );
  await received(play, shop, 3);
});

test("an endpoint that is paused and resumed while a message is on its way gets the others meanwhile", async () => {
  const { endpoint, patch } = await seller();
  let free = () => {};
  const hangs = new Promise((resolve) => (free = () => resolve(200)));
  const shop = host(() => (play.of(shop).length === 1 ? hangs : 200));
  const own = await endpoint(shop);
  const [first] = await hand(own, 1);
  await received(play, shop);
  await patch(own, { status: "paused" });
  const others = await hand(own, 3);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(play.of(shop).length, 1, "a paused endpoint gets nothing more");
  await patch(own, { status: "active" });
  try {
    await received(play, shop, 4, 5_000);
    assert.deepEqual(
      inState(own, "waiting")
        .map((row) => row.event_id)
        .includes(first),
      true,
      "the first is still on its way",
    );
  } finally {
    free();
  }
  await until(() => inState(own, "delivered").length === 4, "all of them");
  assert.deepEqual(
    play
      .of(shop)
      .map(({ id }) => id)
      .sort(),
    [first, ...others].sort(),
    "each of them once",
  );
});

test("an endpoint that is removed while its object reads it leaves nothing", async () => {
  const { paused, call } = await seller();
  const own = await paused(host());
  await whileRead(
    () => hand(own, 2),
    async () => assert.equal((await call("DELETE", own.path)).status, 200),
  );
  await until(() => stored(own).length === 0, "an empty object");
});

test("what is on its way to an endpoint that is paused, or whose tier has none, is delivered, and the rest waits", async () => {
  const { endpoint, patch, admin, pass } = await seller();
  for (const [stop, go] of /** @type {any[]} */ ([
    [(own) => patch(own, { status: "paused" }), (own) => patch(own, { status: "active" })],
    [
      async (own) => {
        await admin("PATCH", "", { tier: "free" });
        await hand(own, 1);
      },
      async (own) => {
        await admin("PATCH", "", { tier: "enterprise" });
        await pass(11 * MINUTE, own);
      },
    ],
  ])) {
    let free = () => {};
    const hangs = new Promise((resolve) => (free = () => resolve(200)));
    const shop = host(() => hangs);
    const own = await endpoint(shop);
    await hand(own, 10);
    await received(play, shop, 6);
    await stop(own);
    free();
    await until(() => inState(own, "delivered").length >= 6, "what was on its way");
    await go(own);
    await until(() => inState(own, "waiting").length === 0, "what has waited");
    assert.ok(
      inState(own, "delivered").every((row) => row.attempts === 1),
      "no attempt is lost",
    );
    assert.equal(inState(own, "exhausted").length, 0);
  }
});

test("where the directory fails while a message is on its way, the others wait for half a minute", async () => {
  const { endpoint, patch, pass } = await seller();
  let free = () => {};
  const hangs = new Promise((resolve) => (free = () => resolve(200)));
  const shop = host(() => (play.of(shop).length === 1 ? hangs : 200));
  const own = await endpoint(shop);
  await hand(own, 1);
  await received(play, shop);
  await worker.dbFault({ names: READS });
  await patch(own, { description: "read again" });
  await hand(own, 2);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(play.of(shop).length, 1, "of what the endpoint is now nothing is known");
  free();
  await until(() => inState(own, "delivered").length === 1, "the first");
  await pass(31 * SECOND, own);
  await until(() => inState(own, "delivered").length === 3, "the others", 5_000);
});

test("an event that has waited for 30 days waits anew when it is sent again", async () => {
  const { paused, exhausted, patch, pass, read, call } = await seller();
  const shop = host();
  const own = await paused(shop);
  const [one, ...others] = await exhausted(own, 3);
  assert.deepEqual([(await read(own, one)).delivery.attempts, play.of(shop).length], [0, 0]);
  const again = await call("POST", `${own.path}/deliveries/${one}/redeliver`);
  assert.equal(again.status, 202);
  await pass(29 * DAY, own);
  await pass(SECOND, own);
  assert.equal((await read(own, one)).delivery.status, "waiting");
  // One that waits begins to do so again, too.
  assert.equal((await call("POST", `${own.path}/deliveries/${one}/redeliver`)).status, 202);
  await pass(2 * DAY, own);
  await pass(SECOND, own);
  assert.equal((await read(own, one)).delivery.status, "waiting");
  await patch(own, { status: "active" });
  await received(play, shop, 1);
  const since = new Date(now() - 80 * DAY).toISOString();
  const left = inState(own, "exhausted").map((row) => row.event_id);
  const all = await call("POST", `${own.path}/redeliver`, { since });
  assert.deepEqual([all.status, all.body], [202, { redelivered: left.length }]);
  await received(play, shop, 1 + left.length);
  assert.ok(left.every((event) => others.includes(event)));
});

test("thousands of exhausted events are sent again by the alarm, and the answer says how many", async () => {
  const { paused, exhausted, call } = await seller();
  const own = await paused(host());
  const count = 10_000;
  await exhausted(own, count);
  const since = new Date(now() - 40 * DAY).toISOString();
  const answer = await call("POST", `${own.path}/redeliver`, { since });
  const opened = inState(own, "waiting").length;
  assert.deepEqual([answer.status, answer.body], [202, { redelivered: count }]);
  assert.ok(opened < count, "the answer waits for none of them");
  await until(() => inState(own, "waiting").length === count, "all of them", 60_000);
  assert.deepEqual((await call("POST", `${own.path}/redeliver`, { since })).body, { redelivered: 0 });
});

test("a redelivery that is asked for while the object is at work begins at once", async () => {
  const { paused, exhausted, call } = await seller();
  const own = await paused(host());
  await exhausted(own, 3);
  const since = new Date(now() - 40 * DAY).toISOString();
  await whileRead(
    () => hand(own, 1),
    async () => assert.deepEqual((await call("POST", `${own.path}/redeliver`, { since })).body, { redelivered: 3 }),
  );
  await until(() => inState(own, "waiting").length === 4, "all of them", 5_000);
});

test("an alarm that could set no other is run again, and goes on", async () => {
  const { endpoint, pass, read } = await seller();
  const shop = host(500);
  const own = await endpoint(shop);
  const [event] = await hand(own, 1);
  await until(async () => (await read(own, event)).attempts?.[0]?.http_status === 500, "the first failure");
  const before = worker.log.lines.length;
  await worker.storageFault({ names: "setAlarm" });
  const isLogged = () => worker.log.lines.slice(before).some((line) => line.includes("an alarm could not be set"));
  await until(isLogged, "an alarm that fails");
  await worker.storageFault();
  await received(play, shop, 2);
  play.set(shop, 200);
  await until(
    async () => {
      await pass(6 * MINUTE, own);
      return inState(own, "delivered").length === 1;
    },
    "the delivery",
    20_000,
  );
});

test("an object whose alarm the platform has given up sets it again when it is asked anything", async () => {
  const { paused, endpoint, pass, patch } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  await worker.storageFault({ names: "setAlarm", lost: true });
  await hand(own, 2);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(play.of(shop).length, 0);
  await worker.storageFault();
  // A list that is read.
  await pass(MINUTE, own);
  await received(play, shop, 2);
  // Where no alarm can be set, nothing counts as taken.
  const other = await paused(host());
  await worker.storageFault({ names: "setAlarm" });
  await assert.rejects(hand(other, 1), /"failed"/);
  await worker.storageFault();
  await patch(other, { status: "active" });
});

test("what an endpoint has left is erased although its object was away when it was removed", async () => {
  const { endpoint, call } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  await hand(own, 2);
  await until(() => inState(own, "delivered").length === 2, "its deliveries");
  await worker.fault({ names: `"endpoint":"${own.id}"`, unsent: true, stays: true });
  assert.equal((await call("DELETE", own.path)).status, 200);
  await worker.cron("* * * * *");
  assert.equal(stored(own).length, 2);
  const noted = () => worker.sql("SELECT id, tried_ms > 0 AS tried FROM removed_endpoints WHERE id = ?", own.id);
  assert.deepEqual(await noted(), [{ id: own.id, tried: 1 }]);
  await worker.fault(null);
  await worker.cron("* * * * *");
  assert.deepEqual([stored(own), await noted()], [[], []]);
  // Without a fault the request itself erases it.
  const next = await endpoint(shop);
  await hand(next, 1);
  await until(() => inState(next, "delivered").length === 1, "its delivery");
  assert.equal((await call("DELETE", next.path)).status, 200);
  assert.deepEqual(stored(next), []);
  assert.deepEqual(await worker.sql("SELECT id FROM removed_endpoints WHERE id = ?", next.id), []);
});

test("a tenant is not erased before the objects of its endpoints are", async () => {
  const { paused, id, session } = await seller();
  const own = await paused(host());
  const due = "INSERT INTO deletions (tenant_id, id, token_hash, asked_by, asked_ms, expires_ms, due_ms) VALUES (?, ?, 'x', ?, 1, 2, 3)";
  const ended = async () => (await worker.sql("SELECT erased_ms FROM deletions WHERE tenant_id = ?", id))[0].erased_ms;
  await whileRead(
    () => hand(own, 1),
    async () => {
      await worker.sql(due, id, `del_${id}`, session.person.id);
      await worker.sql("UPDATE tenants SET status = 'cancelled', version = version + 1 WHERE id = ?", id);
      await worker.cron("* * * * *");
      assert.equal(await ended(), null, "an object at work has erased nothing");
    },
  );
  await until(async () => {
    await worker.cron("* * * * *");
    return ended();
  }, "the end of the deletion");
  assert.deepEqual(stored(own), []);
  await worker.cron("* * * * *");
  assert.deepEqual(await worker.sql("SELECT id FROM removed_endpoints WHERE id = ?", own.id), []);
});

test("a message that leads to the service itself, under a name that no request has used, meets no route", async () => {
  const { endpoint, read, key } = await seller();
  const answers = [];
  const back = async (message, request) => {
    const sent = { method: "POST", headers: Object.fromEntries(request.headers), body: message.text };
    const answer = await worker.mf.dispatchFetch(`https://${alias}/v1/signup`, sent);
    answers.push([answer.status, await answer.text()]);
    return answer.status;
  };
  const alias = host(back);
  const own = await endpoint(alias);
  const [event] = await hand(own, 1);
  const { attempts } = await until(async () => {
    const found = await read(own, event);
    return found.attempts?.[0]?.http_status && found;
  }, "an attempt");
  assert.equal(attempts[0].http_status, 404);
  assert.match(answers[0][1], /NOT_FOUND.*the service itself|the service itself.*NOT_FOUND/s);
  // Any other client is answered there.
  const other = await worker.mf.dispatchFetch(`https://${alias}/v1/health`, { headers: { "user-agent": "curl/8" } });
  assert.equal(other.status, 200);
  // The name that a request uses is refused at once, also beside PUBLIC_URL.
  const wanted = { url: `https://${alias}/hook`, environment: "live" };
  const refused = await worker.mf.dispatchFetch(`https://${alias}/v1/webhook-endpoints`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify(wanted),
  });
  assert.equal(refused.status, 422, await refused.text());
});

test("an endpoint is sent ten test events a minute", async () => {
  const { endpoint, call, pass } = await seller();
  const [shop, other] = [host(), host()];
  const [own, second] = [await endpoint(shop), await endpoint(other)];
  const send = ({ path }) => call("POST", `${path}/test`, { type: "quota.reset" });
  for (let count = 0; count < 10; count++) assert.equal((await send(own)).status, 202);
  const refused = await send(own);
  assert.deepEqual([refused.status, refused.body.error_code], [429, "RATE_LIMITED"]);
  const after = Number(refused.headers.get("retry-after"));
  assert.ok(after > 0 && after <= 60, `${after} s`);
  assert.equal((await send(second)).status, 202, "each endpoint has its own");
  await received(play, shop, 10);
  await pass(after * SECOND, own);
  assert.equal((await send(own)).status, 202);
});
