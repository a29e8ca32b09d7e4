// Events as they come: each within a second or two, as the list has it; none is lost however a connection ends; and only as
// long as the caller may read.
import assert from "node:assert/strict";
import { request as http } from "node:http";
import { after, before, test } from "node:test";
import { signedUp } from "./browser.mjs";
import { checkDocumented } from "./documented.mjs";
import { startMock } from "./mock-rpc.mjs";
import { gzipSync } from "node:zlib";
import { archivedFrom, ask, breakMonth, monthOf, ulid } from "./months.mjs";
import { random } from "./payment.mjs";
import { startWorker, until, withState } from "./worker.mjs";

const MINUTE = 60_000;
const vars = (mock) => ({ RPC_BASE: mock.url, RPC_BASE_SEPOLIA: mock.url, MAIL_BACKEND: "mailbox" });
let mock, worker;
/** @type {Stream[]} */
const streams = [];

before(async () => {
  mock = await startMock();
  worker = await startWorker({ vars: vars(mock) });
});
after(async () => {
  for (const stream of streams) stream.close();
  await worker?.stop();
  mock?.stop();
});

const bearer = (key) => ({ authorization: `Bearer ${key}` });

/** A connection, and what has come over it. Messages are read as the HTML Living Standard says (9.2.6). */
class Stream {
  /** @type {import("node:http").ClientRequest | undefined} */
  asked;
  status = 0;
  /** @type {import("node:http").IncomingHttpHeaders} */
  headers = {};
  /** The answer where it is no stream. */
  body;
  /** @type {{ id: string, type: string, data: any, at: number }[]} */
  events = [];
  comments = 0;
  lastId = "";
  retry = 0;
  /** @type {boolean | undefined} how it has ended: whether the body came to its end */
  whole;
  /** Whether it reads only what `some` asks for. */
  slow = false;
  /** Bytes that may be read. */
  room = 0;
  bytes = 0;

  /** @returns {Promise<Stream>} once the first message has come */
  static async open(query, headers, { on = worker, last = "", slow = false } = {}) {
    const { hostname, port } = new URL(on.url);
    const stream = new Stream();
    streams.push(stream);
    stream.slow = slow;
    const path = `/v1/events/stream?${query}`;
    const sent = { ...headers, ...(last ? { "last-event-id": last } : {}) };
    await new Promise((resolve, reject) => {
      const asked = http({ hostname, port, path, agent: false, headers: sent }, (response) => {
        [stream.status, stream.headers] = [Number(response.statusCode), response.headers];
        stream.read(response).then(resolve, reject);
        if (stream.status === 200) resolve(undefined);
      });
      stream.asked = asked;
      asked.once("error", reject);
      asked.end();
    });
    checkDocumented("GET", path, stream.status, stream.body);
    if (stream.status === 200 && !slow) await until(() => stream.retry > 0, "the first message");
    return stream;
  }

  async read(response) {
    let text = "";
    try {
      response.setEncoding("utf8");
      for await (const chunk of response) {
        text += chunk;
        this.bytes += chunk.length;
        if (this.status === 200) text = this.take(text);
        while (this.slow && this.bytes > this.room) await new Promise((resolve) => setTimeout(resolve, 20));
      }
    } catch {
      // Cut.
    }
    if (this.status !== 200) this.body = JSON.parse(text);
    this.whole = response.complete;
  }

  /** Takes whole messages of a text; what is left. */
  take(text) {
    const messages = text.split("\n\n");
    const rest = messages.pop();
    for (const message of messages) {
      const fields = { id: undefined, event: "message", data: "" };
      for (const line of message.split("\n")) {
        const [, name, value] = line.match(/^([^:]*): ?(.*)$/) ?? [];
        if (name === "") this.comments++;
        else if (name === "retry") this.retry = Number(value);
        else fields[name] = value;
      }
      this.lastId = fields.id ?? this.lastId;
      if (fields.data) this.events.push({ id: this.lastId, type: fields.event, data: JSON.parse(fields.data), at: Date.now() });
    }
    return rest;
  }

  /** Reads so many bytes more, and no others; less where the stream ends before. */
  some(bytes) {
    this.room = this.bytes + bytes;
    return until(() => this.bytes > this.room || this.whole !== undefined, `${bytes} bytes`, 60_000);
  }

  ids() {
    return this.events.map(({ id }) => id);
  }

  has(count) {
    return until(() => this.events.length >= count, `${count} events`);
  }

  ended(patience) {
    return until(() => this.whole !== undefined, "the end of the stream", patience);
  }

  close() {
    this.asked?.destroy();
  }
}

/** A seller on Base, and what is asked of it. */
async function seller(on = worker) {
  const to = random(20);
  const tenant = await on.tenant({ recipients: { base: to }, limits: { per_minute: 10_000, per_hour: 100_000 } });
  const verify = async () => {
    const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block: 900 });
    const { body } = await on.verify(tenant.live, { tx_hash, chain: "base", max_age_seconds: 315_360_000 });
    return body.id.replace("ver_", "evt_");
  };
  const refuse = async () => (await on.verify(tenant.live, { tx_hash: random(32), chain: "base" })).body.id.replace("ver_", "evt_");
  const open = (query = "type=verification.*", more = {}) => Stream.open(query, bearer(tenant.live), { on, ...more });
  return { ...tenant, verify, refuse, open };
}

test("an event comes within two seconds, as the list has it, to whom it concerns", async () => {
  const { live, test: other, verify, refuse, open } = await seller();
  const before = await verify();
  const all = await open();
  assert.match(String(all.headers["content-type"]), /^text\/event-stream/);
  assert.equal(all.retry, 2_000);
  assert.match(all.lastId, /^evt_[0-9A-Z]{26}$/);
  const [failed, quiet] = [await open("type=verification.failed"), await Stream.open("", bearer(other))];
  const began = Date.now();
  const good = await verify();
  await all.has(1);
  assert.ok(Date.now() - began < 2_000, `${Date.now() - began} ms`);
  const bad = await refuse();
  await Promise.all([all.has(2), failed.has(1)]);
  assert.deepEqual(
    all.events.map(({ id, type }) => [id, type]),
    [
      [good, "verification.succeeded"],
      [bad, "verification.failed"],
    ],
  );
  assert.deepEqual(failed.ids(), [bad]);
  const about = await open(`subject=${bad.replace("evt_", "ver_")}`, { last: before });
  await about.has(1);
  assert.deepEqual(about.ids(), [bad]);
  for (const { id, type, data } of all.events) {
    const { body } = await worker.call("GET", `/v1/events/${id}`, { key: live });
    assert.deepEqual([data, data.type, data.id], [body, type, id]);
  }
  assert.deepEqual(quiet.events, []);
  for (const stream of [all, failed, quiet, about]) stream.close();
});

test("a change of the tenant comes too", async () => {
  const owner = await signedUp(worker);
  const cookie = { cookie: [...owner.browser.cookies].map((pair) => pair.join("=")).join("; ") };
  const stream = await Stream.open("type=key.*", cookie);
  const began = Date.now();
  const made = await owner.browser.call("POST", "/v1/api-keys", { name: "shop", environment: "live", scopes: ["verify"] });
  await stream.has(1);
  assert.ok(Date.now() - began < 3_000, `${Date.now() - began} ms`);
  assert.equal(stream.events[0].data.subject, made.body.api_key.id);
  stream.close();
});

test("a stream goes on after the last event, and none is missing", async () => {
  const { verify, open } = await seller();
  const first = await open();
  const wanted = [await verify(), await verify()];
  await first.has(2);
  const last = first.lastId;
  first.close();
  for (let n = 0; n < 5; n++) wanted.push(await verify());
  const second = await open(undefined, { last });
  await until(() => wanted.every((id) => second.ids().includes(id) || first.ids().includes(id)), "all events");
  wanted.push(await verify());
  await until(() => second.ids().includes(String(wanted.at(-1))), "an event that comes");
  const ids = second.ids();
  assert.deepEqual(ids, [...new Set(ids)].sort());
  // After a quiet connection nothing is missing either.
  second.close();
  const third = await open();
  third.close();
  const late = await verify();
  const fourth = await open(undefined, { last: third.lastId });
  await until(() => fourth.ids().includes(late), "the event of between");
  fourth.close();
  const wrong = await open("", { last: "ver_1" });
  assert.deepEqual([wrong.status, wrong.body.error_code, wrong.body.param], [422, "INVALID_REQUEST", "Last-Event-ID"]);
});

test("an id of the future does not silence a stream", async () => {
  const { verify, open } = await seller();
  const stream = await open(undefined, { last: `evt_${ulid(Date.now() + 24 * 3_600_000)}` });
  const wanted = await verify();
  await until(() => stream.ids().includes(wanted), "what happens next");
});

test("what a month takes late is not lost", async () => {
  const { verify, open } = await seller();
  const stream = await open();
  const wanted = [await verify()];
  await stream.has(1);
  const mend = breakMonth(worker, monthOf(Date.now()));
  for (let n = 0; n < 3; n++) wanted.push(await verify());
  const away = await open("", { last: stream.lastId });
  assert.deepEqual([away.status, away.body.error_code], [503, "LEDGER_UNAVAILABLE"]);
  mend();
  await stream.has(4);
  assert.deepEqual(stream.ids(), wanted);
  stream.close();
});

test("ten streams are open at a time, and another when one has ended", async () => {
  const { open } = await seller();
  const all = [];
  for (let n = 0; n < 10; n++) all.push(await open());
  assert.ok(all.every(({ status }) => status === 200));
  const refused = await open();
  assert.deepEqual([refused.status, refused.body.error_code, refused.headers["retry-after"]], [429, "RATE_LIMITED", "30"]);
  all[3].close();
  const again = await until(async () => {
    const tried = await open();
    return tried.status === 200 && tried;
  }, "room for a stream");
  for (const stream of [...all, again]) stream.close();
});

test("an open stream asks nothing while nothing happens; what happens costs a few calls", async () => {
  const { verify, open } = await seller();
  const stream = await open();
  const lists = async () => (await worker.asks()).list ?? 0;
  // The ledger's alarm, which notes that the key was used, comes first.
  await until(() => stream.comments >= 1, "a comment", 30_000);
  const before = await lists();
  await until(() => stream.comments >= 2, "another comment", 30_000);
  assert.equal(await lists(), before);
  await verify();
  await stream.has(1);
  const asked = (await lists()) - before;
  assert.ok(asked >= 1 && asked <= 2, `${asked} calls`);
  stream.close();
});

test("a stream ends with its key, with its session, and after half an hour; a comment keeps it open", async () => {
  const { id, live, verify, open } = await seller();
  const keys = await worker.call("GET", `/v1/admin/tenants/${id}/api-keys`, { admin: true });
  const owner = await signedUp(worker);
  const cookie = { cookie: [...owner.browser.cookies].map((pair) => pair.join("=")).join("; ") };
  const [stream, ofSession] = [await open(), await Stream.open("", cookie)];
  await until(() => stream.comments > 0 && ofSession.comments > 0, "a comment", 30_000);
  assert.equal(stream.whole, undefined);
  // After its time it ends as a whole, and nothing that comes then is lost.
  await worker.advance(31 * MINUTE);
  await stream.ended(30_000);
  assert.equal(stream.whole, true);
  const between = await verify();
  const next = await open(undefined, { last: stream.lastId });
  await until(() => next.ids().includes(between), "the event of between");
  const { id: key } = keys.body.data.find(({ environment }) => environment === "live");
  assert.equal((await worker.call("DELETE", `/v1/admin/tenants/${id}/api-keys/${key}`, { admin: true })).status, 200);
  await next.ended(5_000);
  assert.equal((await worker.call("GET", "/v1/events", { key: live })).status, 401);
  assert.equal((await open()).status, 401);
  const held = await Stream.open("", cookie);
  assert.equal((await owner.browser.call("DELETE", "/v1/session")).status, 200);
  await worker.advance(MINUTE);
  await held.ended(30_000);
});

/** Puts events, each of so many bytes, into the objects of their months; their ids. */
async function record(on, tenant, times, { bytes = 200, kind = "payment.finalized" } = {}) {
  const events = times.map((at, n) => {
    const id = `evt_${ulid(at, BigInt(n * 7_919 + 1))}`;
    return { id, kind, subject: `ver_${ulid(at)}`, body: { id: `ver_${ulid(at)}`, text: "x".repeat(bytes) }, at };
  });
  for (const [month, all] of Map.groupBy(events, ({ at }) => monthOf(at)))
    for (let n = 0; n < all.length; n += 200)
      assert.equal(await ask(on, { tenant, month }, { take: { records: [], events: all.slice(n, n + 200) } }), "taken");
  return events.map(({ id }) => id);
}

/** When a tenant was made, by the clock of the Worker. */
const madeAt = (tenant) => Number.parseInt(tenant.slice(4, 16), 16);

/** A tenant with events of so many MiB that it has not heard, and how a stream of them begins. */
async function past(on, mib) {
  const own = await seller(on);
  const at = madeAt(own.id) + 1_000;
  const ids = await record(
    on,
    own.id,
    Array.from({ length: mib * 512 }, (_, n) => at + n),
    { bytes: 2_048 },
  );
  await on.advance(10 * MINUTE);
  return { ...own, ids, begin: { last: `evt_${ulid(at - 1)}` } };
}

/** Whether the Worker has logged something. */
const logged = (on, text) => until(() => on.log.lines.some((line) => line.includes(text)), `"${text}" in the log`, 40_000);

test("a millisecond with more events than are read at once ends no stream", async () => {
  const { id, open } = await seller();
  const now = madeAt(id) + 1_000;
  // 2,500 of one millisecond, and 3 MiB of another.
  const times = [...Array(2_500).fill(now), ...Array(600).fill(now + 1), now + 2];
  const ids = [
    ...(await record(worker, id, times.slice(0, 2_500))),
    ...(await record(worker, id, times.slice(2_500), { bytes: 5_000 })),
  ].sort();
  const stream = await open("type=payment.*", { last: `evt_${ulid(now - 1)}` });
  await stream.has(ids.length);
  assert.deepEqual(stream.ids(), ids);
  stream.close();
});

test("a stream of what is rare comes on over what it leaves out, and says how far", async () => {
  const { id, open } = await seller();
  const from = madeAt(id) + 1_000;
  const ids = await record(
    worker,
    id,
    Array.from({ length: 9_000 }, (_, n) => from + n * 100),
  );
  await worker.advance(30 * MINUTE);
  const stream = await open("type=settlement.*", { last: `evt_${ulid(from)}` });
  await until(() => stream.lastId > String(ids.at(-1)), "a place after all of them", 60_000);
  assert.deepEqual(stream.events, []);
  stream.close();
});

test("a HEAD request takes no place", async () => {
  const { live, open } = await seller();
  for (let n = 0; n < 12; n++) {
    const { status, headers, text } = await worker.call("HEAD", "/v1/events/stream", { key: live });
    assert.deepEqual([status, headers.get("content-type"), text], [200, "text/event-stream", ""]);
  }
  const all = [];
  for (let n = 0; n < 10; n++) all.push(await open());
  assert.deepEqual([...new Set(all.map(({ status }) => status))], [200]);
  for (const stream of all) stream.close();
});

test("a client that takes nothing loses its place", async () => {
  await withState(vars(mock), async ({ worker }) => {
    const { open, begin } = await past(worker, 24);
    const all = [await open("type=payment.*", { ...begin, slow: true })];
    for (let n = 1; n < 10; n++) all.push(await open());
    assert.equal((await open()).status, 429);
    // The others are read: they have had their comments meanwhile.
    const isEnded = () => worker.log.lines.some((line) => line.includes("a client takes nothing"));
    // What the connection holds on its way may be filled only after the clock has gone on: then the minute begins anew.
    const minute = async () => {
      await worker.advance(61_000);
      return until(isEnded, "its end within a look", 20_000).catch(() => false);
    };
    await until(minute, "the end of a client that takes nothing", 120_000);
    const again = await until(
      async () => {
        const tried = await open();
        return tried.status === 200 && tried;
      },
      "room for a stream",
      60_000,
    );
    all[0].slow = false;
    await all[0].ended(60_000);
    assert.equal(all[0].whole, false);
    assert.equal(all[1].whole, undefined);
    for (const stream of [...all, again]) stream.close();
  });
});

test("a key that was revoked hears nothing more, however slowly it reads; one that holds reads slowly as long as it will", async () => {
  await withState(vars(mock), async ({ worker }) => {
    const { id, ids, open, begin } = await past(worker, 56);
    const stream = await open("type=payment.*", { ...begin, slow: true });
    const slowly = async () => {
      for (let n = 0; n < 4; n++) {
        await worker.advance(22_000);
        await stream.some(2_000_000);
      }
    };
    await slowly();
    assert.equal(stream.whole, undefined);
    const keys = await worker.call("GET", `/v1/admin/tenants/${id}/api-keys`, { admin: true });
    const { id: key } = keys.body.data.find(({ environment }) => environment === "live");
    assert.equal((await worker.call("DELETE", `/v1/admin/tenants/${id}/api-keys/${key}`, { admin: true })).status, 200);
    await slowly();
    await logged(worker, "the key does not hold any more");
    stream.slow = false;
    await stream.ended(60_000);
    assert.equal(stream.whole, false);
    assert.ok(stream.events.length < ids.length, `${stream.events.length} of ${ids.length} events`);
  });
});

test("ten streams that read the archive take the memory of few files", async () => {
  await withState(vars(mock), async ({ worker }) => {
    const { id, live, open } = await seller(worker);
    const [start, day] = [madeAt(id) + MINUTE, 86_400_000];
    const month = monthOf(start);
    const ends = Date.parse(new Date(start).toISOString().slice(0, 10)) + day;
    const bucket = await worker.mf.getR2Bucket("ARCHIVE");
    /** @type {string[]} */
    const wanted = [];
    // Files of 8 MiB of a kind each, as a month that is archived leaves them.
    const files = 3;
    for (let file = 0; file < files; file++) {
      for (const kind of ["evt", "ver"]) {
        const rows = Array.from({ length: 8_000 }, (_, n) => {
          const at = start + (file * 8_000 + n) * Math.floor((ends - start) / (files * 8_000 + 1));
          const own = `${kind}_${ulid(at)}`;
          const text = "x".repeat(800);
          if (kind === "ver")
            return [
              own,
              { id: own, revision: 0, record: { id: own, chain: "base", status: "confirmed", error_code: null, amount: "1", text } },
            ];
          const type = n % 1_000 === 0 ? "settlement.succeeded" : "payment.finalized";
          if (n % 1_000 === 0) wanted.push(own);
          return [own, { id: own, kind: type, subject: own, body: { id: own, text }, at }];
        }).sort(([one], [other]) => (one < other ? -1 : 1));
        const [first, last] = [String(rows[0][0]), String(rows.at(-1)?.[0])];
        const date = new Date(start).toISOString().slice(0, 10).replaceAll("-", "/");
        const key = `${id}/live/${date}/${first}-${last}.ndjson.gz`;
        await bucket.put(key, gzipSync(rows.map(([, row]) => `${JSON.stringify(row)}\n`).join("")));
      }
    }
    await worker.advance(archivedFrom(month) + 5 * day - start);
    assert.equal((await worker.call("GET", "/v1/events?limit=1", { key: live })).status, 200);
    const before = await worker.memory();
    const all = [];
    // Each reads all there is, and those that begin later read other files at that time.
    for (let n = 0; n < 10; n++) {
      all.push(await open("type=settlement.*,verification.failed", { last: `evt_${ulid(start - MINUTE)}` }));
    }
    await Promise.all(all.map((stream) => until(() => stream.events.length >= wanted.length, "all events", 180_000)));
    for (const stream of all) assert.deepEqual(stream.ids(), [...wanted].sort());
    const held = ((await worker.memory()) - before) / 2 ** 20;
    console.log(`      ten streams of the archive: ${Math.round(held)} MiB of WebAssembly more`);
    assert.ok(held < 64, `${held} MiB`);
    for (const stream of all) stream.close();
  });
});

test("a Worker that is killed loses nothing of a stream", async () => {
  await withState(vars(mock), async (running) => {
    const { verify, open, live } = await seller(running.worker);
    const stream = await open();
    const wanted = [await verify(), await verify()];
    await stream.has(2);
    wanted.push(await verify());
    running.worker.crash();
    await stream.ended();
    assert.equal(stream.whole, false);
    const second = await running.again();
    const again = await Stream.open("type=verification.*", bearer(live), { on: second, last: stream.lastId });
    await until(() => wanted.every((id) => stream.ids().includes(id) || again.ids().includes(id)), "all events");
    again.close();
  });
});
