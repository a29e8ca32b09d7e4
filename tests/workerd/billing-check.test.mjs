// The books: every tenant that pays is compared with Stripe on an operator's demand, by the route and by `npm run billing:check`.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { payer, refusal, startBilled } from "./billed.mjs";
import { ADMIN_KEY, ROOT, until } from "./worker.mjs";

/** @type {Awaited<ReturnType<typeof startBilled>>} */
let billed;
before(async () => {
  billed = await startBilled();
});
after(() => billed?.stop());

/** Runs the command; its exit code and what it prints. */
async function run({ url = billed.worker.url, key = ADMIN_KEY, more = /** @type {string[]} */ ([]) } = {}) {
  const child = spawn(process.execPath, [join(ROOT, "scripts", "billing-check.mjs"), "--url", url, ...more], {
    env: { ...process.env, ADMIN_KEY: key, PUBLIC_URL: "" },
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (text += chunk));
  const code = await new Promise((resolve) => child.on("close", resolve));
  return { code, text, lines: text.trim().split("\n") };
}
const check = (body = {}) => billed.worker.call("POST", "/v1/admin/billing/check", { admin: true, body });
/** What has happened at Stripe is never told. */
const lose = () => billed.stripe.pending().forEach(billed.stripe.taken);
/** An owner with a plan that the directory knows. */
async function paying(plan) {
  const owner = await payer(billed);
  const customer = await owner.pays(plan);
  lose();
  // It reads the customer back.
  await owner.call("POST", "/portal");
  await billed.tier(owner.id, plan);
  return { ...owner, customer };
}

test("where all is as Stripe says, nothing is printed, however many there are", async () => {
  const { stripe, worker } = billed;
  await paying("pro");
  const deleted = await payer(billed);
  await deleted.pays("starter");
  // More than a part of the check, and more than a page of Stripe's.
  for (let at = 0; at < 27; at++) {
    const { id } = await worker.tenant({ tier: "free" });
    const customer = stripe.do("POST", "/v1/customers", { email: `${at}@x.test`, metadata: { tenant: id } }).id;
    await worker.sql("INSERT INTO billing (tenant_id, customer_id, created_ms) VALUES (?, ?, ?)", id, customer, Date.now());
  }
  await stripe.deliver(worker);
  await billed.tier(deleted.id, "starter");
  const all = await run();
  assert.deepEqual([all.code, all.lines], [0, ["29 tenants were compared with Stripe; nothing differed"]]);
  assert.deepEqual(await billed.told("Billing"), []);
});

test("each difference is printed and brought in line, operators are told, and a second run finds none", async () => {
  const { stripe, worker, prices } = billed;
  const subscription = (owner) => stripe.subscriptionOf(owner.customer).id;
  const [ended, changed, twice, gone, tier] = await Promise.all(["pro", "pro", "starter", "pro", "starter"].map(paying));
  stripe.do("DELETE", `/v1/subscriptions/${subscription(ended)}`);
  const [item] = stripe.subscriptionOf(changed.customer).items.data;
  stripe.do("POST", `/v1/subscriptions/${subscription(changed)}`, {
    items: [{ id: item.id, price: prices.enterprise }],
    proration_behavior: "none",
  });
  const older = subscription(twice);
  stripe.advance(2000);
  stripe.setCard(twice.customer, "ok");
  stripe.do("POST", "/v1/subscriptions", { customer: twice.customer, items: [{ price: prices.starter }] });
  stripe.do("DELETE", `/v1/customers/${gone.customer}`);
  await worker.sql("UPDATE tenants SET tier = 'pro' WHERE id = ?", tier.id);
  // Somebody's subscription, of a customer that no tenant has.
  const lost = stripe.do("POST", "/v1/customers", { email: "lost@x.test" }).id;
  stripe.setCard(lost, "ok");
  const metadata = { tenant: ended.id };
  const orphan = stripe.do("POST", "/v1/subscriptions", { customer: lost, items: [{ price: prices.pro }], metadata }).id;
  lose();

  const { code, text, lines } = await run();
  assert.equal(code, 1, text);
  const of = (owner) => lines.filter((line) => line.startsWith(owner.id ?? owner));
  for (const owner of [ended, changed, twice, gone, tier, lost]) assert.equal(of(owner).length, 1, text);
  assert.match(of(ended)[0], /the directory has sub_\w+ trialing pro .*; Stripe has sub_\w+ canceled pro/);
  assert.match(of(changed)[0], /Stripe has sub_\w+ trialing enterprise/);
  assert.match(of(gone)[0], /was deleted at Stripe/);
  assert.match(of(tier)[0], /the tier is pro, and starter is paid/);
  assert.ok(of(lost)[0].includes(orphan) && of(lost)[0].includes("no tenant has the customer"), of(lost)[0]);
  assert.match(text, /; 6 differed\n$/, text);
  for (const [owner, wanted] of /** @type {const} */ ([
    [ended, "free"],
    [changed, "enterprise"],
    [twice, "starter"],
    [gone, "free"],
    [tier, "starter"],
  ]))
    await billed.tier(owner.id, wanted);
  assert.equal(stripe.do("GET", `/v1/subscriptions/${older}`).status, "canceled");
  for (const owner of [ended, changed, twice, gone, tier]) {
    const told = await until(async () => {
      const all = await billed.told(`${owner.id}: `);
      return all.length > 0 && all;
    }, "the operators' mail");
    assert.equal(told.length, 1);
  }
  await until(async () => (await billed.told(orphan)).length === 1, "the mail about the customer of nobody");

  lose();
  stripe.do("DELETE", `/v1/subscriptions/${orphan}`);
  const again = await run();
  assert.equal(again.code, 0, again.text);
});

test("the check is an operator's alone, and says what it cannot do", async () => {
  const { stripe, worker } = billed;
  assert.equal((await run({ key: "x".repeat(40) })).code, 2);
  assert.match((await run({ key: "x".repeat(40) })).text, /INVALID_ADMIN_KEY|ADMIN/);
  const nowhere = await run({ url: "ftp://pay.example" });
  assert.deepEqual([nowhere.code, /--url/.test(nowhere.text)], [2, true]);
  // Something else that answers.
  const other = createServer((_, response) => response.writeHead(404, { "content-type": "text/html" }).end("<html>no</html>"));
  await new Promise((resolve) => other.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (other.address());
  const strange = await run({ url: `http://127.0.0.1:${port}` });
  other.close();
  assert.equal(strange.code, 2);
  assert.deepEqual(strange.lines, [`http://127.0.0.1:${port}/ answers 404, and not as the service does: is it there?`]);
  const help = await run({ more: ["--help"], key: "" });
  assert.deepEqual([help.code, /ADMIN_KEY/.test(help.text)], [0, true], help.text);
  const owner = await payer(billed);
  const byKey = await worker.call("POST", "/v1/admin/billing/check", { key: owner.key, body: {} });
  assert.ok([401, 403].includes(byKey.status), byKey.text);
  for (const cursor of ["", "x", "cus_1", "sub_1/../x", 7])
    assert.ok([400, 422].includes((await check({ cursor })).status), String(cursor));
  // A Stripe that is away for a moment is asked again; one that stays away is an error.
  stripe.faults.add({ kind: "error", method: "GET", path: "/v1/subscriptions", times: 1 });
  assert.equal((await run()).code, 0);
  stripe.faults.add({ kind: "error", method: "GET", times: 9 });
  const away = await run();
  stripe.faults.clear();
  assert.deepEqual([away.code, /UPSTREAM_UNAVAILABLE/.test(away.text)], [2, true], away.text);
  assert.deepEqual(refusal(await check({ cursor: "sub_NoSuchSubscription" })).slice(0, 1), [503]);
});
