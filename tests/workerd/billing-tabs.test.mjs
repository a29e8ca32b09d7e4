// Plans that are changed by two at once, or while Stripe does not answer: nothing is done twice.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { MINUTE, limit, payer, paying, quarter, refusal, startBilled, writes } from "./billed.mjs";
import { until } from "./worker.mjs";

const TIERS = { starter: 50_000, pro: 500_000 };
/** @type {Awaited<ReturnType<typeof startBilled>>} */
let billed;
before(async () => {
  billed = await startBilled();
});
after(() => billed?.stop());
beforeEach(() => billed.stripe.faults.clear());

test("of two tabs that change the plan at once one may be busy, and the directory says what Stripe says", async () => {
  for (const plans of [
    ["pro", "enterprise"],
    ["pro", "pro"],
    ["enterprise", "pro", "enterprise", "pro"],
  ]) {
    const owner = await paying(billed, "starter");
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

test("a checkout that begins while another tab makes the customer uses that one", async () => {
  const { stripe, worker } = billed;
  const customers = (owner) => stripe.customers().filter(({ metadata }) => metadata.tenant === owner.id);
  const portal = (owner) => owner.call("POST", "/portal");
  // The other tab is quicker by a whole change.
  await quarter(billed);
  const first = await payer(billed);
  let other;
  const made = await worker.whileHeld(
    "busy_until_ms = ?5",
    () => first.checkout("pro"),
    async () => {
      other = await portal(first);
    },
  );
  assert.deepEqual([made.status, other.status], [200, 200], made.text);
  assert.equal(customers(first).length, 1);
  assert.equal(stripe.sessionsOf(await first.customer()).length, 1);
  // The first tab is so slow that it is no longer waited for, and has made a customer too: that one goes.
  await quarter(billed);
  const second = await payer(billed);
  const slow = await worker.whileHeld(
    "COALESCE(customer_id",
    () => second.checkout("pro"),
    async () => {
      await billed.advance(MINUTE + 1000);
      other = await portal(second);
    },
  );
  assert.deepEqual([slow.status, other.status], [200, 200], slow.text);
  const kept = await second.customer();
  assert.deepEqual(
    customers(second).map(({ id }) => id),
    [kept],
  );
  stripe.complete(stripe.sessionsOf(kept)[0]);
  await stripe.deliver(worker);
  await billed.tier(second.id, "pro");
});

test("a subscription ends all checkouts that can still be paid, however many", async () => {
  const { stripe, worker } = billed;
  await quarter(billed);
  const owner = await payer(billed);
  assert.equal((await owner.checkout("pro")).status, 200);
  const params = stripe.asked.findLast(({ path }) => path === "/v1/checkout/sessions")?.params;
  for (let more = 0; more < 120; more++) stripe.do("POST", "/v1/checkout/sessions", params);
  const customer = await owner.customer();
  stripe.complete(stripe.sessionsOf(customer)[60]);
  await stripe.deliver(worker);
  await until(async () => (await billed.row(owner.id)).checkout_until_ms === 0, "the end of the checkouts", 40_000);
  assert.deepEqual(
    stripe.sessionsOf(customer).filter(({ status }) => status === "open"),
    [],
  );
});

test("pages of the portal keep nobody waiting, and who must wait is told for how long", async () => {
  const { stripe } = billed;
  const owner = await paying(billed, "starter");
  const portals = await Promise.all(Array.from({ length: 3 }, () => owner.call("POST", "/portal")));
  assert.deepEqual(
    portals.map(({ status }) => status),
    [200, 200, 200],
  );
  stripe.faults.add({ kind: "late", method: "POST", path: `/v1/subscriptions/${owner.subscription}`, ms: 3000 });
  const changing = owner.change("pro");
  await until(() => owner.priceNow() === "pro", "the change");
  const busy = await owner.change("enterprise");
  assert.deepEqual([...refusal(busy), busy.headers.get("retry-after")], [409, "BILLING_BUSY", "5"], busy.text);
  assert.equal((await owner.call("POST", "/portal")).status, 200);
  assert.equal((await changing).status, 200);
});

test("an event between a change and its answer changes nothing, and is told once", async () => {
  const { stripe, worker } = billed;
  const owner = await paying(billed, "starter");
  stripe.faults.add({ kind: "late", method: "POST", path: `/v1/subscriptions/${owner.subscription}`, ms: 3000 });
  const changing = owner.change("pro");
  await until(() => owner.priceNow() === "pro", "the change");
  assert.deepEqual(refusal(await owner.cancel("now")), [409, "BILLING_BUSY"]);
  await stripe.deliver(worker, { duplicate: 2 });
  await billed.tier(owner.id, "pro");
  const changed = await changing;
  assert.deepEqual([changed.status, changed.body.plan], [200, "pro"], changed.text);
  assert.equal(await limit(billed, owner), TIERS.pro);
  assert.deepEqual(await billed.log(owner.id, "tier%"), ["tier.updated free → starter", "tier.updated starter → pro"]);
  assert.deepEqual(owner.charged().length, 2);
});

test("a checkout whose answer is lost is the same one when it is asked for again", async () => {
  const { stripe } = billed;
  await quarter(billed);
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
    const asked = writes(billed, new RegExp(`^${path}$`));
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
    const owner = await paying(billed, "starter");
    stripe.faults.add({ kind, method: "POST", path: `/v1/subscriptions/${owner.subscription}` });
    const lost = await owner.change("pro");
    // Where only the body is cut off, the change may have been read back.
    assert.ok(lost.status === 200 || lost.status === 503, `${kind}: ${lost.text}`);
    const again = await owner.change("pro");
    assert.deepEqual([again.status, again.body.plan, again.body.tier], [200, "pro", "pro"], `${kind}: ${again.text}`);
    assert.deepEqual([owner.priceNow(), owner.charged().length], ["pro", 2], kind);
    assert.equal(await limit(billed, owner), TIERS.pro);
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
    const owner = await paying(billed, "pro");
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
  const owner = await paying(billed, "pro");
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
  const [reader, changer] = [await paying(billed, "pro"), await paying(billed, "starter")];
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
  const owner = await paying(billed, "starter");
  assert.equal(await limit(billed, owner), TIERS.starter);
  await billed.worker.fault({ names: '"reload"', unsent: true, stays: true });
  const changed = await owner.change("pro");
  assert.deepEqual(refusal(changed), [503, "CHANGE_NOT_LOADED"], changed.text);
  assert.deepEqual([(await owner.read()).tier, owner.priceNow(), await limit(billed, owner)], ["pro", "pro", TIERS.starter]);
  await billed.worker.fault(null);
  await billed.minutely();
  assert.equal(await limit(billed, owner), TIERS.pro);
});
