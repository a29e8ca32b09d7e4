// Where public packages trade in tests: chains that look like Base Sepolia and Solana's devnet, with the token
// where Circle's stands, and our Worker as a seller's facilitator on both.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { KEYS, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { DEVNET_MINT, keyPairText, randomSigner, signer, startSolana } from "../../scripts/lib/solana.mjs";
import { startWorker } from "../workerd/worker.mjs";

export const CIRCLE = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
export const BASE_SEPOLIA = "eip155:84532";
export const DEVNET = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
export const PEER = join(import.meta.dirname, "peer.py");

/**
 * Opens it. The seller is paid at `payTo` on the EVM chain and at `seller` on Solana; `tenant` has their keys.
 * `limits` are the tenant's; `front` may put a provider of its own before the EVM chain: from the chain's URL to its.
 * @param {{ limits?: object, front?: (url: string) => string | Promise<string> }} [options]
 */
export async function openMarket({ limits, front = (url) => url } = {}) {
  const [evm, solana] = await Promise.all([startEvm({ chainId: 84532, token: CIRCLE }), startSolana()]);
  const feePayer = await signer(0x21);
  solana.airdrop(feePayer.address, 1_000_000_000n);
  const vars = {
    RPC_BASE_SEPOLIA: await front(evm.url),
    EVM_SIGNERS_TEST: KEYS.at(-1),
    RPC_SOLANA_DEVNET: solana.url,
    SOLANA_SIGNERS_TEST: await keyPairText(new Uint8Array(32).fill(0x21)),
  };
  const worker = await startWorker({ vars });
  const payTo = randomAccount().address;
  const seller = (await randomSigner()).address;
  await solana.fund(seller, 0n, DEVNET_MINT);
  const tenant = await worker.tenant({ recipients: { "base-sepolia": payTo, "solana-devnet": seller }, limits });
  const close = async () => {
    await worker.stop();
    evm.stop();
    solana.stop();
  };
  return { evm, solana, worker, tenant, payTo, seller, feePayer, close };
}

/** Opens a Python shop of a framework, `fastapi` or `flask`, as peer.py says; answers the URL of its first page. */
export async function openPythonShop(interpreter, framework, { pages = ["report"], ...wishes }) {
  const child = spawn(interpreter, [PEER, "shop", framework, JSON.stringify({ ...wishes, pages })], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const port = await new Promise((resolve, reject) => {
    child.stdout.once("data", (line) => resolve(Number(line)));
    child.once("exit", (code) => reject(new Error(`the ${framework} shop ended with ${code}`)));
  });
  return { url: `http://127.0.0.1:${port}/${pages[0]}`, close: () => child.kill("SIGKILL") };
}
