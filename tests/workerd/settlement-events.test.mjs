// A settlement is an event each time that it reaches a status, on a real chain: once, whatever is repeated and whoever is
// killed.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { KEYS, startEvm } from "../../scripts/lib/evm.mjs";
import { outcome, sendAsStranger, settlementOf, sign, signedPayment } from "./payment.mjs";
import { recount } from "./recount.mjs";
import { moveAway, sent } from "./settling.mjs";
import { startWorker, until } from "./worker.mjs";

let evm, worker, state;
const start = () => startWorker({ vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1) }, state });

before(async () => {
  state = mkdtempSync(join(tmpdir(), "x402-settled-"));
  evm = await startEvm();
  worker = await start();
});
after(async () => {
  await worker?.stop();
  evm?.stop();
  rmSync(state, { recursive: true, force: true });
});

/** The events about settlements of a tenant, the oldest first. */
async function events(key, query = "type=settlement.*") {
  const { status, body, text } = await worker.call("GET", `/v1/events?limit=100&${query}`, { key });
  assert.equal(status, 200, text);
  assert.equal(body.next_cursor, null);
  return body.data.reverse();
}

/** All pages of a list. */
async function pages(key, path) {
  const all = [];
  for (let cursor = ""; cursor !== null; ) {
    const { status, body, text } = await worker.call("GET", `${path}${cursor && `&cursor=${cursor}`}`, { key });
    assert.equal(status, 200, text);
    all.push(...body.data);
    cursor = body.next_cursor;
  }
  return all;
}
const eventsOf = (key, query) => pages(key, `/v1/events?limit=100&${query}`);
const settlementsOf = (key) => pages(key, "/v1/settlements?limit=100");

/** The settlements of a tenant must be what `GET /v1/analytics` counts. An answer of other days is made anew. */
async function assertCounted(key, days) {
  const { data } = (await worker.call("GET", "/v1/settlements?limit=100", { key })).body;
  const { status, body, text } = await worker.call("GET", `/v1/analytics?days=${days}`, { key });
  assert.equal(status, 200, text);
  const { generated_at, ...found } = body;
  assert.deepEqual(found, recount({ records: [], settlements: data, environment: "test", now: Date.parse(generated_at), days }));
  return found.settlements;
}

const brief = (all) => all.map(({ type, subject, data }) => [type, subject, data.status]);

test("a settlement that succeeds is reserved and then completed, whatever is repeated", async () => {
  const { settle, test: key } = await signedPayment(worker, evm);
  const answer = await settle();
  assert.equal(outcome(answer.body), "success", answer.text);
  const id = settlementOf(answer);
  for (let times = 0; times < 3; times++) assert.equal(outcome((await settle()).body), "duplicate_settlement");
  const all = await events(key);
  assert.deepEqual(brief(all), [
    ["settlement.pending", id, "pending"],
    ["settlement.succeeded", id, "completed"],
  ]);
  assert.deepEqual([all[0].data.transaction, all[1].data.transaction], [null, answer.body.transaction]);
  assert.ok(all.every(({ environment }) => environment === "test"));
  assert.deepEqual(await events(key, `subject=${id}`), all);
  for (const event of all) assert.deepEqual((await worker.call("GET", `/v1/events/${event.id}`, { key })).body, event);
  const counts = { count: 1, pending: 0, completed: 1, failed: 0, amount: "10000" };
  assert.deepEqual(await assertCounted(key, 3), counts);
  const stranger = await worker.tenant();
  for (const other of [stranger.live, stranger.test])
    assert.equal((await worker.call("GET", `/v1/events/${all[0].id}`, { key: other })).status, 404);
});

test("a settlement that a third party has sent is completed at once", async () => {
  const { settle, body, test: key } = await signedPayment(worker, evm);
  await sendAsStranger(evm, body);
  const answer = await settle();
  assert.equal(outcome(answer.body), "success", answer.text);
  assert.deepEqual(brief(await events(key)), [["settlement.succeeded", settlementOf(answer), "completed"]]);
});

test("a settlement that fails says so, and a new attempt begins again", async () => {
  const { settle, buyer, test: key } = await signedPayment(worker, evm, { holds: 10_000n });
  const before = await sent(evm, "latest");
  await evm.rpc("evm_setAutomine", [false]);
  let failed;
  try {
    const settling = settle();
    await until(async () => (await sent(evm, "pending")) === before + 1, "the settlement in the pool");
    await moveAway(evm, buyer, 10_000n);
    await evm.rpc("evm_mine");
    failed = await settling;
  } finally {
    await evm.rpc("evm_setAutomine", [true]);
  }
  assert.equal(outcome(failed.body), "invalid_exact_evm_transaction_failed", failed.text);
  const id = settlementOf(failed);
  const wanted = [
    ["settlement.pending", id, "pending"],
    ["settlement.failed", id, "failed"],
  ];
  const all = await events(key);
  assert.deepEqual(brief(all), wanted);
  assert.deepEqual([all[1].data.reason, all[1].data.attempts.length], ["invalid_exact_evm_transaction_failed", 1]);
  assert.deepEqual(await assertCounted(key, 3), { count: 1, pending: 0, completed: 0, failed: 1, amount: "0" });
  // A refusal of another attempt changes nothing.
  await settle();
  assert.deepEqual(brief(await events(key)).slice(0, 2), wanted);
});

test("what the directory does not take is in its month all the same, however much waits", async () => {
  const { settle, to, buyer, test: key } = await signedPayment(worker, evm);
  // More than one batch of the outbox: a settlement is three entries.
  const ids = new Set();
  await worker.dbFault({ names: "INTO settlements", stays: true });
  try {
    for (let times = 0; times < 50; times++) {
      const answer = await settle(await sign({ buyer, to }));
      assert.equal(outcome(answer.body), "success", answer.text);
      ids.add(settlementOf(answer));
    }
    const all = await eventsOf(key, "type=settlement.succeeded");
    assert.deepEqual(new Set(all.map(({ subject }) => subject)), ids);
    const { body } = await worker.call("GET", "/v1/analytics?days=4", { key });
    assert.equal(body.settlements.completed, ids.size);
    const { text } = await worker.call("GET", "/v1/export?kind=events", { key });
    const lines = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.equal(lines.filter(({ type }) => type === "settlement.succeeded").length, ids.size);
    assert.equal(lines.at(-1).complete, true);
  } finally {
    await worker.dbFault();
  }
  await until(async () => {
    await worker.advance(61_000);
    return (await settlementsOf(key)).length === ids.size;
  }, "the directory has what waited");
  const after = await eventsOf(key, "type=settlement.*");
  assert.equal(after.length, 2 * ids.size, "no event is there twice");
});

test("what was settled before a SIGKILL is heard after it, once", async () => {
  const paid = [];
  for (let times = 0; times < 3; times++) {
    const one = await signedPayment(worker, evm);
    const answer = await one.settle();
    assert.equal(outcome(answer.body), "success", answer.text);
    paid.push({ key: one.test, id: settlementOf(answer) });
  }
  worker.crash();
  await worker.stop();
  worker = await start();
  for (const { key, id } of paid)
    assert.deepEqual(brief(await events(key)), [
      ["settlement.pending", id, "pending"],
      ["settlement.succeeded", id, "completed"],
    ]);
  for (const { key } of paid) assert.equal((await assertCounted(key, 3)).completed, 1);
});
