// What an account sets up at Stripe and the world lacks: portal configurations and sessions, and webhook endpoints.
import { StripeError, missing, page } from "./forms.mjs";

/** A portal configuration's features that a request leaves out. */
const FEATURES = {
  customer_update: { allowed_updates: [], enabled: false },
  invoice_history: { enabled: false },
  payment_method_update: { enabled: false, payment_method_configuration: null },
  subscription_cancel: {
    cancellation_reason: { enabled: false, options: [] },
    enabled: false,
    mode: "at_period_end",
    proration_behavior: "none",
  },
  subscription_update: {
    billing_cycle_anchor: null,
    default_allowed_updates: [],
    enabled: false,
    products: null,
    proration_behavior: "none",
    schedule_at_period_end: { conditions: [] },
    trial_update_behavior: "end_trial",
  },
};

/** An object with those members that another says, also inside. */
function merged(base, more) {
  if (typeof base !== "object" || base === null || Array.isArray(base) || typeof more !== "object" || more === null) return more ?? base;
  const names = new Set([...Object.keys(base), ...Object.keys(more)]);
  return Object.fromEntries([...names].map((name) => [name, name in more ? merged(base[name], more[name]) : base[name]]));
}

/** Metadata with a change: an empty text takes a key away. */
const changedMetadata = (old, more = {}) =>
  Object.fromEntries(Object.entries({ ...old, ...more }).filter(([, value]) => value !== "" && value !== null));

/** Portal and webhook endpoints of a gateway. */
export function dashboard({ own, now, id }) {
  const seconds = () => Math.floor(now() / 1000);
  /** @type {any[]} */
  const configurations = [];
  /** @type {any[]} */
  const portals = [];
  /** Endpoints with their secrets, the newest first. @type {any[]} */
  const endpoints = [];
  const find = (all, what, name) => {
    const found = all.find((one) => one.id === name);
    if (!found) throw missing(what, name);
    return found;
  };

  /** A configuration as it is answered: its products only where they are expanded. */
  function configured(configuration, { expand = [] }) {
    if (expand.some((link) => link.endsWith("features.subscription_update.products"))) return configuration;
    const { products: _, ...update } = configuration.features.subscription_update;
    return { ...configuration, features: { ...configuration.features, subscription_update: update } };
  }

  /** The products of a portal, as they are answered. */
  const withQuantity = ({ adjustable_quantity: quantity = {}, ...more }) => ({
    ...more,
    adjustable_quantity: { enabled: false, maximum: null, minimum: 1, ...quantity },
  });

  function configure(params, name) {
    const old = name ? find(configurations, "configuration", name) : undefined;
    const made = old ?? { id: id("bpc_"), object: "billing_portal.configuration", created: seconds() };
    Object.assign(made, {
      active: params.active ?? old?.active ?? true,
      application: null,
      business_profile: merged(
        old?.business_profile ?? { headline: null, privacy_policy_url: null, terms_of_service_url: null },
        params.business_profile,
      ),
      default_return_url: params.default_return_url ?? old?.default_return_url ?? null,
      features: merged(old?.features ?? FEATURES, params.features),
      is_default: old?.is_default ?? false,
      livemode: false,
      login_page: { enabled: params.login_page?.enabled ?? old?.login_page.enabled ?? false, url: null },
      metadata: changedMetadata(old?.metadata, params.metadata),
      name: params.name ?? old?.name ?? null,
      updated: seconds(),
    });
    const { subscription_update: update } = made.features;
    update.products = update.products ? update.products.map(withQuantity) : null;
    if (!old) configurations.unshift(made);
    return made;
  }

  function openPortal({ customer, return_url = null, configuration, flow_data: flow }) {
    if (own("GET", `/v1/customers/${customer}`).deleted) throw missing("customer", customer);
    const chosen = configuration
      ? find(configurations, "configuration", configuration)
      : configurations.find(({ is_default: standard }) => standard);
    if (!chosen) {
      const message =
        "No configuration provided and your test mode default configuration has not been created. Provide a configuration or create your default by saving your customer portal settings in test mode at https://dashboard.stripe.com/test/settings/billing/portal.";
      throw new StripeError(400, { message });
    }
    if (flow) allowed(flow, chosen.features);
    const own_name = id("bps_");
    const made = {
      id: own_name,
      object: "billing_portal.session",
      configuration: chosen.id,
      created: seconds(),
      customer,
      customer_account: null,
      flow: flow ? asFlow(flow) : null,
      livemode: false,
      locale: null,
      on_behalf_of: null,
      return_url,
      url: `https://billing.stripe.com/p/session/test_${own_name.slice(4)}${flow ? "/flow" : ""}`,
    };
    portals.unshift(made);
    return made;
  }

  /** Refuses to lead to what a configuration does not let a person do. */
  function allowed({ type, subscription_update_confirm: confirm }, { subscription_update: update, subscription_cancel: cancel }) {
    const refuse = (message) => {
      throw new StripeError(400, { message });
    };
    if (type.startsWith("subscription_update") && !update.enabled) {
      refuse("This subscription cannot be updated because the subscription update feature in the portal configuration is disabled.");
    }
    if (type === "subscription_cancel" && !cancel.enabled) {
      refuse("This subscription cannot be canceled because the subscription cancel feature in the portal configuration is disabled.");
    }
    const offered = (update.products ?? []).flatMap(({ prices }) => prices);
    for (const { price } of confirm?.items ?? []) {
      if (price && !offered.includes(price)) refuse(`The price ${price} is not among the products of the portal configuration.`);
    }
  }

  /** What a session leads to, as it is answered. */
  function asFlow({
    type,
    after_completion: after,
    subscription_cancel: cancel,
    subscription_update: update,
    subscription_update_confirm: confirm,
  }) {
    for (const { subscription } of [cancel, update, confirm].filter(Boolean)) own("GET", `/v1/subscriptions/${subscription}`);
    return {
      type,
      after_completion: { hosted_confirmation: null, redirect: null, type: "portal_homepage", ...after },
      customer_update: null,
      subscription_cancel: cancel ? { retention: null, ...cancel } : null,
      subscription_update: update ?? null,
      subscription_update_confirm: confirm
        ? {
            discounts: null,
            subscription: confirm.subscription,
            items: confirm.items.map(({ id: item, price = null, quantity = 1 }) => ({ id: item, price, quantity })),
          }
        : null,
    };
  }

  function register({ url, enabled_events, api_version = /** @type {string | null} */ (null), description = null, metadata = {} }) {
    if (endpoints.length >= 16) throw new StripeError(400, { message: "You have reached the maximum of 16 test webhook endpoints." });
    const made = {
      id: id("we_"),
      object: "webhook_endpoint",
      api_version,
      application: null,
      created: seconds(),
      description,
      enabled_events,
      livemode: false,
      metadata,
      status: "enabled",
      url,
      secret: `whsec_${id("", 32)}`,
    };
    endpoints.unshift(made);
    return made;
  }

  /** The secret is only told when an endpoint is made. */
  const shown = ({ secret: _, ...endpoint }) => endpoint;

  function change(params, name) {
    const endpoint = find(endpoints, "webhook endpoint", name);
    const { disabled, metadata, ...rest } = params;
    Object.assign(endpoint, rest, { metadata: changedMetadata(endpoint.metadata, metadata) });
    if (disabled !== undefined) endpoint.status = disabled ? "disabled" : "enabled";
    return shown(endpoint);
  }

  function remove(name) {
    endpoints.splice(endpoints.indexOf(find(endpoints, "webhook endpoint", name)), 1);
    return { id: name, object: "webhook_endpoint", deleted: true };
  }

  const listed = ({ active, is_default: standard, expand }) =>
    configurations
      .filter((one) => (active === undefined || one.active === active) && (standard === undefined || one.is_default === standard))
      .map((one) => configured(one, { expand }));

  const CONFIGURATIONS = "/v1/billing_portal/configurations";
  return {
    routes: [
      ["POST", /^\/v1\/billing_portal\/configurations$/, (params) => configured(configure(params), params)],
      ["GET", /^\/v1\/billing_portal\/configurations$/, (params) => page(listed(params), params, CONFIGURATIONS)],
      [
        "GET",
        /^\/v1\/billing_portal\/configurations\/([^/]+)$/,
        (params, name) => configured(find(configurations, "configuration", name), params),
      ],
      ["POST", /^\/v1\/billing_portal\/configurations\/([^/]+)$/, (params, name) => configured(configure(params, name), params)],
      ["POST", /^\/v1\/billing_portal\/sessions$/, openPortal],
      ["POST", /^\/v1\/webhook_endpoints$/, register],
      ["GET", /^\/v1\/webhook_endpoints$/, (params) => page(endpoints.map(shown), params, "/v1/webhook_endpoints")],
      ["GET", /^\/v1\/webhook_endpoints\/([^/]+)$/, (_, name) => shown(find(endpoints, "webhook endpoint", name))],
      ["POST", /^\/v1\/webhook_endpoints\/([^/]+)$/, change],
      ["DELETE", /^\/v1\/webhook_endpoints\/([^/]+)$/, (_, name) => remove(name)],
    ],
    configure,
    register,
    portals,
    endpoints,
    clear() {
      for (const all of [configurations, portals, endpoints]) all.length = 0;
    },
  };
}
