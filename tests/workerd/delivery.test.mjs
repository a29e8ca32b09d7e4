// One payment, one handing over (PROTOCOL 3.4): who of many callers is told the
// success, what reopens a delivery whose answer was lost, and what never does.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { request as http } from "node:http";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { keccak256 } from "viem";
import { ACCOUNTS, KEYS, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { startProxy } from "./cutter.mjs";
import { sign, signedPayment } from "./payment.mjs";
import { startWorker, until } from "./worker.mjs";

const SIGNER = ACCOUNTS.at(-1).address;
const ROUTE = "/facilitator/settle";
/** The Worker's clock is put forward; what is signed outlives it. */
const LONG = { change: { validBefore: 4_000_000_000n } };
/** A lease ends after 30 s; a reopening that is noticed comes much sooner. */
const SOON = 10_000;
let evm, node, worker;

before(async () => {
  evm = await startEvm();
  node = await startProxy(evm.url);
  worker = await startWorker({ vars: { RPC_LOCAL_EVM: node.url, EVM_SIGNERS_TEST: KEYS.at(-1) } });
});
after(async () => {
  await worker?.stop();
  node?.stop();
  evm?.stop();
});

const sent = async (tag) => Number(await evm.rpc("eth_getTransactionCount", [SIGNER, tag]));
const nonceOf = (body) => body.paymentPayload.payload.authorization.nonce;
const told = ({ success, errorReason }) => (success ? "success" : errorReason);

/** A payment, with all that can be asked about it. */
async function payment(wishes) {
  const paid = await signedPayment(worker, evm, { ...LONG, ...wishes });
  const key = paid.test;
  const get = (path) => worker.call("GET", path, { key });
  const settle = (body = paid.body, headers = {}) => worker.call("POST", ROUTE, { key, body, headers });
  const open = (body = paid.body) => get(`/v1/settlements?network=eip155:31337&payer=${body.paymentPayload.payload.authorization.from}&nonce=${nonceOf(body)}`);
  const record = async (body) => (await open(body)).body.data[0];
  const handOver = (id, by = key) => worker.call("POST", `/v1/settlements/${id}/hand-over`, { key: by, body: {} });
  return { ...paid, key, get, settle, open, record, handOver, isValid: async () => (await paid.verify()).body.isValid };
}

/** Settles over a socket of its own, which `cut` resets; `answer` is the text, or nothing. */
function caller({ key, body }, headers = {}) {
  const text = JSON.stringify(body);
  const { hostname, port } = new URL(worker.url);
  const own = { authorization: `Bearer ${key}`, "content-type": "application/json", "content-length": Buffer.byteLength(text), ...headers };
  const request = http({ hostname, port, path: ROUTE, method: "POST", agent: false, headers: own });
  const answer = new Promise((resolve) => {
    request.once("error", () => resolve(undefined));
    request.once("response", async (response) => {
      const chunks = await response.toArray().catch(() => []);
      const whole = Buffer.concat(chunks).toString();
      resolve({ status: response.statusCode, headers: response.headers, text: whole, body: JSON.parse(whole) });
    });
  });
  request.end(text);
  return { answer, cut: () => request.socket.resetAndDestroy() };
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
const inThePool = (count) => until(async () => (await sent("pending")) === count, "the settlement in the pool");

/** A payment whose success was on its way when the caller's connection was reset: completed, and open again. */
async function lost(wishes, headers) {
  const paid = await payment(wishes);
  await whileBlocksStand(async (count) => {
    const gone = caller(paid, headers);
    await inThePool(count + 1);
    gone.cut();
    assert.equal(await gone.answer, undefined);
  });
  await until(paid.isValid, "the delivery to reopen", SOON);
  return { ...paid, settlement: await paid.record() };
}

test("fifty equal settles at once: one success, and everybody else is told whose it is", async () => {
  const { settle, verify, to, get } = await payment();
  const before = await sent("latest");
  const answers = await Promise.all(Array.from({ length: 50 }, () => settle()));
  const [won, ...more] = answers.filter(({ body }) => body.success);
  assert.deepEqual(more, []);
  const { transaction, extra: { settlementId } } = won.body;
  const others = answers.filter((answer) => answer !== won);
  for (const { status, body } of others) {
    assert.deepEqual([status, told(body), body.extra.settlementId], [200, "duplicate_settlement", settlementId], JSON.stringify(body));
    assert.ok(["", transaction].includes(body.transaction), body.transaction);
  }
  assert.deepEqual([others.length, (await sent("latest")) - before, await evm.balance(to)], [49, 1, 10_000n]);
  for (let times = 0; times < 2; times++) {
    const { body } = await settle();
    assert.deepEqual([told(body), body.transaction, body.extra.settlementId], ["duplicate_settlement", transaction, settlementId]);
  }
  const { isValid, invalidReason } = (await verify()).body;
  assert.deepEqual([isValid, invalidReason], [false, "duplicate_settlement"]);
  const { body: read } = await get(`/v1/settlements/${settlementId}`);
  assert.deepEqual([read.status, read.transaction, read.handed_over.request_id], ["completed", transaction, won.headers.get("x-request-id")]);
  assert.ok(Math.abs(Date.parse(read.handed_over.at) - Date.now()) < 60_000, read.handed_over.at);
});

test("a payment that somebody waits for is not valid, nor handed over", async () => {
  const { settle, verify, record, body: payload, key } = await payment();
  const first = await whileBlocksStand(async (count) => {
    const waiting = caller({ key, body: payload });
    await inThePool(count + 1);
    const { body } = await verify();
    assert.deepEqual([body.isValid, body.invalidReason], [false, "duplicate_settlement"]);
    const second = (await settle()).body;
    assert.equal(told(second), "duplicate_settlement");
    assert.ok(second.extra.settlementId);
    const read = await record();
    assert.deepEqual([read.id, read.status, read.handed_over], [second.extra.settlementId, "pending", null]);
    return waiting;
  });
  assert.equal((await first.answer).body.success, true);
});

test("a caller who vanishes while the settlement is awaited leaves it open, and the resend is served once", async () => {
  const { settle, settlement, to, isValid } = await lost();
  assert.deepEqual([settlement.status, settlement.handed_over], ["completed", null]);
  const answers = await Promise.all(Array.from({ length: 6 }, () => settle()));
  const served = answers.filter(({ body }) => body.success);
  assert.deepEqual([served.length, served[0]?.body.transaction], [1, settlement.transaction]);
  assert.deepEqual([told((await settle()).body), await isValid(), await evm.balance(to)], ["duplicate_settlement", false, 10_000n]);
});

test("a caller who only stops sending is still told", async () => {
  const { body, key } = await payment();
  const { hostname, port } = new URL(worker.url);
  const text = JSON.stringify(body);
  const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
  const chunks = socket.toArray();
  await whileBlocksStand(async (count) => {
    socket.end(`POST ${ROUTE} HTTP/1.1\r\nhost: ${hostname}\r\nauthorization: Bearer ${key}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`);
    await inThePool(count + 1);
  });
  assert.match(Buffer.concat(await chunks).toString(), /"success":true/);
});

test("a connection that is cut after the ledger's commit reopens nothing", async () => {
  const paid = await payment();
  const text = JSON.stringify(paid.body);
  const { hostname, port } = new URL(worker.url);
  const socket = connect({ host: hostname, port: Number(port) }).pause();
  socket.on("error", () => {});
  socket.write(`POST ${ROUTE} HTTP/1.1\r\nhost: ${hostname}\r\nauthorization: Bearer ${paid.key}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
  const { id, transaction, handed_over } = await until(async () => {
    const settlement = await paid.record();
    return settlement?.handed_over && settlement;
  }, "the handing over");
  socket.resetAndDestroy();
  const again = (await paid.settle()).body;
  assert.deepEqual([told(again), again.transaction, again.extra.settlementId], ["duplicate_settlement", transaction, id]);
  assert.equal(await paid.isValid(), false);
  // Neither a lease nor a day brings it back: the seller reads who was told.
  await worker.advance(60_000);
  assert.deepEqual([told((await paid.settle()).body), (await paid.record()).handed_over], ["duplicate_settlement", handed_over]);
  assert.equal((await paid.handOver(id)).status, 409);
});

test("a settlement that is still pending is open: valid from the record, and told once when it is completed", async () => {
  const { settle, verify, record, handOver, to } = await payment();
  const [first, id, next] = await whileBlocksStand(async (count) => {
    const waiting = settle();
    await inThePool(count + 1);
    await worker.advance(21_000);
    const { body } = await waiting;
    assert.deepEqual([told(body), body.transaction.length], ["settlement_pending", 66], JSON.stringify(body));
    assert.equal((await verify()).body.isValid, true);
    const read = await record();
    assert.deepEqual([read.status, read.handed_over], ["pending", null]);
    // It has not moved yet: nobody may give goods for it.
    assert.equal((await handOver(read.id)).status, 409);
    // A stock shop asks once more, at once.
    const again = settle();
    await until(async () => !(await verify()).body.isValid, "the second wait");
    return [body, read.id, again];
  });
  const { body } = await next;
  assert.deepEqual([told(body), body.transaction, body.extra.settlementId], ["success", first.transaction, id]);
  assert.deepEqual([told((await settle()).body), (await verify()).body.isValid, await evm.balance(to)], ["duplicate_settlement", false, 10_000n]);
});

test("what is open is told from the record alone, also when its time is over", async () => {
  const validBefore = BigInt(Math.floor(Date.now() / 1000)) + 3_600n;
  const { verify, settle, settlement, buyer } = await lost({ change: { validBefore } });
  const used = async (key) => (await worker.call("GET", "/v1/usage", { key })).body.verifications_used;
  const { test: key } = await payment();
  const counted = await used(key);
  await worker.advance(7_200_000);
  node.down = true;
  const before = node.asked.length;
  try {
    for (let times = 0; times < 3; times++) {
      const { body } = await verify();
      assert.deepEqual([body.isValid, body.payer], [true, buyer.address], JSON.stringify(body));
    }
    const { body } = await settle();
    assert.deepEqual([told(body), body.transaction], ["success", settlement.transaction]);
    assert.equal((await verify()).body.invalidReason, "duplicate_settlement");
  } finally {
    node.down = false;
  }
  // Alarms look at blocks and receipts; a verification would call the token and read code.
  const verified = node.asked.slice(before).filter((method) => ["eth_call", "eth_getCode", "eth_estimateGas"].includes(method));
  assert.deepEqual([verified, await used(key)], [[], counted]);
});

test("a node that was down is no poor wallet: the next payment is settled once it is back", async () => {
  const { settle } = await payment();
  node.down = true;
  try {
    assert.notEqual(told((await settle()).body), "success");
  } finally {
    node.down = false;
  }
  const { body } = await settle();
  assert.equal(told(body), "success", JSON.stringify(body));
});

test("a forged repeat of an open payment gets nothing", async () => {
  const { verify, settle, body, buyer, to } = await lost();
  const other = await sign({ buyer, to, ...LONG });
  const forged = structuredClone(body);
  forged.paymentPayload.payload.signature = other.paymentPayload.payload.signature;
  assert.equal((await verify(forged)).body.isValid, false);
  assert.notEqual(told((await settle(forged)).body), "success");
  const thief = await worker.tenant();
  const stolen = await worker.call("POST", ROUTE, { key: thief.test, body });
  assert.equal(stolen.body.errorReason, "pay_to_not_allowed");
  assert.equal(told((await settle()).body), "success");
});

test("under an Idempotency-Key a success repeats byte for byte for ten minutes, and stands for one body", async () => {
  const { settle, buyer, to, body: payload } = await payment();
  const headers = { "idempotency-key": crypto.randomUUID() };
  const first = await settle(payload, headers);
  assert.equal(told(first.body), "success", first.text);
  assert.equal(first.headers.get("idempotent-replayed"), null);
  for (let times = 0; times < 3; times++) {
    const again = await settle(payload, headers);
    assert.deepEqual([again.status, again.text, again.headers.get("idempotent-replayed")], [200, first.text, "true"]);
  }
  for (const others of [{}, { "idempotency-key": crypto.randomUUID() }]) {
    assert.equal(told((await settle(payload, others)).body), "duplicate_settlement");
  }
  const conflict = await settle(await sign({ buyer, to, ...LONG }), headers);
  assert.deepEqual([conflict.status, conflict.body.success, conflict.body.error_code], [409, false, "IDEMPOTENCY_CONFLICT"]);
  await worker.advance(601_000);
  const late = (await settle(payload, headers)).body;
  assert.deepEqual([told(late), late.transaction], ["duplicate_settlement", first.body.transaction]);
  assert.equal(await evm.balance(to), 10_000n);
});

test("a success that was lost under a key is told again under that key, and nowhere else", async () => {
  const headers = { "idempotency-key": crypto.randomUUID() };
  const paid = await payment();
  const text = JSON.stringify(paid.body);
  const { hostname, port } = new URL(worker.url);
  const socket = connect({ host: hostname, port: Number(port) }).pause();
  socket.on("error", () => {});
  socket.write(`POST ${ROUTE} HTTP/1.1\r\nhost: ${hostname}\r\nauthorization: Bearer ${paid.key}\r\ncontent-type: application/json\r\nidempotency-key: ${headers["idempotency-key"]}\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
  const { transaction } = await until(async () => {
    const settlement = await paid.record();
    return settlement?.handed_over && settlement;
  }, "the handing over");
  socket.resetAndDestroy();
  assert.equal(told((await paid.settle()).body), "duplicate_settlement");
  const again = await paid.settle(paid.body, headers);
  assert.deepEqual([told(again.body), again.body.transaction, again.headers.get("idempotent-replayed")], ["success", transaction, "true"]);
});

test("a second request under a key in progress takes the wait over", async () => {
  const { settle, body, to } = await payment();
  const headers = { "idempotency-key": crypto.randomUUID() };
  const [first, second] = await whileBlocksStand(async (count) => {
    const waiting = settle(body, headers);
    await inThePool(count + 1);
    const taking = settle(body, headers);
    // Whoever waits without a key, or with another, takes nothing over.
    for (const others of [{}, { "idempotency-key": crypto.randomUUID() }]) {
      assert.equal(told((await settle(body, others)).body), "duplicate_settlement");
    }
    return [waiting, taking];
  }).then((both) => Promise.all(both));
  assert.deepEqual([told(first.body), told(second.body)], ["duplicate_settlement", "success"]);
  const third = await settle(body, headers);
  assert.deepEqual([third.text, third.headers.get("idempotent-replayed")], [second.text, "true"]);
  assert.equal(await evm.balance(to), 10_000n);
});

test("whoever has lost the wait to a later request can end or reopen nothing by leaving", async () => {
  const { body, key, settle, to, isValid } = await payment();
  const headers = { "idempotency-key": crypto.randomUUID() };
  const taking = await whileBlocksStand(async (count) => {
    const first = caller({ key, body }, headers);
    await inThePool(count + 1);
    const second = settle(body, headers);
    // The first is told at the end only; it leaves before.
    await until(async () => (await settle()).body.extra.settlementId, "the second wait");
    first.cut();
    assert.equal(await first.answer, undefined);
    return [second];
  });
  assert.equal(told((await taking[0]).body), "success");
  for (let times = 0; times < 3; times++) {
    assert.deepEqual([await isValid(), told((await settle()).body)], [false, "duplicate_settlement"]);
  }
  assert.equal(await evm.balance(to), 10_000n);
});

test("a pending settlement is asked for again under the same key, or a new one", async () => {
  for (const same of [true, false]) {
    const { settle, body, to } = await payment();
    const headers = { "idempotency-key": crypto.randomUUID() };
    const again = same ? headers : { "idempotency-key": crypto.randomUUID() };
    await whileBlocksStand(async (count) => {
      const waiting = settle(body, headers);
      await inThePool(count + 1);
      await worker.advance(21_000);
      assert.equal(told((await waiting).body), "settlement_pending");
    });
    const { text, body: answer } = await settle(body, again);
    assert.equal(told(answer), "success", text);
    assert.equal((await settle(body, again)).text, text);
    assert.equal(told((await settle(body, same ? {} : headers)).body), "duplicate_settlement");
    assert.equal(await evm.balance(to), 10_000n);
  }
});

test("a key that a buyer can repeat is refused by name", async () => {
  const { settle, to, body } = await payment();
  body.paymentPayload.extensions = { "payment-identifier": { info: { required: true, id: "order_0123456789abcdef" } } };
  const payload = JSON.stringify(body.paymentPayload);
  const header = Buffer.from(payload).toString("base64");
  const digests = [header, payload, JSON.stringify(body)].flatMap((text) => [
    createHash("sha256").update(text).digest("hex"),
    keccak256(Buffer.from(text)),
  ]);
  const { signature, authorization: { nonce } } = body.paymentPayload.payload;
  const bare = (text) => text.replace(/^0x/, "");
  const keys = ["order_0123456789abcdef", ...[nonce, signature, ...digests].flatMap((text) => [`0x${bare(text)}`, bare(text), bare(text).toUpperCase()])];
  for (const key of keys) {
    const { body: answer } = await settle(body, { "idempotency-key": key });
    assert.equal(told(answer), "invalid_payload", `${key}: ${JSON.stringify(answer)}`);
    assert.match(answer.errorMessage, /Idempotency-Key/i);
  }
  assert.equal(await evm.balance(to), 0n);
  assert.equal(told((await settle(body, { "idempotency-key": crypto.randomUUID() })).body), "success");
});

test("settlements are found by payer and nonce, by transaction and by what is not handed over", async () => {
  const seller = await payment();
  const { buyer, to, key, get } = seller;
  const list = async (query, by = key) => (await worker.call("GET", `/v1/settlements${query}`, { key: by })).body;
  const first = (await seller.settle()).body;
  const more = [];
  for (let at = 0; at < 2; at++) {
    const body = await sign({ buyer, to, ...LONG });
    await whileBlocksStand(async (count) => {
      const gone = caller({ key, body });
      await inThePool(count + 1);
      gone.cut();
    });
    await until(async () => (await seller.verify(body)).body.isValid, "the delivery to reopen", SOON);
    more.push(await seller.record(body));
  }
  const ids = ({ data }) => data.map(({ id }) => id);
  const newest = [...more].reverse().map(({ id }) => id);
  const settled = first.extra.settlementId;
  assert.deepEqual(ids(await list("")), [...newest, settled]);
  assert.deepEqual(ids(await list("?handed_over=false")), newest);
  assert.deepEqual(ids(await list("?handed_over=true")), [settled]);
  assert.deepEqual(ids(await list(`?transaction=${first.transaction}`)), [settled]);
  assert.deepEqual(ids(await list(`?transaction=0x${"00".repeat(32)}`)), []);
  assert.deepEqual(ids((await seller.open()).body), [settled]);
  assert.deepEqual(ids(await list(`?network=eip155:31337&payer=${buyer.address.toLowerCase()}&nonce=${nonceOf(seller.body)}`)), [settled]);
  assert.deepEqual(ids(await list(`?network=eip155:31337&payer=${randomAccount().address}&nonce=${nonceOf(seller.body)}`)), []);
  const pages = [];
  for (let cursor = ""; cursor !== null; ) {
    const page = await list(`?limit=1${cursor && `&cursor=${cursor}`}`);
    pages.push(...ids(page));
    cursor = page.next_cursor;
  }
  assert.deepEqual(pages, [...newest, settled]);
  // Reading hands nothing over, and nobody else reads it.
  assert.deepEqual((await get(`/v1/settlements/${newest[0]}`)).body.handed_over, null);
  const other = await worker.tenant();
  assert.deepEqual([ids(await list("", other.test)), ids(await list("", seller.live))], [[], []]);
  assert.equal((await worker.call("GET", `/v1/settlements/${settled}`, { key: other.test })).status, 404);
  assert.equal((await get("/v1/settlements?handed_over=perhaps")).status, 422);
});

test("a hand-over takes an open settlement once", async () => {
  const { settlement, handOver, settle, isValid, get } = await lost();
  const other = await worker.tenant();
  assert.equal((await handOver(settlement.id, other.test)).status, 404);
  const answers = await Promise.all(Array.from({ length: 6 }, () => handOver(settlement.id)));
  const taken = answers.filter(({ status }) => status === 200);
  assert.deepEqual([taken.length, answers.filter(({ status }) => status === 409).length], [1, 5], answers[0].text);
  assert.deepEqual([taken[0].body.id, taken[0].body.handed_over.request_id], [settlement.id, taken[0].headers.get("x-request-id")]);
  assert.deepEqual([told((await settle()).body), await isValid()], ["duplicate_settlement", false]);
  assert.deepEqual((await get(`/v1/settlements/${settlement.id}`)).body.handed_over, taken[0].body.handed_over);
  const served = await payment();
  const { extra } = (await served.settle()).body;
  assert.equal((await served.handOver(extra.settlementId)).status, 409);
  // A hand-over and a settle are one race.
  const raced = await lost();
  const asked = await Promise.all(Array.from({ length: 8 }, (_, at) => (at % 2 ? raced.settle() : raced.handOver(raced.settlement.id))));
  assert.equal(asked.filter((answer, at) => (at % 2 ? answer.body.success : answer.status === 200)).length, 1);
});

test("a settlement that nobody was told for five minutes is an event, once", async () => {
  const { settlement, id: tenant, get } = await lost();
  const served = await payment();
  assert.equal(told((await served.settle()).body), "success");
  const events = (of) => worker.sql("SELECT body FROM events WHERE tenant_id = ? AND kind = 'settlement.undelivered'", of);
  await worker.advance(240_000);
  await get("/v1/usage");
  assert.deepEqual(await events(tenant), []);
  await worker.advance(70_000);
  await until(async () => {
    await get("/v1/usage");
    return (await events(tenant)).length;
  }, "the event");
  await worker.advance(3_600_000);
  await Promise.all([get("/v1/settlements"), served.get("/v1/settlements")]);
  const [{ body }, ...more] = await events(tenant);
  assert.ok(body.includes(settlement.id), body);
  assert.deepEqual([more, await events(served.id)], [[], []]);
});

test("an identifier names one authorization: the others are told of the first, and the first header still works", async () => {
  const id = "order_fedcba9876543210";
  const named = (body) => {
    body.paymentPayload.extensions = { "payment-identifier": { info: { required: true, id } } };
    return body;
  };
  const paid = await payment();
  const { buyer, to, settle, verify, key } = paid;
  const four = [];
  for (let at = 0; at < 4; at++) four.push(named(await sign({ buyer, to, ...LONG })));
  // Nothing is reserved yet, so each of them is good.
  for (const body of four) assert.equal((await verify(body)).body.isValid, true);
  const before = await sent("latest");
  const answers = await Promise.all(four.map((body) => settle(body)));
  const at = answers.findIndex(({ body }) => body.success);
  const { transaction, extra: { settlementId } } = answers[at].body;
  for (const { body } of answers.filter((_, other) => other !== at)) {
    assert.deepEqual([told(body), body.extra.settlementId], ["payment_identifier_conflict", settlementId], JSON.stringify(body));
    assert.ok(["", transaction].includes(body.transaction));
  }
  assert.deepEqual([(await sent("latest")) - before, await evm.balance(to)], [1, 10_000n]);
  const anew = named(await sign({ buyer, to, ...LONG }));
  const refused = (await verify(anew)).body;
  assert.deepEqual([refused.isValid, refused.invalidReason, refused.extra.settlementId], [false, "payment_identifier_conflict", settlementId]);
  const late = (await settle(anew)).body;
  assert.deepEqual([told(late), late.transaction, late.extra.settlementId], ["payment_identifier_conflict", transaction, settlementId]);
  assert.equal(told((await settle(four[at])).body), "duplicate_settlement");
  // Another payer's identifier is another, and learns nothing of the first.
  const stranger = randomAccount();
  await evm.mint(stranger.address, 10_000n);
  const own = (await settle(named(await sign({ buyer: stranger, to, ...LONG })))).body;
  assert.equal(told(own), "success", JSON.stringify(own));
  // While the delivery is open, the first header is what is served.
  const open = "order_0000000000000000";
  const first = await sign({ buyer, to, ...LONG });
  first.paymentPayload.extensions = { "payment-identifier": { info: { required: true, id: open } } };
  await whileBlocksStand(async (count) => {
    const gone = caller({ key, body: first });
    await inThePool(count + 1);
    gone.cut();
  });
  await until(async () => (await verify(first)).body.isValid, "the delivery to reopen", SOON);
  const again = await sign({ buyer, to, ...LONG });
  again.paymentPayload.extensions = first.paymentPayload.extensions;
  assert.equal(told((await settle(again)).body), "payment_identifier_conflict");
  assert.equal(told((await settle(first)).body), "success");
});

test("a payment of version 1 is handed over once, whatever it is presented as", async () => {
  const { settle, body, to } = await payment();
  const old = {
    x402Version: 1,
    paymentRequirements: { ...body.paymentRequirements, network: "local-evm", maxAmountRequired: "10000", resource: "https://shop.test/a", description: "" },
    paymentPayload: { x402Version: 1, scheme: "exact", network: "local-evm", payload: body.paymentPayload.payload },
  };
  const elsewhere = structuredClone(old);
  elsewhere.paymentRequirements.resource = "https://shop.test/b";
  const answers = await Promise.all([old, elsewhere, body, old, elsewhere, body].map((each) => settle(each)));
  assert.deepEqual(answers.map((answer) => told(answer.body)).sort(), [...Array(5).fill("duplicate_settlement"), "success"]);
  assert.equal(await evm.balance(to), 10_000n);
});
