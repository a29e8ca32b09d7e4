// Plans that are changed while the Worker is killed: nothing is lost, and nothing is done twice.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { MINUTE, limit, payer, paying, quarter, refusal, startBilled, writes } from "./billed.mjs";
import { until } from "./worker.mjs";

const TIERS = { starter: 50_000, pro: 500_000 };
const state = mkdtempSync(join(tmpdir(), "x402-state-"));
/** @type {Awaited<ReturnType<typeof startBilled>>} */
let billed;
before(async () => {
  billed = await startBilled({ state });
});
after(async () => {
  await billed?.stop();
  rmSync(state, { recursive: true, force: true });
});

/** Has workerd killed as soon as a condition holds, while a request is under way; the next Worker is there. */
async function killed(request, condition, what) {
  const outcome = request().catch(() => {});
  await until(condition, what);
  billed.worker.crash();
  await outcome;
  billed.stripe.faults.clear();
  await billed.again();
}

test("a Worker that is killed within a change repeats it under the same key, once the change is no longer busy", async () => {
  const { stripe } = billed;
  for (const kind of /** @type {const} */ (["late", "hangs"])) {
    const owner = await paying(billed, "starter");
    const path = `/v1/subscriptions/${owner.subscription}`;
    stripe.faults.add({ kind, method: "POST", path, ms: 8000 });
    stripe.asked.length = 0;
    await killed(
      () => owner.change("pro"),
      () => stripe.asked.some((one) => one.method === "POST" && one.path === path),
      "the change",
    );
    assert.deepEqual(refusal(await owner.change("pro")), [409, "BILLING_BUSY"]);
    await billed.advance(MINUTE + 1000);
    // Stripe refuses the same key while it is still at the first request.
    const again = await until(async () => {
      const answer = await owner.change("pro");
      if (answer.status === 200) return answer;
      assert.deepEqual(refusal(answer), [503, "UPSTREAM_UNAVAILABLE"], answer.text);
      return undefined;
    }, "the change");
    assert.deepEqual([again.body.plan, again.body.tier], ["pro", "pro"], again.text);
    assert.equal(new Set(writes(billed, new RegExp(`^${path}$`))).size, 1, kind);
    assert.deepEqual([owner.priceNow(), owner.charged().length], ["pro", 2], kind);
  }
});

test("a Worker that is killed within a checkout makes one customer, and within a smaller plan one schedule", async () => {
  const { stripe } = billed;
  await quarter(billed);
  const first = await payer(billed);
  const asks = (path) => () => stripe.asked.some((one) => one.method === "POST" && path.test(one.path));
  stripe.asked.length = 0;
  stripe.faults.add({ kind: "late", method: "POST", path: "/v1/customers", ms: 20_000 });
  await killed(() => first.checkout("pro"), asks(/^\/v1\/customers$/), "the customer");
  await billed.advance(MINUTE + 1000);
  const paid = await first.checkout("pro");
  assert.equal(paid.status, 200, paid.text);
  assert.equal(stripe.customers().filter(({ metadata }) => metadata.tenant === first.id).length, 1);

  const second = await paying(billed, "pro");
  for (const kind of /** @type {const} */ (["late", "hangs"])) {
    stripe.asked.length = 0;
    const path = /^\/v1\/subscription_schedules\/sub_sched_\w+$/;
    stripe.faults.add({ kind, method: "POST", path, ms: 20_000 });
    await killed(() => second.change("starter"), asks(path), "the phases");
    await billed.advance(MINUTE + 1000);
    const again = await second.change("starter");
    assert.deepEqual([again.status, again.body.next_plan], [200, "starter"], again.text);
    const { schedule } = stripe.subscriptionOf(second.customer);
    assert.equal(stripe.do("GET", `/v1/subscription_schedules/${schedule}`).phases.length, 2);
    assert.equal((await second.change("pro")).body.next_plan, null);
  }
});

test("a Worker that is killed between the directory and the ledgers has them loaded by the minute's job", async () => {
  const owner = await paying(billed, "starter");
  assert.equal(await limit(billed, owner), TIERS.starter);
  await billed.worker.fault({ names: '"reload"', slow: 30_000, stays: true });
  await killed(
    () => owner.change("pro"),
    async () => (await billed.worker.sql("SELECT tier FROM tenants WHERE id = ?", owner.id))[0].tier === "pro",
    "the tier",
  );
  await billed.minutely();
  assert.equal(await limit(billed, owner), TIERS.pro);
  assert.deepEqual((await owner.read()).plan, "pro");
});
