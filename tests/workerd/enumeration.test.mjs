// Nobody learns what is somebody else's: neither by the wording of an answer nor by the work that it takes, which is counted as calls of
// ledgers and of the directory, since a clock would show it only on average.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { KEYS, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { Browser, address, mailTo, network, signedUp } from "./browser.mjs";
import { callers } from "./callers.mjs";
import { startWorker, until } from "./worker.mjs";

const SCOPES = ["verify", "settle", "analytics", "manage"];
let evm;
let worker;
before(async () => {
  evm = await startEvm();
  worker = await startWorker({ vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1), MAIL_BACKEND: "mailbox" } });
});
after(async () => {
  await worker?.stop();
  evm?.stop();
});

/** Waits until nothing of earlier requests goes on: events are shipped and heard, mails are sent. */
const quiet = () =>
  until(async () => {
    const waiting = await worker.sql("SELECT 1 FROM directory_outbox WHERE shipped_ms IS NULL OR heard_ms IS NULL");
    const mails = await worker.sql("SELECT 1 FROM mails WHERE state = 'queued'");
    return waiting.length + mails.length === 0;
  }, "all work that is left");

/** What an answer shows, without what differs with each: ids of requests, times, cookies, and the words that were sent. */
function shown({ status, headers, body }, words) {
  const names = headers instanceof Headers ? [...headers.keys()] : Object.keys(headers);
  let text = JSON.stringify(body) ?? "";
  for (const word of words) text = text.replaceAll(word, "…");
  text = text.replaceAll(/req_\w+/g, "req").replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "then");
  return { status, headers: names.filter((name) => name !== "date").sort(), text };
}

/** Makes a request and counts the calls of ledgers and of the directory for it. */
async function weighed(act, words) {
  await worker.counts();
  const answer = shown(await act(), words);
  return { ...answer, calls: await worker.counts() };
}

/** Another id of the same form: one that nobody has. */
const absentOf = (id) => (id.startsWith("0x") ? randomAccount().address : id.replace(/.$/, (last) => (last === "1" ? "2" : "1")));

test("an id of another tenant is answered as one that is nobody's, by the same work", async () => {
  const [ours, theirs] = [await signedUp(worker), await signedUp(worker)];
  for (const { session } of [ours, theirs])
    assert.equal(
      (await worker.call("PATCH", `/v1/admin/tenants/${session.tenant.id}`, { admin: true, body: { tier: "enterprise" } })).status,
      200,
    );
  const call = (...given) => theirs.browser.call(...given);
  const key = async (owner, environment) =>
    (await owner.browser.call("POST", "/v1/api-keys", { name: "all", environment, scopes: SCOPES })).body;
  const [own, live] = [await key(ours, "test"), await key(ours, "live")];
  const foreign = await key(theirs, "live");
  const invited = (await call("POST", "/v1/members/invitations", { email: address(), role: "viewer" })).body.invitation;
  const recipient = randomAccount().address;
  const added = await worker.call("POST", `/v1/admin/tenants/${theirs.session.tenant.id}/recipients`, {
    admin: true,
    body: { chain: "base", address: recipient },
  });
  assert.equal(added.status, 201, added.text);
  const [event] = (await call("GET", "/v1/events")).body.data;
  const endpoint = "whe_01KB0000000000000000000000";
  await worker.sql(
    `INSERT INTO webhook_endpoints (id, tenant_id, environment, url, events, status, secret_sealed, created_ms, updated_ms)
     VALUES (?, ?, 'live', 'https://shop.example/', '[]', 'active', 'v1.x.x', 1, 1)`,
    endpoint,
    theirs.session.tenant.id,
  );
  await worker.sql(
    "INSERT INTO identities (provider, subject, person_id, created_ms) VALUES ('github', '583231', ?, 1)",
    theirs.session.person.id,
  );
  // A settlement and a verification of a third tenant, by their own ids.
  const paid = await callers(worker, evm).payment();
  assert.equal((await paid.settle()).body.success, true);
  const settlement = (await paid.record()).id;
  const other = await worker.tenant({ recipients: { "local-evm": randomAccount().address } });
  const { body: verified } = await worker.verify(other.test, { tx_hash: `0x${"ab".repeat(32)}`, chain: "local-evm" });
  const verification = verified.id ?? "ver_01KB0000000000000000000000";

  const test2 = { since: "2026-11-30T00:00:00Z" };
  /** @type {[string, string, string[], any?][]} */
  const routes = [
    ["GET", "/v1/webhook-endpoints/{}", [endpoint]],
    ["PATCH", "/v1/webhook-endpoints/{}", [endpoint], {}],
    ["DELETE", "/v1/webhook-endpoints/{}", [endpoint]],
    ["POST", "/v1/webhook-endpoints/{}/rotate-secret", [endpoint]],
    ["POST", "/v1/webhook-endpoints/{}/test", [endpoint], { type: "quota.reset" }],
    ["POST", "/v1/webhook-endpoints/{}/redeliver", [endpoint], test2],
    ["GET", "/v1/webhook-endpoints/{}/deliveries", [endpoint]],
    ["GET", "/v1/webhook-endpoints/{}/deliveries/{}", [endpoint, event.id]],
    ["POST", "/v1/webhook-endpoints/{}/deliveries/{}/redeliver", [endpoint, event.id]],
    ["DELETE", "/v1/api-keys/{}", [foreign.api_key.id]],
    ["POST", "/v1/api-keys/{}/rotate", [foreign.api_key.id], {}],
    ["PATCH", "/v1/recipients/{}", [recipient], { default_for: "base" }],
    ["DELETE", "/v1/recipients/{}", [recipient]],
    ["GET", "/v1/events/{}", [event.id]],
    ["DELETE", "/v1/members/{}", [theirs.session.person.id]],
    ["PATCH", "/v1/members/{}", [theirs.session.person.id], { role: "viewer" }],
    ["DELETE", "/v1/members/invitations/{}", [invited.id]],
    ["DELETE", "/v1/sessions/{}", [theirs.session.id]],
    ["DELETE", "/v1/session/identities/{}", ["github-583231"]],
    ["GET", "/v1/settlements/{}", [settlement]],
    ["POST", "/v1/settlements/{}/hand-over", [settlement], {}],
    ["GET", "/v1/verifications/{}", [verification]],
  ];
  const { paths } = (await worker.call("GET", "/v1/openapi.json")).body;
  const templates = Object.entries(paths).filter(([, of]) =>
    Object.values(of).some(({ security }) => security?.some((way) => way.apiKey || way.session)),
  );
  const withIds = templates.map(([path]) => path.replaceAll(/\{\w+\}/g, "{}")).filter((path) => path.includes("{}"));
  assert.deepEqual(
    [...new Set(routes.map(([, path]) => path))].sort(),
    [...new Set(withIds)].sort(),
    "every route that takes an id is here",
  );

  await quiet();
  for (const [method, template, ids, body] of routes) {
    const operation = paths[Object.keys(paths).find((path) => path.replaceAll(/\{\w+\}/g, "{}") === template) ?? ""][method.toLowerCase()];
    const ways = new Set(operation.security.flatMap((way) => Object.keys(way)));
    const at = (all) => all.reduce((path, id) => path.replace("{}", id), template);
    const [there, nowhere] = [ids, ids.map(absentOf)];
    /** @type {[string, (path: string) => Promise<any>][]} */
    const askers = [];
    if (ways.has("session")) askers.push(["a session", (path) => ours.browser.call(method, path, body)]);
    if (ways.has("apiKey")) {
      askers.push(["a test key", (path) => worker.call(method, path, { key: own.key, body })]);
      askers.push(["a live key", (path) => worker.call(method, path, { key: live.key, body })]);
    }
    assert.ok(askers.length > 0, template);
    for (const [who, asks] of askers) {
      // What an isolate or a ledger loads once is loaded.
      await asks(at(nowhere.map(absentOf)));
      await asks(at(nowhere.map(absentOf)));
      const [one, two] = [await weighed(() => asks(at(nowhere)), nowhere), await weighed(() => asks(at(there)), there)];
      assert.deepEqual(two, one, `${method} ${template} by ${who}`);
      assert.ok(one.status === 404 || one.status === 403, `${method} ${template} by ${who}: ${one.status} ${one.text}`);
    }
  }
  // All of it is still there.
  assert.equal((await call("GET", "/v1/session")).status, 200);
  assert.equal((await call("GET", `/v1/events/${event.id}`)).status, 200);
});

test("an address that has an account is answered as one that has none, by the same work", async () => {
  const { email: known } = await signedUp(worker);
  const owner = await signedUp(worker);
  const fresh = () => new Browser(worker);
  await fresh().logIn(address());
  await quiet();
  for (const way of ["signUp", "logIn"]) {
    const answers = [];
    for (const email of [address(), known]) answers.push(await weighed(() => fresh()[way](email), [email]));
    assert.deepEqual(answers[1], answers[0], way);
    assert.equal(answers[0].status, 202);
  }
  // Whom an owner invites: what comes of it stands in the mail alone.
  await owner.browser.call("POST", "/v1/members/invitations", { email: address(), role: "viewer" });
  await quiet();
  const invited = [];
  for (const email of [address(), known]) {
    const act = () => owner.browser.call("POST", "/v1/members/invitations", { email, role: "viewer" });
    const weight = await weighed(act, [email]);
    invited.push({ ...weight, text: weight.text.replaceAll(/inv_\w+/g, "inv") });
    await quiet();
  }
  assert.deepEqual(invited[1], invited[0]);
  assert.equal(invited[0].status, 201);
});

test("a token that was never given and one that holds no longer are answered alike, by the same work", async () => {
  const random = () => Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex");
  const email = address();
  const browser = new Browser(worker);
  await browser.signUp(email);
  const used = (await mailTo(worker, email)).token;
  assert.equal((await browser.session({ token: used })).status, 201);
  const guest = address();
  const invited = await browser.call("POST", "/v1/members/invitations", { email: guest, role: "viewer" });
  const invitation = (await mailTo(worker, guest)).token;
  assert.equal((await browser.call("DELETE", `/v1/members/invitations/${invited.body.invitation.id}`)).status, 200);
  await quiet();
  /** @type {[string, (token: string) => Promise<any>, string][]} */
  const ways = [
    ["a link", (token) => new Browser(worker).session({ token }), used],
    ["an invitation", (token) => new Browser(worker).call("POST", "/v1/members/join", { token }), invitation],
  ];
  for (const [what, use, old] of ways) {
    await use(random());
    const answers = [];
    for (const token of [random(), old]) answers.push(await weighed(() => use(token), [token]));
    assert.deepEqual(answers[1], answers[0], what);
    assert.ok(answers[0].status === 401 || answers[0].status === 422, `${what}: ${answers[0].status}`);
  }
  // A key of somebody, a key that was revoked, and no key at all, reported as leaked.
  const reports = [];
  const { key, api_key: view } = (await browser.call("POST", "/v1/api-keys", { name: "x", environment: "test", scopes: ["verify"] })).body;
  assert.equal((await browser.call("DELETE", `/v1/api-keys/${view.id}`)).status, 200);
  await quiet();
  for (const text of [`${key.slice(0, -1)}${key.endsWith("x") ? "y" : "x"}`, "no key"])
    reports.push(shown(await worker.call("POST", "/v1/api-keys/revoke-leaked", { body: { key: text }, headers: network() }), [text]));
  reports.push(shown(await worker.call("POST", "/v1/api-keys/revoke-leaked", { body: { key }, headers: network() }), [key]));
  assert.deepEqual(reports[1], reports[0]);
  assert.deepEqual(reports[2], reports[0]);
  // A key that was revoked and one that was forged are refused alike.
  const refused = [];
  for (const text of [key, "x402_test_forged"]) refused.push(shown(await worker.call("GET", "/v1/usage", { key: text }), [text]));
  assert.deepEqual(refused[1].text, refused[0].text);
});
