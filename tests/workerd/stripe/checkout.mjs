// Checkout sessions, which the world lacks. What pays one is the test: `complete` is the page on which a person pays.
import { StripeError, missing, page } from "./forms.mjs";

const DAY = 86_400;
const HALF_HOUR = 1800;

/** Members of a session that none of ours uses, as Stripe answers them. */
const EMPTY = {
  adaptive_pricing: null,
  after_expiration: null,
  billing_address_collection: null,
  client_secret: null,
  collected_information: null,
  consent: null,
  consent_collection: null,
  currency_conversion: null,
  custom_fields: [],
  custom_text: { after_submit: null, shipping_address: null, submit: null, terms_of_service_acceptance: null },
  customer_account: null,
  customer_creation: null,
  discounts: [],
  integration_identifier: null,
  invoice_creation: null,
  locale: null,
  managed_payments: null,
  origin_context: null,
  payment_intent: null,
  payment_link: null,
  payment_method_configuration_details: null,
  payment_method_options: { card: { request_three_d_secure: "automatic" } },
  payment_method_types: ["card"],
  permissions: null,
  phone_number_collection: { enabled: false },
  recovered_from: null,
  saved_payment_method_options: { allow_redisplay_filters: ["always"], payment_method_remove: "disabled", payment_method_save: null },
  setup_intent: null,
  shipping_address_collection: null,
  shipping_cost: null,
  shipping_options: [],
  submit_type: null,
  wallet_options: null,
};

/** Checkout of a gateway. */
export function checkout({ own, emit, now, id }) {
  /** Sessions, the newest first. @type {any[]} */
  const sessions = [];
  const seconds = () => Math.floor(now() / 1000);
  /** What a session will make of itself; Stripe does not show it. @type {Map<string, any>} */
  const wishes = new Map();

  function find(name) {
    const session = sessions.find((one) => one.id === name);
    if (!session) throw missing("checkout.session", name);
    return session;
  }

  function create(params) {
    if (params.mode !== "subscription") throw new Error("only subscriptions are played");
    const customer = own("GET", `/v1/customers/${params.customer}`);
    if (customer.deleted) throw missing("customer", params.customer);
    if (params.automatic_tax?.enabled && !customer.address && params.customer_update?.address !== "auto") {
      const message =
        "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid address to the Customer or set either `customer_update[address]` to 'auto' or `customer_update[shipping]` to 'auto' to save the address entered in Checkout to the Customer.";
      throw new StripeError(400, { message });
    }
    const expires = params.expires_at ?? seconds() + DAY;
    if (expires < seconds() + HALF_HOUR - 60 || expires > seconds() + DAY + 60) {
      const message = "The `expires_at` timestamp must be less than 24 hours and at least 30 minutes from Checkout Session creation.";
      throw new StripeError(400, { param: "expires_at", message });
    }
    if (params.line_items?.length !== 1) throw new Error("one line is played");
    const [{ price, quantity = 1 }] = params.line_items;
    const { unit_amount: unit, currency, active } = own("GET", `/v1/prices/${price}`);
    const message = "The price specified is inactive. This field only accepts active prices.";
    if (!active) throw new StripeError(400, { param: "line_items[0][price]", message });
    const trial = params.subscription_data?.trial_period_days ?? 0;
    const amount = trial > 0 ? 0 : unit * quantity;
    const name = id("cs_test_", 58);
    const session = {
      id: name,
      object: "checkout.session",
      ...EMPTY,
      allow_promotion_codes: params.allow_promotion_codes ?? null,
      amount_subtotal: amount,
      amount_total: amount,
      automatic_tax: {
        enabled: params.automatic_tax?.enabled ?? false,
        liability: params.automatic_tax?.enabled ? { type: "self" } : null,
        provider: null,
        status: params.automatic_tax?.enabled ? "requires_location_inputs" : null,
      },
      cancel_url: params.cancel_url ?? null,
      client_reference_id: params.client_reference_id ?? null,
      created: seconds(),
      currency,
      customer: params.customer,
      customer_details: { address: null, email: customer.email, name: customer.name, phone: null, tax_exempt: "none", tax_ids: null },
      customer_email: null,
      expires_at: expires,
      invoice: null,
      livemode: false,
      metadata: params.metadata ?? {},
      mode: params.mode,
      payment_method_collection: params.payment_method_collection ?? "always",
      payment_status: "unpaid",
      status: "open",
      subscription: null,
      success_url: params.success_url ?? null,
      total_details: { amount_discount: 0, amount_shipping: 0, amount_tax: 0 },
      ui_mode: params.ui_mode ?? "hosted_page",
      url: `https://checkout.stripe.com/c/pay/${name}#fidnandhYHdWcXxpYCc`,
    };
    sessions.unshift(session);
    wishes.set(name, { price, quantity, data: params.subscription_data ?? {} });
    return session;
  }

  function expire(name) {
    const session = find(name);
    if (session.status !== "open") {
      const message = `Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of \`${session.status}\`.`;
      throw new StripeError(400, { message });
    }
    Object.assign(session, { status: "expired", url: null });
    emit("checkout.session.expired", session);
    return session;
  }

  /** A person pays on the page by a card; the session, or what the page tells them: `{ declined }`, which leaves it open.
   * A card that needs the customer gets them here. */
  function complete({ id: name }, cards, kind) {
    const session = find(name);
    if (session.status !== "open") return { declined: { code: "checkout_session_not_open", message: session.status } };
    const { price, quantity, data } = wishes.get(name);
    let card;
    try {
      card = cards.attach(session.customer, kind);
      const { metadata, trial_period_days, trial_settings } = data;
      const wanted = {
        customer: session.customer,
        items: [{ price, quantity }],
        default_payment_method: card,
        payment_behavior: "error_if_incomplete",
        metadata,
        trial_period_days,
        trial_settings,
      };
      const subscription = cards.present(card, () => own("POST", "/v1/subscriptions", wanted));
      Object.assign(session, {
        status: "complete",
        url: null,
        // "The payment is delayed to a future date", as the document says of this status.
        payment_status: trial_period_days ? "no_payment_required" : "paid",
        subscription: subscription.id,
        invoice: subscription.latest_invoice,
      });
      if (session.automatic_tax.enabled) session.automatic_tax.status = "complete";
    } catch (error) {
      if (!(error instanceof StripeError) || error.status !== 402) throw error;
      if (card) own("POST", `/v1/payment_methods/${card}/detach`);
      return { declined: error.body.error };
    }
    emit("checkout.session.completed", session);
    return session;
  }

  const listed = ({ customer, status, subscription, created }) =>
    sessions.filter(
      (one) =>
        (!customer || one.customer === customer) &&
        (!status || one.status === status) &&
        (!subscription || one.subscription === subscription) &&
        (!created || one.created >= (created.gte ?? 0)),
    );

  return {
    routes: [
      ["POST", /^\/v1\/checkout\/sessions$/, create],
      ["GET", /^\/v1\/checkout\/sessions$/, (params) => page(listed(params), params, "/v1/checkout/sessions")],
      ["GET", /^\/v1\/checkout\/sessions\/([^/]+)$/, (_, name) => find(name)],
      ["POST", /^\/v1\/checkout\/sessions\/([^/]+)\/expire$/, (_, name) => expire(name)],
    ],
    complete,
    /** When the next open session expires, and what has it do so. */
    due() {
      const [first] = sessions.filter(({ status }) => status === "open").sort((a, b) => a.expires_at - b.expires_at);
      return first && { at: first.expires_at * 1000, step: () => expire(first.id) };
    },
    /** Sessions of a customer, the newest first. */
    of: (customer) => sessions.filter((one) => one.customer === customer),
    clear() {
      sessions.length = 0;
      wishes.clear();
    },
  };
}
