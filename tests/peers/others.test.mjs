// Other people's packages against our facilitator, unchanged: those that can send a
// key do, the others name a URL that holds it. Money moves on chains that look like
// Base Sepolia and Solana's devnet.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { getBase58Encoder } from "@solana/kit";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { DEVNET_MINT, keyPairText, signer } from "../../scripts/lib/solana.mjs";
import { python } from "../../scripts/lib/tools.mjs";
import { sign } from "../workerd/payment.mjs";
import { CIRCLE, openMarket } from "./market.mjs";
import { buyWithAxios, buyWithFaremeter, buyWithX402Solana } from "./others/buyers.mjs";
import { nextShop, nextShopV1 } from "./others/next.mjs";
import { faremeterShop, honoShop, openFacilitator, x402SolanaShop } from "./others/shops.mjs";
import { buy } from "./shop.mjs";
import { buy as buyV1 } from "./v1/shop.mjs";

const REPORT = { report: "sunny" };
const PRICE = 10_000n;
let market, evm, solana, facilitator, withKey;

before(async () => {
  market = await openMarket();
  ({ evm, solana } = market);
  facilitator = `${market.worker.url}/facilitator`;
  withKey = `${facilitator}/k/${await market.worker.urlKey(market.tenant, "test")}`;
});
after(() => market?.close());

/** A new buyer's key, with a dollar. */
async function evmBuyer() {
  const key = generatePrivateKey();
  const account = privateKeyToAccount(key);
  await evm.mint(account.address, 1_000_000n);
  return { key, account };
}

let seeds = 0x40;
/** A new buyer's secret key of 64 bytes, with a dollar. */
async function svmBuyer() {
  const seed = seeds++;
  const text = await keyPairText(new Uint8Array(32).fill(seed));
  await solana.fund((await signer(seed)).address, 1_000_000n, DEVNET_MINT);
  return Uint8Array.from(getBase58Encoder().encode(text));
}

/** Runs a sale; asserts that one page was sold and that its price has arrived. */
async function sells(balance, sale) {
  const had = await balance();
  const { status, body } = await sale();
  assert.deepEqual([status, body], [200, REPORT]);
  assert.equal(await balance(), had + PRICE);
}
const onEvm = (sale) => sells(() => evm.balance(market.payTo), sale);
const onSolana = (sale) => sells(() => solana.balance(market.seller, DEVNET_MINT), sale);

for (const [name, versions] of [
  ["version 1", { x402v1: true }],
  ["version 2", { x402v1: false, x402v2: true }],
]) {
  test(`Faremeter's shop sells to Faremeter's buyer on both chains, ${name}`, async () => {
    const shop = await faremeterShop({ facilitator: withKey, evm: market.payTo, svm: market.seller, versions });
    try {
      const { key } = await evmBuyer();
      await onEvm(() => buyWithFaremeter(shop.url, { key }));
      const secret = await svmBuyer();
      await onSolana(() => buyWithFaremeter(shop.url, { secret, mint: DEVNET_MINT, rpcUrl: solana.url }));
      assert.equal(shop.served, 2);
    } finally {
      shop.close();
    }
  });
}

test("x402-solana's shop sells to its buyer", async () => {
  const shop = await x402SolanaShop({ facilitator: withKey, payTo: market.seller, mint: DEVNET_MINT, rpcUrl: solana.url });
  try {
    const secret = await svmBuyer();
    await onSolana(() => buyWithX402Solana(shop.url, { secret, rpcUrl: solana.url }));
    assert.equal(shop.served, 1);
  } finally {
    shop.close();
  }
});

test("x402-hono sells to x402-fetch", async () => {
  const { key } = await evmBuyer();
  await onEvm(() =>
    buyV1(
      "http://shop.test/report",
      { network: "base-sepolia", key },
      honoShop({ facilitator, key: market.tenant.test, payTo: market.payTo }),
    ),
  );
});

test("x402-next sells to x402-fetch", async () => {
  const { key } = await evmBuyer();
  await onEvm(() =>
    buyV1(
      "http://shop.test/report",
      { network: "base-sepolia", key },
      nextShopV1({ facilitator, key: market.tenant.test, payTo: market.payTo }),
    ),
  );
});

test("@x402/next sells to @x402/fetch", async () => {
  const { account } = await evmBuyer();
  await onEvm(() => buy("http://shop.test/report", { evm: account }, nextShop({ facilitator: withKey, payTo: market.payTo })));
});

test("@openfacilitator/sdk lists, verifies and settles", async () => {
  const client = openFacilitator(withKey);
  const { account } = await evmBuyer();
  assert.equal(await client.health(), true);
  const { kinds } = await client.supported();
  assert.ok(kinds.some(({ network, scheme }) => network === "eip155:84532" && scheme === "exact"));
  const { paymentPayload, paymentRequirements } = await sign({ buyer: account, to: market.payTo, token: CIRCLE, chainId: 84532 });
  assert.equal((await client.verify(paymentPayload, paymentRequirements)).isValid, true);
  const had = await evm.balance(market.payTo);
  const settled = await client.settle(paymentPayload, paymentRequirements);
  assert.equal(settled.success, true, JSON.stringify(settled));
  assert.equal(await evm.balance(market.payTo), had + PRICE);
  assert.equal((await client.settle(paymentPayload, paymentRequirements)).success, false);
});

for (const framework of ["fastapi-x402", "sanic-x402"]) {
  test(`${framework} sells`, async () => {
    const interpreter = await python("others", join(import.meta.dirname, "others", "requirements.txt"));
    const wishes = JSON.stringify({ facilitator: withKey, payTo: market.payTo });
    const child = spawn(interpreter, [join(import.meta.dirname, "others", "shop.py"), framework, wishes], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      const port = await new Promise((resolve, reject) => {
        child.stdout.once("data", (line) => resolve(Number.parseInt(line, 10)));
        child.once("exit", (code) => reject(new Error(`the shop ended with ${code}`)));
      });
      const url = `http://127.0.0.1:${port}/report`;
      const { key, account } = await evmBuyer();
      await onEvm(() => (framework === "sanic-x402" ? buyWithAxios(url, account) : buyV1(url, { network: "base-sepolia", key })));
    } finally {
      child.kill("SIGKILL");
    }
  });
}
