// What is said where Stripe's settings are a half, of the other mode, or a key that may not do all; and what plans are paid by.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MINUTE, payer, refusal, startBilled } from "./billed.mjs";
import { signedUp } from "./browser.mjs";

const [KEY, SECRET] = ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"];
const ROUTES = /** @type {[string, string, any][]} */ ([
  ["GET", "", undefined],
  ["GET", "/invoices", undefined],
  ["POST", "/checkout", { plan: "pro" }],
  ["POST", "/portal", undefined],
  ["POST", "/change", { plan: "pro" }],
  ["POST", "/cancel", { at: "now" }],
  ["POST", "/resume", undefined],
]);

/** A Worker with some settings of Stripe's, while `act` runs. */
async function within(vars, act) {
  const billed = await startBilled({ vars });
  try {
    await act(billed);
  } finally {
    await billed.stop();
  }
}

/** Each route says what is missing, and nothing else of it; Stripe is asked nothing. */
async function assertMissing({ worker, stripe }, wanted, others) {
  const owner = await signedUp(worker);
  const answers = [await worker.call("POST", "/v1/webhooks/stripe", { body: {}, headers: { "stripe-signature": "t=1,v1=00" } })];
  for (const [method, path, body] of ROUTES) answers.push(await owner.browser.call(method, `/v1/billing${path}`, body));
  answers.push(await worker.call("POST", "/v1/admin/billing/check", { admin: true, body: {} }));
  for (const answer of answers) {
    assert.deepEqual(refusal(answer), [503, "MISCONFIGURED"]);
    assert.match(answer.body.detail, wanted);
    for (const other of others) assert.ok(!answer.body.detail.includes(other), answer.body.detail);
  }
  assert.deepEqual(stripe.asked, []);
  const page = await (await fetch(new URL("/docs/tiers", worker.url))).text();
  assert.ok(page.includes("Ask the operator") && !page.includes("/v1/billing"), page);
}

test("without one of the two secrets nothing is sold, and the answer names it", async () => {
  await within({ [SECRET]: "" }, (billed) => assertMissing(billed, /setting STRIPE_WEBHOOK_SECRET is missing/, [KEY]));
  await within({ [KEY]: "" }, (billed) => assertMissing(billed, /setting STRIPE_SECRET_KEY is missing/, [SECRET]));
  await within({ [KEY]: "", [SECRET]: "" }, (billed) =>
    assertMissing(billed, /settings STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET are missing/, []),
  );
});

test("a test key sells nothing where only a live one is to", async () => {
  await within({ STRIPE_MODE: "live" }, (billed) => assertMissing(billed, /STRIPE_SECRET_KEY is not of the live mode/, [SECRET]));
  await within({ STRIPE_MODE: "test" }, async (billed) => {
    const owner = await payer(billed);
    assert.equal((await owner.checkout("pro")).status, 200);
  });
});

test("a checkout takes cards alone, and the page of tiers leads to it", async () => {
  await within({}, async (billed) => {
    const { stripe, worker } = billed;
    const page = await (await fetch(new URL("/docs/tiers", worker.url))).text();
    assert.ok(page.includes("POST /v1/billing/checkout") && !page.includes("sk the operator"), page);
    const owner = await payer(billed);
    assert.equal((await owner.checkout("pro")).status, 200);
    const [{ params }] = stripe.asked.filter(({ method, path }) => method === "POST" && path === "/v1/checkout/sessions");
    const { excluded_payment_method_types: without } = params;
    for (const slow of ["us_bank_account", "sepa_debit", "bacs_debit", "boleto", "customer_balance"])
      assert.ok(without.includes(slow), slow);
    assert.ok(!without.includes("card"));
  });
});

test("what was sold before is looked after by the key alone", async () => {
  await within({ [SECRET]: "" }, async (billed) => {
    const { worker, prices } = billed;
    const owner = await payer(billed);
    // As it was bought while both were there.
    const { id: customer } = billed.stripe.do("POST", "/v1/customers", { email: owner.email, metadata: { tenant: owner.id } });
    billed.stripe.setCard(customer, "ok");
    billed.stripe.do("POST", "/v1/subscriptions", { customer, items: [{ price: prices.pro }], metadata: { tenant: owner.id } });
    await worker.sql("INSERT INTO billing (tenant_id, customer_id, created_ms) VALUES (?, ?, ?)", owner.id, customer, Date.now());
    await billed.advance(MINUTE);
    await billed.nightly();
    await billed.tier(owner.id, "pro");
  });
});

test("a key that lacks a permission is told what it lacks", async () => {
  await within({}, async (billed) => {
    const { stripe } = billed;
    const owner = await payer(billed);
    assert.equal((await owner.call("POST", "/portal")).status, 200);
    stripe.faults.add({ kind: "forbidden", method: "GET", path: "/v1/billing_portal/configurations" });
    const portal = await owner.call("POST", "/portal");
    assert.deepEqual(refusal(portal), [503, "MISCONFIGURED"]);
    assert.match(portal.body.detail, /no permission for Stripe's billing_portal\/configurations/);
    stripe.faults.add({ kind: "forbidden", method: "GET", path: "/v1/customers/" });
    const view = await owner.call("GET", "");
    assert.deepEqual([...refusal(view), /no permission for Stripe's customers$/.test(view.body.detail)], [503, "MISCONFIGURED", true]);
  });
});
