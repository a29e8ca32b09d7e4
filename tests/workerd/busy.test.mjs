// A ledger that is never idle ships all the same.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { storedTexts } from "./months.mjs";
import { random } from "./payment.mjs";
import { startWorker, until } from "./worker.mjs";

let mock, worker;

before(async () => {
  mock = await startMock();
  worker = await startWorker({ vars: { RPC_BASE: mock.url } });
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

test("a request that comes when the alarm is due does not put it off", async () => {
  const to = random(20);
  const tenant = await worker.tenant({ recipients: { base: to } });
  const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block: 900 });
  const verify = async () => assert.equal((await worker.verify(tenant.live, { tx_hash, chain: "base", claim: false })).status, 200);
  await verify();
  await worker.written();
  // The first request has set the alarm for 4 s later. The next ones come when it is due, and before it runs.
  await worker.advance(4_000);
  await Promise.all(Array.from({ length: 8 }, verify));
  await until(() => storedTexts(worker, tenant.id).size === 9, "all nine in their month");
  assert.equal((await worker.written()).putOff, 0);
});
