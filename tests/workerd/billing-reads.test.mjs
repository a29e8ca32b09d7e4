// What is read back of Stripe: the last read counts, and of two subscriptions one.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { payer, refusal, startBilled } from "./billed.mjs";
import { mailsTo } from "./browser.mjs";
import { until } from "./worker.mjs";

/** @type {Awaited<ReturnType<typeof startBilled>>} */
let billed;
before(async () => {
  billed = await startBilled();
});
after(() => billed?.stop());

test("a customer who is deleted at Stripe has the free tier, and a next checkout makes another", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  const first = await owner.pays("pro");
  await stripe.deliver(worker);
  await billed.tier(owner.id, "pro");
  stripe.do("DELETE", `/v1/customers/${first}`);
  await stripe.deliver(worker, { order: "reversed" });
  await billed.tier(owner.id, "free");
  const row = await billed.row(owner.id);
  assert.deepEqual([row.customer_id, row.state.status, row.trial_used], [null, "canceled", 1]);
  const view = await owner.read();
  assert.deepEqual([view.status, view.plan, view.trial_available], ["canceled", null, false]);
  const second = await owner.pays("starter");
  assert.notEqual(second, first);
  await stripe.deliver(worker);
  await billed.tier(owner.id, "starter");
  assert.equal(stripe.subscriptionOf(second).status, "active", "one trial a tenant");
  // The event about it is lost, and the owner opens the portal.
  stripe.do("DELETE", `/v1/customers/${second}`);
  for (const one of stripe.pending()) stripe.taken(one);
  const portal = await owner.call("POST", "/portal");
  assert.equal(portal.status, 200, portal.text);
  assert.ok(![first, second].includes(await owner.customer()));
  await billed.tier(owner.id, "free");
});

test("a customer that is made while the deleted one is still being read stays the tenant's", async () => {
  const { stripe } = billed;
  const owner = await payer(billed);
  const first = await owner.pays("pro");
  stripe.do("DELETE", `/v1/customers/${first}`);
  for (const one of stripe.pending()) stripe.taken(one);
  for (const ms of [1500, 6000]) stripe.faults.add({ kind: "late", method: "GET", path: "/v1/subscriptions", ms });
  const making = owner.checkout("starter");
  await until(() => stripe.faults.left() === 1, "the first read");
  const late = owner.call("POST", "/portal");
  const made = await making;
  assert.equal(made.status, 200, made.text);
  const second = await owner.customer();
  assert.ok(second && second !== first);
  assert.equal((await late).status, 200);
  assert.equal(await owner.customer(), second);
});

test("a price that is not ours leaves the tier as it is, and operators hear of it until it is gone", async () => {
  const { worker, stripe, prices } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("pro");
  await stripe.deliver(worker);
  await billed.tier(owner.id, "pro");
  const { id, items } = stripe.subscriptionOf(customer);
  const price = (to) =>
    stripe.do("POST", `/v1/subscriptions/${id}`, { items: [{ id: items.data[0].id, price: to }], proration_behavior: "none" });
  const product = stripe.do("POST", "/v1/products", { name: "by hand" });
  const own = stripe.do("POST", "/v1/prices", {
    product: product.id,
    currency: "usd",
    unit_amount: 123_400,
    recurring: { interval: "month" },
  });
  price(own.id);
  await stripe.deliver(worker, { duplicate: 2 });
  await until(async () => (await billed.row(owner.id)).unknown_price === own.id, "the price");
  const view = await owner.read();
  assert.deepEqual([view.tier, view.plan, view.status], ["pro", null, "trialing"]);
  const alerts = async () => {
    await billed.checks();
    const { body } = await worker.call("GET", "/v1/admin/alerts", { admin: true });
    return body.data.filter(({ kind, subject }) => kind === "unknown_price" && subject === owner.id);
  };
  const [alert] = await alerts();
  assert.equal(alert.detail, `the price is ${own.id}`);
  price(prices.starter);
  await stripe.deliver(worker);
  await billed.tier(owner.id, "starter");
  assert.deepEqual(await alerts(), []);
});

/** Pays two checkouts at once, without a trial: the older and the newer subscription. */
async function paysTwice() {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("starter");
  await owner.cancel("now");
  await stripe.deliver(worker);
  const made = [await owner.checkout("starter"), await owner.checkout("pro")];
  const sessions = made.map(({ body }) => stripe.sessionsOf(customer).find(({ url }) => url === body.url));
  const paid = sessions.map((session) => {
    stripe.advance(2000);
    return stripe.complete(session).subscription;
  });
  await stripe.deliver(worker, { order: "shuffled", duplicate: 2 });
  await billed.tier(owner.id, "pro");
  await until(() => stripe.do("GET", `/v1/subscriptions/${paid[0]}`).status === "canceled", "the older one's end", 40_000);
  assert.equal(stripe.do("GET", `/v1/subscriptions/${paid[1]}`).status, "active");
  await until(async () => (await billed.log(owner.id, "subscription.surplus")).length > 0, "the entry");
  const mails = (await mailsTo(worker, owner.email)).filter(({ subject }) => /second subscription/.test(subject));
  assert.equal(mails.length, 1);
  assert.ok(mails[0].text.includes(paid[0]), mails[0].text);
  const charges = stripe.every("/v1/charges", { customer });
  const refunded = charges.filter((charge) => charge.refunded).map(({ amount }) => amount);
  return { owner, customer, paid, refunded, text: mails[0].text };
}

test("of two paid checkouts the newest is kept, and the other is cancelled and given back", async () => {
  // Stripe gives it back, and says that it has failed; it says so again for a day to whoever asks by the same key.
  billed.stripe.faults.add({ kind: "failed", method: "POST", path: "/v1/refunds" });
  const { owner, refunded, text } = await paysTwice();
  assert.equal(billed.stripe.faults.left(), 0);
  assert.deepEqual(refunded, [9_900]);
  assert.deepEqual(await billed.log(owner.id, "subscription.surplus"), ["subscription.surplus 1 refunded"]);
  assert.match(text, /is refunded to your card/);
  assert.deepEqual(await billed.told(owner.id), []);
});

test("a read that began later is never overwritten by one that began before it", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  await owner.pays("pro");
  // The answer to the queue's read is held back: the plan is ended meanwhile.
  stripe.faults.add({ kind: "late", method: "GET", path: "/v1/subscriptions", ms: 2500 });
  await stripe.deliver(worker);
  await until(() => stripe.faults.left() === 0, "the first read");
  assert.equal((await owner.cancel("now")).status, 200);
  const end = { tier: "free", status: "canceled" };
  const now = async () => ({ tier: (await owner.read()).tier, status: (await billed.row(owner.id)).state.status });
  assert.deepEqual(await now(), end);
  const { ticket } = await billed.row(owner.id);
  await stripe.deliver(worker);
  // The queue goes on when the first read has been answered.
  await until(async () => (await billed.row(owner.id)).read_ticket > ticket, "the next read");
  assert.deepEqual(await now(), end);
});

test("a tier that an earlier read writes while a later one is being written does not stay", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("pro");
  stripe.faults.add({ kind: "late", method: "GET", path: "/v1/subscriptions", ms: 2500 });
  await stripe.deliver(worker);
  await until(() => stripe.faults.left() === 0, "the first read");
  stripe.do("DELETE", `/v1/subscriptions/${stripe.subscriptionOf(customer).id}`);
  // The later read finds the free tier as it should be, and is about to write that.
  const answer = await worker.whileHeld(
    "read_ticket = ?2",
    () => owner.resume(),
    () => billed.tier(owner.id, "pro"),
  );
  assert.deepEqual(refusal(answer), [409, "NO_SUBSCRIPTION"]);
  const view = await owner.read();
  assert.deepEqual([view.tier, view.status], ["free", "canceled"]);
});

test("where duplicates are not refunded by themselves, the other is cancelled, and operators are told what was paid", async () => {
  await billed.stop();
  billed = await startBilled({ vars: { BILLING_REFUND_DUPLICATES: "off" } });
  const { owner, customer, paid, refunded, text } = await paysTwice();
  assert.deepEqual(refunded, []);
  assert.deepEqual(await billed.log(owner.id, "subscription.surplus"), ["subscription.surplus nothing refunded"]);
  assert.match(text, /we refund it/);
  const [told] = await billed.told(owner.id);
  const { latest_invoice: invoice } = billed.stripe.do("GET", `/v1/subscriptions/${paid[0]}`);
  for (const word of [customer, paid[0], invoice]) assert.ok(told.text.includes(word), told.text);
});
