// Mails by Resend (`emulate`) and by the platform's binding, tries and their times, a killed Worker, and Resend's webhooks.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createEmulator } from "emulate";
import { Response, fetch as passed } from "miniflare";
import { Webhook } from "standardwebhooks";
import { Browser, address } from "./browser.mjs";
import { startWorker, until } from "./worker.mjs";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const URL_OF_PAGES = "https://pay.example";
const API_KEY = "re_a_key_of_this_test";
const SECRET = `whsec_${Buffer.alloc(24, 7).toString("base64")}`;
const RESEND = {
  MAIL_BACKEND: "resend",
  MAIL_FROM: "x402-edge <mail@pay.example>",
  RESEND_API_KEY: API_KEY,
  RESEND_WEBHOOK_SECRET: SECRET,
  PUBLIC_URL: URL_OF_PAGES,
};
const JOB = "* * * * *";

/** Resend, as `emulate` plays it, behind a door that a test may close. */
class Resend {
  /** The requests so far. @type {{ key: string | null, authorization: string | null, body: any }[]} */
  requests = [];
  /** What a request gets instead of Resend's answer; `passes`: Resend gets it all the same.
   * @type {{ passes: boolean, answer: (mail: any) => Response | Promise<Response> } | null} */
  closed = null;

  /** @param {import("emulate").Emulator} emulator */
  constructor(emulator) {
    this.emulator = emulator;
  }

  static async start() {
    return new Resend(await createEmulator({ service: "resend", port: 0 }));
  }

  /** The Worker's requests to the outside. */
  outbound = async (request) => {
    const { hostname, pathname } = new URL(request.url);
    if (hostname !== "api.resend.com") return passed(request);
    const { method, headers } = request;
    const text = await request.text();
    const key = headers.get("idempotency-key");
    this.requests.push({ key, authorization: headers.get("authorization"), body: JSON.parse(text) });
    const { closed } = this;
    if (closed && !closed.passes) return closed.answer(JSON.parse(text));
    const answer = await fetch(`${this.emulator.url}${pathname}`, { method, headers: [...headers], body: text });
    if (closed) return closed.answer(JSON.parse(text));
    return new Response(await answer.text(), { status: answer.status });
  };

  /** The mails that Resend has accepted to an address. */
  async mailsTo(email) {
    const answer = await fetch(`${this.emulator.url}/emails`, { headers: { authorization: `Bearer ${API_KEY}` } });
    const { data } = await answer.json();
    return data.filter(({ to }) => to.includes(email));
  }

  requestsTo(email) {
    return this.requests.filter(({ body }) => body.to.includes(email));
  }

  stop() {
    return this.emulator.close();
  }
}

/** @type {Resend} */
let resend;
before(async () => (resend = await Resend.start()));
after(() => resend.stop());

/** Runs `act` with a Worker that sends by Resend. */
async function withResend(act, more = {}) {
  const worker = await startWorker({ vars: { ...RESEND, ...more }, outbound: resend.outbound });
  try {
    await act(worker);
  } finally {
    resend.closed = null;
    await worker.stop();
  }
}

const mailRow = async (worker, email) => (await worker.sql("SELECT * FROM mails WHERE address = ? ORDER BY id DESC", email))[0];
const stateOf = (worker, email, state) =>
  until(async () => {
    const row = await mailRow(worker, email);
    return row?.state === state && row;
  }, `a mail that is ${state}`);
/** The lines of the log about tries that have failed. */
const failures = (worker) => worker.log.lines.filter((line) => line.includes("a mail could not be sent"));
/** Waits until so many tries of mails have failed. */
const failed = (worker, count) => until(() => failures(worker).length >= count, `${count} failed tries`);
const refusal = ({ status, body }) => [status, body.error_code];

/** Puts the clock past a mail's next try, and queues what is due. */
async function tryAgain(worker, email, ahead) {
  const { due_ms: due } = await mailRow(worker, email);
  const by = due - Date.now() - ahead.ms + MINUTE + 1_000;
  ahead.ms += by;
  await worker.advance(by);
  await worker.cron(JOB);
}

test("a mail is sent by Resend once, and its link names our own origin", () =>
  withResend(async (worker) => {
    const email = address();
    const browser = new Browser(worker);
    const asked = await browser.call(
      "POST",
      "/v1/signup",
      { email },
      { host: "evil.example", origin: URL_OF_PAGES, "sec-fetch-site": undefined },
    );
    assert.equal(asked.status, 202);
    const row = await stateOf(worker, email, "sent");
    const [mail, ...more] = await resend.mailsTo(email);
    assert.deepEqual(more, []);
    assert.deepEqual([mail.id, mail.from, mail.subject], [row.provider_id, RESEND.MAIL_FROM, "Confirm your address"]);
    const [, token] = mail.text.match(/https:\/\/pay\.example\/sign-in#token=([0-9a-f]{64})\n/);
    const [, code] = mail.text.match(/: (\d{6})\n/);
    assert.ok(mail.html.includes(`href="https://pay.example/sign-in#token=${token}"`) && mail.html.includes(code));
    assert.ok(!mail.text.includes("evil"));
    const [request] = resend.requestsTo(email);
    assert.deepEqual([request.key, request.authorization], [row.id, `Bearer ${API_KEY}`]);
    assert.equal((await browser.session({ code }, { origin: URL_OF_PAGES, "sec-fetch-site": undefined })).status, 201);
    // A message that comes again, and the timed job, find nothing to do.
    await worker.advance(3 * MINUTE);
    await worker.cron(JOB);
    const second = address();
    await new Browser(worker).logIn(second);
    await stateOf(worker, second, "sent");
    assert.equal(resend.requestsTo(email).length, 1);
  }));

test("a mail that Resend does not take is tried again, and no log names it", () =>
  withResend(async (worker) => {
    const email = address();
    const ahead = { ms: 0 };
    const problems = [
      () => new Response(JSON.stringify({ name: "validation_error", message: `no ${email} ${API_KEY}` }), { status: 422 }),
      () => new Response("x".repeat(100_000), { status: 500 }),
      () => new Response(null, { status: 307, headers: { location: "https://evil.example/emails" } }),
    ];
    resend.closed = { passes: false, answer: problems[0] };
    await new Browser(worker).signUp(email);
    for (const [at, answer] of problems.entries()) {
      if (at) {
        resend.closed = { passes: false, answer };
        await tryAgain(worker, email, ahead);
      }
      await failed(worker, at + 1);
      const row = await mailRow(worker, email);
      assert.deepEqual([row.state, row.tries], ["queued", at + 1]);
    }
    resend.closed = null;
    await tryAgain(worker, email, ahead);
    const sent = await stateOf(worker, email, "sent");
    assert.equal(sent.tries, 4);
    assert.equal((await resend.mailsTo(email)).length, 1);
    const log = worker.log.lines.join("\n");
    const [{ text }] = await resend.mailsTo(email);
    const secrets = [email, API_KEY, text.match(/#token=([0-9a-f]{64})/)[1], text.match(/: (\d{6})\n/)[1]];
    for (const secret of secrets) assert.ok(!log.includes(secret), `${secret} in the log`);
    for (const why of ["Resend answered 422 validation_error", "the answer is too large", "a redirect (HTTP 307)"]) {
      assert.ok(log.includes(why), why);
    }
  }));

test("a mail is given up when its link is over, and any mail after a day", () =>
  withResend(async (worker) => {
    const email = address();
    const { browser } = await signedUpBy(worker);
    resend.closed = { passes: false, answer: () => new Response("{}", { status: 503 }) };
    await new Browser(worker).signUp(email);
    const guest = address();
    const own = { origin: URL_OF_PAGES, "sec-fetch-site": undefined };
    assert.equal((await browser.call("POST", "/v1/members/invitations", { email: guest, role: "viewer" }, own)).status, 201);
    await failed(worker, 2);
    await worker.advance(16 * MINUTE);
    await worker.cron(JOB);
    assert.equal((await stateOf(worker, email, "failed")).tries, 2);
    await failed(worker, 3);
    assert.equal((await mailRow(worker, guest)).state, "queued");
    await worker.advance(24 * HOUR);
    await worker.cron(JOB);
    assert.equal((await stateOf(worker, guest, "failed")).tries, 3);
    assert.equal(resend.requestsTo(guest).length, 2);
  }));

test("a mail is not tried before its time, however often it is queued", () =>
  withResend(async (worker) => {
    const [email, second] = [address(), address()];
    resend.closed = { passes: false, answer: () => new Response("{}", { status: 500 }) };
    await new Browser(worker).signUp(email);
    await failed(worker, 1);
    resend.closed = null;
    const queue = await worker.mf.getQueueProducer("MAILS");
    const { id } = await mailRow(worker, email);
    for (let again = 0; again < 3; again++) await queue.send(id, { contentType: "text" });
    await worker.cron(JOB);
    // The queue delivers in its order.
    await new Browser(worker).logIn(second);
    await stateOf(worker, second, "sent");
    assert.equal(resend.requestsTo(email).length, 1);
    // The queue itself brings the mail again, after ten seconds.
    const row = await stateOf(worker, email, "sent");
    assert.equal(row.tries, 2);
  }));

test("a request that Resend does not answer ends after ten seconds", () =>
  withResend(async (worker) => {
    const email = address();
    resend.closed = { passes: false, answer: () => new Promise(() => {}) };
    await new Browser(worker).signUp(email);
    await until(() => resend.requestsTo(email).length === 1, "the request");
    const began = performance.now();
    await failed(worker, 1);
    const took = performance.now() - began;
    assert.ok(took > 8_000 && took < 15_000, `${took} ms`);
  }));

test("a mail that takes long holds up no other of its batch", () =>
  withResend(async (worker) => {
    const emails = [address(), address(), address(), address()];
    const refuses = () => new Response("{}", { status: 503 });
    resend.closed = { passes: false, answer: refuses };
    for (const email of emails) await new Browser(worker).signUp(email);
    await failed(worker, emails.length);
    const [first] = emails;
    const hangs = () => new Promise((resolve) => setTimeout(() => resolve(refuses()), 12_000));
    resend.closed = { passes: false, answer: ({ to }) => (to.includes(first) ? hangs() : Response.json({ id: to[0] })) };
    await worker.advance(MINUTE);
    const ids = await Promise.all(emails.map(async (email) => (await mailRow(worker, email)).id));
    const queue = await worker.mf.getQueueProducer("MAILS");
    await queue.sendBatch(ids.map((body) => ({ body, contentType: "text" })));
    await until(() => resend.requestsTo(first).length === 2, "the first try");
    const sent = async () => (await Promise.all(emails.map((email) => mailRow(worker, email)))).map(({ state }) => state);
    await until(async () => (await sent()).filter((state) => state === "sent").length === 3, "the other mails", 7_000);
    assert.equal((await sent())[0], "queued");
  }));

test("a Worker that is killed between the queue and the row sends each mail once", async () => {
  const state = mkdtempSync(join(tmpdir(), "x402-state-"));
  const options = { vars: RESEND, state, outbound: resend.outbound };
  let worker = await startWorker(options);
  try {
    const emails = [address(), address(), address()];
    // Resend has the mail; the Worker never learns it.
    resend.closed = { passes: true, answer: () => new Promise(() => {}) };
    for (const email of emails) await new Browser(worker).signUp(email);
    await until(() => emails.some((email) => resend.requestsTo(email).length === 1), "a request");
    worker.crash();
    await worker.stop();
    resend.closed = null;
    worker = await startWorker(options);
    await worker.advance(3 * MINUTE);
    await worker.cron(JOB);
    for (const email of emails) {
      const row = await stateOf(worker, email, "sent");
      const all = await resend.mailsTo(email);
      assert.deepEqual(
        all.map(({ id }) => id),
        [row.provider_id],
        "one mail, which the row names",
      );
    }
    assert.ok(
      emails.some((email) => resend.requestsTo(email).length === 2),
      "one was sent twice",
    );
  } finally {
    resend.closed = null;
    await worker.stop();
    rmSync(state, { recursive: true, force: true });
  }
});

test("a mail that Resend has under its key with another text was sent", () =>
  withResend(async (worker) => {
    const email = address();
    resend.closed = { passes: true, answer: () => new Response("{}", { status: 500 }) };
    await new Browser(worker).logIn(email);
    await failed(worker, 1);
    resend.closed = null;
    // The address is somebody's by the time of the next try, so the text is another.
    await worker.call("POST", "/v1/admin/tenants", { admin: true, body: { email } });
    await tryAgain(worker, email, { ms: 0 });
    const row = await stateOf(worker, email, "sent");
    assert.equal(row.provider_id, null);
    const [one, two] = resend.requestsTo(email);
    assert.deepEqual([one.key, one.body.text === two.body.text], [two.key, false]);
    assert.equal((await resend.mailsTo(email)).length, 1);
  }));

/** Signs a person up by Resend. */
async function signedUpBy(worker) {
  const email = address();
  const browser = new Browser(worker);
  const own = { origin: URL_OF_PAGES, "sec-fetch-site": undefined };
  await browser.call("POST", "/v1/signup", { email }, own);
  await stateOf(worker, email, "sent");
  const [{ text }] = await resend.mailsTo(email);
  const made = await browser.session({ token: text.match(/#token=([0-9a-f]{64})/)[1] }, own);
  assert.equal(made.status, 201);
  return { browser, email };
}

/** The texts of the mails that the binding has written to files. */
function textsBelow(folder) {
  if (!existsSync(folder)) return [];
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((file) => file.isFile() && file.name.endsWith(".txt"));
  return files.map((file) => readFileSync(join(file.parentPath, file.name), "utf8"));
}

const CLOUDFLARE = { MAIL_BACKEND: "cloudflare", MAIL_FROM: "x402-edge <mail@pay.example>", PUBLIC_URL: URL_OF_PAGES };

test("a mail is sent by the platform's binding", async () => {
  const worker = await startWorker({ vars: CLOUDFLARE });
  try {
    const email = address();
    const browser = new Browser(worker);
    await browser.signUp(email);
    const row = await stateOf(worker, email, "sent");
    assert.match(row.provider_id, /@pay\.example/);
    const [text, ...more] = await until(() => {
      const all = textsBelow(join(worker.state, "tmp"));
      return all.length && all;
    }, "a mail");
    assert.deepEqual(more, []);
    const [, token] = text.match(/https:\/\/pay\.example\/sign-in#token=([0-9a-f]{64})\n/);
    assert.equal((await browser.session({ token })).status, 201);
  } finally {
    await worker.stop();
  }
});

test("a mail by the binding whose end is unknown is sent again after five minutes, and not before", async () => {
  const worker = await startWorker({ vars: CLOUDFLARE });
  try {
    const email = address();
    await new Browser(worker).signUp(email);
    const sent = await stateOf(worker, email, "sent");
    const texts = () => textsBelow(join(worker.state, "tmp"));
    await until(() => texts().length === 1, "the mail");
    // As a Worker leaves the row that is killed between the binding and the row: reserved by its try.
    const reserved = sent.due_ms - sent.created_ms;
    assert.ok(reserved >= 5 * MINUTE && reserved < 6 * MINUTE, `${reserved} ms`);
    await worker.sql("UPDATE mails SET state = 'queued', sent_ms = NULL, provider_id = NULL WHERE address = ?", email);
    await worker.advance(4 * MINUTE);
    await worker.cron(JOB);
    const { id } = sent;
    await (await worker.mf.getQueueProducer("MAILS")).send(id, { contentType: "text" });
    const second = address();
    await new Browser(worker).logIn(second);
    await stateOf(worker, second, "sent");
    const waiting = await mailRow(worker, email);
    assert.deepEqual([waiting.state, waiting.tries], ["queued", 1]);
    await worker.advance(3 * MINUTE);
    await worker.cron(JOB);
    assert.equal((await stateOf(worker, email, "sent")).tries, 2);
    const [link] = texts().flatMap((text) => text.match(/#token=[0-9a-f]{64}/) ?? []);
    await until(() => texts().filter((text) => text.includes(link)).length === 2, "the same mail again");
  } finally {
    await worker.stop();
  }
});

test("a mail that the binding refuses is tried again, and no log names its address", async () => {
  const worker = await startWorker({ vars: CLOUDFLARE });
  try {
    const [email, gone] = [address(), address()];
    await worker.refuseMails("E_SENDER_NOT_VERIFIED");
    await new Browser(worker).signUp(email);
    await failed(worker, 1);
    assert.match(failures(worker)[0], /the binding EMAIL refused: E_SENDER_NOT_VERIFIED/);
    assert.equal((await mailRow(worker, email)).state, "queued");
    assert.ok(!worker.log.lines.join("\n").includes(email));
    // Cloudflare keeps a list of addresses itself.
    await worker.refuseMails("E_RECIPIENT_SUPPRESSED");
    await new Browser(worker).signUp(gone);
    assert.equal((await stateOf(worker, gone, "suppressed")).tries, 1);
    await worker.refuseMails();
    await tryAgain(worker, email, { ms: 0 });
    assert.equal((await stateOf(worker, email, "sent")).tries, 2);
  } finally {
    await worker.stop();
  }
});

test("a sender that the binding does not allow is refused", async () => {
  const worker = await startWorker({ vars: CLOUDFLARE, email: { allowed_sender_addresses: ["other@pay.example"] } });
  try {
    const email = address();
    await new Browser(worker).signUp(email);
    await failed(worker, 1);
    assert.match(failures(worker)[0], /the binding EMAIL refused/);
    assert.ok(!worker.log.lines.join("\n").includes(email));
  } finally {
    await worker.stop();
  }
});

/** Sends an event as Resend does; `how` changes what is sent. */
function event(worker, body, how = {}) {
  const text = JSON.stringify(body);
  const id = `msg_${crypto.randomUUID()}`;
  const at = how.at ?? new Date();
  const signature = new Webhook(how.secret ?? SECRET).sign(id, at, text);
  const headers = {
    "content-type": "application/json",
    "svix-id": id,
    "svix-timestamp": String(Math.floor(at.getTime() / 1_000)),
    "svix-signature": signature,
    ...how.headers,
  };
  return worker.call("POST", "/v1/webhooks/resend", { headers, raw: how.raw ?? text });
}

const bounced = (email, type = "Permanent") => ({ type: "email.bounced", data: { to: [email], bounce: { type, subType: "General" } } });

test("an address whose mails have bounced, or were reported, gets none, and nobody can see it", () =>
  withResend(async (worker) => {
    const { email: known } = await signedUpBy(worker);
    const [gone, busy, angry] = [address(), address(), address()];
    assert.deepEqual(await event(worker, bounced(known)).then(({ status, text }) => [status, text]), [204, ""]);
    assert.equal((await event(worker, bounced(gone.toUpperCase()))).status, 204);
    assert.equal((await event(worker, bounced(gone))).status, 204, "it comes twice");
    assert.equal((await event(worker, bounced(busy, "Transient"))).status, 204);
    assert.equal((await event(worker, { type: "email.complained", data: { to: [angry] } })).status, 204);
    assert.equal((await event(worker, { type: "email.delivered", data: { to: [busy] } })).status, 204);
    assert.deepEqual(await worker.sql("SELECT address, state FROM mail_addresses ORDER BY state, address"), [
      ...[known, gone].sort().map((one) => ({ address: one, state: "bounced" })),
      { address: angry, state: "complained" },
    ]);
    const answers = [];
    for (const email of [known, gone, angry, busy]) {
      const before = resend.requestsTo(email).length;
      const { status, body } = await new Browser(worker).call(
        "POST",
        "/v1/login",
        { email },
        { origin: URL_OF_PAGES, "sec-fetch-site": undefined },
      );
      answers.push([status, Object.keys(body)]);
      const row = await stateOf(worker, email, email === busy ? "sent" : "suppressed");
      assert.equal(resend.requestsTo(email).length - before, email === busy ? 1 : 0);
      assert.equal(row.tries, 1);
    }
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
  }));

test("what the document shows as an example is taken", () =>
  withResend(async (worker) => {
    const { body } = await worker.call("GET", "/v1/openapi.json");
    const { example } = body.paths["/v1/webhooks/resend"].post.requestBody.content["application/json"];
    assert.equal((await event(worker, example)).status, 204);
    assert.deepEqual(await worker.sql("SELECT address, state FROM mail_addresses"), [{ address: example.data.to[0], state: "bounced" }]);
  }));

test("an event that Resend has not signed changes nothing", () =>
  withResend(async (worker) => {
    const email = address();
    const refused = [401, "INVALID_SIGNATURE"];
    const old = (seconds) => ({ at: new Date(Date.now() - seconds * 1_000) });
    const sent = new Date();
    for (const [name, how] of Object.entries({
      "another secret": { secret: `whsec_${Buffer.alloc(24, 8).toString("base64")}` },
      "another body": { raw: JSON.stringify(bounced(address())) },
      "another id": { headers: { "svix-id": "msg_1" } },
      "another time": { at: sent, headers: { "svix-timestamp": String(Math.floor(sent.getTime() / 1_000) + 1) } },
      "too old": old(310),
      "from the future": old(-310),
      "no signature": { headers: { "svix-signature": "" } },
      "no version": { headers: { "svix-signature": "AAAA" } },
    }))
      assert.deepEqual(refusal(await event(worker, bounced(email), how)), refused, name);
    const bare = await worker.call("POST", "/v1/webhooks/resend", { body: bounced(email) });
    assert.deepEqual(refusal(bare), refused);
    assert.deepEqual(refusal(await worker.call("POST", "/v1/webhooks/resend", { raw: "x" })), [415, "UNSUPPORTED_MEDIA_TYPE"]);
    assert.deepEqual(await worker.sql("SELECT * FROM mail_addresses"), []);
    assert.equal((await event(worker, bounced(email), old(290))).status, 204);
  }));

test("without its secret the webhook does not exist", async () => {
  const worker = await startWorker();
  try {
    assert.deepEqual(refusal(await event(worker, bounced(address()))), [404, "NOT_FOUND"]);
  } finally {
    await worker.stop();
  }
});

test("a backend that lacks a setting serves nothing, and says which", async () => {
  const worker = await startWorker({ vars: { MAIL_BACKEND: "resend" } });
  try {
    const { status, body } = await worker.call("GET", "/v1/usage");
    assert.deepEqual([status, body.error_code], [503, "MISCONFIGURED"]);
    for (const name of ["MAIL_FROM", "PUBLIC_URL", "RESEND_API_KEY"]) assert.ok(body.detail.includes(name), body.detail);
  } finally {
    await worker.stop();
  }
});
