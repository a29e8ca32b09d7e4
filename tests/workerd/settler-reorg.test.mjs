// A block with a completed settlement leaves the chain after its signer was taken out of the settings, and while nobody looks: its
// bytes are sent again, whenever that is seen.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KEYS, startEvm } from "../../scripts/lib/evm.mjs";
import { flight, order } from "./flights.mjs";
import { startProxy } from "./proxy.mjs";
import { sent } from "./settling.mjs";
import { startWorker, until } from "./worker.mjs";

const [SECOND, HOUR, DAY] = [1_000, 3_600_000, 86_400_000];
/** After the first poll for finality, and past the end of a lease. */
const SOON_MS = 31 * SECOND;

/**
 * Completes a settlement, takes its signer away, and has the chain lose the block.
 * @param {string} name
 * @param {{ ahead: number, silent?: boolean }} how the clock's jump before anyone looks; `silent`: no node answers the first polls
 */
const lost = (name, { ahead, silent = false }) =>
  test(name, async () => {
    const state = mkdtempSync(join(tmpdir(), "x402-reorg-"));
    const evm = await startEvm();
    const proxy = await startProxy(evm.url);
    const start = (key) => startWorker({ vars: { RPC_LOCAL_EVM: proxy.url, EVM_SIGNERS_TEST: key }, state });
    let worker = await start(KEYS.at(-1));
    try {
      const { id: tenant } = await worker.tenant();
      const { settle, buyer, to } = await flight({ tenant }, { lasts: (60 * DAY) / SECOND });
      await evm.mint(buyer.address, 10_000n);
      assert.equal((await order(worker, { settle })).status, "completed");
      assert.equal(await evm.balance(to), 10_000n);
      const raw = proxy.raw[0];
      worker.crash();
      await worker.stop();
      await evm.rpc("anvil_reorg", [1, []]);
      assert.deepEqual([await evm.balance(to), await sent(evm)], [0n, 0]);
      const before = proxy.raw.length;
      proxy.down = silent;
      worker = await start(KEYS.at(-2));
      await worker.advance(ahead);
      // A Settler that is asked sets its alarm by the clock that was put forward.
      const look = () => order(worker, "held");
      if (silent) {
        const asked = proxy.calls.length;
        await until(async () => (await look()) && proxy.calls.length > asked, "a poll that nobody answers", 60_000);
        // The next poll is set once this one has ended.
        const idle = proxy.calls.length;
        await worker.advance(7 * HOUR);
        await until(async () => (await look()) && proxy.calls.length > idle, "another one", 60_000);
        proxy.down = false;
      }
      const isBack = async () => {
        await look();
        if ((await evm.balance(to)) === 10_000n) return true;
        if (silent) await worker.advance(HOUR);
        return false;
      };
      await until(isBack, "the transfer on the chain again", 60_000);
      assert.deepEqual([...new Set(proxy.raw.slice(before))], [raw]);
      await until(async () => (await order(worker, { settle })).status === "completed", "its end", 60_000);
      assert.equal(await sent(evm), 1);
    } finally {
      await worker.stop();
      proxy.stop();
      evm.stop();
      rmSync(state, { recursive: true, force: true });
    }
  });

lost("a settlement whose block is lost after its signer was taken away is sent again", { ahead: SOON_MS });
lost("so it is when nobody has looked for 25 days", { ahead: 25 * DAY });
lost("so it is when no node has answered for hours", { ahead: 7 * HOUR, silent: true });
