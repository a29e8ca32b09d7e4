// Who asks for settlements in the tests of deliveries: callers that can vanish, over
// a chain whose blocks stand still as long as a test says.
import assert from "node:assert/strict";
import { request as http } from "node:http";
import { connect } from "node:net";
import { LONG, nonceOf, signedPayment } from "./payment.mjs";
import { sent as sentOn } from "./settling.mjs";
import { until } from "./worker.mjs";

const ROUTE = "/facilitator/settle";
/** A lease ends after 30 s; a reopening that is noticed comes much sooner. */
const SOON = 10_000;

/** Settles, or asks for another `path`, over a connection of its own, which `cut` resets; `answer` is what came, or nothing. */
export function caller(worker, { key, body }, headers = {}, path = ROUTE) {
  const { hostname, port } = new URL(worker.url);
  const text = JSON.stringify(body);
  const own = { authorization: `Bearer ${key}`, "content-type": "application/json", "content-length": Buffer.byteLength(text), ...headers };
  const request = http({ hostname, port, path, method: "POST", agent: false, headers: own });
  const answer = new Promise((resolve) => {
    request.once("error", () => resolve(undefined));
    request.once("response", async (response) => {
      // A connection that ends within the body has brought no answer.
      const whole = Buffer.concat(await response.toArray().catch(() => [])).toString();
      resolve(whole ? { status: response.statusCode, headers: response.headers, text: whole, body: JSON.parse(whole) } : undefined);
    });
  });
  request.end(text);
  return { answer, cut: () => request.socket?.resetAndDestroy() };
}

/** The helpers for one Worker and one chain. */
export function callers(worker, evm) {
  const sent = (tag) => sentOn(evm, tag);
  const inThePool = (count) => until(async () => (await sent("pending")) === count, "the settlement in the pool");
  const { hostname, port } = new URL(worker.url);

  /** A payment, with all that can be asked about it. */
  async function payment(wishes) {
    const paid = await signedPayment(worker, evm, { ...LONG, ...wishes });
    const key = paid.test;
    const get = (path) => worker.call("GET", path, { key });
    const settle = (body = paid.body, headers = {}) => worker.call("POST", ROUTE, { key, body, headers });
    const open = (body = paid.body) =>
      get(`/v1/settlements?network=eip155:31337&payer=${body.paymentPayload.payload.authorization.from}&nonce=${nonceOf(body)}`);
    const record = async (body) => (await open(body)).body.data[0];
    const handOver = (id, by = key) => worker.call("POST", `/v1/settlements/${id}/hand-over`, { key: by, body: {} });
    return { ...paid, key, get, settle, open, record, handOver, isValid: async () => (await paid.verify()).body.isValid };
  }

  /** A bare socket that has sent a settle; it is paused, so that nothing is read until the test reads. */
  function deaf({ key, body }, headers = {}) {
    const text = JSON.stringify(body);
    const all = {
      host: hostname,
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      "content-length": Buffer.byteLength(text),
      connection: "close",
      ...headers,
    };
    const head = Object.entries(all)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join("");
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true }).pause();
    socket.on("error", () => {});
    socket.write(`POST ${ROUTE} HTTP/1.1\r\n${head}\r\n${text}`);
    return socket;
  }

  /** Does something while blocks stand still; one block after it, and they go on. */
  async function whileBlocksStand(act) {
    await evm.rpc("evm_setAutomine", [false]);
    try {
      return await act(await sent("pending"));
    } finally {
      await evm.rpc("evm_setAutomine", [true]);
      await evm.rpc("evm_mine");
    }
  }

  /** Makes a caller vanish while the settlement of `body` is awaited; it is completed, and open again. */
  async function lose(paid, body = paid.body) {
    await whileBlocksStand(async (count) => {
      const gone = caller(worker, { key: paid.key, body });
      await inThePool(count + 1);
      gone.cut();
      assert.equal(await gone.answer, undefined);
    });
    await until(async () => (await paid.verify(body)).body.isValid, "the delivery to reopen", SOON);
    return paid.record(body);
  }

  /** A payment that was lost so. */
  async function lost(wishes) {
    const paid = await payment(wishes);
    return { ...paid, settlement: await lose(paid) };
  }
  return { sent, inThePool, payment, caller: (paid, headers) => caller(worker, paid, headers), deaf, whileBlocksStand, lose, lost };
}
