// npm run pay: a stock x402 shop and a stock x402 buyer on the local chains, with
// the Worker of `npm start` as their facilitator.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, peers, say, setUp, underNewNode } from "./lib/tools.mjs";

const RUNNING = join(ROOT, ".local", "running.json");
const usdc = (units) => (Number(units) / 1e6).toFixed(6);

await setUp();
await peers();
if (!(await underNewNode(import.meta.url))) await main();

async function main() {
  const running = existsSync(RUNNING) ? JSON.parse(readFileSync(RUNNING, "utf8")) : undefined;
  const alive = running && (await fetch(`${running.url}/v1/health`).catch(() => undefined));
  if (!alive?.ok) {
    say("Nothing runs yet: `npm start` in another terminal first.");
    process.exit(1);
  }
  const { Evm, TOKEN, randomAccount } = await import("./lib/evm.mjs");
  const { DEVNET_MINT, Remote, randomSigner } = await import("./lib/solana.mjs");
  const { buy, openShop } = await import("../tests/peers/shop.mjs");
  const evm = new Evm(running.evm, 31337, TOKEN);
  const solana = new Remote(running.solana);
  const [onEvm, onSolana] = [running.merchants["local-evm"], running.merchants["local-solana"]];
  const price = { amount: "10000", asset: TOKEN, extra: { name: "USDC", version: "2" } };
  const shop = await openShop({
    facilitator: `${running.url}/facilitator`,
    key: running.key,
    accepts: [
      { network: "eip155:31337", payTo: onEvm, price },
      { network: "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", payTo: onSolana, price: "$0.01" },
    ],
  });
  say(`shop    ${shop.url}   (@x402/express)`);
  const account = randomAccount();
  const svm = await randomSigner();
  await Promise.all([evm.mint(account.address, 1_000_000n), solana.fund(svm.address, 1_000_000n, DEVNET_MINT)]);
  const purchases = [
    {
      chain: "local EVM chain",
      buyer: account.address,
      wallet: { evm: account, anyAsset: true },
      payTo: onEvm,
      balance: () => evm.balance(onEvm),
    },
    {
      chain: "local Solana chain, standing for devnet",
      buyer: svm.address,
      wallet: { svm, rpcUrl: running.solana },
      payTo: onSolana,
      balance: () => solana.balance(onSolana, DEVNET_MINT),
    },
  ];
  for (const { chain, buyer, wallet, payTo, balance } of purchases) {
    const before = await balance();
    const { status, body, payment } = await buy(shop.url, wallet);
    if (!payment?.success) {
      say(`the shop answered ${status}: ${JSON.stringify(payment ?? body)}`);
      process.exit(1);
    }
    say(`
${chain}
buyer   ${buyer}   (@x402/fetch)
paid    ${usdc((await balance()) - before)} USDC to ${payTo}
        transaction ${payment.transaction}
got     ${JSON.stringify(body)}`);
  }
  shop.close();
  process.exit(0);
}
