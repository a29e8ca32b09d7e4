// A deployment replaces the Worker and the objects one by one: messages of the build before are understood by this
// build's objects, and the replies of that build's objects by this build's Worker. What that build sent and got is
// in tests/fixtures/messages.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Miniflare, convertV4MiniflareOptions } from "miniflare";
import { KEYS, startEvm } from "../../scripts/lib/evm.mjs";
import { random, signedPayment } from "./payment.mjs";
import { SIGNER } from "./settling.mjs";
import { ADMIN_KEY, DATE, FLAGS, NOWHERE, PEPPERS, ROOT, Worker, startWorker } from "./worker.mjs";

const FOLDER = join(ROOT, "tests", "fixtures", "messages");
const PREVIOUS = JSON.parse(readFileSync(join(FOLDER, "previous.json"), "utf8"));
const CALLS = Object.fromEntries(
  readFileSync(join(FOLDER, "previous.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
    .map((call) => [call.name, call]),
);
/** The headers that are for the Worker alone. */
const internal = (headers) =>
  [...headers]
    .map(([name]) => name)
    .filter((name) => name.startsWith("x-ledger-"))
    .sort();
let evm;
before(async () => (evm = await startEvm()));
after(() => evm?.stop());

/** This build, asked in the words of the one before. */
async function asPreviousWorker(worker) {
  const tenant = await worker.tenant({ recipients: { "local-evm": PREVIOUS.to } });
  const [{ hash }] = await worker.sql("SELECT hash FROM api_keys WHERE tenant_id = ? AND environment = 'test'", tenant.id);
  const [ledgers, settlers] = await Promise.all(["LEDGERS", "SETTLERS"].map((name) => worker.mf.getDurableObjectNamespace(name)));
  const key = JSON.parse(CALLS["ledger/account-usage"].request).ask.account.key;
  const own = (text) => text.replaceAll(PREVIOUS.tenant, tenant.id).replaceAll(key, hash);
  const post = async (namespace, name, address, body) => {
    const response = await namespace.get(namespace.idFromName(name)).fetch(address, { method: "POST", body });
    return { status: response.status, headers: response.headers, text: await response.text() };
  };
  const ledger = (body, address) =>
    post(ledgers, `${tenant.id}:${JSON.parse(body).environment}`, address ?? `https://ledger/${Date.now() + 6_000}`, body);
  const settler = (body, address = "https://settler/") => post(settlers, `local-evm:${SIGNER.toLowerCase()}`, address, body);
  /** Sends a recorded message, as `change` leaves it, and holds the reply against the recorded one. */
  const replay = async (name, change = (text) => text) => {
    const call = CALLS[name];
    const sent = change(own(call.request));
    const reply = await (name.startsWith("ledger/") ? ledger(sent) : settler(sent));
    assert.deepEqual(
      [reply.status, internal(reply.headers)],
      [call.status, internal(Object.entries(call.headers))],
      `${name}: ${reply.text}`,
    );
    return reply;
  };
  return { ...tenant, ledger, settler, replay };
}

test("a Worker of the build before settles with objects of this build", async () => {
  const worker = await startWorker({ vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1) } });
  try {
    const { replay, test: key } = await asPreviousWorker(worker);
    await evm.mint(PREVIOUS.buyer, 10_000_000n);
    const before = await evm.balance(PREVIOUS.to);
    const rest = [
      "reload",
      "ping",
      "account-usage",
      "account-whoami",
      "payees",
      "payment-verify-good",
      "payment-settle-refused",
      "verify-deferred",
      "verify-traced-unrecorded",
    ];
    for (const name of rest) await replay(`ledger/${name}`);
    // A payment of today.
    const recent = (text) => {
      const message = JSON.parse(text);
      message.ask.verify.seen.traced.trace.found.mined.block.time = Math.floor(Date.now() / 1000);
      return JSON.stringify(message);
    };
    const booked = JSON.parse((await replay("ledger/verify-traced", recent)).text);
    assert.equal(booked.success, true, JSON.stringify(booked));
    const record = (text) => text.replace(/ver_[0-9A-Z]{26}(?="\}\}\})/, booked.id);
    assert.equal(JSON.parse((await replay("ledger/record", record)).text).id, booked.id);
    await replay("ledger/record-404");
    await replay("ledger/list");

    const recorded = JSON.parse(CALLS["settler/settle-evm"].request).settle;
    const reserved = JSON.parse((await replay("ledger/payment-settle-good-202")).text);
    const id = reserved.settlement.id;
    const named = (text) => text.replaceAll(recorded.settlement, id);
    const report = JSON.parse((await replay("settler/settle-evm", named)).text);
    assert.deepEqual([report.status, report.settlement, report.handed], ["completed", id, true], JSON.stringify(report));
    assert.equal((await evm.balance(PREVIOUS.to)) - before, 10_000n);
    // The Settler of this build has reported to the ledger before it replied.
    const read = () => worker.call("GET", `/v1/settlements/${id}`, { key });
    assert.deepEqual([(await read()).body.status, (await read()).body.handed_over], ["completed", null]);
    await replay("ledger/settled-completed", named);
    const delivered = await replay("ledger/deliver", named);
    assert.deepEqual([JSON.parse(delivered.text).success, delivered.headers.get("x-ledger-handed-over")], [true, id]);
    assert.notEqual((await read()).body.handed_over, null);
    // Its caller has gone.
    const { request_id } = JSON.parse(CALLS["ledger/deliver"].request);
    const reopen = { settlement: id, authorization: null };
    await replay("ledger/reopen", (text) => JSON.stringify({ ...JSON.parse(text), request_id, ask: { reopen } }));
    assert.equal((await read()).body.handed_over, null);
    await replay("ledger/hand_over", (text) => text.replaceAll(JSON.parse(text).ask.hand_over.id, id));
    await replay("ledger/settlement", named);
    await replay("ledger/settlements");
    await replay("ledger/payment-settle-deferred-200");
    await replay("ledger/payment-settle-used");
    const external = await replay("ledger/payment-settle-external");
    assert.equal(JSON.parse(external.text).success, true, external.text);
    await replay("settler/held");
    await replay("settler/refuse");
  } finally {
    await worker.stop();
  }
});

test("what an object cannot read is no defect: the caller may ask again", async () => {
  const worker = await startWorker({ vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1) } });
  try {
    const { ledger, settler } = await asPreviousWorker(worker);
    const later = JSON.stringify({ ...JSON.parse(CALLS["ledger/ping"].request), ask: { unheard_of: {} } });
    for (const address of [undefined, "https://ledger/v9/4000000000000"]) {
      const { status, text } = await ledger(later, address);
      assert.deepEqual([status, JSON.parse(text).error_code, JSON.parse(text).retry], [503, "LEDGER_UNAVAILABLE", "same"], text);
    }
    assert.equal((await settler('{"unheard_of":{}}')).status, 503);
    const { status, text } = await settler('{"unheard_of":{}}', "https://settler/v9/");
    assert.deepEqual([status, JSON.parse(text)], [200, { version: 2, reply: { failed: "INTERNAL" } }]);
  } finally {
    await worker.stop();
  }
});

/** Objects that answer as those of the build before did, whatever the state: a call's reply is the recorded one of
 * the first name in `replies` whose message it has, and that name goes to the end of the line. */
const OBJECTS = `
import { DurableObject } from "cloudflare:workers";
const { calls, names } = globalThis.previous = { calls: [], names: [] };
const kindOf = (object, request) => {
  const message = JSON.parse(request);
  const own = object === "ledger" ? message.ask : message;
  return typeof own === "string" ? own : Object.keys(own)[0];
};
const replying = (object) => class extends DurableObject {
  async fetch(request) {
    const body = await request.text();
    const kind = kindOf(object, body);
    const recorded = JSON.parse(this.env.CALLS).filter(({ name }) => name.startsWith(object + "/"));
    const [next, ...rest] = recorded.filter((call) => kindOf(object, call.request) === kind && !names.includes(call.name));
    calls.push({ object, kind, body, name: next?.name });
    if (!next) return new Response("no reply", { status: 500 });
    if (rest.length) names.push(next.name);
    return new Response([204, 304].includes(next.status) ? null : next.body, { status: next.status, headers: next.headers });
  }
};
export const TenantLedger = replying("ledger");
export const Settler = replying("settler");
export default {
  async fetch(request) {
    const own = calls.splice(0);
    names.length = 0;
    return Response.json(own);
  },
};
`;

/** This build's Worker; its objects are those of the build before, with these replies: a name, or `{ name, body }` for
 * another body. */
async function withPreviousObjects(replies, act) {
  const state = mkdtempSync(join(tmpdir(), "x402-versions-"));
  const folder = join(ROOT, "build");
  const objects = (className) => ({ className, scriptName: "previous", useSQLite: true });
  const common = { compatibilityDate: DATE, compatibilityFlags: FLAGS };
  const far = (text) => text.replace(/"until":\d+/, '"until":4000000000000');
  const calls = replies.map((reply) => {
    const { name, ...changed } = typeof reply === "string" ? { name: reply } : reply;
    const headers = Object.fromEntries(Object.entries(CALLS[name].headers).map(([header, value]) => [header, far(value)]));
    return { ...CALLS[name], headers, ...changed };
  });
  /** @type {any} Miniflare 4's own type wants one form of `modules` by literal. */
  const options = {
    host: "127.0.0.1",
    port: 0,
    resourcePersistencePath: state,
    workers: [
      {
        ...common,
        name: "edge",
        modulesRoot: folder,
        modules: [
          { type: "ESModule", path: join(folder, "index.js"), contents: readFileSync(join(folder, "index.js"), "utf8") },
          { type: "CompiledWasm", path: join(folder, "index_bg.wasm"), contents: readFileSync(join(folder, "index_bg.wasm")) },
        ],
        d1Databases: { DB: "x402-edge" },
        durableObjects: {
          LEDGERS: objects("TenantLedger"),
          SETTLERS: objects("Settler"),
          RECORDS: { className: "Records", useSQLite: true },
          COURIERS: { className: "Courier", useSQLite: true },
          METERS: { className: "Meter", useSQLite: true },
        },
        r2Buckets: { ARCHIVE: "x402-edge-archive" },
        bindings: { ADMIN_KEY, KEY_PEPPERS: PEPPERS, ...NOWHERE, RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1) },
      },
      {
        ...common,
        name: "previous",
        modules: [{ type: "ESModule", path: "previous.mjs", contents: OBJECTS }],
        bindings: { CALLS: JSON.stringify(calls) },
        durableObjects: { LEDGERS: { className: "TenantLedger", useSQLite: true }, SETTLERS: { className: "Settler", useSQLite: true } },
      },
    ],
  };
  const mf = new Miniflare(convertV4MiniflareOptions(options));
  const worker = new Worker(mf, (await mf.ready).origin, state, { lines: [] }, true);
  try {
    await worker.migrate();
    const previous = /** @type {any} */ (await mf.getWorker("previous"));
    const asked = async () => (await previous.fetch("http://previous/")).json();
    return await act(worker, asked);
  } finally {
    await worker.stop();
  }
}

/** What this build sends a ledger and the build before did not: that build ignores members that it does not know. */
const ADDED = ["/access", "/from", "/logs_outcome"];
const OF_SETTLE = ["/ask/payment/traceparent"];
const added = (name) => [...(name.startsWith("ledger/") ? ADDED : []), ...(name.startsWith("ledger/payment-settle") ? OF_SETTLE : [])];

/** What came out to the caller: nothing of what is between the Worker and its objects. */
const clean = ({ status, headers, text }) => {
  assert.deepEqual(internal(headers), [], text);
  assert.notEqual(status, 500, text);
};

test("a Worker of this build reads what ledgers of the build before reply", async () => {
  const replies = ["reload", "account-usage", "account-whoami", "payees", "record-404", "list", "settlement", "ping"].map(
    (name) => `ledger/${name}`,
  );
  await withPreviousObjects(replies, async (worker) => {
    const { test: key } = await worker.tenant();
    const get = async (path) => {
      const answer = await worker.call("GET", path, { key });
      clean(answer);
      return answer;
    };
    // What the ledger has answered goes out as it came.
    assert.equal((await get("/v1/settlements/stl_01M8MSHXNXAN69PJES09J0M6JW")).text, CALLS["ledger/settlement"].body);
    const none = await get("/v1/verifications/ver_01M8MSHXNXAN69PJES09J0M6JW");
    assert.deepEqual([none.status, none.body.error_code], [404, "NOT_FOUND"]);
    assert.deepEqual((await get("/v1/verifications")).body, { data: [], next_cursor: null });
    assert.equal((await get("/v1/health")).body.checks.ledger.status, "ok");
    const accepts = [{ scheme: "exact", network: "eip155:31337", amount: "10000" }];
    const completed = await worker.call("POST", "/facilitator/accepts", {
      key,
      body: { x402Version: 2, resource: { url: "https://shop.test/a" }, accepts },
    });
    clean(completed);
    assert.equal(completed.body.accepts[0].payTo.toLowerCase(), PREVIOUS.to.toLowerCase(), completed.text);
  });
});

test("a reply that the Worker cannot read is no defect: the caller may ask again", async () => {
  const later = { name: "ledger/payees", body: '[{"Refused":["a_reason_of_a_later_build","no"]}]' };
  const good = CALLS["ledger/payment-settle-good-202"];
  const cut = { name: good.name, body: good.body.slice(0, good.body.length / 2) };
  await withPreviousObjects(["ledger/reload", later, cut, "settler/held", "ledger/reopen"], async (worker, asked) => {
    const { settle, test: key } = await signedPayment(worker, evm);
    const accepts = [{ network: "eip155:31337", amount: "10000" }];
    const completed = await worker.call("POST", "/facilitator/accepts", { key, body: { accepts } });
    await asked();
    const settled = await settle();
    for (const { status, body, text } of [completed, settled]) {
      assert.deepEqual([status, body.error_code, body.retry], [503, "LEDGER_UNAVAILABLE", "same"], text);
    }
    // What the ledger may have given is open for the next request.
    const kinds = (await asked()).map(({ kind }) => kind);
    assert.deepEqual(
      kinds.filter((kind) => kind !== "held"),
      ["payment", "reopen"],
    );
  });
});

test("a Worker of this build settles with objects of the build before", async () => {
  const replies = ["ledger/reload", "ledger/payment-settle-good-202", "settler/settle-evm", "settler/held", "ledger/deliver"];
  await withPreviousObjects(replies, async (worker, asked) => {
    const { settle } = await signedPayment(worker, evm);
    await asked();
    const answer = await settle();
    clean(answer);
    assert.deepEqual([answer.status, answer.body.success], [200, true], answer.text);
    const calls = await asked();
    assert.deepEqual(
      calls.filter(({ kind }) => kind !== "held").map(({ kind }) => kind),
      ["payment", "settle", "deliver"],
    );
    // No member that the build before does not know the shape of, and none that it needs is missing.
    for (const { name, body } of calls) assert.deepEqual(shape(JSON.parse(body), JSON.parse(CALLS[name].request)), added(name), name);
  });
});

test("a Worker of this build verifies with ledgers of the build before", async () => {
  const body = { tx_hash: random(32), chain: "local-evm" };
  await withPreviousObjects(["ledger/reload", "ledger/verify-deferred", "ledger/verify-traced-unrecorded"], async (worker, asked) => {
    const { test: key } = await worker.tenant();
    await asked();
    for (let times = 0; times < 2; times++) {
      const answer = await worker.verify(key, body, { "idempotency-key": "attempt-1" });
      clean(answer);
      assert.equal(answer.text, CALLS["ledger/verify-traced-unrecorded"].body);
    }
    // The isolate remembers that nothing was recorded: the second time the ledger is not asked before the chain.
    const calls = await asked();
    assert.deepEqual(
      calls.map(({ name }) => name),
      ["ledger/verify-deferred", "ledger/verify-traced-unrecorded", "ledger/verify-traced-unrecorded"],
    );
    for (const { name, body: sent } of calls) {
      assert.deepEqual(shape(JSON.parse(sent), JSON.parse(CALLS[name].request)), added(name), name);
    }
  });
  await withPreviousObjects(["ledger/reload", "ledger/verify-traced-429"], async (worker, asked) => {
    const { test: key } = await worker.tenant();
    await asked();
    for (let times = 0; times < 2; times++) {
      const answer = await worker.verify(key, body);
      clean(answer);
      assert.deepEqual([answer.status, answer.body.error_code], [429, "RATE_LIMITED"]);
    }
    // The second is answered from the isolate's memory.
    assert.equal((await asked()).length, 1);
  });
});

/** The paths whose kinds of value differ, where both have one that is no null. */
function shape(own, other, path = "") {
  const kind = (value) => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value);
  if ([own, other].some((value) => kind(value) === "null")) return [];
  if (kind(own) !== kind(other)) return [path];
  if (kind(own) !== "object") return [];
  const names = new Set([...Object.keys(own), ...Object.keys(other)]);
  return [...names].flatMap((name) =>
    name in own && name in other ? shape(own[name], other[name], `${path}/${name}`) : [`${path}/${name}`],
  );
}
