// The public packages of the protocol's version 1 against our facilitator, on
// chains that look like Base Sepolia and Solana's devnet.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { privateKeyToAccount } from "viem/accounts";
import { KEYS, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { DEVNET_MINT, keyPairText, randomSigner, signer, startSolana } from "../../scripts/lib/solana.mjs";
import { startWorker } from "../workerd/worker.mjs";
import { buy, openShop } from "./v1/shop.mjs";

const CIRCLE = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
let evm, solana, worker, tenant, seller;
const payTo = randomAccount().address;

before(async () => {
  [evm, solana] = await Promise.all([startEvm({ chainId: 84532, token: CIRCLE }), startSolana()]);
  const feePayer = await keyPairText(new Uint8Array(32).fill(0x21));
  const vars = { RPC_BASE_SEPOLIA: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1), RPC_SOLANA_DEVNET: solana.url, SOLANA_SIGNERS_TEST: feePayer };
  worker = await startWorker({ vars });
  solana.svm.airdrop((await signer(0x21)).address, 1_000_000_000n);
  seller = (await randomSigner()).address;
  await solana.fund(seller, 0n, DEVNET_MINT);
  tenant = await worker.tenant({ recipients: { "base-sepolia": payTo, "solana-devnet": seller } });
});
after(async () => {
  await worker?.stop();
  evm?.stop();
  solana?.stop();
});

const open = (network, to) => openShop({ facilitator: `${worker.url}/facilitator`, key: tenant.test, network, payTo: to });

test("x402-fetch buys at x402-express on an EVM chain", async () => {
  const shop = await open("base-sepolia", payTo);
  try {
    const key = `0x${"61".repeat(32)}`;
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
