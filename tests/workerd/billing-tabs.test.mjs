// Plans that are changed by two at once, while Stripe does not answer, or while the Worker is killed: nothing is done twice.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { DAY, MINUTE, payer, refusal, startBilled } from "./billed.mjs";
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
beforeEach(() => billed.stripe.faults.clear());

/** An owner whose plan is paid: its trial is over. */
async function paying(plan) {
  const { stripe, worker } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays(plan);
  await stripe.deliver(worker);
  await billed.advance(8 * DAY);
  await stripe.deliver(worker);
  await billed.status(owner.id, "active");
  const priceNow = () => stripe.subscriptionOf(customer).items.data[0].price.metadata.tier;
  /** The invoices that were charged. */
  const charged = () => stripe.invoices(customer).filter(({ amount_paid: paid }) => paid > 0);
  return { ...owner, customer, subscription: stripe.subscriptionOf(customer).id, priceNow, charged };
}

/** Requests to Stripe that write, since the last question: path and key. */
function writes(like = /./) {
  return billed.stripe.asked
    .splice(0)
    .filter(({ method, path }) => method !== "GET" && like.test(path) && !path.endsWith("create_preview"))
    .map(({ path, key }) => `${path} ${key}`);
}
/** Waits for the next quarter of an hour: the end of a checkout is at one, and what is asked for again in another is another. */
const quarter = () => billed.advance(15 * MINUTE - (billed.stripe.now() % (15 * MINUTE)) + 1000);
const limit = async (owner) => (await billed.worker.call("GET", "/v1/usage", { key: owner.key })).body.verifications_limit;

test("of two tabs that change the plan at once one may be busy, and the directory says what Stripe says", async () => {
  for (const plans of [
    ["pro", "enterprise"],
    ["pro", "pro"],
    ["enterprise", "pro", "enterprise", "pro"],
  ]) {
    const owner = await paying("starter");
    const answers = await Promise.all(plans.map(owner.change));
    const done = answers.filter(({ status }) => status === 200);
    assert.ok(done.length > 0);
    for (const one of answers) if (one.status !== 200) assert.deepEqual(refusal(one), [409, "BILLING_BUSY"], one.text);
    await billed.stripe.deliver(billed.worker, { order: "shuffled", duplicate: 2 });
    const view = await owner.read();
    assert.deepEqual([view.plan, view.tier], [owner.priceNow(), owner.priceNow()]);
    assert.ok(owner.charged().length <= 1 + done.length, "each change is charged once");
  }
});

test("two checkouts at once have one customer, and one subscription in the end", async () => {
  const { stripe, worker } = billed;
  const owner = await payer(billed);
  const answers = await Promise.all(["starter", "pro", "starter"].map(owner.checkout));
  for (const one of answers) if (one.status !== 200) assert.deepEqual(refusal(one), [409, "BILLING_BUSY"], one.text);
  assert.equal(stripe.customers().filter(({ metadata }) => metadata.tenant === owner.id).length, 1);
  const more = await owner.checkout("pro");
  assert.equal(more.status, 200, more.text);
  const customer = await owner.customer();
  const [newest, ...others] = stripe.sessionsOf(customer);
  stripe.complete(newest);
  await stripe.deliver(worker);
  await billed.tier(owner.id, "pro");
  // What was left open can no longer be paid.
  await until(() => others.every(({ id }) => stripe.sessionsOf(customer).find((one) => one.id === id).status === "expired"), "the end");
  assert.deepEqual(refusal(await owner.checkout("pro")), [409, "SUBSCRIPTION_EXISTS"]);
});

test("an event between a change and its answer changes nothing, and is told once", async () => {
  const { stripe, worker } = billed;
  const owner = await paying("starter");
  stripe.faults.add({ kind: "late", method: "POST", path: `/v1/subscriptions/${owner.subscription}`, ms: 3000 });
  const changing = owner.change("pro");
  await until(() => owner.priceNow() === "pro", "the change");
  assert.deepEqual(refusal(await owner.cancel("now")), [409, "BILLING_BUSY"]);
  await stripe.deliver(worker, { duplicate: 2 });
  await billed.tier(owner.id, "pro");
  const changed = await changing;
  assert.deepEqual([changed.status, changed.body.plan], [200, "pro"], changed.text);
  assert.equal(await limit(owner), TIERS.pro);
  assert.deepEqual(await billed.log(owner.id, "tier%"), ["tier.updated free → starter", "tier.updated starter → pro"]);
  assert.deepEqual(owner.charged().length, 2);
});

test("a checkout whose answer is lost is the same one when it is asked for again", async () => {
  const { stripe } = billed;
  await quarter();
  for (const path of ["/v1/customers", "/v1/checkout/sessions"]) {
    const owner = await payer(billed);
    stripe.faults.add({ kind: "lost", method: "POST", path });
    stripe.asked.length = 0;
    const lost = await owner.checkout("pro");
    assert.deepEqual(refusal(lost), [503, "UPSTREAM_UNAVAILABLE"], lost.text);
    // Some minutes later: its end must not make it another.
    await billed.advance(2 * MINUTE);
    const again = await owner.checkout("pro");
    assert.equal(again.status, 200, again.text);
    const asked = writes(new RegExp(`^${path}$`));
    assert.equal(asked.length, 2, path);
    assert.equal(asked[0], asked[1]);
    assert.equal(stripe.customers().filter(({ metadata }) => metadata.tenant === owner.id).length, 1, path);
    assert.equal(stripe.sessionsOf(await owner.customer()).length, 1, path);
    // Another one is another.
    assert.notEqual((await owner.checkout("pro")).body.url, again.body.url);
  }
});

test("a change whose answer is lost, or is a fault of Stripe's, is done once when it is asked for again", async () => {
  const { stripe } = billed;
  for (const kind of /** @type {const} */ (["lost", "failed", "error", "limited", "refused"])) {
    const owner = await paying("starter");
    stripe.faults.add({ kind, method: "POST", path: `/v1/subscriptions/${owner.subscription}` });
    const lost = await owner.change("pro");
    // Where only the body is cut off, the change may have been read back.
    assert.ok(lost.status === 200 || lost.status === 503, `${kind}: ${lost.text}`);
    const again = await owner.change("pro");
    assert.deepEqual([again.status, again.body.plan, again.body.tier], [200, "pro", "pro"], `${kind}: ${again.text}`);
    assert.deepEqual([owner.priceNow(), owner.charged().length], ["pro", 2], kind);
    assert.equal(await limit(owner), TIERS.pro);
  }
});

test("a smaller plan that waits is planned once, whichever answer is lost", async () => {
  const { stripe } = billed;
  for (const [kind, path] of /** @type {const} */ ([
    ["lost", /^\/v1\/subscription_schedules$/],
    ["lost", /^\/v1\/subscription_schedules\/sub_sched_\w+$/],
    ["failed", /^\/v1\/subscription_schedules$/],
    ["error", /^\/v1\/subscription_schedules\/sub_sched_\w+$/],
    ["limited", /^\/v1\/subscription_schedules\/sub_sched_\w+$/],
  ])) {
    const owner = await paying("pro");
    stripe.faults.add({ kind, method: "POST", path });
    const lost = await owner.change("starter");
    assert.deepEqual(refusal(lost), [503, "UPSTREAM_UNAVAILABLE"], `${kind} ${path}: ${lost.text}`);
    const again = await owner.change("starter");
    assert.deepEqual([again.status, again.body.next_plan, again.body.plan], [200, "starter", "pro"], `${kind} ${path}: ${again.text}`);
    const { schedule } = stripe.subscriptionOf(owner.customer);
    assert.equal(stripe.do("GET", `/v1/subscription_schedules/${schedule}`).phases.length, 2);
    await owner.change("starter");
    assert.equal(stripe.subscriptionOf(owner.customer).schedule, schedule, "it is planned already");
  }
});

test("an end that is lost, and its being taken back, are done once", async () => {
  const { stripe } = billed;
  const owner = await paying("pro");
  const path = `/v1/subscriptions/${owner.subscription}`;
  const done = async (request) => {
    const lost = await request();
    assert.ok([200, 503].includes(lost.status), lost.text);
    const again = await request();
    assert.equal(again.status, 200, again.text);
    return again.body;
  };
  stripe.faults.add({ kind: "lost", method: "POST", path });
  assert.ok((await done(() => owner.cancel("period_end"))).cancels_at);
  stripe.faults.add({ kind: "lost", method: "POST", path });
  assert.equal((await done(owner.resume)).cancels_at, null);
  stripe.faults.add({ kind: "lost", method: "DELETE", path });
  const ended = await owner.cancel("now");
  assert.ok([200, 503].includes(ended.status), ended.text);
  assert.deepEqual(refusal(await owner.cancel("now")), [409, "NO_SUBSCRIPTION"]);
  assert.equal((await owner.read()).tier, "free");
});

test("a Stripe that hangs is given up, and what was read before is shown", async () => {
  const { stripe } = billed;
  const [reader, changer] = [await paying("pro"), await paying("starter")];
  stripe.faults.add({ kind: "hangs", times: 99, ms: 45_000 });
  const [view, changed] = await Promise.all([reader.call("GET", ""), changer.change("pro")]);
  assert.deepEqual([view.status, view.body.stripe_reached, view.body.tier, view.body.plan], [200, false, "pro", "pro"], view.text);
  assert.deepEqual([view.body.next_invoice, view.body.payment_method], [null, null]);
  assert.deepEqual(refusal(changed), [503, "UPSTREAM_UNAVAILABLE"]);
  assert.ok(changed.headers.get("retry-after"));
  stripe.faults.clear();
  assert.equal((await reader.read()).stripe_reached, true);
  assert.equal((await changer.change("pro")).body.plan, "pro");
  assert.equal(changer.charged().length, 2);
});

test("a ledger that is not reached has the tier stored, told, and loaded by the minute's job", async () => {
  const owner = await paying("starter");
  assert.equal(await limit(owner), TIERS.starter);
  await billed.worker.fault({ names: '"reload"', unsent: true, stays: true });
  const changed = await owner.change("pro");
  assert.deepEqual(refusal(changed), [503, "CHANGE_NOT_LOADED"], changed.text);
  assert.deepEqual([(await owner.read()).tier, owner.priceNow(), await limit(owner)], ["pro", "pro", TIERS.starter]);
  await billed.worker.fault(null);
  await billed.minutely();
  assert.equal(await limit(owner), TIERS.pro);
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
    const owner = await paying("starter");
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
    assert.equal(new Set(writes(new RegExp(`^${path}$`))).size, 1, kind);
    assert.deepEqual([owner.priceNow(), owner.charged().length], ["pro", 2], kind);
  }
});

test("a Worker that is killed within a checkout makes one customer, and within a smaller plan one schedule", async () => {
  const { stripe } = billed;
  await quarter();
  const first = await payer(billed);
  const asks = (path) => () => stripe.asked.some((one) => one.method === "POST" && path.test(one.path));
  stripe.asked.length = 0;
  stripe.faults.add({ kind: "late", method: "POST", path: "/v1/customers", ms: 20_000 });
  await killed(() => first.checkout("pro"), asks(/^\/v1\/customers$/), "the customer");
  await billed.advance(MINUTE + 1000);
  const paid = await first.checkout("pro");
  assert.equal(paid.status, 200, paid.text);
  assert.equal(stripe.customers().filter(({ metadata }) => metadata.tenant === first.id).length, 1);

  const second = await paying("pro");
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
  const owner = await paying("starter");
  assert.equal(await limit(owner), TIERS.starter);
  await billed.worker.fault({ names: '"reload"', slow: 30_000, stays: true });
  await killed(
    () => owner.change("pro"),
    async () => (await billed.worker.sql("SELECT tier FROM tenants WHERE id = ?", owner.id))[0].tier === "pro",
    "the tier",
  );
  await billed.minutely();
  assert.equal(await limit(owner), TIERS.pro);
  assert.deepEqual((await owner.read()).plan, "pro");
});
