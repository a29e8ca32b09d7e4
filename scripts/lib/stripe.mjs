// What the service needs at Stripe, made so that a second run finds it: products, prices, what the portal may do, and the
// webhook endpoint.
import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";

/** The version that requests and events are of. */
export const VERSION = "2026-10-28.endive";

/** The events that the Worker acts on. Each leads to one reading of the customer. */
export const EVENTS = [
  "checkout.session.completed",
  "checkout.session.expired",
  "customer.deleted",
  "customer.subscription.created",
  "customer.subscription.deleted",
  "customer.subscription.paused",
  "customer.subscription.resumed",
  "customer.subscription.trial_will_end",
  "customer.subscription.updated",
  "customer.updated",
  "invoice.finalized",
  "invoice.paid",
  "invoice.payment_action_required",
  "invoice.payment_failed",
  "subscription_schedule.aborted",
  "subscription_schedule.canceled",
  "subscription_schedule.completed",
  "subscription_schedule.created",
  "subscription_schedule.released",
  "subscription_schedule.updated",
];

/** What marks the webhook endpoints that were made here. */
const MARK = "webhooks";

/** What no further try would mend; its message is for the operator. */
export class Refused extends Error {}

const isLoopback = ({ hostname }) => ["localhost", "127.0.0.1", "[::1]"].includes(hostname);

/** An address of `https`, or of `http` on this machine. */
export function address(text, what) {
  const url = URL.canParse(text ?? "") ? new URL(text) : undefined;
  if (!url || !(url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url)))) {
    throw new Refused(`${what} must be an https address, not '${text}'`);
  }
  return url;
}

/** Whether a secret key is of Stripe's test or live mode. */
export function mode(key) {
  const [, found] = /^(?:sk|rk)_(test|live)_\w+$/.exec(key ?? "") ?? [];
  if (!found) throw new Refused("STRIPE_SECRET_KEY must hold a secret key of Stripe's: sk_test_… or sk_live_…");
  return found;
}

/** Pairs of a form: `items[0][price]`. */
function* pairs(value, name = "") {
  if (typeof value !== "object" || value === null) yield [name, String(value ?? "")];
  else for (const [inner, one] of Object.entries(value)) yield* pairs(one, name ? `${name}[${inner}]` : inner);
}

/** Asks Stripe. A request that is limited or does not arrive is asked again with the same key: it is done once. */
export function client({ api, key }) {
  const base = address(api, "STRIPE_API_URL");
  return async function ask(method, path, params = {}) {
    const form = new URLSearchParams([...pairs(params)]).toString();
    const isPost = method === "POST";
    const url = new URL(isPost || !form ? path : `${path}?${form}`, base);
    const headers = { authorization: `Bearer ${key}`, "stripe-version": VERSION };
    if (isPost) Object.assign(headers, { "idempotency-key": randomUUID(), "content-type": "application/x-www-form-urlencoded" });
    for (let attempt = 1; ; attempt++) {
      let answer;
      try {
        answer = await fetch(url, { method, headers, body: isPost ? form : undefined, signal: AbortSignal.timeout(30_000) });
        const body = await answer.json();
        if (answer.ok) return body;
        if (answer.status !== 429 || attempt === 3) throw new Refused(`Stripe refuses ${method} ${path}: ${body.error?.message}`);
      } catch (error) {
        if (error instanceof Refused) throw error;
        if (attempt === 3) throw new Refused(`Stripe does not answer ${method} ${path}: ${error.cause?.message ?? error.message}`);
      }
      await wait(attempt * 500);
    }
  };
}

/** Every object of a list. @returns {Promise<any[]>} */
async function every(ask, path, params = {}) {
  const found = [];
  for (let more = true; more; ) {
    const page = await ask("GET", path, { ...params, limit: 100, ...(found.length ? { starting_after: found.at(-1).id } : {}) });
    found.push(...page.data);
    more = page.has_more;
  }
  return found;
}

/** Whether an object has all that another says; of lists, whether they have the same in any order. */
function holds(object, wanted) {
  if (typeof wanted !== "object" || wanted === null) return object === wanted;
  if (Array.isArray(wanted)) {
    return object?.length === wanted.length && wanted.every((one) => object.some((other) => holds(other, one)));
  }
  return Object.entries(wanted).every(([name, one]) => holds(object?.[name], one));
}

/** What is done, told line by line; nothing is done when it is only tried. */
function deeds(ask, say, isTried) {
  const tell = (done, would, what) => say(`${(isTried ? would : done).padEnd(isTried ? 12 : 8)} ${what}`);
  return {
    found: (what) => say(`${"found".padEnd(isTried ? 12 : 8)} ${what}`),
    /** Makes an object; a name stands for it when it is only tried. */
    async make(what, path, params) {
      const made = isTried ? { id: "(new)", ...params } : await ask("POST", path, params);
      tell("made", "would make", `${what} ${made.id}`);
      return made;
    },
    async change(what, path, params) {
      if (!isTried) await ask("POST", path, params);
      tell("changed", "would change", what);
    },
  };
}

/** The product of a tier; the oldest that is active, where somebody made several. */
async function product(products, tier, { make, change, found }) {
  const all = products.filter(({ metadata }) => metadata.x402_edge_tier === tier).sort((a, b) => a.created - b.created);
  const kept = all.find(({ active }) => active) ?? all[0];
  const what = `product of ${tier}`;
  if (!kept) {
    const name = `x402-edge ${tier[0].toUpperCase()}${tier.slice(1)}`;
    return make(what, "/v1/products", { name, metadata: { x402_edge_tier: tier } });
  }
  if (kept.active) found(`${what} ${kept.id}`);
  else await change(`${what} ${kept.id}: active again`, `/v1/products/${kept.id}`, { active: true });
  return kept;
}

/** The monthly price of a tier. A price's amount cannot be changed: another takes its lookup key, and it is deactivated. */
async function price(ask, { tier, price_usd: usd }, currency, { id: owner }, { make, change, found }) {
  const key = `x402_edge_${tier}_monthly`;
  const [kept] = (await ask("GET", "/v1/prices", { lookup_keys: [key], limit: 1 })).data;
  const terms = { currency, unit_amount: cents(usd), product: owner, recurring: { interval: "month" } };
  const what = `price of ${tier}, ${usd} ${currency.toUpperCase()} a month,`;
  const metadata = { tier };
  const isKept = kept && holds(kept, terms) && kept.recurring.interval_count === 1;
  if (!isKept) {
    const replaced = kept ? { transfer_lookup_key: true, metadata: { ...metadata, x402_edge_replaces: kept.id } } : { metadata };
    const made = await make(what, "/v1/prices", { ...terms, lookup_key: key, ...replaced });
    if (kept) await retire(kept, change);
    return made;
  }
  const changes = { ...(kept.active ? {} : { active: true }), ...(kept.metadata.tier === tier ? {} : { metadata }) };
  if (Object.keys(changes).length > 0)
    await change(`${what} ${kept.id}: ${Object.keys(changes).join(" and ")}`, `/v1/prices/${kept.id}`, changes);
  else found(`${what} ${kept.id}`);
  // A run that ended between the two steps.
  const { x402_edge_replaces: before } = kept.metadata;
  const old = before && (await ask("GET", `/v1/prices/${before}`));
  if (old?.active) await retire(old, change);
  return kept;
}

const retire = ({ id, unit_amount: amount, currency }, change) =>
  change(
    `price ${id}, ${amount / 100} ${currency.toUpperCase()}: deactivated. Subscriptions that pay it go on to pay it`,
    `/v1/prices/${id}`,
    { active: false },
  );

function cents(usd) {
  const amount = Math.round(usd * 100);
  if (!(amount > 0) || Math.abs(amount - usd * 100) > 1e-6) throw new Refused(`a price of ${usd} is no amount of whole cents`);
  return amount;
}

/** What the portal may do: `portal` for a person who looks after their billing, and what stands on their invoices; `confirm` only
 * for the page on which a change is confirmed that the Worker has begun, which Stripe refuses where changes are not enabled.
 * Somebody who changes the plan there all the same has no money back for a smaller one: it waits for the end of the period. */
const portals = (owned) => ({
  portal: {
    customer_update: { enabled: true, allowed_updates: ["email", "name", "address", "tax_id"] },
    payment_method_update: { enabled: true },
    invoice_history: { enabled: true },
    subscription_cancel: { enabled: true, mode: "at_period_end" },
    subscription_update: { enabled: false },
  },
  confirm: {
    payment_method_update: { enabled: true },
    invoice_history: { enabled: false },
    subscription_cancel: { enabled: false },
    subscription_update: {
      enabled: true,
      default_allowed_updates: ["price"],
      proration_behavior: "always_invoice",
      schedule_at_period_end: { conditions: [{ type: "decreasing_item_amount" }] },
      products: owned.map(({ product: one, price: its }) => ({ product: one.id, prices: [its.id] })),
    },
  },
});

async function portal(ask, owned, { make, change, found }) {
  const path = "/v1/billing_portal/configurations";
  const all = await every(ask, path, { active: true, expand: ["data.features.subscription_update.products"] });
  for (const [name, features] of Object.entries(portals(owned))) {
    const kept = all.find(({ metadata }) => metadata?.x402_edge === name);
    const what = `portal configuration '${name}'`;
    if (!kept) await make(what, path, { features, metadata: { x402_edge: name } });
    else if (holds(kept.features, features)) found(`${what} ${kept.id}`);
    else await change(`${what} ${kept.id}: features`, `${path}/${kept.id}`, { features });
  }
}

/** The webhook endpoint. Its version is for ever: one of another is replaced. */
async function endpoint(ask, url, { make, change, found }, say) {
  const path = "/v1/webhook_endpoints";
  const everywhere = await every(ask, path);
  const all = everywhere.filter((one) => one.url === url);
  const own = all.filter(({ api_version: version }) => version === VERSION);
  const kept = own.find(({ status }) => status === "enabled") ?? own[0];
  const what = `webhook endpoint ${url}`;
  if (!kept) {
    const made = await make(what, path, { url, api_version: VERSION, enabled_events: EVENTS, metadata: { x402_edge: MARK } });
    if (made.secret) {
      say(`         its secret, which Stripe shows only now: ${made.secret}`);
      say("         `npx wrangler secret put STRIPE_WEBHOOK_SECRET --env …` takes it; until then its events are refused and sent again");
    }
  } else {
    const isSame = [...kept.enabled_events].sort().join() === EVENTS.join();
    const isOn = kept.status === "enabled";
    const changes = { ...(isSame ? {} : { enabled_events: EVENTS }), ...(isOn ? {} : { disabled: false }) };
    const told = [isSame ? [] : "its events", isOn ? [] : "enabled again"].flat().join(", ");
    if (told) await change(`${what} ${kept.id}: ${told}`, `${path}/${kept.id}`, changes);
    else found(`${what} ${kept.id}`);
  }
  for (const { id, status, api_version: version } of all) {
    if (id === kept?.id || status !== "enabled") continue;
    const why = version === VERSION ? "there is another" : `its version, ${version ?? "the account's own"}, cannot be changed`;
    await change(`${what} ${id}: disabled, since ${why}`, `${path}/${id}`, { disabled: true });
  }
  // That of a service which has moved: only its operator knows whether there is still one.
  const others = everywhere.filter((one) => one.url !== url && one.metadata?.x402_edge === MARK && one.status === "enabled");
  for (const { id, url: other } of others) {
    say(`note: webhook endpoint ${other} ${id} is of another address, and gets every event too. Disable it if nothing is there any more`);
  }
}

/** What is chosen in the dashboard alone. */
const DASHBOARD = [
  "note: what the API cannot set is chosen in Stripe's dashboard, for each mode:",
  "      Settings, Business, Customer emails: mails about successful payments and refunds, without which nobody gets receipts",
  "      Settings, Billing, Subscriptions and emails: mails about finalized invoices; and if all retries of a charge fail,",
  "      'mark the subscription as unpaid', with which a plan comes back when its invoice is paid",
];

/**
 * Makes what is missing and changes what differs.
 * @param {{ api: string, key: string, url: string, pricing: { currency: string, plans: { tier: string, price_usd: number }[] },
 *   isTried?: boolean, say: (line: string) => void }} wanted `url` is the service's own, `isTried` only tells
 */
export async function setUpStripe({ api, key, url, pricing, isTried = false, say }) {
  const hook = new URL("/v1/webhooks/stripe", address(url, "--url")).href;
  const ask = client({ api, key });
  say(`Stripe's ${mode(key)} mode, version ${VERSION}${isTried ? "; nothing is changed" : ""}`);
  const doing = deeds(ask, say, isTried);
  const products = await every(ask, "/v1/products");
  const owned = [];
  for (const plan of pricing.plans.filter(({ price_usd: usd }) => usd > 0)) {
    const one = await product(products, plan.tier, doing);
    owned.push({ product: one, price: await price(ask, plan, pricing.currency, one, doing) });
  }
  await portal(ask, owned, doing);
  await endpoint(ask, hook, doing, say);
  for (const line of DASHBOARD) say(line);
  if (mode(key) === "test") say("note: in test mode nobody pays. Production wants another run, with a live key: sk_live_…");
}
