// A local EVM chain: anvil with a token like USDC.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createPublicClient, createWalletClient, defineChain, encodeFunctionData, http, toHex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { contracts } from "./contract.mjs";
import { watchPool } from "./evm-pool.mjs";
import { freePort } from "./ports.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** Where the registry has the local token. */
export const TOKEN = "0x4020000000000000000000000000000000000001";

/**
 * anvil's well-known development keys.
 * @type {`0x${string}`[]}
 */
export const KEYS = [
  "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
  "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
  "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
  "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
];

/** An account that nobody has used. */
export const randomAccount = () => privateKeyToAccount(generatePrivateKey());

export const ACCOUNTS = KEYS.map((key) => privateKeyToAccount(key));

function binary() {
  const names = { "linux-x64": "linux-amd64", "linux-arm64": "linux-arm64", "darwin-arm64": "darwin-arm64", "darwin-x64": "darwin-amd64" };
  const platform = names[`${process.platform}-${process.arch}`];
  const path = join(ROOT, "node_modules", "@foundry-rs", `anvil-${platform}`, "bin", "anvil");
  if (!existsSync(path)) throw new Error(`anvil is not installed for ${process.platform}-${process.arch}`);
  return path;
}

/**
 * Where anvil listens, as it prints it: a port that was chosen for it could be another's by the time that it binds it.
 * @param {import("node:child_process").ChildProcessByStdio<null, import("node:stream").Readable, null>} child
 * @returns {Promise<string>}
 */
function listening(child) {
  return new Promise((resolve, reject) => {
    let printed = "";
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`anvil ended with ${code}: ${printed.trim()}`)));
    // What it prints later is read too: a full pipe would stop it.
    child.stdout.on("data", (chunk) => {
      if (printed === "listening") return;
      printed += chunk;
      const [, where] = printed.match(/Listening on (\S+)\n/) ?? [];
      if (!where) return;
      printed = "listening";
      resolve(where);
    });
  });
}

/**
 * Starts anvil and waits until it answers; the token stands at `token`.
 * @param {{ port?: number, chainId?: number, blockTime?: number, slotsInAnEpoch?: number, token?: `0x${string}`, say?: (line: string) => void }} [options]
 *   `blockTime`: seconds; without it each transaction is mined at once
 */
export async function startEvm({ port = 0, chainId = 31337, blockTime, slotsInAnEpoch = 1, token = TOKEN, say } = {}) {
  if (port !== 0) port = await freePort(port, "the local EVM chain", say);
  const args = ["--port", port, "--host", "127.0.0.1", "--chain-id", chainId, "--slots-in-an-epoch", slotsInAnEpoch];
  if (blockTime) args.push("--block-time", blockTime);
  const child = spawn(binary(), args.map(String), { stdio: ["ignore", "pipe", "ignore"] });
  const url = `http://${await listening(child)}`;
  const chain = new Evm(url, chainId, token, child);
  await chain.placeToken(token);
  watchPool(chain);
  return chain;
}

/** A running local EVM chain. */
export class Evm {
  /**
   * @param {string} url
   * @param {number} chainId
   * @param {`0x${string}`} token
   * @param {import("node:child_process").ChildProcess} [child] anvil, if this process has started it
   */
  constructor(url, chainId, token, child) {
    this.url = url;
    this.chainId = chainId;
    this.token = token;
    this.child = child;
    this.definition = defineChain({
      id: chainId,
      name: "local",
      nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
      rpcUrls: { default: { http: [url] } },
    });
    this.client = createPublicClient({ chain: this.definition, transport: http(url), pollingInterval: 50 });
  }

  async rpc(method, params = []) {
    const response = await fetch(this.url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
    });
    const { result, error } = await response.json();
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  async placeToken(address = this.token) {
    const { LocalUSDC } = await contracts();
    await this.rpc("anvil_setCode", [address, LocalUSDC.runtime]);
  }

  /**
   * Sends a call of a contract from an account; answers the hash.
   * @param {import("viem").LocalAccount} account
   */
  async send(account, to, abi, functionName, args) {
    const wallet = createWalletClient({ account, chain: this.definition, transport: http(this.url) });
    return wallet.sendTransaction({ to, data: encodeFunctionData({ abi, functionName, args }), gas: 1_000_000n });
  }

  /**
   * A view of the token.
   * @returns {Promise<any>}
   */
  async call(functionName, args = []) {
    const { LocalUSDC } = await contracts();
    return this.client.readContract({ address: this.token, abi: LocalUSDC.abi, functionName, args });
  }

  async tokenCall(account, functionName, args) {
    const { LocalUSDC } = await contracts();
    return this.send(account, this.token, LocalUSDC.abi, functionName, args);
  }

  /**
   * What an address holds of the token, in atomic units.
   * @param {string} address
   * @returns {Promise<bigint>}
   */
  async balance(address) {
    return this.call("balanceOf", [address]);
  }

  async mined(hash) {
    return this.client.waitForTransactionReceipt({ hash, timeout: 20_000 });
  }

  async mint(to, value) {
    const hash = await this.tokenCall(ACCOUNTS[0], "mint", [to, value]);
    await this.mined(hash);
    return hash;
  }

  /** An ordinary transfer; answers the hash once it is mined, or at once where `wait` is false. */
  async pay({ from = ACCOUNTS[1], to, amount, wait = true }) {
    const hash = await this.tokenCall(from, "transfer", [to, amount]);
    if (wait) await this.mined(hash);
    return hash;
  }

  /** An EIP-3009 payment signed by `from` and sent by another. */
  async payWithAuthorization({
    from = ACCOUNTS[1],
    to,
    amount,
    nonce = toHex(crypto.getRandomValues(new Uint8Array(32))),
    submitter = ACCOUNTS[0],
  }) {
    const message = { from: from.address, to, value: amount, validAfter: 0n, validBefore: 2_000_000_000n, nonce };
    const signature = await from.signTypedData({
      domain: { name: "USDC", version: "2", chainId: this.chainId, verifyingContract: this.token },
      types: {
        TransferWithAuthorization: [
          { name: "from", type: "address" },
          { name: "to", type: "address" },
          { name: "value", type: "uint256" },
          { name: "validAfter", type: "uint256" },
          { name: "validBefore", type: "uint256" },
          { name: "nonce", type: "bytes32" },
        ],
      },
      primaryType: "TransferWithAuthorization",
      message,
    });
    const args = [message.from, to, amount, 0n, message.validBefore, nonce, signature];
    const hash = await this.tokenCall(submitter, "transferWithAuthorization", args);
    await this.mined(hash);
    return { hash, nonce };
  }

  /** Deploys one of contracts/*.sol; answers its address. */
  async deploy(name, args = []) {
    const { abi, creation } = (await contracts())[name];
    const wallet = createWalletClient({ account: ACCOUNTS[0], chain: this.definition, transport: http(this.url) });
    const hash = await wallet.deployContract({ abi, bytecode: creation, args });
    return (await this.mined(hash)).contractAddress;
  }

  /** Deploys contracts/Hazards.sol; answers its address. */
  async deployHazards() {
    return this.deploy("Hazards");
  }

  async mine(blocks = 1) {
    await this.rpc("anvil_mine", [toHex(blocks)]);
  }

  stop() {
    this.child?.kill("SIGKILL");
  }
}
