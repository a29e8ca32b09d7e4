// Stripe's events: who may send them, and that they come twice, in any order, late or never changes nothing in the end.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, test } from "node:test";
import { DAY, payer, refusal, startBilled } from "./billed.mjs";
import { mailsTo } from "./browser.mjs";
import { until } from "./worker.mjs";

const [SECRET, OLDER] = ["whsec_TheOneThatHolds12345678901234567", "whsec_TheOneOfBefore1234567890123456"];

/** @type {Awaited<ReturnType<typeof startBilled>>} */
let billed;
before(async () => {
  billed = await startBilled({ stripe: { endpoint: { secret: SECRET } }, vars: { STRIPE_WEBHOOK_SECRET: `${OLDER}, ${SECRET}` } });
});
after(() => billed?.stop());

const known = async (id) => (await billed.worker.sql("SELECT id FROM stripe_events WHERE id = ?", id)).length;
/** Sends a text as an event. */
const send = (raw, signature) =>
  billed.worker.call("POST", "/v1/webhooks/stripe", {
    raw,
    headers: { "content-type": "application/json", ...(signature === undefined ? {} : { "stripe-signature": signature }) },
  });
const seconds = () => Math.floor(billed.stripe.now() / 1000);
const hmac = (secret, time, body) => createHmac("sha256", secret).update(`${time}.${body}`).digest("hex");
const event = (more = {}) => ({
  id: `evt_${crypto.randomUUID().replaceAll("-", "")}`,
  object: "event",
  type: "customer.updated",
  created: seconds(),
  data: { object: { id: "cus_NobodyHasThisOne", object: "customer" } },
  ...more,
});

test("an event is taken with a signature by one of the secrets, of the last five minutes, and with no other", async () => {
  const body = JSON.stringify(event());
  const [now, { id }] = [seconds(), JSON.parse(body)];
  const right = (time = now, secret = SECRET) => `t=${time},v1=${hmac(secret, time, body)}`;
  const other = "0".repeat(64);
  const wrong = {
    none: undefined,
    empty: "",
    "no time": `v1=${hmac(SECRET, now, body)}`,
    "no signature": `t=${now}`,
    "of another secret": right(now, "whsec_SomebodyElses"),
    "v0 alone": `t=${now},v0=${hmac(SECRET, now, body)}`,
    "another time": `t=${now - 1},v1=${hmac(SECRET, now, body)}`,
    "a time that is none": `t=${now}.0,v1=${hmac(SECRET, now, body)}`,
    old: right(now - 320),
    "of the future": right(now + 320),
    "a part of it": right().slice(0, -2),
    "the secret decoded, as Standard Webhooks does": `t=${now},v1=${createHmac("sha256", Buffer.from(SECRET.slice(6), "base64"))
      .update(`${now}.${body}`)
      .digest("hex")}`,
    "no hex": `t=${now},v1=${"zz".repeat(32)}`,
    "too many": `t=${now}${`,v1=${other}`.repeat(40)},v1=${hmac(SECRET, now, body)}`,
  };
  for (const [name, signature] of Object.entries(wrong))
    assert.deepEqual(refusal(await send(body, signature)), [401, "INVALID_SIGNATURE"], name);
  assert.deepEqual(refusal(await send(`${body} `, right())), [401, "INVALID_SIGNATURE"], "another body");
  assert.equal(await known(id), 0);
  const good = {
    right: right(),
    "of the older secret": right(now, OLDER),
    "old, and not too old": right(now - 280),
    "the second v1": `t=${now},v1=${other},v1=${hmac(SECRET, now, body)}`,
    "with others": `t=${now},v0=${other},v1=${hmac(SECRET, now, body)},v2=x`,
    spaced: `t=${now}, v1=${hmac(SECRET, now, body)}`,
  };
  for (const [name, signature] of Object.entries(good)) assert.equal((await send(body, signature)).status, 200, name);
  assert.equal(await known(id), 1);
});

test("what is signed and is no event of a customer is harmless", async () => {
  const signed = (body) => send(body, `t=${seconds()},v1=${hmac(SECRET, seconds(), body)}`);
  for (const body of ["", "[]", "{}", "nonsense"]) assert.deepEqual(refusal(await signed(body)), [400, "INVALID_JSON"], body);
  for (const object of [{}, { id: "prod_1", object: "product" }, { object: "invoice", customer: null }, { customer: "cus_1/../x" }]) {
    const of = event({ data: { object } });
    assert.equal((await signed(JSON.stringify(of))).status, 200);
    assert.equal(await known(of.id), 0);
  }
  // A customer of the same account that no tenant has.
  const { stripe, worker, prices } = billed;
  const { id } = stripe.do("POST", "/v1/customers", { email: "stranger@x.test" });
  stripe.setCard(id, "ok");
  stripe.do("POST", "/v1/subscriptions", { customer: id, items: [{ price: prices.pro }] });
  const answers = await stripe.deliver(worker, { duplicate: 2 });
  assert.ok(answers.length > 6 && answers.every(({ status }) => status === 200));
  assert.deepEqual(await worker.sql("SELECT tenant_id FROM billing WHERE customer_id = ?", id), []);
  assert.equal(stripe.subscriptionOf(id).status, "active");
});

test("twice, in any order and at once, events lead to what Stripe says, and are told once", async () => {
  const { worker, stripe } = billed;
  const took = [];
  for (const how of [
    { order: "reversed", duplicate: 2 },
    { order: "shuffled", seed: 11, duplicate: 3 },
    { order: "shuffled", seed: 12, duplicate: 4, parallel: 6 },
  ]) {
    const owner = await payer(billed);
    const customer = await owner.pays("pro");
    // A change of Stripe's own between.
    stripe.do("POST", `/v1/subscriptions/${stripe.subscriptionOf(customer).id}`, { cancel_at_period_end: true });
    const events = stripe.pending().length;
    const answers = await stripe.deliver(worker, /** @type {any} */ (how));
    assert.ok(answers.length === events * how.duplicate && answers.every(({ status }) => status === 200));
    await billed.tier(owner.id, "pro");
    await until(async () => (await billed.row(owner.id)).state.cancel_at !== null, "the end");
    assert.deepEqual(await billed.log(owner.id, "tier%"), ["tier.updated free → pro"]);
    const mails = (await mailsTo(worker, owner.email)).filter(({ subject }) => /plan has changed/.test(subject));
    assert.equal(mails.length, 1);
    // How long Stripe waits for the answer to one.
    stripe.do("POST", `/v1/customers/${customer}`, { name: "Ann" });
    for (const { headers, body } of stripe.hold()) {
      const began = performance.now();
      const answer = await fetch(`${worker.url}/v1/webhooks/stripe`, { method: "POST", headers, body });
      took.push(performance.now() - began);
      assert.equal(answer.status, 200);
    }
  }
  console.log(`events were taken in ${took.map((ms) => ms.toFixed(0)).join(", ")} ms`);
});

test("an event that was not delivered is found by the nightly run, and does no harm when it comes late", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  await owner.pays("pro");
  await stripe.deliver(worker, { drop: 1 });
  assert.equal((await billed.row(owner.id)).state, null);
  await billed.nightly();
  await billed.tier(owner.id, "pro");
  assert.deepEqual(await billed.told(owner.id), [], "Stripe knows that it was not delivered: that is no mistake");
  await billed.advance(DAY);
  await stripe.deliver(worker, { order: "reversed" });
  await owner.read();
  assert.deepEqual(await billed.log(owner.id, "tier%"), ["tier.updated free → pro"]);
});

test("an event that was taken and lost is found by the nightly run too, and operators are told", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  await owner.pays("starter");
  await stripe.deliver(worker);
  await billed.tier(owner.id, "starter");
  const { id } = stripe.subscriptionOf(await owner.customer());
  stripe.do("DELETE", `/v1/subscriptions/${id}`);
  for (const one of stripe.pending()) stripe.taken(one);
  await billed.nightly();
  assert.equal((await billed.row(owner.id)).state.status, "trialing", "it was read within the day");
  await billed.advance(DAY);
  await billed.nightly();
  await billed.tier(owner.id, "free");
  const told = await until(async () => {
    const all = await billed.told(owner.id);
    return all.length > 0 && all;
  }, "the operators' mail");
  assert.equal(told.length, 1);
  assert.ok(told[0].text.includes(id) && told[0].text.includes("canceled"), told[0].text);
  await billed.advance(DAY);
  await billed.nightly();
  assert.equal((await billed.told(owner.id)).length, 1, "once");
});

test("an event that cannot be queued is not remembered: Stripe sends it again", async () => {
  const { worker, stripe } = billed;
  const owner = await payer(billed);
  await owner.pays("pro");
  const pending = stripe.pending().map(({ id }) => id);
  await worker.queue(false);
  const refused = await stripe.deliver(worker);
  await worker.queue(true);
  assert.ok(refused.length > 5 && refused.every(({ status }) => status >= 500), JSON.stringify(refused.map(({ status }) => status)));
  for (const id of pending) assert.equal(await known(id), 0);
  // Queued and not remembered: it comes again, and is queued again.
  await worker.dbFault({ names: "INSERT INTO stripe_events" });
  const [first] = await stripe.deliver(worker, { types: ["customer.subscription.created"] });
  assert.ok(first.status >= 500);
  await billed.tier(owner.id, "pro");
  const again = await stripe.deliver(worker);
  assert.equal(again.length, pending.length);
  assert.ok(again.every(({ status }) => status === 200));
  assert.deepEqual(await billed.log(owner.id, "tier%"), ["tier.updated free → pro"]);
});

test("a customer whom Stripe does not answer for is read again, and keeps no other waiting", async () => {
  const { worker, stripe } = billed;
  const owners = [await payer(billed), await payer(billed)];
  for (const owner of owners) await owner.pays("pro");
  stripe.faults.add({ kind: "error", method: "GET", path: "/v1/subscriptions", times: 1 });
  const began = Date.now();
  await stripe.deliver(worker, { types: ["customer.subscription.created"] });
  const isPro = async ({ id }) => (await billed.row(id)).state !== null;
  await until(async () => (await Promise.all(owners.map(isPro))).includes(true), "the one");
  assert.ok(Date.now() - began < 15_000, "before the other is tried again");
  await until(async () => (await Promise.all(owners.map(isPro))).every(Boolean), "the other", 40_000);
  await stripe.deliver(worker);
});
