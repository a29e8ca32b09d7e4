// What compares the books after a fault (tests/workerd/books.test.mjs) reports each thing that is wrong in them, and nothing where
// all is right.
import assert from "node:assert/strict";
import { test } from "node:test";
import { balance } from "./workerd/books/balance.mjs";
import { TAMPERING } from "./workerd/books/tampering.mjs";
import { ulid } from "./workerd/months.mjs";

const HOUR = 3_600_000;
const NOON = Date.UTC(2026, 10, 15, 12);
const DAY_START = Date.UTC(2026, 10, 15);
const id = (prefix, number) => `${prefix}_${ulid(NOON + number, BigInt(number))}`;

/** An answer, as it is kept too. */
function answer(number, more) {
  return {
    id: id("ver", number),
    request_id: id("req", number),
    tx_hash: `0x${number}`,
    chain: "base",
    success: true,
    status: "finalized",
    amount: "1000000",
    to_address: "0xseller",
    reference: "order",
    claimed: true,
    replayed: false,
    error_code: null,
    retry: null,
    risk_score: 0,
    ...more,
  };
}
const kept = (body) => ({ id: body.id, revision: 0, text: JSON.stringify(body) });
const asked = (body, more = {}) => ({
  account: "ten_a:live",
  tx: body.tx_hash,
  reference: body.reference,
  key: null,
  asked: {},
  outcome: /** @type {const} */ ("answered"),
  code: null,
  resolved: false,
  repeated: false,
  request: body.request_id,
  text: JSON.stringify(body),
  body,
  ...more,
});
const lost = { outcome: /** @type {const} */ ("unknown"), request: null, text: null, body: null };
const event = (type, subject, number) => ({
  id: subject.startsWith("ver_") ? subject.replace("ver_", "evt_") : id("evt", number),
  type,
  subject,
});

/**
 * Books that balance: a seller who verifies, with a payment that was lost on its way, and one who settles, of whom one sale was
 * answered and another was not.
 * @returns {import("./workerd/books/balance.mjs").Books}
 */
function books() {
  const [paid, refused, pending, unseen] = [
    answer(1, {}),
    answer(2, { success: false, status: "rejected", claimed: false, error_code: "AMOUNT_TOO_LOW", retry: "never" }),
    answer(3, { success: false, status: "pending", amount: null, claimed: false, error_code: "TX_NOT_FOUND", retry: "later" }),
    answer(4, { amount: "5" }),
  ];
  const records = [paid, refused, pending, unseen].map(kept);
  const settlement = (number, request) => ({
    id: id("stl", number),
    status: "completed",
    revision: 3,
    body: { transaction: `0xhash${number}`, amount: "20", handed_over: { request_id: request } },
  });
  const settlements = [settlement(5, "req_five"), settlement(6, "req_of_one_who_was_lost")];
  const copies = settlements.map(({ id, status, revision }) => ({ id, status, revision }));
  const sales = (outcome, request, success) => [{ sale: "key", outcome, request, success }];
  const payment = (nonce, settles) => ({ account: "ten_b:test", nonce, amount: "20", isGood: true, asked: 1, settles });
  const rollup = (outcome, count, amount) => [
    [`day ${DAY_START} base ${outcome}`, [count, amount]],
    [`hour ${NOON - (NOON % HOUR)} base ${outcome}`, [count, amount]],
  ];
  const verified = [paid, refused, pending, unseen].map((body) =>
    event(body.success ? "verification.succeeded" : "verification.failed", body.id, 0),
  );
  const settled = settlements.map((one, at) => event("settlement.succeeded", one.id, 10 + at));
  return {
    journal: {
      verifications: [
        asked(paid, { key: "k" }),
        asked(paid, { key: "k", repeated: true }),
        asked(refused),
        asked(pending),
        asked(unseen, lost),
        asked({ ...answer(9, {}), tx_hash: "0x9" }, lost),
      ],
      payments: [
        payment("0xn5", sales("answered", "req_five", true)),
        payment("0xn6", sales("unknown", null, false)),
        { ...payment("0xn7", []), isGood: false },
      ],
      mails: ["ann@example.test"],
      jumps: [],
      dropped: [],
      broken: [],
    },
    accounts: [
      {
        name: "ten_a:live",
        payTo: "0xseller",
        now: NOON + 1_000,
        limit: 10,
        ledger: {
          reserved: {},
          records: structuredClone(records),
          claims: [paid, unseen].map((body) => ({
            network: "eip155:8453",
            tx: body.tx_hash,
            recipient: "0xseller",
            ordinal: null,
            id: body.id,
          })),
          payments: [],
          settlements: [],
        },
        months: records,
        monthSettlements: [],
        rollups: /** @type {[string, [number, string]][]} */ ([
          ...rollup("finalized", 2, "1000005"),
          ...rollup("AMOUNT_TOO_LOW", 1, "1000000"),
          ...rollup("TX_NOT_FOUND", 1, "0"),
        ]),
        directory: { settlements: [], usage: [{ period: "2026-11", verifications: 3 }] },
        shown: {
          records: records.map((one) => one.id),
          usage: { period: "2026-11", verifications_used: 3 },
          events: verified,
          settlements: [],
        },
        received: verified.map((one) => one.id),
        balance: null,
      },
      {
        name: "ten_b:test",
        payTo: "0xshop",
        now: NOON + 1_000,
        limit: null,
        ledger: {
          reserved: { "local-evm": 0 },
          records: [],
          claims: settlements.map(({ id, body }) => ({ network: "eip155:1", tx: body.transaction, recipient: "0xshop", ordinal: 0, id })),
          payments: settlements.map(({ id }, at) => ({ authorization: `eip155:1/0xtoken/0xpayer/0xn${5 + at}`, settlement: id })),
          settlements,
        },
        months: [],
        monthSettlements: structuredClone(copies),
        rollups: [],
        directory: { settlements: structuredClone(copies), usage: [{ period: "2026-11", verifications: 2 }] },
        shown: {
          records: [],
          usage: { period: "2026-11", verifications_used: 2 },
          events: settled,
          settlements: copies.map(({ id, status }) => ({ id, status, isHandedOver: true })),
        },
        received: settled.map((one) => one.id),
        balance: "40",
      },
    ],
    signers: [
      {
        address: "0xsigner",
        latest: 2,
        pending: 2,
        queued: 0,
        next: 2,
        sent: [5, 6].map((number) => ({ nonce: number - 5, hash: `0xhash${number}`, moved: true })),
        flights: settlements.map(({ id }, nonce) => ({ key: `${id}:0`, nonce, status: "completed", isReported: true })),
      },
    ],
    mails: [{ address: "ann@example.test", state: "sent", at: NOON, sent: 1 }],
  };
}

test("books that balance are reported as such, with answers that were lost", () => {
  assert.deepEqual(balance(books()), []);
});

for (const [name, reported, tamper] of TAMPERING)
  test(`it is reported that ${name}`, () => {
    const wrong = books();
    tamper(wrong);
    const all = balance(wrong);
    assert.ok(
      all.some((line) => reported.test(line)),
      `${reported} is not among\n${all.join("\n")}`,
    );
  });

test("of a request without an answer one record is allowed, and not two, and none where an answer is missing", () => {
  const [fewer, more] = [books(), books()];
  // What was lost may not be there.
  const [account] = fewer.accounts;
  for (const list of [account.months, account.ledger.records, account.shown.records, account.shown.events, account.received]) list.pop();
  account.ledger.claims.pop();
  account.rollups.splice(
    0,
    2,
    [`day ${DAY_START} base finalized`, [1, "1000000"]],
    [`hour ${NOON - (NOON % HOUR)} base finalized`, [1, "1000000"]],
  );
  account.directory.usage[0].verifications = account.shown.usage.verifications_used = 2;
  assert.deepEqual(balance(fewer), []);
  // A second record of the same request.
  const second = { ...answer(8, { amount: "5", claimed: false }), tx_hash: "0x4" };
  more.accounts[0].months.push(kept(second));
  assert.ok(balance(more).some((line) => line.includes(`${second.id}, which was never answered`)));
  const resolved = books();
  for (const one of resolved.journal.verifications) one.resolved = one.outcome === "unknown";
  assert.ok(balance(resolved).some((line) => line.includes("which was never answered")));
});

test("a quota is used by all that was answered, and at most by all that was asked", () => {
  const of = (change) => {
    const wrong = books();
    change(wrong.journal);
    return balance(wrong).filter((line) => line.startsWith("quota"));
  };
  // Three of the first account are used: two were answered, and two may be lost.
  assert.deepEqual(
    of((journal) => journal.verifications.splice(4, 1)),
    [],
  );
  assert.match(of((journal) => journal.verifications.splice(4, 2)).join(), /has used 3 of its quota, and was answered 2 to 2/);
  const many = ["0xa", "0xb"].map((tx) => asked({ ...answer(tx.charCodeAt(2), {}), tx_hash: tx }));
  assert.match(of((journal) => journal.verifications.push(...many)).join(), /and was answered 4 to 6/);
});

test("a mail whose link has run out by a jump of the clock is sent to nobody", () => {
  const late = books();
  Object.assign(late.mails[0], { state: "failed", sent: 0 });
  assert.equal(balance(late).length, 1);
  late.journal.jumps = [NOON + 1_000];
  assert.deepEqual(balance(late), []);
});
