// Who may see and change a plan, what is said where billing is not set up, and what remains of a tenant that is deleted.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { DAY, MINUTE, payer, refusal, startBilled } from "./billed.mjs";
import { Browser, address, mailTo, mailsTo, signedUp } from "./browser.mjs";
import { startWorker, until } from "./worker.mjs";

const CHANGES = /** @type {const} */ ([
  ["/checkout", { plan: "pro" }],
  ["/portal", undefined],
  ["/change", { plan: "pro" }],
  ["/cancel", { at: "now" }],
  ["/resume", undefined],
]);
const READS = ["", "/invoices"];
const ROUTES = /** @type {[string, string, any][]} */ ([
  ...READS.map((path) => ["GET", path, undefined]),
  ...CHANGES.map(([path, body]) => ["POST", path, body]),
]);

/** @type {Awaited<ReturnType<typeof startBilled>>} */
let billed;
before(async () => {
  billed = await startBilled();
});
after(() => billed?.stop());

/** Where a text stands in the directory. */
async function placesOf(text) {
  const { worker } = billed;
  const tables = await worker.sql(
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf%' ESCAPE '\\' AND name NOT LIKE 'sqlite%'",
  );
  const found = [];
  for (const { name } of tables)
    for (const row of await worker.sql(`SELECT * FROM ${name}`))
      for (const [column, value] of Object.entries(row)) if (String(value).includes(text)) found.push(`${name}.${column}`);
  return found;
}

test("without Stripe's keys each route says which setting is missing, and all else works", async () => {
  const worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } });
  try {
    const owner = await signedUp(worker);
    for (const [method, path, body] of ROUTES) {
      const answer = await owner.browser.call(method, `/v1/billing${path}`, body);
      assert.deepEqual(refusal(answer), [503, "MISCONFIGURED"], path);
      assert.match(answer.body.detail, /STRIPE_SECRET_KEY/, path);
    }
    const check = await worker.call("POST", "/v1/admin/billing/check", { admin: true, body: {} });
    assert.deepEqual([...refusal(check), /STRIPE_SECRET_KEY/.test(check.text)], [503, "MISCONFIGURED", true]);
    const event = await worker.call("POST", "/v1/webhooks/stripe", { body: {}, headers: { "stripe-signature": "t=1,v1=00" } });
    assert.deepEqual([...refusal(event), /STRIPE_WEBHOOK_SECRET/.test(event.text)], [503, "MISCONFIGURED", true]);
    const pricing = await worker.call("GET", "/v1/pricing");
    assert.deepEqual(
      pricing.body.plans.map(({ tier, price_usd: usd }) => [tier, usd]),
      [
        ["free", 0],
        ["starter", 99],
        ["pro", 299],
        ["enterprise", 999],
      ],
    );
    assert.equal((await worker.call("GET", "/v1/whoami", { key: owner.api_keys.live })).status, 200);
    for (const cron of ["* * * * *", "*/5 * * * *", "17 3 * * *"]) await worker.cron(cron);
    assert.ok(!worker.log.lines.some((line) => /cron_failed|billing_failed|"fault"[^}]*billing/.test(line)));
    // An operator's tier goes on as before.
    const { id } = owner.session.tenant;
    const set = await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { tier: "pro" } });
    assert.deepEqual([set.body.tenant.tier, set.body.tenant.tier_by], ["pro", "operator"]);
  } finally {
    await worker.stop();
  }
});

/** A person who has joined the tenant of an owner. */
async function joined(owner, role) {
  const { worker } = billed;
  const email = address();
  const invited = await owner.browser.call("POST", "/v1/members/invitations", { email, role });
  assert.equal(invited.status, 201, JSON.stringify(invited.body));
  const { token } = await mailTo(worker, email);
  const browser = new Browser(worker);
  const made = await browser.call("POST", "/v1/members/join", { token });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  return { browser, email };
}

test("only owners, and keys that may manage, see and change a plan", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  const asked = stripe.asked.length;
  for (const role of ["developer", "viewer"]) {
    const { browser } = await joined(owner, role);
    for (const [method, path, body] of ROUTES)
      assert.deepEqual(refusal(await browser.call(method, `/v1/billing${path}`, body)), [403, "INSUFFICIENT_ROLE"], `${role} ${path}`);
  }
  const keyOf = async (environment, scopes) =>
    (await owner.browser.call("POST", "/v1/api-keys", { name: "a", environment, scopes })).body.key;
  const [seller, tester] = [
    await keyOf("live", ["verify", "settle", "analytics"]),
    await keyOf("test", ["verify", "settle", "analytics", "manage"]),
  ];
  const by = (key, [method, path, body]) => worker.call(method, `/v1/billing${path}`, { key, body });
  for (const route of ROUTES) {
    assert.deepEqual(refusal(await by(seller, route)), [403, "INSUFFICIENT_SCOPE"], route[1]);
    assert.equal((await by(undefined, route)).status, 401, route[1]);
    const byTester = await by(tester, route);
    if (route[0] === "GET") assert.equal(byTester.status, 200, route[1]);
    else assert.deepEqual(refusal(byTester), [403, "ENVIRONMENT_MISMATCH"], route[1]);
  }
  assert.equal(stripe.asked.length, asked, "Stripe was not asked");
  // What is asked for is checked first.
  for (const [path, body] of /** @type {[string, any][]} */ ([
    ["/checkout", { plan: "free" }],
    ["/checkout", { plan: "gold" }],
    ["/checkout", { plan: "PRO" }],
    ["/checkout", {}],
    ["/change", { plan: "free" }],
    ["/change", { plan: "pro", customer: "cus_1" }],
    ["/cancel", { at: "tomorrow" }],
  ]))
    assert.deepEqual(refusal(await owner.call("POST", path, body)), [422, "INVALID_REQUEST"], JSON.stringify(body));
  for (const query of ["?plan=free", "?plan=gold"]) assert.deepEqual(refusal(await owner.call("GET", query)), [422, "INVALID_REQUEST"]);
  // Who never had to do with Stripe has nothing to change.
  const fresh = await payer(billed);
  for (const [path, body] of CHANGES.slice(2))
    assert.deepEqual(refusal(await fresh.call("POST", path, body)), [409, "NO_SUBSCRIPTION"], path);
  assert.deepEqual((await fresh.call("GET", "/invoices")).body, { data: [], next_cursor: null });
  assert.equal(await fresh.customer(), undefined);
});

test("nothing of one tenant stands in the answers to another", async () => {
  const { worker, stripe } = billed;
  const [ann, bob] = [await payer(billed), await payer(billed)];
  for (const owner of [ann, bob]) await owner.pays("pro");
  await stripe.deliver(worker);
  await billed.advance(8 * DAY);
  await stripe.deliver(worker);
  await billed.status(bob.id, "active");
  const customer = await ann.customer();
  const subscription = stripe.subscriptionOf(customer);
  const invoices = stripe.invoices(customer);
  const own = (await ann.call("GET", "/invoices")).body.data;
  assert.deepEqual(
    own.map(({ id }) => id),
    invoices.map(({ id }) => id),
  );
  const [first] = (await ann.call("GET", "/invoices?limit=1")).body.data;
  const rest = await ann.call("GET", `/invoices?cursor=${first.id}`);
  assert.deepEqual(rest.body.data, own.slice(1));
  const answers = [
    await bob.call("GET", ""),
    await bob.call("GET", "/invoices"),
    await bob.call("GET", `/invoices?cursor=${invoices[0].id}`),
    await bob.call("GET", "/invoices?cursor=in_NoSuchInvoice"),
    await bob.change("enterprise"),
    await bob.call("POST", "/portal"),
    await bob.browser.call("GET", "/v1/audit-log"),
  ];
  for (const secret of [ann.id, customer, subscription.id, subscription.items.data[0].id, ...invoices.map(({ id }) => id)])
    for (const { body } of answers) assert.ok(!JSON.stringify(body).includes(secret), JSON.stringify(body));
  // A client is not told Stripe's own ids of its plan where it does not need them.
  for (const hidden of [customer, subscription.items.data[0].id, stripe.key])
    assert.ok(!(await ann.call("GET", "")).text.includes(hidden), hidden);
});

test("a tenant that is deleted is deleted at Stripe too, even if Stripe is away at first", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("pro");
  await stripe.deliver(worker);
  await billed.tier(owner.id, "pro");
  const seen = (await mailsTo(worker, owner.email)).length;
  assert.equal((await owner.browser.call("DELETE", "/v1/tenant", { confirm: owner.id })).status, 202);
  const { token } = await mailTo(worker, owner.email, seen + 1);
  const confirmed = await owner.browser.call("POST", "/v1/tenant/deletion", { token });
  assert.equal(confirmed.status, 200, JSON.stringify(confirmed.body));
  for (const [path, body] of CHANGES) {
    const answer = await owner.browser.call("POST", `/v1/billing${path}`, body);
    assert.deepEqual(refusal(answer), [409, "TENANT_DELETING"], path);
  }
  assert.equal(stripe.subscriptionOf(customer).status, "trialing", "it can be undone for a week");
  stripe.faults.add({ kind: "error", method: "DELETE", path: "/v1/customers" });
  const isThere = () => stripe.customers().some(({ id }) => id === customer);
  await billed.advance(7 * DAY + MINUTE);
  await billed.minutely();
  assert.equal(stripe.faults.left(), 0);
  assert.ok(isThere());
  await until(async () => {
    await billed.advance(10 * MINUTE);
    await billed.minutely();
    return !isThere();
  }, "the end of the customer");
  await until(async () => {
    await billed.advance(10 * MINUTE);
    await billed.minutely();
    return (await placesOf(customer)).length === 0;
  }, "the end of its row");
  assert.equal(stripe.subscriptionOf(customer)?.status ?? "canceled", "canceled");
  // What Stripe tells of it afterwards changes nothing.
  const answers = await stripe.deliver(worker, { duplicate: 2 });
  assert.ok(answers.length > 0 && answers.every(({ status }) => status === 200));
  await billed.nightly();
  assert.deepEqual(await placesOf(customer), []);
});

test("the log holds no key, no card, no address and no page of Stripe's", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays("starter");
  await stripe.deliver(worker);
  for (const kind of /** @type {const} */ (["error", "lost", "limited", "refused", "failed"])) {
    stripe.faults.add({ kind, times: 2 });
    for (const asked of [
      owner.change("pro"),
      owner.call("GET", ""),
      owner.call("POST", "/portal"),
      owner.cancel("period_end"),
      owner.resume(),
    ])
      await asked;
    stripe.faults.clear();
  }
  await billed.advance(8 * DAY);
  stripe.turnCard(customer, "declines");
  await stripe.deliver(worker);
  const refused = await owner.change("enterprise");
  assert.equal(refused.status, 402, refused.text);
  await billed.nightly();
  const { id, email, key } = owner;
  const card = stripe.do("GET", `/v1/payment_methods/${stripe.cardOf(customer)}`).card;
  await worker.call("GET", "/v1/nowhere");
  await until(() => worker.log.lines.at(-1)?.includes(`"endpoint":"none"`), "the last line");
  const secrets = [stripe.key, stripe.secret, email, key, `"${card.last4}"`, "checkout.stripe.com", "billing.stripe.com", "Bearer"];
  for (const secret of secrets)
    assert.deepEqual(
      worker.log.lines.filter((line) => line.includes(secret)),
      [],
      `${id} ${secret}`,
    );
  assert.ok(
    worker.log.lines.some((line) => line.includes("Stripe answered 500")),
    "what went wrong is there",
  );
});

test("a tenant that asks too often is told to wait, and keeps no other from Stripe", async () => {
  await billed.stop();
  billed = await startBilled({ ratelimits: { BILLING_GUARD: { namespace_id: "1", simple: { limit: 4, period: 60 } } } });
  const [often, other] = [await payer(billed), await payer(billed)];
  await often.pays("pro");
  const read = () => often.call("GET", "?plan=enterprise");
  // A minute may end in between: then the next one is counted.
  const refused = await until(async () => {
    const first = await read();
    billed.stripe.asked.length = 0;
    const all = [read(), often.call("GET", "/invoices"), often.change("starter"), often.call("POST", "/portal")];
    const isRefused = (await Promise.all(all)).every(({ status }) => status === 429) && billed.stripe.asked.length === 0;
    return isRefused && first.status === 429 ? first : undefined;
  }, "the limit");
  assert.deepEqual([refused.body.error_code, refused.headers.get("retry-after")], ["RATE_LIMITED", "60"]);
  assert.equal((await other.call("GET", "")).status, 200);
});
