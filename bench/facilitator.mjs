// npm run bench:facilitator [-- --against CHECKOUT]: /facilitator/verify of ours and of
// the reference TypeScript facilitator, all against one anvil in one run; then
// settlements. With another checkout of this repository that one takes its turns too.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT, peers, setUp, underNewNode } from "../scripts/lib/tools.mjs";

const CONNECTIONS = 32;
const PAYMENTS = 300;
const ONCE = 4_000;
/** Payers of the settlements: a payer's order of the signers is its own, and all of them shall have work. */
const BUYERS = 32;

await setUp();
await peers();
if (!(await underNewNode(import.meta.url))) await main();

async function main() {
  const { freePort } = await import("../scripts/lib/ports.mjs");
  const { generatePrivateKey, privateKeyToAddress } = await import("viem/accounts");
  const { KEYS, TOKEN, randomAccount, startEvm } = await import("../scripts/lib/evm.mjs");
  const { load } = await import("./load.mjs");
  const { checkouts, partsOf, percent, ratio, takeTurns } = await import("./turns.mjs");
  process.env.TMPDIR = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "x402-bench-"));
  const { sign } = await import("../tests/workerd/payment.mjs");
  const sides = checkouts(ROOT);
  const evm = await startEvm();
  const port = await freePort(0);
  const reference = spawn(
    process.execPath,
    [join(import.meta.dirname, "..", "tests", "peers", "reference.mjs"), String(port), evm.url, "31337", KEYS[KEYS.length - 1]],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  try {
    await new Promise((resolve) => reference.stdout.once("data", resolve));
    const to = randomAccount().address;
    const limits = { per_minute: 10_000_000, per_hour: 100_000_000 };
    const buyer = randomAccount();
    const buyers = Array.from({ length: BUYERS }, () => randomAccount());
    for (const { address } of [buyer, ...buyers]) await evm.mint(address, 1_000_000_000n);
    const payments = async (count, from = [buyer]) => {
      const all = [];
      for (let at = 0; at < count; at++) all.push(await sign({ buyer: from[at % from.length], to, token: TOKEN, chainId: 31337 }));
      return all;
    };
    const bodies = (await payments(PAYMENTS)).map((one) => JSON.stringify(one));
    const post = (path, body, key = "") =>
      `POST ${path} HTTP/1.1\r\nHost: x\r\n${key && `Authorization: Bearer ${key}\r\n`}Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
    for (const [at, side] of sides.entries()) {
      const { build, startWorker } = await partsOf(side);
      await build();
      // Each has signers of its own: two services cannot share one key's nonces.
      side.start = (...keys) => startWorker({ direct: true, vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: keys.join() } });
      side.worker = await side.start(KEYS.at(-2 - at));
      const { hostname: host, port } = new URL(side.worker.direct);
      const { test: key } = await side.worker.tenant({ recipients: { "local-evm": to }, limits });
      Object.assign(side, { host, port, key });
      const first = await side.worker.call("POST", "/facilitator/verify", { key, body: JSON.parse(bodies[0]) });
      if (!first.body.isValid) throw new Error(JSON.stringify(first.body));
    }
    const verifiers = sides.map(({ name, host, port, key }) => ({
      name: `verify, ${name}`,
      host,
      port,
      next: (n) => post("/facilitator/verify", bodies[n % PAYMENTS], key),
    }));
    verifiers.push({ name: "verify, the reference", host: "127.0.0.1", port, next: (n) => post("/verify", bodies[n % PAYMENTS]) });
    for (const { host, port, next } of verifiers) await load({ host, port, connections: CONNECTIONS, seconds: 3, next });
    const results = await takeTurns(verifiers, { seconds: 3, connections: CONNECTIONS });
    const theirs = results.at(-1);
    for (const [at, { name }] of sides.entries()) {
      console.log(
        `  ${name}: ${ratio(results[at], theirs).toFixed(1)} times its throughput (at least 4 wanted), p95 ${percent(ratio(results[at], theirs, "p95s"))} of its (at most 50 wanted)`,
      );
    }
    const once = (await payments(ONCE)).map((one) => JSON.stringify(one));
    const fresh = sides.map(({ name, host, port, key }) => ({
      name: `verify, ${name}, no payment twice`,
      host,
      port,
      next: (n) => once[n] && post("/facilitator/verify", once[n], key),
    }));
    const unique = await takeTurns(fresh, { rounds: 4, seconds: 1.5, connections: CONNECTIONS });
    if (sides.length > 1) {
      console.log(`  verify: ours is ${percent(ratio(results[0], results[1]))} of the other checkout`);
      console.log(`  no payment twice: ours is ${percent(ratio(unique[0], unique[1]))} of the other checkout`);
    }

    await evm.rpc("evm_setAutomine", [false]);
    await evm.rpc("evm_setIntervalMining", [1]);
    const settle = async (name, url, key) => {
      const all = await payments(200, buyers);
      const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
      const began = performance.now();
      let good = 0;
      const one = async () => {
        for (let body = all.pop(); body; body = all.pop()) {
          const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
          if ((await response.json()).success) good++;
        }
      };
      await Promise.all(Array.from({ length: 16 }, one));
      console.log(
        `${name}: ${good} of 200 settled in ${((performance.now() - began) / 1000).toFixed(1)} s, 16 at once, blocks of one second`,
      );
    };
    await settle("settle, the reference", `http://127.0.0.1:${port}/settle`);
    for (const { name, worker, key } of sides) await settle(`settle, ${name}`, new URL("/facilitator/settle", worker.direct).href, key);
    for (const { name, start } of sides) {
      const signers = Array.from({ length: 4 }, () => generatePrivateKey());
      for (const key of signers) await evm.rpc("anvil_setBalance", [privateKeyToAddress(key), "0x56bc75e2d63100000"]);
      const many = await start(...signers);
      const { test: key } = await many.tenant({ recipients: { "local-evm": to }, limits });
      await settle(`settle, ${name} with 4 signers`, new URL("/facilitator/settle", many.direct).href, key);
      const sent = signers.map((key) => evm.rpc("eth_getTransactionCount", [privateKeyToAddress(key), "latest"]));
      console.log(`  transactions by signer: ${(await Promise.all(sent)).map(Number).join(", ")}`);
      await many.stop();
    }
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  } finally {
    reference.kill("SIGKILL");
    for (const { worker } of sides) await worker?.stop();
    evm.stop();
    rmSync(process.env.TMPDIR, { recursive: true, force: true });
    process.exit();
  }
}
