// A payment is handed over once (docs/spec/protocol.md#p-3-4): which of many callers gets the
// success, what reopens a delivery whose answer was lost, and what never does.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ACCOUNTS, KEYS, TOKEN, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { callers } from "./callers.mjs";
import { stored } from "./months.mjs";
import { LONG, asVersionOne, authorizationCall, identified, isExternal, nonceOf, outcome, settlementOf, sign } from "./payment.mjs";
import { startProxy } from "./proxy.mjs";
import { overtake } from "./settling.mjs";
import { startWorker, until } from "./worker.mjs";

let evm, node, worker, sent, inThePool, payment, caller, deaf, whileBlocksStand, lose, lost;

before(async () => {
  evm = await startEvm();
  node = await startProxy(evm.url);
  worker = await startWorker({ vars: { RPC_LOCAL_EVM: node.url, EVM_SIGNERS_TEST: KEYS.at(-1) } });
  ({ sent, inThePool, payment, caller, deaf, whileBlocksStand, lose, lost } = callers(worker, evm));
});
after(async () => {
  await worker?.stop();
  node?.stop();
  evm?.stop();
});

test("of fifty equal settles at once one succeeds, and the others name its settlement", async () => {
  const { settle, verify, isValid, to, get } = await payment();
  // A fresh Worker asks the chain for prices and more first: that is not what is tested.
  assert.equal(await isValid(), true);
  const before = await sent("latest");
  const answers = await Promise.all(Array.from({ length: 50 }, () => settle()));
  const served = answers.filter(({ body }) => body.success);
  assert.equal(served.length, 1, answers.map(({ body }) => outcome(body)).join());
  const [won] = served;
  const [{ transaction }, settlementId] = [won.body, settlementOf(won)];
  const others = answers.filter((answer) => answer !== won);
  for (const { status, body } of others) {
    assert.deepEqual([status, outcome(body), body.extra.settlementId], [200, "duplicate_settlement", settlementId], JSON.stringify(body));
    assert.ok(["", transaction].includes(body.transaction), body.transaction);
  }
  assert.deepEqual([others.length, (await sent("latest")) - before, await evm.balance(to)], [49, 1, 10_000n]);
  for (let times = 0; times < 2; times++) {
    const { body } = await settle();
    assert.deepEqual([outcome(body), body.transaction, body.extra.settlementId], ["duplicate_settlement", transaction, settlementId]);
  }
  const looked = (await verify()).body;
  assert.deepEqual([looked.isValid, looked.invalidReason], [false, "duplicate_settlement"]);
  const { body: read } = await get(`/v1/settlements/${settlementId}`);
  assert.deepEqual(
    [read.status, read.transaction, read.handed_over.request_id],
    ["completed", transaction, won.headers.get("x-request-id")],
  );
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
    assert.equal(outcome(second), "duplicate_settlement");
    assert.ok(second.extra.settlementId);
    const read = await record();
    assert.deepEqual([read.id, read.status, read.handed_over], [second.extra.settlementId, "pending", null]);
    return waiting;
  });
  assert.equal((await first.answer).body.success, true);
});

test("a caller who vanishes while the settlement is awaited leaves it open, and the resend is served once", async () => {
  const before = await sent("latest");
  const { settle, settlement, to, isValid } = await lost();
  assert.deepEqual([settlement.status, settlement.handed_over], ["completed", null]);
  const answers = await Promise.all(Array.from({ length: 6 }, () => settle()));
  const served = answers.filter(({ body }) => body.success);
  assert.deepEqual([served.length, served[0]?.body.transaction], [1, settlement.transaction]);
  assert.deepEqual([outcome((await settle()).body), await isValid(), await evm.balance(to)], ["duplicate_settlement", false, 10_000n]);
  assert.equal((await sent("latest")) - before, 1);
});

test("a success that was lost and is given again still says that somebody else has sent it", async () => {
  const paid = await payment();
  const quicker = await whileBlocksStand(async (count) => {
    const gone = caller(paid);
    await inThePool(count + 1);
    const hash = await overtake(evm, ACCOUNTS[2], TOKEN, await authorizationCall(paid.body));
    gone.cut();
    assert.equal(await gone.answer, undefined);
    return hash;
  });
  await until(paid.isValid, "the delivery to reopen", 30_000);
  const again = await paid.settle();
  assert.deepEqual([outcome(again.body), again.body.transaction, isExternal(again)], ["success", quicker, true], again.text);
});

test("a caller who only half-closes the connection still gets the success", async () => {
  const paid = await payment();
  const socket = await whileBlocksStand(async (count) => {
    const half = deaf(paid);
    half.end();
    await inThePool(count + 1);
    return half;
  });
  assert.match(Buffer.concat(await socket.toArray()).toString(), /"success":true/);
});

test("a connection that is cut after the ledger's commit reopens nothing", async () => {
  const paid = await payment();
  const socket = deaf(paid);
  const { id, transaction, handed_over } = await until(async () => {
    const settlement = await paid.record();
    return settlement?.handed_over && settlement;
  }, "the handing over");
  socket.resetAndDestroy();
  const again = (await paid.settle()).body;
  assert.deepEqual([outcome(again), again.transaction, again.extra.settlementId], ["duplicate_settlement", transaction, id]);
  assert.equal(await paid.isValid(), false);
  // The end of a lease does not bring it back: the seller reads who was given it.
  await worker.advance(60_000);
  assert.deepEqual([outcome((await paid.settle()).body), (await paid.record()).handed_over], ["duplicate_settlement", handed_over]);
  assert.equal((await paid.handOver(id)).status, 409);
});

test("a pending settlement is open: valid from the record, and handed over once when it is completed", async () => {
  const { settle, verify, record, handOver, to } = await payment();
  const [first, id, next] = await whileBlocksStand(async (count) => {
    const waiting = settle();
    await inThePool(count + 1);
    await worker.advance(21_000);
    const { body } = await waiting;
    assert.deepEqual([outcome(body), body.transaction.length], ["settlement_pending", 66], JSON.stringify(body));
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
  const second = await next;
  assert.deepEqual([outcome(second.body), second.body.transaction, settlementOf(second)], ["success", first.transaction, id]);
  assert.deepEqual(
    [outcome((await settle()).body), (await verify()).body.isValid, await evm.balance(to)],
    ["duplicate_settlement", false, 10_000n],
  );
});

test("a forged repeat of an open payment gets nothing", async () => {
  const { verify, settle, body, buyer, to } = await lost();
  const other = await sign({ buyer, to, ...LONG });
  const forged = structuredClone(body);
  forged.paymentPayload.payload.signature = other.paymentPayload.payload.signature;
  assert.equal((await verify(forged)).body.isValid, false);
  assert.notEqual(outcome((await settle(forged)).body), "success");
  const thief = await worker.tenant();
  const stolen = await worker.call("POST", "/facilitator/settle", { key: thief.test, body });
  assert.equal(stolen.body.errorReason, "pay_to_not_allowed");
  assert.equal(outcome((await settle()).body), "success");
});

test("settlements are found by payer and nonce, by transaction and by what is not handed over", async () => {
  const seller = await payment();
  const { buyer, to, key, get } = seller;
  const list = async (query, by = key) => (await worker.call("GET", `/v1/settlements${query}`, { key: by })).body;
  const answer = await seller.settle();
  const [first, settled] = [answer.body, settlementOf(answer)];
  const more = [];
  for (let at = 0; at < 2; at++) {
    const body = await sign({ buyer, to, ...LONG });
    more.push(await lose(seller, body));
  }
  const ids = ({ data }) => data.map(({ id }) => id);
  const newest = [...more].reverse().map(({ id }) => id);
  assert.deepEqual(ids(await list("")), [...newest, settled]);
  assert.deepEqual(ids(await list("?handed_over=false")), newest);
  assert.deepEqual(ids(await list("?handed_over=true")), [settled]);
  assert.deepEqual(ids(await list(`?transaction=${first.transaction}`)), [settled]);
  assert.deepEqual(ids(await list(`?transaction=0x${"00".repeat(32)}`)), []);
  // Every filter counts.
  const [payer, stranger] = [buyer.address, randomAccount().address];
  assert.deepEqual(ids(await list(`?transaction=${first.transaction}&payer=${payer}`)), [settled]);
  assert.deepEqual(ids(await list(`?transaction=${first.transaction}&payer=${stranger}`)), []);
  const named = `?network=eip155:31337&payer=${payer}&nonce=${nonceOf(seller.body)}&transaction=`;
  assert.deepEqual(ids(await list(`${named}${first.transaction}`)), [settled]);
  assert.deepEqual(ids(await list(`${named}0x${"00".repeat(32)}`)), []);
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
  // Filters narrow each other.
  assert.deepEqual(ids(await list(`?transaction=${first.transaction}&payer=${buyer.address}`)), [settled]);
  assert.deepEqual(ids(await list(`?transaction=${first.transaction}&payer=${randomAccount().address}`)), []);
  assert.deepEqual(ids(await list(`?transaction=${first.transaction}&handed_over=false`)), []);
  const own = `?network=eip155:31337&payer=${buyer.address}&nonce=${nonceOf(seller.body)}`;
  assert.deepEqual(ids(await list(`${own}&transaction=${more[0].transaction}`)), []);
  assert.deepEqual([ids(await list("?network=base-sepolia")), ids(await list("?network=local-evm"))], [[], [...newest, settled]]);
  const other = await worker.tenant();
  assert.deepEqual([ids(await list("", other.test)), ids(await list("", seller.live))], [[], []]);
  assert.equal((await worker.call("GET", `/v1/settlements/${settled}`, { key: other.test })).status, 404);
  assert.equal((await get("/v1/settlements?handed_over=perhaps")).status, 422);
});

test("in version 1 an open payment is served for the resource that it was bound to, and no other", async () => {
  const paid = await payment();
  const [bound, elsewhere] = [asVersionOne(paid.body), asVersionOne(paid.body, "https://shop.test/b")];
  await lose(paid, bound);
  const looked = (await paid.verify(elsewhere)).body;
  assert.deepEqual([looked.isValid, looked.invalidReason], [false, "duplicate_settlement"]);
  assert.equal(outcome((await paid.settle(elsewhere)).body), "duplicate_settlement");
  assert.equal(outcome((await paid.settle(bound)).body), "success");
  assert.equal(await evm.balance(paid.to), 10_000n);
});

test("a hand-over takes an open settlement once", async () => {
  const { settlement, handOver, settle, isValid, get } = await lost();
  const other = await worker.tenant();
  assert.equal((await handOver(settlement.id, other.test)).status, 404);
  const answers = await Promise.all(Array.from({ length: 6 }, () => handOver(settlement.id)));
  const taken = answers.filter(({ status }) => status === 200);
  assert.deepEqual([taken.length, answers.filter(({ status }) => status === 409).length], [1, 5], answers[0].text);
  assert.deepEqual([taken[0].body.id, taken[0].body.handed_over.request_id], [settlement.id, taken[0].headers.get("x-request-id")]);
  assert.deepEqual([outcome((await settle()).body), await isValid()], ["duplicate_settlement", false]);
  assert.deepEqual((await get(`/v1/settlements/${settlement.id}`)).body.handed_over, taken[0].body.handed_over);
  const served = await payment();
  assert.equal((await served.handOver(settlementOf(await served.settle()))).status, 409);
  // A hand-over and a settle are one race.
  const raced = await lost();
  const asked = await Promise.all(Array.from({ length: 8 }, (_, at) => (at % 2 ? raced.settle() : raced.handOver(raced.settlement.id))));
  assert.equal(asked.filter((answer, at) => (at % 2 ? answer.body.success : answer.status === 200)).length, 1);
});

test("a settlement that is completed and open for five minutes raises one event", async () => {
  const paid = await lost();
  const { settlement, buyer, to, id: tenant, get } = paid;
  const served = (await paid.settle(await sign({ buyer, to, ...LONG }))).body;
  assert.equal(outcome(served), "success");
  const events = () =>
    stored(worker, tenant)
      .flatMap((month) => month.events)
      .filter(({ kind }) => kind === "settlement.undelivered");
  // An alarm that is due rings when the ledger is next asked something.
  const raised = (count) =>
    until(async () => {
      await get("/v1/usage");
      const all = events();
      return all.length >= count && all;
    }, `event ${count}`);
  await worker.advance(240_000);
  await get("/v1/usage");
  await worker.advance(70_000);
  const [{ subject, at, body }] = await raised(1);
  assert.deepEqual([subject, body.id, body.handed_over], [settlement.id, settlement.id, null]);
  const wait = at - Date.parse(settlement.completed_at);
  assert.ok(wait >= 300_000 && wait < 360_000, `${wait} ms`);
  // Hours later the next that is lost raises its own, and neither of the first two raises another.
  await worker.advance(3_600_000);
  const next = await lose(paid, await sign({ buyer, to, ...LONG }));
  await worker.advance(310_000);
  assert.deepEqual(
    (await raised(2)).map((each) => each.subject),
    [settlement.id, next.id],
  );
});

test("an identifier names one authorization: others conflict and name the first settlement, whose header still works", async () => {
  const id = "order_fedcba9876543210";
  const named = (body) => identified(body, id);
  const paid = await payment();
  const { buyer, to, settle, verify } = paid;
  const four = [];
  for (let at = 0; at < 4; at++) four.push(named(await sign({ buyer, to, ...LONG })));
  // Nothing is reserved yet, so each of them is good.
  for (const body of four) assert.equal((await verify(body)).body.isValid, true);
  const before = await sent("latest");
  const answers = await Promise.all(four.map((body) => settle(body)));
  const at = answers.findIndex(({ body }) => body.success);
  const [{ transaction }, settlementId] = [answers[at].body, settlementOf(answers[at])];
  for (const { body } of answers.filter((_, other) => other !== at)) {
    assert.deepEqual([outcome(body), body.extra.settlementId], ["payment_identifier_conflict", settlementId], JSON.stringify(body));
    assert.ok(["", transaction].includes(body.transaction));
  }
  assert.deepEqual([(await sent("latest")) - before, await evm.balance(to)], [1, 10_000n]);
  const anew = named(await sign({ buyer, to, ...LONG }));
  const refused = (await verify(anew)).body;
  assert.deepEqual(
    [refused.isValid, refused.invalidReason, refused.extra.settlementId],
    [false, "payment_identifier_conflict", settlementId],
  );
  const late = (await settle(anew)).body;
  assert.deepEqual([outcome(late), late.transaction, late.extra.settlementId], ["payment_identifier_conflict", transaction, settlementId]);
  assert.equal(outcome((await settle(four[at])).body), "duplicate_settlement");
  // Another payer's identifier is another, and learns nothing of the first.
  const stranger = randomAccount();
  await evm.mint(stranger.address, 10_000n);
  const own = (await settle(named(await sign({ buyer: stranger, to, ...LONG })))).body;
  assert.equal(outcome(own), "success", JSON.stringify(own));
  // While the delivery is open, the first header is what is served.
  const open = "order_0000000000000000";
  const first = identified(await sign({ buyer, to, ...LONG }), open);
  await lose(paid, first);
  const again = identified(await sign({ buyer, to, ...LONG }), open);
  assert.equal(outcome((await settle(again)).body), "payment_identifier_conflict");
  assert.equal(outcome((await settle(first)).body), "success");
});

test("a payment of version 1 is handed over once, whatever it is presented as", async () => {
  const { settle, body, to } = await payment();
  const [old, elsewhere] = [asVersionOne(body), asVersionOne(body, "https://shop.test/b")];
  const answers = await Promise.all([old, elsewhere, body, old, elsewhere, body].map((each) => settle(each)));
  assert.deepEqual(answers.map((answer) => outcome(answer.body)).sort(), [...Array(5).fill("duplicate_settlement"), "success"]);
  assert.equal(await evm.balance(to), 10_000n);
});

test("an open settlement is answered from the record alone, past its time, and counts no more", async () => {
  const validBefore = BigInt(Math.floor(Date.now() / 1000)) + 20_000n;
  const { verify, settle, settlement, buyer, get } = await lost({ change: { validBefore } });
  const { period: month, verifications_used: used } = (await get("/v1/usage")).body;
  assert.equal(used, 1);
  await worker.advance(30_000_000);
  node.down = true;
  const before = node.calls.length;
  try {
    for (let times = 0; times < 3; times++) {
      const { body } = await verify();
      assert.deepEqual([body.isValid, body.payer], [true, buyer.address], JSON.stringify(body));
    }
    const { body } = await settle();
    assert.deepEqual([outcome(body), body.transaction], ["success", settlement.transaction]);
    assert.equal((await verify()).body.invalidReason, "duplicate_settlement");
  } finally {
    node.down = false;
  }
  // Alarms look at blocks and receipts; a verification would call the token and read code.
  const verified = node.calls.slice(before).filter((method) => ["eth_call", "eth_getCode", "eth_estimateGas"].includes(method));
  // The hours may have led into the next month, which has counted nothing.
  const { period, verifications_used } = (await get("/v1/usage")).body;
  assert.deepEqual([verified, verifications_used], [[], period === month ? 1 : 0]);
});

test("a node that was down is no poor wallet: the next payment is settled once it is back", async () => {
  const { settle } = await payment();
  node.down = true;
  try {
    assert.notEqual(outcome((await settle()).body), "success");
  } finally {
    node.down = false;
  }
  const { body } = await settle();
  assert.equal(outcome(body), "success", JSON.stringify(body));
});
