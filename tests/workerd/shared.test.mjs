// Several verifications in flight ask a chain's provider in one HTTP request: each gets its own answer, whatever becomes
// of the others, of the request that carries them, and of the client whose request sends it.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { KEYS, TOKEN, startEvm } from "../../scripts/lib/evm.mjs";
import { caller } from "./callers.mjs";
import { LONG, sign, signedPayment } from "./payment.mjs";
import { startProxy } from "./proxy.mjs";
import { startWorker, until } from "./worker.mjs";

/** Longer than each payment asks for itself after a shared request that failed. */
const APART_MS = 61_000;
const POOR = "invalid_exact_evm_insufficient_balance";
/** Enough that some come while others wait. */
const MANY = 12;
let evm, proxy, worker;
/** The payments of a test, which a call to the token names by their payers. @type {any[]} */
let known = [];
/** The payers of each request to the provider. @type {string[][]} */
let requests = [];

before(async () => {
  evm = await startEvm();
  proxy = await startProxy(evm.url);
  worker = await startWorker({
    vars: { RPC_LOCAL_EVM: proxy.url, RPC_BASE_SEPOLIA: proxy.url, EVM_SIGNERS_TEST: KEYS.at(-1) },
  });
  const { verify } = await signedPayment(worker, evm);
  // Prices and balances are read once.
  assert.equal((await verify()).body.isValid, true);
});
after(async () => {
  await worker?.stop();
  proxy?.stop();
  evm?.stop();
});
afterEach(() => {
  Object.assign(proxy, { answer: () => undefined, mend: (replies) => replies });
  return worker.advance(APART_MS);
});

/** Payments of a tenant, a buyer and a seller each; a `poor` buyer lacks the money. */
async function payments(count, poor = (_at) => false) {
  known = [];
  for (let at = 0; at < count; at++) known.push(await signedPayment(worker, evm, { ...LONG, holds: poor(at) ? 9_999n : 10_000n }));
  return known;
}

const payersOf = (calls) => {
  const text = JSON.stringify(calls).toLowerCase();
  return known.map(({ buyer }) => buyer.address).filter((address) => text.includes(address.slice(2).toLowerCase()));
};
const isShared = (calls) => payersOf(calls).length > 1;
const shared = () => requests.filter((payers) => payers.length > 1);

/** Verifies a payment for a client that can go away. */
const client = ({ body, test: key }) => caller(worker, { key, body }, {}, "/facilitator/verify");

/**
 * Verifies the first payment, and the others while the provider holds its answer, which is let go once they are answered.
 * `whole` answers a request that names none but others, if it does; `during` runs once the others are sent.
 * @param {any[]} all
 * @param {{ whole?: (calls: any[]) => any, during?: (clients: ReturnType<typeof client>[]) => any }} [wishes]
 * @returns {Promise<any[]>} the answers, in order; undefined where the client has gone
 */
async function together([first, ...others], { whole = () => undefined, during = () => undefined } = {}) {
  requests = [];
  /** @type {(value?: undefined) => void} */
  let release = () => {};
  const released = new Promise((resolve) => {
    release = resolve;
  });
  proxy.whole = async (calls) => {
    const payers = payersOf(calls);
    requests.push(payers);
    return payers.includes(first.buyer.address) ? released : whole(calls);
  };
  try {
    const clients = [client(first)];
    await until(() => requests.some((payers) => payers.includes(first.buyer.address)), "the first payment's request");
    clients.push(...others.map(client));
    await during(clients);
    const rest = await Promise.all(clients.slice(1).map(({ answer }) => answer));
    release();
    return [await clients[0].answer, ...rest];
  } finally {
    release();
    proxy.whole = async () => undefined;
  }
}

const verdicts = (answers) => answers.map(({ status, body }) => (status === 200 ? (body.invalidReason ?? body.isValid) : status));

/** Every payment has its own verdict, under its own payer. */
function assertOwn(all, answers, poor = (_at) => false) {
  assert.deepEqual(
    verdicts(answers),
    all.map((_, at) => (poor(at) ? POOR : true)),
    JSON.stringify(answers),
  );
  assert.deepEqual(
    answers.map(({ body }) => body.payer),
    all.map(({ buyer }) => buyer.address),
  );
}

test("a payment alone asks for itself, at once", async () => {
  for (const payment of await payments(2)) {
    proxy.sizes.length = 0;
    assert.equal((await payment.verify()).body.isValid, true);
    assert.equal(proxy.sizes.length, 1);
  }
});

test("payments that come while a request is in flight share requests, and do not wait until it ends", async () => {
  const all = await payments(MANY);
  proxy.requests.length = 0;
  assertOwn(all, await together(all));
  assert.ok(requests.length < MANY / 2, JSON.stringify(requests));
  // A request of several is a part of no trace; that of one alone is of its own.
  const traced = (several) =>
    proxy.requests
      .filter((_, at) => (several ? requests[at].length > 1 : requests[at].length === 1))
      .map(({ headers }) => headers.traceparent);
  assert.ok(traced(true).length > 0 && traced(true).every((header) => header === undefined));
  assert.ok(traced(false).length > 0 && traced(false).every((header) => header !== undefined));
});

test("each payment of a shared request gets its own verdict, of whatever tenant, in whatever order the answers come", async () => {
  const poor = (at) => at % 3 === 1;
  const all = await payments(MANY, poor);
  proxy.mend = (replies) => replies.toReversed();
  assertOwn(all, await together(all), poor);
  assert.ok(shared().length > 0);
});

const INEXACT = {
  "lacks a reply": (replies) => replies.slice(1),
  "has a reply twice": (replies) => [...replies, replies[0]],
  "has one id for two calls": (replies) => replies.map((reply, at) => ({ ...reply, id: at === 0 ? 2 : reply.id })),
  "names a call that was not made": (replies) => replies.map((reply) => ({ ...reply, id: reply.id + 1 })),
  "lacks the ids": (replies) => replies.map(({ id: _, ...reply }) => reply),
};

for (const [name, spoil] of Object.entries(INEXACT)) {
  test(`a shared answer that ${name} serves nobody: each payment asks for itself`, async () => {
    const poor = (at) => at % 4 === 2;
    const all = await payments(MANY, poor);
    proxy.mend = (replies, calls) => (isShared(calls) ? spoil(replies) : replies);
    assertOwn(all, await together(all), poor);
    assert.ok(shared().length > 0);
  });
}

test("an error for one call of a shared request concerns its payment alone, which asks again", async () => {
  const all = await payments(MANY);
  const one = all[5].buyer.address;
  proxy.answer = (call, calls) =>
    isShared(calls) && payersOf([call]).includes(one) ? { error: { code: -32005, message: "rate limit" } } : undefined;
  assertOwn(all, await together(all));
  const ofOne = requests.filter((payers) => payers.includes(one));
  assert.deepEqual([ofOne[0].length > 1, ofOne.at(-1)], [true, [one]]);
});

test("a provider that refuses shared requests is asked for each payment, for a while", async () => {
  const whole = (calls) =>
    isShared(calls) ? { body: { jsonrpc: "2.0", id: null, error: { code: -32600, message: "batch too large" } } } : undefined;
  const refused = await payments(MANY);
  assertOwn(refused, await together(refused, { whole }));
  assert.ok(shared().length > 0);
  const next = await payments(MANY);
  assertOwn(next, await together(next, { whole }));
  assert.deepEqual(shared(), []);
  await worker.advance(APART_MS);
  const later = await payments(MANY);
  assertOwn(later, await together(later));
  assert.ok(shared().length > 0);
});

test("after HTTP 429 to a shared request each payment asks for itself", async () => {
  const limit = (calls) => (isShared(calls) ? { status: 429, body: "" } : undefined);
  const first = await payments(MANY);
  await together(first, { whole: limit });
  assert.ok(shared().length > 0, JSON.stringify(requests));
  const all = await payments(MANY);
  assertOwn(all, await together(all, { whole: limit }));
  assert.deepEqual(shared(), []);
});

test("a provider that never answers a shared request is asked for each payment", async () => {
  const all = await payments(MANY);
  const whole = (calls) => (isShared(calls) ? new Promise(() => {}) : undefined);
  assertOwn(all, await together(all, { whole }));
  assert.ok(shared().length > 0);
});

/** A client has gone, and the Worker has had a turn since. */
async function cut(one) {
  one.cut();
  assert.equal(await one.answer, undefined);
  await worker.counts();
}

/** What is left of the answers where one client has gone. */
const without = (place, all) => all.filter((_, at) => at !== place);

test("a shared request goes on when the client of the one that sends it has gone", async () => {
  const all = await payments(MANY);
  /** @type {(value?: undefined) => void} */
  let release = () => {};
  const held = new Promise((resolve) => {
    release = resolve;
  });
  /** @type {string[]} */
  let carried = [];
  let sender = 0;
  const answers = await together(all, {
    whole: (calls) => (isShared(calls) ? held : undefined),
    during: async (clients) => {
      carried = await until(() => shared()[0], "a shared request");
      // Whoever has waited longest sends, and its calls are the first.
      sender = all.findIndex(({ buyer }) => buyer.address === carried[0]);
      await cut(clients[sender]);
      release();
    },
  });
  assertOwn(without(sender, all), without(sender, answers));
  // Those that it carried were served by it.
  for (const payer of carried) assert.equal(requests.filter((payers) => payers.includes(payer)).length, 1, JSON.stringify(requests));
});

test("a request in flight whose client has gone holds nobody up", async () => {
  const all = await payments(MANY);
  const answers = await together(all, { during: (clients) => cut(clients[0]) });
  assertOwn(without(0, all), without(0, answers));
});

test("payments of two networks share no request, even where one provider serves both", async () => {
  const here = await payments(MANY);
  const token = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
  const elsewhere = await Promise.all(
    here.map(async ({ buyer, to, id, ...rest }) => {
      const recipients = { "local-evm": to, "base-sepolia": to };
      const changed = await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { recipients } });
      assert.equal(changed.status, 200, changed.text);
      return { ...rest, buyer, to, id, body: await sign({ ...LONG, buyer, to, token, chainId: 84532 }) };
    }),
  );
  const bodies = [];
  const seen = proxy.mend;
  proxy.mend = (replies, calls) => {
    bodies.push(JSON.stringify(calls).toLowerCase());
    return seen(replies, calls);
  };
  await together([here[0], ...here.slice(1).flatMap((payment, at) => [payment, elsewhere[at + 1]])]);
  const of = (address) => bodies.filter((text) => text.includes(address.toLowerCase()));
  assert.ok(of(TOKEN).length > 0 && of(token).length > 0);
  assert.deepEqual(
    bodies.filter((text) => text.includes(TOKEN.toLowerCase()) && text.includes(token.toLowerCase())),
    [],
  );
});
