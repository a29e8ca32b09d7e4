// Records and events go from the ledger to the objects of their months, once, whatever is repeated; they are read and
// listed across months; and the totals in the directory are those of the records.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { ask, ledgerRecords, monthOf, rollups, stored, storedTexts, timeOf, totalsOf, ulid } from "./months.mjs";
import { until, withState } from "./worker.mjs";

const DAY = 86_400_000;
const address = () => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex")}`;
let mock;

before(async () => {
  mock = await startMock();
});
after(() => mock?.stop());

/** A record as the ledger ships it. */
const record = (id, revision = 0, more = {}) => ({
  id,
  revision,
  record: { id, chain: "base", status: "confirmed", error_code: null, amount: "1500000", ...more },
});

/** The totals that the records of a tenant make. */
const expected = (worker, tenant) =>
  totalsOf(stored(worker, tenant).flatMap(({ records }) => records.map(({ id, record }) => ({ at: timeOf(id), record }))));

/** Wakes the objects of a tenant's months when the totals are due, and waits until the directory holds them. */
async function copied(worker, tenant) {
  await worker.advance(61_000);
  const wanted = expected(worker, tenant);
  await until(async () => {
    for (const { month, environment } of stored(worker, tenant))
      await ask(worker, { tenant, environment, month }, { page: { before: null, rows: 1, bytes: 1 } });
    const found = await rollups(worker, tenant);
    return JSON.stringify([...found]) === JSON.stringify([...wanted]);
  }, "the totals in the directory");
  assert.ok(wanted.size > 0);
}

test("records are read and listed across months as they were answered", async () => {
  await withState({ RPC_BASE: mock.url }, async ({ worker }) => {
    const to = address();
    const { id: tenant, live: key, test: foreign } = await worker.tenant({ recipients: { base: to } });
    const texts = new Map();
    for (const days of [0, 33, 33]) {
      await worker.advance(days * DAY);
      for (let at = 0; at < 3; at++) {
        const hash = mock.addTransfer({ from: address(), to, amount: 1_000_000 + at, block: 900 });
        const { body, text } = await worker.verify(key, { tx_hash: hash, chain: "base", max_age_seconds: 315_360_000 });
        assert.equal(body.success, true, text);
        texts.set(body.id, text);
      }
      const refused = await worker.verify(key, { tx_hash: `0x${"12".repeat(32)}`, chain: "base" });
      texts.set(refused.body.id, refused.text);
    }
    const newest = [...texts.keys()].reverse();
    for (const limit of [1, 5, 100]) {
      const seen = [];
      let cursor = "";
      do {
        const { status, body, text } = await worker.call("GET", `/v1/verifications?limit=${limit}${cursor}`, { key });
        assert.equal(status, 200, text);
        for (const one of body.data) assert.equal(JSON.stringify(one), texts.get(one.id));
        seen.push(...body.data.map(({ id }) => id));
        cursor = body.next_cursor && `&cursor=${body.next_cursor}`;
      } while (cursor);
      assert.deepEqual(seen, newest, `in pages of ${limit}`);
    }
    assert.deepEqual((await worker.call("GET", "/v1/verifications", { key: foreign })).body, { data: [], next_cursor: null });
    // All of them are shipped to their months, and none to the directory.
    assert.deepEqual(storedTexts(worker, tenant), texts);
    for (const { month, records } of stored(worker, tenant))
      assert.deepEqual([...new Set(records.map(({ id }) => monthOf(timeOf(id))))], [month]);
    assert.ok(stored(worker, tenant).length >= 3);
    assert.deepEqual(await worker.sql("SELECT id FROM verifications"), []);
    await copied(worker, tenant);
    // When the ledger has deleted its own, the months answer.
    await worker.advance(8 * DAY);
    const ledgerHolds = async () => {
      await worker.call("GET", "/v1/usage", { key });
      return ledgerRecords(worker).length;
    };
    await until(async () => (await ledgerHolds()) === 0, "the ledger to delete its records");
    for (const [id, text] of texts) {
      const read = await worker.call("GET", `/v1/verifications/${id}`, { key });
      assert.deepEqual([read.status, read.text], [200, text]);
      assert.ok(read.headers.get("ratelimit"), "the rates");
      assert.equal((await worker.call("GET", `/v1/verifications/${id}`, { key: foreign })).status, 404);
    }
    const unknown = await worker.call("GET", `/v1/verifications/ver_${ulid(Date.now())}`, { key });
    assert.equal(unknown.status, 404);
  });
});

test("what is shipped twice, late or in another order is stored once, as its highest revision", async () => {
  await withState({}, async ({ worker }) => {
    const { id: tenant } = await worker.tenant();
    const now = Date.now();
    const owner = { tenant, month: monthOf(now) };
    const start = Date.parse(`${owner.month}-01`);
    const ids = Array.from({ length: 6 }, (_, at) => `ver_${ulid(start + at * 1_800_000)}`);
    const event = { id: `evt_${ulid(start)}`, kind: "payment.finalized", subject: ids[0], body: { id: ids[0] }, at: start };
    const take = (records, events = []) => ask(worker, owner, { take: { records, events } });
    const batch = ids.map((id, at) => record(id, 0, at === 5 ? { status: "rejected", error_code: "TX_NOT_FOUND", amount: null } : {}));
    for (let at = 0; at < 3; at++) assert.equal(await take(batch, [event]), "taken");
    await take([record(ids[1], 2, { status: "reorged" }), record(ids[2], 1, { status: "finalized" })]);
    await take([record(ids[1], 1, { status: "finalized" }), record(ids[2], 1, { status: "reorged" })]);
    await take(batch, [{ ...event, at: 7 }]);
    const [month] = stored(worker, tenant);
    const found = Object.fromEntries(month.records.map(({ id, revision, record }) => [id, [revision, record.status]]));
    assert.deepEqual(
      ids.map((id) => found[id]),
      [
        [0, "confirmed"],
        [2, "reorged"],
        [1, "finalized"],
        [0, "confirmed"],
        [0, "confirmed"],
        [0, "rejected"],
      ],
    );
    assert.deepEqual(month.events, [event]);
    await copied(worker, tenant);
    await take([record(ids[3], 1, { status: "finalized", amount: "340282366920938463463374607431768211457" })]);
    await copied(worker, tenant);
    // Of another month it takes nothing, and nothing of such a batch.
    const other = record(`ver_${ulid(start - 1)}`);
    assert.deepEqual(await take([record(ids[0], 9), other]), { failed: "INTERNAL" });
    assert.deepEqual((await ask(worker, owner, { read: { id: ids[0] } })).record.revision, 0);
    // An object that holds nothing stores nothing when it is asked.
    const empty = { tenant, month: "2020-01" };
    assert.deepEqual(await ask(worker, empty, { read: { id: other.id } }), { record: null });
    assert.deepEqual(await ask(worker, empty, { page: { before: null, rows: 5, bytes: 500 } }), { page: { records: [], is_cut: false } });
    assert.equal(stored(worker, tenant).length, 1);
  });
});

test("a page ends at its bytes and goes on at its cursor", async () => {
  await withState({}, async ({ worker }) => {
    const { id: tenant, live: key } = await worker.tenant();
    const now = Date.now();
    const ids = Array.from({ length: 14 }, (_, at) => `ver_${ulid(now - at)}`);
    const owner = (id) => ({ tenant, month: monthOf(timeOf(id)) });
    for (const id of ids) await ask(worker, owner(id), { take: { records: [record(id, 0, { pad: "x".repeat(900_000) })], events: [] } });
    const first = (await worker.call("GET", "/v1/verifications?limit=100", { key })).body;
    assert.ok(first.data.length >= 8 && first.data.length < 14, `${first.data.length} records`);
    const rest = (await worker.call("GET", `/v1/verifications?limit=100&cursor=${first.next_cursor}`, { key })).body;
    assert.deepEqual(
      [...first.data, ...rest.data].map(({ id }) => id),
      ids,
    );
    assert.equal(rest.next_cursor, null);
  });
});

for (const isDone of [false, true]) {
  test(`a ledger that is killed ${isDone ? "after" : "before"} it wrote to the directory ships once`, async () => {
    await withState({ RPC_BASE: mock.url }, async (running) => {
      const to = address();
      const { id: tenant, live: key } = await running.worker.tenant({ recipients: { base: to } });
      const ids = [];
      await running.worker.halt({ what: "TenantLedger batch", isDone });
      for (let at = 0; at < 20; at++) {
        const hash = mock.addTransfer({ from: address(), to, amount: 1_000_000, block: 900 });
        ids.push((await running.worker.verify(key, { tx_hash: hash, chain: "base" })).body.id);
      }
      await until(async () => (await running.worker.halted()).isReached, "the ledger's write to the directory");
      const before = stored(running.worker, tenant).flatMap(({ records }) => records.map(({ id }) => id));
      assert.ok(before.length > 0, "the months have taken their part");
      running.worker.crash();
      const worker = await running.again();
      const list = await worker.call("GET", "/v1/verifications?limit=100", { key });
      assert.deepEqual(list.body.data.map(({ id }) => id).sort(), [...ids].sort());
      assert.deepEqual([...storedTexts(worker, tenant).keys()].sort(), [...ids].sort());
      await copied(worker, tenant);
    });
  });
}
