// What a run is judged by: pure functions of what was counted.

/** Each bucket of latencies is so much wider than the one before: mix.lua counts into them. */
const WIDTH = 1.01;

/** What a service must do under load: requests a second, the 95th percentile in milliseconds, the share of good answers. */
export const LIMITS = { perSecond: 1_000, p95: 500, success: 0.999 };

/** A paced run asks for no more than it wants: it may fall short of it by the requests at its borders. */
const PACED_SLACK = 0.01;

/**
 * The latency in milliseconds that a share of the answers does not exceed: the upper border of its bucket, one per cent
 * above the true one at most.
 * @param {Record<string, number>} hist counts by bucket
 * @param {number} share
 */
export function percentile(hist, share) {
  const buckets = Object.entries(hist)
    .map(([bucket, count]) => /** @type {const} */ ([Number(bucket), count]))
    .sort(([one], [other]) => one - other);
  let left = Math.ceil(share * buckets.reduce((sum, [, count]) => sum + count, 0));
  for (const [bucket, count] of buckets) {
    left -= count;
    if (left <= 0) return WIDTH ** (bucket + 1) / 1_000;
  }
  return 0;
}

/** The counts of rows together. @param {import("./wrk.mjs").RowResult[]} rows @returns {import("./wrk.mjs").RowResult} */
export function sumOf(rows) {
  const sum = { good: 0, bad: 0, lost: 0, max: 0, hist: /** @type {Record<string, number>} */ ({}) };
  for (const row of rows) {
    for (const name of /** @type {const} */ (["good", "bad", "lost"])) sum[name] += row[name];
    sum.max = Math.max(sum.max, row.max);
    for (const [bucket, count] of Object.entries(row.hist)) sum.hist[bucket] = (sum.hist[bucket] ?? 0) + count;
  }
  return sum;
}

/**
 * What a run, or a row of it, comes to. A request without an answer, and a connection that could not be made, is a failure; one
 * that is under way when the run ends is not counted.
 * @param {{ rows: import("./wrk.mjs").RowResult[], seconds: number, connect?: number }} result
 */
export function figures({ rows, seconds, connect = 0 }) {
  const { good, bad, lost, max, hist } = sumOf(rows);
  const all = good + bad + lost + connect;
  const [p50, p95, p99] = [0.5, 0.95, 0.99].map((share) => percentile(hist, share));
  const perSecond = seconds > 0 ? (good + bad) / seconds : 0;
  return { requests: all, failed: all - good, perSecond, success: all > 0 ? good / all : 0, p50, p95, p99, max: max / 1_000 };
}

/**
 * What is wrong with a run, in words; nothing where it passes.
 * @param {ReturnType<typeof figures>} found
 * @param {{ limits?: typeof LIMITS, rate?: number }} [options] `rate`: what a paced run has asked for
 * @returns {string[]}
 */
export function judgeLoad({ perSecond, p95, success }, { limits = LIMITS, rate = 0 } = {}) {
  const slack = rate > 0 ? PACED_SLACK : 0;
  const wrong = [];
  if (perSecond < limits.perSecond * (1 - slack)) wrong.push(`${Math.floor(perSecond)} requests a second, below ${limits.perSecond}`);
  if (!(p95 > 0 && p95 < limits.p95)) wrong.push(`p95 ${p95.toFixed(1)} ms, not below ${limits.p95} ms`);
  if (!(success > limits.success)) wrong.push(`${(100 * success).toFixed(3)} % as expected, not above ${100 * limits.success} %`);
  return wrong;
}

/**
 * The line that fits best: what grows in a unit of the first number.
 * @param {(readonly [number, number])[]} points
 */
export function slope(points) {
  const mean = (at) => points.reduce((sum, point) => sum + point[at], 0) / points.length;
  const [x, y] = [mean(0), mean(1)];
  const spread = points.reduce((sum, [each]) => sum + (each - x) ** 2, 0);
  return spread > 0 ? points.reduce((sum, [one, other]) => sum + (one - x) * (other - y), 0) / spread : 0;
}

/**
 * How much a line through the samples grows from a time to the last of them.
 * @param {(readonly [number, number])[]} samples seconds and what was measured
 * @param {number} from
 */
export function growth(samples, from) {
  const late = samples.filter(([at]) => at >= from);
  const [first, last] = [late[0]?.[0] ?? 0, late.at(-1)?.[0] ?? 0];
  return slope(late) * (last - first);
}

/** What memory may grow in a soak once it is warm, and what the isolate may hold, in MiB. A leak of 300 bytes a request would be
 * 137 MiB in eight minutes at 1,000 a second. */
export const SOAK = { rss: 64, held: 8, isolate: 128 };

/** Bytes of a stored row, as docs/decisions/0010-what-records-cost.md states them, and how much more is still as stated: pages are
 * filled to different degrees. */
export const STATED = {
  "Records.records": 698,
  "TenantLedger.claims": 213,
  "TenantLedger.payers": 53,
  "TenantLedger.records": 4_400,
};
const STATED_SLACK = 1.25;

/** Fewer new rows say nothing about bytes a row: pages are 4,096 bytes. */
const ROWS_MIN = 1_000;

/** @typedef {Record<string, { rows: number, bytes: number }>} Tables by `class.table` */

/**
 * What has grown: by the class of objects, the most first, and by the table, of those with enough new rows.
 * @param {Tables} before
 * @param {Tables} after
 * @param {number} requests between the two
 */
export function storageGrowth(before, after, requests) {
  const grown = Object.entries(after).map(([name, { rows, bytes }]) => {
    const was = before[name] ?? { rows: 0, bytes: 0 };
    return { name, owner: name.split(".")[0], rows: rows - was.rows, bytes: bytes - was.bytes };
  });
  /** @type {Map<string, { owner: string, rows: number, bytes: number, perRequest: number }>} */
  const owners = new Map();
  for (const { owner, rows, bytes } of grown) {
    const sum = owners.get(owner) ?? { owner, rows: 0, bytes: 0, perRequest: 0 };
    Object.assign(sum, { rows: sum.rows + rows, bytes: sum.bytes + bytes });
    sum.perRequest = requests > 0 ? sum.bytes / requests : 0;
    owners.set(owner, sum);
  }
  const tables = grown
    .filter(({ rows }) => rows >= ROWS_MIN)
    .map(({ name, rows, bytes }) => ({ name, rows, bytesPerRow: bytes / rows, stated: /** @type {number | undefined} */ (STATED[name]) }))
    .sort((one, other) => other.rows - one.rows);
  return { owners: [...owners.values()].sort((one, other) => other.bytes - one.bytes), tables };
}

/**
 * What is wrong with a soak, in words; nothing where it passes.
 * @param {{
 *   success: number, grown: { rss: number, held: number }, held: number, tables: { name: string, bytesPerRow: number, stated?: number }[],
 * }} found sizes in MiB
 */
export function judgeSoak({ success, grown, held, tables }) {
  const wrong = [];
  if (!(success > LIMITS.success)) wrong.push(`${(100 * success).toFixed(3)} % as expected, not above ${100 * LIMITS.success} %`);
  if (!(grown.rss <= SOAK.rss)) wrong.push(`workerd has grown by ${grown.rss.toFixed(1)} MiB, more than ${SOAK.rss}`);
  if (!(grown.held <= SOAK.held)) wrong.push(`the isolate has grown by ${grown.held.toFixed(1)} MiB, more than ${SOAK.held}`);
  if (!(held <= SOAK.isolate)) wrong.push(`the isolate held ${held.toFixed(1)} MiB, more than ${SOAK.isolate}`);
  for (const { name, bytesPerRow, stated } of tables)
    if (stated && bytesPerRow > stated * STATED_SLACK)
      wrong.push(`a row of ${name} takes ${Math.round(bytesPerRow)} bytes, and decision 10 states ${stated}`);
  return wrong;
}
