// What persons do at Stripe, and what a test compares with.
import { StripeError } from "./forms.mjs";

const LIVE = ["trialing", "active", "past_due", "unpaid", "paused", "incomplete"];
const TIERS = { starter: 9_900, pro: 29_900, enterprise: 99_900 };
/** What the portal may do, as `npm run stripe:setup` sets it up. */
const portals = (products) => ({
  portal: {
    payment_method_update: { enabled: true },
    invoice_history: { enabled: true },
    subscription_cancel: { enabled: true, mode: "at_period_end" },
    subscription_update: { enabled: false },
  },
  confirm: {
    payment_method_update: { enabled: true },
    subscription_update: { enabled: true, default_allowed_updates: ["price"], proration_behavior: "always_invoice", products },
  },
});

/** Persons of a gateway. */
export function persons({ own, world, cards, checkout, dashboard }) {
  /** Every page of a list. @returns {any[]} */
  function every(path, params = {}) {
    const found = [];
    for (let more = true; more; ) {
      const page = own("GET", path, { ...params, limit: 100, ...(found.length ? { starting_after: found.at(-1).id } : {}) });
      found.push(...page.data);
      more = page.has_more;
    }
    return found;
  }
  const subscriptions = (customer) => every("/v1/subscriptions", { customer, status: "all" });
  const live = (customer) => subscriptions(customer).filter(({ status }) => LIVE.includes(status));

  /** The card that a customer's subscription is paid by. @returns {string | undefined} */
  const cardOf = (customer) =>
    live(customer)[0]?.default_payment_method ?? own("GET", `/v1/customers/${customer}`).invoice_settings?.default_payment_method;

  return {
    /** Products and prices of the paid tiers and the portal's configurations, which `metadata[x402_edge]` names, as the setup
     * makes them; the ids of the prices. */
    catalog(amounts = TIERS) {
      const sold = [];
      const made = Object.entries(amounts).map(([tier, amount]) => {
        const product = own("POST", "/v1/products", { name: `x402-edge ${tier}`, metadata: { x402_edge_tier: tier } });
        const price = own("POST", "/v1/prices", {
          product: product.id,
          currency: "usd",
          unit_amount: amount,
          recurring: { interval: "month" },
          lookup_key: `x402_edge_${tier}_monthly`,
          metadata: { tier },
        });
        sold.push({ product: product.id, prices: [price.id] });
        return [tier, price.id];
      });
      for (const [name, features] of Object.entries(portals(sold))) dashboard.configure({ features, metadata: { x402_edge: name } });
      return Object.fromEntries(made);
    },
    /** A person pays on a session's page; the session, or `{ declined }`. @param {import("./cards.mjs").CardKind} [card] */
    complete: (session, card = "ok") => checkout.complete(session, cards, card),
    /** Checkout sessions of a customer, the newest first. */
    sessionsOf: checkout.of,
    /** A person's new card, set as the portal sets it: the customer's and their subscriptions'. Its id.
     * @param {import("./cards.mjs").CardKind} card */
    setCard(customer, card) {
      const id = cards.attach(customer, card);
      own("POST", `/v1/customers/${customer}`, { invoice_settings: { default_payment_method: id } });
      for (const one of live(customer)) own("POST", `/v1/subscriptions/${one.id}`, { default_payment_method: id });
      return id;
    },
    /** Has the card that a customer's subscription is paid by do what another kind does. */
    turnCard(customer, card) {
      const id = cardOf(customer);
      if (!id) throw new Error(`${customer} has no card`);
      cards.turn(id, card);
    },
    cardOf,
    /** A person takes their card away. */
    removeCard(customer) {
      for (const one of live(customer)) own("POST", `/v1/subscriptions/${one.id}`, { default_payment_method: "" });
      const { data } = own("GET", `/v1/customers/${customer}/payment_methods`, { limit: 100 });
      for (const { id } of data) own("POST", `/v1/payment_methods/${id}/detach`);
    },
    /** A person confirms a change on the portal's page, and authenticates where their card needs it; the subscription, or
     * `{ declined }`, which leaves it as it was. */
    confirm({ flow }) {
      const { subscription, items } = flow.subscription_update_confirm;
      const { customer } = own("GET", `/v1/subscriptions/${subscription}`);
      const change = { items, proration_behavior: "always_invoice", payment_behavior: "error_if_incomplete" };
      try {
        return cards.present(cardOf(customer), () => own("POST", `/v1/subscriptions/${subscription}`, change));
      } catch (error) {
        if (!(error instanceof StripeError) || error.status !== 402) throw error;
        return { declined: error.body.error };
      }
    },
    /** A paused subscription goes on, paid by a new card; the subscription.
     * @param {{ id: string, customer: string }} paused @param {import("./cards.mjs").CardKind} [card] */
    resume({ id, customer }, card = "ok") {
      const { pending_setup_intent: intent } = own("POST", `/v1/subscriptions/${id}/resume`);
      const method = cards.attach(customer, card);
      own("POST", `/v1/customers/${customer}`, { invoice_settings: { default_payment_method: method } });
      own("POST", `/v1/setup_intents/${intent}/confirm`, { payment_method: method });
      return own("GET", `/v1/subscriptions/${id}`);
    },
    /** A person, or the account's owner, pays an open invoice by the card that is there; the invoice, or a `StripeError`. */
    pay: (invoice) => own("POST", `/v1/invoices/${invoice}/pay`),
    /** All customers who are not deleted, the newest first. */
    customers: () => every("/v1/customers"),
    subscriptions,
    /** A customer's newest subscription that is not over, or their newest. */
    subscriptionOf: (customer) => live(customer)[0] ?? subscriptions(customer)[0],
    /** A customer's invoices, the newest first. */
    invoices: (customer) => every("/v1/invoices", { customer }),
    every,
    /** What Stripe says of each customer: what D1 must say in the end. */
    state: () =>
      every("/v1/customers").map((customer) => ({
        customer: customer.id,
        email: customer.email,
        tenant: customer.metadata.tenant,
        subscriptions: subscriptions(customer.id).map((one) => ({
          id: one.id,
          status: one.status,
          price: one.items.data[0]?.price.id,
          lookup_key: one.items.data[0]?.price.lookup_key,
          tier: one.items.data[0]?.price.metadata.tier,
          period: [one.items.data[0]?.current_period_start, one.items.data[0]?.current_period_end],
          trial_end: one.trial_end,
          cancel_at_period_end: one.cancel_at_period_end,
          schedule: one.schedule,
          created: one.created,
        })),
      })),
    /** What of an invoice was paid by which payments. */
    paymentsOf: (invoice) => world.hook("payments", { invoice }),
  };
}
