// Records of transactions with many payments reach the directory in parts that a real D1 takes: it refuses a value of
// more than 2,000,000 bytes, and the local one does not.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
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
      async () => {
        const rows = await worker.sql("SELECT id, body FROM verifications WHERE tenant_id = ?", tenant.id);
        return rows.length === count && new Map(rows.map(({ id, body }) => [id, body]));
      },
      `${count} records in the directory`,
      60_000,
    );
  return { ...tenant, to, hash, ask, shipped };
}

test("forty records of a thousand payments are shipped whole, in batches that D1 takes", async () => {
  const { live: key, ask, shipped } = await paid(1_000);
  await worker.written();
  const answers = [];
  for (let at = 0; at < 40; at++) answers.push(await ask({ claim: false, reference: `order ${at}` }));
  for (const { body } of answers) assert.deepEqual([body.success, body.transfers.length, body.amount], [true, 1_000, "1000000"]);
  const sum = answers.reduce((bytes, { text }) => bytes + text.length, 0);
  assert.ok(sum > 2 * VALUE_MAX, `${sum} bytes of records`);
  const rows = await shipped(40);
  for (const { body, text } of answers) assert.equal(rows.get(body.id), text);
  const { value, batch, statements } = await worker.written();
  console.log(`      the largest value has ${value} bytes, the largest batch ${batch} in ${statements} statements`);
  assert.ok(value > 500_000 && value <= VALUE_MAX, `a value of ${value} bytes`);
  assert.ok(batch <= 2.5 * VALUE_MAX && statements <= 300, `${batch} bytes in ${statements} statements`);
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
  const { value } = await worker.written();
  assert.ok(value <= VALUE_MAX, `a value of ${value} bytes`);
});

test("a thousand payments that are followed to finality make an event that D1 takes", async () => {
  const { ask, shipped } = await paid(1_000, 995);
  await worker.written();
  const { body } = await ask();
  assert.deepEqual([body.status, body.claimed], ["confirmed", true]);
  await shipped(1);
  mock.finalized = 999;
  try {
    const [event] = await until(
      async () => {
        const events = await worker.sql("SELECT * FROM events WHERE subject_id = ?", body.id);
        return events.length && events;
      },
      "the event",
      60_000,
    );
    assert.equal(JSON.parse(event.body).transfers.length, 1_000);
    const [row] = await worker.sql("SELECT status FROM verifications WHERE id = ?", body.id);
    assert.equal(row.status, "finalized");
    assert.ok((await worker.written()).value <= VALUE_MAX);
  } finally {
    mock.finalized = 990;
  }
});
