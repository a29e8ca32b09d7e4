// Stock buyers of other packages. Each answers `{ status, body }`.
import { wrap } from "@faremeter/fetch";
import { createPaymentHandler as evmHandler } from "@faremeter/payment-evm/exact";
import { createPaymentHandler as svmHandler } from "@faremeter/payment-solana/exact";
import { createLocalWallet as evmWallet } from "@faremeter/wallet-evm";
import { createLocalWallet as svmWallet } from "@faremeter/wallet-solana";
import { wrapAxiosWithPayment } from "@x402/axios";
import { x402Client } from "@x402/core/client";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { Keypair } from "@solana/web3.js";
import axios from "axios";
import { baseSepolia } from "viem/chains";
import { createX402Client } from "x402-solana/client";

const read = async (response) => ({ status: response.status, body: await response.json().catch(() => undefined) });

/**
 * \@faremeter/fetch with an EVM key, or with a Solana secret key of 64 bytes.
 * @param {string} url
 * @param {{ key?: string, secret?: Uint8Array, mint?: string, rpcUrl?: string }} wallet
 */
export async function buyWithFaremeter(url, { key, secret, mint, rpcUrl }) {
  const handler = key
    ? evmHandler(await evmWallet({ id: baseSepolia.id, name: baseSepolia.name }, key))
    : svmHandler(await svmWallet("devnet", secret), mint, rpcUrl);
  return read(await wrap(fetch, { handlers: [handler], returnPaymentFailure: true, retryCount: 0 })(url));
}

/** @x402/axios. */
export async function buyWithAxios(url, account) {
  const client = new x402Client().register("eip155:*", new ExactEvmScheme(account));
  const { status, data: body } = await wrapAxiosWithPayment(axios.create(), client).get(url);
  return { status, body };
}

/** x402-solana with a secret key of 64 bytes. */
export async function buyWithX402Solana(url, { secret, rpcUrl }) {
  const pair = Keypair.fromSecretKey(secret);
  const signTransaction = async (transaction) => {
    transaction.sign([pair]);
    return transaction;
  };
  const wallet = { address: pair.publicKey.toString(), signTransaction };
  return read(await createX402Client({ wallet, network: "solana-devnet", rpcUrl }).fetch(url));
}
