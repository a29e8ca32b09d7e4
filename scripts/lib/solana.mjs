// A local Solana chain: LiteSVM with the real SPL programs, behind a JSON-RPC
// server of ours that answers in a node's own shape (docs/spec/chains.md#litesvm).
import { createServer } from "node:http";
import {
  appendTransactionMessageInstructions,
  createTransactionMessage,
  getAddressDecoder,
  getBase58Decoder,
  getCompiledTransactionMessageDecoder,
  getTransactionDecoder,
  getTransactionEncoder,
  pipe,
  setTransactionMessageConfig,
  setTransactionMessageFeePayerSigner,
  setTransactionMessageLifetimeUsingBlockhash,
  signTransactionMessageWithSigners,
  lamports,
} from "@solana/kit";
import {
  AuthorityType,
  findAssociatedTokenPda,
  getBatchInstruction,
  getCloseAccountInstruction,
  getCreateAssociatedTokenIdempotentInstruction,
  getFreezeAccountInstruction,
  getMintToInstruction,
  getSetAuthorityInstruction,
  getTransferCheckedInstruction,
} from "@solana-program/token";
import { FailedTransactionMetadata, LiteSVM } from "litesvm";
import { freePort, listen } from "./ports.mjs";
import { DEVNET_MINT, MEMO_PROGRAM, MINT, TOKEN_2022_PROGRAM, TOKEN_PROGRAM, mintBytes, signer } from "./solana-accounts.mjs";
import { errorOf, innerInstructions, tokenBalances, transactionJson, uiAmount } from "./solana-json.mjs";

const SLOT_MS = 400;
/** A block hash is good for this many blocks. */
const HASH_BLOCKS = 150;
/** Signatures cost this many lamports each. */
const SIGNATURE_FEE = 5000n;

const base58 = getBase58Decoder();
const addressOf = getAddressDecoder();

function u64(bytes, at) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(at, true);
}

class RpcError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * Starts the chain and its server.
 * @param {{ port?: number, finalityAfter?: number, say?: (line: string) => void }} [options] `finalityAfter`: slots
 */
export async function startSolana({ port = 0, finalityAfter = 32, say } = {}) {
  if (port !== 0) port = await freePort(port, "the local Solana chain", say);
  const authority = await signer(0x11);
  const server = createServer((request, response) => chain.serve(request, response));
  const chain = new Solana(authority, `http://127.0.0.1:${await listen(server, port)}`, finalityAfter);
  chain.server = server;
  return chain;
}

/** A running local Solana chain. */
export class Solana {
  /** @type {import("node:http").Server | undefined} */
  server;

  constructor(authority, url, finalityAfter) {
    this.url = url;
    this.authority = authority;
    this.finalityAfter = finalityAfter;
    this.began = Date.now();
    this.landed = new Map();
    this.skipped = 0;
    this.drops = 0;
    this.sends = [];
    this.hashes = new Map();
    // Block hashes are our own, as many as a node remembers: LiteSVM knows but one.
    this.svm = new LiteSVM().withTransactionHistory(0n).withBlockhashCheck(false);
    this.airdrop(authority.address, 1_000_000_000_000n);
    for (const mint of [MINT, DEVNET_MINT]) this.placeMint(mint, TOKEN_PROGRAM, mintBytes(authority.address, 6));
  }

  /** Gives an account lamports. */
  airdrop(owner, amount) {
    this.svm.airdrop(owner, lamports(amount));
  }

  /** The newest block's hash. */
  blockhash() {
    const { slot } = this;
    const known = [...this.hashes].find(([, at]) => at === slot);
    if (known) return known[0];
    const hash = base58.decode(crypto.getRandomValues(new Uint8Array(32)));
    this.hashes.set(hash, slot);
    for (const [old, at] of this.hashes) if (at < slot - HASH_BLOCKS) this.hashes.delete(old);
    return hash;
  }

  isGood(blockhash) {
    return this.slot - (this.hashes.get(blockhash) ?? -Infinity) <= HASH_BLOCKS;
  }

  placeMint(address, program, data) {
    const space = BigInt(data.length);
    this.svm.setAccount({
      address,
      data,
      executable: false,
      lamports: lamports(10_000_000n),
      programAddress: program,
      space,
    });
  }

  get slot() {
    return 1_000 + this.skipped + Math.floor((Date.now() - this.began) / SLOT_MS);
  }

  /** Runs a wire transaction and keeps what a node would tell of it. */
  land(bytes) {
    const transaction = getTransactionDecoder().decode(bytes);
    const message = getCompiledTransactionMessageDecoder().decode(transaction.messageBytes);
    const signatures = Object.values(transaction.signatures).map((one) => base58.decode(one ?? new Uint8Array(64)));
    const [signature] = signatures;
    if (this.landed.has(signature)) return signature;
    if (!this.isGood(message.lifetimeToken)) throw new RpcError(-32002, "Transaction simulation failed: Blockhash not found");
    const keys = message.staticAccounts;
    const before = keys.map((key) => this.snapshot(key));
    const slot = this.slot;
    const clock = this.svm.getClock();
    clock.slot = BigInt(slot);
    clock.unixTimestamp = BigInt(Math.floor(Date.now() / 1000));
    this.svm.setClock(clock);
    const outcome = this.svm.sendTransaction(transaction);
    const failed = outcome instanceof FailedTransactionMetadata;
    const meta = failed ? outcome.meta() : outcome;
    const after = keys.map((key) => this.snapshot(key));
    const err = failed ? errorOf(outcome) : null;
    // What is not even executed stands in no block.
    if (typeof err === "string") throw new RpcError(-32002, `Transaction simulation failed: ${JSON.stringify(err)}`);
    const config = Object.fromEntries(("configValues" in message ? message.configValues : []).map((value) => [value.kind, value.value]));
    const priority = typeof config.u64 === "bigint" ? config.u64 : 0n;
    this.landed.set(signature, {
      slot,
      signatures,
      message,
      version: message.version,
      err,
      gone: false,
      blockTime: Math.floor(Date.now() / 1000),
      meta: {
        err,
        status: err === null ? { Ok: null } : { Err: err },
        fee: Number(SIGNATURE_FEE * BigInt(signatures.length) + priority),
        preBalances: before.map((account) => account.lamports),
        postBalances: after.map((account) => account.lamports),
        preTokenBalances: tokenBalances(before),
        postTokenBalances: tokenBalances(after),
        innerInstructions: innerInstructions(meta),
        logMessages: meta.logs(),
        loadedAddresses: { writable: [], readonly: [] },
        computeUnitsConsumed: Number(meta.computeUnitsConsumed()),
        rewards: [],
      },
    });
    return signature;
  }

  snapshot(key) {
    const account = this.svm.getAccount(key);
    if (!account.exists) return { lamports: 0 };
    const program = account.programAddress;
    const isToken = [TOKEN_PROGRAM, TOKEN_2022_PROGRAM].includes(program);
    const length = account.data.length;
    const isAccount = isToken && (length === 165 || (length > 165 && account.data[165] === 2));
    const token = isAccount && {
      mint: addressOf.decode(account.data.slice(0, 32)),
      owner: addressOf.decode(account.data.slice(32, 64)),
      amount: u64(account.data, 64),
      program,
      decimals: this.decimals(addressOf.decode(account.data.slice(0, 32))),
    };
    return { lamports: Number(account.lamports), token: token || undefined };
  }

  decimals(mint) {
    const account = this.svm.getAccount(mint);
    return account.exists ? account.data[44] : 0;
  }

  confirmation(landed) {
    return this.slot - landed.slot >= this.finalityAfter ? "finalized" : "confirmed";
  }

  answer(method, params = []) {
    const [first, second] = params;
    const context = () => ({ apiVersion: "4.3.2", slot: this.slot });
    const known = (signature) => {
      const landed = this.landed.get(signature);
      return landed && !landed.gone ? landed : undefined;
    };
    switch (method) {
      case "getTransaction": {
        const landed = known(first);
        if (!landed) return null;
        const version = landed.version === "legacy" ? -1 : landed.version;
        const most = second?.maxSupportedTransactionVersion;
        if (version > (most ?? -1)) {
          throw new RpcError(
            -32015,
            `Transaction version (${version}) is not supported by the requesting client. Please try the request again with the following configuration parameter: "maxSupportedTransactionVersion": ${version}`,
          );
        }
        return transactionJson(landed);
      }
      case "getSignatureStatuses":
        return {
          context: context(),
          value: first.map((signature) => {
            const landed = known(signature);
            if (!landed) return null;
            const confirmationStatus = this.confirmation(landed);
            const confirmations = confirmationStatus === "finalized" ? null : this.slot - landed.slot;
            return { slot: landed.slot, confirmations, err: landed.err, status: landed.meta.status, confirmationStatus };
          }),
        };
      case "getSlot":
        return this.slot;
      case "getBlockHeight":
        return first?.commitment === "finalized" ? this.slot - this.finalityAfter : this.slot;
      case "getHealth":
        return "ok";
      case "getVersion":
        return { "solana-core": "4.3.2", "feature-set": 0 };
      case "getGenesisHash":
        return base58.decode(new Uint8Array(32).fill(0x2a));
      case "getLatestBlockhash":
        return { context: context(), value: { blockhash: this.blockhash(), lastValidBlockHeight: this.slot + HASH_BLOCKS } };
      case "isBlockhashValid":
        return { context: context(), value: this.isGood(first) };
      case "getBalance":
        return { context: context(), value: Number(this.svm.getBalance(first) ?? 0) };
      case "getAccountInfo":
        return { context: context(), value: this.accountJson(first) };
      case "getMultipleAccounts":
        return { context: context(), value: first.map((each) => this.accountJson(each)) };
      case "getTokenAccountBalance": {
        const { token } = this.snapshot(first);
        if (!token) throw new RpcError(-32602, "Invalid param: could not find account");
        return { context: context(), value: uiAmount(token) };
      }
      case "getMinimumBalanceForRentExemption":
        return Number(this.svm.minimumBalanceForRentExemption(BigInt(first)));
      case "requestAirdrop": {
        this.airdrop(first, BigInt(second));
        return base58.decode(crypto.getRandomValues(new Uint8Array(64)));
      }
      case "sendTransaction": {
        const bytes = Buffer.from(first, "base64");
        this.sends.push(first);
        if (this.drops > 0) {
          this.drops -= 1;
          const [own] = Object.values(getTransactionDecoder().decode(bytes).signatures);
          return base58.decode(own ?? new Uint8Array(64));
        }
        const signature = this.land(bytes);
        const { err } = this.landed.get(signature);
        if (err && !second?.skipPreflight) {
          this.landed.delete(signature);
          throw new RpcError(-32002, `Transaction simulation failed: ${JSON.stringify(err)}`);
        }
        return signature;
      }
      case "simulateTransaction": {
        const transaction = getTransactionDecoder().decode(Buffer.from(first, "base64"));
        const { lifetimeToken } = getCompiledTransactionMessageDecoder().decode(transaction.messageBytes);
        if (!second?.replaceRecentBlockhash && !this.isGood(lifetimeToken))
          return { context: context(), value: { err: "BlockhashNotFound", logs: [], unitsConsumed: 0 } };
        this.svm.withSigverify(false);
        try {
          const outcome = this.svm.simulateTransaction(transaction);
          const failed = outcome instanceof FailedTransactionMetadata;
          const err = failed ? errorOf(outcome) : null;
          return {
            context: context(),
            value: { err, logs: outcome.meta().logs(), unitsConsumed: Number(outcome.meta().computeUnitsConsumed()) },
          };
        } finally {
          this.svm.withSigverify(true);
        }
      }
      case "local_fund":
        return this.fund(first, BigInt(second), params[2]);
      // Cheats, for tests of finality, expiry, lost sends and reorganisations.
      case "local_setFinality":
        this.finalityAfter = first;
        return null;
      case "local_skip":
        this.skipped += first;
        return this.slot;
      case "local_drop":
        this.drops = first;
        return null;
      case "local_forget":
        this.landed.get(first).gone = true;
        return null;
      case "local_remember": {
        const landed = this.landed.get(first);
        Object.assign(landed, { gone: false, slot: this.slot });
        return landed.slot;
      }
      default:
        throw new RpcError(-32601, "Method not found");
    }
  }

  accountJson(key) {
    const account = this.svm.getAccount(key);
    if (!account.exists) return null;
    return {
      data: [Buffer.from(account.data).toString("base64"), "base64"],
      executable: account.executable,
      lamports: Number(account.lamports),
      owner: account.programAddress,
      rentEpoch: 0,
      space: account.data.length,
    };
  }

  async serve(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const one = async ({ id = null, method, params }) => {
      try {
        return { jsonrpc: "2.0", result: await this.answer(method, params), id };
      } catch (error) {
        return { jsonrpc: "2.0", error: { code: error.code ?? -32603, message: error.message }, id };
      }
    };
    let answer;
    try {
      const asked = JSON.parse(Buffer.concat(chunks).toString("utf8"));
      answer = Array.isArray(asked) ? await Promise.all(asked.map(one)) : await one(asked);
    } catch {
      answer = { jsonrpc: "2.0", error: { code: -32700, message: "Parse error" }, id: null };
    }
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
  }

  /**
   * Signs and lands instructions; answers the signature.
   * @param {import("@solana/kit").TransactionSigner} payer
   * @param {import("@solana/kit").Instruction[]} instructions
   * @param {{ version?: "legacy" | 0 | 1 }} [options]
   */
  async run(payer, instructions, { version = 0 } = {}) {
    const lifetime = { blockhash: this.blockhash(), lastValidBlockHeight: 1_000_000n };
    const empty =
      version === 1
        ? setTransactionMessageConfig(
            { computeUnitLimit: 200_000, heapSize: 32_768, loadedAccountsDataSizeLimit: 1_048_576, priorityFeeLamports: 7n },
            createTransactionMessage({ version }),
          )
        : createTransactionMessage({ version });
    const message = pipe(
      empty,
      (m) => setTransactionMessageFeePayerSigner(payer, m),
      (m) => setTransactionMessageLifetimeUsingBlockhash(lifetime, m),
      (m) => appendTransactionMessageInstructions(instructions, m),
    );
    const signed = await signTransactionMessageWithSigners(message);
    return this.land(getTransactionEncoder().encode(signed));
  }

  async ata(owner, mint = MINT, tokenProgram = TOKEN_PROGRAM) {
    const [address] = await findAssociatedTokenPda({ owner, mint, tokenProgram });
    return address;
  }

  async createAta(owner, mint = MINT) {
    return getCreateAssociatedTokenIdempotentInstruction({ payer: this.authority, ata: await this.ata(owner, mint), owner, mint });
  }

  /** Gives an owner lamports and tokens. */
  async fund(owner, amount, mint = MINT) {
    this.airdrop(owner, 10_000_000_000n);
    return this.run(this.authority, [
      await this.createAta(owner, mint),
      getMintToInstruction({ mint, token: await this.ata(owner, mint), mintAuthority: this.authority, amount }),
    ]);
  }

  /** Atomic units of a token that an owner holds. */
  async balance(owner, mint = MINT) {
    return this.snapshot(await this.ata(owner, mint)).token?.amount ?? 0n;
  }

  /**
   * A payment as a wallet makes it; answers the signature.
   * @param {{
   *   from: import("@solana/kit").TransactionSigner, to: import("@solana/kit").Address, amount: bigint, memo?: string,
   *   version?: "legacy" | 0 | 1, feePayer?: import("@solana/kit").TransactionSigner,
   * }} payment
   */
  async pay({ from, to, amount, memo, version = 0, feePayer = from }) {
    /** @type {import("@solana/kit").Instruction[]} */
    const instructions = [
      getCreateAssociatedTokenIdempotentInstruction({ payer: feePayer, ata: await this.ata(to), owner: to, mint: MINT }),
      getTransferCheckedInstruction({
        source: await this.ata(from.address),
        mint: MINT,
        destination: await this.ata(to),
        authority: from,
        amount,
        decimals: 6,
      }),
    ];
    if (memo) instructions.push({ programAddress: MEMO_PROGRAM, accounts: [], data: new TextEncoder().encode(memo) });
    return this.run(feePayer, instructions, { version });
  }

  stop() {
    this.server?.closeAllConnections();
    this.server?.close();
  }
}

/** The chain of another process, by its JSON-RPC. */
export class Remote {
  constructor(url) {
    this.url = url;
  }

  async rpc(method, params) {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
    const { result, error } = await (await fetch(this.url, { method: "POST", body })).json();
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  /** Gives an owner lamports and tokens. */
  fund(owner, amount, mint = MINT) {
    return this.rpc("local_fund", [owner, String(amount), mint]);
  }

  /** Atomic units of a token that an owner holds. */
  async balance(owner, mint = MINT) {
    const [ata] = await findAssociatedTokenPda({ owner, mint, tokenProgram: TOKEN_PROGRAM });
    return BigInt((await this.rpc("getTokenAccountBalance", [ata])).value.amount);
  }
}

export {
  AuthorityType,
  getBatchInstruction,
  getCloseAccountInstruction,
  getFreezeAccountInstruction,
  getSetAuthorityInstruction,
  getTransferCheckedInstruction,
};
export {
  COMPUTE_BUDGET,
  DEVNET_MINT,
  MEMO_PROGRAM,
  MINT,
  TOKEN_2022_PROGRAM,
  TOKEN_PROGRAM,
  feeMintBytes,
  keyPairText,
  randomSigner,
  signer,
} from "./solana-accounts.mjs";
