// What a change of plan may cost, what it leaves as it was, and what is said of it before.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { DAY, MINUTE, payer, paying, refusal, startBilled, writes } from "./billed.mjs";
import { until } from "./worker.mjs";

const HOUR = 60 * MINUTE;
/** @type {Awaited<ReturnType<typeof startBilled>>} */
let billed;
before(async () => {
  billed = await startBilled();
});
after(() => billed?.stop());
beforeEach(() => billed.stripe.faults.clear());

const paid = (customer) => billed.stripe.invoices(customer).reduce((sum, { amount_paid: amount }) => sum + amount, 0);
const open = (customer) => billed.stripe.invoices(customer).find(({ status }) => status === "open");
const cents = (view) => Math.round(Number(view.next_invoice.due.amount) * 100);

/** Lets time pass until a period has ended for so long, and tells the Worker what has happened. */
async function renewed(owner, ms = 2 * HOUR) {
  const { current_period_end: end } = billed.stripe.subscriptionOf(owner.customer).items.data[0];
  await billed.advance(end * 1000 - billed.stripe.now() + ms);
  await billed.stripe.deliver(billed.worker);
}

/** An owner whose renewal was declined; the card that is there is good again. */
async function pastDue(plan) {
  const owner = await paying(billed, plan);
  billed.stripe.turnCard(owner.customer, "declines");
  await renewed(owner);
  await billed.status(owner.id, "past_due");
  // A message of before the clock was moved may have found it, by the clock of before.
  await billed.worker.sql("UPDATE billing SET past_due_ms = ? WHERE tenant_id = ?", billed.stripe.now(), owner.id);
  billed.stripe.turnCard(owner.customer, "ok");
  return owner;
}

test("a larger plan that is not made leaves the smaller plan that waits", async () => {
  const { stripe } = billed;
  const owner = await paying(billed, "pro");
  const path = `/v1/subscriptions/${owner.subscription}`;
  assert.equal((await owner.change("starter")).body.next_plan, "starter");
  const before = stripe.subscriptionOf(owner.customer);
  assert.ok(before.schedule);
  stripe.turnCard(owner.customer, "declines");
  const refused = await owner.change("enterprise");
  assert.deepEqual(refusal(refused), [402, "PAYMENT_REQUIRED"], refused.text);
  assert.deepEqual(stripe.subscriptionOf(owner.customer), before);
  assert.equal((await owner.read()).next_plan, "starter");
  stripe.turnCard(owner.customer, "ok");
  for (const kind of /** @type {const} */ (["error", "limited", "refused"])) {
    stripe.faults.add({ kind, method: "POST", path });
    assert.equal((await owner.change("enterprise")).status, 503, kind);
    assert.deepEqual(stripe.subscriptionOf(owner.customer), before, kind);
  }
  await renewed(owner);
  await billed.tier(owner.id, "starter");
  assert.equal(owner.charged()[0].amount_paid, 9_900);
  // The schedule goes on for another month, and nothing waits any longer.
  assert.ok(stripe.subscriptionOf(owner.customer).schedule);
  assert.equal((await owner.read()).next_plan, null);
});

test("a larger plan drops the smaller one that waits once it is paid, also if that fails at first", async () => {
  const { stripe } = billed;
  const owner = await paying(billed, "pro");
  await owner.change("starter");
  stripe.faults.add({ kind: "error", method: "POST", path: /\/release$/ });
  assert.deepEqual(refusal(await owner.change("enterprise")), [503, "UPSTREAM_UNAVAILABLE"]);
  const between = await owner.read();
  assert.deepEqual([between.plan, between.next_plan], ["enterprise", "starter"], "what is so is shown");
  const again = await owner.change("enterprise");
  assert.deepEqual([again.status, again.body.plan, again.body.next_plan], [200, "enterprise", null], again.text);
  assert.deepEqual([owner.charged().length, stripe.subscriptionOf(owner.customer).schedule], [2, null]);
});

test("another smaller plan takes the place of the one that waits, without a moment in which none does", async () => {
  const { stripe } = billed;
  const owner = await paying(billed, "enterprise");
  await owner.change("starter");
  const { schedule } = stripe.subscriptionOf(owner.customer);
  stripe.faults.add({ kind: "error", method: "POST", path: `/v1/subscription_schedules/${schedule}` });
  assert.equal((await owner.change("pro")).status, 503);
  assert.equal((await owner.read()).next_plan, "starter");
  assert.equal((await owner.change("pro")).body.next_plan, "pro");
  assert.equal(stripe.subscriptionOf(owner.customer).schedule, schedule);
  await renewed(owner);
  await billed.tier(owner.id, "pro");
});

test("a plan that is changed in the second in which its trial ends is charged", async () => {
  const { stripe, worker } = billed;
  for (const [from, to] of [
    ["starter", "enterprise"],
    ["enterprise", "starter"],
  ]) {
    const owner = await payer(billed);
    const customer = await owner.pays(from);
    await stripe.deliver(worker);
    await billed.status(owner.id, "trialing");
    stripe.faults.add({ kind: "late", path: "/v1/prices", ms: 2500 });
    const changing = owner.change(to);
    await until(() => stripe.faults.left() === 0, "the price");
    await billed.advance(stripe.subscriptionOf(customer).trial_end * 1000 - stripe.now() + MINUTE);
    const changed = await changing;
    assert.deepEqual([changed.status, changed.body.status, changed.body.plan], [200, "active", to], changed.text);
    await billed.advance(2 * HOUR);
    const { balance } = stripe.do("GET", `/v1/customers/${customer}`);
    // What is left of the month is paid, or given back.
    const month = paid(customer) + balance;
    const want = to === "enterprise" ? 99_900 : 9_900;
    assert.ok(Math.abs(month - want) < 200, `${from} → ${to}: ${month}`);
  }
});

test("in a trial a change costs nothing, and the trial goes on", async () => {
  const { stripe, worker } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("starter");
  await stripe.deliver(worker);
  await billed.status(owner.id, "trialing");
  const { trial_end: end } = stripe.subscriptionOf(customer);
  const shown = await owner.read("?plan=enterprise");
  assert.deepEqual([cents(shown), shown.next_invoice.plan], [99_900, "enterprise"]);
  assert.ok(Date.parse(shown.next_invoice.charged_at) >= end * 1000, "when the trial ends");
  for (const plan of ["enterprise", "pro"]) {
    const changed = await owner.change(plan);
    assert.deepEqual([changed.body.plan, changed.body.tier, changed.body.status], [plan, plan, "trialing"], changed.text);
  }
  assert.deepEqual([stripe.subscriptionOf(customer).trial_end, paid(customer)], [end, 0]);
  // What ends is made neither to go on nor smaller by that: in a trial it may be another.
  await owner.cancel("period_end");
  assert.deepEqual(refusal(await owner.change("pro")), [409, "SUBSCRIPTION_ENDING"]);
  assert.deepEqual(refusal(await owner.call("GET", "?plan=pro")), [409, "SUBSCRIPTION_ENDING"]);
  const other = await owner.change("starter");
  assert.deepEqual([other.status, other.body.plan, Boolean(other.body.cancels_at)], [200, "starter", true], other.text);
});

test("a month that is not paid is not given back for a larger plan", async () => {
  const { stripe } = billed;
  for (const plan of ["starter", "pro"]) {
    const owner = await pastDue(plan);
    const before = paid(owner.customer);
    const refused = await owner.change("enterprise");
    assert.deepEqual(refusal(refused), [402, "PAYMENT_REQUIRED"], refused.text);
    assert.equal(refused.body.action_url, open(owner.customer).hosted_invoice_url);
    assert.deepEqual(refusal(await owner.call("GET", "?plan=enterprise")), [402, "PAYMENT_REQUIRED"]);
    assert.deepEqual([paid(owner.customer), stripe.subscriptionOf(owner.customer).status], [before, "past_due"]);
    assert.equal((await owner.read()).status, "past_due");
    if (plan === "pro") assert.equal((await owner.change("starter")).body.next_plan, "starter", "a smaller one may wait");
    stripe.pay(open(owner.customer).id);
    assert.equal((await owner.change("enterprise")).body.plan, "enterprise");
    assert.equal(open(owner.customer), undefined);
  }
});

test("a larger plan is not sold in the hour in which a new month is not charged yet", async () => {
  const { stripe } = billed;
  const owner = await paying(billed, "pro");
  await renewed(owner, 5 * MINUTE);
  assert.equal(stripe.subscriptionOf(owner.customer).status, "active");
  const early = await owner.change("enterprise");
  assert.deepEqual(refusal(early), [402, "PAYMENT_REQUIRED"], early.text);
  assert.match(early.body.action_url, /^https:/);
  await billed.advance(2 * HOUR);
  assert.equal((await owner.change("enterprise")).body.plan, "enterprise");
  assert.equal(owner.charged().length, 3);
});

test("after the grace every way to a plan leads to the invoice that is to be paid", async () => {
  const { stripe } = billed;
  const owner = await pastDue("pro");
  stripe.turnCard(owner.customer, "declines");
  const same = await owner.change("pro");
  assert.equal(same.status, 200, same.text);
  assert.deepEqual(refusal(await owner.checkout("pro")), [409, "SUBSCRIPTION_EXISTS"]);
  const { past_due_ms: since } = await billed.row(owner.id);
  await billed.advance(since + 7 * DAY + MINUTE - stripe.now());
  await billed.minutely();
  await billed.tier(owner.id, "free");
  for (const asked of [
    () => owner.change("pro"),
    () => owner.change("starter"),
    () => owner.change("enterprise"),
    () => owner.checkout("pro"),
  ]) {
    const answer = await asked();
    assert.deepEqual(refusal(answer), [402, "PAYMENT_REQUIRED"], answer.text);
    assert.equal(answer.body.action_url, open(owner.customer).hosted_invoice_url);
  }
  stripe.turnCard(owner.customer, "ok");
  stripe.pay(open(owner.customer).id);
  assert.equal((await owner.change("pro")).body.tier, "pro");
});

test("a discount goes on when a smaller plan is planned, when it comes, and when it is dropped", async () => {
  const { stripe } = billed;
  const owner = await paying(billed, "pro");
  const coupon = stripe.do("POST", "/v1/coupons", { percent_off: 50, duration: "repeating", duration_in_months: 12 });
  stripe.do("POST", `/v1/subscriptions/${owner.subscription}`, { discounts: [{ coupon: coupon.id }] });
  const { discounts } = stripe.subscriptionOf(owner.customer);
  assert.equal(discounts.length, 1);
  for (const change of [() => owner.change("starter"), () => owner.resume(), () => owner.change("starter")]) {
    assert.equal((await change()).status, 200);
    assert.deepEqual(stripe.subscriptionOf(owner.customer).discounts, discounts);
  }
  await renewed(owner);
  await billed.tier(owner.id, "starter");
  assert.equal(owner.charged()[0].amount_paid, 4_950);
  assert.deepEqual(stripe.subscriptionOf(owner.customer).discounts, discounts);
});

test("what a change would cost is what it costs, and when", async () => {
  const { stripe } = billed;
  const owner = await paying(billed, "pro");
  await billed.advance(5 * DAY);
  const end = (await owner.read()).period_ends_at;
  const isAtEnd = ({ next_invoice: next }) => Date.parse(next.charged_at) >= Date.parse(end);
  const [smaller, present, larger] = [
    await owner.read("?plan=starter"),
    await owner.read("?plan=pro"),
    await owner.read("?plan=enterprise"),
  ];
  assert.deepEqual([cents(smaller), smaller.next_invoice.plan, isAtEnd(smaller)], [9_900, "starter", true]);
  assert.deepEqual([cents(present), present.next_invoice.plan, isAtEnd(present)], [29_900, "pro", true]);
  assert.deepEqual([larger.next_invoice.plan, larger.next_invoice.charged_at], ["enterprise", null]);
  await owner.change("starter");
  const [waiting, kept] = [await owner.read("?plan=starter"), await owner.read("?plan=pro")];
  assert.deepEqual([cents(waiting), cents(kept), isAtEnd(kept)], [9_900, 29_900, true]);
  await owner.change("pro");
  // A price that has a successor stays where it is: so does what it costs.
  const { price } = stripe.subscriptionOf(owner.customer).items.data[0];
  const next = { product: price.product, currency: "usd", unit_amount: 34_900, recurring: { interval: "month" } };
  const successor = { ...next, lookup_key: price.lookup_key, transfer_lookup_key: true, metadata: { tier: "pro" } };
  const made = stripe.do("POST", "/v1/prices", successor);
  assert.equal(cents(await owner.read("?plan=pro")), 29_900);
  assert.equal((await owner.change("pro")).status, 200);
  assert.equal(stripe.subscriptionOf(owner.customer).items.data[0].price.id, price.id);
  stripe.do("POST", `/v1/prices/${price.id}`, { lookup_key: price.lookup_key, transfer_lookup_key: true });
  stripe.do("POST", `/v1/prices/${made.id}`, { active: false });
  await owner.cancel("period_end");
  assert.deepEqual(refusal(await owner.call("GET", "?plan=starter")), [409, "SUBSCRIPTION_ENDING"]);
  const fresh = await payer(billed);
  assert.deepEqual(refusal(await fresh.call("GET", "?plan=pro")), [409, "NO_SUBSCRIPTION"]);
});

test("what ends is not bought again, and its checkout says what has it go on", async () => {
  const owner = await paying(billed, "pro");
  await owner.change("starter");
  const ending = await owner.cancel("period_end");
  assert.deepEqual([Boolean(ending.body.cancels_at), ending.body.next_plan], [true, null], "a smaller plan no longer waits");
  const refused = await owner.checkout("pro");
  assert.deepEqual(refusal(refused), [409, "SUBSCRIPTION_EXISTS"]);
  assert.match(refused.body.detail, /\/v1\/billing\/resume/);
  assert.deepEqual(refusal(await owner.change("pro")), [409, "SUBSCRIPTION_ENDING"]);
  const resumed = await owner.resume();
  assert.deepEqual([resumed.body.plan, resumed.body.next_plan, resumed.body.cancels_at], ["pro", null, null]);
});

test("what somebody has undone meanwhile is done anew, and not by Stripe's answer of before", async () => {
  const { stripe, worker } = billed;
  const owner = await paying(billed, "pro");
  const path = `/v1/subscriptions/${owner.subscription}`;
  const ends = (is) => stripe.do("POST", path, { cancel_at_period_end: is });
  const cases = /** @type {[() => Promise<any>, () => any, (view: any) => boolean][]} */ ([
    [() => owner.cancel("period_end"), () => ends(false), (view) => view.cancels_at !== null],
    [() => owner.resume(), () => ends(true), (view) => view.cancels_at === null],
  ]);
  for (const [asked, undo, isDone] of cases) {
    // Stripe has done it, and the directory fails as the change ends.
    await worker.dbFault({ names: "is_open = ?1" });
    const lost = await asked();
    assert.ok(lost.status >= 500, lost.text);
    await worker.dbFault();
    undo();
    await billed.advance(MINUTE + 1000);
    stripe.asked.length = 0;
    const again = await asked();
    assert.equal(again.status, 200, again.text);
    assert.ok(isDone(again.body), again.text);
    assert.equal(new Set(writes(billed, new RegExp(`^${path}$`))).size, 2, "the old key, and a new one");
  }
  // A page of the portal holds for some minutes: each is another.
  const portals = [await owner.call("POST", "/portal"), await owner.call("POST", "/portal")];
  assert.notEqual(portals[0].body.url, portals[1].body.url);
});

test("a decline is not repeated with a good card", async () => {
  const { stripe, worker } = billed;
  const owner = await paying(billed, "starter");
  // The portal fails after it.
  stripe.turnCard(owner.customer, "declines");
  stripe.faults.add({ kind: "limited", path: "/v1/billing_portal" });
  assert.deepEqual(refusal(await owner.change("pro")), [503, "UPSTREAM_UNAVAILABLE"]);
  stripe.turnCard(owner.customer, "ok");
  const made = await owner.change("pro");
  assert.deepEqual([made.status, made.body.plan], [200, "pro"], made.text);
  // The Worker is gone after it, which the directory never hears of.
  stripe.turnCard(owner.customer, "declines");
  await worker.dbFault({ names: "is_open = ?1", stays: true });
  assert.ok((await owner.change("enterprise")).status >= 500);
  await worker.dbFault();
  stripe.turnCard(owner.customer, "ok");
  await billed.advance(MINUTE + 1000);
  const again = await owner.change("enterprise");
  assert.deepEqual([again.status, again.body.plan, owner.charged().length], [200, "enterprise", 3], again.text);
});

test("who confirms a declined plan at Stripe comes back to us, and to no other page there", async () => {
  const { stripe, worker } = billed;
  const owner = await paying(billed, "starter");
  stripe.turnCard(owner.customer, "authenticates");
  assert.equal((await owner.change("pro")).status, 402);
  const [session] = stripe.portals;
  assert.equal(session.flow.type, "subscription_update_confirm");
  assert.deepEqual(session.flow.after_completion.redirect, { return_url: session.return_url });
  const page = await worker.call("GET", new URL(session.return_url).pathname);
  assert.deepEqual([page.status, page.headers.get("content-type")], [200, "text/html; charset=utf-8"]);
});
