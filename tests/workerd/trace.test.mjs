// How a request is followed: its line in the log, the times of its steps, and its trace, which goes from the client to the
// providers, the settler and the webhooks.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { KEYS, startEvm } from "../../scripts/lib/evm.mjs";
import { Browser, signedUp } from "./browser.mjs";
import { startMock } from "./mock-rpc.mjs";
import { random, signedPayment } from "./payment.mjs";
import { startProxy } from "./proxy.mjs";
import { hearing, receivers } from "./receivers.mjs";
import { startWorker, until } from "./worker.mjs";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT = `00-${TRACE}-00f067aa0c1902b7-01`;
/** No client gives a provider more than ids. */
const STATE = "vendor=NeverSentOn";
const play = receivers();
let mock, evm, proxy, worker;

before(async () => {
  [mock, evm] = await Promise.all([startMock(), startEvm()]);
  proxy = await startProxy(evm.url);
  const vars = { RPC_BASE: mock.url, RPC_LOCAL_EVM: proxy.url, EVM_SIGNERS_TEST: KEYS.at(-1), MAIL_BACKEND: "mailbox" };
  worker = await startWorker({ vars, outbound: play.outbound });
});
after(async () => {
  await worker?.stop();
  proxy?.stop();
  evm?.stop();
  mock?.stop();
});

/** The lines of kind `request` about an answer. */
const linesOf = (answer, on = worker) =>
  on.log.lines
    .filter((line) => line.includes(answer.headers.get("x-request-id")))
    .map((line) => JSON.parse(line))
    .filter(({ message }) => message === "request");
const lineOf = (answer, on = worker) => until(() => linesOf(answer, on)[0], "the line of a request");

/** The steps of an answer by their names, with their milliseconds; nothing where it has no such header. */
function timesOf({ headers }) {
  const timing = headers.get("server-timing");
  if (timing === null) return undefined;
  return Object.fromEntries(
    timing.split(", ").map((part) => {
      const [, name, ms] = part.match(/^([a-z]+);dur=(\d+)$/) ?? assert.fail(timing);
      return [name, Number(ms)];
    }),
  );
}

function assertSteps(answer, steps) {
  const found = Object.keys(timesOf(answer) ?? {});
  assert.ok(
    steps.every((step) => found.includes(step)),
    `${found} lack some of ${steps}`,
  );
}

/** The bits of an id, as the trace of its request is named. */
function bitsOf(id) {
  const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
  const number = [...id.slice(id.indexOf("_") + 1)].reduce((sum, digit) => sum * 32n + BigInt(digits.indexOf(digit)), 0n);
  return number.toString(16).padStart(32, "0");
}

/** The parts of a header that we send. */
function partsOf(header) {
  const [, trace, span, flags] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])$/.exec(header) ?? assert.fail(`${header}`);
  return { trace, span, flags };
}

/** Notes what the scripted provider is sent. */
function overheard() {
  const sent = [];
  mock.whole = (_, request) => void sent.push(request.headers);
  return sent;
}

/** A seller on Base and its verification of a payment that it was paid. */
async function seller() {
  const to = random(20);
  const tenant = await worker.tenant({ recipients: { base: to } });
  const paid = () => mock.addTransfer({ from: random(20), to, amount: 1_000_000, block: 900 });
  const verify = (headers = {}) => worker.verify(tenant.live, { tx_hash: paid(), chain: "base", max_age_seconds: 315_360_000 }, headers);
  return { ...tenant, verify };
}

test("a request has one line, with its steps, its chain, what was found and who has asked", async () => {
  const { id, live, verify } = await seller();
  const good = await verify();
  const line = await lineOf(good);
  const { ms, auth_ms, chain_ms, ledger_ms, ...rest } = line;
  assert.deepEqual(rest, {
    message: "request",
    request_id: good.headers.get("x-request-id"),
    trace_id: bitsOf(good.headers.get("x-request-id")),
    method: "POST",
    endpoint: "/v1/verify",
    status: 200,
    tenant: id,
    chain: "base",
    outcome: good.body.status,
  });
  for (const time of [ms, auth_ms, chain_ms, ledger_ms]) assert.ok(Number.isInteger(time) && time >= 0, JSON.stringify(line));
  assert.ok(chain_ms + ledger_ms <= ms, JSON.stringify(line));
  const refused = await worker.verify(live, { tx_hash: random(32), chain: "base" });
  assert.equal((await lineOf(refused)).outcome, refused.body.error_code);
  const wrong = await worker.verify(live, { tx_hash: "0x", chain: "base" });
  assert.deepEqual([wrong.status, (await lineOf(wrong)).code], [422, wrong.body.error_code]);
  // The code stands in an answer of the ledger that the Worker does not read.
  const elsewhere = await worker.verify(live, { tx_hash: random(32), chain: "base", recipient: random(20) });
  const { code, outcome, tenant } = await lineOf(elsewhere);
  assert.deepEqual([elsewhere.status, code, outcome, tenant], [422, "RECIPIENT_NOT_REGISTERED", undefined, id]);
  assert.ok(elsewhere.headers.get("x-ledger-outcome") === null && good.headers.get("x-ledger-outcome") === null);
  for (const answer of [good, refused, wrong, elsewhere]) assert.equal(linesOf(answer).length, 1);
});

test("a preflight, an unknown path and a wrong method have lines too", async () => {
  const { live } = await seller();
  for (const [method, path, status, endpoint] of [
    ["OPTIONS", "/v1/verify", 204, "none"],
    ["GET", "/v1/nowhere-secret", 404, "none"],
    ["DELETE", "/v1/verify", 405, "none"],
    ["GET", "/v1/pricing", 200, "/v1/pricing"],
    ["HEAD", "/v1/usage", 200, "/v1/usage"],
    ["GET", `/v1/verifications/ver_${"0".repeat(26)}`, 404, "/v1/verifications/{id}"],
  ]) {
    const answer = await worker.call(method, path, { key: live });
    assert.equal(answer.status, status, `${method} ${path}`);
    const line = await lineOf(answer);
    assert.deepEqual([line.method, line.endpoint, line.status], [method, endpoint, status]);
    assert.equal(linesOf(answer).length, 1);
  }
});

test("with REQUEST_LOG=failed only requests that fail or are slow have a line, and those name the providers", async () => {
  const own = await startWorker({ vars: { REQUEST_LOG: "failed", RPC_BASE: mock.url } });
  try {
    const good = await own.call("GET", "/v1/pricing");
    const lost = await own.call("GET", "/v1/nowhere");
    assert.equal((await lineOf(lost, own)).status, 404);
    assert.deepEqual(linesOf(good, own), []);
    const tenant = await own.tenant({ recipients: { base: random(20) } });
    mock.fault = "http-500";
    const failed = await own.verify(tenant.live, { tx_hash: random(32), chain: "base" });
    mock.fault = undefined;
    assert.equal(failed.status, 503, failed.text);
    const { code, providers } = await lineOf(failed, own);
    assert.equal(code, "CHAIN_UNAVAILABLE");
    assert.match(providers, /^\+\d+ base 127\.0\.0\.1:\d+ http_error \d+ ms/);
  } finally {
    mock.fault = undefined;
    await own.stop();
  }
});

test("an answer to whoever is known says how long its steps took", async () => {
  const { live, verify } = await seller();
  const good = await verify();
  const { auth, chain, ledger, total, ...more } = timesOf(good) ?? {};
  for (const time of [auth, chain, ledger, total]) assert.ok(Number.isInteger(time), good.headers.get("server-timing") ?? "");
  assert.deepEqual(more, {});
  const line = await lineOf(good);
  assert.deepEqual([line.chain_ms, line.ledger_ms], [chain, ledger]);
  assert.deepEqual(Object.keys(timesOf(await worker.call("GET", "/v1/usage", { key: live })) ?? {}), ["auth", "ledger", "total"]);
  assert.deepEqual(Object.keys(timesOf(await worker.call("HEAD", "/v1/usage", { key: live })) ?? {}), ["auth", "ledger", "total"]);
  // The body of a ledger's answer is the same, whole.
  assert.equal(good.body.request_id, good.headers.get("x-request-id"));
  const paid = await signedPayment(worker, evm);
  const verified = await paid.verify();
  assert.equal(verified.body.isValid, true, verified.text);
  assertSteps(verified, ["auth", "chain", "ledger", "total"]);
  const settled = await paid.settle();
  assert.equal(settled.body.success, true, settled.text);
  assertSteps(settled, ["auth", "ledger", "settler", "total"]);
  const ann = await signedUp(worker);
  const read = await ann.browser.call("GET", "/v1/tenant");
  assert.match(String(read.headers["server-timing"]), /^auth;dur=\d+, total;dur=\d+$/);
});

test("the times are no other origin's, and no refusal's or stranger's", async () => {
  const { id, live, verify } = await seller();
  const good = await verify({ origin: "https://elsewhere.example" });
  assert.ok(timesOf(good));
  assert.equal(good.headers.get("timing-allow-origin"), null);
  assert.ok(!good.headers.get("access-control-expose-headers")?.toLowerCase().includes("server-timing"));
  const made = await worker.call("POST", `/v1/admin/tenants/${id}/api-keys`, { admin: true, body: { name: "gone", environment: "live" } });
  await worker.call("DELETE", `/v1/admin/tenants/${id}/api-keys/${made.body.api_key.id}`, { admin: true });
  const body = { tx_hash: random(32), chain: "base" };
  const stranger = await seller();
  const { id: foreign } = (await stranger.verify()).body;
  const browser = new Browser(worker);
  for (const [status, asking] of [
    [401, worker.verify(undefined, body)],
    [401, worker.verify(`${live.slice(0, -1)}x`, body)],
    [401, worker.verify(made.body.key, body)],
    [403, worker.verify(live, { ...body, chain: "base-sepolia" })],
    [404, worker.call("GET", `/v1/verifications/${foreign}`, { key: live })],
    [401, worker.call("GET", "/v1/admin/tenants", { admin: "wrong" })],
    [200, worker.call("GET", "/v1/admin/tenants", { admin: true })],
    [200, worker.call("GET", "/v1/pricing")],
    [202, browser.call("POST", "/v1/login", { email: "nobody@example.test" })],
    [401, browser.call("GET", "/v1/tenant")],
  ]) {
    const { status: found, headers } = await asking;
    assert.equal(found, status);
    assert.equal(headers instanceof Headers ? headers.get("server-timing") : (headers["server-timing"] ?? null), null);
  }
});

test("a trace goes on with each request to a provider, by its ids alone", async () => {
  const { verify } = await seller();
  let sent = overheard();
  const answer = await verify({ traceparent: PARENT, tracestate: STATE, baggage: STATE });
  assert.ok(sent.length >= 2, `${sent.length} requests`);
  const spans = sent.map(({ traceparent }) => {
    const { trace, span, flags } = partsOf(traceparent);
    assert.deepEqual([trace, flags], [TRACE, "01"]);
    return span;
  });
  assert.equal(new Set([...spans, "00f067aa0c1902b7"]).size, spans.length + 1, "each has a span of its own");
  assert.ok(!JSON.stringify(sent).includes("NeverSentOn"));
  assert.equal((await lineOf(answer)).trace_id, TRACE);
  const { trace, span } = partsOf(answer.body.traceparent);
  assert.deepEqual([trace, span], [TRACE, bitsOf(answer.body.request_id).slice(16)]);
  for (const [traceparent, flags] of [
    [`00-${TRACE}-00f067aa0c1902b7-00`, "00"],
    [`00-${TRACE}-00f067aa0c1902b7-fe`, "00"],
    [`42-${TRACE}-00f067aa0c1902b7-01-what-comes`, "01"],
  ]) {
    sent = overheard();
    await verify({ traceparent });
    assert.deepEqual([partsOf(sent[0].traceparent).trace, partsOf(sent[0].traceparent).flags], [TRACE, flags], traceparent);
  }
});

test("a header that is wrong, and none, begin a trace with the id of the request", async () => {
  const { verify } = await seller();
  for (const traceparent of [
    undefined,
    "NeverSentOn",
    PARENT.toUpperCase(),
    `ff-${TRACE}-00f067aa0c1902b7-01`,
    `00-${"0".repeat(32)}-00f067aa0c1902b7-01`,
    `00-${TRACE}-${"0".repeat(16)}-01`,
    `${PARENT}-more`,
    `${PARENT}, ${PARENT}`,
  ]) {
    const sent = overheard();
    const answer = await verify(traceparent === undefined ? {} : { traceparent });
    assert.equal(answer.body.success, true, answer.text);
    assert.ok(!("traceparent" in answer.body), "only a caller's own trace is named");
    const own = bitsOf(answer.headers.get("x-request-id"));
    assert.deepEqual(new Set(sent.map((headers) => partsOf(headers.traceparent).trace)), new Set([own]), traceparent);
    assert.equal((await lineOf(answer)).trace_id, own);
  }
});

test("a webhook about a verification belongs to the trace of the request, in each of its attempts", async () => {
  const to = random(20);
  const shop = await hearing(worker, { to });
  const refused = new Set();
  // The first attempt of each is refused.
  play.set("traced.example", ({ id }) => (refused.has(id) ? 200 : refused.add(id) && 500));
  const endpoint = await shop.endpoint("traced.example");
  const verify = (headers = {}) => {
    const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block: 900 });
    return worker.verify(shop.key, { tx_hash, chain: "base", max_age_seconds: 315_360_000 }, headers);
  };
  const { body } = await verify({ traceparent: PARENT, tracestate: STATE });
  await shop.ship();
  const messages = await until(async () => {
    await shop.pass(1_000, endpoint);
    const own = play.of("traced.example").filter(({ subject }) => subject === body.id);
    return own.length >= 2 && own;
  }, "a second attempt");
  const [first, second] = messages.map(({ headers }) => partsOf(headers.traceparent));
  assert.deepEqual([first.trace, second.trace, first.flags], [TRACE, TRACE, "01"]);
  assert.notEqual(first.span, second.span);
  assert.equal(messages[0].data.traceparent, body.traceparent);
  assert.ok(messages.every(({ headers }) => headers.tracestate === undefined));
  // Without a trace of the client's the request's id names it; and so it does for what happens to the payment later.
  const { body: plain } = await verify();
  await shop.ship();
  const ofPlain = await until(() => play.of("traced.example").find(({ subject }) => subject === plain.id), "the message");
  assert.equal(partsOf(ofPlain.headers.traceparent).trace, bitsOf(plain.request_id));
  assert.ok(!("traceparent" in ofPlain.data));
  // A test event's data are an example, whose request nobody has made.
  await shop.call("POST", `${endpoint.path}/test`, { type: "verification.succeeded" });
  const trial = await until(() => play.of("traced.example").find(({ text }) => JSON.parse(text).test), "the test event");
  assert.equal(partsOf(trial.headers.traceparent).trace, bitsOf(trial.id));
});

test("a settlement's trace goes to the settler's providers and to its webhooks", async () => {
  const paid = await signedPayment(worker, evm);
  proxy.requests.length = 0;
  const headers = { traceparent: PARENT, tracestate: STATE };
  const answer = await worker.call("POST", "/facilitator/settle", { key: paid.test, body: paid.body, headers });
  assert.equal(answer.body.success, true, answer.text);
  const line = await lineOf(answer);
  assert.deepEqual([line.trace_id, line.chain, line.outcome, line.tenant], [TRACE, "local-evm", "completed", paid.id]);
  assert.ok(Number.isInteger(line.settler_ms), JSON.stringify(line));
  const sends = proxy.requests.filter(({ methods }) => methods.includes("eth_sendRawTransaction"));
  assert.ok(sends.length > 0);
  for (const { headers } of sends) assert.equal(partsOf(headers.traceparent).trace, TRACE);
  assert.ok(!JSON.stringify(proxy.requests).includes("NeverSentOn"));
  const { data } = (await worker.call("GET", "/v1/settlements", { key: paid.test })).body;
  assert.equal(partsOf(data[0].traceparent).trace, TRACE);
  // What the months hold of it, which is what a webhook's data are.
  const events = (await worker.call("GET", "/v1/events?type=settlement.*", { key: paid.test })).body.data;
  assert.deepEqual(
    events.map(({ data }) => partsOf(data.traceparent).trace),
    events.map(() => TRACE),
  );
  assert.equal(events.length, 2);
  // A settle without a trace of the client's names its own.
  const other = await signedPayment(worker, evm);
  const own = await other.settle();
  assert.equal(own.body.success, true, own.text);
  const [settled] = (await worker.call("GET", "/v1/settlements", { key: other.test })).body.data;
  assert.equal(partsOf(settled.traceparent).trace, bitsOf(own.headers.get("x-request-id")));
});
