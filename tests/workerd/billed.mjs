// Tenants that pay: the Worker beside the Stripe that is played, and clocks of both that go together.
import { fetch as passed } from "miniflare";
import { signedUp } from "./browser.mjs";
import { DAY, startStripe } from "./stripe/gateway.mjs";
import { startWorker, until } from "./worker.mjs";

export { DAY };
export const MINUTE = 60_000;

/** The Worker and its Stripe. @param {{ vars?: Record<string, string | undefined>, stripe?: any }} [wanted] */
export async function startBilled({ vars = {}, stripe: more = {} } = {}) {
  const stripe = await startStripe(more);
  const prices = stripe.catalog();
  const outbound = (request) => (stripe.owns(request) ? stripe.outbound(request) : passed(request));
  const keys = { STRIPE_SECRET_KEY: stripe.key, STRIPE_WEBHOOK_SECRET: stripe.secret };
  const worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox", ...keys, ...vars }, outbound });
  const billed = {
    worker,
    stripe,
    prices,
    /** Moves both clocks. */
    async advance(ms) {
      stripe.advance(ms);
      await worker.advance(ms);
    },
    /** What the directory keeps of a tenant, its subscription read. */
    async row(tenant) {
      const [row] = await worker.sql("SELECT * FROM billing WHERE tenant_id = ?", tenant);
      return row && { ...row, state: row.state && JSON.parse(row.state) };
    },
    /** Waits until the directory says what a tenant's tier is. */
    async tier(tenant, tier) {
      await until(async () => (await worker.sql("SELECT tier FROM tenants WHERE id = ?", tenant))[0]?.tier === tier, `tier ${tier}`);
    },
    async stop() {
      await worker.stop();
      await stripe.stop();
    },
  };
  return billed;
}

/** An owner of a new tenant, with what it does about its plan. @param {Awaited<ReturnType<typeof startBilled>>} billed */
export async function payer({ worker, stripe, row }) {
  const owner = await signedUp(worker);
  const { id } = owner.session.tenant;
  // A session ends when nobody uses it for days: a key does not.
  const scopes = ["verify", "settle", "analytics", "manage"];
  const made = await owner.browser.call("POST", "/v1/api-keys", { name: "all", environment: "live", scopes });
  const { key } = made.body;
  const call = (method, path, body) => worker.call(method, `/v1/billing${path}`, { key, body });
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
