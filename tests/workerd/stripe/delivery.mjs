// Events on their way to webhook endpoints: signed by Stripe's own package; twice, in any order, late, or not at all.
import Stripe from "stripe";

/** Stripe's package without a connection: only its signatures are used. */
const { webhooks } = new Stripe("sk_test_of_the_gateway");

/** A number below 1 from a seed and a position, always the same. */
function chance(seed, at) {
  let state = (seed * 2654435761 + at * 40503 + 1) >>> 0;
  for (let round = 0; round < 3; round++) {
    state = Math.imul(state ^ (state >>> 16), 2246822507) >>> 0;
    state = Math.imul(state ^ (state >>> 13), 3266489909) >>> 0;
  }
  return ((state ^ (state >>> 16)) >>> 0) / 2 ** 32;
}

/** How events are delivered. `types` are those to deliver; `only` chooses events; `duplicate` sends each so often; `drop` is a
 * share of them or a choice; `order` is as they were made, reversed, or by `seed`; `attempts` sends again what is not
 * answered 2xx.
 * @typedef {{ types?: string[], only?: (event: any) => boolean, order?: "made" | "reversed" | "shuffled", seed?: number,
 *   duplicate?: number, drop?: number | ((event: any) => boolean), attempts?: number, secret?: string, parallel?: number,
 *   timestamp?: number }} Delivery */

/** Deliveries of a gateway. `endpoints` have secrets, versions and the events that they want. */
export function delivery({ world, endpoints, now, version }) {
  /** All events, the first first. @type {any[]} */
  const events = [];
  /** Events that an endpoint has taken. @type {Set<string>} */
  const taken = new Set();
  let last = 0;

  /** Reads what has happened since. */
  function all() {
    for (const { seq, event } of world.events(last)) {
      last = seq;
      events.push(shaped(event));
    }
    return events;
  }

  /** An event as the pinned version shapes it. */
  const shaped = (event) => ({ ...event, api_version: version });

  const wanted = (event) =>
    endpoints.some(({ status, enabled_events: types }) => status === "enabled" && types.some((one) => one === "*" || one === event.type));
  const isPending = (event) => wanted(event) && !taken.has(event.id);

  /** The signed request of an event. @returns {{ headers: Record<string, string>, body: string, event: any }} */
  function signed(event, { secret = endpoints[0]?.secret, timestamp = Math.floor(now() / 1000) } = {}) {
    const body = JSON.stringify({ ...event, pending_webhooks: 1 }, null, 2);
    const signature = webhooks.generateTestHeaderString({ payload: body, secret, timestamp });
    return { headers: { "content-type": "application/json; charset=utf-8", "stripe-signature": signature }, body, event };
  }

  /** Events that are to be delivered, in the order asked for. @param {Delivery} how */
  function chosen({ types, only, order = "made", seed = 1, duplicate = 1, drop = 0 }) {
    const due = all()
      .filter(isPending)
      .filter((event) => (!types || types.includes(event.type)) && (!only || only(event)))
      .filter((event, at) => !(typeof drop === "function" ? drop(event) : chance(seed, at) < drop));
    const sent = due.flatMap((event) => Array.from({ length: duplicate }, () => event));
    if (order === "reversed") return sent.reverse();
    if (order !== "shuffled") return sent;
    const keys = new Map(sent.map((_, at) => [at, chance(seed + 1, at)]));
    return [...sent.keys()].sort((a, b) => (keys.get(a) ?? 0) - (keys.get(b) ?? 0)).map((at) => sent[at]);
  }

  async function post(url, event, how) {
    const { headers, body } = signed(event, how);
    const answer = await fetch(url, { method: "POST", headers, body });
    const text = await answer.text();
    if (answer.ok) taken.add(event.id);
    return { event, status: answer.status, text };
  }

  return {
    /** Every event so far, the first first. */
    all,
    /** Events that no endpoint has taken. @returns {any[]} */
    pending: () => all().filter(isPending),
    signed,
    /** Delivers what is pending to a Worker, or an address; what each was answered. @param {Delivery} [how] */
    async deliver(to, how = {}) {
      const url = typeof to === "string" ? to : new URL("/v1/webhooks/stripe", to.url).href;
      const { parallel = 1, attempts = 1 } = how;
      const answers = [];
      for (let attempt = 0; attempt < attempts; attempt++) {
        const waiting = chosen(attempt === 0 ? how : { ...how, drop: 0, duplicate: 1 });
        if (waiting.length === 0) break;
        while (waiting.length > 0) answers.push(...(await Promise.all(waiting.splice(0, parallel).map((event) => post(url, event, how)))));
      }
      return answers;
    },
    /** The signed requests of what is pending, for a test to send; `taken` says of one that it was answered 2xx. */
    hold: (/** @type {Delivery} */ how = {}) => chosen(how).map((event) => signed(event, how)),
    taken: (event) => taken.add(event.id),
    clear() {
      events.length = 0;
      taken.clear();
      last = 0;
    },
  };
}
