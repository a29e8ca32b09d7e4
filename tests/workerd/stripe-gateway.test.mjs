// The Stripe that other tests play: it must refuse what Stripe refuses and answer what Stripe answers.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { Request } from "miniflare";
import Stripe from "stripe";
import { encode } from "./stripe/forms.mjs";
import { DAY, startStripe } from "./stripe/gateway.mjs";

/** The first of a month, so that months have their lengths. */
const START = Date.UTC(2026, 10, 1, 12);
const HOUR = 3_600_000;

let stripe;
/** @type {Record<string, string>} */
let prices;
before(async () => {
  stripe = await startStripe({ now: START, runs: false });
});
beforeEach(() => {
  stripe.reset();
  prices = stripe.catalog();
});
after(() => stripe.stop());

let keys = 0;

/** Asks as the Worker does; `{ status, body, headers }`. @returns {Promise<any>} */
async function ask(method, path, params = {}, { key = `key-${++keys}`, headers = {} } = {}) {
  const form = encode(params);
  const isPost = method === "POST";
  const answer = await stripe.outbound(
    new Request(`https://api.stripe.com${path}${isPost || !form ? "" : `?${form}`}`, {
      method,
      body: isPost ? form : undefined,
      headers: {
        authorization: `Bearer ${stripe.key}`,
        "stripe-version": "2026-10-28.endive",
        ...(isPost ? { "idempotency-key": key, "content-type": "application/x-www-form-urlencoded" } : {}),
        ...headers,
      },
    }),
  );
  return { status: answer.status, body: await answer.json(), headers: Object.fromEntries(answer.headers) };
}

/** Asks for what must be done; the body. @returns {Promise<any>} */
async function done(method, path, params = {}, how = {}) {
  const { status, body } = await ask(method, path, params, how);
  assert.equal(status, 200, `${method} ${path}: ${JSON.stringify(body)}`);
  return body;
}

const customerOf = (tenant = "ten_1") =>
  done("POST", "/v1/customers", { email: `${tenant}@shop.example`, name: "A shop", metadata: { tenant } });

const session = (customer, { price = prices.starter, trial = 7, ...more } = {}) =>
  done("POST", "/v1/checkout/sessions", {
    mode: "subscription",
    customer,
    client_reference_id: "ten_1",
    line_items: [{ price, quantity: 1 }],
    subscription_data: {
      ...(trial ? { trial_period_days: trial } : {}),
      metadata: { tenant: "ten_1" },
      ...(trial ? { trial_settings: { end_behavior: { missing_payment_method: "cancel" } } } : {}),
    },
    payment_method_collection: "always",
    allow_promotion_codes: true,
    success_url: "https://pay.example/billing?session={CHECKOUT_SESSION_ID}",
    cancel_url: "https://pay.example/billing",
    expires_at: stripe.now() / 1000 + 3600,
    ...more,
  });

/** A customer who pays for a plan; the customer and the subscription. */
async function subscriber({ price = prices.starter, trial = 0, card = "ok" } = {}) {
  const customer = await customerOf();
  assert.equal(stripe.complete(await session(customer.id, { price, trial }), card).status, "complete");
  return { customer: customer.id, subscription: stripe.subscriptionOf(customer.id) };
}

/** An upgrade as the Worker asks for it. */
const upgrade = (subscription, price = prices.pro, how = {}) =>
  ask(
    "POST",
    `/v1/subscriptions/${subscription.id}`,
    {
      items: [{ id: subscription.items.data[0].id, price }],
      proration_behavior: "always_invoice",
      payment_behavior: "error_if_incomplete",
    },
    how,
  );

/** A downgrade at the period's end, as the Worker asks for it; the schedule. */
async function downgrade(subscription, price = prices.starter) {
  const made = await done("POST", "/v1/subscription_schedules", { from_subscription: subscription.id });
  const [{ start_date, end_date, items }] = made.phases;
  return done("POST", `/v1/subscription_schedules/${made.id}`, {
    end_behavior: "release",
    proration_behavior: "none",
    phases: [
      { start_date, end_date, items: [{ price: items[0].price, quantity: 1 }] },
      { items: [{ price, quantity: 1 }], duration: { interval: "month" }, proration_behavior: "none" },
    ],
  });
}

/** The types of the events since a number of them. */
const typesSince = (count) =>
  stripe
    .events()
    .slice(count)
    .map(({ type }) => type);
const priceOf = (subscription) => stripe.do("GET", `/v1/subscriptions/${subscription.id}`).items.data[0].price.id;

test("every call that we make is Stripe's, and so is every answer and every event", async () => {
  const { customer, subscription } = await subscriber({ trial: 7 });
  assert.deepEqual([subscription.status, subscription.trial_end], ["trialing", START / 1000 + 7 * 86_400]);
  const item = subscription.items.data[0].id;
  const flow = {
    type: "subscription_update_confirm",
    subscription_update_confirm: { subscription: subscription.id, items: [{ id: item, price: prices.pro, quantity: 1 }] },
  };
  const configurations = await done("GET", "/v1/billing_portal/configurations", { active: true });
  const named = (name) => configurations.data.find(({ metadata }) => metadata.x402_edge === name).id;
  const open = { customer, return_url: "https://pay.example/" };
  // Stripe has no default of its own, and confirms no change where its configuration allows none.
  for (const more of [{}, { configuration: named("portal"), flow_data: flow }]) {
    assert.equal((await ask("POST", "/v1/billing_portal/sessions", { ...open, ...more })).status, 400);
  }
  for (const more of [{ configuration: named("portal") }, { configuration: named("confirm"), flow_data: flow }]) {
    const portal = await done("POST", "/v1/billing_portal/sessions", { ...open, ...more });
    assert.match(portal.url, /^https:\/\/billing\.stripe\.com\/p\/session\/test_/);
  }
  const preview = await done("POST", "/v1/invoices/create_preview", { subscription: subscription.id });
  assert.deepEqual([preview.total, preview.amount_due, preview.period_end], [9900, 9900, subscription.trial_end]);
  stripe.advance(8 * DAY);
  assert.equal((await upgrade(subscription)).body.items.data[0].price.id, prices.pro);
  await done("GET", "/v1/prices", { lookup_keys: ["x402_edge_pro_monthly", "x402_edge_starter_monthly"] });
  const links = ["latest_invoice.payments", "default_payment_method", "customer", "schedule"].map((link) => `data.${link}`);
  const [full] = (await done("GET", "/v1/subscriptions", { customer, status: "all", expand: links })).data;
  assert.deepEqual(
    [full.latest_invoice.payments.data[0].status, full.default_payment_method.card.last4, full.customer.id, full.schedule],
    ["paid", "4242", customer, null],
  );
  const { data } = await done("GET", "/v1/invoices", { customer, limit: 100, expand: ["data.payments"] });
  const [{ payment }] = data.find(({ total }) => total > 0).payments.data;
  const refund = await done("POST", "/v1/refunds", { payment_intent: payment.payment_intent });
  assert.deepEqual([refund.status, refund.amount], ["succeeded", data[0].total]);
  const paid = await done("GET", "/v1/invoice_payments", { payment: { type: "payment_intent", payment_intent: payment.payment_intent } });
  assert.deepEqual([paid.data.length, paid.data[0].invoice], [1, data[0].id]);
  const { default_payment_method: card } = stripe.subscriptionOf(customer);
  assert.equal((await done("GET", `/v1/payment_methods/${card}`)).card.last4, "4242");
  await downgrade(stripe.subscriptionOf(customer));
  const { schedule } = stripe.subscriptionOf(customer);
  assert.equal((await done("POST", `/v1/subscription_schedules/${schedule}/release`)).status, "released");
  await done("POST", `/v1/subscriptions/${subscription.id}`, { cancel_at_period_end: true });
  await done("POST", `/v1/subscriptions/${subscription.id}`, { cancel_at_period_end: false });
  assert.equal((await done("DELETE", `/v1/subscriptions/${subscription.id}`)).status, "canceled");
  await done("GET", "/v1/events", { delivery_success: false, types: ["customer.subscription.deleted", "invoice.paid"] });
  await done("GET", "/v1/checkout/sessions", { customer, status: "complete" });
  await done("GET", "/v1/customers", { limit: 100 });
  assert.deepEqual(await done("DELETE", `/v1/customers/${customer}`), { id: customer, object: "customer", deleted: true });
  assert.equal((await ask("GET", "/v1/customers/cus_nobody")).status, 404);
  for (const event of stripe.events()) {
    assert.equal(stripe.unlike("event", event), undefined, event.type);
    assert.deepEqual([event.api_version, event.livemode], ["2026-10-28.endive", false]);
    const { object } = event.data;
    if (!object.deleted) assert.equal(stripe.unlike(object.object, object), undefined, event.type);
  }
  assert.deepEqual(stripe.violations, []);
});

test("what Stripe would not understand throws, and is told at the end", async () => {
  const { id } = await customerOf();
  const wrong = /** @type {[string, string, any, any, RegExp][]} */ ([
    ["POST", "/v1/customers", { mail: "a@b.example" }, {}, /mail/],
    ["POST", "/v1/checkout/sessions", { mode: "subscription", customer: id, payment_method_types: ["card"] }, {}, /payment_method_types/],
    ["POST", "/v1/checkout/sessions", { mode: "subscription", subscription_data: { trial_period: 7 } }, {}, /trial_period/],
    ["POST", "/v1/subscriptions/sub_1", { billing_cycle_anchor: "now" }, {}, /billing_cycle_anchor/],
    ["POST", "/v1/customers", { email: "a@b.example" }, { "idempotency-key": "" }, /idempotency key/],
    ["POST", "/v1/customers", { email: "a@b.example" }, { "content-type": "application/json" }, /no form/],
    ["GET", "/v1/customers", {}, { "stripe-version": "2026-08-26.dahlia" }, /version/],
    ["GET", "/v1/customers", {}, { authorization: "Bearer sk_live_1" }, /no key/],
    ["GET", "/v1/customer", {}, {}, /Stripe has no/],
    ["GET", "/v1/prices", { lookup_key: "x" }, {}, /lookup_key/],
  ]);
  for (const [method, path, params, headers, expected] of wrong) await assert.rejects(ask(method, path, params, { headers }), expected);
  assert.equal(stripe.violations.length, wrong.length);
  assert.throws(() => stripe.stop(), /10 requests or answers were not Stripe's/);
});

test("a year of a subscription", async () => {
  const { customer, subscription } = await subscriber({ trial: 7 });
  const status = () => stripe.subscriptionOf(customer).status;
  let count = stripe.events().length;
  const happened = () => {
    const types = typesSince(count).filter((type) => /^(customer\.subscription|invoice\.(paid|payment_failed))/.test(type));
    count = stripe.events().length;
    return types.map((type) => type.replace("customer.subscription.", ""));
  };
  // A trial is told to end three days before; its first charge comes an hour after its end.
  stripe.advance(4 * DAY);
  assert.deepEqual([happened(), status()], [["trial_will_end"], "trialing"]);
  stripe.advance(3 * DAY);
  assert.deepEqual([happened(), status()], [["updated"], "active"]);
  stripe.advance(2 * HOUR);
  assert.deepEqual([happened(), status()], [["invoice.paid"], "active"]);
  // An upgrade in the middle of a period is charged at once, by what is left of both.
  stripe.advanceTo(START + 22.5 * DAY);
  assert.equal((await upgrade(subscription)).status, 200);
  const [bill] = stripe.invoices(customer);
  const left = 14.5 / 30;
  assert.ok(Math.abs(bill.amount_paid - (29_900 - 9_900) * left) < 100, `${bill.amount_paid}`);
  happened();
  // A renewal that fails is tried again until the card is mended.
  stripe.turnCard(customer, "insufficient_funds");
  stripe.advanceTo(Date.UTC(2026, 11, 8, 14));
  assert.deepEqual([happened(), status()], [["updated", "invoice.payment_failed", "updated"], "past_due"]);
  const [open] = stripe.invoices(customer);
  assert.deepEqual([open.status, open.attempt_count, open.amount_due], ["open", 1, 29_900]);
  stripe.advance(2 * DAY);
  assert.deepEqual([happened(), stripe.invoices(customer)[0].attempt_count], [["invoice.payment_failed"], 2]);
  stripe.setCard(customer, "ok");
  stripe.advance(2 * DAY);
  assert.deepEqual([happened().includes("invoice.paid"), status()], [true, "active"]);
  // A downgrade waits for the period's end.
  await downgrade(stripe.subscriptionOf(customer));
  assert.equal(priceOf(subscription), prices.pro);
  assert.equal((await done("POST", "/v1/invoices/create_preview", { subscription: subscription.id })).total, 9900);
  stripe.advanceTo(Date.UTC(2027, 0, 8, 14));
  assert.deepEqual([priceOf(subscription), stripe.invoices(customer)[0].amount_paid], [prices.starter, 9900]);
  stripe.advanceTo(Date.UTC(2027, 1, 8, 14));
  assert.equal(stripe.subscriptionOf(customer).schedule, null, "the schedule has let it go");
  // A cancellation that is taken back, and one that comes.
  await done("POST", `/v1/subscriptions/${subscription.id}`, { cancel_at_period_end: true });
  const none = await ask("POST", "/v1/invoices/create_preview", { subscription: subscription.id });
  assert.deepEqual([none.status, none.body.error.code], [404, "invoice_upcoming_none"]);
  await done("POST", `/v1/subscriptions/${subscription.id}`, { cancel_at_period_end: false });
  stripe.advanceTo(Date.UTC(2027, 9, 20));
  assert.equal(status(), "active");
  await done("POST", `/v1/subscriptions/${subscription.id}`, { cancel_at_period_end: true });
  happened();
  stripe.advanceTo(Date.UTC(2027, 10, 9));
  assert.deepEqual([happened(), status()], [["deleted"], "canceled"]);
  const paid = stripe.invoices(customer).filter(({ amount_paid: amount }) => amount > 0);
  // November's with its upgrade, December's, and ten of January to October.
  assert.equal(paid.length, 13);
});

test("an upgrade that is not paid changes nothing", async () => {
  for (const [card, code, declined] of [
    ["insufficient_funds", "card_declined", "insufficient_funds"],
    ["authenticates", "subscription_payment_intent_requires_action", undefined],
  ]) {
    const { customer, subscription } = await subscriber();
    stripe.turnCard(customer, card);
    const before = [stripe.state(), stripe.events().length, stripe.invoices(customer)];
    stripe.advance(DAY);
    const { status, body } = await upgrade(subscription);
    assert.deepEqual([status, body.error.type, body.error.code, body.error.decline_code], [402, "card_error", code, declined]);
    assert.deepEqual([stripe.state(), stripe.events().length, stripe.invoices(customer)], before);
    stripe.setCard(customer, "ok");
    assert.equal((await upgrade(subscription)).status, 200);
  }
});

test("an answer is kept for its key for a day, an error of Stripe's too", async () => {
  const params = { email: "a@b.example" };
  const first = await ask("POST", "/v1/customers", params, { key: "one" });
  const again = await ask("POST", "/v1/customers", params, { key: "one" });
  assert.deepEqual(
    [again.body, again.headers["idempotent-replayed"], first.headers["idempotent-replayed"]],
    [first.body, "true", undefined],
  );
  const other = await ask("POST", "/v1/customers", { email: "c@d.example" }, { key: "one" });
  assert.deepEqual([other.status, other.body.error.type], [400, "idempotency_error"]);
  stripe.faults.add({ kind: "error", path: "/v1/customers" });
  for (const replayed of [undefined, "true"]) {
    const { status, headers } = await ask("POST", "/v1/customers", params, { key: "two" });
    assert.deepEqual([status, headers["idempotent-replayed"]], [500, replayed]);
  }
  stripe.faults.add({ kind: "limited", path: "/v1/customers" });
  assert.equal((await ask("POST", "/v1/customers", params, { key: "three" })).status, 429);
  assert.equal((await ask("POST", "/v1/customers", params, { key: "three" })).status, 200);
  // What was done and not told is told by the same key.
  stripe.faults.add({ kind: "lost", path: "/v1/customers" });
  await assert.rejects(ask("POST", "/v1/customers", params, { key: "four" }));
  const told = await ask("POST", "/v1/customers", params, { key: "four" });
  assert.deepEqual([told.status, told.headers["idempotent-replayed"]], [200, "true"]);
  assert.equal(stripe.customers().length, 3);
  stripe.advance(DAY + 1000);
  assert.notEqual((await ask("POST", "/v1/customers", params, { key: "one" })).body.id, first.body.id);
  // One that is under way is not done twice.
  stripe.faults.add({ kind: "late", path: "/v1/customers", ms: 50 });
  const [slow, soon] = await Promise.all([1, 2].map(() => ask("POST", "/v1/customers", params, { key: "five" })));
  assert.deepEqual([slow.status, soon.status], [200, 200]);
  assert.equal(slow.body.id, soon.body.id);
});

test("events arrive twice, in any order, or not at all, and what did not is listed", async () => {
  const got = [];
  let status = 200;
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    got.push({ body, signature: request.headers["stripe-signature"] });
    response.writeHead(status).end();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const url = `http://127.0.0.1:${port}/v1/webhooks/stripe`;
  try {
    const { customer } = await subscriber({ trial: 7 });
    stripe.advance(9 * DAY);
    const made = stripe.pending().map(({ id }) => id);
    const ids = () => got.splice(0).map(({ body }) => JSON.parse(body).id);
    status = 500;
    await stripe.deliver(url, { types: ["customer.created"] });
    assert.equal(stripe.pending().length, made.length, "one that was not taken is pending");
    ids();
    status = 200;
    await stripe.deliver(url, { order: "shuffled", seed: 3, duplicate: 2, drop: 0.5 });
    const sent = ids();
    const unique = [...new Set(sent)];
    assert.ok(unique.length > 0 && unique.length < made.length && sent.length === 2 * unique.length);
    assert.notDeepEqual(
      unique,
      made.filter((id) => unique.includes(id)),
    );
    const listed = await done("GET", "/v1/events", { delivery_success: false, limit: 100 });
    assert.deepEqual(
      listed.data.map(({ id }) => id),
      made.filter((id) => !unique.includes(id)).reverse(),
    );
    const [held] = stripe.hold({ types: ["customer.subscription.created"] }).concat(stripe.hold());
    const { webhooks } = new Stripe("sk_test_1");
    const event = webhooks.constructEvent(held.body, held.headers["stripe-signature"], stripe.secret, 300, undefined, stripe.now());
    assert.equal(event.id, held.event.id);
    assert.throws(() =>
      webhooks.constructEvent(held.body, held.headers["stripe-signature"], "whsec_another", 300, undefined, stripe.now()),
    );
    await stripe.deliver(url, { order: "reversed" });
    assert.deepEqual(ids(), made.filter((id) => !unique.includes(id)).reverse());
    assert.deepEqual(stripe.pending(), []);
    assert.ok(customer);
  } finally {
    server.close();
  }
});

test("a session is paid once, refuses a card that declines, and expires", async () => {
  const { id } = await customerOf();
  const first = await session(id);
  assert.equal(stripe.complete(first, "refused").declined.code, "card_declined");
  assert.equal(stripe.complete(first, "ok").status, "complete");
  assert.equal(stripe.complete(first, "ok").declined.code, "checkout_session_not_open");
  // Another tab.
  assert.equal(stripe.complete(await session(id, { trial: 0 }), "authenticates").payment_status, "paid");
  assert.deepEqual(
    stripe.subscriptions(id).map(({ status }) => status),
    ["active", "trialing"],
  );
  const late = await session(id);
  stripe.advance(2 * HOUR);
  assert.equal((await done("GET", `/v1/checkout/sessions/${late.id}`)).status, "expired");
  assert.equal((await ask("POST", `/v1/checkout/sessions/${late.id}/expire`)).status, 400);
  assert.ok(typesSince(0).includes("checkout.session.expired"));
});

test("a customer who is deleted has no subscription any longer", async () => {
  const { customer, subscription } = await subscriber();
  await downgrade((await upgrade(subscription)).body);
  const count = stripe.events().length;
  await done("DELETE", `/v1/customers/${customer}`);
  assert.deepEqual(typesSince(count), ["customer.subscription.deleted", "subscription_schedule.canceled", "customer.deleted"]);
  assert.equal((await done("GET", `/v1/subscriptions/${subscription.id}`)).status, "canceled");
  assert.equal((await done("GET", `/v1/customers/${customer}`)).deleted, true);
});

test("a trial that ends without a card, or with one that needs the customer", async () => {
  const { customer } = await subscriber({ trial: 7 });
  stripe.removeCard(customer);
  stripe.advance(8 * DAY);
  assert.deepEqual([stripe.subscriptionOf(customer).status, typesSince(0).at(-1)], ["canceled", "customer.subscription.deleted"]);
  const other = await subscriber({ trial: 7, card: "authenticates" });
  const count = stripe.events().length;
  stripe.advance(7 * DAY + 2 * HOUR);
  assert.equal(stripe.subscriptionOf(other.customer).status, "past_due");
  const types = typesSince(count);
  for (const type of ["invoice.payment_action_required", "invoice.payment_failed"]) assert.ok(types.includes(type), types.join());
});

test("a plan that is changed within the trial costs nothing before its end", async () => {
  const { customer, subscription } = await subscriber({ trial: 7 });
  stripe.advance(2 * DAY);
  const item = { id: subscription.items.data[0].id, price: prices.pro };
  const details = { items: [item], proration_behavior: "create_prorations" };
  const preview = await done("POST", "/v1/invoices/create_preview", { subscription: subscription.id, subscription_details: details });
  assert.equal(preview.total, 29_900);
  const { body } = await upgrade(subscription);
  assert.deepEqual([body.status, body.trial_end], ["trialing", subscription.trial_end]);
  assert.deepEqual(
    stripe.invoices(customer).map(({ total }) => total),
    [0],
  );
  // The schedule of a downgrade must say the trial's end again.
  const made = await done("POST", "/v1/subscription_schedules", { from_subscription: subscription.id });
  const { start_date, end_date, trial_end } = made.phases[0];
  const phases = [
    { start_date, end_date, trial_end, items: [{ price: prices.pro }] },
    { items: [{ price: prices.starter }], duration: { interval: "month" }, proration_behavior: "none" },
  ];
  await done("POST", `/v1/subscription_schedules/${made.id}`, { phases, end_behavior: "release" });
  stripe.advance(6 * DAY);
  const [{ total, status }] = stripe.invoices(customer);
  assert.deepEqual([total, status, priceOf(subscription)], [9_900, "paid", prices.starter]);
});

test("a subscription is paused for want of a card, and resumed with one", async () => {
  const { customer, subscription } = await subscriber({ trial: 7 });
  stripe.do("POST", `/v1/subscriptions/${subscription.id}`, {
    trial_settings: { end_behavior: { missing_payment_method: "pause" } },
  });
  stripe.removeCard(customer);
  stripe.advance(8 * DAY);
  const paused = stripe.subscriptionOf(customer);
  assert.deepEqual([paused.status, typesSince(0).at(-1)], ["paused", "customer.subscription.paused"]);
  stripe.advance(60 * DAY);
  assert.equal(stripe.resume(paused).status, "active");
  assert.ok(typesSince(0).includes("customer.subscription.resumed"));
  assert.ok(stripe.subscriptionOf(customer).items.data[0].current_period_end > stripe.now() / 1000);
});

test("a change that needs the customer is confirmed on the portal's page", async () => {
  const { customer, subscription } = await subscriber({ card: "authenticates" });
  assert.equal((await upgrade(subscription)).status, 402);
  const all = await done("GET", "/v1/billing_portal/configurations", { active: true });
  const portal = await done("POST", "/v1/billing_portal/sessions", {
    customer,
    configuration: all.data.find(({ metadata }) => metadata.x402_edge === "confirm").id,
    flow_data: {
      type: "subscription_update_confirm",
      subscription_update_confirm: {
        subscription: subscription.id,
        items: [{ id: subscription.items.data[0].id, price: prices.pro, quantity: 1 }],
      },
      after_completion: { type: "redirect", redirect: { return_url: "https://pay.example/billing" } },
    },
  });
  stripe.confirm(portal);
  assert.equal(priceOf(subscription), prices.pro);
});

test("by the account's own policy an unpaid subscription stays, and its invoices are drafts", async () => {
  stripe.reset({ dunning: { end_behavior: "mark_unpaid", max_attempts: 4, window: "1w" } });
  prices = stripe.catalog();
  const { customer } = await subscriber();
  stripe.turnCard(customer, "declines");
  stripe.advance(40 * DAY);
  assert.equal(stripe.subscriptionOf(customer).status, "unpaid");
  stripe.advance(31 * DAY);
  assert.equal(stripe.invoices(customer)[0].status, "draft");
  stripe.setCard(customer, "ok");
  const open = stripe.invoices(customer).find(({ status }) => status === "open");
  assert.equal(stripe.pay(open.id).status, "paid");
});

test("phases are replaced as a whole: a discount that they do not list is gone, and one that they list goes on", async () => {
  const { subscription } = await subscriber({ price: prices.pro });
  const coupon = await done("POST", "/v1/coupons", { percent_off: 50, duration: "repeating", duration_in_months: 12 });
  await done("POST", `/v1/subscriptions/${subscription.id}`, { discounts: [{ coupon: coupon.id }] });
  const held = () => stripe.do("GET", `/v1/subscriptions/${subscription.id}`).discounts;
  const [discount] = held();
  const made = await done("POST", "/v1/subscription_schedules", { from_subscription: subscription.id });
  const [{ start_date, end_date, discounts }] = made.phases;
  assert.deepEqual(discounts, [{ coupon: null, discount, promotion_code: null }]);
  const phases = (listed) => [
    { start_date, end_date, items: [{ price: prices.pro }], ...listed },
    { items: [{ price: prices.starter }], duration: { interval: "month" } },
  ];
  const path = `/v1/subscription_schedules/${made.id}`;
  await done("POST", path, { phases: phases({ discounts: [{ discount }] }) });
  assert.deepEqual(held(), [discount]);
  await done("POST", path, { phases: phases({}) });
  assert.deepEqual(held(), []);
});

test("a schedule is of a subscription, keeps its first phase, and holds the cancellation", async () => {
  const { subscription } = await subscriber({ price: prices.pro });
  const made = await downgrade(subscription);
  assert.deepEqual([made.status, made.subscription, made.phases.length], ["active", subscription.id, 2]);
  assert.deepEqual(made.phases[1].end_date, Date.UTC(2027, 0, 1, 12) / 1000);
  const twice = await ask("POST", "/v1/subscription_schedules", { from_subscription: subscription.id });
  assert.equal(twice.status, 400);
  const more = await ask("POST", "/v1/subscription_schedules", { from_subscription: subscription.id, end_behavior: "release" });
  assert.equal(more.body.error.param, "end_behavior");
  const cancelled = await ask("POST", `/v1/subscriptions/${subscription.id}`, { cancel_at_period_end: true });
  assert.match(cancelled.body.error.message, /managed by the subscription schedule/);
  const [{ start_date, end_date }] = made.phases;
  for (const phase of [{ end_date }, { start_date: start_date + 1, end_date }]) {
    const moved = await ask("POST", `/v1/subscription_schedules/${made.id}`, { phases: [{ ...phase, items: [{ price: prices.pro }] }] });
    assert.equal(moved.status, 400, JSON.stringify(phase));
  }
});

test("a renewal that is never paid ends the subscription; attempts that cannot succeed are counted and not made", async () => {
  for (const [card, failures] of /** @type {[string, number][]} */ ([
    ["declines", 8],
    ["lost", 1],
  ])) {
    const { customer } = await subscriber();
    stripe.turnCard(customer, card);
    const count = stripe.events().length;
    stripe.advance(50 * DAY);
    assert.equal(typesSince(count).filter((type) => type === "invoice.payment_failed").length, failures, card);
    const { status, cancellation_details: why } = stripe.subscriptionOf(customer);
    assert.deepEqual([status, why.reason], ["canceled", "payment_failed"]);
    stripe.advance(1000);
  }
});
