// What keeps Stripe and the directory in line whatever goes wrong between them: a key of another account, refusals, Workers that
// are killed, tenants that are suspended, cancelled or deleted, tiers by an operator's hand.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { DAY, MINUTE, OPERATOR, payer, paying, refusal, startBilled } from "./billed.mjs";
import { mailTo, mailsTo } from "./browser.mjs";
import { startWorker, until } from "./worker.mjs";

const HOUR = 60 * MINUTE;
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

/** Has Stripe answer about our customers as it does to a key of another account, or of the other mode. */
const foreign = () =>
  billed.stripe.faults.add({
    kind: "answers",
    times: Number.POSITIVE_INFINITY,
    answer({ path, params }) {
      const named = /^\/v1\/customers\/(cus_\w+)/.exec(path)?.[1];
      const customer = named ?? params.customer;
      if (!customer) return undefined;
      const message = `No such customer: '${customer}'; a similar object exists in live mode, but a test mode key was used to make this request.`;
      const error = { type: "invalid_request_error", code: "resource_missing", param: named ? "id" : "customer", message };
      return { status: named ? 404 : 400, body: { error } };
    },
  });
/** What has happened at Stripe is never told. */
const lose = () => billed.stripe.pending().forEach(billed.stripe.taken);
const patch = (id, body) => billed.worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body });
const atStripe = (id) => billed.stripe.do("GET", `/v1/subscriptions/${id}`);
const subjects = async (owner, like) => (await mailsTo(billed.worker, owner.email)).filter(({ subject }) => like.test(subject));
const check = (body = {}) => billed.worker.call("POST", "/v1/admin/billing/check", { admin: true, body });
/** What operators were told of a text, once they were. */
const toldOf = (text) =>
  until(async () => {
    const all = await billed.told(text);
    return all.length > 0 && all;
  }, `a message about ${text}`);

/** An owner in a trial, whom the directory knows. */
async function trying(plan) {
  const owner = await payer(billed);
  const customer = await owner.pays(plan);
  await billed.stripe.deliver(billed.worker);
  await billed.tier(owner.id, plan);
  return { ...owner, customer, subscription: billed.stripe.subscriptionOf(customer).id };
}

/** Asks for the deletion of an owner's tenant and confirms it. */
async function deletes(owner) {
  const seen = (await mailsTo(billed.worker, owner.email)).length;
  assert.equal((await owner.browser.call("DELETE", "/v1/tenant", { confirm: owner.id })).status, 202);
  const mail = await mailTo(billed.worker, owner.email, seen + 1);
  const confirmed = await owner.browser.call("POST", "/v1/tenant/deletion", { token: mail.token });
  assert.equal(confirmed.status, 200, confirmed.text);
  return mail;
}

test("the key of another account takes no plan away and forgets no customer", async () => {
  const { stripe } = billed;
  const owner = await paying(billed, "pro");
  await billed.advance(DAY);
  foreign();
  await billed.nightly();
  const [told] = await toldOf(owner.customer);
  assert.match(told.text, /does not know the customer/);
  for (const answer of [
    await owner.call("POST", "/portal"),
    await owner.change("enterprise"),
    await owner.cancel("now"),
    await owner.checkout("pro"),
    await owner.resume(),
  ])
    assert.deepEqual(refusal(answer), [503, "MISCONFIGURED"], answer.text);
  const compared = await check();
  const mine = compared.body.differences.find(({ tenant }) => tenant === owner.id);
  assert.match(mine?.detail, /does not know the customer/, compared.text);
  assert.match(mine.detail, /could not be brought in line/);
  const row = await billed.row(owner.id);
  assert.deepEqual([row.customer_id, row.state.status, (await owner.read()).tier], [owner.customer, "active", "pro"]);
  stripe.faults.clear();
  // With the right key all is as it was.
  const changed = await owner.change("enterprise");
  assert.deepEqual([changed.status, changed.body.tier], [200, "enterprise"], changed.text);
  assert.equal(stripe.customers().filter(({ metadata }) => metadata.tenant === owner.id).length, 1);
});

test("a tenant is not erased while its customer cannot be deleted: no key, or one of another account", async () => {
  const { stripe } = billed;
  const erased = async ({ id }) => (await billed.worker.sql("SELECT erased_ms FROM deletions WHERE tenant_id = ?", id))[0]?.erased_ms;
  const owner = await trying("pro");
  await deletes(owner);
  await billed.advance(7 * DAY + MINUTE);
  foreign();
  for (let run = 0; run < 3; run++) await billed.minutely();
  assert.deepEqual([(await billed.row(owner.id))?.customer_id, await erased(owner)], [owner.customer, null]);
  await billed.advance(7 * HOUR);
  await billed.nightly();
  assert.match((await toldOf("Deletions that are due"))[0].text, new RegExp(owner.id));
  stripe.faults.clear();
  // Without the key.
  const had = billed.worker;
  await had.stop();
  const vars = { MAIL_BACKEND: "mailbox", OPERATOR_MAIL: OPERATOR };
  billed.worker = await startWorker({ vars, state });
  await billed.worker.advance(30 * DAY);
  for (let run = 0; run < 3; run++) await billed.minutely();
  assert.deepEqual([(await billed.row(owner.id))?.customer_id, await erased(owner)], [owner.customer, null]);
  await billed.again();
  await until(async () => {
    await billed.advance(10 * MINUTE);
    await billed.minutely();
    return (await erased(owner)) !== null;
  }, "the erasure");
  assert.equal(await billed.row(owner.id), undefined);
  assert.ok(!stripe.customers().some(({ id }) => id === owner.customer));
});

/** Two checkouts of a tenant that are both paid, without a trial; their subscriptions, the older first. */
async function paidTwice(plans = ["starter", "pro"]) {
  const { stripe, worker } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("starter");
  await owner.cancel("now");
  await stripe.deliver(worker);
  const made = [];
  for (const plan of plans) made.push(await owner.checkout(plan));
  const paid = made.map(({ body }) => {
    stripe.advance(2000);
    return stripe.complete(stripe.sessionsOf(customer).find(({ url }) => url === body.url)).subscription;
  });
  return { ...owner, customer, paid };
}

test("a refund that is refused keeps no second subscription, and no route waits for one that cannot be ended", async () => {
  const { stripe, worker } = billed;
  const owner = await paidTwice();
  const [older, newer] = owner.paid;
  const body = { error: { type: "invalid_request_error", code: "charge_disputed", message: "Charge has been charged back." } };
  stripe.faults.add({ kind: "answers", path: "/v1/refunds", times: 99, answer: () => ({ status: 400, body }) });
  const end = { kind: /** @type {const} */ ("error"), method: "DELETE", path: `/v1/subscriptions/${older}`, times: 99 };
  stripe.faults.add(end);
  await stripe.deliver(worker);
  await billed.tier(owner.id, "pro");
  await until(async () => (await billed.log(owner.id, "subscription.surplus")).length > 0, "the entry");
  assert.equal(atStripe(older).status, "active");
  const portal = await owner.call("POST", "/portal");
  assert.equal(portal.status, 200, portal.text);
  const changed = await owner.change("enterprise");
  assert.deepEqual([changed.status, changed.body.tier], [200, "enterprise"], changed.text);
  // It is tried again by itself.
  stripe.faults.clear();
  await billed.advance(2 * HOUR);
  await billed.minutely();
  assert.deepEqual([atStripe(older).status, atStripe(newer).status], ["canceled", "active"]);
  assert.deepEqual(await billed.log(owner.id, "subscription.surplus"), ["subscription.surplus nothing refunded"]);
  const told = await billed.told(older);
  assert.equal(told.length, 1);
  assert.match(told[0].text, /charge_disputed/);
  const mails = await subjects(owner, /second subscription/);
  assert.equal(mails.length, 1);
  assert.match(mails[0].text, /we refund it/);
});

test("a Worker that is killed after the end of a second subscription has told of it", async () => {
  const { stripe, worker } = billed;
  const owner = await paidTwice();
  const [older] = owner.paid;
  stripe.faults.add({ kind: "late", method: "DELETE", path: `/v1/subscriptions/${older}`, ms: 8000 });
  await stripe.deliver(worker, { types: ["customer.subscription.created"] });
  await until(() => atStripe(older).status === "canceled", "its end");
  billed.worker.crash();
  stripe.faults.clear();
  await billed.again();
  await stripe.deliver(billed.worker);
  await billed.tier(owner.id, "pro");
  assert.deepEqual(await billed.log(owner.id, "subscription.surplus"), ["subscription.surplus 1 refunded"]);
  assert.equal((await subjects(owner, /second subscription/)).length, 1);
});

test("a larger plan that was paid before a smaller one is not given back by itself", async () => {
  const { stripe, worker } = billed;
  const owner = await paidTwice(["enterprise", "starter"]);
  await stripe.deliver(worker);
  await billed.tier(owner.id, "starter");
  await until(() => atStripe(owner.paid[0]).status === "canceled", "its end");
  assert.deepEqual(await billed.log(owner.id, "subscription.surplus"), ["subscription.surplus nothing refunded"]);
  assert.match((await toldOf(owner.paid[0]))[0].text, /is to be refunded/);
});

test("what an operator sells beside the plan neither ends it nor counts in its place", async () => {
  const { stripe, worker } = billed;
  const owner = await trying("pro");
  const product = stripe.do("POST", "/v1/products", { name: "support" });
  const recurring = { interval: "month" };
  const price = stripe.do("POST", "/v1/prices", { product: product.id, currency: "usd", unit_amount: 5000, recurring }).id;
  stripe.advance(2000);
  stripe.setCard(owner.customer, "ok");
  const support = stripe.do("POST", "/v1/subscriptions", { customer: owner.customer, items: [{ price }] }).id;
  const { read_ticket: before } = await billed.row(owner.id);
  await stripe.deliver(worker);
  await until(async () => (await billed.row(owner.id)).read_ticket > before, "a read");
  const view = await owner.read();
  assert.deepEqual([view.plan, view.tier], ["pro", "pro"]);
  assert.deepEqual([atStripe(owner.subscription).status, atStripe(support).status], ["trialing", "active"]);
});

test("a read that fails is made up for by the timed job, and what is wanted stays due beside a read that began before", async () => {
  const { stripe, worker } = billed;
  const owner = await payer(billed);
  await owner.pays("pro");
  stripe.faults.add({ kind: "error", method: "GET", path: "/v1/subscriptions", times: 1 });
  await stripe.deliver(worker, { types: ["customer.subscription.created"] });
  lose();
  await until(async () => (await billed.row(owner.id)).due_ms !== null, "the note");
  await billed.advance(5 * MINUTE + 1000);
  await billed.minutely();
  assert.equal((await billed.row(owner.id)).state?.status, "trialing");
  // The answer to a read is held back; meanwhile an operator changes the name.
  const { ticket } = await billed.row(owner.id);
  stripe.faults.add({ kind: "late", method: "GET", path: "/v1/subscriptions", ms: 2500 });
  const reading = owner.call("POST", "/portal");
  await until(() => stripe.faults.left() === 0, "the read");
  assert.equal((await patch(owner.id, { company_name: "Widgets" })).status, 200);
  assert.equal((await reading).status, 200);
  assert.ok((await billed.row(owner.id)).read_ticket > ticket);
  await billed.minutely();
  assert.equal(stripe.do("GET", `/v1/customers/${await owner.customer()}`).name, "Widgets");
});

test("receipts follow the tenant's address and name, and what the customer has changed in the portal stays", async () => {
  const { stripe } = billed;
  const owner = await trying("starter");
  const told = () => {
    const { email, name } = stripe.do("GET", `/v1/customers/${owner.customer}`);
    return [email, name];
  };
  const [email] = told();
  assert.equal(email, owner.email);
  const other = `${crypto.randomUUID()}@example.test`;
  assert.equal((await patch(owner.id, { email: other, company_name: "Ann & Co" })).status, 200);
  await billed.minutely();
  assert.deepEqual(told(), [other, "Ann & Co"]);
  stripe.do("POST", `/v1/customers/${owner.customer}`, { email: "books@example.test" });
  await billed.stripe.deliver(billed.worker);
  await billed.advance(DAY);
  await billed.nightly();
  assert.deepEqual(told(), ["books@example.test", "Ann & Co"]);
  assert.equal((await owner.browser.call("PATCH", "/v1/tenant", { company_name: null })).status, 200);
  await billed.minutely();
  assert.deepEqual(told(), [other, other]);
});

test("owners of a suspended tenant can end what they pay; a cancelled tenant's subscription ends", async () => {
  const { stripe } = billed;
  const owner = await trying("pro");
  assert.equal((await patch(owner.id, { status: "suspended" })).status, 200);
  /** @param {string} path @param {any} [body] */
  const by = (path, body) => owner.browser.call("POST", `/v1/billing${path}`, body);
  for (const path of ["", "/invoices"]) assert.equal((await owner.browser.call("GET", `/v1/billing${path}`)).status, 200, path);
  for (const [path, body] of /** @type {const} */ ([
    ["/checkout", { plan: "pro" }],
    ["/change", { plan: "enterprise" }],
    ["/resume", undefined],
  ]))
    assert.deepEqual(refusal(await by(path, body)), [403, "TENANT_SUSPENDED"], path);
  assert.deepEqual(refusal(await owner.cancel("now")), [403, "TENANT_SUSPENDED"], "a key");
  assert.equal((await by("/portal")).status, 200);
  const ended = await by("/cancel", { at: "period_end" });
  assert.equal(ended.status, 200, ended.text);
  assert.ok(atStripe(owner.subscription).cancel_at_period_end);

  const other = await trying("starter");
  const waits = await payer(billed);
  assert.equal((await waits.checkout("pro")).status, 200);
  const [session] = stripe.sessionsOf(await waits.customer());
  for (const { id } of [other, waits]) assert.equal((await patch(id, { status: "cancelled" })).status, 200);
  await billed.minutely();
  assert.equal(atStripe(other.subscription).status, "canceled");
  assert.equal((await billed.row(other.id)).state.status, "canceled");
  await billed.tier(other.id, "free");
  assert.equal(stripe.do("GET", `/v1/checkout/sessions/${session.id}`).status, "expired");
});

test("the plan of a tenant that is being deleted does not renew, and goes on where that is undone", async () => {
  const { stripe, worker } = billed;
  const owner = await trying("pro");
  for (let half = 0; half < 2; half++) {
    // A session ends when nobody uses it for a week.
    await billed.advance(4 * DAY);
    assert.equal((await owner.browser.call("GET", "/v1/session")).status, 200);
  }
  await stripe.deliver(worker);
  await billed.status(owner.id, "active");
  // A smaller plan waits.
  assert.equal((await owner.change("starter")).status, 200);
  const mail = await deletes(owner);
  assert.match(mail.text, /plan/);
  await billed.minutely();
  assert.ok(atStripe(owner.subscription).cancel_at_period_end);
  assert.notEqual((await owner.browser.call("GET", "/v1/billing")).body.cancels_at, null);
  assert.equal((await owner.browser.call("DELETE", "/v1/tenant/deletion")).status, 200);
  await billed.minutely();
  assert.ok(!atStripe(owner.subscription).cancel_at_period_end);
  const view = (await owner.browser.call("GET", "/v1/billing")).body;
  assert.deepEqual([view.cancels_at, view.plan], [null, "pro"]);
  // An end that an owner has asked for is not taken back.
  const cancelled = await owner.browser.call("POST", "/v1/billing/cancel", { at: "period_end" });
  assert.equal(cancelled.status, 200, cancelled.text);
  await deletes(owner);
  await billed.minutely();
  assert.equal((await owner.browser.call("DELETE", "/v1/tenant/deletion")).status, 200);
  await billed.minutely();
  assert.ok(atStripe(owner.subscription).cancel_at_period_end);
});

test("a tier by hand is recorded and told of; handed back, it is what is paid at that moment", async () => {
  const { stripe } = billed;
  const owner = await trying("pro");
  assert.equal((await patch(owner.id, { tier: "enterprise" })).status, 200);
  assert.match((await toldOf(owner.subscription))[0].text, /goes on to be charged/);
  assert.deepEqual(await billed.log(owner.id, "tier%"), ["tier.updated free → pro", "tier.updated pro → enterprise"]);
  // Nothing is recorded of the same tier.
  assert.equal((await patch(owner.id, { tier: "enterprise" })).status, 200);
  assert.equal((await billed.told(owner.subscription)).length, 1);
  // It has ended, and nobody knows it yet.
  stripe.do("DELETE", `/v1/subscriptions/${owner.subscription}`);
  lose();
  const back = await patch(owner.id, { tier_by: "billing" });
  assert.deepEqual([back.body.tenant.tier, back.body.tenant.tier_by], ["pro", "billing"]);
  await billed.minutely();
  await billed.tier(owner.id, "free");
  const tiers = ["free → pro", "pro → enterprise", "enterprise → pro", "pro → free"];
  assert.deepEqual(
    await billed.log(owner.id, "tier%"),
    tiers.map((tier) => `tier.updated ${tier}`),
  );
  const mails = await until(async () => {
    const all = await subjects(owner, /plan has changed/);
    return all.length === tiers.length && all;
  }, "the mails");
  assert.ok(mails.some(({ text }) => text.includes("was pro, and is enterprise")));
  // What can be bought no longer is ended.
  const buying = await payer(billed);
  assert.equal((await buying.checkout("pro")).status, 200);
  const [session] = stripe.sessionsOf(await buying.customer());
  assert.equal((await patch(buying.id, { tier: "pro" })).status, 200);
  await billed.minutely();
  assert.equal(stripe.do("GET", `/v1/checkout/sessions/${session.id}`).status, "expired");
});

test("a tier of a build that did not say whose it is is kept, and named at night with what no tenant has", async () => {
  const { stripe, worker, prices } = billed;
  const owner = await payer(billed);
  await worker.sql("UPDATE tenants SET tier = 'enterprise' WHERE id = ?", owner.id);
  assert.equal((await owner.call("POST", "/portal")).status, 200);
  assert.equal((await owner.call("POST", "/portal")).status, 200);
  assert.equal((await owner.read()).tier, "enterprise");
  const lost = stripe.do("POST", "/v1/customers", { email: "lost@x.test" }).id;
  stripe.setCard(lost, "ok");
  const metadata = { tenant: owner.id };
  const orphan = stripe.do("POST", "/v1/subscriptions", { customer: lost, items: [{ price: prices.pro }], metadata }).id;
  lose();
  await billed.nightly();
  assert.match((await toldOf(orphan))[0].text, /end it in Stripe's dashboard/);
  assert.match((await toldOf(`${owner.id}: the tier is enterprise`))[0].text, /never been a subscription/);
  stripe.do("DELETE", `/v1/subscriptions/${orphan}`);
  lose();
  const all = [];
  let cursor;
  do {
    const { body } = await check(cursor ? { cursor } : {});
    all.push(...body.differences);
    cursor = body.next_cursor;
  } while (cursor);
  assert.deepEqual(
    all.map(({ tenant }) => tenant),
    [owner.id],
    JSON.stringify(all),
  );
  assert.equal((await patch(owner.id, { tier_by: "billing" })).body.tenant.tier, "free");
});

// Last: the Worker's clock is ahead of Stripe's from here on.
test("the grace ends while Stripe cannot be read, and the next read gives the plan back that was paid", async () => {
  const { stripe } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("pro");
  /** The customer is read by a request alone: none of before it is still under way. */
  const reads = async () => {
    lose();
    assert.equal((await owner.call("POST", "/portal")).status, 200);
    return (await billed.row(owner.id)).state.status;
  };
  await billed.advance(8 * DAY);
  assert.equal(await reads(), "active");
  stripe.turnCard(customer, "declines");
  await billed.advance(32 * DAY);
  assert.equal(await reads(), "past_due");
  assert.equal((await owner.read()).tier, "pro");
  stripe.faults.add({ kind: "limited", method: "GET", times: Number.POSITIVE_INFINITY });
  await billed.worker.advance(7 * DAY + HOUR);
  await billed.minutely();
  assert.equal((await billed.worker.sql("SELECT tier FROM tenants WHERE id = ?", owner.id))[0].tier, "free");
  assert.equal((await billed.log(owner.id, "tier%")).at(-1), "tier.updated pro → free");
  // The invoice was paid meanwhile.
  stripe.faults.clear();
  stripe.turnCard(customer, "ok");
  for (const { id, status } of stripe.invoices(customer)) if (status === "open") stripe.do("POST", `/v1/invoices/${id}/pay`);
  lose();
  await billed.worker.advance(10 * MINUTE);
  await billed.minutely();
  await billed.tier(owner.id, "pro");
});
