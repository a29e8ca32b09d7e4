// A customer's life: what is paid, what is tried, what fails, and what holds meanwhile.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { DAY, MINUTE, payer, refusal, startBilled } from "./billed.mjs";
import { mailsTo } from "./browser.mjs";
import { startMock } from "./mock-rpc.mjs";
import { monthOf } from "./months.mjs";
import { random } from "./payment.mjs";
import { until } from "./worker.mjs";

const HOUR = 60 * MINUTE;
const LIMITS = { free: 1_000, starter: 50_000, pro: 500_000, enterprise: -1 };

/** Providers of two chains. */
const mocks = {};
/** @type {Awaited<ReturnType<typeof startBilled>>} */
let billed;
const start = (stripe = {}) => startBilled({ stripe, vars: { RPC_BASE: mocks.base.url, RPC_POLYGON: mocks.polygon.url } });
before(async () => {
  mocks.base = await startMock();
  mocks.polygon = await startMock({ chainId: 137, token: "0x3c499c542cef5e3811e1192ce70d8cc03d5c3359" });
  billed = await start();
});
after(async () => {
  await billed?.stop();
  for (const mock of Object.values(mocks)) mock.stop();
});

/** An owner who sells on two chains, one of them beyond the smaller plans, and counts what was verified. */
async function seller() {
  const owner = await payer(billed);
  const to = random(20);
  const { worker } = billed;
  const put = await worker.call("PATCH", `/v1/admin/tenants/${owner.id}`, { admin: true, body: { recipients: { base: to, polygon: to } } });
  assert.equal(put.status, 200, put.text);
  /** @type {Map<string, number>} */
  const counted = new Map();
  const verify = (chain) => {
    const tx_hash = mocks[chain].addTransfer({ from: random(20), to, amount: 1_000_000, block: 900 });
    return billed.worker.verify(owner.key, { tx_hash, chain, max_age_seconds: 315_360_000 });
  };
  const self = {
    ...owner,
    verify,
    counted,
    /** Verifies payments, and holds what is counted and allowed against what was verified and is paid. */
    async sells(tier, times = 2, chain = "base") {
      for (let at = 0; at < times; at++) {
        const { body, text } = await verify(chain);
        assert.equal(body.success, true, text);
        const month = monthOf(billed.stripe.now());
        counted.set(month, (counted.get(month) ?? 0) + 1);
      }
      const { body: usage } = await billed.worker.call("GET", "/v1/usage", { key: owner.key });
      const { tier: held } = await owner.read();
      const month = monthOf(billed.stripe.now());
      assert.deepEqual([held, usage.verifications_used, usage.verifications_limit], [tier, counted.get(month), LIMITS[tier]]);
    },
    /** Mails of a subject, once they have all come. */
    async mails(subject, count) {
      const of = async () => (await mailsTo(billed.worker, owner.email)).filter((mail) => mail.subject === subject);
      await until(async () => (await of()).length >= count, `${count} mails "${subject}"`);
      const all = await of();
      assert.equal(all.length, count, subject);
      return all;
    },
  };
  return self;
}

/** Lets time pass, with what Stripe and the timed jobs do in it. */
async function pass(ms) {
  await billed.advance(ms);
  const { stripe } = billed;
  const customers = stripe.pending().length;
  await stripe.deliver(billed.worker, { order: "shuffled", seed: customers + 1, duplicate: 2 });
  await billed.minutely();
}

test("a year of a customer's life", async () => {
  const { stripe, worker } = billed;
  const ann = await seller();
  await ann.sells("free");

  // A trial, announced to end three days before.
  const customer = await ann.pays("pro");
  await stripe.deliver(worker);
  await billed.tier(ann.id, "pro");
  await ann.sells("pro");
  await ann.sells("pro", 1, "polygon");
  const branding = { name: "Ann & Co", logo_url: null, primary_color: "#00ffaa", background_color: null };
  const tenant = async (method, body) => worker.call(method, "/v1/tenant", { key: ann.key, body });
  assert.equal((await tenant("PATCH", { branding })).status, 200);
  await pass(4 * DAY - HOUR);
  assert.deepEqual(
    (await mailsTo(worker, ann.email)).filter(({ subject }) => /trial ends/.test(subject)),
    [],
  );
  await pass(2 * HOUR);
  await pass(HOUR);
  const [ending] = await ann.mails("Your trial ends soon", 1);
  const { trial_ends_at: trialEnds } = await ann.read();
  assert.ok(ending.text.includes(`${trialEnds.slice(0, 10)}, ${trialEnds.slice(11, 16)} UTC`), ending.text);
  await ann.sells("pro");

  // The first charge.
  const paid = () => stripe.invoices(customer).filter(({ amount_paid: amount }) => amount > 0);
  await pass(3 * DAY + 2 * HOUR);
  await billed.status(ann.id, "active");
  assert.deepEqual(
    paid().map(({ amount_paid: amount }) => amount),
    [29_900],
  );
  await ann.sells("pro");

  // A larger plan, for the difference.
  await pass(10 * DAY);
  const preview = await ann.read("?plan=enterprise");
  const larger = await ann.change("enterprise");
  assert.deepEqual([larger.status, larger.body.tier], [200, "enterprise"], larger.text);
  assert.equal(paid()[0].amount_paid, Math.round(Number(preview.next_invoice.due.amount) * 100));
  await ann.sells("enterprise");

  // The card declines: a week of grace, with mails.
  stripe.turnCard(customer, "declines");
  await pass(22 * DAY);
  await billed.status(ann.id, "past_due");
  const since = (await billed.row(ann.id)).past_due_ms;
  await billed.minutely();
  const graceEnds = (await ann.read()).grace_ends_at;
  assert.equal(Date.parse(graceEnds), since + 7 * DAY);
  await ann.mails("A payment failed", 1);
  await ann.sells("enterprise");
  for (const [at, mails] of [
    [3 * DAY - HOUR, 1],
    [3 * DAY + HOUR, 2],
    [6 * DAY - HOUR, 2],
    [6 * DAY + HOUR, 3],
    [7 * DAY - HOUR, 3],
  ]) {
    await pass(since + at - stripe.now());
    await ann.mails("A payment failed", mails);
    await ann.sells("enterprise", 1);
  }
  await pass(2 * HOUR);
  await billed.tier(ann.id, "free");
  await ann.mails("A payment failed", 3);
  // The limits are those of the free tier. Nothing is suspended or gone.
  await ann.sells("free");
  const refused = await ann.verify("polygon");
  assert.deepEqual(refusal(refused), [403, "CHAIN_NOT_ENABLED"], refused.text);
  assert.match(refused.body.upgrade_url, /\/docs\/tiers$/);
  const view = await ann.read();
  assert.deepEqual([view.status, view.plan], ["past_due", "enterprise"]);
  assert.deepEqual(
    view.beyond_plans.map(({ plan, chains, branding: own }) => [plan, chains, own]),
    [["free", ["polygon"], true]],
  );
  const kept = await tenant("PATCH", { branding });
  assert.deepEqual([...refusal(kept), /\/docs\/tiers$/.test(kept.body.upgrade_url)], [403, "NOT_IN_TIER", true]);
  assert.equal((await tenant("GET")).body.tenant.status, "active");
  const { body: records } = await worker.call("GET", "/v1/verifications?limit=100", { key: ann.key });
  assert.ok(records.data.length > 10 && records.data.some(({ chain }) => chain === "polygon"));

  // It is paid.
  stripe.setCard(customer, "ok");
  const open = stripe.invoices(customer).find(({ status }) => status === "open");
  assert.equal(stripe.pay(open.id).status, "paid");
  await pass(MINUTE);
  await billed.tier(ann.id, "enterprise");
  assert.equal((await ann.read()).grace_ends_at, null);
  await ann.sells("enterprise");
  await ann.sells("enterprise", 1, "polygon");
  assert.deepEqual((await tenant("GET")).body.tenant.branding, branding, "it was kept");

  // A smaller plan from the end of the period on.
  const before = await ann.change("starter");
  assert.deepEqual([before.status, before.body.tier, before.body.next_plan], [200, "enterprise", "starter"], before.text);
  assert.deepEqual(
    before.body.beyond_plans.map(({ plan, chains }) => [plan, chains]),
    [
      ["free", ["polygon"]],
      ["starter", ["polygon"]],
    ],
  );
  const end = Date.parse(before.body.period_ends_at);
  await pass(end - stripe.now() - HOUR);
  await ann.sells("enterprise");
  await pass(3 * HOUR);
  await billed.tier(ann.id, "starter");
  await ann.sells("starter");
  assert.equal(paid()[0].amount_paid, 9_900);
  assert.deepEqual(refusal(await ann.verify("polygon")), [403, "CHAIN_NOT_ENABLED"]);

  // Ended, taken back, renewed; ended.
  await pass(3 * DAY);
  assert.equal((await ann.cancel("period_end")).status, 200);
  assert.deepEqual(refusal(await ann.change("pro")).slice(0, 1), [200], "a larger plan ends with its period too");
  assert.ok((await ann.read()).cancels_at);
  await pass(DAY);
  assert.deepEqual([(await ann.resume()).status, (await ann.read()).cancels_at], [200, null]);
  await pass(31 * DAY);
  await ann.sells("pro");
  assert.equal(paid()[0].amount_paid, 29_900);
  const cancelled = await ann.cancel("period_end");
  assert.deepEqual([cancelled.status, cancelled.body.tier, cancelled.body.next_invoice], [200, "pro", null]);
  assert.deepEqual(refusal(await ann.change("starter")), [409, "SUBSCRIPTION_ENDING"]);
  await pass(Date.parse(cancelled.body.cancels_at) - stripe.now() + 2 * HOUR);
  await billed.tier(ann.id, "free");
  await ann.sells("free");
  const invoices = paid().length;
  await pass(60 * DAY);
  assert.equal(paid().length, invoices, "nothing is charged after the end");
  await ann.sells("free");

  // Again, without a trial; the year goes on by itself.
  await ann.pays("starter");
  await stripe.deliver(worker);
  await billed.tier(ann.id, "starter");
  for (let month = 0; month < 5; month++) {
    await ann.sells("starter");
    await pass(31 * DAY);
  }
  await ann.sells("starter");
  assert.ok(paid().length >= invoices + 5);

  // What each month has had is what was verified in it.
  await worker.cron("0 0 1 * *");
  const rows = await worker.sql("SELECT period, verifications AS n FROM period_usage WHERE tenant_id = ? AND environment = 'live'", ann.id);
  const now = monthOf(stripe.now());
  for (const [month, count] of ann.counted)
    if (month !== now) assert.equal(rows.find(({ period }) => period === month)?.n, count, `${month}: ${JSON.stringify(rows)}`);
  assert.deepEqual(await billed.log(ann.id, "tier%"), [
    "tier.updated free → pro",
    "tier.updated pro → enterprise",
    "tier.updated enterprise → free",
    "tier.updated free → enterprise",
    "tier.updated enterprise → starter",
    "tier.updated starter → pro",
    "tier.updated pro → free",
    "tier.updated free → starter",
  ]);
  await ann.mails("Your plan has changed", 8);
  assert.deepEqual(await billed.told(ann.id), []);
});

test("an operator's tier is not overwritten by Stripe, and can be handed back", async () => {
  const { stripe, worker } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("starter");
  await stripe.deliver(worker);
  await billed.tier(owner.id, "starter");
  const operator = (body) => worker.call("PATCH", `/v1/admin/tenants/${owner.id}`, { admin: true, body });
  assert.equal((await operator({ tier: "enterprise" })).body.tenant.tier_by, "operator");
  stripe.do("POST", `/v1/customers/${customer}`, { name: "Ann" });
  await pass(8 * DAY);
  await billed.status(owner.id, "active");
  const view = await owner.read();
  assert.deepEqual([view.tier, view.tier_by, view.plan], ["enterprise", "operator", "starter"]);
  for (const refused of [await owner.change("pro"), await owner.checkout("pro")])
    assert.deepEqual(refusal(refused), [409, "PLAN_BY_OPERATOR"]);
  const both = await operator({ tier: "pro", tier_by: "billing" });
  assert.deepEqual(refusal(both), [422, "INVALID_REQUEST"]);
  const back = await operator({ tier_by: "billing" });
  assert.deepEqual([back.status, back.body.tenant.tier, back.body.tenant.tier_by], [200, "starter", "billing"], back.text);
  const usage = await worker.call("GET", "/v1/usage", { key: owner.key });
  assert.equal(usage.body.verifications_limit, LIMITS.starter);
  // And where nothing is paid.
  await operator({ tier: "pro" });
  assert.equal((await owner.cancel("now")).status, 200, "what is paid can be ended all the same");
  assert.equal((await owner.read()).tier, "pro");
  assert.equal((await operator({ tier_by: "billing" })).body.tenant.tier, "free");
});

test("a subscription that is paused has the free tier, and goes on with a card", async () => {
  const { stripe, prices } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("pro");
  await owner.cancel("now");
  // As an operator makes it by hand in the dashboard.
  stripe.removeCard(customer);
  stripe.do("POST", "/v1/subscriptions", {
    customer,
    items: [{ price: prices.pro }],
    trial_period_days: 3,
    trial_settings: { end_behavior: { missing_payment_method: "pause" } },
  });
  await pass(MINUTE);
  await billed.tier(owner.id, "pro");
  await pass(4 * DAY);
  await billed.status(owner.id, "paused");
  await billed.tier(owner.id, "free");
  const refused = await owner.resume();
  assert.deepEqual(refusal(refused), [402, "PAYMENT_REQUIRED"], refused.text);
  assert.match(refused.body.action_url, /^https:/);
  assert.deepEqual(refusal(await owner.change("starter")), [402, "PAYMENT_REQUIRED"]);
  assert.equal(stripe.resume(stripe.subscriptionOf(customer)).status, "active");
  await pass(MINUTE);
  await billed.tier(owner.id, "pro");
  assert.equal((await owner.resume()).body.status, "active", "there is nothing left to resume");
});

test("a subscription that stays unpaid has the free tier until its invoice is paid", async () => {
  await billed.stop();
  billed = await start({ dunning: { end_behavior: "mark_unpaid", max_attempts: 4, window: "1w" } });
  const { stripe, worker } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("pro");
  await stripe.deliver(worker);
  stripe.turnCard(customer, "declines");
  await pass(8 * DAY);
  await billed.status(owner.id, "past_due");
  for (let days = 0; days < 16; days++) await pass(DAY);
  await billed.status(owner.id, "unpaid");
  await billed.tier(owner.id, "free");
  const view = await owner.read();
  assert.deepEqual([view.status, view.plan, view.grace_ends_at], ["unpaid", "pro", null]);
  const refused = await owner.change("starter");
  assert.deepEqual(refusal(refused), [402, "PAYMENT_REQUIRED"]);
  assert.match(refused.body.action_url, /^https:/);
  stripe.setCard(customer, "ok");
  const open = stripe.invoices(customer).find(({ status }) => status === "open");
  stripe.pay(open.id);
  await pass(MINUTE);
  await billed.tier(owner.id, "pro");
  assert.equal((await owner.read()).status, "active");
});
