// The last revision of a payment reaches its month, and payments are polled whether they can be shipped or not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { breakMonth, ledgerRecords, monthOf, storedEvents, storedTexts, timeOf } from "./months.mjs";
import { random } from "./payment.mjs";
import { startWorker, until } from "./worker.mjs";

const MINUTE = 60_000;
const DAY = 86_400_000;

/** A seller on Base, whose blocks are final when the mock says so. */
async function withSeller(act) {
  const mock = await startMock();
  const worker = await startWorker({ vars: { RPC_BASE: mock.url } });
  try {
    const to = random(20);
    const { id: tenant, live: key } = await worker.tenant({ recipients: { base: to } });
    const verify = async (block = 995) => {
      const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block });
      const { body, text } = await worker.verify(key, { tx_hash, chain: "base", max_age_seconds: 315_360_000 });
      assert.equal(body.success, true, text);
      return body;
    };
    const stored = (id) => {
      const text = storedTexts(worker, tenant).get(id);
      return text && JSON.parse(text).status;
    };
    await act({
      mock,
      worker,
      verify,
      stored,
      read: async (id) => (await worker.call("GET", `/v1/verifications/${id}`, { key })).body?.status,
      /** The events of a payment; at a month's end they are of the next month, which is shipped by itself. */
      events: async (id, number) => {
        const all = () => storedEvents(worker, id).map(({ body }) => body.status);
        await until(() => all().length >= number, `${number} events`);
        return all();
      },
      /** An object's alarm follows the clock when the object is next asked something. */
      pass: async (ms) => {
        await worker.advance(ms);
        await worker.call("GET", "/v1/usage", { key });
      },
    });
  } finally {
    await worker.stop();
    mock.stop();
  }
}

/** Takes a payment's block off the chain; returns what puts it back. */
function reorganise(mock, { tx_hash }, block = 995) {
  const [receipt, hashOf] = [mock.receipts.get(tx_hash), mock.hashOf];
  mock.receipts.delete(tx_hash);
  mock.hashOf = (height) => (Number(height) === block ? `0x${"ef".repeat(32)}` : hashOf.call(mock, height));
  return () => {
    mock.hashOf = hashOf;
    mock.receipts.set(tx_hash, receipt);
  };
}

test("a payment that becomes final after its ledger may delete it is final in its month", () =>
  withSeller(async ({ mock, worker, verify, stored, read, events, pass }) => {
    const { id } = await verify();
    await until(() => stored(id) === "confirmed", "the shipment");
    mock.finalized = 996;
    await pass(11 * MINUTE);
    await until(() => stored(id) === "finalized", "the last revision", 30_000);
    assert.deepEqual([await events(id, 1), await read(id)], [["finalized"], "finalized"]);
    // Once it is shipped, the ledger deletes it.
    await until(
      async () => {
        await pass(11 * MINUTE);
        return !ledgerRecords(worker).some((record) => record.id === id);
      },
      "the deletion",
      30_000,
    );
    assert.equal(await read(id), "finalized");
  }));

test("a payment that has left its chain and is final later is final in its month", () =>
  withSeller(async ({ mock, verify, stored, read, events, pass }) => {
    const payment = await verify();
    await until(() => stored(payment.id) === "confirmed", "the shipment");
    const restore = reorganise(mock, payment);
    await pass(MINUTE);
    await until(() => stored(payment.id) === "reorged", "the reorganisation", 40_000);
    restore();
    mock.finalized = 996;
    await pass(12 * MINUTE);
    await until(() => stored(payment.id) === "finalized", "the last revision", 40_000);
    assert.deepEqual([await events(payment.id, 2), await read(payment.id)], [["reorged", "finalized"], "finalized"]);
  }));

test("a payment is polled while the directory takes nothing", () =>
  withSeller(async ({ mock, worker, verify, read, pass }) => {
    await worker.sql("ALTER TABLE period_usage RENAME TO gone");
    const payment = await verify();
    reorganise(mock, payment);
    await until(
      async () => {
        await pass(MINUTE);
        return (await read(payment.id)) === "reorged";
      },
      "the reorganisation",
      40_000,
    );
  }));

test("a month that takes nothing holds up neither the next month nor the directory", () =>
  withSeller(async ({ mock, worker, verify, stored, read, pass }) => {
    // A payment is followed for a week: it is of the last days of a month, whatever day it is today.
    const toEnd = Math.max(0, Date.parse(`${monthOf(Date.now())}-28`) - Date.now());
    await worker.advance(toEnd);
    const { id } = await verify();
    await until(() => stored(id) === "confirmed", "the shipment");
    const month = monthOf(timeOf(id));
    await pass(Date.parse(`${month}-28`) + 5 * DAY - Date.now() - toEnd);
    const mend = breakMonth(worker, month);
    // Its last revision is for the month that is broken.
    mock.finalized = 996;
    await until(
      async () => {
        await pass(MINUTE);
        return (await read(id)) === "finalized";
      },
      "the poll",
      40_000,
    );
    const next = await verify();
    await until(
      async () => {
        await pass(MINUTE);
        return stored(next.id) && (await worker.sql("SELECT 1 FROM period_usage WHERE period = ?", monthOf(timeOf(next.id)))).length > 0;
      },
      "the next month's record, and its usage in the directory",
      40_000,
    );
    // Nor the end of the month, which wants the usage alone.
    await worker.cron("0 0 1 * *");
    const [usage] = await worker.sql("SELECT closed_ms FROM period_usage WHERE period = ?", month);
    assert.notEqual(usage.closed_ms, null);
    mend();
    assert.equal(stored(id), "confirmed");
    await until(
      async () => {
        await pass(MINUTE);
        return stored(id) === "finalized";
      },
      "the last revision",
      40_000,
    );
  }));

test("a poll leaves batches on where a provider takes ten calls", () =>
  withSeller(async ({ mock, verify, stored, pass }) => {
    const refused = { jsonrpc: "2.0", id: null, error: { code: -32005, message: "batch limit exceeded" } };
    const sizes = [];
    mock.whole = (calls) => {
      sizes.push(Array.isArray(calls) ? calls.length : 1);
      return sizes.at(-1) > 10 ? { status: 200, body: JSON.stringify(refused) } : undefined;
    };
    const ids = [];
    for (let block = 981; block < 996; block++) ids.push((await verify(block)).id);
    await until(() => ids.every(stored), "the shipment");
    sizes.length = 0;
    // Fifteen blocks, seven in a request.
    await until(
      async () => {
        await pass(MINUTE);
        return sizes.length >= 3;
      },
      "the poll",
      30_000,
    );
    assert.ok(
      sizes.every((size) => size > 1 && size <= 10),
      `requests of ${sizes} calls`,
    );
  }));

test("a chain that does not answer keeps no other from being polled", async () => {
  const base = await startMock();
  const polygon = await startMock({ chainId: 137, token: "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359" });
  const worker = await startWorker({ vars: { RPC_BASE: base.url, RPC_POLYGON: polygon.url } });
  try {
    const to = random(20);
    const { id: tenant, live: key } = await worker.tenant({ recipients: { base: to, polygon: to } });
    const verify = async (mock, chain, block) => {
      const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block });
      const { body, text } = await worker.verify(key, { tx_hash, chain, max_age_seconds: 315_360_000 });
      assert.equal(body.success, true, text);
      return body.id;
    };
    const stored = (id) => storedTexts(worker, tenant).get(id);
    base.finalized = polygon.finalized = 900;
    // Several groups of the chain that fails, of many blocks each.
    const waiting = [];
    for (let burst = 0; burst < 4; burst++) {
      for (let block = 984; block < 994; block++) await verify(base, "base", block);
      waiting.push(await verify(polygon, "polygon", 930));
      await until(() => stored(waiting[burst]), "the shipment");
    }
    base.fault = "silent";
    polygon.finalized = 999;
    await until(
      async () => {
        await worker.advance(MINUTE);
        await worker.call("GET", "/v1/usage", { key });
        return waiting.every((id) => JSON.parse(stored(id) ?? "{}").status === "finalized");
      },
      "the payments of the chain that answers",
      60_000,
    );
  } finally {
    await worker.stop();
    base.stop();
    polygon.stop();
  }
});
