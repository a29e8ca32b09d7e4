// What `npm run load` prints of a run.
import { figures } from "./judge.mjs";
import { rowsFor } from "./mix.mjs";

const number = (value, digits = 0) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const WIDTHS = [9, 8, 8, 8, 8, 8, 11];

const cells = (found) => [
  number(found.requests),
  number(found.perSecond),
  ...[found.p50, found.p95, found.p99, found.max].map((value) => number(value, 1)),
  `${number(100 * found.success, 3)} %`,
];

const line = (name, values) => `${name.padEnd(34)}${values.map((value, at) => value.padStart(WIDTHS[at])).join(" ")}`;

export const HEADING = line("", ["requests", "a second", "p50 ms", "p95 ms", "p99 ms", "max ms", "as expected"]);

/** A line for a run. @param {string} name @param {import("./wrk.mjs").Result} result */
export const stageLine = (name, result) => line(name, cells(figures(result)));

/**
 * A line for each row of the mix: how many of the requests it was, how many failed, and how long they took.
 * @param {import("./wrk.mjs").Result} result
 * @param {import("./world.mjs").World} world
 */
export function rowLines(result, world) {
  const rows = rowsFor(world);
  const total = rows.reduce((sum, { share }) => sum + share, 0);
  const head = "  share  requests  failed   p50 ms   p95 ms   p99 ms  route";
  return [
    head,
    ...rows.map(({ share, route, what, status }, at) => {
      const found = figures({ rows: [result.rows[at]], seconds: result.seconds });
      const values = [`${number((100 * share) / total, 1)} %`, number(found.requests), number(found.failed)];
      const times = [found.p50, found.p95, found.p99].map((value) => number(value, 1).padStart(8));
      const [shown, requests, failed] = [values[0].padStart(7), values[1].padStart(9), values[2].padStart(7)];
      return `${shown} ${requests} ${failed} ${times.join(" ")}  ${route}${what && `: ${what}`} (${status})`;
    }),
  ];
}

/** The codes that an answer names: of its text no more is shown, since it is another's and may hold a secret. */
function codesOf(body) {
  const found = [...body.matchAll(/"(?:error_code|errorReason|invalidReason)":"([A-Za-z_0-9]{1,60})"/g)];
  return [...new Set(found.map(([, name]) => name))].join(" ");
}

/**
 * Some of the failures of a run.
 * @param {import("./wrk.mjs").Result} result
 * @param {import("./world.mjs").World} world
 */
export function failuresOf({ failures, rows, connect }, world) {
  const lost = rows.reduce((sum, row) => sum + row.lost, 0);
  return [
    ...failures.map(({ row, status, body }) => {
      const { route, what, status: wanted, holds } = rowsFor(world)[row - 1];
      const code = codesOf(body);
      return `  failed: ${route}${what && `, ${what}`}: ${status}${code && ` ${code}`}, wanted ${wanted}${holds ? ` with ${holds}` : ""}`;
    }),
    ...(lost ? [`  failed: ${lost} requests got no answer`] : []),
    ...(connect ? [`  failed: ${connect} connections were not made`] : []),
  ];
}
