// Callers of all kinds at random, some of whom vanish, over slow and quick blocks:
// goods for a payment at most once, money once, and whatever is not handed over is found.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { randomAccount } from "../../scripts/lib/evm.mjs";
import { seeded } from "../peers/mutations.mjs";
import { caller } from "./callers.mjs";
import { LONG, outcome, sign } from "./payment.mjs";
import { sent, startSettling } from "./settling.mjs";
import { until } from "./worker.mjs";

const SEED = Number(process.env.SEED ?? 402);
const PAYMENTS = 10;
const STEPS = Number(process.env.STEPS ?? 260);
let evm, worker, stop;

before(async () => {
  ({ evm, worker, stop } = await startSettling());
});
after(() => stop?.());

/** Chance moves the moments of what happens; nothing is waited for. */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

test(`callers at random buy at most one page a payment, and every success is handed over (SEED=${SEED})`, async () => {
  const random = seeded(SEED);
  const to = randomAccount().address;
  const { test: key } = await worker.tenant({ recipients: { "local-evm": to }, limits: { per_minute: 100_000, per_hour: 100_000 } });
  const payments = [];
  for (let at = 0; at < PAYMENTS; at++) {
    const buyer = randomAccount();
    await evm.mint(buyer.address, 10_000n);
    const body = await sign({ buyer, to, ...LONG });
    payments.push({ at, body, goods: new Set(), keys: [crypto.randomUUID(), crypto.randomUUID()], answers: [] });
  }
  const before = await sent(evm);
  let calls = 0;

  /** A settle; where `leaves` is a time, its connection is reset then. What came before counts. */
  async function settle(payment, attempt, leaves) {
    const headers = attempt === undefined ? {} : { "idempotency-key": payment.keys[attempt] };
    // An attempt under a key is one sale, however often its success repeats.
    const sale = attempt === undefined ? `call ${calls++}` : `key ${attempt}`;
    const { answer, cut } = caller(worker, { key, body: payment.body }, headers);
    if (leaves !== undefined) setTimeout(cut, leaves);
    const came = await answer;
    if (!came) return;
    if (came.body.success) payment.goods.add(sale);
    payment.answers.push(`${sale}: ${outcome(came.body)}`);
  }
  const found = async (payment) => {
    const { from, nonce } = payment.body.paymentPayload.payload.authorization;
    return (await worker.call("GET", `/v1/settlements?network=local-evm&payer=${from}&nonce=${nonce}`, { key })).body.data[0];
  };
  const acts = [
    (payment) => settle(payment),
    (payment) => settle(payment),
    (payment) => settle(payment, random.below(2)),
    (payment) => settle(payment, random.below(2), random.below(300)),
    (payment) => settle(payment, undefined, random.below(300)),
    (payment) => settle(payment, undefined, random.below(60)),
    async (payment) => {
      const had = payment.goods.size;
      const { body } = await worker.call("POST", "/facilitator/verify", { key, body: payment.body });
      payment.doubtful ||= body.isValid && had > 0;
    },
    async (payment) => {
      const settlement = await found(payment);
      if (!settlement) return;
      const { status } = await worker.call("POST", `/v1/settlements/${settlement.id}/hand-over`, { key, body: {} });
      if (status === 200) payment.goods.add("hand-over");
      payment.answers.push(`hand-over: ${status}`);
    },
  ];
  const world = [
    () => evm.rpc("evm_setAutomine", [false]),
    () => evm.rpc("evm_setAutomine", [true]).then(() => evm.rpc("evm_mine")),
    () => evm.rpc("evm_setAutomine", [true]).then(() => evm.rpc("evm_mine")),
    () => worker.advance(random.below(12_000)),
    () => worker.advance(21_000),
  ];
  const going = [];
  for (let step = 0; step < STEPS; step++) {
    if (random.below(6) === 0) await random.pick(world)();
    // Hand-overs are rare, or they would win most races.
    const act = random.pick(random.below(4) ? acts.slice(0, -1) : acts);
    going.push(act(random.pick(payments)));
    if (random.below(3) === 0) await pause(random.below(40));
  }
  // Nobody waits longer than the Worker does.
  await evm.rpc("evm_setAutomine", [true]);
  await evm.rpc("evm_mine");
  await Promise.all(going);
  for (const payment of payments) await settle(payment);
  await until(async () => (await Promise.all(payments.map(found))).every(({ status }) => status === "completed"), "every end");
  // Whatever was left to a lease or to a caller who is gone.
  await worker.advance(31_000);
  for (const payment of payments) {
    await settle(payment);
    const settlement = await found(payment);
    const story = `payment ${payment.at}, SEED=${SEED}\n${payment.answers.join("\n")}\n${JSON.stringify(settlement)}`;
    assert.ok(payment.goods.size <= 1, `goods twice: ${[...payment.goods]}\n${story}`);
    assert.ok(settlement.handed_over, `neither handed over nor open\n${story}`);
    assert.ok(!payment.doubtful, `valid after it was handed over\n${story}`);
  }
  assert.deepEqual([(await sent(evm)) - before, await evm.balance(to)], [PAYMENTS, BigInt(PAYMENTS) * 10_000n]);
  const bought = payments.filter(({ goods }) => goods.size).length;
  assert.ok(bought > 0, "no caller was ever served");
  console.log(`${bought} of ${PAYMENTS} payments bought something; the answers of the others were lost`);
});
