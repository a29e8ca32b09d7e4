// A stateful Stripe for tests: seahaven's world (world.mjs) with what it lacks, behind the address of `api.stripe.com`.
//
//   const stripe = await startStripe();                        // some seconds: Python starts. Start the Worker beside it
//   const outbound = (request) => (stripe.owns(request) ? stripe.outbound(request) : passed(request));
//   const worker = await startWorker({ vars: { STRIPE_SECRET_KEY: stripe.key, STRIPE_WEBHOOK_SECRET: stripe.secret }, outbound });
//   const prices = stripe.catalog();                           // or `npm run stripe:setup` against `stripe.serve()`
//   …the Worker makes a customer and a Checkout session…
//   stripe.complete(stripe.sessionsOf(customer)[0], "ok");     // a person pays: CARDS of cards.mjs, or a token
//   await stripe.deliver(worker, { order: "shuffled", seed: 7, duplicate: 2, drop: 0.2 });
//   stripe.advance(8 * DAY);                                   // trials end, periods renew, charges are tried again
//   stripe.setCard(customer, "declines");                      // as the portal sets it; `turnCard` turns the card that is there
//   stripe.confirm(stripe.portals[0]);                         // a person confirms a change; also `removeCard`, `resume`, `pay`
//   stripe.do("DELETE", `/v1/subscriptions/${id}`);            // whatever else the dashboard does
//   stripe.faults.add({ kind: "lost", path: "/v1/subscriptions", times: 2 });
//   assert.deepEqual(stripe.state(), …);                       // what D1 must say in the end
//   after(() => stripe.stop());                                // throws if a request was not as Stripe wants it
//
// Every request must be one that Stripe's OpenAPI allows, with a key, the pinned version and, if it is a POST, an idempotency
// key; else it throws and is in `violations`. Every answer is held against the OpenAPI too. `asked` is what was asked.
// A process has one Stripe; `reset` gives it a fresh account. A portal session must name its configuration, as at Stripe,
// where no default is saved: `metadata[x402_edge]` is `portal`, or `confirm` for `subscription_update_confirm`.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { Response } from "miniflare";
import Stripe from "stripe";
import { cards } from "./cards.mjs";
import { checkout } from "./checkout.mjs";
import { dashboard } from "./dashboard.mjs";
import { delivery } from "./delivery.mjs";
import { Broken, faults } from "./faults.mjs";
import { StripeError, decode } from "./forms.mjs";
import { idempotency } from "./idempotency.mjs";
import { persons } from "./persons.mjs";
import { routes } from "./routes.mjs";
import { startSpec } from "./spec.mjs";
import { startWorld } from "./world.mjs";

/** The pinned version is the one that npm's package is of. */
const VERSION = Stripe.API_VERSION;
export const HOST = "api.stripe.com";
export const DAY = 86_400_000;

/** A request as it was asked. @typedef {{ method: string, path: string, params: any, key: string | undefined, at: number, status?: number }} Asked */

/**
 * Starts a Stripe. `now` is its time in milliseconds, which runs on from there unless it stands (`runs: false`); `endpoint` is
 * the webhook endpoint that is there at first, or none by null.
 * @param {{ now?: number, runs?: boolean, seed?: number, dunning?: import("./world.mjs").Dunning, key?: string,
 *   endpoint?: { secret?: string, enabled_events?: string[] } | null }} [wanted]
 */
export async function startStripe(wanted = {}) {
  const { runs = true, seed = 1, dunning, key = "sk_test_51GatewayOfTheTests", endpoint = {} } = wanted;
  const [world, spec] = await Promise.all([startWorld({ now: wanted.now ?? Date.now(), dunning, seed }), startSpec()]);

  /** What the clock is ahead of the machine's, or where it stands. */
  let clock = 0;
  const setClock = (at) => (clock = runs ? at - Date.now() : at);
  const now = () => Math.floor((runs ? Date.now() + clock : clock) / 1000) * 1000;
  setClock(wanted.now ?? Date.now());

  /** @type {Asked[]} */
  const asked = [];
  /** @type {string[]} */
  const violations = [];
  const violated = (what) => {
    violations.push(what);
    return new Error(`stripe: ${what}`);
  };

  /** An id as Stripe's look. */
  const id = (prefix, length = 24) => prefix + randomBytes(length).toString("base64url").replaceAll(/[-_]/g, "0").slice(0, length);
  const common = {
    world,
    now,
    id,
    emit: (type, object) => world.emit(type, structuredClone(object)),
    /** A request of Stripe's own, of a person in the portal or of the dashboard; its body, or a `StripeError`. */
    own: (method, path, params = {}) => does(method, path, structuredClone(params)),
  };
  const kept = { checkout: checkout(common), dashboard: dashboard(common) };
  const sent = delivery({ world, endpoints: kept.dashboard.endpoints, now, version: VERSION });
  const answer = routes({ world, resources: kept, delivery: sent, now });
  const purse = cards(common);
  const wrong = faults();
  const keys = idempotency({ now });

  /** What happens by itself until a time, in order. */
  function pass(until) {
    for (;;) {
      const [own, other] = [world.due(), kept.checkout.due()];
      const at = Math.min(own < 0 ? Number.POSITIVE_INFINITY : own, other?.at ?? Number.POSITIVE_INFINITY);
      if (at > until) break;
      world.set(at);
      if (other && other.at === at) other.step();
      else world.step();
    }
    world.set(until);
  }

  /** Does a request that is allowed; its body, or a `StripeError`. */
  function does(method, path, params, /** @type {string | undefined} */ idempotencyKey = undefined) {
    const bad = spec.request(method, path, params);
    if (bad) throw violated(`${method} ${path}: ${bad}: ${JSON.stringify(params)}`);
    world.set(now());
    const { status, body } = answer(method, path, params, idempotencyKey);
    const worse = spec.answer(method, path, status, body);
    if (worse) throw violated(`the answer to ${method} ${path}: ${worse}: ${JSON.stringify(body)}`);
    if (status >= 400) throw Object.assign(new StripeError(status, body.error), { body });
    return structuredClone(body);
  }

  /** What is wrong with a request before its parameters. */
  function unlike({ method, path, headers }) {
    if (headers.authorization !== `Bearer ${key}`) return `${method} ${path} has no key of the account`;
    if (headers["stripe-version"] !== VERSION) return `${method} ${path} is of version ${headers["stripe-version"]}`;
    if (method === "POST" && !headers["idempotency-key"]) return `${method} ${path} has no idempotency key`;
    if (method === "POST" && headers["content-type"]?.split(";")[0] !== "application/x-www-form-urlencoded") {
      return `${method} ${path} is no form but ${headers["content-type"]}`;
    }
    return undefined;
  }

  /** Answers a request: `{ status, headers, body, broken? }`. It throws where a request is not as Stripe wants it. */
  async function handle({ method, path, query = "", headers, body = "" }) {
    const one = /** @type {Asked} */ ({ method, path, params: decode(`${query}&${body}`), key: headers["idempotency-key"], at: now() });
    asked.push(one);
    const bad = unlike({ method, path, headers }) ?? spec.request(method, path, structuredClone(one.params));
    if (bad) throw violated(`${method} ${path}: ${bad}`);
    pass(now());
    const act = (keep) => () => {
      try {
        return keep({ status: 200, headers: {}, body: does(method, path, structuredClone(one.params), one.key) });
      } catch (error) {
        if (!(error instanceof StripeError)) throw error;
        return keep({ status: error.status, headers: {}, body: error.body });
      } finally {
        pass(now());
      }
    };
    const given = await keys.once(one, (keep) => wrong.around(one, act(keep), keep));
    one.status = given.status;
    const own = { "request-id": id("req_", 14), "stripe-version": VERSION, ...(one.key ? { "idempotency-key": one.key } : {}) };
    return { ...given, headers: { ...own, ...given.headers } };
  }

  const stripe = {
    key,
    asked,
    violations,
    faults: wrong,
    now,
    /** Whether a request is for Stripe. */
    owns: (request) => new URL(request.url).host === HOST,
    /** Answers a request of the Worker. @param {import("miniflare").Request} request */
    async outbound(request) {
      const { pathname, search } = new URL(request.url);
      const { method } = request;
      const told = {
        method,
        path: pathname,
        query: search.slice(1),
        headers: Object.fromEntries(request.headers),
        body: await request.text(),
      };
      const { status, headers, body, broken } = await handle(told);
      const text = JSON.stringify(body, null, 2);
      const type = { "content-type": "application/json" };
      if (!broken) return new Response(text, { status, headers: { ...type, ...headers } });
      // The connection breaks within the answer.
      const half = new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(text.slice(0, 20)));
          controller.error(new Error("the answer is lost"));
        },
      });
      return new Response(half, { status, headers: { ...type, ...headers } });
    },
    /** Serves on loopback, for what is no Worker; `close` ends it. A request that Stripe does not want is answered 400. */
    async serve() {
      const server = createServer(async (request, response) => {
        const { pathname, search } = new URL(request.url ?? "/", "http://127.0.0.1");
        const chunks = [];
        for await (const chunk of request) chunks.push(chunk);
        const headers = /** @type {Record<string, string>} */ (request.headers);
        const told = { method: request.method, path: pathname, query: search.slice(1), headers, body: Buffer.concat(chunks).toString() };
        try {
          const { status, headers: given, body, broken } = await handle(told);
          if (broken) return request.socket.destroy();
          return response.writeHead(status, { "content-type": "application/json", ...given }).end(JSON.stringify(body));
        } catch (error) {
          if (error instanceof Broken) return request.socket.destroy();
          return response.writeHead(400).end(JSON.stringify({ error: { type: "invalid_request_error", message: error.message } }));
        }
      });
      await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      return { url: `http://127.0.0.1:${port}`, close: () => new Promise((resolve) => server.close(resolve)) };
    },
    /** A request of the dashboard's, without key and log. */
    do: common.own,
    /** Lets time pass until `at`, with all that happens in it. */
    advanceTo(at) {
      const until = at instanceof Date ? at.getTime() : at;
      if (until < now()) throw new Error("Stripe's time does not go back");
      pass(until);
      setClock(until);
    },
    /** Lets so many milliseconds pass. */
    advance: (ms) => stripe.advanceTo(now() + ms),
    /** What a person does: pays on the page of a session, changes their card. */
    ...persons({ ...common, cards: purse, checkout: kept.checkout, dashboard: kept.dashboard }),
    /** The secret of the endpoint that was there at first. */
    get secret() {
      return kept.dashboard.endpoints.at(-1)?.secret;
    },
    /** Portal sessions that were opened, the newest first. */
    portals: kept.dashboard.portals,
    endpoints: kept.dashboard.endpoints,
    /** Events: all, and those that no endpoint has taken. */
    events: sent.all,
    pending: sent.pending,
    signed: sent.signed,
    hold: sent.hold,
    taken: sent.taken,
    deliver: sent.deliver,
    /** What is wrong with an object by its name in Stripe's OpenAPI; undefined is nothing. */
    unlike: spec.object,
    /** A fresh account, at the time of the start unless another is said.
     * @param {{ now?: number, dunning?: import("./world.mjs").Dunning }} [how] */
    reset(how = {}) {
      setClock(how.now ?? wanted.now ?? Date.now());
      world.reset({ now: now(), ...(how.dunning ? { dunning: how.dunning } : {}) });
      for (const one of [kept.checkout, kept.dashboard, sent, keys, wrong, purse]) one.clear();
      asked.length = violations.length = 0;
      begin();
    },
    /** Throws if anything was not as Stripe wants it. */
    stop() {
      wrong.stop();
      if (violations.length) throw new Error(`${violations.length} requests or answers were not Stripe's:\n${violations.join("\n")}`);
    },
  };

  function begin() {
    if (!endpoint) return;
    const made = kept.dashboard.register({
      url: "https://pay.example/v1/webhooks/stripe",
      enabled_events: endpoint.enabled_events ?? ["*"],
      api_version: VERSION,
    });
    if (endpoint.secret) made.secret = endpoint.secret;
  }
  begin();
  return stripe;
}
