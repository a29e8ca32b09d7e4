// The public packages of the protocol's version 1 against our facilitator, on
// chains that look like Base Sepolia and Solana's devnet.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { privateKeyToAccount } from "viem/accounts";
import { DEVNET_MINT, keyPairText, signer } from "../../scripts/lib/solana.mjs";
import { openMarket } from "./market.mjs";
import { buy, openShop } from "./v1/shop.mjs";

let evm, solana, worker, tenant, payTo, seller, close;

before(async () => {
  ({ evm, solana, worker, tenant, payTo, seller, close } = await openMarket());
});
after(() => close?.());

const open = (network, to) => openShop({ facilitator: `${worker.url}/facilitator`, key: tenant.test, network, payTo: to });

test("x402-fetch buys at x402-express on an EVM chain", async () => {
  const shop = await open("base-sepolia", payTo);
  try {
    const key = /** @type {`0x${string}`} */ (`0x${"61".repeat(32)}`);
    const buyer = privateKeyToAccount(key).address;
    await evm.mint(buyer, 1_000_000n);
    const { status, body, payment } = await buy(shop.url, { network: "base-sepolia", key });
    assert.deepEqual([status, body], [200, { report: "sunny" }], JSON.stringify(payment ?? body));
    assert.deepEqual([payment.success, payment.network, payment.payer], [true, "base-sepolia", buyer]);
    assert.deepEqual([await evm.balance(payTo), await evm.balance(buyer)], [10_000n, 990_000n]);
  } finally {
    shop.close();
  }
});

test("x402-fetch buys at x402-express on Solana", async () => {
  const shop = await open("solana-devnet", seller);
  try {
    const buyer = (await signer(0x62)).address;
    await solana.fund(buyer, 1_000_000n, DEVNET_MINT);
    const key = await keyPairText(new Uint8Array(32).fill(0x62));
    const { status, body, payment } = await buy(shop.url, { network: "solana-devnet", key, rpcUrl: solana.url });
    assert.deepEqual([status, body], [200, { report: "sunny" }], JSON.stringify(payment ?? body));
    assert.deepEqual([payment.success, payment.network, payment.payer], [true, "solana-devnet", buyer]);
    assert.equal(await solana.balance(seller, DEVNET_MINT), 10_000n);
  } finally {
    shop.close();
  }
});

test("a buyer of version 1 who cannot pay gets no page", async () => {
  const shop = await open("base-sepolia", payTo);
  try {
    const { status } = await buy(shop.url, { network: "base-sepolia", key: `0x${"63".repeat(32)}` });
    assert.equal(status, 402);
  } finally {
    shop.close();
  }
});
