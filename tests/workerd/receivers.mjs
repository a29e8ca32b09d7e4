// Webhook endpoints that are played: the DNS that leads to them, and what they answer. A public name leads here, since the
// Worker sends nothing to a private address.
import { Response, fetch as passed } from "miniflare";
import { signedUp } from "./browser.mjs";
import { until } from "./worker.mjs";

const TYPES = { A: [1, "93.184.215.14"], AAAA: [28, "2606:2800:21f:cb07:6820:80da:af6b:8b2c"] };

/** What an endpoint has received of a message.
 * @typedef {{ id: string, type: string, subject: string | undefined, data: any, text: string, headers: Record<string, string>, at: number, path: string }} Received */

/** Starts to play endpoints. `outbound` answers the Worker's requests to the outside. */
export function receivers() {
  /** What hosts do with a message. @type {Map<string, (message: Received, request: any) => any>} */
  const hosts = new Map();
  const play = {
    /** Everything that was received, by the host. @type {Map<string, Received[]>} */
    all: new Map(),
    /** How many messages hosts have in hand at most, and at present. @type {Map<string, { most: number, now: number }>} */
    inHand: new Map(),
    /** Questions to the DNS. */
    asked: 0,
    /** What the resolver answers instead of addresses. @type {(() => any) | null} */
    resolver: null,
    /** Has a host act: a status, or a function that answers one, or a response. */
    set(host, act) {
      hosts.set(host, typeof act === "function" ? act : () => act);
      if (!play.all.has(host)) {
        play.all.set(host, []);
        play.inHand.set(host, { most: 0, now: 0 });
      }
    },
    /** What a host has received. @returns {Received[]} */
    of: (host) => play.all.get(host) ?? [],
    async outbound(request) {
      const { hostname, searchParams, pathname } = new URL(request.url);
      if (hostname === "127.0.0.1") return passed(request);
      if (hostname === "cloudflare-dns.com") {
        play.asked++;
        if (play.resolver) return play.resolver();
        const [type, data] = TYPES[/** @type {"A" | "AAAA"} */ (searchParams.get("type"))];
        return Response.json({ Status: 0, Answer: [{ name: searchParams.get("name"), type, data }] });
      }
      const act = hosts.get(hostname);
      if (!act) throw new Error(`no host ${hostname}`);
      const text = await request.text();
      const headers = Object.fromEntries(request.headers);
      const { type, data } = JSON.parse(text);
      const message = { id: headers["webhook-id"], type, subject: data?.id, data, text, headers, at: Date.now(), path: pathname };
      play.of(hostname).push(message);
      const hand = play.inHand.get(hostname) ?? { most: 0, now: 0 };
      hand.most = Math.max(hand.most, ++hand.now);
      try {
        const answer = await act(message, request);
        return typeof answer === "number" ? new Response(null, { status: answer }) : answer;
      } finally {
        hand.now--;
      }
    },
  };
  return play;
}

/** An owner of a tenant, with a key that verifies, manages and reads events; what it registers and hears. */
export async function hearing(
  worker,
  { tier = "enterprise", environment = "live", to = /** @type {string | undefined} */ (undefined) } = {},
) {
  const owner = await signedUp(worker);
  const id = owner.session.tenant.id;
  const admin = async (method, path, body) => {
    const done = await worker.call(method, `/v1/admin/tenants/${id}${path}`, { admin: true, body });
    if (done.status >= 300) throw new Error(done.text);
    return done.body;
  };
  const limits = { per_minute: 10_000, per_hour: 100_000 };
  await admin("PATCH", "", { tier, limits, ...(to ? { recipients: { base: to } } : {}) });
  const scopes = ["verify", "settle", "analytics", "manage"];
  const made = await owner.browser.call("POST", "/v1/api-keys", { name: "all", environment, scopes });
  if (made.status !== 201) throw new Error(JSON.stringify(made.body));
  const { key } = made.body;
  const call = (method, path, body) => worker.call(method, path, { key, body });
  return {
    ...owner,
    id,
    key,
    call,
    admin,
    /** Registers an endpoint, for what happens to payments. */
    async endpoint(host, more = {}) {
      const wanted = { url: `https://${host}/hook`, environment, events: ["verification.*", "payment.*", "settlement.*"], ...more };
      const { status, body, text } = await call("POST", "/v1/webhook-endpoints", wanted);
      if (status !== 201 || !body.in_force) throw new Error(text);
      return { ...body.webhook_endpoint, secret: body.secret, path: `/v1/webhook-endpoints/${body.webhook_endpoint.id}` };
    },
    /** Has the ledger ship what it holds. */
    ship: () => call("GET", "/v1/events?limit=1"),
    /** An object's alarm follows the clock when the object is next asked something. */
    async pass(ms, ...endpoints) {
      await worker.advance(ms);
      for (const { path } of endpoints) await call("GET", `${path}/deliveries?limit=1`);
    },
    /** All deliveries of an endpoint, the newest first. */
    async deliveries({ path }, query = "") {
      const seen = [];
      let cursor = "";
      do {
        const { status, body, text } = await call("GET", `${path}/deliveries?limit=100${query}${cursor}`);
        if (status !== 200) throw new Error(text);
        seen.push(...body.data);
        cursor = body.next_cursor && `&cursor=${body.next_cursor}`;
      } while (cursor);
      return seen;
    },
  };
}

/** Waits until a host has received something. @returns {Promise<Received[]>} */
export const received = (play, host, count = 1, patience = 20_000) =>
  until(() => play.of(host).length >= count && play.of(host), `${count} messages at ${host}`, patience);
