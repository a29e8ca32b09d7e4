// npm run pay: a stock x402 shop and a stock x402 buyer on the local chain, with
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
  const { buy, openShop } = await import("../tests/peers/shop.mjs");
  const evm = new Evm(running.evm, 31337, TOKEN);
  const buyer = randomAccount();
  await evm.mint(buyer.address, 1_000_000n);
  const before = await evm.balance(running.payTo);
  const price = { amount: "10000", asset: TOKEN, extra: { name: "USDC", version: "2" } };
  const shop = await openShop({ facilitator: `${running.url}/facilitator`, key: running.key, network: "eip155:31337", payTo: running.payTo, price });
  say(`shop    ${shop.url}   (@x402/express)\nbuyer   ${buyer.address}   (@x402/fetch)`);
  const { status, body, payment } = await buy(shop.url, buyer, { anyAsset: true });
  shop.close();
  if (!payment?.success) {
    say(`the shop answered ${status}: ${JSON.stringify(payment ?? body)}`);
    process.exit(1);
  }
  const got = (await evm.balance(running.payTo)) - before;
  say(`paid    ${usdc(got)} USDC to ${running.payTo}\n        transaction ${payment.transaction}\ngot     ${JSON.stringify(body)}`);
  process.exit(0);
}
