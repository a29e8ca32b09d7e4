// What spends an attempt of a webhook, and what does not: an answer in time counts whatever else is slow, a resolver that is away
// and a message that cannot be read take nothing from others, and a redelivery is not lost behind an attempt that is in flight.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, afterEach, before, test } from "node:test";
import { Response } from "miniflare";
import { startMock } from "./mock-rpc.mjs";
import { random } from "./payment.mjs";
import { hearing, received, receivers } from "./receivers.mjs";
import { startWorker, until } from "./worker.mjs";

const [SECOND, HOUR] = [1_000, 3_600_000];
const play = receivers();
const state = mkdtempSync(join(tmpdir(), "x402-attempts-"));
let mock, worker;

const start = async (begun = {}) => {
  const vars = { RPC_BASE: mock.url, MAIL_BACKEND: "mailbox", PUBLIC_URL: "https://pay.example" };
  worker = await startWorker({ vars, outbound: play.outbound, state, begun });
};
before(async () => {
  mock = await startMock();
  await start();
});
afterEach(() => {
  play.resolver = null;
});
after(async () => {
  await worker?.stop();
  mock?.stop();
  rmSync(state, { recursive: true, force: true });
});

let hosts = 0;
function host(act = /** @type {any} */ (200)) {
  const name = `attempts-${hosts++}.example`;
  play.set(name, act);
  return name;
}

/** Something that happens when it is let happen. */
function held() {
  let free = (/** @type {any} */ _answer = undefined) => {};
  const answer = new Promise((resolve) => (free = resolve));
  return { answer, free };
}

async function seller() {
  // The Worker may be another one by the time that it is asked.
  const running = new Proxy({}, { get: (_, name) => (typeof worker[name] === "function" ? worker[name].bind(worker) : worker[name]) });
  const tenant = await hearing(running, { to: random(20) });
  const events = async (count) => {
    const ids = [];
    for (let at = 0; at < count; at++) {
      const { status, body, text } = await worker.verify(tenant.key, { tx_hash: random(32), chain: "base" });
      assert.equal(status, 200, text);
      ids.push(body.id.replace("ver_", "evt_"));
    }
    await tenant.ship();
    return ids;
  };
  const read = async ({ path }, event) => (await tenant.call("GET", `${path}/deliveries/${event}`)).body;
  const ends = (endpoint, event, wanted, patience = 20_000) =>
    until(
      async () => {
        const found = await read(endpoint, event);
        return found.delivery?.status === wanted && found;
      },
      `a delivery that is ${wanted}`,
      patience,
    );
  return { ...tenant, events, read, ends };
}

test("an answer in time counts although the resolver is slow for another message", async () => {
  const { endpoint, events, ends, read, pass } = await seller();
  const [first, question] = [held(), held()];
  const shop = host(() => (play.of(shop).length === 1 ? first.answer : 200));
  const own = await endpoint(shop);
  const [one] = await events(1);
  await received(play, shop);
  // The check of the DNS counts no more.
  await pass(6 * SECOND);
  const { asked } = play;
  play.resolver = () => question.answer.then(() => new Response("slow", { status: 502 }));
  const [other] = await events(1);
  await until(() => play.asked > asked, "a question to the DNS");
  first.free(200);
  // Before the question is given up, three seconds after it was put.
  const { delivery } = await ends(own, one, "delivered", 2_500);
  assert.equal(delivery.attempts, 1);
  assert.equal((await read(own, other)).delivery.attempts, 0, "it has not begun");
  play.resolver = null;
  question.free();
  await until(async () => {
    await pass(31 * SECOND, own);
    return (await read(own, other)).delivery.status === "delivered";
  }, "the other");
});

test("a resolver that is away spends no attempt and opens no breaker; one that says that a name fails does", async () => {
  const { endpoint, events, ends, read, pass } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  play.resolver = () => new Response("away", { status: 502 });
  const ids = await events(6);
  for (let turn = 0; turn < 8; turn++) {
    const { asked } = play;
    await until(async () => {
      await pass(31 * SECOND, own);
      return play.asked > asked;
    }, `question ${turn}`);
  }
  for (const id of ids) assert.deepEqual((await read(own, id)).attempts, []);
  play.resolver = null;
  await until(async () => {
    await pass(31 * SECOND, own);
    return play.of(shop).length >= ids.length;
  }, "all of them");
  for (const id of ids) assert.equal((await ends(own, id, "delivered")).delivery.attempts, 1);
  play.resolver = () => Response.json({ Status: 2 });
  await pass(6 * SECOND, own);
  const [failing] = await events(1);
  const { attempts } = await until(async () => {
    const found = await read(own, failing);
    return found.attempts?.[0]?.failure && found;
  }, "an attempt");
  assert.equal(attempts[0].failure, "unreachable");
});

test("a message that cannot be read is exhausted, and holds up no other", async () => {
  const { endpoint, events, ends, call, deliveries } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  assert.equal((await call("PATCH", own.path, { status: "paused" })).status, 200);
  const ids = await events(6);
  await until(async () => (await deliveries(own)).length === 6, "all at the courier");
  const { ahead } = await (await fetch(`${worker.url}/__advance?0`)).json();
  await worker.stop();
  const folder = join(state, "do", "-Courier");
  const changed = readdirSync(folder)
    .filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name))
    .map((name) => {
      const db = new DatabaseSync(join(folder, name), { timeout: 5_000 });
      try {
        if (!db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'deliveries'").get()) return 0;
        return Number(db.prepare("UPDATE deliveries SET body = x'ff00ff' WHERE event_id = ?").run(ids[3]).changes);
      } finally {
        db.close();
      }
    });
  assert.deepEqual(
    changed.filter((count) => count > 0),
    [1],
  );
  await start({ ahead });
  assert.equal((await call("PATCH", own.path, { status: "active" })).status, 200);
  await received(play, shop, 5);
  const { delivery } = await ends(own, ids[3], "exhausted");
  assert.equal(delivery.attempts, 0);
  for (const id of ids.filter((one) => one !== ids[3])) assert.equal((await ends(own, id, "delivered")).delivery.attempts, 1);
  assert.ok(worker.log.lines.some((line) => line.includes("a message to a webhook endpoint cannot be read")));
});

test("a redelivery that is asked for while the last attempt is in flight is sent when that fails", async () => {
  const { endpoint, events, ends, read, pass, call } = await seller();
  const last = held();
  const shop = host(() => {
    const count = play.of(shop).length;
    if (count === 8) return last.answer;
    return count < 8 ? 500 : 200;
  });
  const own = await endpoint(shop);
  const [event] = await events(1);
  await received(play, shop);
  await until(
    async () => {
      if (play.of(shop).length < 8) await pass(HOUR, own);
      return play.of(shop).length >= 8;
    },
    "the last attempt",
    60_000,
  );
  assert.equal((await call("POST", `${own.path}/deliveries/${event}/redeliver`)).status, 202);
  last.free(500);
  await until(async () => (await read(own, event)).attempts[7]?.http_status === 500, "the end of the last attempt");
  const { delivery } = await until(async () => {
    const found = await read(own, event);
    // The breaker holds it back for five minutes at most.
    if (found.delivery.status === "waiting") await pass(301 * SECOND, own);
    return found.delivery.status !== "waiting" && found;
  }, "its end");
  assert.deepEqual([delivery.status, delivery.attempts], ["delivered", 9]);
  await ends(own, event, "delivered");
});
