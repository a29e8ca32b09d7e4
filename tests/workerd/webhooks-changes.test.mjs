// What becomes of a webhook endpoint's messages when the endpoint changes: when it is disabled and made active again, gets another
// URL or another secret, when its secret cannot be opened, and when a clock was ahead meanwhile.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { random } from "./payment.mjs";
import { hearing, received, receivers } from "./receivers.mjs";
import { startWorker, until } from "./worker.mjs";

const [SECOND, MINUTE, HOUR] = [1_000, 60_000, 3_600_000];
const DAY = 24 * HOUR;
const play = receivers();
const state = mkdtempSync(join(tmpdir(), "x402-changes-"));
let mock, worker;

const start = async (more = {}, begun = {}) => {
  const vars = { RPC_BASE: mock.url, MAIL_BACKEND: "mailbox", PUBLIC_URL: "https://pay.example", ...more };
  worker = await startWorker({ vars, outbound: play.outbound, state, begun });
};
before(async () => {
  mock = await startMock();
  await start();
});
afterEach(async () => {
  await Promise.all([worker.fault(null), worker.dbFault()]);
});
after(async () => {
  await worker?.stop();
  mock?.stop();
  rmSync(state, { recursive: true, force: true });
});

let hosts = 0;
/** A host of its own, that takes what it gets. */
function host(act = /** @type {any} */ (200)) {
  const name = `changes-${hosts++}.example`;
  play.set(name, act);
  return name;
}
/** A host that answers what it is told to, once it is. */
function hanging() {
  let answer = (/** @type {number} */ _status) => {};
  const held = new Promise((resolve) => (answer = resolve));
  return { shop: host(() => held), answer };
}
const ids = (messages) => messages.map(({ id }) => id);
/** Each once, in the order of its first coming. */
const heard = (shop) => [...new Set(ids(play.of(shop)))];

/** The Worker that runs at the time. @type {any} */
const running = new Proxy(
  {},
  {
    get: (_, name) => (typeof worker[name] === "function" ? worker[name].bind(worker) : worker[name]),
  },
);

async function seller() {
  const tenant = await hearing(running, { to: random(20) });
  const { call, pass, ship } = tenant;
  /** Makes an event: of a verification; its id. */
  const happen = async (key = tenant.key) => {
    const { status, body, text } = await worker.verify(key, { tx_hash: random(32), chain: "base" });
    assert.equal(status, 200, text);
    return body.id.replace("ver_", "evt_");
  };
  /** The same, shipped. */
  const shipped = async () => {
    const event = await happen();
    assert.equal((await ship()).status, 200);
    return event;
  };
  const shown = async ({ path }) => (await call("GET", path)).body.webhook_endpoint;
  const delivery = async ({ path }, event) => (await call("GET", `${path}/deliveries/${event}`)).body.delivery;
  const isDisabled = (own) => until(async () => (await shown(own)).status === "disabled", "the end of the endpoint");
  const patch = async ({ path }, change, status = 200) => {
    const changed = await call("PATCH", path, change);
    assert.equal(changed.status, status, changed.text);
  };
  /** Puts the clock forward, and has the ledger and the objects go on, until something is so. */
  const passUntil = (isSo, what, ms, ...endpoints) =>
    until(
      async () => {
        if (await isSo()) return true;
        await pass(ms, ...endpoints);
        await ship();
        return false;
      },
      what,
      60_000,
    );
  /** Has an endpoint answer that it is gone, until the service has disabled it and its ledger knows. */
  const gone = async (shop, own) => {
    play.set(shop, 410);
    const event = await shipped();
    await isDisabled(own);
    await worker.cron("* * * * *");
    play.set(shop, 200);
    return event;
  };
  return { ...tenant, happen, shipped, shown, delivery, isDisabled, patch, passUntil, gone };
}

test("an endpoint that is disabled twice before its ledger learns of it gets what has happened in between", async () => {
  const one = await seller();
  const { endpoint, happen, ship, shipped, isDisabled, patch, passUntil, gone } = one;
  const shop = host();
  const own = await endpoint(shop);
  const first = await gone(shop, own);
  const not = await shipped();
  await worker.fault({ names: '"reload"', unsent: true, stays: true });
  // It is made active while it still answers that it is gone, and something happens before it does.
  let answer = (/** @type {number} */ _status) => {};
  const held = new Promise((resolve) => (answer = resolve));
  play.set(shop, () => held);
  await patch(own, { status: "active" }, 503);
  await received(play, shop, 2);
  const between = await happen();
  // The list waits for the ledger to learn of the change; what has happened is shipped all the same.
  assert.equal((await ship()).status, 503);
  answer(410);
  await isDisabled(own);
  play.set(shop, 200);
  await worker.fault(null);
  await worker.cron("* * * * *");
  await patch(own, { status: "active" });
  const last = await shipped();
  await passUntil(() => heard(shop).length >= 3, "all of them", 20 * SECOND, own);
  assert.deepEqual(heard(shop).sort(), [first, between, last].sort());
  assert.ok(!heard(shop).includes(not), "nothing of the time in which it was disabled");
});

test("what the URL before answers disables no endpoint that has another one", async () => {
  const { endpoint, shipped, shown, patch } = await seller();
  const { shop: old, answer } = hanging();
  const shop = host();
  const own = await endpoint(old);
  const event = await shipped();
  await received(play, old);
  await patch(own, { url: `https://${shop}/hook` });
  answer(410);
  await received(play, shop);
  assert.deepEqual([heard(shop), (await shown(own)).status], [[event], "active"]);
  const later = await shipped();
  await received(play, shop, 2);
  assert.deepEqual(heard(shop), [event, later]);
});

test("nor does it where the endpoint's object has not heard of the other one", async () => {
  const { endpoint, shipped, shown, delivery, patch, passUntil } = await seller();
  const { shop: old, answer } = hanging();
  const shop = host();
  const own = await endpoint(old);
  const event = await shipped();
  await received(play, old);
  await worker.fault({ names: '"resume"', unsent: true });
  await patch(own, { url: `https://${shop}/hook` });
  answer(410);
  await passUntil(async () => (await delivery(own, event)).status === "delivered", "its delivery", 10 * SECOND, own);
  assert.deepEqual([heard(shop), (await shown(own)).status], [[event], "active"]);
});

test("what fails at the URL before holds nothing back from another one", async () => {
  const { endpoint, happen, ship, patch } = await seller();
  const { shop: old, answer } = hanging();
  const shop = host();
  const own = await endpoint(old);
  for (let times = 0; times < 6; times++) await happen();
  await ship();
  await received(play, old, 6);
  await patch(own, { url: `https://${shop}/hook` });
  answer(500);
  // At once: a breaker that had opened would be so for half a minute.
  await received(play, shop, 6);
  assert.deepEqual(heard(shop).sort(), heard(old).sort());
});

test("an endpoint that was mended is not disabled by one failure after days in which nothing was sent", async () => {
  const { endpoint, shipped, shown, delivery, pass, passUntil } = await seller();
  const shop = host(500);
  const own = await endpoint(shop);
  const first = await shipped();
  await passUntil(async () => (await delivery(own, first)).status === "exhausted", "its end", HOUR, own);
  await pass(4.5 * DAY, own);
  let count = 0;
  play.set(shop, () => (count++ === 0 ? 503 : 200));
  const sale = await shipped();
  await passUntil(async () => (await delivery(own, sale))?.status === "delivered", "the next sale", 6 * SECOND, own);
  assert.deepEqual([(await delivery(own, sale)).attempts, (await shown(own)).status], [2, "active"]);
});

test("what waits for its next attempt is sent at once when the endpoint is made active", async () => {
  const { endpoint, shipped, delivery, patch, passUntil } = await seller();
  const shop = host(500);
  const own = await endpoint(shop);
  const event = await shipped();
  await passUntil(async () => (await delivery(own, event)).attempts === 5, "some attempts", 10 * MINUTE, own);
  const before = await until(async () => {
    const found = await delivery(own, event);
    return found.next_attempt_at && found;
  }, "the next attempt");
  play.set(shop, 200);
  await patch(own, { status: "active" });
  await received(play, shop, 6);
  await until(async () => (await delivery(own, event)).status === "delivered", `an attempt before ${before.next_attempt_at}`);
});

/** Whether a secret has signed a message. */
function isSigned(secret, { id, text, headers }) {
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  const wanted = createHmac("sha256", key).update(`${id}.${headers["webhook-timestamp"]}.${text}`).digest("base64");
  return headers["webhook-signature"].split(" ").includes(`v1,${wanted}`);
}

test("a rotation whose answer the directory has lost is answered, and the secret in use still signs", async () => {
  const { endpoint, shipped, call } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  await worker.dbFault({ names: "SET previous_sealed", after: true });
  const { status, body, text } = await call("POST", `${own.path}/rotate-secret`);
  assert.equal(status, 200, text);
  await shipped();
  const [message] = await received(play, shop);
  assert.deepEqual(
    [own.secret, body.secret].map((secret) => isSigned(secret, message)),
    [true, true],
  );
  // One that was not made is refused, and changes nothing.
  await worker.dbFault({ names: "SET previous_sealed" });
  assert.equal((await call("POST", `${own.path}/rotate-secret`)).status, 503);
  await shipped();
  const [, later] = await received(play, shop, 2);
  assert.deepEqual(
    [own.secret, body.secret].map((secret) => isSigned(secret, later)),
    [true, true],
  );
});

test("what was taken while the clock was a day ahead is sent now, and so is what was exhausted by then", async () => {
  const { endpoint, shipped, call, delivery, patch, pass } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  await patch(own, { status: "paused" });
  await worker.advance(DAY);
  const early = await shipped();
  await until(async () => (await delivery(own, early))?.status === "waiting", "what waits");
  await worker.advance(-DAY);
  await patch(own, { description: "only read again" });
  await pass(11 * MINUTE, own);
  assert.deepEqual(heard(shop), [], "it is paused");
  await patch(own, { status: "active" });
  await received(play, shop);
  // A clock that is a month ahead.
  await patch(own, { status: "paused" });
  const late = await shipped();
  await until(async () => (await delivery(own, late))?.status === "waiting", "what waits");
  await pass(31 * DAY, own);
  await until(async () => (await delivery(own, late)).status === "exhausted", "what has waited for too long");
  await worker.advance(-31 * DAY);
  await patch(own, { status: "active" });
  const again = await call("POST", `${own.path}/redeliver`, { since: "2026-01-01T00:00:00Z" });
  assert.deepEqual([again.status, again.body.redelivered], [202, 1], again.text);
  await received(play, shop, 2);
  assert.deepEqual(heard(shop), [early, late]);
});

test("an endpoint that was made, or made active, by a clock that was ahead gets what happens now", async () => {
  const { endpoint, shipped, patch, passUntil, gone } = await seller();
  const [shop, other] = [host(), host()];
  const again = await endpoint(other);
  const before = await gone(other, again);
  await worker.advance(HOUR);
  const own = await endpoint(shop);
  await patch(again, { status: "active" });
  await worker.advance(-HOUR);
  const events = [await shipped(), await shipped()];
  await passUntil(
    () => [shop, other].every((name) => events.every((event) => heard(name).includes(event))),
    "both",
    5 * SECOND,
    own,
    again,
  );
  assert.ok(heard(other).includes(before));
});

// The last one: the Worker has another pepper from then on.
test("a secret whose pepper was taken away is shown, and one rotation sends what waits", async () => {
  const { id, endpoint, shipped, ship: _, shown: __, ...one } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  await shipped();
  await received(play, shop);
  const { ahead } = await (await fetch(`${worker.url}/__advance?0`)).json();
  await worker.stop();
  await start({ KEY_PEPPERS: "02".repeat(32) }, { ahead });
  const scopes = ["verify", "analytics", "manage"];
  const made = await worker.call("POST", `/v1/admin/tenants/${id}/api-keys`, {
    admin: true,
    body: { name: "new", environment: "live", scopes },
  });
  assert.equal(made.status, 201, made.text);
  const { key } = made.body;
  const call = (method, path, body = /** @type {any} */ (undefined)) => worker.call(method, path, { key, body });
  const delivery = async (event) => (await call("GET", `${own.path}/deliveries/${event}`)).body.delivery;
  const shown = async () => (await call("GET", own.path)).body.webhook_endpoint;
  assert.equal((await shown()).secret_lost_since, null, "nothing was to be sent");
  const event = await one.happen(key);
  await call("GET", "/v1/events?limit=1");
  await until(async () => (await shown()).secret_lost_since !== null, "that its secret cannot be opened");
  assert.deepEqual([(await delivery(event)).status, (await delivery(event)).attempts, (await shown()).status], ["waiting", 0, "active"]);
  const [listed] = (await call("GET", "/v1/webhook-endpoints")).body.data;
  assert.equal(listed.secret_lost_since, (await shown()).secret_lost_since);
  const open = async () => {
    await worker.cron("*/5 * * * *");
    const { body } = await worker.call("GET", "/v1/admin/alerts", { admin: true });
    return body.data.filter((alert) => alert.kind === "secrets_lost").map(({ detail }) => detail);
  };
  const [alert, ...none] = await open();
  assert.ok(alert.includes(own.id) && none.length === 0, alert);
  const rotated = await call("POST", `${own.path}/rotate-secret`);
  assert.equal(rotated.status, 200, rotated.text);
  assert.equal(rotated.body.webhook_endpoint.secret_lost_since, null);
  const [, message] = await received(play, shop, 2);
  assert.deepEqual([message.id, isSigned(rotated.body.secret, message), isSigned(own.secret, message)], [event, true, false]);
  assert.equal((await shown()).secret_lost_since, null);
  assert.deepEqual(await open(), []);
});
