// A scripted provider, which can misbehave as well: for what no real chain can
// be made to do.
import { createServer } from "node:http";
import { listen } from "../../scripts/lib/ports.mjs";

const TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
const hex = (number) => `0x${BigInt(number).toString(16)}`;
const word = (value) => `0x${BigInt(value).toString(16).padStart(64, "0")}`;

/**
 * Starts a mock EVM provider of a chain.
 * @param {{ chainId?: number, token?: string }} [options]
 */
export async function startMock({ chainId = 8453, token = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913" } = {}) {
  const mock = new Mock(chainId, token.toLowerCase());
  const server = createServer((request, response) => mock.serve(request, response));
  const url = `http://127.0.0.1:${await listen(server)}`;
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return Object.assign(mock, { url, stop });
}

/** An `error` in place of a result. */
class Refused extends Error {
  constructor(error) {
    super(error.message);
    this.error = error;
  }
}

class Mock {
  /** @type {number} how many requests came */
  requests;
  /** @type {string[]} the method of every call */
  calls;
  /** @type {any[]} each transaction that was called, not sent */
  simulated;
  /** @type {string | undefined} */
  fault;
  /** @type {number[]} how many calls each request held */
  sizes;
  /** @type {(asked: any, request: import("node:http").IncomingMessage) => { status: number, body: string } | undefined} */
  whole;
  /** @type {(method: string, params: any[]) => { error?: any, result?: any } | undefined} */
  script;
  /** @type {bigint | undefined} */
  baseFee;
  /** @type {(call: any) => any} */
  simulate;

  constructor(chainId, token) {
    this.chainId = chainId;
    this.token = token;
    this.head = 1000;
    this.finalized = 990;
    this.receipts = new Map();
    this.pending = new Set();
    this.large = new Set();
    this.reset();
  }

  reset() {
    this.requests = 0;
    this.calls = [];
    this.simulated = [];
    this.fault = undefined;
    this.sizes = [];
    /** Answers a whole request, as `{ status, body }`; `undefined`: as it should. */
    this.whole = () => undefined;
    /** Answers a call, as `{ error }` or `{ result }`; `undefined`: as it should. */
    this.script = () => undefined;
    /** Wei that a unit of gas costs at least; `undefined`: the node answers no price. */
    this.baseFee = 1_000_000_000n;
    /** Answers an `eth_call`: text, or `{ error }`; `undefined`: all is well. */
    this.simulate = () => undefined;
  }

  price(wei) {
    if (this.baseFee === undefined) throw new Refused({ code: -32000, message: "no price today" });
    return hex(wei);
  }

  hashOf(block) {
    return word(BigInt(block) + 0xb10c000000n);
  }

  /**
   * A payment in a block; answers the transaction's hash. `transfers` stand in place of `from`, `to` and `amount`.
   * @param {{
   *   hash?: string, from?: string, to?: string, amount?: number | bigint, block?: number, status?: string,
   *   transfers?: { from: string, to: string, amount: number | bigint, token?: string }[],
   * }} payment
   */
  addTransfer({ hash, from, to, amount, block = 900, status = "0x1", transfers }) {
    hash ??= `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex")}`;
    const list = transfers ?? [{ from, to, amount }];
    const logs = list.map((one, at) => ({
      address: one.token ?? this.token,
      topics: [TRANSFER, word(one.from), word(one.to)],
      data: word(one.amount),
      logIndex: hex(at),
      blockHash: this.hashOf(block),
      blockNumber: hex(block),
      transactionHash: hash,
      transactionIndex: "0x0",
      removed: false,
    }));
    this.receipts.set(hash, {
      transactionHash: hash,
      blockHash: this.hashOf(block),
      blockNumber: hex(block),
      status,
      from: String(list[0].from).toLowerCase(),
      to: this.token,
      logs: status === "0x1" ? logs : [],
      type: "0x2",
      gasUsed: "0x5208",
      cumulativeGasUsed: "0x5208",
      transactionIndex: "0x0",
      logsBloom: "0x",
    });
    return hash;
  }

  /** A receipt above 4 MiB: one more log, with much data, of another contract. */
  padded(hash) {
    const receipt = this.receipts.get(hash);
    const log = { ...receipt.logs[0], address: `0x${"99".repeat(20)}`, topics: [], data: `0x${"00".repeat(5 << 19)}`, logIndex: "0xffff" };
    return { ...receipt, logs: [...receipt.logs, log] };
  }

  answer(method, [first]) {
    switch (method) {
      case "eth_chainId":
        return hex(this.chainId);
      case "eth_blockNumber":
        return hex(this.head);
      case "eth_getTransactionReceipt":
        return this.large.has(first) ? this.padded(first) : (this.receipts.get(first) ?? null);
      case "eth_getLogs": {
        const logs = [...this.receipts.values()].flatMap((receipt) => receipt.logs);
        return logs.filter((log) => log.blockHash === first.blockHash && log.address === first.address);
      }
      case "eth_getTransactionByHash":
        if (this.receipts.has(first)) {
          const { transactionHash, blockHash, blockNumber, from } = this.receipts.get(first);
          return { hash: transactionHash, blockHash, blockNumber, from };
        }
        return this.pending.has(first) ? { hash: first, blockNumber: null, blockHash: null } : null;
      case "eth_getBlockByNumber": {
        const number = { finalized: this.finalized, latest: this.head }[first] ?? Number(first);
        const fee = this.baseFee === undefined ? {} : { baseFeePerGas: hex(this.baseFee) };
        return { number: hex(number), hash: this.hashOf(number), timestamp: hex(Math.floor(Date.now() / 1000) - 60), ...fee };
      }
      case "eth_gasPrice":
        return this.price(this.baseFee);
      case "eth_maxPriorityFeePerGas":
        return this.price(1_000_000);
      case "eth_getBalance":
        return hex(10n ** 18n);
      case "eth_getCode":
        return first === this.token ? "0x6001" : "0x";
      case "eth_call": {
        if (first.from) this.simulated.push(first);
        const scripted = this.simulate(first);
        if (scripted?.error) throw new Refused(scripted.error);
        return scripted ?? word(0);
      }
      default:
        throw new Error(`no such method: ${method}`);
    }
  }

  async serve(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    this.requests++;
    const asked = JSON.parse(Buffer.concat(chunks).toString());
    for (const call of [asked].flat()) this.calls.push(call.method);
    this.sizes.push([asked].flat().length);
    const one = (call) => {
      const own = this.script(call.method, call.params);
      if (own) return { jsonrpc: "2.0", id: call.id, ...own };
      try {
        return { jsonrpc: "2.0", id: call.id, result: this.answer(call.method, call.params) };
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        return { jsonrpc: "2.0", id: call.id, error: error.error };
      }
    };
    const good = Array.isArray(asked) ? asked.map(one) : one(asked);
    const send = (status, body, headers = {}) => response.writeHead(status, { "content-type": "application/json", ...headers }).end(body);
    const faults = {
      slow: () => setTimeout(() => send(200, JSON.stringify(good)), 3000),
      silent: () => {},
      gone: () => request.socket.destroy(),
      html: () => send(200, "<html><body>Welcome</body></html>", { "content-type": "text/html" }),
      "http-429": () => send(429, JSON.stringify({ error: "Too many requests" }), { "retry-after": "7" }),
      "http-500": () => send(500, ""),
      "string-error": () => send(200, JSON.stringify({ jsonrpc: "2.0", id: 1, error: "rate limit of your plan" })),
      truncated: () => send(200, JSON.stringify(good).slice(0, -20)),
      enormous: () => {
        response.writeHead(200, { "content-type": "application/json" });
        const chunk = Buffer.alloc(1 << 20, " ");
        for (let at = 0; at < 6; at++) response.write(chunk);
        response.end(JSON.stringify(good));
      },
      nested: () => send(200, `{"jsonrpc":"2.0","id":1,"result":${"[".repeat(200_000)}`),
      lie: () => send(200, JSON.stringify(good).replace(/"hash":"0x[0-9a-f]{64}"/g, `"hash":"${word(0xbad)}"`)),
      "other-chain": () => send(200, JSON.stringify(good).replaceAll(hex(this.chainId), "0x1")),
      redirect: () => send(302, "", { location: "http://127.0.0.1:1/" }),
      garbage: () => send(200, '[{"id":1,"result":7},{"id":2,"result":[]},{"id":3,"result":"x"},{"id":4,"result":{}}]'),
      nulls: () => send(200, JSON.stringify([asked].flat().map((call) => ({ jsonrpc: "2.0", id: call.id, result: null })))),
    };
    const act = faults[this.fault];
    const whole = this.whole(asked, request);
    if (whole) send(whole.status, whole.body);
    else if (act) act();
    else send(200, JSON.stringify(good));
  }
}
