// Records of transactions with many payments reach their months in batches that stay small, and the directory gets
// nothing that a real D1 refuses: a value of more than 2,000,000 bytes, which the local one takes.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { storedEvents, storedTexts } from "./months.mjs";
import { startWorker, until } from "./worker.mjs";

const VALUE_MAX = 2_000_000;
const address = () => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex")}`;
let mock, worker;

before(async () => {
  mock = await startMock();
  worker = await startWorker({ vars: { RPC_BASE: mock.url } });
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

/** A seller who was paid so often in one transaction, each time by somebody else. */
async function paid(times, block = 900) {
  const to = address();
  const tenant = await worker.tenant({ recipients: { base: to } });
  const transfers = Array.from({ length: times }, () => ({ from: address(), to, amount: 1_000 }));
  const hash = mock.addTransfer({ transfers, block });
  const ask = (body) => worker.verify(tenant.live, { tx_hash: hash, chain: "base", ...body });
  const shipped = (count) =>
    until(
      () => {
        const rows = storedTexts(worker, tenant.id);
        return rows.size === count && rows;
      },
      `${count} records in their month`,
      60_000,
    );
  return { ...tenant, to, hash, ask, shipped };
}

test("forty records of a thousand payments are shipped whole, in small batches", async () => {
  const { live: key, ask, shipped } = await paid(1_000);
  await worker.written();
  const answers = [];
  for (let at = 0; at < 40; at++) answers.push(await ask({ claim: false, reference: `order ${at}` }));
  for (const { body } of answers) assert.deepEqual([body.success, body.transfers.length, body.amount], [true, 1_000, "1000000"]);
  const sum = answers.reduce((bytes, { text }) => bytes + text.length, 0);
  assert.ok(sum > 2 * VALUE_MAX, `${sum} bytes of records`);
  const rows = await shipped(40);
  for (const { body, text } of answers) assert.equal(rows.get(body.id), text);
  const { value, batch, statements, taken } = await worker.written();
  console.log(`      the largest value of D1 has ${value} bytes, the largest batch of records ${taken}`);
  assert.ok(value <= VALUE_MAX && batch <= VALUE_MAX && statements <= 200, `${value} of ${batch} bytes in ${statements} statements`);
  assert.ok(taken > 500_000 && taken <= 1.1 * 1_000_000, `a batch of ${taken} bytes`);
  const listed = (await worker.call("GET", "/v1/verifications?limit=100", { key })).body.data;
  assert.deepEqual(listed.map(({ id }) => id).sort(), answers.map(({ body }) => body.id).sort());
});

test("a record of more payments than are listed is bounded, says so, and reads the same everywhere", async () => {
  const { live: key, ask, shipped } = await paid(4_500);
  await worker.written();
  const { body, text } = await ask({ claim: false, expected_amount: "4.5" });
  assert.deepEqual([body.success, body.amount, body.overpaid], [true, "4500000", "0"]);
  assert.deepEqual([body.transfers.length, body.payers.length], [4_000, 4_000]);
  const listed = body.checks.find(({ name }) => name === "transfers_listed");
  assert.match(listed.detail, /^of 4500 transfers and 4500 payers the first 4000 each are listed/);
  assert.equal((await worker.call("GET", `/v1/verifications/${body.id}`, { key })).text, text);
  assert.equal((await shipped(1)).get(body.id), text);
  const { taken } = await worker.written();
  assert.ok(taken <= VALUE_MAX, `a batch of ${taken} bytes`);
});

test("a thousand payments that are followed to finality make an event that its month takes", async () => {
  const { ask, shipped } = await paid(1_000, 995);
  await worker.written();
  const { body } = await ask();
  assert.deepEqual([body.status, body.claimed], ["confirmed", true]);
  await shipped(1);
  mock.finalized = 999;
  try {
    const [event] = await until(
      () => {
        const events = storedEvents(worker, body.id);
        return events.length && events;
      },
      "the event",
      60_000,
    );
    assert.equal(event.body.transfers.length, 1_000);
    assert.equal(JSON.parse(storedTexts(worker).get(body.id)).status, "finalized");
    assert.ok((await worker.written()).taken <= VALUE_MAX);
  } finally {
    mock.finalized = 990;
  }
});
