// npm run bench [-- --seconds N]: ours against bare routes of the same Worker, in
// one run, against workerd itself with its state on tmpfs. Ratios hold; absolute
// figures move from machine to machine.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setUp, underNewNode } from "../scripts/lib/tools.mjs";

await setUp();
if (!(await underNewNode(import.meta.url))) await main();

async function main() {
  const { build, size } = await import("../scripts/lib/build.mjs");
  const { freePort } = await import("../scripts/lib/ports.mjs");
  const { load } = await import("./load.mjs");
  const memory = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
  process.env.TMPDIR = mkdtempSync(join(memory, "x402-bench-"));
  const { startWorker, until } = await import("../tests/workerd/worker.mjs");
  const asked = process.argv.indexOf("--seconds");
  const seconds = asked > 0 ? Number(process.argv[asked + 1]) : 60;
  const short = Math.min(10, seconds);
  await build();
  console.log(size());
  await build({ bench: true });

  const ports = [await freePort(0), await freePort(0)];
  const stub = (port, depth) => spawn(process.execPath, [join(import.meta.dirname, "stub.mjs"), String(port), depth], { stdio: "ignore" });
  const stubs = [stub(ports[0], "final"), stub(ports[1], "recent")];
  const worker = await startWorker({
    build: "build-bench",
    direct: true,
    vars: { RPC_BASE: `http://127.0.0.1:${ports[0]}`, RPC_POLYGON: `http://127.0.0.1:${ports[1]}` },
  });
  try {
    const { hostname: host, port } = new URL(worker.direct);
    const tenants = [];
    for (let at = 0; at < 50; at++) {
      const to = `0x${(at + 1).toString(16).padStart(2, "0").repeat(20)}`;
      const limits = { per_minute: 10_000_000, per_hour: 100_000_000 };
      tenants.push({ ...(await worker.tenant({ recipients: { base: to }, limits })), to });
    }
    const get = (path) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
    const verify = (tenant, hash, more = "") => {
      const body = `{"tx_hash":"${hash}","chain":"base","expected_amount":"1.50","recipient":"${tenant.to}"${more}}`;
      return `POST /v1/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tenant.live}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    };
    const hashFor = (tenant, head) => `0x${head}${tenant.to.slice(2)}`;
    const used = async (list) => {
      let sum = 0;
      for (const tenant of list) sum += (await worker.call("GET", "/v1/usage", { key: tenant.live })).body.verifications_used;
      return sum;
    };
    const measure = async (name, next, { time = short, list = tenants } = {}) => {
      const before = await used(list);
      const result = await load({ host, port, connections: 64, seconds: time, next });
      const counted = (await used(list)) - before;
      const round = (number) => Math.round(number * 10) / 10;
      console.log(`${name}: ${Math.round(result.perSecond)}/s, p50 ${round(result.p50)} ms, p95 ${round(result.p95)} ms, p99 ${round(result.p99)} ms, ${time} s, ${JSON.stringify(result.statuses)}, lost ${result.lost}, counted ${counted}`);
      return { ...result, counted };
    };
    const ratio = (name, ours, bare, least) =>
      console.log(`  ${name}: ${(100 * ours.perSecond / bare.perSecond).toFixed(0)} % of bare (at least ${least} % wanted)`);

    // Traces that are kept: each is asked once, without a claim, before the run.
    const heads = Array.from({ length: 300 }, () => randomBytes(12).toString("hex"));
    const warm = tenants.flatMap((tenant) => heads.map((head) => [tenant, hashFor(tenant, head)]));
    console.log(`keeping ${warm.length} traces …`);
    await load({ host, port, connections: 64, seconds: 120, next: (n) => warm[n] && verify(...warm[n], ',"claim":false') });

    await load({ host, port, connections: 64, seconds: 2, next: (n) => get(`/bench/row/${n % 50}`) });
    const row = await measure("bare: one row in an object", (n) => get(`/bench/row/${n % 50}`));
    const claims = warm.map(([tenant, hash]) => [tenant, hash]);
    const byTenant = (n) => claims[(n % 50) * heads.length + (Math.floor(n / 50) % heads.length)];
    const first = await measure("ours: kept trace, key, limits, quota, claim, record", (n) => (n < claims.length ? verify(...byTenant(n), `,"reference":"r${n}"`) : undefined));
    ratio("the whole path with a kept trace", first, row, 50);
    console.log(`  ${first.good} answered, ${first.counted} counted`);
    const long = await measure("ours: kept trace, records for a minute", (n) => verify(...byTenant(n), `,"claim":false,"reference":"l${n}"`), { time: seconds });
    console.log(`  ${long.good} answered, ${long.counted} counted, ${long.lost} lost`);
    const lone = [tenants[0]];
    await measure("ours: one tenant alone", (n) => verify(tenants[0], hashFor(tenants[0], heads[n % heads.length]), ',"claim":false'), { list: lone });

    const fetching = await measure("bare: the same fetches and one row", (n) => get(`/bench/fetch/${n % 50}`));
    const fresh = await measure("ours: the chain asked", (n) => {
      const tenant = tenants[n % 50];
      return verify(tenant, hashFor(tenant, randomBytes(12).toString("hex")), `,"reference":"f${n}"`);
    });
    ratio("the whole path with the chain asked", fresh, fetching, 70);
    await until(async () => true, "nothing");
  } finally {
    for (const child of stubs) child.kill("SIGKILL");
    await worker.stop();
    rmSync(process.env.TMPDIR, { recursive: true, force: true });
    process.exit(0);
  }
}
