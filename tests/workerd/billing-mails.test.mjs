// The mails about billing: that each says what is so when it comes, and what can be done.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { DAY, MINUTE, payer, paying, startBilled } from "./billed.mjs";
import { mailsTo } from "./browser.mjs";
import { until } from "./worker.mjs";

const HOUR = 60 * MINUTE;
const [FAILED, TRIAL, CHANGED] = ["A payment failed", "Your trial ends soon", "Your plan has changed"];

/** @type {Awaited<ReturnType<typeof startBilled>>} */
let billed;
before(async () => {
  billed = await startBilled();
});
after(() => billed?.stop());

/** An owner's mails of a subject, the newest first. */
const of = async (owner, subject) => (await mailsTo(billed.worker, owner.email)).filter((mail) => mail.subject === subject);
/** The same once they are so many. Those that are made by now are sent before a mail of another owner that is made after them. */
async function mails(owner, subject, count) {
  await until(async () => (await of(owner, subject)).length >= count, `${count} mails "${subject}"`);
  const all = await of(owner, subject);
  assert.equal(all.length, count, subject);
  return all;
}
/** How many mails of a subject were made for an owner, sent or not. */
async function made(owner, kind) {
  const [{ n }] = await billed.worker.sql(
    "SELECT COUNT(*) AS n FROM mails m JOIN notices o ON o.id = m.subject_id WHERE o.tenant_id = ? AND o.kind = ?",
    owner.id,
    kind,
  );
  return n;
}
/** A time as mails name it. */
const moment = (rfc3339) => `${rfc3339.slice(0, 10)}, ${rfc3339.slice(11, 16)} UTC`;

/** An owner of a plan whose renewal has failed. */
async function owing(plan) {
  const { stripe, worker } = billed;
  const owner = await paying(billed, plan);
  stripe.turnCard(owner.customer, "declines");
  await billed.advance(31 * DAY);
  await stripe.deliver(worker);
  await billed.status(owner.id, "past_due");
  const invoice = stripe.invoices(owner.customer).find(({ status }) => status === "open");
  return { ...owner, invoice, since: (await billed.row(owner.id)).past_due_ms };
}
const pass = async (at) => {
  await billed.advance(at - billed.stripe.now());
  await billed.minutely();
};

test("a failed charge leads to its invoice, and after the grace to what brings the plan back, also where alerts are off", async () => {
  const { stripe, worker } = billed;
  const ann = await owing("pro");
  const alerts = { mail: false };
  assert.equal((await worker.call("PATCH", "/v1/tenant", { key: ann.key, body: { alerts } })).status, 200);
  await pass(ann.since + MINUTE);
  const [failed] = await mails(ann, FAILED, 1);
  const { grace_ends_at: ends } = await ann.read();
  for (const part of [
    ann.invoice.hosted_invoice_url,
    `Until ${moment(ends)}`,
    "POST /v1/billing/portal",
    "also where alerts by mail are turned off",
  ])
    assert.ok(failed.text.includes(part), `${part}: ${failed.text}`);
  assert.ok(!failed.text.includes("can turn them off"), failed.text);
  await pass(Date.parse(ends) + HOUR);
  await billed.tier(ann.id, "free");
  const [changed] = await mails(ann, CHANGED, 2);
  // A checkout would be refused: the subscription goes on.
  assert.match(changed.text, /invoice .* is not paid\. Pay it, and pro holds again/);
  assert.ok(changed.text.includes("/v1/billing/portal") && !changed.text.includes("checkout"), changed.text);
  stripe.setCard(ann.customer, "ok");
  stripe.pay(ann.invoice.id);
  await stripe.deliver(worker);
  await billed.tier(ann.id, "pro");
  // And where it has ended, a checkout is what there is.
  assert.equal((await ann.cancel("now")).status, 200);
  const [ended] = await mails(ann, CHANGED, 4);
  assert.ok(ended.text.includes("POST /v1/billing/checkout"), ended.text);
});

test("of mails that are late one is sent, and none about what is past", async () => {
  const [ann, bob] = [await owing("starter"), await owing("pro")];
  // For four days no job runs.
  await pass(bob.since + 4 * DAY);
  await billed.minutely();
  await billed.minutely();
  await mails(bob, FAILED, 1);
  assert.equal(await made(bob, "billing.payment_failed"), 1);
  assert.equal((await billed.row(bob.id)).due_ms, bob.since + 6 * DAY);
  assert.ok(ann.since <= bob.since);
  // And for another week.
  await pass(bob.since + 11 * DAY);
  await billed.minutely();
  await billed.tier(bob.id, "free");
  assert.deepEqual([await made(bob, "billing.payment_failed"), (await billed.row(bob.id)).due_ms], [1, null]);
});

test("a tier that an operator has set is not said to be lost", async () => {
  const { worker } = billed;
  const ann = await paying(billed, "starter");
  const set = await worker.call("PATCH", `/v1/admin/tenants/${ann.id}`, { admin: true, body: { tier: "enterprise" } });
  assert.equal(set.status, 200, set.text);
  billed.stripe.turnCard(ann.customer, "declines");
  await billed.advance(31 * DAY);
  await billed.stripe.deliver(worker);
  await billed.status(ann.id, "past_due");
  const since = (await billed.row(ann.id)).past_due_ms;
  for (const [days, count] of [
    [0, 1],
    [3, 2],
    [6, 3],
  ]) {
    await pass(since + days * DAY + MINUTE);
    await mails(ann, FAILED, count);
  }
  await pass(since + 9 * DAY);
  for (const { text } of await mails(ann, FAILED, 3)) {
    assert.ok(text.includes("stays as it is") && text.includes("cancel"), text);
    assert.ok(!text.includes("Until") && !text.includes("free"), text);
  }
  const view = await ann.read();
  assert.deepEqual([view.tier, view.status, view.grace_ends_at], ["enterprise", "past_due", null]);
});

test("a trial that is to go on shortly before its end is announced with the time that is left", async () => {
  const { stripe, worker } = billed;
  const ann = await payer(billed);
  await ann.pays("starter");
  await stripe.deliver(worker);
  await billed.tier(ann.id, "starter");
  assert.equal((await ann.cancel("period_end")).status, 200);
  await billed.advance(6 * DAY + 12 * HOUR);
  await billed.minutely();
  assert.equal(await made(ann, "billing.trial_ends"), 0, "who has cancelled knows");
  assert.equal((await ann.resume()).status, 200);
  await billed.minutely();
  const [mail] = await mails(ann, TRIAL, 1);
  assert.ok(mail.text.includes(`ends on ${moment((await ann.read()).trial_ends_at)}`), mail.text);
  assert.ok(!/three days/.test(mail.subject + mail.text), mail.text);
});
