// A provider in front of a chain that can misbehave by the call.
import { createServer } from "node:http";
import { keccak256 } from "viem";
import { listen } from "../../scripts/lib/ports.mjs";

/**
 * Starts it. `swallow` answers sends with HTTP 500, and `down` everything; `drop` accepts sends and forgets them.
 * `raw` holds the transactions that were sent, `calls` the method of every call. `answer(call, calls)` may answer a
 * call of a batch itself, with `{ error: { code, message } }`, `{ result }` or a promise of either; undefined leaves
 * it to the chain. `sizes` holds how many calls each request had, `requests` its methods and headers; `whole(calls)` may answer a request itself, with
 * `{ status, headers, body }` or a promise of it; `mend(replies, calls)` returns what
 * is sent in place of a batch's replies.
 */
export async function startProxy(target) {
  const proxy = {
    swallow: false,
    down: false,
    drop: false,
    /** @type {any[]} */
    raw: [],
    /** @type {string[]} */
    calls: [],
    /** @type {(call: { id: number, method: string, params: any[] }, calls: any[]) => any} */
    answer: () => undefined,
    /** @type {number[]} */
    sizes: [],
    /** @type {{ methods: string[], headers: import("node:http").IncomingHttpHeaders }[]} */
    requests: [],
    /** @type {(calls: any[]) => Promise<any>} */
    whole: async () => undefined,
    /** @type {(replies: any[], calls: any[]) => any[]} */
    mend: (replies) => replies,
  };
  const forward = async (calls) => {
    if (!calls.length) return [];
    const answer = await fetch(target, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(calls) });
    return answer.json();
  };
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const asked = JSON.parse(Buffer.concat(chunks).toString());
    const calls = [asked].flat();
    const sends = calls.filter(({ method }) => method === "eth_sendRawTransaction");
    proxy.raw.push(...sends.map(({ params }) => params[0]));
    proxy.calls.push(...calls.map(({ method }) => method));
    proxy.sizes.push(calls.length);
    proxy.requests.push({ methods: calls.map(({ method }) => method), headers: request.headers });
    const whole = await proxy.whole(calls);
    if (whole) {
      response.writeHead(whole.status ?? 200, { "content-type": "application/json", ...whole.headers }).end(JSON.stringify(whole.body));
      return;
    }
    if (proxy.down || (sends.length && proxy.swallow)) {
      response.writeHead(500).end();
      return;
    }
    const own = await Promise.all(
      calls.map(async (call) => {
        if (proxy.drop && sends.includes(call)) return { result: keccak256(call.params[0]) };
        return proxy.answer(call, calls);
      }),
    );
    const answers = await forward(calls.filter((_, at) => own[at] === undefined)).catch(() => undefined);
    if (!answers) {
      response.writeHead(502).end();
      return;
    }
    const replies = calls.map((call, at) => (own[at] ? { jsonrpc: "2.0", id: call.id, ...own[at] } : answers.shift()));
    const body = Array.isArray(asked) ? proxy.mend(replies, calls) : replies[0];
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
  // A connection that is closed while it is used again is not what is tested.
  server.keepAliveTimeout = 120_000;
  const url = `http://127.0.0.1:${await listen(server)}`;
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return Object.assign(proxy, { url, stop });
}

const SENDS = ["eth_sendRawTransaction", "sendTransaction"];

/** Answers sends with a node's refusal, as long as `when` holds for the bytes. */
export const refusing =
  (message, code = -32000, when = (_bytes) => true) =>
  ({ method, params }) =>
    SENDS.includes(method) && when(params[0]) ? { error: { code, message } } : undefined;

/** Answers calls of these methods with an error, which is no answer. */
export const failing =
  (methods, error = { code: -32000, message: "internal error" }) =>
  ({ method }) =>
    methods.includes(method) ? { error } : undefined;

/** Answers as an EVM node that is so many blocks behind its chain. */
export function behind(evm, blocks) {
  const ask = async (method, params) => {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
    const answer = await fetch(evm.url, { method: "POST", headers: { "content-type": "application/json" }, body });
    const { result, error } = await answer.json();
    return error ? { error } : { result };
  };
  const places = { eth_call: 1, eth_getCode: 1, eth_getBalance: 1, eth_getTransactionCount: 1, eth_getBlockByNumber: 0 };
  return async ({ method, params }) => {
    const head = `0x${(Number(await evm.rpc("eth_blockNumber")) - blocks).toString(16)}`;
    if (method === "eth_blockNumber") return { result: head };
    const at = places[method];
    if (!["latest", "pending"].includes(params[at])) return undefined;
    return ask(method, params.with(at, head));
  };
}
