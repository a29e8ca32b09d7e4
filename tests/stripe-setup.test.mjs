// What `npm run stripe:setup` makes at Stripe, against the Stripe that tests play.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { EVENTS, VERSION, setUpStripe } from "../scripts/lib/stripe.mjs";
import { startStripe } from "./workerd/stripe/gateway.mjs";

const ROOT = join(import.meta.dirname, "..");
const URL_OF_SERVICE = "https://pay.example";
const HOOK = `${URL_OF_SERVICE}/v1/webhooks/stripe`;
const PRICING = {
  currency: "usd",
  plans: [
    { tier: "free", price_usd: 0 },
    { tier: "starter", price_usd: 99 },
    { tier: "pro", price_usd: 299 },
  ],
};

let stripe;
let server;
before(async () => {
  stripe = await startStripe({ endpoint: null });
  server = await stripe.serve();
});
beforeEach(() => stripe.reset());
after(async () => {
  await server.close();
  stripe.stop();
});

/** A run; what it told, by the first word of each line. */
async function run({ pricing = PRICING, url = URL_OF_SERVICE, isTried = false } = {}) {
  /** @type {string[]} */
  const lines = [];
  await setUpStripe({ api: server.url, key: stripe.key, url, pricing, isTried, say: (line) => lines.push(line) });
  const count = (word) => lines.filter((line) => line.startsWith(word)).length;
  return { lines, text: lines.join("\n"), counts: [count("made"), count("changed"), count("found")] };
}

const all = (path, params = {}) => stripe.every(path, params);
const priceOf = (tier) => stripe.do("GET", "/v1/prices", { lookup_keys: [`x402_edge_${tier}_monthly`] }).data[0];
const configurationOf = (use) => all("/v1/billing_portal/configurations").find(({ metadata }) => metadata.x402_edge === use);
/** Requests that change something, since the last question. */
const changes = () => stripe.asked.splice(0).filter(({ method }) => method !== "GET");

test("a first run makes everything, a second finds it", async () => {
  const first = await run();
  assert.deepEqual(first.counts, [7, 0, 0], first.text);
  const [endpoint] = stripe.endpoints;
  assert.deepEqual([endpoint.url, endpoint.api_version, endpoint.enabled_events], [HOOK, VERSION, EVENTS]);
  assert.ok(first.text.includes(endpoint.secret) && first.text.includes("STRIPE_WEBHOOK_SECRET"));
  assert.ok(first.text.includes("test mode") && !first.text.includes(stripe.key));
  for (const { tier, price_usd: usd } of PRICING.plans.slice(1)) {
    const { unit_amount: amount, metadata, recurring, active, product } = priceOf(tier);
    assert.deepEqual([amount, metadata, recurring.interval, active], [usd * 100, { tier }, "month", true]);
    assert.deepEqual(stripe.do("GET", `/v1/products/${product}`).metadata, { x402_edge_tier: tier });
  }
  const features = Object.fromEntries(
    all("/v1/billing_portal/configurations").map(({ metadata, features: its }) => [
      metadata.x402_edge,
      Object.entries(its).flatMap(([name, { enabled }]) => (enabled ? name : [])),
    ]),
  );
  assert.deepEqual(features, {
    portal: ["customer_update", "invoice_history", "payment_method_update", "subscription_cancel"],
    confirm: ["payment_method_update", "subscription_update"],
  });
  const [confirm, portal] = ["confirm", "portal"].map(configurationOf);
  assert.deepEqual(portal.features.customer_update.allowed_updates, ["email", "name", "address", "tax_id"]);
  // Who changes the plan on that page all the same gets nothing back for a smaller one.
  assert.deepEqual(confirm.features.subscription_update.schedule_at_period_end, { conditions: [{ type: "decreasing_item_amount" }] });
  // What the API does not set is told.
  for (const told of [/Customer emails/, /mark the subscription as unpaid/, /in test mode nobody pays/]) assert.match(first.text, told);
  changes();
  const second = await run();
  assert.deepEqual([second.counts, changes()], [[0, 0, 7], []], second.text);
  assert.ok(!second.text.includes(endpoint.secret));
});

test("a run that is tried tells all and does nothing", async () => {
  const { text, lines } = await run({ isTried: true });
  assert.equal(lines.filter((line) => line.startsWith("would make")).length, 7, text);
  assert.deepEqual([changes(), all("/v1/products")], [[], []]);
});

test("a price that differs gets a successor, which takes its key", async () => {
  await run();
  const before = priceOf("pro");
  const dearer = { ...PRICING, plans: [...PRICING.plans.slice(0, 2), { tier: "pro", price_usd: 349 }] };
  const { counts, text } = await run({ pricing: dearer });
  const now = priceOf("pro");
  // The page that confirms a change offers the new price.
  assert.deepEqual(counts, [1, 2, 5], text);
  assert.deepEqual([now.unit_amount, now.metadata.tier, now.product], [34_900, "pro", before.product]);
  const old = stripe.do("GET", `/v1/prices/${before.id}`);
  assert.deepEqual([old.active, old.lookup_key, old.metadata.tier], [false, null, "pro"]);
  assert.deepEqual((await run({ pricing: dearer })).counts, [0, 0, 7]);
  // A run that ended between the two steps is finished by the next.
  stripe.do("POST", `/v1/prices/${before.id}`, { active: true });
  assert.deepEqual((await run({ pricing: dearer })).counts, [0, 1, 7]);
  assert.equal(stripe.do("GET", `/v1/prices/${before.id}`).active, false);
});

test("what somebody has changed by hand is set again", async () => {
  await run();
  const [{ id }] = stripe.endpoints;
  stripe.do("POST", `/v1/webhook_endpoints/${id}`, { enabled_events: ["invoice.paid"], disabled: true });
  stripe.do("POST", `/v1/prices/${priceOf("starter").id}`, { active: false, metadata: { tier: "pro" } });
  const [configuration] = all("/v1/billing_portal/configurations").filter(({ metadata }) => metadata.x402_edge === "portal");
  stripe.do("POST", `/v1/billing_portal/configurations/${configuration.id}`, { features: { subscription_update: { enabled: true } } });
  const [product] = all("/v1/products");
  stripe.do("POST", `/v1/products/${product.id}`, { active: false, name: "A name of the owner's" });
  const { counts, text } = await run();
  assert.deepEqual(counts, [0, 4, 3], text);
  assert.deepEqual([stripe.endpoints[0].enabled_events, stripe.endpoints[0].status], [EVENTS, "enabled"]);
  assert.deepEqual([priceOf("starter").active, priceOf("starter").metadata.tier], [true, "starter"]);
  assert.equal(stripe.do("GET", `/v1/products/${product.id}`).name, "A name of the owner's");
  assert.deepEqual((await run()).counts, [0, 0, 7]);
});

test("configurations of the portal that a run before has made are brought up to date", async () => {
  await run();
  const off = { customer_update: { enabled: false, allowed_updates: [] } };
  stripe.do("POST", `/v1/billing_portal/configurations/${configurationOf("portal").id}`, { features: off });
  const update = { enabled: true, schedule_at_period_end: { conditions: [] } };
  stripe.do("POST", `/v1/billing_portal/configurations/${configurationOf("confirm").id}`, { features: { subscription_update: update } });
  assert.deepEqual((await run()).counts, [0, 2, 5]);
  assert.equal(configurationOf("portal").features.customer_update.enabled, true);
  // In whatever order Stripe has them.
  const turned = { enabled: true, allowed_updates: ["tax_id", "address", "name", "email"] };
  stripe.do("POST", `/v1/billing_portal/configurations/${configurationOf("portal").id}`, { features: { customer_update: turned } });
  assert.deepEqual((await run()).counts, [0, 0, 7]);
});

test("an endpoint of the address that the service had before is named, and left alone", async () => {
  await run({ url: "https://old.example" });
  const [old] = stripe.endpoints;
  const { counts, text } = await run();
  assert.deepEqual(counts, [1, 0, 6], text);
  assert.match(text, new RegExp(`^note: webhook endpoint https://old\\.example/v1/webhooks/stripe ${old.id} .*Disable it`, "m"));
  assert.equal(stripe.endpoints.find(({ id }) => id === old.id).status, "enabled");
  stripe.do("POST", `/v1/webhook_endpoints/${old.id}`, { disabled: true });
  assert.ok(!(await run()).text.includes("old.example"));
});

test("an endpoint of another version is replaced, one of another address is left alone", async () => {
  const old = stripe.do("POST", "/v1/webhook_endpoints", { url: HOOK, enabled_events: ["*"], api_version: "2026-08-26.dahlia" });
  const other = stripe.do("POST", "/v1/webhook_endpoints", { url: "https://other.example/hook", enabled_events: ["*"] });
  const { counts, text } = await run();
  assert.deepEqual(counts, [7, 1, 0], text);
  assert.match(text, /2026-08-26\.dahlia, cannot be changed/);
  const statuses = Object.fromEntries(stripe.endpoints.map(({ id, status }) => [id, status]));
  assert.deepEqual([statuses[old.id], statuses[other.id], stripe.endpoints[0].api_version], ["disabled", "enabled", VERSION]);
  assert.deepEqual((await run()).counts, [0, 0, 7]);
});

test("a request that is limited is asked again and done once", async () => {
  stripe.faults.add({ kind: "limited", method: "POST", path: "/v1/products" });
  stripe.faults.add({ kind: "lost", method: "POST", path: "/v1/prices" });
  assert.deepEqual((await run()).counts, [7, 0, 0]);
  assert.deepEqual([all("/v1/products").length, all("/v1/prices").length], [2, 2]);
});

/** Runs the script; its status and what it printed. @returns {Promise<{ code: number, out: string }>} */
function script(args, env = {}) {
  const { PUBLIC_URL: _, STRIPE_SECRET_KEY: __, ...rest } = process.env;
  const child = spawn(process.execPath, [join(ROOT, "scripts", "stripe-setup.mjs"), ...args], {
    env: { ...rest, STRIPE_API_URL: server.url, STRIPE_SECRET_KEY: stripe.key, ...env },
  });
  let out = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (out += chunk));
  return new Promise((resolve) => child.once("close", (code) => resolve({ code: code ?? -1, out })));
}

test("the script takes the tiers of the reference, and refuses what it cannot do before it does anything", async () => {
  const live = "sk_live_51NotOfTheTests";
  for (const [args, env, expected] of /** @type {[string[], Record<string, string>, RegExp][]} */ ([
    [["--url", URL_OF_SERVICE], { STRIPE_SECRET_KEY: "" }, /STRIPE_SECRET_KEY/],
    [["--url", URL_OF_SERVICE], { STRIPE_SECRET_KEY: "pk_test_1" }, /STRIPE_SECRET_KEY/],
    [["--url", URL_OF_SERVICE, "--test"], { STRIPE_SECRET_KEY: live }, /no live key/],
    [["--url", "http://pay.example"], {}, /https/],
    [["--url", URL_OF_SERVICE], { STRIPE_API_URL: "http://stripe.example" }, /https/],
    [[], {}, /--url/],
    [["--prod"], {}, /--prod/],
  ])) {
    const { code, out } = await script(args, env);
    assert.deepEqual([code, expected.test(out), out.includes(live), out.includes("    at ")], [1, true, false, false], out);
  }
  const help = await script(["--help"], { STRIPE_SECRET_KEY: "" });
  assert.deepEqual([help.code, /--dry-run/.test(help.out)], [0, true], help.out);
  assert.deepEqual(stripe.asked, []);
  const { code, out } = await script(["--test"], { PUBLIC_URL: URL_OF_SERVICE });
  assert.equal(code, 0, out);
  const { plans } = JSON.parse(readFileSync(join(ROOT, "docs", "reference", "pricing.json"), "utf8"));
  for (const { tier, price_usd: usd } of plans) if (usd > 0) assert.equal(priceOf(tier).unit_amount, usd * 100);
});
