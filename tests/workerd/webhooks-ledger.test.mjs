// How a ledger hands events to the Couriers of webhook endpoints: which ones an endpoint gets, in which order, and what becomes of
// them while a Courier is away, hangs, or the ledger does not know its endpoints.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { random } from "./payment.mjs";
import { hearing, received, receivers } from "./receivers.mjs";
import { startWorker, until } from "./worker.mjs";

const SECOND = 1_000;
/** As many bytes as may wait for an endpoint. */
const FULL = 128 * 1_024 * 1_024;
const play = receivers();
const state = mkdtempSync(join(tmpdir(), "x402-ledger-"));
let mock, worker;

const start = async (begun = {}) => {
  const vars = { RPC_BASE: mock.url, MAIL_BACKEND: "mailbox", PUBLIC_URL: "https://pay.example" };
  worker = await startWorker({ vars, outbound: play.outbound, state, begun });
};
before(async () => {
  mock = await startMock();
  await start();
});
after(async () => {
  await worker?.stop();
  mock?.stop();
  rmSync(state, { recursive: true, force: true });
});

let hosts = 0;
/** A host of its own, that takes what it gets. */
function host(act = /** @type {any} */ (200)) {
  const name = `ledger-${hosts++}.example`;
  play.set(name, act);
  return name;
}

const ids = (messages) => messages.map(({ id }) => id);
/** Each once, in the order of its first coming. */
const unique = (all) => [...new Set(all)];

/** The Worker that runs at the time. @type {any} */
const running = new Proxy(
  {},
  {
    get: (_, name) => (typeof worker[name] === "function" ? worker[name].bind(worker) : worker[name]),
  },
);

/** Whether a statement of D1 is held. */
const isHeld = async () => (await fetch(`${worker.url}/__dbfault`)).json();

/** A seller on Base. */
async function seller(environment = "live") {
  const tenant = await hearing(running, { to: random(20), environment });
  /** Makes an event: of a verification; its id. */
  const happen = async () => {
    const { status, body, text } = await worker.verify(tenant.key, { tx_hash: random(32), chain: "base" });
    assert.equal(status, 200, text);
    return body.id.replace("ver_", "evt_");
  };
  const several = async (count) => {
    const made = [];
    for (let at = 0; at < count; at++) made.push(await happen());
    return made;
  };
  /** Puts the clock forward, and asks the ledger something: its alarm follows. */
  const wake = async (...endpoints) => {
    await tenant.pass(20 * SECOND, ...endpoints);
    assert.equal((await tenant.ship()).status, 200);
  };
  /** Waits until a host has so many events, each at least once. */
  const gets = async (shop, count, ...endpoints) => {
    await until(
      async () => {
        if (unique(ids(play.of(shop))).length >= count) return true;
        await wake(...endpoints);
        return false;
      },
      `${count} events at ${shop}`,
      60_000,
    );
    return unique(ids(play.of(shop)));
  };
  /** Has an endpoint answer that it is gone, until the service has disabled it and its ledger knows. */
  const disabled = async (shop, { path }) => {
    play.set(shop, 410);
    const count = play.of(shop).length;
    const event = await happen();
    await tenant.ship();
    await received(play, shop, count + 1);
    const status = async () => (await tenant.call("GET", path)).body.webhook_endpoint.status;
    await until(async () => (await status()) === "disabled", "the end of the endpoint");
    await worker.cron("* * * * *");
    play.set(shop, 200);
    return event;
  };
  return { ...tenant, environment, happen, several, wake, gets, disabled };
}

/** Calls to an endpoint's Courier. */
const callsTo = ({ id }) => `"endpoint":"${id}"`;

/** Opens the storage of a tenant's ledger. */
function ledgerOf(tenant, act, readOnly = false) {
  const folder = join(state, "do", "-TenantLedger");
  for (const name of readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name))) {
    const db = new DatabaseSync(join(folder, name), { readOnly, timeout: 5_000 });
    try {
      const isMade = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'webhooks_waiting'").get();
      const row = isMade && db.prepare("SELECT value FROM state WHERE name = 'tenant'").get();
      const copy = row && JSON.parse(String(row.value));
      if (copy?.id === tenant.id && copy.environment === tenant.environment) return act(db, copy);
    } finally {
      db.close();
    }
  }
  throw new Error(`no ledger of ${tenant.id}`);
}

/** How many events wait in a tenant's ledger for an endpoint. */
const waitingFor = (tenant, { id }) =>
  ledgerOf(tenant, (db) => Number(db.prepare("SELECT COUNT(*) AS count FROM webhooks_waiting WHERE endpoint = ?").get(id)?.count), true);

/** The events that an endpoint's Courier has, in the order in which they came. */
function arrivalsOf({ id }) {
  const folder = join(state, "do", "-Courier");
  for (const name of existsSync(folder) ? readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name)) : []) {
    const db = new DatabaseSync(join(folder, name), { readOnly: true, timeout: 5_000 });
    try {
      const isMade = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'deliveries'").get();
      const row = isMade && db.prepare("SELECT value FROM state WHERE name = 'endpoint'").get();
      if (row && JSON.parse(String(row.value)) === id) {
        return db
          .prepare("SELECT event_id FROM deliveries ORDER BY seq")
          .all()
          .map(({ event_id }) => String(event_id));
      }
    } finally {
      db.close();
    }
  }
  return [];
}

/** Stops the Worker, changes a tenant's ledger as it is stored, and starts it again: something goes wrong from then on. */
async function changed(tenant, act, wrong = {}) {
  const { ahead } = await (await fetch(`${worker.url}/__advance?0`)).json();
  await worker.stop();
  ledgerOf(tenant, act);
  await start({ ahead, ...wrong });
}

test("an endpoint gets what has happened since its creation, also where its ledger has shipped that before it knew of it", async () => {
  const { key, happen, several, ship, gets } = await seller();
  await several(2);
  await ship();
  const shop = host();
  await worker.fault({ names: '"reload"', unsent: true, stays: true });
  const body = { url: `https://${shop}/hook`, environment: "live", events: ["verification.*"] };
  const made = await worker.call("POST", "/v1/webhook-endpoints", { key, body });
  assert.deepEqual([made.status, made.body.in_force], [201, false], made.text);
  const wanted = await several(3);
  await ship();
  await worker.fault(null);
  await worker.cron("* * * * *");
  wanted.push(await happen());
  await ship();
  const id = made.body.webhook_endpoint.id;
  await gets(shop, 4, { path: `/v1/webhook-endpoints/${id}` });
  assert.deepEqual(arrivalsOf({ id }), wanted);
});

test("an endpoint that is made while a ledger ships a backlog gets what of it happens from then on", async () => {
  const { endpoint, happen, several, ship, gets } = await seller();
  await worker.fault({ names: '"month"', unsent: true, stays: true });
  await several(110);
  await worker.dbFault({ names: "INSERT INTO period_usage", held: true });
  await worker.fault(null);
  const listed = ship();
  await until(() => isHeld(), "a batch on its way");
  const shop = host();
  const own = await endpoint(shop);
  const wanted = [await happen()];
  await worker.dbFault();
  assert.equal((await listed).status, 200);
  wanted.push(await happen());
  await ship();
  assert.deepEqual(await gets(shop, 2, own), wanted);
  assert.deepEqual(arrivalsOf(own), wanted);
});

/** The copy of the tenant as a build without endpoints stores it. */
function rollBack(db, { webhooks, endpoints, ...copy }) {
  assert.ok(webhooks.length > 0 && endpoints.length > 0);
  db.prepare("UPDATE state SET value = ? WHERE name = 'tenant'").run(JSON.stringify(copy));
}

/** Couriers take nothing. */
const AWAY = { names: '"accept"', unsent: true, stays: true };

test("after a rollback a ledger loads its endpoints, and what has waited is sent", async () => {
  const one = await seller();
  const { endpoint, several, ship, gets, call } = one;
  const [shop, gone] = [host(), host()];
  const [own, removed] = [await endpoint(shop), await endpoint(gone)];
  await worker.fault(AWAY);
  const wanted = await several(3);
  await ship();
  assert.deepEqual([waitingFor(one, own), waitingFor(one, removed)], [3, 3]);
  // While the directory is away, nothing is deleted, and what is shipped is not lost to the endpoint.
  await changed(one, rollBack, { dbFaults: [{ names: "FROM webhook_endpoints", stays: true }] });
  wanted.push(...(await several(2)));
  await one.wake();
  await until(() => worker.log.lines.some((line) => line.includes("webhook endpoints could not be loaded")), "the attempt to load");
  assert.deepEqual([waitingFor(one, own), arrivalsOf(own)], [3, []]);
  await worker.dbFault();
  await gets(shop, 5, own);
  assert.deepEqual(arrivalsOf(own), wanted);
  await until(() => waitingFor(one, own) === 0, "the end of what waits");
  // Those of an endpoint that is removed go.
  await worker.fault(AWAY);
  await several(1);
  await ship();
  assert.equal(waitingFor(one, removed), 1);
  assert.equal((await call("DELETE", removed.path)).status, 200);
  await until(async () => {
    await one.wake();
    return waitingFor(one, removed) === 0;
  }, "the end of what waits for nobody");
  assert.equal(waitingFor(one, own), 1);
  await worker.fault(null);
  await gets(shop, 6, own);
});

test("a ledger that the build before has had knows its endpoints before it ships, although the tenant has not changed", async () => {
  const one = await seller();
  const { endpoint, happen, ship, gets } = one;
  const shop = host();
  const own = await endpoint(shop);
  await changed(one, rollBack);
  const wanted = await happen();
  await ship();
  assert.deepEqual(await gets(shop, 1, own), [wanted]);
  const stored = ledgerOf(one, (_, copy) => copy.endpoints, true);
  assert.deepEqual(
    stored.map(({ id }) => id),
    [own.id],
  );
});

test("a build that knows no disabled endpoints is given none, and nothing of that time is sent after it has run", async () => {
  const one = await seller();
  const { endpoint, happen, several, ship, gets, call, disabled } = one;
  const [shop, other] = [host(), host()];
  const [own, second] = [await endpoint(shop), await endpoint(other)];
  const first = await disabled(shop, own);
  const known = ledgerOf(one, (_, { webhooks, endpoints }) => [webhooks, endpoints].map((all) => all.map(({ id }) => id).sort()), true);
  assert.deepEqual(known, [[second.id], [own.id, second.id].sort()]);
  // As that build stores the copy.
  const build = (db, { endpoints, webhooks, ...copy }) => {
    copy.webhooks = webhooks.map(({ id, events }) => ({ id, events }));
    db.prepare("UPDATE state SET value = ? WHERE name = 'tenant'").run(JSON.stringify(copy));
  };
  await changed(one, build);
  const not = await several(3);
  await ship();
  assert.equal((await call("PATCH", own.path, { status: "active" })).status, 200);
  const later = await happen();
  await ship();
  await gets(shop, 2, own);
  assert.deepEqual(arrivalsOf(own), [first, later]);
  await gets(other, 5, second);
  assert.deepEqual(arrivalsOf(second), [first, ...not, later]);
});

test("what the build before has left counted takes no room", async () => {
  const one = await seller();
  const { endpoint, happen, ship, gets } = one;
  const shop = host();
  const own = await endpoint(shop);
  const wanted = [await happen()];
  await ship();
  await gets(shop, 1, own);
  const put = "INSERT INTO state (name, value) VALUES ('webhooks_backlog', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
  await changed(one, (db) => db.prepare(put).run(JSON.stringify({ [own.id]: FULL })), { fault: AWAY });
  wanted.push(await happen());
  await ship();
  assert.equal(waitingFor(one, own), 1);
  await worker.fault(null);
  await gets(shop, 2, own);
  assert.deepEqual(arrivalsOf(own), wanted);
});

test("an endpoint gets what happens from when it is active again on, although its ledger learns of that later", async () => {
  const one = await seller();
  const { endpoint, happen, ship, gets, call, disabled } = one;
  const shop = host();
  const own = await endpoint(shop);
  const wanted = [await disabled(shop, own)];
  const not = await happen();
  await ship();
  await worker.fault({ names: '"reload"', unsent: true, stays: true });
  assert.equal((await call("PATCH", own.path, { status: "active" })).status, 503);
  // One is shipped before the ledger knows, one after it, and the endpoint is changed in between.
  wanted.push(await happen());
  await ship();
  wanted.push(await happen());
  assert.equal((await call("POST", `${own.path}/rotate-secret`, undefined)).status, 200);
  await worker.fault(null);
  await worker.cron("* * * * *");
  wanted.push(await happen());
  await ship();
  await gets(shop, 4, own);
  await until(() => arrivalsOf(own).length >= 4, "all of them");
  assert.deepEqual(arrivalsOf(own), wanted);
  assert.ok(!ids(play.of(shop)).includes(not));
});

/** An id of a time. */
function idOf(prefix, at, end) {
  const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
  const time = Array.from({ length: 10 }, (_, place) => letters[Math.floor(at / 32 ** (9 - place)) % 32]);
  return `${prefix}_${time.join("")}${end.padStart(16, "0")}`;
}

test("in test too, no event of a settlement overtakes one that waits for the directory", async () => {
  const one = await seller("test");
  const shop = host();
  const own = await one.endpoint(shop);
  assert.equal((await one.ship()).status, 200);
  const { ahead } = await (await fetch(`${worker.url}/__advance?0`)).json();
  const at = Date.now() + ahead;
  const subject = idOf("stl", at - SECOND, "S");
  const event = (kind, at, end) => ({ id: idOf("evt", at, end), kind, subject, body: { id: subject }, at });
  const [first, next] = [event("settlement.succeeded", at + 1, "1"), event("settlement.undelivered", at + 2, "2")];
  const happened = (db) => {
    const put = db.prepare("INSERT INTO outbox (kind, body) VALUES (?, ?)");
    put.run("settlement_event", JSON.stringify(first));
    put.run("event", JSON.stringify(next));
    // The directory is sent something.
    db.prepare("UPDATE state SET value = json_set(value, '$.usage', NULL) WHERE name = 'shipped'").run();
  };
  await changed(one, happened, { dbFaults: [{ names: "INSERT INTO period_usage", stays: true }] });
  assert.equal((await one.ship()).status, 200);
  assert.deepEqual(arrivalsOf(own), []);
  await worker.dbFault();
  await one.gets(shop, 2, own);
  assert.deepEqual(arrivalsOf(own), [first.id, next.id]);
});

test("what cannot be read is left out, and an endpoint for which too much waits takes no room from another", async () => {
  const one = await seller();
  const { endpoint, several, happen, ship, gets, call } = one;
  const shops = [host(), host()];
  const [own, other] = [await endpoint(shops[0]), await endpoint(shops[1])];
  await worker.fault(AWAY);
  const wanted = await several(2);
  await ship();
  const fill = (db) => {
    db.prepare("UPDATE webhooks_waiting SET body = '{}' WHERE seq = (SELECT MIN(seq) FROM webhooks_waiting WHERE endpoint = ?)").run(
      own.id,
    );
    db.prepare("UPDATE state SET value = json_set(value, '$.' || ?, ?) WHERE name = 'webhooks_backlog'").run(own.id, BigInt(FULL));
  };
  await changed(one, fill, { fault: AWAY });
  const more = await happen();
  await ship();
  assert.deepEqual([waitingFor(one, own), waitingFor(one, other)], [2, 3]);
  assert.ok(worker.log.lines.some((line) => line.includes("events for a courier were dropped") && line.includes('"done":1')));
  await worker.fault(null);
  await gets(shops[1], 3, own, other);
  assert.deepEqual(arrivalsOf(other), [...wanted, more]);
  await until(() => waitingFor(one, own) === 0, "the end of what waits");
  assert.deepEqual(arrivalsOf(own), [wanted[1]]);
  assert.ok(worker.log.lines.some((line) => line.includes("cannot be read") && line.includes("courier")));
  // There is room again, and the list has all.
  const last = await happen();
  await ship();
  await gets(shops[0], 2, own);
  assert.deepEqual(arrivalsOf(own), [wanted[1], last]);
  assert.ok((await call("GET", "/v1/events?type=verification.*")).body.data.some(({ id }) => id === more));
});

test("what has waited in a ledger when its endpoint is disabled is sent once it is active again", async () => {
  const one = await seller();
  const { endpoint, happen, ship, gets, call } = one;
  let answer = /** @type {(status: number) => void} */ (() => {});
  const first = new Promise((resolve) => (answer = resolve));
  const shop = host(() => first);
  const own = await endpoint(shop);
  const wanted = [await happen()];
  await ship();
  await received(play, shop);
  await worker.fault({ names: `${callsTo(own)},"message":{"accept"`, unsent: true, stays: true });
  wanted.push(await happen());
  await ship();
  assert.equal(waitingFor(one, own), 1);
  // What has happened before, and is shipped when the endpoint is disabled.
  await worker.fault({ names: '"month"', unsent: true, stays: true });
  wanted.push(await happen());
  answer(410);
  const status = async () => (await call("GET", own.path)).body.webhook_endpoint.status;
  await until(async () => (await status()) === "disabled", "the end of the endpoint");
  await worker.cron("* * * * *");
  await worker.fault({ names: `${callsTo(own)},"message":{"accept"`, unsent: true, stays: true });
  const not = await happen();
  await one.wake();
  await until(() => waitingFor(one, own) === 2, "what has happened before");
  await worker.fault(null);
  await one.wake();
  play.set(shop, 200);
  assert.equal((await call("PATCH", own.path, { status: "active" })).status, 200);
  wanted.push(await happen());
  await gets(shop, 4, own);
  await until(() => arrivalsOf(own).length >= 4, "all of them");
  assert.deepEqual(arrivalsOf(own), wanted);
  assert.ok(!ids(play.of(shop)).includes(not));
});

test("a courier that hangs delays no list, no alarm and no other endpoint, and loses nothing", async () => {
  const one = await seller();
  const { endpoint, several, ship, gets, wake, happen } = one;
  const [shop, other] = [host(), host()];
  const [own, second] = [await endpoint(shop), await endpoint(other)];
  await worker.fault({ names: callsTo(own), held: true, stays: true });
  const wanted = [];
  const took = async (act) => {
    const began = Date.now();
    await act();
    return Date.now() - began;
  };
  try {
    const times = [];
    for (let turn = 0; turn < 6; turn++) {
      wanted.push(...(await several(3)));
      times.push(await took(ship));
      // An alarm hands over what has waited, and hangs with it.
      await worker.advance(20 * SECOND);
    }
    assert.ok(Math.max(...times) < 4_000, `lists took ${times} ms`);
    await received(play, other, 18, 4_000);
    // Without a list the alarm does it.
    wanted.push(await happen());
    await worker.advance(10 * SECOND);
    await worker.call("GET", "/v1/usage", { key: one.key });
    await received(play, other, 19, 4_000);
    assert.deepEqual(arrivalsOf(second), wanted);
  } finally {
    await worker.fault(null);
    await worker.release();
  }
  await wake(own);
  await gets(shop, 19, own);
  assert.deepEqual(arrivalsOf(own), wanted);
  await until(() => waitingFor(one, own) === 0, "the end of what waits");
});

test("of two turns of a ledger, of which one does not reach a courier, no event overtakes another", async () => {
  const one = await seller();
  const { endpoint, several, ship, gets, happen } = one;
  const shop = host();
  const own = await endpoint(shop);
  await worker.fault({ names: '"month"', unsent: true, stays: true });
  const made = await several(120);
  // One turn is held with the first hundred of them, another goes on.
  await worker.dbFault({ names: "INSERT INTO period_usage", held: true });
  await worker.fault({ names: made[110], unsent: true, stays: true });
  const held = ship();
  await until(() => isHeld(), "the first turn");
  assert.equal((await ship()).status, 200);
  await until(() => waitingFor(one, own) >= 20, "the second turn has not reached the courier with the rest");
  made.push(await happen());
  await worker.fault(null);
  await worker.dbFault();
  assert.equal((await held).status, 200);
  await gets(shop, made.length, own);
  assert.deepEqual(arrivalsOf(own), made);
});

test("a ledger writes nothing more for an endpoint while its courier answers", async () => {
  const one = await seller();
  const shop = host();
  const own = await one.endpoint(shop);
  await one.wake(own);
  await worker.written();
  await Promise.all(Array.from({ length: 20 }, () => one.happen()));
  await Promise.all([one.ship(), one.ship()]);
  await received(play, shop, 20);
  await one.wake(own);
  const { tables } = await worker.written();
  assert.equal(tables.webhooks_waiting, undefined);
  assert.equal(tables.deliveries > 0, true);
});
