// Providers that refuse batches, or fail one by chance: what a verification asks
// of them then and afterwards, by the requests. And those that want a password.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { startWorker, until } from "./worker.mjs";

/** Longer than a provider that refuses batches is asked singly. */
const AWHILE_MS = 301_000;
const address = () => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex")}`;
let one, two, worker;

before(async () => {
  [one, two] = [await startMock(), await startMock()];
  worker = await startWorker({ vars: { RPC_BASE: `${one.url},${two.url}` } });
});
after(async () => {
  await worker?.stop();
  one?.stop();
  two?.stop();
});

/** A verification of a final payment, which nobody follows, and that nobody has seen; answers how many calls each request to the first provider held. */
async function verified(setUp = () => {}) {
  for (const mock of [one, two]) mock.reset();
  setUp();
  const to = address();
  const tenant = await worker.tenant({ recipients: { base: to } });
  const hash = one.addTransfer({ from: address(), to, amount: 1_000000, block: 900 });
  two.receipts.set(hash, one.receipts.get(hash));
  const { status, body } = await worker.verify(tenant.live, { tx_hash: hash, chain: "base" });
  assert.deepEqual([status, body.success], [200, true], JSON.stringify(body));
  return { sizes: one.sizes, elsewhere: two.requests, unread: body.risk_factors.filter(({ detail }) => detail.startsWith("not known")) };
}

const error = (code, message) => JSON.stringify({ jsonrpc: "2.0", id: null, error: { code, message } });
/** Refuses every request of several calls so. */
const refusing = (status, body) => () => {
  one.whole = (asked) => (asked.length > 1 ? { status, body } : undefined);
};
const singles = (sizes) => sizes.every((size) => size === 1);

const REFUSALS = {
  "too many methods": [200, error(-32600, 'Too many ["eth_call"] methods in the batch')],
  "a limit": [200, error(-32005, "batch limit exceeded")],
  "a quota": [200, error(-32000, "batches are above your daily quota")],
  "HTTP 500 with a code": [500, error(31, "Batch of more than 3 requests are not allowed on free plan")],
  "HTTP 400 with a text": [400, "batches are not served here"],
  "a text for an error": [200, JSON.stringify({ error: "too many requests in a batch" })],
  "a batch of one error": [200, `[${error(-32600, "batch too large")}]`],
};

for (const [name, [status, body]] of Object.entries(REFUSALS)) {
  test(`a batch refused with ${name} is made singly, at once and from then on, and tried again after a while`, async () => {
    const whole = await verified();
    assert.deepEqual([whole.sizes.length, whole.elsewhere], [2, 0]);
    const calls = whole.sizes.reduce((sum, size) => sum + size);
    const first = await verified(refusing(status, body));
    assert.deepEqual([first.sizes[0] > 1, singles(first.sizes.slice(1)), first.sizes.length, first.elsewhere], [true, true, 1 + calls, 0]);
    // What is read of the parties by the way is read singly too.
    assert.deepEqual(first.unread, []);
    const second = await verified(refusing(status, body));
    assert.deepEqual([singles(second.sizes), second.sizes.length, second.elsewhere], [true, calls, 0]);
    await worker.advance(AWHILE_MS);
    const still = await verified(refusing(status, body));
    assert.deepEqual([still.sizes[0] > 1, singles(still.sizes.slice(1)), still.elsewhere], [true, true, 0]);
    await worker.advance(AWHILE_MS);
    const mended = await verified();
    assert.deepEqual([mended.sizes.length, mended.elsewhere], [2, 0]);
  });
}

const PASSING = {
  "HTTP 502": [502, "<html>bad gateway</html>"],
  "HTTP 503 with an error": [503, error(-32000, "unavailable")],
  "HTTP 402": [402, JSON.stringify({ error: "payment required" })],
  "HTTP 402 with an error": [402, error(-32000, "payment required")],
  "an error of code 402": [200, error(402, "payment required")],
  "HTTP 429": [429, JSON.stringify({ error: "too many requests" })],
  "a page": [200, "<html>welcome</html>"],
};

for (const [name, [status, body]] of Object.entries(PASSING)) {
  test(`a batch that fails with ${name} is made singly, and the next verification makes two requests`, async () => {
    const failed = await verified(refusing(status, body));
    assert.deepEqual([failed.sizes[0] > 1, failed.elsewhere], [true, 0]);
    const next = await verified();
    assert.deepEqual([next.sizes.length, next.elsewhere], [2, 0]);
  });
}

test("a provider that refuses single calls as well is asked one, and batches stay on", async () => {
  const body = error(-32600, "too many requests");
  const refused = await verified(() => {
    one.whole = () => ({ status: 200, body });
  });
  assert.equal(refused.elsewhere, 2);
  assert.deepEqual([refused.sizes[0] > 1, refused.sizes.slice(1)], [true, [1]]);
  // Its rest is over.
  await worker.advance(31_000);
  assert.deepEqual((await verified()).sizes.length, 2);
});

const sent = (user) => `Basic ${Buffer.from(user).toString("base64")}`;

test("a user and a password in a provider's URL are sent as Basic authentication, and stand in no log", async () => {
  const [name, password] = ["me@example", "hunter2:/é%"];
  const secret = `${encodeURIComponent(name)}:${encodeURIComponent(password)}`;
  const guarded = async () => {
    const mock = Object.assign(await startMock(), { wants: "" });
    mock.whole = (_, { headers }) => (headers.authorization === mock.wants ? undefined : { status: 401, body: "who?" });
    return mock;
  };
  const [right, wrong] = [await guarded(), await guarded()];
  const at = ({ url }) => url.replace("http://", `http://${secret}@`);
  const own = await startWorker({ vars: { RPC_BASE: `${at(wrong)}/v1?key=1,${at(right)}/v1?key=1` } });
  try {
    [right.wants, wrong.wants] = [sent(`${name}:${password}`), sent("another")];
    const to = address();
    const tenant = await own.tenant({ recipients: { base: to } });
    const hash = right.addTransfer({ from: address(), to, amount: 1_000000, block: 900 });
    const { body } = await own.verify(tenant.live, { tx_hash: hash, chain: "base" });
    assert.equal(body.success, true, JSON.stringify(body));
    assert.ok(wrong.requests > 0 && right.requests > 0);
    const log = await until(() => own.log.lines.join("").includes("providers failed") && own.log.lines.join(""), "the log");
    for (const word of [name, password, secret, "hunter2", right.wants.slice(6)]) assert.ok(!log.includes(word), word);
  } finally {
    await own.stop();
    for (const mock of [right, wrong]) mock.stop();
  }
});

test("a password that cannot be sent is named by its setting, without its value", async () => {
  const own = await startWorker({ vars: { RPC_BASE: "https://me:hunter#2@a.example/v1" } });
  try {
    const { status, body, text } = await own.call("GET", "/v1/health");
    assert.deepEqual([status, body.error_code], [503, "MISCONFIGURED"]);
    assert.match(body.detail, /RPC_BASE must be .* percent-encoded/);
    assert.ok(!`${text}${own.log.lines.join("")}`.includes("hunter"));
  } finally {
    await own.stop();
  }
});
