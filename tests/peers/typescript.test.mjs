// The public TypeScript packages against our facilitator: money moves on chains
// that look like Base Sepolia and Solana's devnet, with the token where Circle's stands.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { randomAccount } from "../../scripts/lib/evm.mjs";
import { DEVNET_MINT, randomSigner } from "../../scripts/lib/solana.mjs";
import { BASE_SEPOLIA, DEVNET, openMarket } from "./market.mjs";
import { buy, honoShop, openShop } from "./shop.mjs";

let evm, solana, worker, tenant, payTo, seller, close, shop;
const accepts = () => [
  { network: BASE_SEPOLIA, payTo, price: "$0.01" },
  { network: DEVNET, payTo: seller, price: "$0.01" },
];
const sell = (key) => openShop({ facilitator: `${worker.url}/facilitator`, key, accepts: accepts() });

before(async () => {
  ({ evm, solana, worker, tenant, payTo, seller, close } = await openMarket());
  shop = await sell(tenant.test);
});
after(async () => {
  shop?.close();
  await close?.();
});

test("a stock buyer pays a stock shop, and the money arrives", async () => {
  const buyer = randomAccount();
  await evm.mint(buyer.address, 1_000_000n);
  const { status, body, payment } = await buy(shop.url, { evm: buyer });
  assert.deepEqual([status, body], [200, { report: "sunny" }]);
  assert.deepEqual([payment.success, payment.network, payment.payer], [true, "eip155:84532", buyer.address]);
  assert.deepEqual([await evm.balance(payTo), await evm.balance(buyer.address)], [10_000n, 990_000n]);
  await evm.rpc("anvil_mine", ["0x4"]);
  const claimed = await worker.verify(tenant.test, { tx_hash: payment.transaction, chain: "base-sepolia" });
  assert.equal(claimed.body.error_code, "ALREADY_CLAIMED");
});

test("a stock buyer pays on Solana, and the money arrives", async () => {
  const buyer = await randomSigner();
  await solana.fund(buyer.address, 1_000_000n, DEVNET_MINT);
  const { status, body, payment } = await buy(shop.url, { svm: buyer, rpcUrl: solana.url });
  assert.deepEqual([status, body], [200, { report: "sunny" }], JSON.stringify(payment));
  assert.deepEqual([payment.success, payment.network, payment.payer], [true, DEVNET, buyer.address]);
  assert.deepEqual([await solana.balance(seller, DEVNET_MINT), await solana.balance(buyer.address, DEVNET_MINT)], [10_000n, 990_000n]);
  const claimed = await worker.verify(tenant.test, { tx_hash: payment.transaction, chain: "solana-devnet" });
  assert.equal(claimed.body.error_code, "ALREADY_CLAIMED");
});

test("a shop of @x402/hono sells on both chains", async () => {
  const hono = honoShop({ facilitator: `${worker.url}/v1/facilitator/`, key: tenant.test, accepts: accepts() });
  const [account, svm] = [randomAccount(), await randomSigner()];
  await evm.mint(account.address, 1_000_000n);
  await solana.fund(svm.address, 1_000_000n, DEVNET_MINT);
  for (const wallet of [{ evm: account }, { svm, rpcUrl: solana.url }]) {
    const { status, body, payment } = await buy("http://shop.test/report", wallet, hono);
    assert.deepEqual([status, body, payment?.success], [200, { report: "sunny" }, true]);
  }
});

test("a buyer who cannot pay gets no page", async () => {
  const served = shop.served;
  const { status } = await buy(shop.url, { evm: randomAccount() });
  assert.deepEqual([status, shop.served], [402, served]);
});

test("a shop whose key is not good does not start to sell", async () => {
  const closed = await sell("x402_test_nobody");
  try {
    const buyer = randomAccount();
    await evm.mint(buyer.address, 1_000_000n);
    const { status } = await buy(closed.url, { evm: buyer }).catch(() => ({ status: 500 }));
    assert.ok(status >= 400);
    assert.equal(closed.served, 0);
    assert.equal(await evm.balance(buyer.address), 1_000_000n);
  } finally {
    closed.close();
  }
});
