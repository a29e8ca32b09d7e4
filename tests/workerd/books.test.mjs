// Faults under load, and after each the books: answers given = ledgers' records = months' = rollups; quota used = attempts
// counted; claims unique; nonces without gaps; each event delivered at least once; every settlement handed over once.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { seeded } from "../peers/mutations.mjs";
import { balance } from "./books/balance.mjs";
import { collect } from "./books/collect.mjs";
import { FAULTS } from "./books/faults.mjs";
import { startLoad } from "./books/load.mjs";
import { startWorld } from "./books/world.mjs";

const SEED = Number(process.env.SEED ?? 17);
/** How long a fault lasts, with the load before and after it. */
const FAULT_MS = Number(process.env.FAULT_SECONDS ?? 2) * 1_000;
const chance = seeded(SEED);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @type {import("./books/world.mjs").World | undefined} */
let world;
after(() => world?.stop());

/**
 * A test of a fault. The next one goes on with the same books, unless this one has failed.
 * @param {string} name
 * @param {(world: import("./books/world.mjs").World) => Promise<void>} fault
 */
const underLoad = (name, fault) =>
  test(`${name} (SEED=${SEED})`, async () => {
    const own = world ?? (await startWorld());
    world = undefined;
    own.spanMs = FAULT_MS / 2;
    try {
      const load = startLoad(own, chance);
      try {
        await pause(FAULT_MS / 4);
        await fault(own);
        await pause(FAULT_MS / 4);
      } finally {
        await load.stop();
      }
      await own.calm();
      assert.deepEqual(balance(await collect(own)), []);
    } catch (error) {
      await own.stop();
      throw error;
    }
    world = own;
  });

for (const [name, fault] of Object.entries(FAULTS)) underLoad(`the books balance after ${name}`, fault);
