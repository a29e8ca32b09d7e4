// What a verification costs: the rows that objects write for it, from its answer until nothing of it is left in the ledger.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { storedTexts } from "./months.mjs";
import { random } from "./payment.mjs";
import { startWorker, until } from "./worker.mjs";

/** Payments, all at once, so that what a batch shares is counted for each as a busy tenant's. */
const PAYMENTS = 100;
const MINUTE = 60_000;

let mock, worker;

before(async () => {
  mock = await startMock();
  worker = await startWorker({ vars: { RPC_BASE: mock.url } });
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

/** How many rows of the tables of ledgers there are. */
function left(...tables) {
  const folder = join(worker.state, "do", "-TenantLedger");
  const files = readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name));
  return files.reduce((sum, name) => {
    const db = new DatabaseSync(join(folder, name), { readOnly: true, timeout: 5_000 });
    const count = (table) => db.prepare(`SELECT COUNT(*) AS count FROM ${table}`).get()?.count;
    /** @type {any[]} */
    const own = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'records'").get() ? tables.map(count) : [];
    db.close();
    return sum + own.reduce((all, one) => all + Number(one), 0);
  }, 0);
}

/** Answers a seller, and payments of a block, each of another payer. */
async function seller(block) {
  const to = random(20);
  const tenant = await worker.tenant({ recipients: { base: to }, limits: { per_minute: 10_000, per_hour: 100_000 } });
  const verify = async (at) => {
    const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block });
    const key = { "idempotency-key": `payment ${at}` };
    const { body, text } = await worker.verify(
      tenant.live,
      { tx_hash, chain: "base", reference: `order ${at}`, max_age_seconds: 315_360_000 },
      key,
    );
    assert.equal(body.success, true, text);
    return body;
  };
  /** Puts the clock forward, and wakes the ledger. */
  const pass = async (ms) => {
    await worker.advance(ms);
    await worker.call("GET", "/v1/usage", { key: tenant.live });
  };
  const shipped = (status) => [...storedTexts(worker, tenant.id).values()].filter((text) => JSON.parse(text).status === status);
  return { ...tenant, verify, pass, shipped };
}

/** Tables of the Meters: they are written by time, every ten seconds and by each alarm of a ledger, and not by payments. */
const OF_METERS = ["sources", "spans", "depths"];

/**
 * Rows a payment, by table.
 * @returns {any}
 */
const each = ({ rows, tables }) => {
  const own = Object.entries(tables).filter(([table]) => !OF_METERS.includes(table));
  const metered = OF_METERS.reduce((sum, table) => sum + (tables[table] ?? 0), 0);
  // Of some dozen alarms and seconds, a few rows each.
  assert.ok(metered <= PAYMENTS, `${metered} rows of Meters`);
  return {
    rows: (rows - metered) / PAYMENTS,
    ...Object.fromEntries(own.map(([table, rows]) => [table, rows / PAYMENTS])),
  };
};

/** Waits until the provider is asked nothing any more: then every payment that was due is polled. */
async function polled() {
  let asked;
  await until(async () => {
    const before = asked;
    asked = mock.requests;
    await new Promise((resolve) => setTimeout(resolve, 400));
    return before === mock.requests;
  }, "the provider to be left alone");
}

/** Waits until the ledger has deleted what it need not keep: it does so once a day when it is idle. */
async function forgotten({ pass }) {
  await until(async () => {
    if (left("records", "idempotency") === 0) return true;
    await pass(25 * 60 * MINUTE);
    return false;
  }, "the end of the records");
}

test("what a payment that is final when answered writes, with an Idempotency-Key", async () => {
  const own = await seller(900);
  await worker.written();
  await Promise.all(Array.from({ length: PAYMENTS }, (_, at) => own.verify(at)));
  await until(() => own.shipped("finalized").length === PAYMENTS, "the shipment");
  await forgotten(own);
  const { rows, state = 0, totals, days, ...tables } = each(await worker.written());
  console.log(`      ${rows} rows a payment`);
  // The record: in the ledger, in its month, and deleted from the ledger. The rest is of batches: `days` is a row a batch,
  // with the latencies and the payers of a day.
  assert.deepEqual(tables, { claims: 1, payers: 1, records: 3, idempotency: 2 });
  assert.ok(state <= 0.2 && totals <= 0.1 && days <= 0.1, JSON.stringify({ state, totals, days }));
});

test("what a payment writes that is polled for a quarter of an hour, with an Idempotency-Key", async () => {
  const own = await seller(995);
  await worker.written();
  await Promise.all(Array.from({ length: PAYMENTS }, (_, at) => own.verify(at)));
  await until(() => own.shipped("confirmed").length === PAYMENTS, "the shipment");
  mock.requests = 0;
  for (let minute = 0; minute < 15; minute++) {
    await own.pass(MINUTE);
    await polled();
  }
  // All of them are in one block: a request for each group that is due, a few a minute at most.
  assert.ok(mock.requests >= 5 && mock.requests <= 60, `${mock.requests} requests`);
  mock.finalized = 996;
  await own.pass(2 * MINUTE);
  await polled();
  await until(() => own.shipped("finalized").length === PAYMENTS, "finality");
  mock.finalized = 990;
  await forgotten(own);
  const { rows, state = 0, totals, days, watch_groups, ...tables } = each(await worker.written());
  console.log(`      ${rows} rows a payment, ${watch_groups} of them to poll it`);
  // As above, and as it became final: the record in ledger and month, the event, the event that the verification was
  // answered, which the record has stopped to be, and an entry of the outbox with both, which SQLite numbers in a row of its
  // own, written and deleted.
  assert.deepEqual(tables, { claims: 1, payers: 1, records: 5, idempotency: 2, outbox: 3, events: 2 });
  const ofBatches = { watch_groups, state, totals, days };
  assert.ok(watch_groups <= 0.5 && state <= 0.7 && totals <= 0.1 && days <= 0.1, JSON.stringify(ofBatches));
});
