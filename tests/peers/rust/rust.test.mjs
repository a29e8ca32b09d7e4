// x402-axum and x402-reqwest against our facilitator, on a chain that looks like Base
// Sepolia. Not part of `npm test`: the crates take minutes to build (`npm test peers-rust`).
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { KEYS, randomAccount, startEvm } from "../../../scripts/lib/evm.mjs";
import { startWorker } from "../../workerd/worker.mjs";

const PROGRAM = join(import.meta.dirname, "target", "debug", "x402-edge-peers-rust");
const seller = randomAccount().address;
let evm, worker, facilitator;

before(async () => {
  evm = await startEvm({ chainId: 84532, token: "0x036CbD53842c5426634e7929541eC2318f3dCF7e" });
  worker = await startWorker({ vars: { RPC_BASE_SEPOLIA: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1) } });
  const tenant = await worker.tenant({ recipients: { "base-sepolia": seller } });
  facilitator = `${worker.url}/facilitator/k/${await worker.urlKey(tenant, "test")}`;
});
after(async () => {
  await worker?.stop();
  evm?.stop();
});

for (const timing of ["after", "before"]) {
  test(`x402-axum that settles ${timing} the page sells to x402-reqwest, once`, async () => {
    const shop = spawn(PROGRAM, ["shop", facilitator, seller, timing], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      const port = await new Promise((resolve, reject) => {
        shop.stdout.once("data", (line) => resolve(Number.parseInt(line, 10)));
        shop.once("exit", (code) => reject(new Error(`the shop ended with ${code}`)));
      });
      const key = generatePrivateKey();
      await evm.mint(privateKeyToAccount(key).address, 1_000_000n);
      const had = await evm.balance(seller);
      const { stdout } = await promisify(execFile)(PROGRAM, ["buy", `http://127.0.0.1:${port}/report`, key]);
      assert.deepEqual(JSON.parse(stdout), { status: 200, body: { report: "sunny" } });
      assert.equal(await evm.balance(seller), had + 10_000n);
    } finally {
      shop.kill("SIGKILL");
    }
  });
}
