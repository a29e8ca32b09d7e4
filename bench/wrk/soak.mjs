// The soak of `npm run load -- --soak`: minutes of the mix, and what memory and storage do meanwhile.
import { heldBytes, memory, storedBytes, storedTables, workerdPid } from "../workerd.mjs";
import { figures, growth, judgeSoak, storageGrowth } from "./judge.mjs";
import { failuresOf } from "./report.mjs";
import { prepare } from "./mix.mjs";
import { runWrk, writeRequests } from "./wrk.mjs";

const MIB = 2 ** 20;
/** How often memory and files are looked at. */
const SAMPLE_MS = 10_000;
/** The share of the soak after which caches are full and memory is to be flat: two minutes of ten. */
const WARM = 0.2;

const number = (value, digits = 0) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/**
 * Runs the mix for some minutes of `seconds`, prints a line for each, and what grew; answers what is wrong, in words.
 * @param {{
 *   worker: import("../../tests/workerd/worker.mjs").Worker, world: import("./world.mjs").World, url: string, folder: string,
 *   minutes: number, seconds: number, connections: number, rate: number, say: (line: string) => void,
 * }} options
 * @returns {Promise<string[]>}
 */
export async function soak({ worker, world, url, folder, minutes, seconds, connections, rate, say }) {
  const pid = workerdPid();
  const begun = performance.now();
  const passed = () => (performance.now() - begun) / 1_000;
  /** @type {[number, number][]} */
  const rss = [];
  /** @type {[number, number][]} */
  const held = [];
  let largest = {};
  const sample = () => {
    rss.push([passed(), memory(pid).now]);
    largest = storedBytes(worker.state);
  };
  const warm = Math.max(1, Math.round(minutes * WARM));
  let [warmAt, requests, since] = [0, 0, await storedTables(worker.state)];
  /** @type {import("./wrk.mjs").Result[]} */
  const results = [];
  say("minute  a second  p95 ms  as expected  workerd MiB  V8 MiB  wasm MiB  files of objects and D1, MiB");
  for (let minute = 1; minute <= minutes; minute++) {
    writeRequests(folder, await prepare(world, seconds * (rate || 1_500)));
    const timer = setInterval(sample, Math.min(SAMPLE_MS, (seconds * 1_000) / 4));
    sample();
    const result = await runWrk({ url, folder, seconds, connections, rate }).finally(() => clearInterval(timer));
    sample();
    results.push(result);
    const { v8, wasm } = await heldBytes(worker);
    held.push([passed(), (v8 + wasm) / MIB]);
    const found = figures(result);
    if (minute > warm) requests += found.requests;
    const files = Object.entries(largest).map(([owner, bytes]) => `${owner} ${number(bytes / MIB, 1)}`);
    const cells = [String(minute), number(found.perSecond), number(found.p95, 1), `${number(100 * found.success, 3)} %`];
    const sizes = [rss.at(-1)?.[1] ?? 0, v8 / MIB, wasm / MIB].map((value) => number(value, 1));
    const widths = [6, 8, 6, 11, 11, 6, 8];
    say(`${[...cells, ...sizes].map((cell, at) => cell.padStart(widths[at])).join("  ")}  ${files.join(", ")}`);
    for (const line of failuresOf(result, world)) say(line);
    if (minute === warm) [warmAt, since] = [passed(), await storedTables(worker.state)];
  }
  const stored = storageGrowth(since, await storedTables(worker.state), requests);
  say(`\nWhat has grown since minute ${warm}, for each of ${number(requests)} requests:`);
  for (const { owner, perRequest, rows } of stored.owners)
    say(`  ${owner.padEnd(14)} ${number(perRequest, 1).padStart(9)} bytes, ${number(rows / requests, 3).padStart(7)} rows`);
  say("\nTables that have grown by a thousand rows and more; decision 10 states some:");
  for (const { name, rows, bytesPerRow, stated } of stored.tables)
    say(
      `  ${name.padEnd(28)} ${number(rows).padStart(9)} rows, ${number(bytesPerRow).padStart(6)} bytes a row${stated ? `, stated ${number(stated)}` : ""}`,
    );
  const grown = { rss: growth(rss, warmAt), held: growth(held, warmAt) };
  say(`\nLines through the samples from minute ${warm} on: workerd ${sign(grown.rss)} MiB, the isolate ${sign(grown.held)} MiB`);
  const all = {
    rows: results.flatMap(({ rows }) => rows),
    seconds: passed(),
    connect: results.reduce((sum, { connect }) => sum + connect, 0),
  };
  return judgeSoak({ success: figures(all).success, grown, held: Math.max(...held.map(([, mib]) => mib)), tables: stored.tables });
}

const sign = (value) => `${value < 0 ? "" : "+"}${number(value, 1)}`;
