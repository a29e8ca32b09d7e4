// The reference TypeScript facilitator, on chains of ours.
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/facilitator";
import { createWalletClient, defineChain, http, nonceManager, publicActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";

/**
 * Adds an EVM chain; `name` is its name in version 1.
 * @param {any} facilitator
 * @param {{ url: string, chainId: number | string, key: `0x${string}`, name?: string }} chain
 */
export function withEvm(facilitator, { url, chainId, key, name }) {
  const chain = defineChain({
    id: Number(chainId),
    name: "local",
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [url] } },
  });
  const account = privateKeyToAccount(key, { nonceManager });
  const client = createWalletClient({ account, chain, transport: http(url), pollingInterval: 100 }).extend(publicActions);
  const signer = toFacilitatorEvmSigner({ ...client, address: account.address });
  facilitator.register(`eip155:${chainId}`, new ExactEvmScheme(signer));
  if (name) facilitator.registerV1([name], new ExactEvmSchemeV1(signer));
  return facilitator;
}

/** Adds a Solana chain that stands for devnet. */
export async function withSvm(facilitator, { url, signer, limits }) {
  const { toFacilitatorSvmSigner } = await import("@x402/svm");
  const { ExactSvmScheme } = await import("@x402/svm/exact/facilitator");
  const own = toFacilitatorSvmSigner(signer, { defaultRpcUrl: url });
  return facilitator.register("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", new ExactSvmScheme(own, undefined, limits));
}

export const reference = () => new x402Facilitator();
