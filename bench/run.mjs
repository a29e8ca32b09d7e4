// npm run bench [-- --seconds N] [-- --against CHECKOUT]: ours against bare routes of
// the same Worker, in one run, against workerd itself with its state on tmpfs. Ratios
// hold; absolute figures move from machine to machine. With another checkout of this
// repository (set up, with its own node_modules) both take turns.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT, setUp, underNewNode } from "../scripts/lib/tools.mjs";

/** The recipients' tenants of each checkout, and the traces kept for each tenant. */
const TENANTS = 50;
const TRACES = 300;

await setUp();
if (!(await underNewNode(import.meta.url))) await main();

async function main() {
  const { freePort } = await import("../scripts/lib/ports.mjs");
  const { load } = await import("./load.mjs");
  const { checkouts, option, partsOf, percent, ratio, takeTurns } = await import("./turns.mjs");
  process.env.TMPDIR = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "x402-bench-"));
  const seconds = Number(option("seconds", 60));
  const sides = checkouts(ROOT);
  const children = [];
  const stub = async (depth) => {
    const port = await freePort(0);
    children.push(spawn(process.execPath, [join(import.meta.dirname, "stub.mjs"), String(port), depth], { stdio: "ignore" }));
    return `http://127.0.0.1:${port}`;
  };
  const vars = { RPC_BASE: await stub("final"), RPC_POLYGON: await stub("recent") };
  try {
    for (const side of sides) {
      const { build, size, startWorker } = await partsOf(side);
      await build();
      console.log(`${side.name}: ${size()}`);
      await build({ bench: true });
      side.worker = await startWorker({ build: "build-bench", direct: true, vars });
      const { hostname: host, port } = new URL(side.worker.direct);
      Object.assign(side, { host, port, tenants: [] });
      for (let at = 0; at < TENANTS; at++) {
        const to = `0x${(at + 1).toString(16).padStart(2, "0").repeat(20)}`;
        const limits = { per_minute: 10_000_000, per_hour: 100_000_000 };
        side.tenants.push({ ...(await side.worker.tenant({ recipients: { base: to }, limits })), to });
      }
    }
    const get = (path) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
    const verify = (tenant, hash, more = "") => {
      const body = `{"tx_hash":"${hash}","chain":"base","expected_amount":"1.50","recipient":"${tenant.to}"${more}}`;
      return `POST /v1/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tenant.live}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    };
    const used = async ({ worker, tenants }) => {
      let sum = 0;
      for (const tenant of tenants) sum += (await worker.call("GET", "/v1/usage", { key: tenant.live })).body.verifications_used;
      return sum;
    };
    const heads = Array.from({ length: TRACES }, () => randomBytes(12).toString("hex"));
    const hash = (tenant, head) => `0x${head}${tenant.to.slice(2)}`;
    /** A request for the n-th kept trace: the tenants in turn. */
    const kept = (side, n, more) => {
      const tenant = side.tenants[n % TENANTS];
      const head = heads[Math.floor(n / TENANTS)];
      return head && verify(tenant, hash(tenant, head), more);
    };
    const again = (side, n, more) => kept(side, n % (TENANTS * TRACES), more);

    /**
     * Measures `name` for every checkout, beside `bare` where there is one, and compares.
     * @param {string} name
     * @param {(side: any, n: number) => string | undefined} next
     * @param {{
     *   bare?: (n: number) => string, least?: number, leastPerSecond?: number, mostP99?: number, rounds?: number,
     *   seconds?: number,
     * }} [options] `least`: the share of `bare` that is wanted, in per cent; `leastPerSecond`, and `mostP99` in
     *   milliseconds, are wanted where there is no `bare`
     */
    const measure = async (name, next, { bare, least, leastPerSecond, mostP99, ...turns } = {}) => {
      const before = [];
      for (const side of sides) before.push(await used(side));
      const contestants = sides.flatMap((side) => {
        const { host, port } = side;
        const own = { name: `${side.name}: ${name}`, host, port, next: (n) => next(side, n) };
        return bare ? [{ name: `${side.name}: bare`, host, port, next: bare }, own] : [own];
      });
      const results = await takeTurns(contestants, turns);
      const step = bare ? 2 : 1;
      for (const [at, side] of sides.entries()) {
        const own = results[at * step + step - 1];
        console.log(`  ${side.name}: ${own.good} answered, ${(await used(side)) - before[at]} counted, ${own.lost} lost`);
        if (bare) console.log(`  ${side.name}: ${percent(ratio(own, results[at * step]))} of bare (at least ${least} % wanted)`);
        if (leastPerSecond) {
          const [rate, p99] = [Math.round(own.perSecond), own.p99.toFixed(0)];
          console.log(`  ${side.name}: ${rate}/s (at least ${leastPerSecond} wanted), p99 ${p99} ms (at most ${mostP99} wanted)`);
        }
      }
      if (sides.length > 1) console.log(`  ours is ${percent(ratio(results[step - 1], results[2 * step - 1]))} of the other checkout`);
    };

    for (const side of sides) {
      console.log(`${side.name}: keeping ${TENANTS * TRACES} traces …`);
      const { host, port } = side;
      await load({ host, port, connections: 64, seconds: 120, next: (n) => kept(side, n, ',"claim":false') });
      await load({ host, port, connections: 64, seconds: 2, next: (n) => get(`/bench/row/${n % TENANTS}`) });
    }
    const row = (n) => get(`/bench/row/${n % TENANTS}`);
    const claimed = (side, n) => kept(side, n, `,"reference":"r${n}"`);
    await measure("kept trace, key, limits, quota, claim, record", claimed, { bare: row, least: 65 });
    const lasting = (side, n) => again(side, n, `,"claim":false,"reference":"l${n}"`);
    await measure("kept trace, records for a while", lasting, { rounds: 1, seconds });
    const alone = ({ tenants: [tenant] }, n) => verify(tenant, hash(tenant, heads[n % TRACES]), ',"claim":false');
    // A minute: the ledger ships what it records meanwhile, and the other ledgers what they recorded in the minute before.
    await measure("one tenant alone", alone, { rounds: 1, seconds, leastPerSecond: 600, mostP99: 400 });
    const fetches = (n) => get(`/bench/fetch/${n % TENANTS}`);
    const fresh = ({ tenants }, n) => {
      const tenant = tenants[n % TENANTS];
      return verify(tenant, hash(tenant, randomBytes(12).toString("hex")), `,"reference":"f${n}"`);
    };
    await measure("the chain asked", fresh, { bare: fetches, least: 70 });
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  } finally {
    for (const child of children) child.kill("SIGKILL");
    for (const { worker } of sides) await worker?.stop();
    rmSync(process.env.TMPDIR, { recursive: true, force: true });
    process.exit();
  }
}
