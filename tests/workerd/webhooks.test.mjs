// Webhooks on the real Worker: each event of a payment reaches the endpoints that want it, signed, at least once and in its
// order, whatever the endpoints do.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Response } from "miniflare";
import { Webhook } from "standardwebhooks";
import { Webhook as Svix } from "svix";
import { mailsTo } from "./browser.mjs";
import { startMock } from "./mock-rpc.mjs";
import { random } from "./payment.mjs";
import { hearing, received, receivers } from "./receivers.mjs";
import { ROOT, startWorker, until } from "./worker.mjs";

const PAGES = "https://pay.example";
const [SECOND, MINUTE, HOUR] = [1_000, 60_000, 3_600_000];
const DAY = 24 * HOUR;
const play = receivers();
let mock, worker;

before(async () => {
  mock = await startMock();
  const vars = { RPC_BASE: mock.url, MAIL_BACKEND: "mailbox", PUBLIC_URL: PAGES };
  worker = await startWorker({ vars, outbound: play.outbound });
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

let hosts = 0;
/** A host of its own, that takes what it gets. */
function host(act = /** @type {any} */ (200)) {
  const name = `shop-${hosts++}.example`;
  play.set(name, act);
  return name;
}

/** A seller on Base, and what is asked of the service. */
async function seller(more = {}) {
  const to = random(20);
  const tenant = await hearing(worker, { to, ...more });
  const verify = async (block = 900) => {
    const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block });
    const answer = await worker.verify(tenant.key, { tx_hash, chain: "base", max_age_seconds: 315_360_000 });
    assert.equal(answer.body.success, true, answer.text);
    return answer;
  };
  /** Makes so many events, each of a verification of its own; their ids. */
  const events = async (count) => {
    const ids = [];
    for (let at = 0; at < count; at++) ids.push(eventOf((await worker.verify(tenant.key, { tx_hash: random(32), chain: "base" })).body.id));
    await tenant.ship();
    return ids;
  };
  const read = async (endpoint, event) => (await tenant.call("GET", `${endpoint.path}/deliveries/${event}`)).body;
  /** Puts the clock forward until a delivery is as it is wanted. */
  const passUntil = async (endpoint, event, wanted, ms, what) =>
    until(
      async () => {
        const found = await read(endpoint, event);
        if (wanted(found)) return found;
        await tenant.pass(ms, endpoint);
        return undefined;
      },
      what,
      60_000,
    );
  return { ...tenant, to, verify, events, read, passUntil };
}

const eventOf = (verification) => verification.replace("ver_", "evt_");
const ids = (messages) => messages.map(({ id }) => id);
const ended =
  (wanted) =>
  ({ delivery }) =>
    delivery?.status === wanted;

test("a verification reaches an endpoint, and the public packages verify its signature", async () => {
  const { verify, endpoint, ship, read } = await seller();
  const shop = host(() => new Response("thanks\u0007<b>", { status: 202 }));
  const own = await endpoint(shop);
  const { body, text } = await verify();
  await ship();
  const [message] = await received(play, shop);
  assert.equal(message.id, eventOf(body.id));
  const { "content-type": type, "user-agent": agent, "webhook-timestamp": sent } = message.headers;
  assert.deepEqual([type, agent], ["application/json", "x402-edge"]);
  assert.ok(Math.abs(Number(sent) - Date.now() / SECOND) < 60);
  const verified = /** @type {any} */ (new Webhook(own.secret).verify(message.text, message.headers));
  assert.deepEqual(Object.keys(verified), ["type", "timestamp", "data"]);
  assert.equal(verified.type, "verification.succeeded");
  assert.equal(JSON.stringify(verified.data), text, "the data are the answer");
  new Svix(own.secret).verify(message.text, message.headers);
  assert.throws(() => new Webhook(own.secret).verify(`${message.text} `, message.headers));
  const document = JSON.parse(readFileSync(join(ROOT, "docs", "reference", "openapi.json"), "utf8"));
  const { schema } = document.webhooks["verification.succeeded"].post.requestBody.content["application/json"];
  assert.deepEqual(schema.required, Object.keys(verified));
  const { delivery, attempts } = await until(async () => {
    const found = await read(own, message.id);
    return found.delivery.status === "delivered" && found;
  }, "the end of the delivery");
  assert.deepEqual([delivery.type, delivery.subject, delivery.attempts], ["verification.succeeded", body.id, 1]);
  assert.deepEqual([attempts.length, attempts[0].http_status, attempts[0].failure, attempts[0].answer_head], [1, 202, null, "thanks·<b>"]);
});

test("an endpoint gets what it names, of its environment, from its creation on", async () => {
  const { verify, endpoint, ship, call } = await seller();
  const before = await verify();
  await ship();
  const [all, payments, other] = [host(), host(), host()];
  await endpoint(all);
  await endpoint(payments, { events: ["payment.*"] });
  const { key } = await hearing(worker);
  const strange = await worker.call("POST", "/v1/webhook-endpoints", { key, body: { url: `https://${other}/hook`, environment: "live" } });
  assert.equal(strange.status, 201);
  const { body } = await verify();
  await ship();
  await received(play, all);
  assert.deepEqual(ids(play.of(all)), [eventOf(body.id)]);
  assert.notEqual(before.body.id, body.id);
  assert.deepEqual(ids(play.of(payments)), []);
  assert.ok(play.of(other).every(({ type }) => type === "tenant.updated"));
  assert.equal((await call("GET", `/v1/webhook-endpoints/${strange.body.webhook_endpoint.id}/deliveries`)).status, 404);
});

test("changes of the tenant reach endpoints of live, and a courier that is away holds up neither them nor the list", async () => {
  const { endpoint, browser, call } = await seller();
  const shop = host();
  const own = await endpoint(shop, { events: ["key.*"] });
  await worker.fault({ names: `"endpoint":"${own.id}"`, unsent: true, stays: true });
  try {
    const made = await browser.call("POST", "/v1/api-keys", { name: "k", environment: "test", scopes: ["verify"] });
    assert.equal(made.status, 201);
    const live = await browser.call("POST", "/v1/api-keys", { name: "k", environment: "live", scopes: ["verify"] });
    // The list holds the event although the courier is away.
    const listed = await call("GET", "/v1/events?type=key.created&limit=1");
    assert.deepEqual([listed.status, listed.body.data[0]?.subject], [200, live.body.api_key.id]);
    assert.deepEqual(play.of(shop), []);
    await worker.fault(null);
    await worker.cron("* * * * *");
    const [message] = await received(play, shop);
    assert.deepEqual([message.id, message.data.subject], [listed.body.data[0].id, live.body.api_key.id]);
    await worker.cron("* * * * *");
    assert.equal(
      (
        await worker.sql(
          "SELECT COUNT(*) AS left FROM directory_outbox WHERE heard_ms IS NULL AND tenant_id IN (SELECT tenant_id FROM webhook_endpoints WHERE id = ?)",
          own.id,
        )
      )[0].left,
      0,
    );
    assert.equal(play.of(shop).length, 1);
  } finally {
    await worker.fault(null);
  }
});

test("a change that waits for a courier when its endpoint is disabled is sent once that is active again", async () => {
  const { endpoint, events, browser, call, pass, ship } = await seller();
  let status = 410;
  const shop = host(() => status);
  const own = await endpoint(shop, { events: ["verification.*", "key.*"] });
  const add = async () => (await browser.call("POST", "/v1/api-keys", { name: "k", environment: "live", scopes: ["verify"] })).body.api_key;
  const heard = async (key) =>
    (await worker.sql("SELECT heard_ms FROM directory_outbox WHERE subject = ?", key.id)).some(({ heard_ms }) => heard_ms !== null);
  let waiting;
  await worker.fault({ names: `"endpoint":"${own.id}"`, unsent: true, stays: true });
  try {
    waiting = await add();
    const listed = async () => (await call("GET", "/v1/events?type=key.created&limit=1")).body.data[0]?.subject === waiting.id;
    await until(listed, "the list");
    assert.equal(await heard(waiting), false);
  } finally {
    await worker.fault(null);
  }
  await events(1);
  await until(async () => (await call("GET", own.path)).body.webhook_endpoint.status === "disabled", "the end of the endpoint");
  const not = await add();
  await until(async () => {
    await worker.cron("* * * * *");
    return (await heard(waiting)) && (await heard(not));
  }, "what was heard");
  status = 200;
  assert.equal((await call("PATCH", own.path, { status: "active" })).status, 200);
  const subjects = () => play.of(shop).map(({ data }) => data.subject);
  await until(async () => {
    await pass(MINUTE, own);
    await ship();
    return subjects().includes(waiting.id);
  }, "the change");
  assert.ok(!subjects().includes(not.id));
});

test("a courier that is away holds up no record, and gets everything in its order when it is back", async () => {
  const { endpoint, events, ship, call, pass } = await seller();
  const [shop, other] = [host(), host()];
  const [own, second] = [await endpoint(shop), await endpoint(other)];
  await worker.fault({ names: `"endpoint":"${own.id}"`, unsent: true, stays: true });
  const made = [];
  try {
    made.push(...(await events(3)));
    await received(play, other, 3);
    assert.deepEqual(ids((await call("GET", "/v1/events?type=verification.*")).body.data).reverse(), made);
    made.push(...(await events(2)));
    assert.deepEqual(play.of(shop), []);
  } finally {
    await worker.fault(null);
  }
  made.push(...(await events(1)));
  await pass(MINUTE, own, second);
  await ship();
  await received(play, shop, 6);
  assert.deepEqual(new Set(ids(play.of(shop))), new Set(made));
  await received(play, other, 6);
  assert.equal(play.of(shop).length, 6);
});

test("an endpoint that fails gets each message eight times over some 28 hours, then it is exhausted and sent again", async () => {
  const { endpoint, events, read, passUntil, call } = await seller();
  let status = 500;
  const shop = host(() => new Response("no\n", { status }));
  const own = await endpoint(shop);
  const [event] = await events(1);
  await received(play, shop);
  const begun = await read(own, event);
  assert.deepEqual([begun.delivery.status, begun.delivery.ended_at], ["waiting", null]);
  const { delivery, attempts } = await passUntil(own, event, ended("exhausted"), HOUR / 2, "the end of the schedule");
  assert.equal(delivery.attempts, 8);
  assert.deepEqual(
    attempts.map(({ http_status, answer_head }) => [http_status, answer_head]),
    Array(8).fill([500, "no·"]),
  );
  const times = attempts.map(({ at }) => Date.parse(at));
  assert.ok(
    times.every(
      (at, place) =>
        place === 0 || at - times[place - 1] >= [5 * SECOND, 5 * MINUTE, HOUR / 2, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR][place - 1],
    ),
  );
  assert.ok(times[7] - times[0] > 27 * HOUR && times[7] - times[0] < 36 * HOUR);
  assert.deepEqual(new Set(ids(play.of(shop))), new Set([event]));
  // Of all that failed, and of one.
  status = 200;
  const since = new Date(times[0] - HOUR).toISOString();
  const again = await call("POST", `${own.path}/redeliver`, { since });
  assert.deepEqual([again.status, again.body], [202, { redelivered: 1 }]);
  await passUntil(own, event, ended("delivered"), 5 * MINUTE, "the redelivery");
  assert.deepEqual((await call("POST", `${own.path}/redeliver`, { since })).body, { redelivered: 0 });
  const count = play.of(shop).length;
  assert.equal((await call("POST", `${own.path}/deliveries/${event}/redeliver`)).status, 202);
  await received(play, shop, count + 1);
  assert.equal((await call("POST", `${own.path}/deliveries/evt_01KB0000000000000000000000/redeliver`)).status, 404);
  assert.equal((await call("GET", `${own.path}/deliveries/evt_1`)).status, 404);
});

test("endpoints that lie, drip, break off, redirect or are late lose nothing", async () => {
  const { endpoint, events, read, passUntil } = await seller();
  const target = host();
  let isBad = true;
  const slow = async () => {
    await new Promise((resolve) => setTimeout(resolve, 11_000));
    return 200;
  };
  const drip = () =>
    new Response(
      new ReadableStream({
        async pull(controller) {
          await new Promise((resolve) => setTimeout(resolve, 700));
          controller.enqueue(new TextEncoder().encode("."));
        },
      }),
      { status: 200 },
    );
  const ways = {
    slow,
    drip,
    close: () => Promise.reject(new Error("closed")),
    redirect: () => new Response(null, { status: 307, headers: { location: `https://${target}/hook` } }),
    moved: () => new Response(null, { status: 301, headers: { location: `https://${target}/hook` } }),
    refused: () => 404,
  };
  const shops = await Promise.all(
    Object.entries(ways).map(async ([way, act]) => {
      const shop = host(() => (isBad ? act() : 200));
      return { way, shop, own: await endpoint(shop) };
    }),
  );
  // An error in the body of a 200 is a success, and of a large answer the head is read.
  const liar = host(() => Response.json({ error: "x".repeat(100_000) }));
  const lying = await endpoint(liar);
  const [event] = await events(1);
  const lied = await until(async () => {
    const found = await read(lying, event);
    return found.delivery?.status === "delivered" && found;
  }, "what the liar took");
  assert.equal(lied.attempts[0].answer_head.length, 512);
  const failures = {};
  for (const { way, own } of shops) {
    const { attempts } = await until(
      async () => {
        const found = await read(own, event);
        return found.attempts?.[0]?.duration_ms !== null && found.attempts?.length && found;
      },
      `the first attempt of ${way}`,
      30_000,
    );
    failures[way] = attempts[0].failure ?? attempts[0].http_status;
  }
  assert.deepEqual(failures, { slow: "timed_out", drip: "timed_out", close: 500, redirect: 307, moved: 301, refused: 404 });
  isBad = false;
  for (const { own, way } of shops) await passUntil(own, event, ended("delivered"), MINUTE, `the delivery to ${way}`);
  assert.deepEqual(play.of(target), [], "a redirect is not followed");
});

test("a payment's next event waits until the one before it is delivered", async () => {
  const { endpoint, verify, ship, read, passUntil, pass, call } = await seller();
  let isBad = true;
  const shop = host(() => (isBad ? 503 : 200));
  const own = await endpoint(shop);
  const { body } = await verify(995);
  await ship();
  const first = eventOf(body.id);
  await received(play, shop);
  const { finalized } = mock;
  mock.finalized = 996;
  let second;
  try {
    await until(
      async () => {
        await worker.advance(MINUTE);
        const { data } = (await call("GET", `/v1/events?subject=${body.id}`)).body;
        second = data.find(({ type }) => type === "payment.finalized")?.id;
        return second;
      },
      "finality",
      40_000,
    );
  } finally {
    mock.finalized = finalized;
  }
  await ship();
  await until(async () => (await read(own, second)).delivery, "the second event at the courier");
  await pass(10 * MINUTE, own);
  assert.deepEqual([(await read(own, second)).delivery.attempts, (await read(own, second)).delivery.next_attempt_at], [0, null]);
  assert.deepEqual(new Set(ids(play.of(shop))), new Set([first]));
  isBad = false;
  await passUntil(own, second, ended("delivered"), 5 * MINUTE, "both");
  const all = ids(play.of(shop));
  assert.deepEqual(
    all.filter((id, at) => all.indexOf(id) === at),
    [first, second],
  );
  assert.equal(all.lastIndexOf(first) < all.indexOf(second), true);
});

test("at most six messages are in flight, and an endpoint that is away is probed by one", async () => {
  const { endpoint, events, deliveries, pass } = await seller();
  let isBad = false;
  const shop = host(async () => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    return isBad ? 500 : 200;
  });
  const own = await endpoint(shop);
  const made = await events(20);
  await received(play, shop, 20);
  assert.deepEqual(play.inHand.get(shop), { most: 6, now: play.inHand.get(shop)?.now });
  assert.deepEqual(new Set(ids(play.of(shop))), new Set(made));
  await until(async () => (await deliveries(own, "&status=delivered")).length === 20, "their end");
  isBad = true;
  const more = await events(30);
  await until(async () => (await deliveries(own, "&status=waiting")).length === 30, "all at the courier");
  const count = () => play.of(shop).length - 20;
  await until(() => count() >= 5, "the first failures");
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const opened = count();
  assert.ok(opened >= 5 && opened <= 11, `${opened} before the breaker opens`);
  const hand = /** @type {{ most: number, now: number }} */ (play.inHand.get(shop));
  hand.most = 0;
  // Each time that it may, one message probes; the others spend no attempt.
  for (let probe = 1; probe <= 3; probe++) {
    await until(
      async () => {
        await pass(20 * SECOND, own);
        return count() >= opened + probe;
      },
      `probe ${probe}`,
      30_000,
    );
    assert.equal(count(), opened + probe);
  }
  assert.equal(hand.most, 1);
  const waiting = await deliveries(own, "&status=waiting");
  assert.equal(waiting.length, 30);
  assert.ok(waiting.filter(({ attempts }) => attempts === 0).length >= 30 - opened - 3);
  isBad = false;
  await until(
    async () => {
      await pass(5 * MINUTE, own);
      return (await deliveries(own, "&status=delivered")).length === 50;
    },
    "all of them",
    40_000,
  );
  assert.deepEqual(new Set(ids(play.of(shop))), new Set([...made, ...more]));
});

test("an endpoint that hangs delays no other", async () => {
  const { endpoint, events } = await seller();
  const hanging = host(() => new Promise((resolve) => setTimeout(() => resolve(200), 60_000)));
  const well = Array.from({ length: 9 }, () => host());
  for (const shop of [hanging, ...well]) await endpoint(shop);
  const made = await events(30);
  for (const shop of well) await received(play, shop, 30);
  // Its first six are in flight, and nothing else was sent to it, unless they have taken their ten seconds.
  assert.ok(play.of(hanging).length <= 12);
  for (const shop of well) assert.deepEqual(new Set(ids(play.of(shop))), new Set(made));
});

test("what an endpoint asks for by Retry-After is heeded", async () => {
  const { endpoint, events, read } = await seller();
  const shop = host(() => new Response(null, { status: 429, headers: { "retry-after": "7200" } }));
  const dated = host(() => new Response(null, { status: 503, headers: { "retry-after": new Date(Date.now() + DAY).toUTCString() } }));
  const both = [await endpoint(shop), await endpoint(dated)];
  const [event] = await events(1);
  const waits = await Promise.all(
    both.map((own) =>
      until(async () => {
        const { delivery, attempts } = await read(own, event);
        return attempts?.[0]?.http_status && Date.parse(delivery.next_attempt_at) - Date.parse(attempts[0].at);
      }, "an attempt"),
    ),
  );
  assert.ok(waits[0] >= 2 * HOUR && waits[0] < 2 * HOUR + MINUTE, `${waits[0]}`);
  // At most ten hours; the Worker's clock is ahead of this one.
  assert.ok(waits[1] > 5 * SECOND && waits[1] <= 10 * HOUR + MINUTE, `${waits[1]}`);
});

test("an endpoint that is gone is disabled at once; made active, it gets what has waited", async () => {
  const { email, endpoint, events, call, passUntil, ship } = await seller();
  let status = 410;
  const shop = host(() => status);
  const heard = host();
  const own = await endpoint(shop);
  await endpoint(heard, { events: ["endpoint.disabled"] });
  const [event] = await events(1);
  const disabled = await until(async () => {
    const { webhook_endpoint: found } = (await call("GET", own.path)).body;
    return found.status === "disabled" && found;
  }, "the end of the endpoint");
  assert.equal(disabled.disabled_reason, "gone");
  await worker.cron("* * * * *");
  await ship();
  const [message] = await received(play, heard);
  const { type, data } = message;
  assert.deepEqual([type, data.subject, data.detail, data.actor_kind], ["endpoint.disabled", own.id, "gone", "system"]);
  const isMailed = async () => {
    await worker.cron("* * * * *");
    return (await mailsTo(worker, email)).some(
      ({ subject, text }) => subject === "A webhook endpoint was disabled" && text.includes(own.id),
    );
  };
  await until(isMailed, "the owner's mail");
  const count = play.of(shop).length;
  assert.equal(count, 1);
  // What happens meanwhile is not sent to it.
  await events(1);
  status = 200;
  assert.equal((await call("PATCH", own.path, { status: "active" })).status, 200);
  await passUntil(own, event, ended("delivered"), MINUTE, "what has waited");
  assert.deepEqual(ids(play.of(shop)), [event, event]);
});

test("an endpoint at which nothing succeeds for five days is disabled, also where the directory is away at first", async () => {
  const { endpoint, events, call, pass } = await seller();
  const shop = host(500);
  const own = await endpoint(shop);
  await events(8);
  const status = async () => (await call("GET", own.path)).body.webhook_endpoint;
  await received(play, shop, 5);
  await worker.dbFault({ names: "UPDATE webhook_endpoints SET status = 'disabled'", stays: true });
  const began = Date.now();
  for (let hours = 0; hours < 121; hours += 4) {
    await pass(4 * HOUR, own);
    const count = play.of(shop).length;
    await until(() => play.of(shop).length > count || Date.now() - began > 15_000, "a probe", 2_000).catch(() => {});
    if (hours < 100) assert.equal((await status()).status, "active", `${hours} hours`);
  }
  await worker.dbFault();
  await until(
    async () => {
      await pass(HOUR, own);
      return (await status()).status === "disabled";
    },
    "the end of the endpoint",
    40_000,
  );
  assert.equal((await status()).disabled_reason, "failing");
  assert.equal(
    (await worker.sql("SELECT COUNT(*) AS all_of FROM audit_log WHERE subject = ? AND action = 'endpoint.disabled'", own.id))[0].all_of,
    1,
  );
});

test("a paused endpoint gets nothing until it is resumed; a removed one nothing at all", async () => {
  const { endpoint, events, call, deliveries, passUntil } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  assert.equal((await call("PATCH", own.path, { status: "paused" })).status, 200);
  const made = await events(3);
  await until(async () => (await deliveries(own, "&status=waiting")).length === 3, "what waits");
  assert.deepEqual(play.of(shop), []);
  assert.equal((await call("PATCH", own.path, { status: "active" })).status, 200);
  for (const event of made) await passUntil(own, event, ended("delivered"), SECOND, "the resumed deliveries");
  assert.deepEqual(new Set(ids(play.of(shop))), new Set(made));
  assert.equal((await call("DELETE", own.path)).status, 200);
  await events(1);
  assert.equal((await call("GET", `${own.path}/deliveries`)).status, 404);
  assert.equal(play.of(shop).length, 3);
});

test("a tier without webhooks keeps what waits, and sends it after an upgrade", async () => {
  const { endpoint, events, admin, deliveries, passUntil } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  await admin("PATCH", "", { tier: "free" });
  const [event] = await events(1);
  await until(async () => (await deliveries(own, "&status=waiting")).length === 1, "what waits");
  assert.deepEqual(play.of(shop), []);
  await admin("PATCH", "", { tier: "enterprise" });
  await passUntil(own, event, ended("delivered"), 5 * MINUTE, "what has waited");
});

test("for a day after a rotation both secrets sign", async () => {
  const { endpoint, events, call, pass } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  const rotated = await call("POST", `${own.path}/rotate-secret`);
  assert.equal(rotated.status, 200);
  const signers = ({ text, headers }) =>
    [own.secret, rotated.body.secret].map((secret) => {
      try {
        return Boolean(new Webhook(secret).verify(text, { ...headers, "webhook-timestamp": headers["webhook-timestamp"] }));
      } catch (error) {
        // The Worker's clock is ahead of this one in these tests: only a signature that does not match counts.
        return /too (old|new)/.test(String(error)) ? signed(secret, text, headers) : false;
      }
    });
  const signed = (secret, text, headers) => {
    const at = new Date(Number(headers["webhook-timestamp"]) * SECOND);
    return headers["webhook-signature"].split(" ").includes(new Webhook(secret).sign(headers["webhook-id"], at, text));
  };
  await events(1);
  const [message] = await received(play, shop);
  assert.deepEqual(signers(message), [true, true]);
  await pass(DAY + MINUTE, own);
  await events(1);
  const [, later] = await received(play, shop, 2);
  assert.deepEqual(signers(later), [false, true]);
});

test("a test event is sent to an endpoint that wants no such events, and says what it is", async () => {
  const { endpoint, call, passUntil } = await seller();
  const shop = host();
  const own = await endpoint(shop, { events: ["quota.*"] });
  const sent = await call("POST", `${own.path}/test`, { type: "payment.finalized" });
  assert.equal(sent.status, 202, sent.text);
  const [message] = await received(play, shop);
  const { type, test: isTest, data } = JSON.parse(message.text);
  assert.deepEqual([message.id, type, isTest, data.status], [sent.body.event_id, "payment.finalized", true, "finalized"]);
  const { delivery } = await passUntil(own, message.id, ended("delivered"), SECOND, "the end of the test");
  assert.equal(delivery.attempts, 1);
  const wrong = await call("POST", `${own.path}/test`, { type: "payment" });
  assert.deepEqual([wrong.status, wrong.body.param], [422, "type"]);
});

test("deliveries are forgotten after 30 days, and an event as old is not sent anew", async () => {
  const { endpoint, events, deliveries, pass, read, call } = await seller();
  const shop = host();
  const own = await endpoint(shop);
  const [event] = await events(1);
  await until(async () => (await read(own, event)).delivery?.status === "delivered", "the delivery");
  await pass(29 * DAY, own);
  assert.equal((await deliveries(own)).length, 1);
  await until(async () => {
    await pass(DAY + HOUR, own);
    return (await deliveries(own)).length === 0;
  }, "the end of what is kept");
  assert.equal((await call("POST", `${own.path}/deliveries/${event}/redeliver`)).status, 404);
  assert.equal(play.of(shop).length, 1);
});
