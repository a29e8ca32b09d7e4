// Plans that are paid for, against a Stripe that is played.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { DAY, payer, startBilled } from "./billed.mjs";
import { mailTo } from "./browser.mjs";

const refusal = ({ status, body }) => [status, body?.error_code];

/** @type {Awaited<ReturnType<typeof startBilled>>} */
let billed;
before(async () => {
  billed = await startBilled();
});
after(() => billed?.stop());

test("a checkout that is paid begins a trial, and the ledger has the tier", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  const before = await owner.read();
  assert.deepEqual([before.tier, before.tier_by, before.status, before.trial_available], ["free", "billing", null, true]);
  const customer = await owner.pays("pro");
  await stripe.deliver(worker);
  await billed.tier(owner.id, "pro");
  const view = await owner.read();
  assert.deepEqual([view.tier, view.plan, view.status, view.trial_available], ["pro", "pro", "trialing", false]);
  assert.equal(view.payment_method.last_four, "4242");
  assert.equal(view.next_invoice.due.amount, "299.00");
  assert.equal(view.stripe_reached, true);
  // Both ledgers judge by it.
  const usage = await worker.call("GET", "/v1/usage", { key: owner.key });
  assert.equal(usage.body.verifications_limit, 500_000, usage.text);
  const log = await owner.browser.call("GET", "/v1/audit-log");
  assert.ok(log.body.data.some(({ action, detail }) => action === "tier.updated" && detail === "free → pro"));
  assert.ok(log.body.data.some(({ action, detail }) => action === "subscription.updated" && detail === "trialing pro"));
  const mail = await mailTo(worker, owner.email, 2);
  assert.match(mail.subject, /plan has changed/i);
  assert.ok(customer.startsWith("cus_"));
});

test("who comes back from the page to pay on sees the plan before the event about it", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("pro");
  const session = stripe.sessionsOf(customer)[0];
  for (const [url, title] of [
    [session.success_url, "The checkout is complete"],
    [session.cancel_url, "Nothing was bought"],
  ]) {
    const { pathname, search } = new URL(url);
    const page = await worker.call("GET", pathname + search);
    assert.deepEqual([page.status, page.headers.get("content-type")], [200, "text/html; charset=utf-8"]);
    assert.ok(page.text.includes(`<h1>${title}</h1>`), page.text);
  }
  const view = await owner.read();
  assert.deepEqual([view.tier, view.plan, view.status], ["pro", "pro", "trialing"]);
  const usage = await worker.call("GET", "/v1/usage", { key: owner.key });
  assert.equal(usage.body.verifications_limit, 500_000, usage.text);
  // Then it is read no more: events tell what changes.
  stripe.asked.length = 0;
  await owner.read();
  assert.ok(!stripe.asked.some(({ path }) => path === "/v1/subscriptions"));
  assert.deepEqual(await billed.log(owner.id, "subscription%"), ["subscription.updated trialing pro"]);
});

test("an event that comes twice, late or in another order changes nothing more", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  await owner.pays("starter");
  await stripe.deliver(worker, { order: "shuffled", seed: 3, duplicate: 3 });
  await billed.tier(owner.id, "starter");
  const entries = await worker.sql("SELECT action FROM audit_log WHERE tenant_id = ? AND action LIKE 'tier%'", owner.id);
  assert.equal(entries.length, 1);
});

test("a plan is changed: a larger one at once, a smaller one at the end of the period", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("starter");
  await stripe.deliver(worker);
  await billed.advance(8 * DAY);
  await stripe.deliver(worker);
  const active = await owner.read();
  assert.equal(active.status, "active");
  const preview = await owner.read("?plan=enterprise");
  assert.equal(preview.next_invoice.plan, "enterprise");
  const larger = await owner.change("enterprise");
  assert.equal(larger.status, 200, JSON.stringify(larger.body));
  assert.deepEqual([larger.body.tier, larger.body.plan], ["enterprise", "enterprise"]);
  const smaller = await owner.change("starter");
  assert.equal(smaller.status, 200, JSON.stringify(smaller.body));
  assert.deepEqual([smaller.body.tier, smaller.body.plan, smaller.body.next_plan], ["enterprise", "enterprise", "starter"]);
  // The same plan again keeps it, and drops what waits.
  const kept = await owner.change("enterprise");
  assert.deepEqual([kept.status, kept.body.next_plan], [200, null]);
  await owner.change("starter");
  await billed.advance(31 * DAY);
  await stripe.deliver(worker);
  await billed.tier(owner.id, "starter");
  assert.equal(stripe.subscriptionOf(customer).status, "active");
});

test("a card that cannot be charged changes nothing, and the answer leads to where it can be paid", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("starter");
  await stripe.deliver(worker);
  await billed.advance(8 * DAY);
  await stripe.deliver(worker);
  stripe.setCard(customer, "declines");
  const before = stripe.subscriptionOf(customer);
  const refused = await owner.change("pro");
  assert.deepEqual(refusal(refused), [402, "PAYMENT_REQUIRED"]);
  assert.match(refused.body.action_url, /^https:\/\//);
  assert.deepEqual(stripe.subscriptionOf(customer), before);
  assert.equal((await owner.read()).tier, "starter");
});

test("a subscription ends with its period, and can be taken back until then", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  await owner.pays("pro");
  await stripe.deliver(worker);
  const ending = await owner.cancel("period_end");
  assert.equal(ending.status, 200, JSON.stringify(ending.body));
  assert.equal(ending.body.cancels_at, ending.body.period_ends_at);
  const resumed = await owner.resume();
  assert.deepEqual([resumed.status, resumed.body.cancels_at], [200, null]);
  await owner.cancel("now");
  assert.equal((await owner.read()).tier, "free");
  assert.deepEqual(refusal(await owner.cancel("now")), [409, "NO_SUBSCRIPTION"]);
  assert.deepEqual(refusal(await owner.change("pro")), [409, "NO_SUBSCRIPTION"]);
  // One trial a customer.
  await owner.pays("pro");
  const again = await owner.read();
  await stripe.deliver(worker);
  await billed.tier(owner.id, "pro");
  assert.equal(again.trial_available, false);
  assert.equal((await owner.read()).status, "active");
});
