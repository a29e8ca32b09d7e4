// Errors as Sentry's own receiver for development gets them (Spotlight), behind a relay that keeps the bytes and fails as Sentry may.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { freePort } from "../../scripts/lib/ports.mjs";
import { ROOT, node, spotlight } from "../../scripts/lib/tools.mjs";
import { startMock } from "../workerd/mock-rpc.mjs";
import { random } from "../workerd/payment.mjs";
import { ADMIN_KEY, startWorker, until } from "../workerd/worker.mjs";

const KEY = "0a1b2c3d4e5f";
let mock, worker, receiver, relay, seller;
/** What Spotlight says that it has received. */
let printed = "";
/** The envelopes that came, parsed. */
const sent = [];
/** How the relay answers: it forwards; or it holds what comes, or answers so itself. */
let mode = /** @type {any} */ ({});
const holding = [];

function parse(text) {
  const [head, item, body, ...more] = text.trimEnd().split("\n");
  const reports = more.length ? JSON.parse(more[1]).discarded_events : [];
  return { head: JSON.parse(head), item: JSON.parse(item), event: JSON.parse(body), reports, text };
}

async function relayed(request, response, port) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  sent.push({ ...parse(text), url: request.url, headers: request.headers });
  if (mode.holds) return holding.push(response);
  if (mode.status) return response.writeHead(mode.status, mode.headers).end();
  const headers = { "content-type": request.headers["content-type"] };
  const answer = await fetch(`http://127.0.0.1:${port}${request.url}`, { method: "POST", headers, body: text }).catch(() => null);
  response.writeHead(answer?.status ?? 502).end();
}

before(async () => {
  await spotlight();
  const port = await freePort(0);
  const script = join(ROOT, "tests", "peers", "spotlight", "node_modules", "@spotlightjs", "spotlight", "dist", "run.js");
  // It would report its own use to its makers: a proxy that is not there stops it.
  const env = { ...process.env, http_proxy: "http://127.0.0.1:1", https_proxy: "http://127.0.0.1:1", no_proxy: "" };
  receiver = spawn(node(), [script, "tail", "errors", "-f", "json", "-p", String(port)], { env, stdio: ["ignore", "pipe", "ignore"] });
  receiver.stdout.on("data", (data) => (printed += data));
  await until(
    () =>
      fetch(`http://127.0.0.1:${port}/health`).then(
        (answer) => answer.ok,
        () => false,
      ),
    "Spotlight",
  );
  relay = createServer((request, response) => relayed(request, response, port));
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  mock = await startMock();
  const address = /** @type {import("node:net").AddressInfo} */ (relay.address());
  const vars = { SENTRY_DSN: `http://${KEY}@127.0.0.1:${address.port}/7`, SENTRY_ENVIRONMENT: "staging", RPC_BASE: mock.url };
  worker = await startWorker({ vars });
  const to = random(20);
  seller = { ...(await worker.tenant({ recipients: { base: to } })), to };
});
after(async () => {
  await worker?.stop();
  mock?.stop();
  relay?.closeAllConnections();
  relay?.close();
  receiver?.kill();
});

/** The next envelope that came after what `act` did and fits. */
async function next(what, fits, act) {
  const from = sent.length;
  const answer = await act();
  const found = await until(() => sent.slice(from).find(({ event }) => fits(event)), what);
  return { answer, ...found };
}

const ofKind = (kind) => (event) => event.tags.kind === kind;

/** A verification whose ledger is not reached. */
async function fault() {
  const hash = random(32);
  await worker.fault({ names: hash, unsent: true });
  return worker.verify(seller.live, { tx_hash: hash, chain: "base" });
}

test("a fault of a request arrives with its surroundings, and without secrets", async () => {
  const { answer, event, head, item, url, headers, text } = await next("a fault", ofKind("fault"), fault);
  assert.equal(answer.status, 503);
  assert.equal(url, "/api/7/envelope/");
  assert.match(headers["x-sentry-auth"], new RegExp(`sentry_key=${KEY}$`));
  assert.deepEqual([head.event_id, item.type, item.length], [event.event_id, "event", Buffer.byteLength(JSON.stringify(event))]);
  assert.match(event.release, /^x402-edge@\d+\.\d+\.\d+(\+[0-9a-f]{12})?$/);
  assert.deepEqual([event.environment, event.level, event.transaction], ["staging", "error", "/v1/verify"]);
  const { tags } = event;
  assert.deepEqual([tags.route, tags.chain, tags.tenant], ["/v1/verify", "base", seller.id]);
  assert.equal(tags.request_id, answer.headers.get("x-request-id"));
  assert.deepEqual(event.fingerprint, ["fault", tags.code]);
  const crumbs = event.breadcrumbs.values;
  assert.ok(
    crumbs.some(({ category, data }) => category === "provider" && data.chain === "base" && data.outcome),
    JSON.stringify(crumbs),
  );
  assert.ok(
    crumbs.some(({ category, message }) => category === "step" && message.startsWith("ledger")),
    JSON.stringify(crumbs),
  );
  for (const secret of [KEY, seller.live, ADMIN_KEY, "127.0.0.1"]) assert.ok(!text.includes(secret), secret);
  await until(() => printed.includes(event.event_id), "Spotlight's word of it");
});

test("objects, timed jobs and batches of queues report theirs", async () => {
  const alarm = await next("an alarm", ofKind("an alarm could not be set"), async () => {
    await worker.storageFault({ names: "setAlarm" });
    const answer = await worker.verify(seller.live, { tx_hash: random(32), chain: "base" });
    await worker.storageFault();
    return answer;
  });
  assert.equal(alarm.event.tags.tenant, seller.id);
  await next("a timed job", ofKind("cron failed"), async () => {
    await worker.dbFault({ names: "SELECT", stays: true });
    await worker.cron("0 0 1 * *");
    await worker.dbFault();
  });
  await next("a batch", ofKind("a mail could not be sent"), async () => {
    await worker.dbFault({ names: "SELECT", stays: true });
    const queue = await worker.mf.getQueueProducer("MAILS");
    await queue.send("mail_01JDZV9K5N6Y7Z8A9B0C1D2E3F");
    await until(() => worker.log.lines.some((line) => line.includes("a mail could not be sent")), "the batch");
    await worker.dbFault();
    await worker.call("GET", "/v1/health");
  });
});

test("a panic arrives with its stack, from the instance after it", async () => {
  const { event } = await next(
    "a panic",
    (event) => event.level === "fatal",
    async () => {
      await worker.panic();
      const body = JSON.stringify({});
      const headers = { authorization: `Bearer ${seller.live}`, "content-type": "application/json" };
      // Nobody is left to answer it.
      const given = AbortSignal.timeout(5_000);
      await fetch(`${worker.url}/facilitator/settle`, { method: "POST", headers, body, signal: given }).catch(() => {});
    },
  );
  const [{ type, value, mechanism, stacktrace }] = event.exception.values;
  assert.deepEqual([type, mechanism.handled, event.tags.route], ["panic", false, "/facilitator/settle"]);
  assert.match(value, /unwrap.*no work after an answer to \[mail\]/s);
  assert.match(event.extra.place, /^worker-[\d.]+\/src\/context\.rs:\d+$/);
  const names = stacktrace.frames.map((frame) => frame.function);
  const at = (part) => names.findLastIndex((name) => name.includes(part));
  // A release has the handler's own function within that which calls it.
  const [handler, panicked] = [at("x402_edge::handlers::"), at("core::panicking::")];
  assert.ok(handler >= 0, names.join("\n"));
  assert.ok(handler < panicked, "the oldest call comes first");
  const own = stacktrace.frames[handler];
  assert.deepEqual([own.in_app, own.module], [true, "wasm"]);
  assert.match(own.instruction_addr, /^0x[0-9a-f]+$/);
  assert.ok(!names.some((name) => /::h[0-9a-f]{16}$/.test(name)), "names are demangled");
  await until(() => printed.includes(event.event_id), "Spotlight's word of it");
  await until(() => worker.log.lines.some((line) => line.includes(`"message":"panic"`)), "the log's line");
  // The new instance serves.
  // An object that was there before has lost what the wrapper of the tests keeps beside it: another tenant's is asked.
  const other = await worker.tenant({ recipients: { base: random(20) } });
  const served = await worker.verify(other.live, { tx_hash: random(32), chain: "base" });
  assert.equal(served.status, 200, served.text);
});

test("a Sentry that is slow or refuses costs a request nothing, and its limits are obeyed", async () => {
  mode = { holds: true };
  await next("what is held", ofKind("fault"), fault);
  // The request was answered while Sentry has not.
  assert.equal(holding.length, 1);
  mode = { status: 429, headers: { "x-sentry-rate-limits": "60:error:organization" } };
  for (const response of holding.splice(0)) response.writeHead(429, mode.headers).end();
  const from = sent.length;
  // A pause is noted when the answer has come: until then one more may be under way.
  await until(async () => {
    const before = sent.length;
    await fault();
    await worker.call("GET", "/v1/health");
    return sent.length === before;
  }, "a pause");
  assert.ok(sent.length - from <= 2, `${sent.length - from} more`);
  mode = {};
  await worker.advance(61_000);
  const { reports } = await next("an event after the pause", ofKind("fault"), fault);
  const lost = reports.find(({ reason }) => reason === "ratelimit_backoff");
  assert.ok(lost?.quantity >= 1 && lost.category === "error", JSON.stringify(reports));
});
