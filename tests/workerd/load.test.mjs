// `npm run load` for seconds: each row of the mix against the Worker, and what a soak measures.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ROWS, prepare } from "../../bench/wrk/mix.mjs";
import { failuresOf } from "../../bench/wrk/report.mjs";
import { soak } from "../../bench/wrk/soak.mjs";
import { startLocal } from "../../bench/wrk/world.mjs";
import { runWrk, writeRequests } from "../../bench/wrk/wrk.mjs";
import { heldBytes, storedBytes, storedTables } from "../../bench/workerd.mjs";
import { ROOT } from "./worker.mjs";

/** @type {Awaited<ReturnType<typeof startLocal>>} */
let local;
const folder = mkdtempSync(join(tmpdir(), "x402-load-test-"));
before(async () => (local = await startLocal({ tenants: 2, kept: 2, inspect: true })));
after(async () => {
  await local?.stop();
  rmSync(folder, { recursive: true });
});

test("each row of the mix is answered as it expects", async () => {
  const { world, url, worker } = local;
  const before = await storedTables(worker.state);
  const counts = ROWS.map(() => 0);
  // A busy machine may not come to the last row in one run.
  for (let run = 0; run < 10 && counts.includes(0); run++) {
    writeRequests(folder, await prepare(world, 1_000));
    const result = await runWrk({ url, folder, seconds: 2, connections: 8, isSweep: true });
    assert.deepEqual(failuresOf(result, world), []);
    for (const [at, { good }] of result.rows.entries()) counts[at] += good;
  }
  assert.deepEqual(
    ROWS.filter((_, at) => counts[at] === 0).map(({ route, what }) => `${route}: ${what}`),
    [],
    "these were never sent",
  );
  const grown = async (table) => ((await storedTables(worker.state))[table]?.rows ?? 0) - (before[table]?.rows ?? 0);
  const sum = (wanted) => ROWS.reduce((all, { what }, at) => all + (wanted.includes(what) ? counts[at] : 0), 0);
  // What is under way when wrk ends is carried out too.
  const claims = await grown("TenantLedger.claims");
  const claimed = sum(["a new payment", "new, with an Idempotency-Key"]);
  assert.ok(claims >= claimed && claims <= claimed + 80, `${claims} claims of ${claimed} new payments`);
  const settled = sum(["a payment, once"]);
  const settlements = await grown("TenantLedger.settlements");
  assert.ok(settlements >= settled && settlements <= settled + 80, `${settlements} settlements of ${settled}`);
});

test("the isolate's memory and the objects' storage are measured while it runs", async () => {
  const { v8, wasm } = await heldBytes(local.worker);
  assert.ok(wasm >= 1_000_000 && wasm % 65_536 === 0 && wasm < 128 * 2 ** 20, `${wasm} bytes of WebAssembly`);
  assert.ok(v8 >= 500_000 && v8 < 128 * 2 ** 20, `${v8} bytes in V8`);
  const bytes = storedBytes(local.worker.state);
  for (const name of ["TenantLedger", "Records", "Settler", "Meter", "D1"]) assert.ok(bytes[name] > 4_096, `${name}: ${bytes[name]}`);
});

test("a soak prints a line a minute, and what grew by class of objects", async () => {
  const { worker, world, url } = local;
  const lines = [];
  const say = (line) => lines.push(line);
  const wrong = await soak({ worker, world, url, folder, minutes: 2, seconds: 1, connections: 4, rate: 40, say });
  // In two seconds memory is not flat.
  assert.deepEqual(
    wrong.filter((one) => !/^(workerd|the isolate) has grown/.test(one)),
    [],
    lines.join("\n"),
  );
  assert.equal(
    lines.filter((line) => /^ +[12] +\d+ +[\d.]+ +100\.000 % +[\d.]+ +[\d.]+ +[\d.]+ {2}.*TenantLedger [\d.]+/.test(line)).length,
    2,
  );
  for (const owner of ["TenantLedger", "Records"])
    assert.ok(
      lines.some((line) => line.startsWith(`  ${owner} `)),
      lines.join("\n"),
    );
  assert.ok(lines.some((line) => line.includes("workerd ") && line.includes("the isolate ")));
});

test("a deployment is loaded with a test key, which changes nothing there", async () => {
  const { worker, world, url } = local;
  const key = world.tenants[0].test;
  // What the tests before have recorded is shipped meanwhile; nothing new comes to it.
  const made = async () => {
    const tables = await storedTables(worker.state);
    return ["claims", "payers", "payments", "settlements", "log_claims"].map((name) => tables[`TenantLedger.${name}`].rows);
  };
  const before = [await made(), (await worker.call("GET", "/v1/usage", { key })).body.verifications_used];
  const args = [join(ROOT, "bench", "wrk", "run.mjs"), "--url", url, "--seconds", "1", "--connections", "4"];
  const [code, stdout] = await new Promise((resolve) => {
    execFile(process.execPath, args, { env: { ...process.env, X402_TEST_KEY: key } }, (error, out, err) =>
      resolve([error?.code ?? 0, out + err]),
    );
  });
  assert.match(
    stdout,
    /^ramp-up, 1 connections .* 100\.000 %\nramp-up, 2 connections .* 100\.000 %\n1 s, 4 connections .* 100\.000 %\n/m,
    stdout,
  );
  // How fast this machine is now is for the benchmark to say.
  assert.match(stdout, code ? /\nFAIL: (\d+ requests a second|p95)/ : /\nPASS\n/);
  assert.ok([0, 1].includes(code) && !stdout.includes(key) && !stdout.includes("failed:"), stdout);
  assert.deepEqual([await made(), (await worker.call("GET", "/v1/usage", { key })).body.verifications_used], before);
});
