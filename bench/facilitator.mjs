// npm run bench:facilitator: /facilitator/verify of ours and of the reference
// TypeScript facilitator, both against one anvil in one run; then settlements.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { peers, setUp, underNewNode } from "../scripts/lib/tools.mjs";

const CONNECTIONS = 32;
// The machine's own speed drifts: the two take turns, and each is the median of its slices.
const SLICES = 5;
const SECONDS = 3;

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

await setUp();
await peers();
if (!(await underNewNode(import.meta.url))) await main();

async function main() {
  const { build } = await import("../scripts/lib/build.mjs");
  const { freePort } = await import("../scripts/lib/ports.mjs");
  const { KEYS, TOKEN, randomAccount, startEvm } = await import("../scripts/lib/evm.mjs");
  const { load } = await import("./load.mjs");
  process.env.TMPDIR = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "x402-bench-"));
  const { startWorker } = await import("../tests/workerd/worker.mjs");
  const { sign } = await import("../tests/workerd/payment.mjs");
  await build();
  const evm = await startEvm();
  const worker = await startWorker({ direct: true, vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1) } });
  const port = await freePort(0);
  const reference = spawn(process.execPath, [join(import.meta.dirname, "..", "tests", "peers", "reference.mjs"), String(port), evm.url, "31337", KEYS.at(-2)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await new Promise((resolve) => reference.stdout.once("data", resolve));
    const to = randomAccount().address;
    const limits = { per_minute: 10_000_000, per_hour: 100_000_000 };
    const tenant = await worker.tenant({ recipients: { "local-evm": to }, limits });
    const buyer = randomAccount();
    await evm.mint(buyer.address, 1_000_000_000n);
    const bodies = [];
    for (let at = 0; at < 300; at++) bodies.push(JSON.stringify(await sign({ buyer, to, token: TOKEN, chainId: 31337 })));
    const post = (path, body, key = "") =>
      `POST ${path} HTTP/1.1\r\nHost: x\r\n${key && `Authorization: Bearer ${key}\r\n`}Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
    const { hostname: host, port: ours } = new URL(worker.direct);
    const sides = [
      { name: "the reference", port, next: (n) => post("/verify", bodies[n % bodies.length]) },
      { name: "ours", port: ours, next: (n) => post("/facilitator/verify", bodies[n % bodies.length], tenant.test) },
    ];
    const slice = ({ port, next }, seconds) => load({ host, port, connections: CONNECTIONS, seconds, next });
    const first = await worker.call("POST", "/facilitator/verify", { key: tenant.test, body: JSON.parse(bodies[0]) });
    if (!first.body.isValid) throw new Error(JSON.stringify(first.body));
    for (const side of sides) await slice(side, SECONDS);
    const slices = sides.map(() => []);
    for (let at = 0; at < SLICES; at++) for (const [index, side] of sides.entries()) slices[index].push(await slice(side, SECONDS));
    const [theirs, mine] = slices.map((all, index) => {
      const told = { perSecond: median(all.map((one) => one.perSecond)), p50: median(all.map((one) => one.p50)), p95: median(all.map((one) => one.p95)) };
      const statuses = all.map((one) => JSON.stringify(one.statuses)).join(" ");
      console.log(`verify, ${sides[index].name}: ${Math.round(told.perSecond)}/s, p50 ${told.p50.toFixed(1)} ms, p95 ${told.p95.toFixed(1)} ms, ${statuses}, lost ${all.reduce((sum, one) => sum + one.lost, 0)}`);
      return told;
    });
    const fresh = [];
    for (let at = 0; at < 4_000; at++) fresh.push(JSON.stringify(await sign({ buyer, to, token: TOKEN, chainId: 31337 })));
    const once = await load({ host, port: ours, connections: CONNECTIONS, seconds: 60, next: (n) => fresh[n] && post("/facilitator/verify", fresh[n], tenant.test) });
    console.log(`verify, ours, no payment twice: ${Math.round(once.perSecond)}/s, p50 ${once.p50.toFixed(1)} ms, p95 ${once.p95.toFixed(1)} ms, ${JSON.stringify(once.statuses)}`);
    console.log(`  ${(mine.perSecond / theirs.perSecond).toFixed(1)} times its throughput (at least 4 wanted), p95 ${(100 * mine.p95 / theirs.p95).toFixed(0)} % of its (at most 50 wanted)`);

    await evm.rpc("evm_setAutomine", [false]);
    await evm.rpc("evm_setIntervalMining", [1]);
    const settle = async (name, url, key) => {
      const all = [];
      for (let at = 0; at < 200; at++) all.push(await sign({ buyer, to, token: TOKEN, chainId: 31337 }));
      const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
      const began = performance.now();
      let good = 0;
      const one = async () => {
        for (let body = all.pop(); body; body = all.pop()) {
          const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
          if ((await answer.json()).success) good++;
        }
      };
      await Promise.all(Array.from({ length: 16 }, one));
      console.log(`${name}: ${good} of 200 settled in ${((performance.now() - began) / 1000).toFixed(1)} s, 16 at once, blocks of one second`);
    };
    await settle("settle, the reference", `http://127.0.0.1:${port}/settle`);
    await settle("settle, ours", new URL("/facilitator/settle", worker.direct).href, tenant.test);
    const many = await startWorker({ direct: true, vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.slice(-7, -3).join() } });
    const own = await many.tenant({ recipients: { "local-evm": to }, limits });
    await settle("settle, ours with 4 signers", new URL("/facilitator/settle", many.direct).href, own.test);
    await many.stop();
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  } finally {
    reference.kill("SIGKILL");
    await worker.stop();
    evm.stop();
    rmSync(process.env.TMPDIR, { recursive: true, force: true });
    process.exit();
  }
}
