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
    const count = (table) => db.prepare(`SELECT COUNT(*) AS count FROM ${table}`).get().count;
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
    const { body, text } = await worker.verify(tenant.live, { tx_hash, chain: "base", reference: `order ${at}`, max_age_seconds: 315_360_000 }, key);
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

/** Rows a payment, by table. */
const each = ({ rows, tables }) => ({
  rows: rows / PAYMENTS,
  ...Object.fromEntries(Object.entries(tables).map(([table, rows]) => [table, rows / PAYMENTS])),
});

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

test("what a payment that is final when answered writes, with an Idempotency-Key", async () => {
  const { verify, pass, shipped } = await seller(900);
  await worker.written();
  await Promise.all(Array.from({ length: PAYMENTS }, (_, at) => verify(at)));
  await until(() => shipped("finalized").length === PAYMENTS, "the shipment");
  await pass(25 * 60 * MINUTE);
  await until(() => left("records", "idempotency") === 0, "the end of the records");
  console.log("      ", JSON.stringify(each(await worker.written())));
});

test("what a payment that becomes final a quarter of an hour later writes, with an Idempotency-Key", async () => {
  const { verify, pass, shipped } = await seller(995);
  await worker.written();
  await Promise.all(Array.from({ length: PAYMENTS }, (_, at) => verify(at)));
  await until(() => shipped("confirmed").length === PAYMENTS, "the shipment");
  const alone = each(await worker.written());
  mock.requests = 0;
  for (let minute = 0; minute < 15; minute++) {
    await pass(MINUTE);
    await polled();
  }
  console.log("       following", mock.requests, JSON.stringify(each(await worker.written())));
  mock.finalized = 996;
  await pass(2 * MINUTE);
  await polled();
  console.log("       polled", mock.requests, shipped("finalized").length, left("watch_groups"), JSON.stringify(each(await worker.written())));
  await until(() => shipped("finalized").length === PAYMENTS, "finality", 20_000);
  mock.finalized = 990;
  await pass(25 * 60 * MINUTE);
  await until(() => left("records", "idempotency") === 0, "the end of the records");
  console.log("      ", JSON.stringify(each(await worker.written())));
});
