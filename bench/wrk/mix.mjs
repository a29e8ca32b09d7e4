// The mix of requests of `npm run load`: which share each has, and what must be answered. A world (world.mjs) has the keys and
// ids that they name.

/** Where a request holds this, mix.lua puts 24 random hex digits: the same at each place of the request. */
export const RANDOM = "@".repeat(24);

const WRONG_KEY = "x402_test_3HXMrnTdAa29dYnmNMBVxgHMKcHzx4VwhYCKMfTJYyUf4haQ1fNR8UY8SE22";
const NOBODY = `0x${"00".repeat(19)}01`;
const UNKNOWN = "01KB0000000000000000000000";

/**
 * @typedef {{ method: string, path: string, headers?: Record<string, string>, body?: any }} Request `body`: JSON, or a text as it is
 * @typedef {import("./world.mjs").World} World
 * @typedef {import("./world.mjs").Tenant} Tenant
 * @typedef {{
 *   share: number, route: string, what: string, status: number, holds: string | undefined, requests: (world: World) => Request[],
 *   once?: (world: World, count: number) => Promise<Request[]>, isHarmless: boolean,
 * }} Row `share`: of a thousand requests; `holds`: what the answer must hold; `once`: requests that are sent once each, in place of
 *   `requests` while there are some; `isHarmless`: whether it may be sent to a deployment
 */

/** @param {Request} request @param {World} world */
export function requestText({ method, path, headers = {}, body }, { host, prefix }) {
  const text = body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
  const own = {
    Host: host,
    ...headers,
    ...(body === undefined ? {} : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) }),
  };
  const head = Object.entries(own).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${prefix}${path} HTTP/1.1\r\n${head.join("")}\r\n${text}`;
}

const bearer = (key) => ({ Authorization: `Bearer ${key}` });
const by = (key, method, path, body) => ({ method, path, headers: bearer(key), body });
const open = (method, path, body) => () => [{ method, path, body }];
/** A request of each tenant. @param {(tenant: Tenant) => Request | Request[]} make @returns {(world: World) => Request[]} */
const each = (make) => (world) => world.tenants.flatMap(make);
/** With the key of everything, which is of the live environment. */
const owns = (method, path, body) => each((tenant) => by(tenant.live, method, typeof path === "string" ? path : path(tenant), body));
/** With the key of test networks. */
const tests = (method, path, body) => each((tenant) => by(tenant.test, method, typeof path === "string" ? path : path(tenant), body));
const asks = (method, path, body) => (world) => [{ method, path, headers: { "X-Admin-Key": world.admin }, body }];
const operates = (method, path, body) => (world) =>
  world.tenants.map(({ id }) => ({ method, path: path.replace("{id}", id), headers: { "X-Admin-Key": world.admin }, body }));
/** As a page of our own sends it. */
const signedIn = (method, path, body) =>
  each(({ cookie }) => ({ method, path, headers: { Cookie: cookie, "Sec-Fetch-Site": "same-origin" }, body }));
const facilitates = (path) => (world) =>
  world.payments.map(({ tenant, body }) =>
    path.includes("{key}")
      ? { method: "POST", path: path.replace("{key}", tenant.url), body }
      : { method: "POST", path, headers: bearer(tenant.test), body },
  );
/** Settlements: each payment once. @returns {(world: World, count: number) => Promise<Request[]>} */
const settles = (path) => async (world, count) => facilitates(path)({ ...world, payments: await world.sign(count) });

/** A transaction that has paid the tenant, as the stub of a provider reads hashes: its last 20 bytes are the recipient. */
const paying = ({ to }, head = RANDOM) => `0x${head}${to.slice(2)}`;
const verify = (tenant, hash, more = {}, headers = {}) => ({
  method: "POST",
  path: "/v1/verify",
  headers: { ...bearer(tenant.live), ...headers },
  body: { tx_hash: hash, chain: "base", expected_amount: "1.50", recipient: tenant.to, ...more },
});
const keptOnes = (make) => each((tenant) => tenant.kept.map((kept, at) => make(tenant, kept, at)));

/** @returns {Row} */
const row = (share, route, what, status, holds, requests) => ({ share, route, what, status, holds, requests, isHarmless: false });
/** One that may be sent to a deployment too: it changes nothing there, and asks no provider.
 * @returns {Row} */
const harmless = (...given) => ({ ...row(.../** @type {Parameters<typeof row>} */ (given)), isHarmless: true });

const code = (name) => `"error_code":"${name}"`;

/** The mix. Most requests of a service are verifications; each of the others is one that it meets under load.
 * @type {Row[]} */
export const ROWS = [
  // Verifications: 620.
  row(
    220,
    "POST /v1/verify",
    "a new payment",
    200,
    '"success":true',
    each((t) => verify(t, paying(t), { reference: RANDOM })),
  ),
  row(
    160,
    "POST /v1/verify",
    "a payment of late, no claim",
    200,
    '"success":true',
    each((t) => t.seen.map((hash) => verify(t, hash, { claim: false }))),
  ),
  row(
    100,
    "POST /v1/verify",
    "the same reference again",
    200,
    '"replayed":true',
    keptOnes((t, { hash, reference }) => verify(t, hash, { reference })),
  ),
  row(
    50,
    "POST /v1/verify",
    "new, with an Idempotency-Key",
    200,
    '"success":true',
    each((t) => verify(t, paying(t), { reference: RANDOM }, { "Idempotency-Key": `new-${RANDOM}` })),
  ),
  row(
    40,
    "POST /v1/verify",
    "the same Idempotency-Key again",
    200,
    '"success":true',
    keptOnes((t, { hash, reference }) => verify(t, hash, { reference }, { "Idempotency-Key": reference })),
  ),
  row(
    30,
    "POST /v1/verify",
    "paid to somebody else",
    200,
    '"success":false',
    each((t) => verify(t, `0x${RANDOM}${NOBODY.slice(2)}`)),
  ),
  row(
    20,
    "POST /v1/verify",
    "claimed by another reference",
    200,
    code("ALREADY_CLAIMED"),
    keptOnes((t, { hash }) => verify(t, hash, { reference: RANDOM })),
  ),

  // The facilitator: 165.
  row(68, "POST /facilitator/verify", "a signed payment", 200, '"isValid":true', facilitates("/facilitator/verify")),
  row(40, "POST /facilitator/k/{key}/verify", "a signed payment", 200, '"isValid":true', facilitates("/facilitator/k/{key}/verify")),
  {
    ...row(4, "POST /facilitator/settle", "a payment, once", 200, '"success":true', facilitates("/facilitator/verify")),
    once: settles("/facilitator/settle"),
  },
  {
    ...row(2, "POST /facilitator/k/{key}/settle", "a payment, once", 200, '"success":true', facilitates("/facilitator/k/{key}/verify")),
    once: settles("/facilitator/k/{key}/settle"),
  },
  harmless(14, "GET /facilitator/supported", "with a key", 200, '"kinds":[', tests("GET", "/facilitator/supported")),
  row(
    6,
    "GET /facilitator/k/{key}/supported",
    "",
    200,
    '"kinds":[',
    each(({ url }) => ({ method: "GET", path: `/facilitator/k/${url}/supported` })),
  ),
  row(7, "POST /facilitator/accepts", "", 200, '"accepts":[', (w) =>
    w.payments.map(({ tenant, accepts }) => by(tenant.test, "POST", "/facilitator/accepts", accepts)),
  ),
  row(3, "POST /facilitator/k/{key}/accepts", "", 200, '"accepts":[', (w) =>
    w.payments.map(({ tenant, accepts }) => ({ method: "POST", path: `/facilitator/k/${tenant.url}/accepts`, body: accepts })),
  ),
  harmless(3, "GET /facilitator/verify", "", 200, undefined, open("GET", "/facilitator/verify")),
  harmless(2, "GET /facilitator/settle", "", 200, undefined, open("GET", "/facilitator/settle")),
  harmless(5, "GET /facilitator/health", "", 200, undefined, open("GET", "/facilitator/health")),
  harmless(2, "GET /facilitator/version", "", 200, undefined, open("GET", "/facilitator/version")),
  harmless(4, "GET /v1/settlements", "a page", 200, '"data":[', tests("GET", "/v1/settlements?limit=20")),
  row(
    4,
    "GET /v1/settlements/{id}",
    "",
    200,
    '"id":"',
    tests("GET", ({ settlement }) => `/v1/settlements/${settlement}`),
  ),
  row(
    1,
    "POST /v1/settlements/{id}/hand-over",
    "handed over before",
    409,
    undefined,
    tests("POST", ({ settlement }) => `/v1/settlements/${settlement}/hand-over`),
  ),

  // What a tenant reads by a key: 115.
  harmless(20, "GET /v1/verifications", "a page", 200, '"data":[', tests("GET", "/v1/verifications?limit=20")),
  row(
    26,
    "GET /v1/verifications/{id}",
    "",
    200,
    '"id":"ver_',
    keptOnes(({ live }, { id }) => by(live, "GET", `/v1/verifications/${id}`)),
  ),
  harmless(10, "GET /v1/usage", "", 200, '"verifications_used"', tests("GET", "/v1/usage")),
  harmless(6, "GET /v1/whoami", "", 200, undefined, tests("GET", "/v1/whoami")),
  harmless(6, "GET /v1/supported-chains", "", 200, '"enabled_chains":[', tests("GET", "/v1/supported-chains")),
  row(10, "GET /v1/events", "a page", 200, '"data":[', owns("GET", "/v1/events?limit=20")),
  row(
    6,
    "GET /v1/events/{id}",
    "",
    200,
    '"id":"evt_',
    owns("GET", ({ event }) => `/v1/events/${event}`),
  ),
  row(4, "GET /v1/analytics", "30 days", 200, undefined, owns("GET", "/v1/analytics")),
  row(1, "GET /v1/export", "settlements of a test network", 200, undefined, tests("GET", "/v1/export?kind=settlements&format=csv")),
  row(4, "GET /v1/api-keys", "", 200, '"data":[', owns("GET", "/v1/api-keys")),
  row(4, "GET /v1/recipients", "", 200, '"data":[', owns("GET", "/v1/recipients")),
  row(4, "GET /v1/tenant", "", 200, undefined, owns("GET", "/v1/tenant")),
  row(4, "GET /v1/webhook-endpoints", "", 200, '"data":[', owns("GET", "/v1/webhook-endpoints")),
  row(
    2,
    "GET /v1/webhook-endpoints/{id}",
    "",
    200,
    undefined,
    owns("GET", ({ endpoint }) => `/v1/webhook-endpoints/${endpoint}`),
  ),
  row(
    2,
    "GET /v1/webhook-endpoints/{id}/deliveries",
    "",
    200,
    '"data":[',
    owns("GET", ({ endpoint }) => `/v1/webhook-endpoints/${endpoint}/deliveries`),
  ),
  row(
    1,
    "GET /v1/webhook-endpoints/{id}/deliveries/{event_id}",
    "an event that was not for it",
    404,
    undefined,
    owns("GET", ({ endpoint, event }) => `/v1/webhook-endpoints/${endpoint}/deliveries/${event}`),
  ),
  row(2, "GET /v1/audit-log", "a page", 200, '"data":[', owns("GET", "/v1/audit-log?limit=20")),
  row(1, "GET /v1/tenant/oidc", "none is set", 404, undefined, owns("GET", "/v1/tenant/oidc")),
  row(1, "PATCH /v1/tenant", "a new name", 200, undefined, owns("PATCH", "/v1/tenant", { company_name: `Shop ${RANDOM}` })),
  row(
    1,
    "POST /v1/recipients/challenge",
    "",
    201,
    undefined,
    owns("POST", "/v1/recipients/challenge", { chain: "base", address: `0x${RANDOM}${"0".repeat(16)}` }),
  ),

  // People in a session: 20.
  row(9, "GET /v1/session", "", 200, undefined, signedIn("GET", "/v1/session")),
  row(3, "GET /v1/sessions", "", 200, '"data":[', signedIn("GET", "/v1/sessions")),
  row(3, "GET /v1/members", "", 200, undefined, signedIn("GET", "/v1/members")),
  row(1, "GET /v1/session/identities", "", 200, '"data":[', signedIn("GET", "/v1/session/identities")),
  row(
    2,
    "GET /v1/verifications",
    "with a cookie, which it does not take",
    401,
    code("INVALID_API_KEY"),
    signedIn("GET", "/v1/verifications"),
  ),
  row(2, "POST /v1/session/tenant", "of nobody's", 422, undefined, signedIn("POST", "/v1/session/tenant", {})),

  // What anybody reads: 35.
  harmless(10, "GET /v1/health", "", 200, '"status":"', open("GET", "/v1/health")),
  harmless(6, "GET /v1/status", "", 200, '"chains":{', open("GET", "/v1/status")),
  harmless(6, "GET /v1/pricing", "", 200, '"plans":[', open("GET", "/v1/pricing")),
  harmless(3, "GET /v1/openapi.json", "", 200, '"openapi": "3.', open("GET", "/v1/openapi.json")),
  harmless(3, "GET /docs/errors", "", 200, "INVALID_API_KEY", open("GET", "/docs/errors")),
  harmless(3, "GET /docs/tiers", "", 200, "enterprise", open("GET", "/docs/tiers")),
  harmless(3, "GET /billing", "", 200, undefined, open("GET", "/billing")),
  row(1, "GET /metrics", "", 200, "x402_build_info", (w) => [by(w.metrics, "GET", "/metrics")]),

  // Operators: 8.
  row(2, "GET /v1/admin/tenants", "a page", 200, '"data":[', asks("GET", "/v1/admin/tenants?limit=20")),
  row(1, "GET /v1/admin/tenants/{id}", "", 200, undefined, operates("GET", "/v1/admin/tenants/{id}")),
  row(1, "GET /v1/admin/tenants/{id}/api-keys", "", 200, '"data":[', operates("GET", "/v1/admin/tenants/{id}/api-keys")),
  row(1, "GET /v1/admin/tenants/{id}/recipients", "", 200, '"data":[', operates("GET", "/v1/admin/tenants/{id}/recipients")),
  row(1, "GET /v1/admin/search", "a payment", 200, undefined, (w) =>
    w.tenants.map((t) => asks("GET", `/v1/admin/search?q=${t.kept[0].hash}`)(w)[0]),
  ),
  row(1, "GET /v1/admin/alerts", "", 200, undefined, asks("GET", "/v1/admin/alerts")),
  row(1, "GET /v1/admin/mailbox", "", 200, '"data":[', asks("GET", "/v1/admin/mailbox")),

  // What must be refused: 37.
  harmless(6, "POST /v1/verify", "with a key that is none", 401, code("INVALID_API_KEY"), () => [by(WRONG_KEY, "POST", "/v1/verify", {})]),
  harmless(2, "POST /v1/verify", "without a key", 401, code("INVALID_API_KEY"), open("POST", "/v1/verify", {})),
  harmless(3, "POST /v1/verify", "half a body", 400, code("INVALID_JSON"), tests("POST", "/v1/verify", '{"tx_hash":')),
  harmless(
    3,
    "POST /v1/verify",
    "an unknown chain",
    422,
    code("INVALID_CHAIN"),
    tests("POST", "/v1/verify", { tx_hash: NOBODY, chain: "dogecoin" }),
  ),
  harmless(
    2,
    "POST /v1/verify",
    "no hash",
    422,
    code("INVALID_TX_HASH"),
    tests("POST", "/v1/verify", { tx_hash: "0x1", chain: "base-sepolia" }),
  ),
  harmless(1, "POST /v1/verify", "16 KiB and more", 413, code("PAYLOAD_TOO_LARGE"), tests("POST", "/v1/verify", "x".repeat(20_000))),
  harmless(1, "PUT /v1/verify", "a method that it does not have", 405, code("METHOD_NOT_ALLOWED"), tests("PUT", "/v1/verify", {})),
  harmless(1, "GET /v1/nowhere", "a path that is none", 404, code("NOT_FOUND"), open("GET", "/v1/nowhere")),
  row(1, "POST /v1/api-keys", "an empty body", 422, undefined, owns("POST", "/v1/api-keys", {})),
  row(1, "POST /v1/api-keys/{key_id}/rotate", "an unknown key", 404, undefined, owns("POST", `/v1/api-keys/key_${UNKNOWN}/rotate`, {})),
  row(1, "DELETE /v1/api-keys/{key_id}", "an unknown key", 404, undefined, owns("DELETE", `/v1/api-keys/key_${UNKNOWN}`)),
  row(1, "POST /v1/recipients", "an empty body", 422, undefined, owns("POST", "/v1/recipients", {})),
  row(
    1,
    "PATCH /v1/recipients/{address}",
    "an unknown address",
    404,
    undefined,
    owns("PATCH", `/v1/recipients/${NOBODY}`, { default_for: "base" }),
  ),
  row(1, "DELETE /v1/recipients/{address}", "an unknown address", 404, undefined, owns("DELETE", `/v1/recipients/${NOBODY}`)),
  row(1, "POST /v1/webhook-endpoints", "an empty body", 422, undefined, owns("POST", "/v1/webhook-endpoints", {})),
  row(1, "PATCH /v1/webhook-endpoints/{id}", "an unknown one", 404, undefined, owns("PATCH", `/v1/webhook-endpoints/whe_${UNKNOWN}`, {})),
  row(1, "DELETE /v1/webhook-endpoints/{id}", "an unknown one", 404, undefined, owns("DELETE", `/v1/webhook-endpoints/whe_${UNKNOWN}`)),
  row(1, "POST /v1/members/invitations", "an empty body", 422, undefined, signedIn("POST", "/v1/members/invitations", {})),
  row(
    1,
    "DELETE /v1/members/invitations/{id}",
    "an unknown one",
    404,
    undefined,
    signedIn("DELETE", `/v1/members/invitations/inv_${UNKNOWN}`),
  ),
  row(
    1,
    "PATCH /v1/members/{person_id}",
    "an unknown person",
    404,
    undefined,
    signedIn("PATCH", `/v1/members/per_${UNKNOWN}`, { role: "viewer" }),
  ),
  row(1, "DELETE /v1/sessions/{id}", "an unknown one", 404, undefined, signedIn("DELETE", `/v1/sessions/ses_${UNKNOWN}`)),
  row(1, "POST /v1/admin/tenants", "an empty body", 422, undefined, asks("POST", "/v1/admin/tenants", {})),
  row(1, "PATCH /v1/admin/tenants/{id}", "an unknown tenant", 404, undefined, asks("PATCH", `/v1/admin/tenants/ten_${UNKNOWN}`, {})),
  row(1, "POST /v1/signup", "an empty body", 422, undefined, open("POST", "/v1/signup", {})),
  row(1, "POST /v1/login", "an empty body", 422, undefined, open("POST", "/v1/login", {})),
  row(1, "POST /v1/api-keys/revoke-leaked", "an empty body", 422, undefined, open("POST", "/v1/api-keys/revoke-leaked", {})),
];

const MAIL = "it wants what a mail brings, once: a token, or a code";
const STRIPE = "it asks Stripe, or is asked by it";
const ENDS = "it ends what the other requests of the mix use";
const WRITES = "an operator's or an owner's write of which a service meets some a day; those like it are in the mix";
const SENDS = "it sends something to a server of the tenant's";
const PROVIDER = "it leads to another company's sign-in";

/** Routes that are not in the mix, and why. @type {Record<string, string>} */
export const LEFT_OUT = {
  "GET /v1/events/stream": "its answer has no end, and a connection of wrk waits for it",
  "POST /v1/session": MAIL,
  "POST /v1/members/join": MAIL,
  "POST /v1/tenant/deletion": MAIL,
  "DELETE /v1/session": ENDS,
  "DELETE /v1/sessions": ENDS,
  "DELETE /v1/session/identities/{id}": WRITES,
  "DELETE /v1/members/{person_id}": ENDS,
  "DELETE /v1/tenant": ENDS,
  "DELETE /v1/tenant/deletion": ENDS,
  "DELETE /v1/admin/people/{id}/sessions": ENDS,
  "GET /v1/session/github": PROVIDER,
  "GET /v1/session/github/callback": PROVIDER,
  "GET /v1/session/oidc": PROVIDER,
  "GET /v1/session/oidc/{tenant}/callback": PROVIDER,
  "PUT /v1/tenant/oidc": WRITES,
  "DELETE /v1/tenant/oidc": WRITES,
  "POST /v1/tenant/oidc/prove": WRITES,
  "GET /v1/billing": STRIPE,
  "POST /v1/billing/checkout": STRIPE,
  "POST /v1/billing/portal": STRIPE,
  "POST /v1/billing/change": STRIPE,
  "POST /v1/billing/cancel": STRIPE,
  "POST /v1/billing/resume": STRIPE,
  "GET /v1/billing/invoices": STRIPE,
  "POST /v1/admin/billing/check": STRIPE,
  "POST /v1/webhooks/stripe": STRIPE,
  "POST /v1/webhooks/resend": "Resend calls it, with a signature of its own",
  "POST /v1/admin/tenants/{id}/rebuild": WRITES,
  "POST /v1/admin/chains/check": "it asks every provider of every chain",
  "POST /v1/admin/mails/{id}/resend": WRITES,
  "DELETE /v1/admin/mail-marks/{address}": WRITES,
  "POST /v1/admin/tenants/{id}/api-keys": WRITES,
  "DELETE /v1/admin/tenants/{id}/api-keys/{key_id}": WRITES,
  "POST /v1/admin/tenants/{id}/recipients": WRITES,
  "DELETE /v1/admin/tenants/{id}/recipients/{address}": WRITES,
  "POST /v1/webhook-endpoints/{id}/rotate-secret": WRITES,
  "POST /v1/webhook-endpoints/{id}/test": SENDS,
  "POST /v1/webhook-endpoints/{id}/redeliver": SENDS,
  "POST /v1/webhook-endpoints/{id}/deliveries/{event_id}/redeliver": SENDS,
};

/** The rows for a world; of a deployment the harmless ones. @param {World} world */
export const rowsFor = (world) => ROWS.filter(({ isHarmless }) => isHarmless || !world.isDeployment);

/**
 * The rows of a world with their requests as texts.
 * @param {World} world
 * @param {number} requests how many will be sent, about: so many are prepared of those that are sent once
 * @returns {Promise<import("./wrk.mjs").Prepared[]>}
 */
export async function prepare(world, requests) {
  const prepared = [];
  for (const one of rowsFor(world)) {
    const texts = (all) => all.map((request) => requestText(request, world));
    // Who picks by chance may pick one row more often than its share says.
    const count = Math.ceil((1.5 * requests * one.share) / 1_000) + 20;
    const once = one.once && texts(await one.once(world, count));
    prepared.push({ ...one, requests: texts(one.requests(world)), once });
  }
  return prepared;
}
