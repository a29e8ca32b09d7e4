// The reference TypeScript facilitator behind express, for comparison:
// node tests/peers/reference.mjs <port> <rpc url> <chain id> <private key>
import express from "express";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { createWalletClient, defineChain, http, nonceManager, publicActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const [port, url, chainId, key] = process.argv.slice(2);
const chain = defineChain({
  id: Number(chainId),
  name: "local",
  nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [url] } },
});
const account = privateKeyToAccount(key, { nonceManager });
const client = createWalletClient({ account, chain, transport: http(url), pollingInterval: 100 }).extend(publicActions);
const signer = toFacilitatorEvmSigner({ ...client, address: account.address });
const facilitator = new x402Facilitator().register(`eip155:${chainId}`, new ExactEvmScheme(signer));
const app = express();
app.use(express.json());
for (const verb of ["verify", "settle"]) {
  app.post(`/${verb}`, async (request, response) => {
    const { paymentPayload, paymentRequirements } = request.body;
    try {
      response.json(await facilitator[verb](paymentPayload, paymentRequirements));
    } catch (error) {
      response.status(500).json({ error: String(error) });
    }
  });
}
app.listen(Number(port), "127.0.0.1", () => console.log("ready"));
