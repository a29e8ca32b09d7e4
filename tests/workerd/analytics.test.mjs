// What sellers' payments add up to is exactly what their records say: of 100,000 of them, across months, whatever is
// repeated, late or taken back; the same for five minutes; and nobody else reads it.
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { Browser, address, mailTo, signedUp } from "./browser.mjs";
import { startMock } from "./mock-rpc.mjs";
import { ask, monthOf, timeOf, ulid } from "./months.mjs";
import { random } from "./payment.mjs";
import { recount } from "./recount.mjs";
import { startWorker, until, withState } from "./worker.mjs";

const MINUTE = 60_000;
const DAY = 86_400_000;
/** Records of a message. A ledger sends 100; the more, the sooner a test is over. */
const BATCH = 500;
let mock, worker;

before(async () => {
  mock = await startMock();
  worker = await startWorker({ vars: { RPC_BASE: mock.url, MAIL_BACKEND: "mailbox" } });
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

/** Numbers that are the same in each run, from 0 to below 1. */
function numbers(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Reads days; the answer is compared with the OpenAPI document. */
async function read(on, key, days, path = "/v1/analytics") {
  const { status, body, text } = await on.call("GET", `${path}?days=${days}`, { key });
  assert.equal(status, 200, text);
  return body;
}

/** An answer must be what is counted anew at its time. */
function assertCounted({ generated_at, ...found }, given) {
  assert.deepEqual(found, recount({ ...given, now: Date.parse(generated_at) }));
}

/** Records of the days before a time, the oldest first, with payers, refusals and latencies that differ. */
function recordsBefore(now, count, days) {
  const next = numbers(17);
  const pick = (list) => list[Math.floor(next() * list.length)];
  const payers = Array.from({ length: 700 }, (_, at) => `0x${String(at).padStart(40, "0")}`);
  const records = Array.from({ length: count }, (_, at) => {
    const decided = Math.floor(now - next() * days * DAY);
    const id = `ver_${ulid(decided, BigInt(at))}`;
    const isRefused = next() < 0.2;
    return {
      id,
      request_id: `req_${ulid(decided - Math.floor(next() ** 4 * 9_000), BigInt(at))}`,
      chain: pick(["base", "base", "polygon"]),
      status: isRefused ? pick(["rejected", "pending"]) : pick(["confirmed", "finalized"]),
      error_code: isRefused ? pick(["TX_NOT_FOUND", "TX_NOT_FOUND", "AMOUNT_TOO_LOW"]) : null,
      amount: isRefused && next() < 0.5 ? null : String(1 + Math.floor(next() * 5_000_000)),
      from_address: next() < 0.05 ? null : payers[Math.floor(next() ** 3 * payers.length)],
    };
  });
  return records.sort((one, other) => (one.id < other.id ? -1 : 1));
}

/**
 * Puts records into the objects of their months, as a ledger ships them.
 * @param {import("./worker.mjs").Worker} on
 * @param {any} owner
 * @param {any[]} records
 * @param {{ revision?: number, settlements?: any[] }} [more]
 */
async function ship(on, owner, records, { revision = 0, settlements = [] } = {}) {
  const months = Map.groupBy([...records, ...settlements], ({ id }) => monthOf(timeOf(id)));
  for (const [month, rows] of months)
    for (let at = 0; at < rows.length; at += BATCH) {
      const some = rows.slice(at, at + BATCH);
      const take = {
        records: some.filter(({ id }) => id.startsWith("ver_")).map((record) => ({ id: record.id, revision, record })),
        events: [],
        settlements: some.filter(({ id }) => id.startsWith("stl_")),
      };
      assert.equal(await ask(on, { ...owner, month }, { take }), "taken");
    }
}

test("100,000 records add up to what they say, across months, with reorganisations and late shipments", async () => {
  await withState({}, async ({ worker }) => {
    const tenant = await worker.tenant();
    const now = Date.now();
    const records = recordsBefore(now, 100_000, 93);
    const next = numbers(5);
    // A part comes late, after all others, and some of it when the records have changed already.
    const late = records.filter(() => next() < 0.03);
    const isLate = new Set(late);
    await ship(
      worker,
      { tenant: tenant.id },
      records.filter((record) => !isLate.has(record)),
    );
    const reorged = records.filter(({ status }) => status === "confirmed" && next() < 0.02);
    const older = structuredClone(reorged);
    for (const record of reorged) record.status = "reorged";
    await ship(worker, { tenant: tenant.id }, reorged, { revision: 2 });
    // What was shipped before comes again, and is older.
    await ship(worker, { tenant: tenant.id }, older, { revision: 1 });
    const restored = reorged.filter((_, at) => at % 3 === 0);
    for (const record of restored) record.status = "finalized";
    await ship(worker, { tenant: tenant.id }, restored, { revision: 3 });
    await ship(worker, { tenant: tenant.id }, late);
    const statuses = ["pending", "completed", "failed"];
    const settlements = Array.from({ length: 1_500 }, (_, at) => ({
      id: `stl_${ulid(Math.floor(now - next() * 93 * DAY), BigInt(at))}`,
      revision: at % 5,
      network: at % 4 === 0 ? "eip155:137" : "eip155:8453",
      status: statuses[at % 3],
      amount: String(Math.floor(next() * 9_000_000)),
    }));
    const before = settlements.map((one) => ({ ...one, revision: one.revision - 1, status: "pending" }));
    for (const all of [before, settlements, settlements]) await ship(worker, { tenant: tenant.id }, [], { settlements: all });
    const ofTest = recordsBefore(now, 300, 2).map((record) => ({ ...record, chain: "base-sepolia" }));
    await ship(worker, { tenant: tenant.id, environment: "test" }, ofTest);
    const begun = performance.now();
    const whole = await read(worker, tenant.live, 90);
    console.log(`      90 days of 100,000 records in ${Math.round(performance.now() - begun)} ms, ${JSON.stringify(whole).length} bytes`);
    assertCounted(whole, { records, settlements, days: 90 });
    assert.ok(whole.verifications.count > 95_000 && whole.verifications.reorged > 300 && whole.latency.length > 2_000);
    for (const days of [1, 2, 7, 31, 60]) assertCounted(await read(worker, tenant.live, days), { records, settlements, days });
    const { status, body } = await worker.call("GET", "/api/v1/x402/analytics", { key: tenant.live });
    assert.equal(status, 200);
    assertCounted(body, { records, settlements, days: 30 });
    assertCounted(await read(worker, tenant.test, 3), { records: ofTest, environment: "test", days: 3 });
    // A later revision of a month before is counted when the answer is made anew.
    const changed = records.find(({ id, status }) => status === "confirmed" && monthOf(timeOf(id)) !== monthOf(now));
    assert.ok(changed);
    changed.status = "reorged";
    await ship(worker, { tenant: tenant.id }, [changed], { revision: 4 });
    assert.deepEqual(await read(worker, tenant.live, 90), whole);
    await worker.advance(5 * MINUTE);
    const anew = await read(worker, tenant.live, 90);
    assert.notEqual(anew.generated_at, whole.generated_at);
    assertCounted(anew, { records, settlements, days: 90 });
  });
});

test("of a settlement the newest revision counts, in whatever order its revisions come, also across a month's border", async () => {
  const tenant = await worker.tenant();
  const owner = { tenant: tenant.id };
  const next = numbers(31);
  const border = Date.parse(`${monthOf(Date.now() - 20 * DAY)}-01`);
  const orders = [
    [1, 2, 3],
    [1, 3, 2],
    [2, 1, 3],
    [2, 3, 1],
    [3, 1, 2],
    [3, 2, 1],
    [1, 3, 2, 3, 1],
    [3, 3, 1, 2, 2],
  ];
  // A status that comes back, as of one that failed, was tried again and failed again.
  const paths = [
    ["failed", "pending", "failed"],
    ["pending", "completed", "completed"],
    ["completed", "pending", "completed"],
    ["pending", "pending", "failed"],
  ];
  const settlements = orders.flatMap((order) =>
    paths.map((statuses, at) => {
      const one = {
        id: `stl_${ulid(border - 2 + Math.floor(next() * 4), BigInt(at * 100 + orders.indexOf(order)))}`,
        network: "eip155:8453",
        amount: "5",
      };
      return { order, states: statuses.map((status, n) => ({ ...one, revision: n + 1, status })) };
    }),
  );
  for (let turn = 0; turn < 5; turn++) {
    const sent = settlements.flatMap(({ order, states }) => (order[turn] ? [states[order[turn] - 1]] : []));
    await ship(worker, owner, [], { settlements: sent });
  }
  const newest = settlements.map(({ states }) => states[2]);
  assert.ok(new Set(newest.map(({ id }) => monthOf(timeOf(id)))).size === 2);
  assertCounted(await read(worker, tenant.live, 90), { settlements: newest, records: [], days: 90 });
});

/** Makes the months of a state what the build before has left: nothing is counted beside the totals. */
function forgetDays(state) {
  const folder = join(state, "do", "-Records");
  assert.ok(existsSync(folder));
  for (const name of readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name))) {
    const db = new DatabaseSync(join(folder, name), { timeout: 5_000 });
    if (db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'days'").get())
      db.exec("DROP TABLE days; DROP TABLE settlements; UPDATE state SET value = '1' WHERE name = 'schema'");
    db.close();
  }
}

test("months of the build before are counted when they are first asked for, whatever changes meanwhile", async () => {
  await withState({}, async (running) => {
    const tenant = await running.worker.tenant();
    const owner = { tenant: tenant.id };
    const records = recordsBefore(Date.now(), 9_000, 40);
    const [before, after] = [records.slice(0, 8_500), records.slice(8_500)];
    await ship(running.worker, owner, before);
    await running.worker.stop();
    forgetDays(running.state);
    running.worker = await startWorker({ state: running.state });
    const { worker } = running;
    const change = async (some, revision) => {
      for (const record of some) record.status = record.error_code ? record.status : "reorged";
      await ship(worker, owner, some, { revision });
    };
    // Before anything is counted, and when a part is.
    await change(before.slice(0, 100), 1);
    await ship(worker, owner, after.slice(0, 250));
    const month = monthOf(Date.now() - 20 * DAY);
    assert.equal(await ask(worker, { ...owner, month }, { days: { from: 0, to: DAY } }), "counting");
    await change(before.slice(50, 300), 2);
    await ship(worker, owner, after.slice(250));
    assertCounted(await read(worker, tenant.live, 60), { records, days: 60 });
  });
});

test("what was answered a second ago is counted, and the same answer is given for five minutes", async () => {
  const to = random(20);
  const tenant = await worker.tenant({ recipients: { base: to } });
  const pay = async (from, block = 900) => {
    const tx_hash = mock.addTransfer({ from, to, amount: 1_500_000, block });
    const { body, text } = await worker.verify(tenant.live, { tx_hash, chain: "base", max_age_seconds: 315_360_000 });
    assert.equal(body.success, true, text);
    return { body, tx_hash };
  };
  const payer = random(20);
  const first = await pay(payer);
  const refused = await worker.verify(tenant.live, { tx_hash: random(32), chain: "base" });
  const found = await read(worker, tenant.live, 30);
  assertCounted(found, { records: [first.body, refused.body], days: 30 });
  assert.equal(found.top_payers[0].amount, "1500000");
  const second = await pay(payer, 995);
  assert.deepEqual(await read(worker, tenant.live, 30), found);
  // Other days are another answer.
  assertCounted(await read(worker, tenant.live, 29), { records: [first.body, refused.body, second.body], days: 29 });
  // Its block leaves the chain, in which another has its height.
  const { hashOf } = mock;
  mock.receipts.delete(second.tx_hash);
  mock.hashOf = (height) => (Number(height) === 995 ? `0x${"ef".repeat(32)}` : hashOf.call(mock, height));
  const stands = async () => {
    await worker.advance(MINUTE);
    return (await worker.call("GET", `/v1/verifications/${second.body.id}`, { key: tenant.live })).body;
  };
  const reorged = await until(async () => {
    const record = await stands();
    return record.status === "reorged" && record;
  }, "the reorganisation");
  mock.hashOf = hashOf;
  await worker.advance(5 * MINUTE);
  const anew = await read(worker, tenant.live, 30);
  assertCounted(anew, { records: [first.body, refused.body, reorged], days: 30 });
  assert.deepEqual([anew.verifications.reorged, anew.top_payers[0].count], [1, 1]);
  assert.ok(Date.parse(anew.generated_at) >= Date.parse(found.generated_at) + 5 * MINUTE);
});

test("a key needs the scope `analytics`; a session reads either environment of its own tenant", async () => {
  const owner = await signedUp(worker);
  const key = async (environment, scopes) => {
    const made = await owner.browser.call("POST", "/v1/api-keys", { name: "k", environment, scopes });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    return made.body.key;
  };
  const tenant = owner.session.tenant.id;
  const records = recordsBefore(Date.now(), 20, 1);
  await ship(worker, { tenant, environment: "test" }, records);
  const refused = await worker.call("GET", "/v1/analytics", { key: await key("test", ["manage", "verify", "settle"]) });
  assert.deepEqual([refused.status, refused.body.error_code], [403, "INSUFFICIENT_SCOPE"]);
  assert.equal((await worker.call("GET", "/v1/analytics")).status, 401);
  const given = { records, environment: "test", days: 3 };
  const reads = await key("test", ["analytics"]);
  assertCounted(await read(worker, reads, 3), given);
  const email = address();
  await owner.browser.call("POST", "/v1/members/invitations", { email, role: "viewer" });
  const viewer = new Browser(worker);
  await viewer.call("POST", "/v1/members/join", { token: (await mailTo(worker, email)).token });
  const get = async (browser, query) => (await browser.call("GET", `/v1/analytics?days=3${query}`)).body;
  assertCounted(await get(viewer, "&environment=test"), given);
  assertCounted(await get(viewer, ""), { records: [], days: 3 });
  // The same days of another tenant are its own.
  const stranger = await signedUp(worker);
  assertCounted(await get(stranger.browser, "&environment=test"), { ...given, records: [] });
  for (const query of ["days=0", "days=91", "days=-1", "days=1.5", "days=", "days=all", "environment=live", "environment=all", "day=3"]) {
    const { status, body } = await worker.call("GET", `/v1/analytics?${query}`, { key: reads });
    assert.deepEqual([status, body.error_code, body.param], [422, "INVALID_REQUEST", query.split("=")[0]], query);
  }
});
