// anvil, and a Worker that settles on it with one signer.
import { createWalletClient, encodeFunctionData, http } from "viem";
import { contracts } from "../../scripts/lib/contract.mjs";
import { ACCOUNTS, KEYS, TOKEN, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { startWorker } from "./worker.mjs";

/** The key that pays for the gas of every settlement, unless a test names another. */
export const SIGNER = ACCOUNTS[ACCOUNTS.length - 1].address;

/** How many transactions an account has on the chain; with `pending`, the pool's too. */
export const sent = async (evm, tag = "latest", address = SIGNER) => Number(await evm.rpc("eth_getTransactionCount", [address, tag]));

/**
 * Starts both; `stop` ends them.
 * @param {{ vars?: Record<string, string | undefined>, evm?: Parameters<typeof startEvm>[0] }} [options]
 */
export async function startSettling({ vars = {}, evm: options } = {}) {
  const evm = await startEvm(options);
  const worker = await startWorker({ vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1), ...vars } });
  const stop = async () => {
    await worker.stop();
    evm.stop();
  };
  return { evm, worker, stop };
}

/**
 * Sends a transaction whose price puts it before the settlement in the next block; answers its hash.
 * @param {import("../../scripts/lib/evm.mjs").Evm} evm
 * @param {import("viem").LocalAccount} account
 */
export async function overtake(evm, account, to, data) {
  await evm.rpc("anvil_setBalance", [account.address, "0xde0b6b3a7640000"]);
  const wallet = createWalletClient({ account, chain: evm.definition, transport: http(evm.url) });
  return wallet.sendTransaction({ to, data, gas: 200_000n, maxFeePerGas: 90_000_000_000n, maxPriorityFeePerGas: 80_000_000_000n });
}

/** A payer moves its tokens away before the settlement's block. */
export async function moveAway(evm, account, amount) {
  const { abi } = (await contracts()).LocalUSDC;
  return overtake(evm, account, TOKEN, encodeFunctionData({ abi, functionName: "transfer", args: [randomAccount().address, amount] }));
}
