// The headers of every kind of answer, and the grade that Mozilla's HTTP Observatory gives a page by its published rules:
// https://developer.mozilla.org/en-US/observatory/docs/tests_and_scoring. They are written here as a table of their results.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { Browser, network, signedUp } from "./browser.mjs";
import { ALWAYS, headersAmiss } from "./hostile/answers.mjs";
import { startWorker } from "./worker.mjs";

const PAGES = "https://pay.example";
let worker;
let owner;
let key;
before(async () => {
  const vars = { MAIL_BACKEND: "mailbox", PUBLIC_URL: PAGES, GITHUB_CLIENT_ID: "client", GITHUB_CLIENT_SECRET: "a secret of this run" };
  worker = await startWorker({ vars: { ...vars, METRICS_TOKEN: "a token of the metrics of this run" } });
  owner = await signedUp(worker);
  const scopes = ["verify", "settle", "analytics", "manage"];
  key = (await owner.browser.call("POST", "/v1/api-keys", { name: "all", environment: "live", scopes })).body.key;
});
after(() => worker.stop());

/** The directives of a policy. @param {string} policy @returns {Record<string, string[]>} */
const directives = (policy) =>
  Object.fromEntries(
    policy
      .split(";")
      .map((one) => one.trim().split(/\s+/))
      .map(([name, ...sources]) => [name, sources]),
  );

/** The sources of a directive: its own, or those of `default-src`. */
const sourcesOf = (policy, name) => policy[name] ?? policy["default-src"] ?? ["*"];
const isUnsafe = (source) => /^'unsafe-(inline|eval)'$|^(data:|https?:|\*)$/.test(source);

/** The first result of each test that holds, with its points. @type {[string, [string, number, (page: Page) => boolean][]][]} */
const RULES = [
  [
    "content-security-policy",
    [
      ["csp-not-implemented", -25, ({ csp }) => csp === undefined],
      ["csp-implemented-with-insecure-scheme", -20, ({ all }) => /\bhttp:/.test(all)],
      [
        "csp-implemented-with-unsafe-inline",
        -20,
        ({ csp }) => ["script-src", "object-src"].some((name) => sourcesOf(csp, name).some(isUnsafe)),
      ],
      ["csp-implemented-with-unsafe-eval", -10, ({ all }) => all.includes("'unsafe-eval'")],
      ["csp-implemented-with-unsafe-inline-in-style-src-only", 0, ({ csp }) => sourcesOf(csp, "style-src").some(isUnsafe)],
      [
        "csp-implemented-with-no-unsafe-default-src-none",
        10,
        ({ csp }) => csp["default-src"]?.join() === "'none'" && /^'(none|self)'$/.test(csp["form-action"]?.join() ?? ""),
      ],
      ["csp-implemented-with-no-unsafe", 5, () => true],
    ],
  ],
  [
    "cookies",
    [
      ["cookies-not-found", 0, ({ cookies }) => cookies.length === 0],
      ["cookies-session-without-secure-flag", -40, ({ cookies }) => cookies.some((one) => !/; Secure(;|$)/.test(one))],
      ["cookies-session-without-httponly-flag", -30, ({ cookies }) => cookies.some((one) => !/; HttpOnly(;|$)/.test(one))],
      ["cookies-samesite-flag-invalid", -20, ({ cookies }) => cookies.some((one) => !/; SameSite=(Lax|Strict)(;|$)/.test(one))],
      ["cookies-secure-with-httponly-sessions-and-samesite", 5, () => true],
    ],
  ],
  [
    "cross-origin-resource-sharing",
    [
      [
        "cross-origin-resource-sharing-implemented-with-universal-access",
        -50,
        ({ headers }) => headers["access-control-allow-credentials"] === "true",
      ],
      ["cross-origin-resource-sharing-not-implemented", 0, () => true],
    ],
  ],
  [
    "referrer-policy",
    [
      ["referrer-policy-not-implemented", 0, ({ headers }) => headers["referrer-policy"] === undefined],
      [
        "referrer-policy-private",
        5,
        ({ headers }) => /^(no-referrer|same-origin|strict-origin|strict-origin-when-cross-origin)$/.test(headers["referrer-policy"]),
      ],
      ["referrer-policy-unsafe", -5, () => true],
    ],
  ],
  [
    "strict-transport-security",
    [
      ["hsts-not-implemented", -20, ({ hsts }) => hsts === undefined],
      ["hsts-implemented-max-age-less-than-six-months", -10, ({ hsts }) => hsts < 15_768_000],
      // Preloading would give five more: the owner of the domain decides that for all its hosts.
      ["hsts-implemented-max-age-at-least-six-months", 0, () => true],
    ],
  ],
  [
    "subresource-integrity",
    [
      ["sri-not-implemented-and-external-scripts", -50, ({ html }) => /<script/i.test(html)],
      ["sri-not-implemented-but-no-scripts-loaded", 0, () => true],
    ],
  ],
  [
    "x-content-type-options",
    [
      ["x-content-type-options-nosniff", 0, ({ headers }) => headers["x-content-type-options"] === "nosniff"],
      ["x-content-type-options-not-implemented", -5, () => true],
    ],
  ],
  [
    "x-frame-options",
    [
      ["x-frame-options-implemented-via-csp", 5, ({ csp }) => csp?.["frame-ancestors"]?.join() === "'none'"],
      ["x-frame-options-sameorigin-or-deny", 0, ({ headers }) => /^(DENY|SAMEORIGIN)$/.test(headers["x-frame-options"])],
      ["x-frame-options-not-implemented", -20, () => true],
    ],
  ],
  [
    "cross-origin-resource-policy",
    [
      ["corp-not-implemented", 0, ({ headers }) => headers["cross-origin-resource-policy"] === undefined],
      ["corp-implemented-with-same-origin-or-site", 10, ({ headers }) => /^same-/.test(headers["cross-origin-resource-policy"])],
      ["corp-implemented-with-cross-origin", 0, () => true],
    ],
  ],
];
const GRADES = /** @type {[number, string][]} */ ([
  [100, "A+"],
  [90, "A"],
  [85, "A-"],
  [80, "B+"],
  [70, "B"],
  [65, "B-"],
  [60, "C+"],
  [50, "C"],
  [45, "C-"],
  [40, "D+"],
  [30, "D"],
  [25, "D-"],
  [0, "F"],
]);

/**
 * @typedef {{ headers: any, html: string, csp: any, all: string, hsts: any, cookies: string[] }} Page
 * @param {any} headers @param {string} html
 */
function graded(headers, html) {
  const all = headers["content-security-policy"] ?? "";
  const [, seconds] = /max-age=(\d+)/.exec(headers["strict-transport-security"] ?? "") ?? [];
  const csp = all ? directives(all) : undefined;
  const page = { headers, html, all, csp, hsts: seconds && Number(seconds), cookies: [headers["set-cookie"] ?? []].flat() };
  const results = RULES.map(([, of]) => of.find(([, , holds]) => holds(page)) ?? ["none", -100]);
  const points = results.map(([, number]) => Number(number));
  const lost = 100 + points.filter((number) => number < 0).reduce((sum, number) => sum + number, 0);
  // What is more than needed counts from 90 on.
  const score = lost < 90 ? Math.max(0, lost) : lost + points.filter((number) => number > 0).reduce((sum, number) => sum + number, 0);
  return { score, grade: GRADES.find(([least]) => score >= least)?.[1], results: results.map(([name]) => name) };
}

/** The headers that securityheaders.com wants for A+: its six, and those that it calls upcoming. */
const WANTED = [
  "strict-transport-security",
  "content-security-policy",
  "x-frame-options",
  "x-content-type-options",
  "referrer-policy",
  "permissions-policy",
  "cross-origin-opener-policy",
  "cross-origin-embedder-policy",
  "cross-origin-resource-policy",
];

test("the rules give what they give elsewhere", () => {
  // A page without any of them: 25 for the policy, 20 for HSTS, 5 for nosniff, 20 for frames.
  assert.deepEqual([graded({}, "").score, graded({}, "").grade], [30, "D"]);
  const good = { ...ALWAYS, "cross-origin-resource-policy": "cross-origin" };
  assert.equal(graded(good, "").grade, "A+");
  for (const [name, worse] of Object.entries({
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'",
    "strict-transport-security": undefined,
    "access-control-allow-credentials": "true",
    "set-cookie": "a=b; Secure; HttpOnly",
  }))
    assert.notEqual(graded({ ...good, [name]: worse }, "").grade, "A+", name);
  assert.notEqual(graded(good, "<script src='https://x.example/y.js'>").grade, "A+");
});

test("every page is graded A+, by a policy that lets in its own style sheet alone", async () => {
  for (const path of ["/docs/errors", "/docs/tiers", "/billing", "/billing?checkout=done", "/billing?checkout=left"]) {
    const { status, headers, text } = await worker.call("GET", path);
    assert.deepEqual([status, headers.get("content-type")], [200, "text/html; charset=utf-8"], path);
    const own = Object.fromEntries(headers);
    const { grade, score, results } = graded(own, text);
    assert.equal(grade, "A+", `${path}: ${score}: ${results}`);
    assert.ok(
      results.includes("csp-implemented-with-no-unsafe-default-src-none") && results.includes("x-frame-options-implemented-via-csp"),
      `${results}`,
    );
    for (const name of WANTED) assert.ok(own[name], `${path}: ${name}`);
    assert.match(own["strict-transport-security"], /^max-age=\d{8,}; includeSubDomains$/);
    // What the policy lets in is what the page has: no more, no less.
    const sheets = [...text.matchAll(/<style>([^<]*)<\/style>/g)].map(([, sheet]) => sheet);
    const hashes = sheets.map((sheet) => `'sha256-${createHash("sha256").update(sheet).digest("base64")}'`);
    assert.deepEqual(directives(own["content-security-policy"])["style-src"], hashes, path);
    assert.ok(!/<script|<link|<img|<iframe|<form|<base|\sstyle=|\son\w+=|javascript:/i.test(text), path);
  }
});

test("every kind of answer has all headers, tells nothing of what runs here, and sets cookies of this host alone", async () => {
  const anybody = network();
  const held = { ...anybody, cookie: [...owner.browser.cookies].map((pair) => pair.join("=")).join("; "), "sec-fetch-site": "same-origin" };
  const bearer = { ...anybody, authorization: `Bearer ${key}` };
  const json = { "content-type": "application/json" };
  /** @type {[string, string, string, Record<string, string>, number, string | undefined, string?][]} */
  const answers = [
    ["a page", "GET", "/docs/errors", anybody, 200, "text/html"],
    ["JSON", "GET", "/v1/pricing", anybody, 200, "application/json"],
    ["the document", "GET", "/v1/openapi.json", anybody, 200, "application/json"],
    ["the status", "GET", "/v1/status", anybody, 200, "application/json"],
    ["health", "GET", "/v1/health", anybody, 200, "application/json"],
    ["metrics", "GET", "/metrics", { ...anybody, authorization: "Bearer a token of the metrics of this run" }, 200, "text/plain"],
    ["a ledger's answer", "GET", "/v1/usage", bearer, 200, "application/json"],
    ["a session's answer", "GET", "/v1/session", held, 200, "application/json"],
    [
      "an operator's answer",
      "GET",
      "/v1/admin/tenants",
      { ...anybody, "x-admin-key": "an-operators-key-for-tests-of-40-letters" },
      200,
      "application/json",
    ],
    ["CSV", "GET", "/v1/audit-log?format=csv", held, 200, "text/csv"],
    ["an export of CSV", "GET", "/v1/export?format=csv", bearer, 200, "text/csv"],
    ["an export of lines", "GET", "/v1/export?format=ndjson", bearer, 200, "application/x-ndjson"],
    ["a stream", "GET", "/v1/events/stream", bearer, 200, "text/event-stream"],
    ["a redirect", "GET", "/v1/session/github", { ...held, "sec-fetch-mode": "navigate" }, 303, undefined],
    ["a preflight", "OPTIONS", "/v1/verify", anybody, 204, undefined],
    ["a preflight of a session's route", "OPTIONS", "/v1/session", anybody, 204, undefined],
    ["a preflight of nowhere", "OPTIONS", "/v1/nowhere", anybody, 204, undefined],
    ["no body", "HEAD", "/v1/pricing", anybody, 200, "application/json"],
    ["no route", "GET", "/v1/nowhere", anybody, 404, "application/problem+json"],
    ["the root", "GET", "/", anybody, 404, "application/problem+json"],
    ["another method", "DELETE", "/v1/pricing", anybody, 405, "application/problem+json"],
    ["no key", "GET", "/v1/usage", anybody, 401, "application/problem+json"],
    ["a forged key", "GET", "/v1/usage", { ...anybody, authorization: "Bearer x402_live_x" }, 401, "application/problem+json"],
    ["no session", "GET", "/v1/session", anybody, 401, "application/problem+json"],
    ["no operator", "GET", "/v1/admin/tenants", anybody, 401, "application/problem+json"],
    ["another page", "POST", "/v1/login", { ...held, ...json, "sec-fetch-site": "cross-site" }, 403, "application/problem+json", "{}"],
    ["too much", "POST", "/v1/verify", { ...bearer, ...json }, 413, "application/problem+json", "x".repeat(20_000)],
    ["another type", "POST", "/v1/verify", { ...bearer, "content-type": "text/plain" }, 415, "application/problem+json", "{}"],
    ["no JSON", "POST", "/v1/verify", { ...bearer, ...json }, 400, "application/problem+json", "{"],
    ["a wrong body", "POST", "/v1/verify", { ...bearer, ...json }, 422, "application/problem+json", "{}"],
    ["a refusal of x402", "POST", "/facilitator/verify", { ...bearer, ...json }, 200, "application/json", "{}"],
    ["a key in the path", "GET", "/facilitator/k/x/supported", anybody, 200, "application/json"],
    ["a mail that is asked for", "POST", "/v1/login", { ...anybody, ...json }, 202, "application/json", '{"email":"nobody@example.test"}'],
  ];
  const browser = new Browser(worker);
  for (const [what, method, path, headers, status, type, raw] of answers) {
    const answer = await rawCall(method, path, headers, raw);
    assert.equal(answer.status, status, `${what}: ${answer.text.slice(0, 200)}`);
    if (type) assert.ok(String(answer.headers["content-type"]).startsWith(type), `${what}: ${answer.headers["content-type"]}`);
    assert.deepEqual(headersAmiss(answer.headers), [], what);
    assert.match(String(answer.headers["cross-origin-resource-policy"]), /^(cross-origin|same-origin)$/, what);
    assert.equal(answer.headers["access-control-allow-credentials"], undefined, what);
    assert.ok(answer.headers["cache-control"], what);
    const { grade, score, results } = graded(answer.headers, answer.text);
    assert.equal(grade, "A+", `${what}: ${score}: ${results}`);
  }
  // Each cookie that there is: of a mail's browser, a session, a browser that is known, and a sign-in at GitHub.
  const { setCookie: asked } = await browser.logIn(owner.email);
  const { setCookie: begun } = await owner.browser.call("GET", "/v1/session/github");
  const fresh = await signedUp(worker);
  const names = new Set(
    [...asked, ...begun, ...[...fresh.browser.cookies].map(([name]) => `${name}=`)].map((cookie) => cookie.split("=")[0]),
  );
  assert.deepEqual([...names].sort(), ["__Host-known", "__Host-oauth", "__Host-session", "__Host-sign-in"]);
  for (const cookie of [...asked, ...begun])
    assert.match(cookie, /^__Host-[a-z-]+=[0-9a-f]{64}; Max-Age=\d+; Path=\/; Secure; HttpOnly; SameSite=Lax$/);
});

/** A request with any headers; of a stream its head alone. */
async function rawCall(method, path, headers, body) {
  const { request } = await import("node:http");
  const { hostname, port } = new URL(worker.url);
  const length = body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) };
  return new Promise((resolve, reject) => {
    const asked = request({ hostname, port, path, method, agent: false, headers: { ...headers, ...length } }, async (response) => {
      const isStream = response.headers["content-type"] === "text/event-stream";
      if (isStream) response.destroy();
      const text = isStream ? "" : Buffer.concat(await response.toArray()).toString();
      resolve({ status: response.statusCode, headers: response.headers, text });
    });
    asked.once("error", reject);
    asked.end(body);
  });
}
