// A webhook's message against the public Python package.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { python } from "../../scripts/lib/tools.mjs";
import { startMock } from "../workerd/mock-rpc.mjs";
import { random } from "../workerd/payment.mjs";
import { hearing, received, receivers } from "../workerd/receivers.mjs";
import { startWorker } from "../workerd/worker.mjs";

const SHOP = "shop.example";
const play = receivers();
let interpreter, mock, worker;

before(async () => {
  interpreter = await python("webhooks", join(import.meta.dirname, "webhooks.txt"));
  mock = await startMock();
  const vars = { MAIL_BACKEND: "mailbox", PUBLIC_URL: "https://pay.example", RPC_BASE: mock.url };
  worker = await startWorker({ vars, outbound: play.outbound });
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

test("the Python package verifies a message, and refuses one that was changed", async () => {
  const { key, endpoint, ship } = await hearing(worker, { to: random(20) });
  play.set(SHOP, 200);
  const { secret } = await endpoint(SHOP);
  const { body } = await worker.verify(key, { tx_hash: random(32), chain: "base" });
  await ship();
  const [{ text, headers }] = await received(play, SHOP);
  const stdout = await new Promise((resolve, reject) => {
    const script = join(import.meta.dirname, "webhooks.py");
    const child = execFile(interpreter, [script], { timeout: 30_000 }, (error, out) => (error ? reject(error) : resolve(out)));
    child.stdin?.end(JSON.stringify({ secret, text, headers }));
  });
  const verified = JSON.parse(stdout);
  assert.deepEqual([verified.type, verified.data.id], ["verification.failed", body.id]);
});
