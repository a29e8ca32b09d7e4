// SIGKILL while webhooks are on their way: each event reaches its endpoint at least once, none is invented, and the events of a
// payment come in their order.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { random } from "./payment.mjs";
import { hearing, received, receivers } from "./receivers.mjs";
import { startWorker, until } from "./worker.mjs";

const [SECOND, MINUTE] = [1_000, 60_000];
const SHOP = "shop.example";

test("a sender that is killed again and again loses no event and invents none", async () => {
  const state = mkdtempSync(join(tmpdir(), "x402-webhooks-"));
  const play = receivers();
  const mock = await startMock();
  let isHanging = true;
  play.set(SHOP, async () => {
    if (isHanging) await new Promise(() => {});
    return 200;
  });
  const start = () =>
    startWorker({
      vars: { MAIL_BACKEND: "mailbox", PUBLIC_URL: "https://pay.example", RPC_BASE: mock.url },
      outbound: play.outbound,
      state,
    });
  let worker = await start();
  try {
    const { key, endpoint } = await hearing(worker, { to: random(20) });
    const own = await endpoint(SHOP);
    const made = [];
    const events = async (count) => {
      for (let at = 0; at < count; at++) {
        const { body } = await worker.verify(key, { tx_hash: random(32), chain: "base" });
        made.push(body.id.replace("ver_", "evt_"));
      }
      await worker.call("GET", "/v1/events?limit=1", { key });
    };
    const crash = async () => {
      worker.crash();
      await worker.stop();
      worker = await start();
    };
    await events(10);
    // Killed with six messages in flight.
    await received(play, SHOP, 6);
    assert.equal(play.of(SHOP).length, 6);
    const inFlight = play.of(SHOP).map(({ id }) => id);
    await crash();
    isHanging = false;
    const { data } = (await worker.call("GET", `${own.path}/deliveries?status=waiting`, { key })).body;
    assert.equal(data.length, 10, "nothing counts as delivered of which nothing is known");
    // Killed while they are delivered, and while events come.
    for (let turn = 0; turn < 3; turn++) {
      // What the turn begins with may be delivered before its events are all made.
      const count = play.of(SHOP).length;
      await worker.advance(MINUTE);
      await events(5);
      const isSent = async () => {
        await worker.advance(SECOND);
        for (const path of ["/v1/events?limit=1", `${own.path}/deliveries?limit=1`]) await worker.call("GET", path, { key });
        return play.of(SHOP).length > count;
      };
      // Objects follow the clock when they are asked something.
      await until(isSent, "a message");
      await crash();
    }
    await until(
      async () => {
        await worker.advance(MINUTE);
        const waiting = await worker.call("GET", `${own.path}/deliveries?status=waiting`, { key });
        const all = await worker.call("GET", `${own.path}/deliveries?limit=100`, { key });
        return all.body.data.length === made.length && waiting.body.data.length === 0;
      },
      "the end of all deliveries",
      120_000,
    );
    const ids = play.of(SHOP).map(({ id }) => id);
    assert.deepEqual(new Set(ids), new Set(made));
    for (const id of inFlight) assert.ok(ids.filter((one) => one === id).length >= 2, "what was in flight is sent again");
    const cut = (await worker.call("GET", `${own.path}/deliveries/${inFlight[0]}`, { key })).body;
    assert.deepEqual([cut.delivery.status, cut.attempts[0].duration_ms, cut.attempts[0].http_status], ["delivered", null, null]);
  } finally {
    await worker.stop();
    mock.stop();
    rmSync(state, { recursive: true, force: true });
  }
});
