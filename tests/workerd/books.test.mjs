// Faults under load, and after each the books: answers given = ledgers' records = months' = rollups; quota used = attempts
// counted; claims unique; nonces without gaps; each event delivered at least once; every settlement handed over once.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { seeded } from "../peers/mutations.mjs";
import { balance } from "./books/balance.mjs";
import { collect } from "./books/collect.mjs";
import { FAULTS } from "./books/faults.mjs";
import { startLoad } from "./books/load.mjs";
import { TAMPERING } from "./books/tampering.mjs";
import { startWorld } from "./books/world.mjs";

const SEED = Number(process.env.SEED ?? 17);
/** How long the load runs before a fault, and after it. */
const LOAD_MS = Number(process.env.FAULT_SECONDS ?? 2) * 500;
/** How many faults come one after the other in the last test; those that go far ahead in time are long. */
const MIXED = 4;
const FAR = ["R2 fails", "the clock passes a month's end"];
const chance = seeded(SEED);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @type {import("./books/world.mjs").World | undefined} */
let world;
after(() => world?.stop());

/**
 * A test of faults. The next one goes on with the same books, unless this one has failed.
 * @param {string} name
 * @param {((world: import("./books/world.mjs").World) => Promise<void>)[]} faults
 * @param {(books: import("./books/balance.mjs").Books) => void} [more]
 */
const underLoad = (name, faults, more = () => {}) =>
  test(`${name} (SEED=${SEED})`, async () => {
    const own = world ?? (await startWorld());
    world = undefined;
    try {
      const load = startLoad(own, chance);
      try {
        await pause(LOAD_MS);
        for (const fault of faults) await fault(own);
        await pause(LOAD_MS);
      } finally {
        await load.stop();
      }
      await own.calm();
      const books = await collect(own);
      assert.deepEqual(balance(books), []);
      more(books);
    } catch (error) {
      await own.stop();
      throw error;
    }
    world = own;
  });

for (const [name, fault] of Object.entries(FAULTS)) underLoad(`the books balance after ${name}`, [fault]);

const near = Object.keys(FAULTS).filter((name) => !FAR.includes(name));
const mixed = [...Array.from({ length: MIXED - 1 }, () => chance.pick(near)), chance.pick(FAR)].sort(() => chance.next() - 0.5);
underLoad(
  `the books balance after, in this order, ${mixed.join(", ")}`,
  mixed.map((name) => FAULTS[name]),
  (books) => {
    // The same comparison reports whatever is wrong in them.
    for (const [name, reported, tamper] of TAMPERING) {
      const wrong = structuredClone(books);
      tamper(wrong);
      const all = balance(wrong);
      assert.ok(
        all.some((line) => reported.test(line)),
        `${name}: ${reported} is not among\n${all.slice(0, 20).join("\n")}`,
      );
    }
  },
);
