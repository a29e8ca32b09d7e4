// What the README tells a newcomer to type: the request is made as it stands,
// and every command exists.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { startMock } from "./mock-rpc.mjs";
import { ROOT, startWorker } from "./worker.mjs";

const README = readFileSync(join(ROOT, "README.md"), "utf8");
const BLOCKS = [...README.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(([, text]) => text);
const SCRIPTS = Object.keys(JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).scripts);
let chain, worker;

before(async () => {
  chain = await startMock();
  worker = await startWorker({ vars: { RPC_BASE: chain.url } });
});
after(async () => {
  await worker?.stop();
  chain?.stop();
});

test("the request of the README verifies a payment", async () => {
  const to = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
  const tenant = await worker.tenant({ recipients: { base: to } });
  const hash = chain.addTransfer({ from: "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc", to, amount: 1_500000, block: 995 });
  const curls = BLOCKS.filter((block) => block.startsWith("curl"));
  assert.equal(curls.length, 1);
  const command = curls[0].replace("https://…", worker.url).replace("x402_live_…", tenant.live).replace("0x…", hash);
  assert.ok(!command.includes("…"), command);
  // The chain lives in this process, so it must not wait.
  const { stdout } = await promisify(execFile)("sh", ["-c", command], { timeout: 20_000 });
  const answer = JSON.parse(stdout);
  assert.deepEqual([answer.success, answer.amount_usdc, answer.reference], [true, "1.500000", "order-17"]);
});

test("every npm command of the README exists, and it names every script", () => {
  const named = new Set([...README.matchAll(/npm (?:run )?([a-z:]+)/g)].map(([, name]) => name).filter((name) => name !== "and"));
  for (const name of named) assert.ok(SCRIPTS.includes(name), `npm run ${name}`);
  for (const name of SCRIPTS) assert.ok(named.has(name), `the README does not name npm run ${name}`);
});
