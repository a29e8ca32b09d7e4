// A provider on loopback in a process of its own: payments of a fixed form, as
// fast as node answers. argv: port, how deep the payments lie (final | recent),
// whether each has a payer of its own (payers). A GET is a question to the DNS.
import { createServer } from "node:http";

const [port, depth, payers] = [Number(process.argv[2]), ...process.argv.slice(3)];
const TOKEN = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913";
const TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
const BLOCK = depth === "final" ? 900 : 995;
const hex = (number) => `0x${number.toString(16)}`;
const word = (text) => `0x${text.replace("0x", "").padStart(64, "0")}`;
const blockHash = (number) => word(hex(0xb10c000000 + number));

/** The last 20 bytes of a hash name the recipient: whoever asks has been paid. The first may name the payer. */
function receipt(hash) {
  const payer = payers === "payers" ? hash.slice(0, 42) : `0x${"7b".repeat(20)}`;
  const log = {
    address: TOKEN,
    topics: [TRANSFER, word(payer), word(hash.slice(-40))],
    data: word(hex(1_500_000)),
    logIndex: "0x0",
    blockHash: blockHash(BLOCK),
    blockNumber: hex(BLOCK),
    transactionHash: hash,
    transactionIndex: "0x0",
    removed: false,
  };
  return {
    transactionHash: hash,
    blockHash: blockHash(BLOCK),
    blockNumber: hex(BLOCK),
    status: "0x1",
    type: "0x2",
    transactionIndex: "0x0",
    from: payer,
    to: TOKEN,
    logs: [log],
    gasUsed: "0x5208",
    cumulativeGasUsed: "0x5208",
    logsBloom: "0x",
  };
}

function answer({ method, params }) {
  switch (method) {
    case "eth_chainId":
      return "0x2105";
    case "eth_blockNumber":
      return hex(1000);
    case "eth_getTransactionReceipt":
      return receipt(params[0]);
    case "eth_getBlockByNumber": {
      const number = params[0] === "finalized" ? 990 : Number(params[0]);
      return { number: hex(number), hash: blockHash(number), timestamp: hex(Math.floor(Date.now() / 1000) - 60) };
    }
    case "eth_getCode":
      return "0x";
    default:
      return word("0x0");
  }
}

/** Every name leads to a public address, to which nothing is sent. */
function resolved(url) {
  const query = new URL(url, "http://dns.local").searchParams;
  const [type, data] = query.get("type") === "A" ? [1, "93.184.215.14"] : [28, "2606:2800:21f:cb07:6820:80da:af6b:8b2c"];
  return JSON.stringify({ Status: 0, Answer: [{ name: query.get("name"), type, data }] });
}

createServer((request, response) => {
  if (request.method === "GET") {
    response.writeHead(200, { "content-type": "application/dns-json" }).end(resolved(request.url));
    return;
  }
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const asked = JSON.parse(Buffer.concat(chunks).toString());
    const one = (call) => ({ jsonrpc: "2.0", id: call.id, result: answer(call) });
    const body = JSON.stringify(Array.isArray(asked) ? asked.map(one) : one(asked));
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) }).end(body);
  });
}).listen(port, "127.0.0.1");
