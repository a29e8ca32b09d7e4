// Faults under load, and after each the books: answers given = ledgers' records = months' = rollups; quota used = attempts
// counted; claims unique; nonces without gaps; each event delivered; every settlement handed over once.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { seeded } from "../peers/mutations.mjs";
import { balance } from "./books/balance.mjs";
import { collect } from "./books/collect.mjs";
import { FAULTS } from "./books/faults.mjs";
import { startLoad } from "./books/load.mjs";
import { startWorld } from "./books/world.mjs";

const SEED = Number(process.env.SEED ?? 17);
/** How long the load runs before a fault, and after it. */
const LOAD_MS = Number(process.env.FAULT_SECONDS ?? 2) * 500;
const chance = seeded(SEED);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @type {import("./books/world.mjs").World | undefined} */
let world;
after(() => world?.stop());

/** A test of a fault. The next one goes on with the same books, unless this one has failed. */
const underLoad = (name, fault) =>
  test(`${name} (SEED=${SEED})`, async () => {
    const own = world ?? (await startWorld());
    world = undefined;
    try {
      const t = [Date.now()];
      const load = startLoad(own, chance);
      try {
        await pause(LOAD_MS);
        await fault(own);
        await pause(LOAD_MS);
      } finally {
        await load.stop();
      }
      t.push(Date.now());
      await own.calm();
      t.push(Date.now());
      const books = await collect(own);
      t.push(Date.now());
      assert.deepEqual(balance(books), []);
      console.log(
        t
          .slice(1)
          .map((x, i) => x - t[i])
          .join(" "),
        own.journal.verifications.length,
        own.journal.payments.length,
      );
    } catch (error) {
      await own.stop();
      throw error;
    }
    world = own;
  });

for (const [name, fault] of Object.entries(FAULTS)) underLoad(`the books balance after ${name}`, fault);
