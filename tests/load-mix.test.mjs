// What `npm run load` sends, how it counts, and what it is judged by.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import {
  LIMITS,
  SOAK,
  STATED,
  figures,
  growth,
  judgeLoad,
  judgeSoak,
  percentile,
  slope,
  storageGrowth,
  sumOf,
} from "../bench/wrk/judge.mjs";
import { LEFT_OUT, RANDOM, ROWS, prepare, requestText, rowsFor } from "../bench/wrk/mix.mjs";
import { failuresOf, rowLines } from "../bench/wrk/report.mjs";
import { deployment } from "../bench/wrk/world.mjs";
import { runWrk, writeRequests } from "../bench/wrk/wrk.mjs";
import { listen } from "../scripts/lib/ports.mjs";

const ROOT = join(import.meta.dirname, "..");

/** Requests that no route takes: they must be refused. */
const NO_ROUTES = ["GET /v1/nowhere", "PUT /v1/verify"];

test("each route of the OpenAPI document is in the mix, or is left out with a reason", () => {
  const { paths } = JSON.parse(readFileSync(join(ROOT, "docs", "reference", "openapi.json"), "utf8"));
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const [sent, left] = [new Set(ROWS.map(({ route }) => route)), Object.keys(LEFT_OUT)];
  assert.deepEqual(
    routes.filter((route) => !sent.has(route) && !left.includes(route)),
    [],
    "give each of these a row in bench/wrk/mix.mjs, or a reason in LEFT_OUT",
  );
  assert.deepEqual(
    left.filter((route) => sent.has(route)),
    [],
    "these are in the mix, and have a reason why not",
  );
  const known = [...routes, ...NO_ROUTES];
  assert.deepEqual(
    [...sent, ...left].filter((route) => !known.includes(route)),
    [],
    "these are no routes",
  );
  assert.ok(Object.values(LEFT_OUT).every((reason) => reason.length > 20));
});

test("the shares add up to a thousand, and most are verifications", () => {
  const sum = (rows) => rows.reduce((all, { share }) => all + share, 0);
  assert.equal(sum(ROWS), 1_000);
  assert.ok(ROWS.every(({ share }) => Number.isInteger(share) && share >= 1));
  const verdicts = ROWS.filter(({ route, status }) => route === "POST /v1/verify" && status === 200);
  assert.ok(sum(verdicts) > 500, `${sum(verdicts)}`);
  assert.ok(verdicts.length >= 5 && verdicts.every(({ holds }) => holds), "a verdict is 200 also where it is wrong");
});

test("a deployment is only read from, with its test key, or must refuse", async () => {
  const key = "x402_test_abc";
  const rows = await prepare(deployment("https://pay.example/base/", key), 100);
  assert.ok(rows.length > 15);
  for (const { requests, status, what, route, once } of rows) {
    assert.ok(requests.length > 0 && !once, route);
    for (const text of requests) {
      assert.ok(status >= 400 || text.startsWith("GET "), `${route}, ${what}`);
      assert.match(text, /^[A-Z]+ \/base\/\S+ HTTP\/1\.1\r\nHost: pay\.example\r\n/);
      assert.doesNotMatch(text, /x402_live|x-admin-key|cookie|undefined/i);
      assert.ok(!text.includes(RANDOM), `${route} makes something new`);
    }
  }
  assert.ok(rows.some(({ requests }) => requests[0].includes(`Authorization: Bearer ${key}\r\n`)));
});

test("the command refuses what it cannot do", async () => {
  const run = (args, env = {}) =>
    new Promise((resolve) => {
      const own = { ...process.env, X402_TEST_KEY: "", ...env };
      execFile(process.execPath, [join(ROOT, "bench", "wrk", "run.mjs"), ...args], { env: own }, (error, stdout, stderr) =>
        resolve([error?.code ?? 0, stderr.split("\n")[0], stdout]),
      );
    });
  const url = "https://pay.example";
  for (const [args, key, problem] of /** @type {[string[], string, RegExp][]} */ ([
    [["--url", url], "", /wants X402_TEST_KEY/],
    [["--url", url], "x402_live_abc", /wants X402_TEST_KEY/],
    [["--url", "http://pay.example"], "x402_test_abc", /is https/],
    [["--url", "pay"], "x402_test_abc", /is no URL/],
    [["--url", url, "--soak"], "x402_test_abc", /takes no --url/],
    [["--seconds", "0", "--url", url], "x402_test_abc", /--seconds/],
    [["--connections", "many", "--url", url], "x402_test_abc", /--connections/],
    [["--fast"], "", /--fast/],
  ])) {
    const [code, said, stdout] = await run(args, { X402_TEST_KEY: key });
    assert.deepEqual([code, stdout], [2, ""], args.join(" "));
    assert.match(said, problem);
  }
});

/** Latencies in milliseconds as mix.lua counts them. */
function counted(...latencies) {
  const hist = {};
  for (const ms of latencies) {
    const bucket = Math.floor(Math.log(ms * 1_000) / Math.log(1.01));
    hist[bucket] = (hist[bucket] ?? 0) + 1;
  }
  return hist;
}

const isNear = (found, wanted, within = 0.011) => assert.ok(found >= wanted && found <= wanted * (1 + within), `${found} for ${wanted}`);

test("percentiles are those of the counts, one per cent too high at most", () => {
  const hundred = counted(...Array.from({ length: 100 }, (_, at) => at + 1));
  for (const [share, ms] of [
    [0.01, 1],
    [0.5, 50],
    [0.95, 95],
    [0.99, 99],
    [1, 100],
  ])
    isNear(percentile(hundred, share), ms);
  isNear(percentile(counted(7), 0.5), 7);
  // The 95th of 20 is the 19th, and of 21 the 20th.
  isNear(percentile(counted(...Array(19).fill(1), 900), 0.95), 1);
  isNear(percentile(counted(...Array(19).fill(1), 900, 900), 0.95), 900);
  assert.equal(percentile({}, 0.95), 0);
});

const row = (more = {}) => ({ good: 0, bad: 0, lost: 0, max: 0, hist: {}, ...more });

test("a wrong answer, none and a connection that is not made are failures", () => {
  const rows = [
    row({ good: 90, max: 4_000, hist: counted(...Array(90).fill(2)) }),
    row({ good: 5, bad: 2, lost: 2, max: 9_000, hist: counted(...Array(7).fill(3)) }),
  ];
  const found = figures({ rows, seconds: 10, connect: 1 });
  assert.deepEqual([found.requests, found.failed, found.success, found.max], [100, 5, 0.95, 9]);
  assert.equal(found.perSecond, 9.7);
  isNear(found.p50, 2);
  isNear(found.p95, 3);
  assert.equal(figures({ rows: [], seconds: 0 }).success, 0);
});

test("a run passes with all of its limits held, and names each that is not", () => {
  const good = { perSecond: LIMITS.perSecond, p95: 499.9, success: 0.9991, requests: 60_000, failed: 54, p50: 1, p99: 600, max: 900 };
  assert.deepEqual([LIMITS.perSecond, LIMITS.p95, LIMITS.success], [1_000, 500, 0.999]);
  assert.deepEqual(judgeLoad(good), []);
  for (const [change, problem] of /** @type {[object, RegExp][]} */ ([
    [{ perSecond: 999.9 }, /^999 requests a second/],
    [{ p95: 500 }, /^p95 500\.0 ms/],
    [{ p95: 0 }, /^p95/],
    [{ success: 0.999 }, /^99\.900 % as expected/],
  ])) {
    const [wrong, ...more] = judgeLoad({ ...good, ...change });
    assert.match(wrong, problem);
    assert.deepEqual(more, []);
  }
  assert.equal(judgeLoad({ ...good, perSecond: 1, p95: 900, success: 0 }).length, 3);
  // Who asks for a thousand a second gets a little less.
  assert.deepEqual(judgeLoad({ ...good, perSecond: 995 }, { rate: 1_000 }), []);
  assert.equal(judgeLoad({ ...good, perSecond: 980 }, { rate: 1_000 }).length, 1);
});

test("growth is that of a line through the late samples", () => {
  assert.equal(
    slope([
      [0, 1],
      [1, 3],
      [2, 5],
    ]),
    2,
  );
  assert.equal(slope([[1, 7]]), 0);
  // It fills up for two minutes, then stays; one sample is off.
  const samples = Array.from({ length: 61 }, (_, at) => /** @type {const} */ ([at * 10, Math.min(at, 12) * 10 + (at === 40 ? 6 : 0)]));
  assert.ok(Math.abs(growth(samples, 120)) < 2);
  assert.ok(growth(samples, 0) > 50);
  const leak = samples.map(([at, mib]) => /** @type {const} */ ([at, mib + at / 6]));
  assert.ok(Math.abs(growth(leak, 120) - 80) < 2);
});

test("a soak passes with flat memory and rows as decision 10 states them, and names what is not so", () => {
  const tables = Object.entries(STATED).map(([name, stated]) => ({ name, bytesPerRow: stated * 1.2, stated }));
  const good = { success: 0.9999, grown: { rss: SOAK.rss, held: SOAK.held }, held: SOAK.isolate, tables };
  assert.deepEqual(judgeSoak(good), []);
  assert.deepEqual(judgeSoak({ ...good, grown: { rss: -50, held: -1 } }), []);
  for (const [change, problem] of /** @type {[object, RegExp][]} */ ([
    [{ success: 0.999 }, /as expected/],
    [{ grown: { rss: SOAK.rss + 1, held: 0 } }, /^workerd has grown/],
    [{ grown: { rss: 0, held: SOAK.held + 1 } }, /^the isolate has grown/],
    [{ grown: { rss: Number.NaN, held: 0 } }, /^workerd/],
    [{ held: SOAK.isolate + 1 }, /^the isolate held/],
    [{ tables: [{ name: "Records.records", bytesPerRow: 900, stated: 698 }] }, /Records\.records takes 900 bytes/],
  ])) {
    const [wrong, ...more] = judgeSoak({ ...good, ...change });
    assert.match(wrong ?? "", problem);
    assert.deepEqual(more, []);
  }
  assert.deepEqual(judgeSoak({ ...good, tables: [{ name: "Meter.spans", bytesPerRow: 90_000 }] }), [], "nothing is stated of it");
});

test("what decision 10 states is what a soak compares with", () => {
  const decision = readFileSync(join(ROOT, "docs", "decisions", "0010-what-records-cost.md"), "utf8");
  assert.match(decision, new RegExp(`${STATED["Records.records"]} in the object`));
  assert.match(decision, new RegExp(`\\(${STATED["TenantLedger.claims"]} and ${STATED["TenantLedger.payers"]} bytes, measured\\)`));
  assert.match(decision, new RegExp(`\\(${STATED["TenantLedger.records"] / 1_000} kB each\\)`));
});

test("storage grows by class and by table", () => {
  const before = { "Records.records": { rows: 100, bytes: 70_000 }, "Records.totals": { rows: 1, bytes: 4_096 } };
  const after = {
    "Records.records": { rows: 2_100, bytes: 1_470_000 },
    "Records.totals": { rows: 3, bytes: 4_096 },
    "TenantLedger.claims": { rows: 1_000, bytes: 213_000 },
  };
  const { owners, tables } = storageGrowth(before, after, 4_000);
  assert.deepEqual(owners, [
    { owner: "Records", rows: 2_002, bytes: 1_400_000, perRequest: 350 },
    { owner: "TenantLedger", rows: 1_000, bytes: 213_000, perRequest: 53.25 },
  ]);
  assert.deepEqual(tables, [
    { name: "Records.records", rows: 2_000, bytesPerRow: 700, stated: 698 },
    { name: "TenantLedger.claims", rows: 1_000, bytesPerRow: 213, stated: 213 },
  ]);
});

test("of a failed answer the codes are shown, and nothing else of its text", () => {
  const world = deployment("https://pay.example", "x402_test_abc");
  const rows = rowsFor(world).map(() => row());
  rows[2].lost = 3;
  const body = '{"error_code":"INTERNAL","key":"x402_live_secret\u001b[31m","invalidReason":"a b","errorReason":"not_now"}';
  const said = failuresOf(
    { rows, failures: [{ row: 1, status: 500, body }], seconds: 1, open: 0, connect: 2, wrk: { requests: 0, timeout: 0 } },
    world,
  );
  assert.equal(said.length, 3);
  assert.match(said[0], /: 500 INTERNAL not_now, wanted 200/);
  assert.match(said[1], /3 requests got no answer/);
  assert.match(said[2], /2 connections/);
  assert.ok(!said.join().includes("secret") && !said.join().includes("\u001b"));
});

/** Runs wrk for two seconds on a server of this process. */
async function against(serve, rows, options = {}) {
  const folder = mkdtempSync(join(tmpdir(), "x402-load-test-"));
  const server = createServer(serve);
  const url = `http://127.0.0.1:${await listen(server)}`;
  const made = rows.map((one) => {
    const { host } = new URL(url);
    const world = { ...deployment(url, ""), host };
    const text = (request) => requestText(request, world);
    return {
      share: 1,
      status: 200,
      route: "",
      what: "",
      isHarmless: true,
      holds: undefined,
      ...one,
      requests: one.requests.map(text),
      once: one.once?.map(text),
    };
  });
  try {
    writeRequests(folder, made);
    return await runWrk({ url, folder, seconds: 2, connections: 4, ...options });
  } finally {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  }
}

const get = (path) => ({ method: "GET", path });

test("wrk sends each row by its share, checks each answer, and counts for each row", async () => {
  const bodies = new Map();
  const names = new Set();
  const once = Array.from({ length: 30 }, (_, at) => get(`/once/${at}`));
  const serve = async (request, response) => {
    const { pathname } = new URL(request.url, "http://x");
    names.add(request.headers.name);
    bodies.set(pathname, Buffer.concat(await request.toArray()).toString());
    if (pathname.startsWith("/once/")) names.add(pathname);
    if (pathname === "/gone") return request.socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, pathname === "/slow" ? 60 : 1));
    return response.writeHead(pathname === "/missing" ? 404 : 200).end(`you asked for ${pathname}`);
  };
  const text = 'quotes " and \\, a \u00e9, and\ttabs';
  const result = await against(
    serve,
    [
      { share: 60, holds: "for /fast", requests: [{ ...get("/fast"), headers: { Name: RANDOM } }] },
      { share: 10, requests: [get("/slow")] },
      { share: 10, status: 404, requests: [get("/missing")] },
      { share: 5, status: 404, requests: [get("/fast")] },
      { share: 5, holds: "for /slow", requests: [get("/fast")] },
      { share: 5, requests: [get("/gone")] },
      { share: 5, requests: [get("/fast")], once },
      { share: 5, requests: [{ method: "POST", path: "/body", body: text }] },
    ],
    { isSweep: true },
  );
  const [fast, slow, missing, wrongStatus, wrongBody, gone, single, posted] = result.rows;
  assert.ok(fast.good > 100 && fast.bad + fast.lost === 0, JSON.stringify(fast));
  for (const one of [slow, missing, single, posted]) assert.deepEqual([one.good > 0, one.bad, one.lost], [true, 0, 0]);
  for (const one of [wrongStatus, wrongBody]) assert.deepEqual([one.good, one.bad > 0, one.lost], [0, true, 0]);
  assert.deepEqual([gone.good, gone.bad, gone.lost > 0], [0, 0, true]);
  assert.ok(fast.good > slow.good + missing.good, "by their shares");
  assert.equal(bodies.get("/body"), text);
  // All of them are sent, or as many as came to their turn; none twice.
  const sent = [...names].filter((name) => name?.startsWith("/once/"));
  assert.equal(sent.length, Math.min(single.good, once.length));
  const random = [...names].filter((name) => /^[0-9a-f]{24}$/.test(name ?? ""));
  assert.ok(random.length >= fast.good, "each with digits of its own");
  isNear(percentile(slow.hist, 0.01), 59, 10);
  assert.ok(percentile(fast.hist, 0.5) < percentile(slow.hist, 0.5));
  const { good, bad } = sumOf(result.rows);
  assert.equal(good + bad, result.wrk.requests, "as many answers as wrk has counted");
  assert.ok(result.seconds > 1 && result.seconds < 10 && result.connect === 0);
  assert.ok(result.failures.length > 0 && result.failures.every(({ row, body }) => [4, 5].includes(row) && body === "you asked for /fast"));
});

test("of a paced run each request counts from when it is due", async () => {
  let stalls = Date.now() + 1_000_000;
  let first = 0;
  const serve = async (_, response) => {
    if (!first) {
      first = Date.now();
      stalls = first + 500;
    }
    // It stands still for half a second, once.
    const wait = Date.now() >= stalls && Date.now() < stalls + 500 ? stalls + 500 - Date.now() : 0;
    if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
    response.end("well");
  };
  const rows = [{ requests: [get("/")] }];
  const paced = figures(await against(serve, rows, { rate: 100 }));
  assert.ok(paced.requests > 120 && paced.requests < 260, `${paced.requests} of 200`);
  // A quarter of the time nothing is answered: who is asked no faster than he answers would show four slow requests.
  assert.ok(paced.p95 > 200, `${paced.p95}`);
  assert.equal(paced.success, 1);
});

test("the table of a run has a line for each row", () => {
  const world = deployment("https://pay.example", "x402_test_abc");
  const rows = rowsFor(world).map(() => row({ good: 3, max: 9_000, hist: counted(1, 2, 9) }));
  const [, ...lines] = rowLines({ rows, failures: [], seconds: 1, open: 0, connect: 0, wrk: { requests: 0, timeout: 0 } }, world);
  assert.equal(lines.length, rows.length);
  const total = lines.reduce((sum, line) => sum + Number(line.match(/^ *([\d.]+) %/)?.[1]), 0);
  assert.ok(Math.abs(total - 100) < 2, `${total}`);
  assert.ok(
    lines.every((line) => / 3 +0 +2\.0 +9\.[01] +9\.[01] {2}[A-Z]+ \/\S+/.test(line)),
    lines[0],
  );
});
