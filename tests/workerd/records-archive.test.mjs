// A month is archived in R2 when its records are 90 days old: all of it, once, whatever step is cut off; it is read from
// there, and a late revision wins.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KEYS, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { archived, archivedFrom, ask, ledgerRecords, monthOf, rollups, stored, timeOf, totalsOf, ulid } from "./months.mjs";
import { LONG, nonceOf, sign } from "./payment.mjs";
import { startWorker, until, withState } from "./worker.mjs";

const DAY = 86_400_000;
/** The month before the current one: its archive is due in the future. */
const MONTH = monthOf(Date.parse(`${monthOf(Date.now())}-01`) - DAY);
const START = Date.parse(`${MONTH}-01`);

const record = (id, revision = 0, more = {}) => ({
  id,
  revision,
  record: { id, chain: "base", status: "confirmed", error_code: null, amount: "1500000", tx_hash: `0x${id}`, ...more },
});

/** Records of some days of the month, `count` a day, and two events each of the first ones; answers what was taken. */
async function fill(worker, tenant, count, { days = [0, 1, 9], withEvents = 3 } = {}) {
  const owner = { tenant, month: MONTH };
  /** @type {{ records: any[], events: any[] }} */
  const all = { records: [], events: [] };
  for (const [nth, day] of days.entries()) {
    const at = START + day * DAY;
    const records = Array.from({ length: count }, (_, n) => record(`ver_${ulid(at + n * 60_000)}`, n % 3));
    const body = { id: records[0].id };
    const some = nth < withEvents ? [1, 2] : [];
    const events = some.map((n) => ({ id: `evt_${ulid(at + n)}`, kind: "payment.finalized", subject: records[0].id, body, at: at + n }));
    assert.equal(await ask(worker, owner, { take: { records, events } }), "taken");
    all.records.push(...records);
    all.events.push(...events);
  }
  return all;
}

/** Puts the clock forward to the month's archive, and wakes its object. */
async function due(worker, tenant) {
  const wake = () => ask(worker, { tenant, month: MONTH }, { page: { before: null, rows: 1, bytes: 1 } });
  // An object's alarm follows the clock when it is asked again.
  await wake();
  await worker.advance(archivedFrom(MONTH) - Date.now() + 1_000);
  await wake();
}

/** Waits until a month's object holds nothing; wakes it now and then, as its reads do. */
const emptied = (worker, tenant) =>
  until(
    async () => {
      await worker.advance(61_000);
      await ask(worker, { tenant, month: MONTH }, { page: { before: null, rows: 1, bytes: 1 } });
      return stored(worker, tenant).length === 0;
    },
    "the archive",
    60_000,
  );

/** What the archive of a tenant holds must be this, in files that are named by their first and last ids. */
async function assertArchived(worker, tenant, { records, events }) {
  const files = await archived(worker, `${tenant}/live/`);
  for (const { key, lines } of files) {
    const [first, last] = [lines[0].id, lines.at(-1).id];
    const date = new Date(timeOf(first)).toISOString().slice(0, 10).replaceAll("-", "/");
    assert.equal(key, `${tenant}/live/${date}/${first}-${last}.ndjson.gz`);
    for (const { id } of lines) assert.equal(Math.floor(timeOf(id) / DAY), Math.floor(timeOf(first) / DAY));
    assert.deepEqual(
      lines.map(({ id }) => id),
      [...new Set(lines.map(({ id }) => id))].sort(),
    );
    assert.ok(lines.length <= 10_000 && JSON.stringify(lines).length <= 8_388_608 * 1.01);
  }
  const lines = files.flatMap((file) => file.lines);
  const sorted = (list) => [...list].sort((one, other) => (one.id < other.id ? -1 : 1));
  assert.deepEqual(sorted(lines.filter(({ id }) => id.startsWith("ver_"))), sorted(records));
  assert.deepEqual(sorted(lines.filter(({ id }) => id.startsWith("evt_"))), sorted(events));
  return files;
}

const shares = (records) => records.map(({ id, record }) => ({ at: timeOf(id), record }));

test("a month is archived, read from the archive, and a late revision wins", async () => {
  await withState({}, async ({ worker }) => {
    const { id: tenant, live: key } = await worker.tenant();
    // As old as its records, since lists go down to the month in which a tenant was made.
    const all = await fill(worker, tenant, 40);
    await due(worker, tenant);
    await emptied(worker, tenant);
    const files = await assertArchived(worker, tenant, all);
    assert.equal(files.length, 6);
    assert.deepEqual(await rollups(worker, tenant), totalsOf(shares(all.records)));
    const read = async (id) => worker.call("GET", `/v1/verifications/${id}`, { key });
    for (const { id, record } of [all.records[0], all.records[39], all.records[40], all.records.at(-1)]) {
      const { status, text } = await read(id);
      assert.deepEqual([status, text], [200, JSON.stringify(record)]);
    }
    assert.equal((await read(`ver_${ulid(START + 30_000)}`)).status, 404);
    // A late reorganisation: its revision goes to the month's object, and the totals follow.
    const [late] = all.records.splice(50, 1);
    const reorged = record(late.id, late.revision + 1, { status: "reorged" });
    const owner = { tenant, month: MONTH };
    for (const copy of [late, reorged, reorged, late])
      assert.equal(await ask(worker, owner, { take: { records: [copy], events: [] } }), "taken");
    all.records.push(reorged);
    assert.equal((await read(late.id)).body.status, "reorged");
    const [month] = stored(worker, tenant);
    assert.deepEqual([month.is_late, month.records.map(({ id }) => id)], [true, [late.id]]);
    await worker.advance(61_000);
    await read(late.id);
    const wanted = JSON.stringify([...totalsOf(shares(all.records))]);
    await until(async () => JSON.stringify([...(await rollups(worker, tenant))]) === wanted, "the totals in the directory");
    // It stays, however old it is.
    await worker.advance(400 * DAY);
    assert.equal((await read(late.id)).body.status, "reorged");
    assert.equal((await archived(worker, `${tenant}/live/`)).length, 6);
  });
});

test("a batch of late records finds each earlier one, whatever its day", async () => {
  await withState({}, async ({ worker }) => {
    const { id: tenant, live: key } = await worker.tenant();
    const all = await fill(worker, tenant, 40);
    await due(worker, tenant);
    await emptied(worker, tenant);
    // Some of each day, by turns; an old revision that changes nothing; and one that no file holds.
    const changed = all.records
      .filter((_, n) => n % 3 === 0)
      .map((copy) => record(copy.id, copy.revision + 1, { status: "reorged", amount: "7" }))
      .sort((one, other) => (one.id.slice(-3) < other.id.slice(-3) ? -1 : 1));
    const old = { ...all.records[2], revision: 0 };
    const fresh = record(`ver_${ulid(START + 2 * DAY)}`, 4);
    const records = [...changed, old, fresh];
    const owner = { tenant, month: MONTH };
    for (const _ of [1, 2]) assert.equal(await ask(worker, owner, { take: { records, events: [] } }), "taken");
    const newest = new Map([...all.records, ...changed, fresh].map((copy) => [copy.id, copy]));
    const wanted = JSON.stringify([...totalsOf(shares([...newest.values()]))]);
    await worker.advance(61_000);
    await worker.call("GET", `/v1/verifications/${fresh.id}`, { key });
    await until(async () => JSON.stringify([...(await rollups(worker, tenant))]) === wanted, "the totals in the directory");
    for (const { id, record } of [changed[0], changed.at(-1), fresh, all.records[2]]) {
      const { status, text } = await worker.call("GET", `/v1/verifications/${id}`, { key });
      assert.deepEqual([status, text], [200, JSON.stringify(record)]);
    }
  });
});

test("a list goes on in the archive", async () => {
  await withState({}, async ({ worker }) => {
    const { id, live: key } = await worker.tenant();
    // The same object and key as if the tenant had been made a year ago: the list looks down to the tenant's own month.
    const month = monthOf(Date.now());
    const owner = { tenant: id, month };
    const start = Math.max(Date.parse(`${month}-01`), Date.now() - DAY);
    const records = Array.from({ length: 30 }, (_, n) => record(`ver_${ulid(start + n)}`, 1)).filter(
      (copy) => monthOf(timeOf(copy.id)) === month,
    );
    assert.equal(await ask(worker, owner, { take: { records, events: [] } }), "taken");
    await worker.advance(archivedFrom(month) - Date.now() + 1_000);
    await until(async () => {
      await worker.advance(61_000);
      await ask(worker, owner, { page: { before: null, rows: 1, bytes: 1 } });
      return stored(worker, id).length === 0;
    }, "the archive");
    const late = record(records[7].id, 2, { status: "reorged" });
    assert.equal(await ask(worker, owner, { take: { records: [late], events: [] } }), "taken");
    records[7] = late;
    for (const limit of [4, 100]) {
      const seen = [];
      let cursor = "";
      do {
        const { status, body, text } = await worker.call("GET", `/v1/verifications?limit=${limit}${cursor}`, { key });
        assert.equal(status, 200, text);
        seen.push(...body.data);
        cursor = body.next_cursor && `&cursor=${body.next_cursor}`;
      } while (cursor);
      assert.deepEqual(seen, records.map(({ record }) => record).reverse());
    }
  });
});

test("a day is cut into R2 objects of 10,000 records, and of 8 MiB", async () => {
  await withState({}, async ({ worker }) => {
    const { id: tenant } = await worker.tenant();
    const owner = { tenant, month: MONTH };
    const records = Array.from({ length: 10_050 }, (_, n) => record(`ver_${ulid(START + n)}`));
    const large = Array.from({ length: 12 }, (_, n) => record(`ver_${ulid(START + DAY + n)}`, 0, { pad: "y".repeat(900_000) }));
    for (let at = 0; at < records.length; at += 1_000)
      assert.equal(await ask(worker, owner, { take: { records: records.slice(at, at + 1_000), events: [] } }), "taken");
    for (const copy of large) assert.equal(await ask(worker, owner, { take: { records: [copy], events: [] } }), "taken");
    await due(worker, tenant);
    await emptied(worker, tenant);
    const files = await assertArchived(worker, tenant, { records: [...records, ...large], events: [] });
    assert.deepEqual(
      files.map(({ lines }) => lines.length),
      [10_000, 50, 9, 3],
    );
  });
});

test("a month that is archived while the ledger ships to it takes nothing, and takes it afterwards", async () => {
  await withState({}, async (running) => {
    const { id: tenant } = await running.worker.tenant();
    const all = await fill(running.worker, tenant, 5);
    await running.worker.halt({ what: "Records put", skip: 1, isDone: true });
    await due(running.worker, tenant);
    await until(async () => (await running.worker.halted()).isReached, "the second R2 object");
    const more = record(`ver_${ulid(START + 5_000)}`);
    const owner = { tenant, month: MONTH };
    assert.equal(await ask(running.worker, owner, { take: { records: [more], events: [] } }), "archiving");
    running.worker.crash();
    const worker = await running.again();
    await due(worker, tenant);
    await emptied(worker, tenant);
    await assertArchived(worker, tenant, all);
    assert.equal(await ask(worker, owner, { take: { records: [more], events: [] } }), "taken");
    assert.deepEqual((await ask(worker, owner, { read: { id: more.id } })).record, more);
  });
});

test("a settlement is found by payer and nonce long after its records are archived", async () => {
  const evm = await startEvm();
  try {
    await withState({ RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1) }, async ({ worker }) => {
      const [buyer, to] = [randomAccount(), randomAccount().address];
      const { id: tenant, test: key } = await worker.tenant({ recipients: { "local-evm": to } });
      await evm.mint(buyer.address, 10_000n);
      const body = await sign({ buyer, to, ...LONG });
      const { body: settled } = await worker.call("POST", "/facilitator/settle", { key, body });
      assert.equal(settled.success, true, JSON.stringify(settled));
      const asked = await worker.verify(key, { tx_hash: settled.transaction, chain: "local-evm" });
      assert.equal(asked.body.error_code, "ALREADY_CLAIMED");
      const month = monthOf(timeOf(asked.body.id));
      const owner = { tenant, environment: "test", month };
      const wake = async () => {
        await worker.call("GET", "/v1/usage", { key });
        return (await ask(worker, owner, { page: { before: null, rows: 1, bytes: 1 } })).page.records;
      };
      await until(async () => (await wake()).length === 1, "the record in its month");
      await worker.advance(archivedFrom(month) - Date.now() + 1_000);
      await until(async () => {
        await worker.advance(61_000);
        return (await wake()).length === 0 && ledgerRecords(worker).length === 0;
      }, "the archive");
      const read = await worker.call("GET", `/v1/verifications/${asked.body.id}`, { key });
      assert.deepEqual([read.status, read.text], [200, asked.text]);
      const query = `network=local-evm&payer=${buyer.address}&nonce=${nonceOf(body)}`;
      const { body: found } = await worker.call("GET", `/v1/settlements?${query}`, { key });
      assert.deepEqual(
        found.data.map(({ transaction }) => transaction),
        [settled.transaction],
      );
    });
  } finally {
    evm.stop();
  }
});

test("an archive that is cut off at any step loses nothing and writes nothing twice", async () => {
  const template = mkdtempSync(join(tmpdir(), "x402-months-"));
  const first = await startWorker({ state: template });
  const { id: tenant, live: key } = await first.tenant();
  const all = await fill(first, tenant, 4, { days: [0, 9], withEvents: 1 });
  await first.stop();
  /** Runs the archive on a copy of the state, cut off where `stop` says; answers the steps that it took. */
  const run = async (stop) => {
    const state = mkdtempSync(join(tmpdir(), "x402-months-"));
    cpSync(template, state, { recursive: true });
    let worker = await startWorker({ state });
    try {
      if (stop) {
        await worker.halt(stop);
        await due(worker, tenant);
        await until(async () => (await worker.halted()).isReached, JSON.stringify(stop));
        // All is read while it is under way: what is not in the archive is in the object.
        worker.crash();
        await worker.stop();
        worker = await startWorker({ state });
      }
      await due(worker, tenant);
      for (const { id, record } of all.records) {
        const { status, text } = await worker.call("GET", `/v1/verifications/${id}`, { key });
        assert.deepEqual([status, text], [200, JSON.stringify(record)], JSON.stringify(stop));
      }
      await emptied(worker, tenant);
      const files = await assertArchived(worker, tenant, all);
      assert.equal(files.length, 3);
      assert.deepEqual(await rollups(worker, tenant), totalsOf(shares(all.records)));
      return (await worker.halted()).steps.filter((step) => step.startsWith("Records "));
    } finally {
      await worker.stop();
      rmSync(state, { recursive: true, force: true });
    }
  };
  try {
    const steps = await run();
    assert.deepEqual(steps, ["Records batch", ...Array(3).fill(["Records put", "Records get"]).flat(), "Records deleteAll"]);
    for (const [nth, what] of steps.entries()) {
      const skip = steps.slice(0, nth).filter((step) => step === what).length;
      for (const isDone of [false, true]) await run({ what, skip, isDone });
    }
  } finally {
    rmSync(template, { recursive: true, force: true });
  }
});
