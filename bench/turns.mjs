// Contestants that take turns: a machine's speed drifts within a run, so each is
// measured in slices, one after another, and compared with the others of its round.
import { realpathSync } from "node:fs";
import { load } from "./load.mjs";

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

/** The value of `--name value` on the command line, or `otherwise`. */
export function option(name, otherwise) {
  const at = process.argv.indexOf(`--${name}`);
  return at > 0 ? process.argv[at + 1] : otherwise;
}

/**
 * The checkouts to measure: this one, and the one that `--against` names. A benchmark adds what it runs of each.
 * @returns {any[]}
 */
export function checkouts(here) {
  const other = option("against");
  return [{ name: "ours", root: here }, ...(other ? [{ name: "against", root: realpathSync(other) }] : [])];
}

/** The build functions and the test Worker of a checkout. */
export async function partsOf({ root }) {
  const { build, size } = await import(`${root}/scripts/lib/build.mjs`);
  const { startWorker } = await import(`${root}/tests/workerd/worker.mjs`);
  return { build, size, startWorker };
}

/**
 * Runs `rounds` rounds; in each, every contestant for `seconds`. A contestant is
 * `{ name, host, port, next }`; `next(n)` gives its n-th request of the whole run,
 * or undefined when it has no more. Prints and answers for each its medians and its
 * throughput in each round.
 */
export async function takeTurns(contestants, { rounds = 5, seconds = 2, connections = 64 } = {}) {
  const all = contestants.map((contestant) => ({ contestant, sent: 0, slices: [] }));
  for (let round = 0; round < rounds; round++) {
    // Every other round runs backwards, so that nobody always follows the same neighbour.
    for (const one of round % 2 ? all.toReversed() : all) {
      const { host, port, next } = one.contestant;
      const first = one.sent;
      const counted = (n) => {
        const request = next(first + n);
        if (request !== undefined) one.sent = Math.max(one.sent, first + n + 1);
        return request;
      };
      one.slices.push(await load({ host, port, connections, seconds, next: counted }));
    }
  }
  return all.map(({ contestant: { name }, slices }) => {
    const of = (key) => median(slices.map((slice) => slice[key]));
    const sum = (key) => slices.reduce((total, slice) => total + slice[key], 0);
    const statuses = {};
    for (const slice of slices)
      for (const [status, count] of Object.entries(slice.statuses)) statuses[status] = (statuses[status] ?? 0) + count;
    const result = {
      name,
      perSecond: of("perSecond"),
      p50: of("p50"),
      p95: of("p95"),
      p99: of("p99"),
      longest: Math.max(...slices.map(({ longest }) => longest)),
      good: sum("good"),
      lost: sum("lost"),
      slices: slices.map((slice) => slice.perSecond),
      p95s: slices.map((slice) => slice.p95),
    };
    const ms = (key) => `${key} ${result[key].toFixed(1)} ms`;
    console.log(
      `${name}: ${Math.round(result.perSecond)}/s, ${ms("p50")}, ${ms("p95")}, ${ms("p99")}, ${ms("longest")}, ${JSON.stringify(statuses)}, lost ${result.lost}`,
    );
    return result;
  });
}

/** The median over the rounds of `mine` by `theirs`; `key` is `slices` (throughput) or `p95s`. */
export const ratio = (mine, theirs, key = "slices") => median(mine[key].map((value, round) => value / theirs[key][round]));

/** A share in per cent, with one digit. */
export const percent = (share) => `${(100 * share).toFixed(1)} %`;
