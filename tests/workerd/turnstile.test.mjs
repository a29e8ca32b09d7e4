// Turnstile before a mail is asked for. The fake answers siteverify as Cloudflare documents it.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { Response, fetch as passed } from "miniflare";
import { Browser, address, mailTo, mailsTo } from "./browser.mjs";
import { startWorker } from "./worker.mjs";

const SECRET = "0x4AAAAAAA-a-secret-of-this-test";
const refusal = ({ status, body }) => [status, body.error_code, body.param];

/** What the Worker has asked siteverify. @type {any[]} */
const asked = [];
/** The answer to the next questions; `null`: that of Cloudflare's own fake. @type {(() => Response | Promise<Response>) | null} */
let answer = null;

/** Siteverify: tokens that begin with `good` count once each. */
async function outbound(request) {
  if (request.url !== "https://challenges.cloudflare.com/turnstile/v0/siteverify") return passed(request);
  assert.deepEqual([request.method, request.headers.get("content-type")], ["POST", "application/json"]);
  const body = await request.json();
  const isUsed = asked.some(({ response }) => response === body.response);
  asked.push(body);
  if (answer) return answer();
  const errors = [
    ...(body.secret === SECRET ? [] : ["invalid-input-secret"]),
    ...(body.response.startsWith("good") ? [] : ["invalid-input-response"]),
    ...(isUsed ? ["timeout-or-duplicate"] : []),
  ];
  return Response.json({ success: errors.length === 0, "error-codes": errors, hostname: "pay.example" });
}

let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox", TURNSTILE_SECRET: SECRET }, outbound })));
after(() => worker.stop());
beforeEach(() => {
  answer = null;
});

const token = () => `good-${crypto.randomUUID()}`;
const ask = (path, body) => new Browser(worker).call("POST", path, body);
const PATHS = ["/v1/signup", "/v1/login"];

test("a mail is sent to whoever has a token, once for each", async () => {
  for (const path of PATHS) {
    const [email, own] = [address(), token()];
    assert.equal((await ask(path, { email, turnstile_token: own })).status, 202);
    await mailTo(worker, email);
    assert.deepEqual(asked.at(-1), { secret: SECRET, response: own });
    assert.deepEqual(refusal(await ask(path, { email, turnstile_token: own })), [403, "BOT_REFUSED", "turnstile_token"]);
    assert.equal((await mailsTo(worker, email)).length, 1);
  }
});

test("without a token that Turnstile accepts there is no mail", async () => {
  for (const path of PATHS) {
    const email = address();
    const before = asked.length;
    assert.deepEqual(refusal(await ask(path, { email })), [422, "INVALID_REQUEST", "turnstile_token"]);
    for (const wrong of ["", "x".repeat(2_049)]) {
      assert.deepEqual(refusal(await ask(path, { email, turnstile_token: wrong })), [422, "INVALID_REQUEST", "turnstile_token"]);
    }
    assert.equal(asked.length, before, "Turnstile is not asked");
    assert.deepEqual(refusal(await ask(path, { email, turnstile_token: "bad" })), [403, "BOT_REFUSED", "turnstile_token"]);
    assert.deepEqual(await worker.sql("SELECT id FROM sign_ins WHERE email = ?", email), []);
  }
});

test("while Turnstile does not answer, nobody gets a mail", async () => {
  const email = address();
  const closed = [503, "UPSTREAM_UNAVAILABLE", null];
  const success = { success: true, "error-codes": [] };
  for (const [name, wrong] of Object.entries({
    "an error": () => new Response("", { status: 500 }),
    "success under an error": () => Response.json(success, { status: 500 }),
    "no JSON": () => new Response("yes"),
    "another type": () => Response.json({ success: "true" }),
    "its own error": () => Response.json({ success: false, "error-codes": ["internal-error"] }),
    "a redirect": () => new Response(null, { status: 302, headers: { location: "https://evil.example" } }),
    "too much": () => Response.json({ ...success, more: "x".repeat(20_000) }),
  })) {
    answer = wrong;
    assert.deepEqual(refusal(await ask("/v1/login", { email, turnstile_token: token() })), closed, name);
  }
  answer = () => new Promise(() => {});
  const began = performance.now();
  assert.deepEqual(refusal(await ask("/v1/login", { email, turnstile_token: token() })), closed);
  const took = performance.now() - began;
  assert.ok(took > 2_500 && took < 6_000, `${took} ms`);
  assert.deepEqual(await worker.sql("SELECT id FROM sign_ins WHERE email = ?", email), []);
  assert.ok(!worker.log.lines.join("\n").includes(SECRET));
});

test("a wrong secret is the operator's mistake", async () => {
  answer = () => Response.json({ success: false, "error-codes": ["invalid-input-secret"] });
  const refused = await ask("/v1/signup", { email: address(), turnstile_token: token() });
  assert.deepEqual(refusal(refused), [503, "MISCONFIGURED", null]);
});
