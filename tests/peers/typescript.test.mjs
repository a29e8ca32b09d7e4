// The public TypeScript packages against our facilitator: money moves on a chain
// that looks like Base Sepolia, with the token where Circle's stands.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { KEYS, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { startWorker } from "../workerd/worker.mjs";
import { buy, openShop } from "./shop.mjs";

const CIRCLE = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
let evm, worker, tenant, shop;
const payTo = randomAccount().address;

before(async () => {
  evm = await startEvm({ chainId: 84532, token: CIRCLE });
  worker = await startWorker({ vars: { RPC_BASE_SEPOLIA: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1) } });
  tenant = await worker.tenant({ recipients: { "base-sepolia": payTo } });
  shop = await openShop({ facilitator: `${worker.url}/facilitator`, key: tenant.test, network: "eip155:84532", payTo, price: "$0.01" });
});
after(async () => {
  shop?.close();
  await worker?.stop();
  evm?.stop();
});

test("a stock buyer pays a stock shop, and the money arrives", async () => {
  const buyer = randomAccount();
  await evm.mint(buyer.address, 1_000_000n);
  const { status, body, payment } = await buy(shop.url, buyer);
  assert.deepEqual([status, body], [200, { report: "sunny" }]);
  assert.deepEqual([payment.success, payment.network, payment.payer], [true, "eip155:84532", buyer.address]);
  assert.deepEqual([await evm.balance(payTo), await evm.balance(buyer.address)], [10_000n, 990_000n]);
  await evm.rpc("anvil_mine", ["0x4"]);
  const claimed = await worker.verify(tenant.test, { tx_hash: payment.transaction, chain: "base-sepolia" });
  assert.equal(claimed.body.error_code, "ALREADY_CLAIMED");
});

test("a buyer who cannot pay gets no page", async () => {
  const served = shop.served;
  const { status } = await buy(shop.url, randomAccount());
  assert.deepEqual([status, shop.served], [402, served]);
});

test("a shop whose key is not good does not start to sell", async () => {
  const closed = await openShop({ facilitator: `${worker.url}/facilitator`, key: "x402_test_nobody", network: "eip155:84532", payTo, price: "$0.01" });
  try {
    const buyer = randomAccount();
    await evm.mint(buyer.address, 1_000_000n);
    const { status } = await buy(closed.url, buyer).catch(() => ({ status: 500 }));
    assert.ok(status >= 400);
    assert.equal(closed.served, 0);
    assert.equal(await evm.balance(buyer.address), 1_000_000n);
  } finally {
    closed.close();
  }
});
