// Flights that nobody can carry on hold no other up: rows that cannot be read, a network that is gone, a signer that
// is no longer configured, more versions than one request takes. They are reported.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KEYS, startEvm } from "../../scripts/lib/evm.mjs";
import { flight, order } from "./flights.mjs";
import { startProxy } from "./proxy.mjs";
import { startWorker, until } from "./worker.mjs";

const CALLS_MAX = 100;
const hash = () => Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex");

/** Changes the rows of the one Settler that has any. The Worker must have stopped. */
function change(state, act) {
  const folder = join(state, "do", "-Settler");
  for (const name of readdirSync(folder).filter((each) => /^[0-9a-f]{64}\.sqlite$/.test(each))) {
    const db = new DatabaseSync(join(folder, name));
    try {
      const flights = db.prepare("SELECT * FROM flights").all();
      if (flights.length) act(db, flights);
    } finally {
      db.close();
    }
  }
}

test("fifty flights that cannot be carried on hold up neither another nor a launch, and are reported", async () => {
  const state = mkdtempSync(join(tmpdir(), "x402-stuck-"));
  const evm = await startEvm();
  const proxy = await startProxy(evm.url);
  const start = (key) => startWorker({ vars: { RPC_LOCAL_EVM: proxy.url, EVM_SIGNERS_TEST: key }, state });
  let worker = await start(KEYS.at(-1));
  try {
    const { id: tenant } = await worker.tenant();
    const { settle, buyer, to } = await flight({ tenant });
    await evm.mint(buyer.address, 10_000n);
    // Nodes take it, and forget it.
    proxy.drop = true;
    const lost = order(worker, { settle }).catch(() => undefined);
    await until(() => proxy.raw.length > 0, "the transfer");
    worker.crash();
    await lost;
    await worker.stop();
    change(state, (db, [good]) => {
      assert.equal(good.report, null);
      const put = db.prepare("INSERT INTO flights (key, nonce, flight, sent, report, told, changed_ms) VALUES (?, 0, ?, ?, NULL, 0, ?)");
      // Keys before and after the good one's.
      const key = (at) => `stl_${at % 2 ? "00" : "7Z"}${String(at).padStart(24, "0")}/0`;
      for (let at = 0; at < 45; at++) put.run(key(at), at % 3 ? '{"broken' : good.flight, at % 3 ? good.sent : "[]", good.changed_ms);
      for (let at = 45; at < 50; at++) put.run(key(at), good.flight.replace('"local-evm"', '"gone-chain"'), good.sent, good.changed_ms);
      const sent = JSON.parse(good.sent);
      const [version] = sent.versions;
      const other = () => JSON.parse(JSON.stringify(version).replaceAll(/[0-9a-f]{64}(?=")/g, hash));
      sent.versions = [...Array.from({ length: 150 }, other), version];
      db.prepare("UPDATE flights SET sent = ? WHERE key = ?").run(JSON.stringify(sent), good.key);
    });
    let most = 0;
    proxy.answer = (_, calls) => {
      most = Math.max(most, calls.length);
    };
    proxy.drop = false;
    const before = proxy.raw.length;
    // Its signer is rotated out: what was signed is sent as it is.
    worker = await start(KEYS.at(-2));
    await until(async () => (await evm.balance(to)) === 10_000n, "the alarm", 60_000);
    assert.deepEqual(new Set(proxy.raw.slice(before)), new Set([proxy.raw[0]]));
    assert.ok(most > 50 && most <= CALLS_MAX, `a batch of ${most} calls`);
    const chain = async () => (await worker.call("GET", "/v1/health")).body.checks.chains["local-evm"];
    const health = await until(
      async () => {
        const part = await chain();
        return part.detail?.startsWith("50 ") && part;
      },
      "health",
      120_000,
    );
    assert.deepEqual([health.status, health.detail], ["degraded", "50 settlements cannot be carried on: the log says why"]);
    // The good one has ended all the same.
    await until(async () => (await order(worker, { settle })).status === "completed", "its end", 60_000);
    await worker.stop();
    worker = await start(KEYS.at(-1));
    const next = await flight({ tenant });
    await evm.mint(next.buyer.address, 10_000n);
    const report = await order(worker, { settle: next.settle });
    assert.equal(report.status, "completed", JSON.stringify(report));
  } finally {
    await worker.stop();
    proxy.stop();
    evm.stop();
    rmSync(state, { recursive: true, force: true });
  }
});
