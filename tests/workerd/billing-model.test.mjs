// A model: whatever owners, operators at Stripe's dashboard, cards, time and lost events do, in the end the directory says what
// Stripe says. `BILLING_SEEDS=7,8` plays these seeds.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { DAY, MINUTE, payer, startBilled } from "./billed.mjs";
import { EVENTS } from "../../scripts/lib/stripe.mjs";
import { StripeError } from "./stripe/forms.mjs";
import { until } from "./worker.mjs";

const HOUR = 60 * MINUTE;
const SEEDS = process.env.BILLING_SEEDS?.split(",").map(Number) ?? [1, 2];
const [ACTS, ROUNDS, TENANTS] = [14, 2, 3];
/** What a subscription's status weighs: of several the heaviest counts, then the newest. */
const WEIGHTS = { trialing: 3, active: 3, past_due: 2, unpaid: 1, paused: 1 };
const PLANS = ["starter", "pro", "enterprise"];
const FAULTS = ["lost", "failed", "error", "limited", "refused"];

/** @type {Awaited<ReturnType<typeof startBilled>>} */
let billed;
before(async () => {
  // The events that are asked for in production, and no other.
  billed = await startBilled({ stripe: { endpoint: { enabled_events: EVENTS } } });
});
after(() => billed?.stop());

/** Numbers of a seed. */
function dice(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (count) => Math.floor(next() * count);
  return { below, one: (all) => all[below(all.length)], share: next };
}

/** What Stripe says of a customer, as the directory is to have it. */
function pictured(customer) {
  const { stripe } = billed;
  const weight = ({ status }) => WEIGHTS[status] ?? 0;
  const sorted = stripe.subscriptions(customer).sort((a, b) => weight(b) - weight(a) || b.created - a.created || (a.id < b.id ? 1 : -1));
  const [first] = sorted;
  if (!first) return { live: 0, state: null };
  const [item] = first.items.data;
  const tier = (metadata) => (PLANS.includes(metadata?.tier) ? metadata.tier : null);
  const schedule = first.schedule && stripe.do("GET", `/v1/subscription_schedules/${first.schedule}`);
  const ms = (seconds) => (seconds === null ? null : seconds * 1000);
  const ends = first.cancel_at ?? (first.cancel_at_period_end ? item.current_period_end : null);
  const state = {
    subscription: first.id,
    status: first.status,
    plan: tier(item.price.metadata),
    price: item.price.id,
    item: item.id,
    trial_end: ms(first.trial_end),
    period_start: ms(item.current_period_start),
    period_end: ms(item.current_period_end),
    cancel_at: weight(first) > 0 ? ms(ends) : null,
    schedule: first.schedule,
    next_plan: schedule ? tier(schedule.metadata) : null,
  };
  return { live: sorted.filter((one) => weight(one) > 0).length, state };
}

/** The tier that follows. */
function tierOf({ past_due_ms: since, tier_now: now }, state) {
  if (!state || !["trialing", "active", "past_due"].includes(state.status)) return "free";
  if (state.status === "past_due" && billed.stripe.now() - since >= 7 * DAY) return "free";
  return state.plan ?? now;
}

/** Has the directory learn what has happened: by events alone, where none of them was lost for good, or by a night. */
async function settle(random, owners, story) {
  const { stripe, worker } = billed;
  stripe.faults.clear();
  const order = /** @type {const} */ ({ order: "shuffled", seed: random.below(1000) });
  if (!story.isLost && random.share() < 0.6) {
    story.lines.push("events alone");
    await stripe.deliver(worker, { ...order, duplicate: 2, parallel: 4 });
    await billed.minutely();
    // The queue tries again what has failed, after a quarter of a minute.
    const isSettled = () =>
      compare(owners, story).then(
        () => true,
        () => false,
      );
    await until(isSettled, "the queue", 25_000).catch(() => {});
    return;
  }
  story.lines.push("a night");
  await billed.advance(21 * HOUR);
  if (random.share() < 0.5) await stripe.deliver(worker, { ...order, drop: 0.5 });
  await billed.nightly();
  for (let minute = 0; minute < 5; minute++) await billed.minutely();
  story.isLost = false;
}

async function compare(owners, story) {
  const { stripe, worker } = billed;
  for (const { id } of owners) {
    const row = await billed.row(id);
    const [{ tier }] = await worker.sql("SELECT tier FROM tenants WHERE id = ?", id);
    const told = `${id}\n${story.lines.join("\n")}`;
    if (!row?.customer_id) {
      assert.ok(!row?.state || row.state.status === "canceled", told);
      assert.equal(tier, "free", told);
      continue;
    }
    const { live, state } = pictured(row.customer_id);
    assert.deepEqual(row.state, state, told);
    assert.ok(live <= 1, `${live} go on: ${told}`);
    assert.equal(row.past_due_ms !== null, state?.status === "past_due", told);
    assert.equal(tier, tierOf({ ...row, tier_now: tier }, state), told);
    assert.equal(row.unknown_price !== null, state !== null && WEIGHTS[state.status] > 0 && state.plan === null, told);
    assert.equal(stripe.do("GET", `/v1/customers/${row.customer_id}`).deleted, undefined, told);
  }
}

/** What may happen to an owner; the rarer stand once. */
function acts(random, foreign, story) {
  const { stripe, worker, prices } = billed;
  const answered = async (asked) => {
    const { status, text } = await asked;
    assert.ok([200, 402, 409, 503].includes(status), text);
    return status;
  };
  const mine = async (owner) => {
    const customer = await owner.customer();
    return { customer, subscription: customer && stripe.subscriptionOf(customer) };
  };
  const session = async (owner) => {
    const { customer } = await mine(owner);
    const open = customer ? stripe.sessionsOf(customer).filter(({ status }) => status === "open") : [];
    return open.length > 0 ? random.one(open) : undefined;
  };
  const lasting = [
    ["checks out", (owner) => answered(owner.checkout(random.one(PLANS)))],
    [
      "pays",
      async (owner) => {
        const open = await session(owner);
        if (!open) return "nothing";
        stripe.advance(1000);
        return stripe.complete(open, random.one(["ok", "ok", "mastercard", "declines"])).status ?? "declined";
      },
    ],
    ["changes", (owner) => answered(owner.change(random.one(PLANS)))],
    ["time passes", () => billed.advance(random.one([HOUR, DAY, 4 * DAY, 8 * DAY, 12 * DAY]))],
    [
      "delivers",
      () =>
        stripe
          .deliver(worker, { order: "shuffled", seed: random.below(1000), duplicate: 1 + random.below(2), drop: random.one([0, 0.3, 0.8]) })
          .then(({ length }) => length),
    ],
  ];
  const rare = [
    ["ends", (owner) => answered(owner.cancel(random.one(["period_end", "period_end", "now"])))],
    ["resumes", (owner) => answered(owner.resume())],
    [
      "has another card",
      async (owner) => {
        const { customer, subscription } = await mine(owner);
        return subscription && stripe.setCard(customer, random.one(["ok", "declines"]));
      },
    ],
    [
      "has a card that declines",
      async (owner) => {
        const { customer } = await mine(owner);
        return customer && stripe.cardOf(customer) && stripe.turnCard(customer, "declines");
      },
    ],
    [
      "pays an invoice",
      async (owner) => {
        const { customer } = await mine(owner);
        const open = customer && stripe.invoices(customer).find(({ status }) => status === "open");
        return open && stripe.pay(open.id).status;
      },
    ],
    [
      "has another price by the dashboard",
      async (owner) => {
        const { subscription } = await mine(owner);
        const price = random.one([...Object.values(prices), foreign]);
        const items = subscription && [{ id: subscription.items.data[0].id, price }];
        return items && stripe.do("POST", `/v1/subscriptions/${subscription.id}`, { items, proration_behavior: "none" }).status;
      },
    ],
    [
      "is ended by the dashboard",
      async (owner) => {
        const { subscription } = await mine(owner);
        return subscription && stripe.do("DELETE", `/v1/subscriptions/${subscription.id}`).status;
      },
    ],
    [
      "ends later by the dashboard",
      async (owner) => {
        const { subscription } = await mine(owner);
        const ends = subscription && { cancel_at_period_end: random.one([true, false]) };
        return ends && stripe.do("POST", `/v1/subscriptions/${subscription.id}`, ends).status;
      },
    ],
    [
      "has its schedule released by the dashboard",
      async (owner) => {
        const { subscription } = await mine(owner);
        return subscription?.schedule && stripe.do("POST", `/v1/subscription_schedules/${subscription.schedule}/release`).status;
      },
    ],
    [
      "has a second subscription by the dashboard",
      async (owner) => {
        const { customer, subscription } = await mine(owner);
        return subscription && stripe.do("POST", "/v1/subscriptions", { customer, items: [{ price: prices.pro }] }).status;
      },
    ],
    [
      "is deleted at Stripe",
      async (owner) => {
        const { customer } = await mine(owner);
        return customer && random.share() < 0.3 && stripe.do("DELETE", `/v1/customers/${customer}`).deleted;
      },
    ],
    [
      "events are taken and lost",
      async () => {
        const pending = stripe.pending();
        pending.forEach(stripe.taken);
        story.isLost ||= pending.length > 0;
      },
    ],
    ["the night", () => billed.nightly().then(() => undefined)],
    ["the minute", () => billed.minutely().then(() => undefined)],
    [
      "a fault",
      async () => {
        const kind = random.one(FAULTS);
        stripe.faults.add({ kind, skip: random.below(4) });
        return kind;
      },
    ],
  ];
  return [...lasting, ...lasting, ...lasting, ...rare];
}

for (const seed of SEEDS)
  test(`whatever happens by seed ${seed}, the directory says what Stripe says`, async () => {
    const { stripe } = billed;
    const random = dice(seed);
    const product = stripe.do("POST", "/v1/products", { name: "by hand" }).id;
    const foreign = stripe.do("POST", "/v1/prices", { product, currency: "usd", unit_amount: 777, recurring: { interval: "month" } }).id;
    const owners = await Promise.all(Array.from({ length: TENANTS }, () => payer(billed)));
    // One of them begins with nothing.
    for (const owner of owners.slice(1)) await owner.pays(random.one(PLANS));
    const story = { lines: [`seed ${seed}`], isLost: false };
    const all = acts(random, foreign, story);
    for (let round = 0; round < ROUNDS; round++) {
      for (let at = 0; at < ACTS; at++) {
        const [name, act] = random.one(all);
        const who = random.below(TENANTS);
        try {
          story.lines.push(`${who} ${name}: ${await act(owners[who])}`);
        } catch (error) {
          // What the dashboard, too, is refused.
          if (!(error instanceof StripeError)) throw new Error(story.lines.join("\n"), { cause: error });
          story.lines.push(`${who} ${name}: ${error.message}`);
        }
      }
      await settle(random, owners, story);
      await compare(owners, story);
    }
  });
