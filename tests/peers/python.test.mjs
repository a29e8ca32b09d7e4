// The public Python package against our facilitator: shops and buyers of both
// kinds, on chains that look like Base Sepolia and Solana's devnet.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { DEVNET_MINT, keyPairText, signer } from "../../scripts/lib/solana.mjs";
import { python } from "../../scripts/lib/tools.mjs";
import { privateKeyToAccount } from "viem/accounts";
import { BASE_SEPOLIA, DEVNET, PEER, openMarket, openPythonShop } from "./market.mjs";
import { buy } from "./shop.mjs";

let interpreter, evm, solana, worker, tenant, seller, svmSeller, close;
const shops = new Map();

before(async () => {
  interpreter = await python("peers", join(import.meta.dirname, "requirements.txt"));
  ({ evm, solana, worker, tenant, payTo: seller, seller: svmSeller, close } = await openMarket());
  const accepts = [
    { network: BASE_SEPOLIA, payTo: seller, price: "$0.01" },
    { network: DEVNET, payTo: svmSeller, price: "$0.01" },
  ];
  for (const framework of ["fastapi", "flask"]) {
    shops.set(
      framework,
      await openPythonShop(interpreter, framework, { facilitator: `${worker.url}/facilitator`, key: tenant.test, accepts }),
    );
  }
});
after(async () => {
  for (const shop of shops.values()) shop.close();
  await close?.();
});

async function buyWith(library, wishes) {
  const { stdout } = await promisify(execFile)(interpreter, [PEER, "buy", library, JSON.stringify(wishes)], { timeout: 60_000 });
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
}

let seeds = 0x40;
for (const [framework, library] of [
  ["fastapi", "httpx"],
  ["flask", "requests"],
]) {
  test(`${library} buys at ${framework} on an EVM chain`, async () => {
    const key = /** @type {`0x${string}`} */ (`0x${(seeds++).toString(16).repeat(32)}`);
    const buyer = privateKeyToAccount(key).address;
    await evm.mint(buyer, 1_000_000n);
    const had = await evm.balance(seller);
    const { status, body, payment } = await buyWith(library, { url: shops.get(framework).url, evm: key });
    assert.deepEqual([status, body, payment?.success], [200, { report: "sunny" }, true]);
    assert.deepEqual([await evm.balance(seller), await evm.balance(buyer)], [had + 10_000n, 990_000n]);
  });

  test(`${library} buys at ${framework} on Solana`, async () => {
    const seed = seeds++;
    const buyer = (await signer(seed)).address;
    await solana.fund(buyer, 1_000_000n, DEVNET_MINT);
    const had = await solana.balance(svmSeller, DEVNET_MINT);
    const svm = await keyPairText(new Uint8Array(32).fill(seed));
    const { status, body, payment } = await buyWith(library, { url: shops.get(framework).url, svm, rpc: solana.url });
    assert.deepEqual([status, body, payment?.success], [200, { report: "sunny" }, true]);
    assert.equal(await solana.balance(svmSeller, DEVNET_MINT), had + 10_000n);
  });
}

test("a buyer in TypeScript pays a shop in Python", async () => {
  const buyer = privateKeyToAccount(`0x${"77".repeat(32)}`);
  await evm.mint(buyer.address, 1_000_000n);
  const { status, payment } = await buy(shops.get("fastapi").url, { evm: buyer });
  assert.deepEqual([status, payment?.success], [200, true]);
});

test("a buyer who cannot pay gets no page in Python either", async () => {
  for (const [framework, library] of [
    ["fastapi", "requests"],
    ["flask", "httpx"],
  ]) {
    const { status } = await buyWith(library, { url: shops.get(framework).url, evm: `0x${"78".repeat(32)}` });
    assert.equal(status, 402);
  }
});
