// Tenants that pay: the Worker beside the Stripe that is played, and clocks of both that go together.
import { fetch as passed } from "miniflare";
import { mailsTo, signedUp } from "./browser.mjs";
import { DAY, startStripe } from "./stripe/gateway.mjs";
import { startWorker, until } from "./worker.mjs";

export { DAY };
export const MINUTE = 60_000;
export const OPERATOR = "ops@pay.example";
/** What a request was refused with. */
export const refusal = ({ status, body }) => [status, body?.error_code];

/** The Worker and its Stripe. `state` is a folder that outlives the Worker, which `again` starts anew on it.
 * @param {{ vars?: Record<string, string | undefined>, stripe?: any, state?: string, ratelimits?: any }} [wanted] */
export async function startBilled({ vars = {}, stripe: more = {}, state = undefined, ratelimits = undefined } = {}) {
  const stripe = await startStripe(more);
  const prices = stripe.catalog();
  const outbound = (request) => (stripe.owns(request) ? stripe.outbound(request) : passed(request));
  const keys = { STRIPE_SECRET_KEY: stripe.key, STRIPE_WEBHOOK_SECRET: stripe.secret };
  const options = { vars: { MAIL_BACKEND: "mailbox", OPERATOR_MAIL: OPERATOR, ...keys, ...vars }, outbound, state, ratelimits };
  let ahead = 0;
  const billed = {
    worker: await startWorker(options),
    stripe,
    prices,
    /** Moves both clocks, the Worker's first: what it still does in between must not read what comes later as of now. */
    async advance(ms) {
      ahead += ms;
      await billed.worker.advance(ms);
      stripe.advance(ms);
    },
    /** Starts the Worker anew on what it has stored. */
    async again() {
      await billed.worker.stop();
      billed.worker = await startWorker(options);
      await billed.worker.advance(ahead);
    },
    /** What the directory keeps of a tenant, its subscription read. */
    async row(tenant) {
      const [row] = await billed.worker.sql("SELECT * FROM billing WHERE tenant_id = ?", tenant);
      return row && { ...row, state: row.state && JSON.parse(row.state) };
    },
    /** Waits until the directory says what a tenant's tier is. */
    async tier(tenant, tier) {
      await until(async () => (await billed.worker.sql("SELECT tier FROM tenants WHERE id = ?", tenant))[0]?.tier === tier, `tier ${tier}`);
    },
    /** Waits until the directory has a tenant's subscription in a status. */
    async status(tenant, status) {
      await until(async () => (await billed.row(tenant))?.state?.status === status, `status ${status}`);
    },
    /** The entries of a tenant's audit log of some actions: action and detail, the oldest first. */
    async log(tenant, like) {
      const rows = await billed.worker.sql(
        "SELECT action, detail FROM audit_log WHERE tenant_id = ? AND action LIKE ? ORDER BY id",
        tenant,
        like,
      );
      return rows.map(({ action, detail }) => `${action} ${detail}`);
    },
    /** What operators were told that holds a text. */
    told: async (text) => (await mailsTo(billed.worker, OPERATOR)).filter((mail) => mail.text.includes(text)),
    /** The timed jobs. */
    minutely: () => billed.worker.cron("* * * * *"),
    nightly: () => billed.worker.cron("17 3 * * *"),
    checks: () => billed.worker.cron("*/5 * * * *"),
    async stop() {
      await billed.worker.stop();
      await stripe.stop();
    },
  };
  return billed;
}

/** An owner of a new tenant, with what it does about its plan. @param {Awaited<ReturnType<typeof startBilled>>} billed */
export async function payer(billed) {
  const { stripe, row } = billed;
  const owner = await signedUp(billed.worker);
  const { id } = owner.session.tenant;
  // A session ends when nobody uses it for days: a key does not.
  const scopes = ["verify", "settle", "analytics", "manage"];
  const made = await owner.browser.call("POST", "/v1/api-keys", { name: "all", environment: "live", scopes });
  const { key } = made.body;
  const call = (method, path, body) => billed.worker.call(method, `/v1/billing${path}`, { key, body });
  const self = {
    ...owner,
    id,
    key,
    call,
    read: async (query = "") => (await call("GET", query)).body,
    checkout: (plan) => call("POST", "/checkout", { plan }),
    change: (plan) => call("POST", "/change", { plan }),
    cancel: (at) => call("POST", "/cancel", { at }),
    resume: () => call("POST", "/resume"),
    customer: async () => (await row(id))?.customer_id,
    /** Pays a checkout of a plan; the events about it are not delivered. */
    async pays(plan, card = "ok") {
      const made = await self.checkout(plan);
      if (made.status !== 200) throw new Error(`no checkout: ${JSON.stringify(made.body)}`);
      const customer = await self.customer();
      const session = stripe.sessionsOf(customer).find((one) => one.url === made.body.url);
      stripe.complete(session, card);
      return customer;
    },
  };
  return self;
}

/** An owner whose plan is paid: its trial is over. @param {Awaited<ReturnType<typeof startBilled>>} billed */
export async function paying(billed, plan) {
  const { stripe, worker } = billed;
  const owner = await payer(billed);
  const customer = await owner.pays(plan);
  await stripe.deliver(worker);
  await billed.advance(8 * DAY);
  await stripe.deliver(worker);
  await billed.status(owner.id, "active");
  const priceNow = () => stripe.subscriptionOf(customer).items.data[0].price.metadata.tier;
  /** The invoices that were charged. */
  const charged = () => stripe.invoices(customer).filter(({ amount_paid: paid }) => paid > 0);
  return { ...owner, customer, subscription: stripe.subscriptionOf(customer).id, priceNow, charged };
}

/** Requests to Stripe that write, since the last question: path and key. */
export function writes({ stripe }, like = /./) {
  return stripe.asked
    .splice(0)
    .filter(({ method, path }) => method !== "GET" && like.test(path) && !path.endsWith("create_preview"))
    .map(({ path, key }) => `${path} ${key}`);
}

/** Waits for the next quarter of an hour: the end of a checkout is at one, and what is asked for again in another is another. */
export const quarter = (billed) => billed.advance(15 * MINUTE - (billed.stripe.now() % (15 * MINUTE)) + 1000);
/** What an owner's ledger allows a month. */
export const limit = async (billed, owner) => (await billed.worker.call("GET", "/v1/usage", { key: owner.key })).body.verifications_limit;
