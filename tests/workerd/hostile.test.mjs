// Hostile requests to every route: wrong in each of the ways that are known, by nobody, by a key, in a session and by an operator.
// None is answered with 500, none ends the Worker, none hangs, none gets past a check, and each refusal is whole.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Response, fetch as passed } from "miniflare";
import { network, signedUp } from "./browser.mjs";
import { COMMON, ofMembers } from "./hostile/bodies.mjs";
import { FOOLING, METHODS, READ } from "./hostile/headers.mjs";
import { IDS, QUERIES, spellings } from "./hostile/places.mjs";
import { Sender } from "./hostile/sender.mjs";
import { AMBIGUOUS, HALF, HIDDEN, ODD, exchangeBytes } from "./hostile/sockets.mjs";
import { startMock } from "./mock-rpc.mjs";
import { ADMIN_KEY, ROOT, startWorker } from "./worker.mjs";

const PAGES = "https://pay.example";
const ACCOUNT = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

/** Every host has a public address, and answers nothing that anybody could use. */
async function outbound(request) {
  const { hostname, searchParams } = new URL(request.url);
  if (hostname === "127.0.0.1") return passed(request);
  if (hostname !== "cloudflare-dns.com") return new Response("", { status: 404 });
  const answers = searchParams.get("type") === "A" ? [{ name: searchParams.get("name"), type: 1, data: "93.184.215.14" }] : [];
  return Response.json({ Status: 0, Answer: answers });
}

let mock;
let worker;
/** Who asks: a key of all scopes, its owner's session, an operator. @type {Record<string, Record<string, string>>} */
let callers;
let tenant;
before(async () => {
  mock = await startMock({ chainId: 31337, token: "0x4020000000000000000000000000000000000001" });
  const vars = {
    RPC_LOCAL_EVM: mock.url,
    MAIL_BACKEND: "mailbox",
    PUBLIC_URL: PAGES,
    METRICS_TOKEN: "a token of the metrics of this run",
    GITHUB_CLIENT_ID: "client",
    GITHUB_CLIENT_SECRET: "the secret of this run",
    RESEND_WEBHOOK_SECRET: `whsec_${Buffer.alloc(24, 7).toString("base64")}`,
    STRIPE_SECRET_KEY: "sk_test_of_this_run",
    STRIPE_WEBHOOK_SECRET: "whsec_of_this_run",
  };
  worker = await startWorker({ vars, outbound, direct: true, logged: true });
  const owner = await signedUp(worker);
  const { id } = owner.session.tenant;
  const more = { tier: "enterprise", limits: { per_minute: 1_000_000, per_hour: 1_000_000 }, recipients: { "local-evm": ACCOUNT } };
  assert.equal((await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: more })).status, 200);
  const scopes = ["verify", "settle", "analytics", "manage"];
  const made = await owner.browser.call("POST", "/v1/api-keys", { name: "all", environment: "test", scopes });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  const cookie = [...owner.browser.cookies].map((pair) => pair.join("=")).join("; ");
  tenant = { id, key: made.body.key, url: await worker.urlKey({ id }, "test") };
  callers = {
    key: { authorization: `Bearer ${tenant.key}` },
    session: { cookie, origin: PAGES, "sec-fetch-site": "same-origin" },
    operator: { "x-admin-key": ADMIN_KEY },
  };
});
after(async () => {
  await worker.stop();
  mock.stop();
});

const DOCUMENT = JSON.parse(readFileSync(join(ROOT, "docs", "reference", "openapi.json"), "utf8"));
const schemaOf = (schema = {}) => (schema.$ref ? DOCUMENT.components.schemas[schema.$ref.split("/").at(-1)] : schema);
const ROUTES = Object.entries(DOCUMENT.paths).flatMap(([template, methods]) =>
  Object.entries(methods)
    .filter(([method]) => ["get", "post", "put", "patch", "delete"].includes(method))
    .map(([method, operation], at) => {
      const ways = (operation.security ?? []).map((way) => Object.keys(way)[0]);
      return {
        method: method.toUpperCase(),
        template,
        turn: at + template.length,
        body: operation.requestBody !== undefined,
        members: Object.keys(schemaOf(operation.requestBody?.content?.["application/json"]?.schema).properties ?? {}),
        isOpen: ways.length === 0 || ways.includes(undefined),
        // Under a key in the path every answer is 200.
        isUrl: template.startsWith("/facilitator/k/"),
        by: ways.includes("adminKey") ? "operator" : ways.includes("apiKey") ? "key" : ways.includes("session") ? "session" : undefined,
        // A session that ended would be nobody's.
        ends: method === "delete" && /^\/v1\/sessions?$/.test(template),
      };
    }),
);
const turned = (all, from, count) => Array.from({ length: Math.min(count, all.length) }, (_, at) => all[(from + at) % all.length]);
const filled = (route, id = "x") => route.template.replace("/k/{key}/", `/k/${tenant.url}/`).replaceAll(/\{[a-z_]+\}/g, id);

/** Every hostile request to a route. */
function* hostile(route) {
  const { method, turn, body, isOpen, isUrl } = route;
  const path = filled(route);
  const own = route.by && !route.ends ? { ...callers[route.by], ...network() } : network();
  const json = { "content-type": "application/json" };
  const sent = body ? { body: Buffer.from("{}") } : {};
  const mayPass = isOpen || isUrl;
  yield { name: "nobody", method, path, headers: { ...network(), ...(body ? json : {}) }, ...sent, mayPass };
  for (const [at, headers] of turned(READ, turn * 7, 14).entries())
    yield {
      name: `header ${at}: ${Object.keys(headers)}`,
      method,
      path,
      headers: { ...network(), ...(body ? json : {}), ...headers },
      ...sent,
      mayPass,
    };
  for (const headers of turned(FOOLING, turn, 5))
    yield {
      name: `fooling: ${JSON.stringify(headers)}`,
      method,
      path,
      headers: { ...network(), ...(body ? json : {}), ...headers },
      ...sent,
      mayPass,
    };
  for (const spelling of turned(spellings(path), turn * 3, 14))
    yield { name: "spelling", method, path: spelling, headers: { ...network(), ...(body ? json : {}) }, ...sent, mayPass };
  for (const other of turned(METHODS, turn, 5)) yield { name: "method", method: other, path, headers: network(), mayPass: true };
  // The same by somebody who may ask.
  for (const query of turned(QUERIES, turn * 5, 8))
    yield { name: "query", method, path: `${path}?${query}`, headers: { ...own, ...(body ? json : {}) }, ...sent, mayPass: true };
  if (route.template.includes("{") && !isUrl)
    for (const id of turned(IDS, turn, 6))
      yield { name: "id", method, path: filled(route, id), headers: { ...own, ...(body ? json : {}) }, ...sent, mayPass: true };
  for (const headers of turned(READ, turn * 11, 4))
    yield {
      name: `own, with ${Object.keys(headers)}`,
      method,
      path,
      headers: { ...headers, ...own, ...(body ? json : {}) },
      ...sent,
      mayPass: true,
    };
  if (!body) return;
  const bodies = [...turned(COMMON, turn * 13, 40), ...ofMembers(route.members, turn)];
  for (const one of bodies) yield { name: one.name, method, path, headers: { ...own, ...one.headers }, body: one.body, mayPass: true };
}

/** Those of all routes, one of each after the other, so that those of one route are not the only ones under way. */
function* interleaved() {
  let rest = ROUTES.map((route) => hostile(route));
  while (rest.length > 0) {
    const still = [];
    for (const one of rest) {
      const { value, done } = one.next();
      if (done || value === undefined) continue;
      yield value;
      still.push(one);
    }
    rest = still;
  }
}

/** A panic, or a fault that is ours, in the log. */
const crashes = () =>
  worker.log.lines.filter((line) =>
    /panick|RuntimeError|unreachable|wasm-function|"code":"(INTERNAL|MISCONFIGURED|LEDGER_UNAVAILABLE)"/.test(line),
  );

/** The service is as well as at first. */
async function well() {
  const health = await worker.call("GET", "/v1/health");
  assert.equal(health.status, 200);
  const usage = await worker.call("GET", "/v1/usage", { key: tenant.key });
  assert.equal(usage.status, 200, usage.text);
  assert.deepEqual(crashes(), []);
}

test("five thousand hostile requests to every route: no 500, no panic, no hang, and nobody passes who may not", async () => {
  const sender = new Sender(worker.direct);
  const began = performance.now();
  await sender.all(interleaved());
  sender.stop();
  const took = Math.round(performance.now() - began);
  console.log(
    `${sender.sent} hostile requests in ${took} ms, the slowest ${Math.round(sender.slowest)} ms: ${JSON.stringify(sender.statuses)}`,
  );
  assert.deepEqual(sender.amiss.slice(0, 40), [], `${sender.amiss.length} of ${sender.sent}`);
  assert.ok(sender.sent >= 5_000, `${sender.sent} requests`);
  for (const status of [200, 400, 401, 404, 405, 413, 415, 422]) assert.ok(sender.statuses[status] > 0, `some are answered with ${status}`);
  await well();
});

test("what is meant to fool another service changes no answer", async () => {
  const sender = new Sender(worker.direct);
  const fixed = (text) => text.replaceAll(/req_\w+/g, "req").replaceAll(/"(timestamp|latency_ms|fetched_at)":("[^"]*"|\d+)/g, "$1");
  for (const path of ["/v1/pricing", "/docs/tiers", "/v1/admin/tenants", "/v1/nowhere", "/facilitator/version"]) {
    const plain = await sender.exchange({ method: "GET", path, name: "", headers: network() });
    for (const headers of FOOLING) {
      // A host that is none meets no route.
      const isHost = headers.host === undefined || /^[\w.:[\]-]+$/.test(headers.host);
      const answer = await sender.exchange({ method: "GET", path, name: "", headers: { ...network(), ...headers } });
      const wanted = isHost ? [plain.status, fixed(plain.text)] : [404, "NOT_FOUND"];
      const found = isHost ? [answer.status, fixed(answer.text)] : [answer.status, JSON.parse(answer.text).error_code];
      assert.deepEqual(found, wanted, `${path} with ${JSON.stringify(headers)}`);
      assert.ok(!answer.text.includes("evil.example"), path);
    }
  }
  sender.stop();
});

test("of a message whose end is not certain nothing is read as another message", async () => {
  const named = await exchangeBytes(worker.direct, `${HIDDEN}${HIDDEN}`);
  assert.deepEqual(named.statuses, [200, 200], "what is hidden would be answered");
  const found = await Promise.all(
    Object.entries(AMBIGUOUS).map(async ([name, text]) => ({ name, ...(await exchangeBytes(worker.direct, text)) })),
  );
  const amiss = found.filter(
    ({ statuses, isClosed, text }) =>
      // One refusal and the end of the connection, or the end of it alone.
      statuses.length > 1 || text.includes('"status":"') || statuses.some((status) => status < 400) || !isClosed,
  );
  assert.deepEqual(
    amiss.map(({ name, statuses, isClosed }) => `${name}: ${statuses} ${isClosed ? "closed" : "open"}`),
    [],
  );
  await well();
});

test("an odd message is answered once or refused, and passes no check", async () => {
  const found = await Promise.all(
    Object.entries(ODD).map(async ([name, text]) => ({ name, ...(await exchangeBytes(worker.direct, text)) })),
  );
  for (const { name, statuses, text } of found) {
    const last = statuses.filter((status) => status !== 100);
    assert.ok(last.length <= 1, `${name}: ${statuses}`);
    // What is no request for the Worker the platform answers itself.
    assert.ok(!/x-request-id/i.test(text) || last.every((status) => status < 500), `${name}: ${text.slice(0, 300)}`);
    assert.ok(!/"tenants"|"data"/.test(text), `${name}: ${text.slice(0, 300)}`);
  }
  await well();
});

test("a message that stops in the middle, or comes a byte at a time, holds up nobody", async () => {
  const halves = await Promise.all(
    Object.entries(HALF).map(async ([name, text]) => ({ name, ...(await exchangeBytes(worker.direct, text, { ends: true })) })),
  );
  for (const { name, statuses, ms } of halves)
    assert.ok(ms < 10_000 && statuses.every((status) => status >= 400), `${name}: ${statuses} after ${ms} ms`);
  // A hundred that are under way and go no further.
  const { hostname, port } = new URL(worker.direct);
  const held = Array.from({ length: 100 }, (_, at) => {
    const socket = connect({ host: hostname, port: Number(port) });
    socket.on("error", () => {});
    socket.write(Object.values(HALF)[1 + (at % (Object.values(HALF).length - 1))]);
    return socket;
  });
  try {
    const began = performance.now();
    await Promise.all(Array.from({ length: 20 }, well));
    assert.ok(performance.now() - began < 20_000);
    // A body that comes a byte at a time is read like any other.
    const body = '{"key":"x402_live_x"}';
    const slow = connect({ host: hostname, port: Number(port) });
    let came = "";
    slow.on("data", (data) => (came += data));
    const closed = new Promise((resolve) => slow.once("close", resolve));
    slow.write(
      `POST /v1/api-keys/revoke-leaked HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`,
    );
    for (const letter of body) {
      slow.write(letter);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await closed;
    assert.match(came, /^HTTP\/1\.1 (200|202|204|422) /, came.slice(0, 300));
  } finally {
    for (const socket of held) socket.destroy();
  }
  await well();
});
