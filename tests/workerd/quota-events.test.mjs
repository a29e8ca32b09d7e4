// A seller hears of the quota: a warning, the first refusal, the next month; each once, however many ask at once and
// whatever is killed.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { generatePrivateKey } from "viem/accounts";
import { randomAccount } from "../../scripts/lib/evm.mjs";
import { startMock } from "./mock-rpc.mjs";
import { monthOf } from "./months.mjs";
import { LONG, random, sign } from "./payment.mjs";
import { until, withState } from "./worker.mjs";

const DAY = 86_400_000;
let mock;
before(async () => (mock = await startMock()));
after(() => mock?.stop());

/** A seller with a small quota, or none. */
async function seller(worker, limit, more = {}) {
  const to = random(20);
  const limits = { per_minute: 10_000, per_hour: 100_000, ...(limit === undefined ? {} : { per_month: limit }) };
  const { id, live: key } = await worker.tenant({ recipients: { base: to }, limits, ...more });
  const verify = (on = worker) => {
    const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block: 900 });
    return on.verify(key, { tx_hash, chain: "base", max_age_seconds: 315_360_000 });
  };
  /** The events about the quota, the oldest first. */
  const events = async (on = worker) => {
    const { status, body, text } = await on.call("GET", "/v1/events?type=quota.*&limit=100", { key });
    assert.equal(status, 200, text);
    assert.equal(body.next_cursor, null);
    return body.data.map(({ type, subject, data }) => [type, subject, data.period, data.used, data.limit]).reverse();
  };
  return { id, to, key, verify, events };
}

test("of fifty requests at once over the border each event is raised once, and once a month", () =>
  withState({ RPC_BASE: mock.url }, async ({ worker }) => {
    const { verify, events } = await seller(worker, 20);
    const answers = await Promise.all(Array.from({ length: 50 }, () => verify()));
    assert.deepEqual([answers.filter(({ body }) => body.success).length, answers.filter(({ status }) => status === 429).length], [20, 30]);
    const month = monthOf(Date.now());
    const raised = [
      ["quota.warning", month, month, 16, 20],
      ["quota.exceeded", month, month, 20, 20],
    ];
    assert.deepEqual(await events(), raised);
    for (let times = 0; times < 3; times++) assert.equal((await verify()).status, 429);
    assert.deepEqual(await events(), raised);
    await worker.advance(32 * DAY);
    await Promise.all(Array.from({ length: 5 }, () => verify()));
    const next = monthOf(Date.now() + 32 * DAY);
    raised.push(["quota.reset", next, next, 0, 20]);
    assert.deepEqual(await events(), raised);
    // Nothing was raised in that month: the next begins in silence.
    await worker.advance(32 * DAY);
    await verify();
    assert.deepEqual(await events(), raised);
  }));

test("a month that nobody asks in is begun by the timed job", () =>
  withState({ RPC_BASE: mock.url }, async ({ worker }) => {
    const { id, verify, events } = await seller(worker, 1);
    await verify();
    await events();
    await until(async () => (await worker.sql("SELECT 1 FROM period_usage WHERE tenant_id = ?", id)).length > 0, "the usage");
    await worker.advance(32 * DAY);
    await worker.cron("0 0 1 * *");
    const [month, next] = [monthOf(Date.now()), monthOf(Date.now() + 32 * DAY)];
    assert.deepEqual(await events(), [
      ["quota.warning", month, month, 1, 1],
      ["quota.reset", next, next, 0, 1],
    ]);
  }));

test("x402 payments count, and their first refusal is an event too", () =>
  withState({ RPC_BASE: mock.url, EVM_SIGNERS_LIVE: generatePrivateKey() }, async ({ worker }) => {
    const { to, key, events } = await seller(worker, 5);
    const terms = { to, token: mock.token, chainId: 8453, name: "USD Coin", ...LONG };
    const payments = await Promise.all(Array.from({ length: 9 }, () => sign({ buyer: randomAccount(), ...terms })));
    const answers = await Promise.all(payments.map((body) => worker.call("POST", "/facilitator/verify", { key, body })));
    const valid = answers.filter(({ body }) => body.isValid);
    assert.deepEqual([valid.length, answers.filter(({ status }) => status === 429).length], [5, 4], answers[0].text);
    const month = monthOf(Date.now());
    assert.deepEqual(await events(), [
      ["quota.warning", month, month, 4, 5],
      ["quota.exceeded", month, month, 5, 5],
    ]);
  }));

test("without a limit, and in test, nothing is raised", () =>
  withState({ RPC_BASE: mock.url }, async ({ worker }) => {
    const { verify, events } = await seller(worker, undefined);
    for (let times = 0; times < 3; times++) assert.equal((await verify()).body.success, true);
    assert.deepEqual(await events(), []);
  }));

test("a killed Worker loses no event and raises none twice", () =>
  withState({ RPC_BASE: mock.url }, async (running) => {
    const { verify, events } = await seller(running.worker, 20);
    for (let times = 0; times < 15; times++) await verify();
    let [answered, refused, isDead] = [0, 0, false];
    const load = async () => {
      while (!isDead) {
        try {
          const { status } = await verify(running.worker);
          if (status === 429) refused++;
          else answered++;
        } catch {
          return;
        }
      }
    };
    const loads = Array.from({ length: 8 }, load);
    await until(() => refused > 0, "the refusals");
    running.worker.crash();
    isDead = true;
    await Promise.all(loads);
    const worker = await running.again();
    const month = monthOf(Date.now());
    assert.equal((await verify(worker)).status, 429);
    assert.deepEqual(await events(worker), [
      ["quota.warning", month, month, 16, 20],
      ["quota.exceeded", month, month, 20, 20],
    ]);
    assert.ok(answered <= 5, `${answered}`);
  }));
