// Keys that sellers manage themselves, on the real Worker: by a session and by a key with the scope `manage`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Browser, address, mailTo, network, signedUp } from "./browser.mjs";
import { ROOT, startWorker, until } from "./worker.mjs";

const DAY = 86_400_000;
let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } })));
after(() => worker.stop());

const refusal = ({ status, body }) => [status, body.error_code];
const INVALID = [401, "INVALID_API_KEY"];
const whoami = (key, headers) => worker.call("GET", "/v1/whoami", { key, headers });
const from = (address) => ({ "cf-connecting-ip": address });

/** What manages a tenant: calls by a person's session, or by a key. */
const bySession =
  ({ browser }) =>
  (method, path, body) =>
    browser.call(method, path, body);
const byKey = (key) => (method, path, body) => worker.call(method, path, { key, body });

/** A new owner, with calls by the session. */
async function owner() {
  const made = await signedUp(worker);
  return { ...made, id: made.session.tenant.id, call: bySession(made) };
}

async function created(call, more = {}) {
  const made = await call("POST", "/v1/api-keys", { name: "ci", environment: "test", ...more });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  return made.body;
}

/** A person who joins an owner's tenant in a role, with calls by the session. */
async function member({ call }, role) {
  const email = address();
  assert.equal((await call("POST", "/v1/members/invitations", { email, role })).status, 201);
  const browser = new Browser(worker);
  assert.equal((await browser.call("POST", "/v1/members/join", { token: (await mailTo(worker, email)).token })).status, 201);
  return bySession({ browser });
}

/** What a call has recorded of a tenant: entries of the audit log with the kinds of their events. */
async function recorded(tenant, act) {
  const read = async () => [
    await worker.sql("SELECT * FROM audit_log WHERE tenant_id = ? ORDER BY id", tenant),
    await worker.sql("SELECT * FROM directory_outbox WHERE tenant_id = ? ORDER BY seq", tenant),
  ];
  const before = (await read()).map(({ length }) => length);
  const answer = await act();
  const [entries, events] = (await read()).map((rows, at) => rows.slice(before[at]));
  assert.deepEqual(
    events.map(({ event_id }) => event_id.slice(4)),
    entries.map(({ id }) => id.slice(4)),
  );
  return {
    answer,
    made: entries.map(({ actor_kind, actor_id, action, subject, detail }, at) => ({
      actor: [actor_kind, actor_id],
      action,
      subject,
      detail,
      event: [events[at].kind, events[at].environment],
    })),
  };
}

test("a key is made, listed, used and revoked, by a session and by a key", async () => {
  const seller = await owner();
  const manager = await created(seller.call, { scopes: ["verify", "settle", "analytics", "manage"] });
  for (const [call, actor] of [
    [seller.call, ["person", seller.session.person.id]],
    [byKey(manager.key), ["key", manager.api_key.id]],
  ]) {
    const body = { name: "shop", environment: "test", scopes: ["settle", "verify"], allow_list: ["0.0.0.0/0", "::/0"] };
    const made = await recorded(seller.id, () => call("POST", "/v1/api-keys", body));
    const { key, api_key } = made.answer.body;
    assert.equal(made.answer.status, 201);
    assert.deepEqual(
      [api_key.name, api_key.environment, api_key.kind, api_key.scopes, api_key.prefix, api_key.last_four, api_key.allow_list],
      ["shop", "test", "bearer", ["verify", "settle"], "x402_test_", key.slice(-4), ["0.0.0.0/0", "::/0"]],
    );
    assert.ok(key.startsWith(api_key.prefix));
    const event = (kind) => [kind, "test"];
    assert.deepEqual(made.made, [{ actor, action: "key.created", subject: api_key.id, detail: "test", event: event("key.created") }]);
    assert.equal((await whoami(key, from("203.0.113.9"))).body.api_key.id, api_key.id, "it holds for the next request");
    const listed = (await call("GET", "/v1/api-keys")).body.data;
    assert.deepEqual(
      listed.find(({ id }) => id === api_key.id),
      api_key,
    );
    assert.ok(!JSON.stringify(listed).includes(key.slice(11)), "no text of a key");
    const revoke = () => call("DELETE", `/v1/api-keys/${api_key.id}`);
    const revoked = await recorded(seller.id, revoke);
    assert.equal(revoked.answer.status, 200);
    assert.ok(revoked.answer.body.api_key.revoked_at);
    assert.deepEqual(revoked.made, [{ actor, action: "key.revoked", subject: api_key.id, detail: "test", event: event("key.revoked") }]);
    assert.deepEqual(refusal(await whoami(key, from("203.0.113.9"))), INVALID, "the very next request");
    const again = await recorded(seller.id, revoke);
    assert.deepEqual([again.answer.status, again.made], [200, []]);
  }
});

test("the last use of a key is listed", async () => {
  const seller = await owner();
  const { key, api_key } = await created(seller.call);
  assert.equal((await whoami(key)).status, 200);
  // A list of verifications ships what the ledger holds.
  await worker.call("GET", "/v1/verifications", { key });
  const used = await until(async () => {
    const { data } = (await seller.call("GET", "/v1/api-keys")).body;
    return data.find(({ id }) => id === api_key.id).last_used_at;
  }, "the last use");
  assert.match(used, /^\d{4}-/);
});

test("a key gives no key more than it has, nor one of the other environment or another tenant", async () => {
  const seller = await owner();
  const narrow = await created(seller.call, { scopes: ["verify", "manage"] });
  const wide = await created(seller.call, { scopes: ["verify", "settle"] });
  const live = await created(seller.call, { environment: "live", scopes: ["verify"] });
  const call = byKey(narrow.key);
  const make = (more) => call("POST", "/v1/api-keys", { name: "x", environment: "test", ...more });
  assert.deepEqual(refusal(await make({ scopes: ["verify", "settle"] })), [403, "INSUFFICIENT_SCOPE"]);
  assert.deepEqual(refusal(await make({})), [403, "INSUFFICIENT_SCOPE"], "the scopes where none is named");
  assert.deepEqual(refusal(await call("POST", `/v1/api-keys/${wide.api_key.id}/rotate`, {})), [403, "INSUFFICIENT_SCOPE"]);
  assert.deepEqual(refusal(await make({ environment: "live", scopes: ["verify"] })), [403, "ENVIRONMENT_MISMATCH"]);
  for (const [method, rest] of [
    ["POST", "/rotate"],
    ["DELETE", ""],
  ])
    assert.deepEqual(refusal(await call(method, `/v1/api-keys/${live.api_key.id}${rest}`)), [403, "ENVIRONMENT_MISMATCH"]);
  assert.deepEqual(refusal(await make({ scopes: ["verify"], tenant: "ten_1" })), [422, "INVALID_REQUEST"]);
  assert.equal((await created(call, { scopes: ["manage", "verify"] })).api_key.scopes.length, 2);
  const stranger = await owner();
  const foreign = await created(stranger.call, { scopes: ["verify"] });
  for (const manage of [call, seller.call])
    for (const [method, rest] of [
      ["POST", "/rotate"],
      ["DELETE", ""],
    ])
      assert.deepEqual(refusal(await manage(method, `/v1/api-keys/${foreign.api_key.id}${rest}`)), [404, "NOT_FOUND"]);
  assert.equal((await whoami(foreign.key)).status, 200);
  const ids = async (manage) => (await manage("GET", "/v1/api-keys")).body.data.map(({ id }) => id);
  assert.ok(!(await ids(seller.call)).includes(foreign.api_key.id));
  const [all, own] = [await ids(seller.call), await ids(call)];
  assert.deepEqual([all.includes(live.api_key.id), own.includes(live.api_key.id)], [true, false], "it lists its own environment");
  assert.ok(own.includes(wide.api_key.id));
});

test("a key gives no key a later end or another network than its own, and none in its grace time", async () => {
  const seller = await owner();
  const end = new Date(Date.now() + 3_600_000).toISOString();
  const limits = { expires_at: end, allow_list: ["203.0.113.0/24"] };
  const manager = await created(seller.call, { scopes: ["manage", "verify"], ...limits });
  const call = (method, path, body) => worker.call(method, path, { key: manager.key, body, headers: from("203.0.113.7") });
  const make = (more) => call("POST", "/v1/api-keys", { name: "x", environment: "test", scopes: ["manage"], ...more });
  const refused = [403, "INSUFFICIENT_SCOPE"];
  const later = new Date(Date.parse(end) + 1).toISOString();
  for (const wider of [
    {},
    { expires_at: end },
    { allow_list: ["203.0.113.7"] },
    { ...limits, expires_at: later },
    { ...limits, allow_list: ["203.0.112.0/23"] },
    { ...limits, allow_list: ["203.0.113.7", "::/0"] },
  ])
    assert.deepEqual(refusal(await make(wider)), refused, JSON.stringify(wider));
  assert.equal((await make({ ...limits, allow_list: ["203.0.113.7"] })).status, 201);
  const eternal = await created(seller.call, { scopes: ["verify"] });
  const rotate = (id) => call("POST", `/v1/api-keys/${id}/rotate`, {});
  assert.deepEqual(refusal(await rotate(eternal.api_key.id)), refused);
  assert.equal((await rotate(manager.api_key.id)).status, 201, "itself");
  assert.deepEqual(refusal(await make(limits)), [409, "KEY_NOT_ACTIVE"]);
  const own = await created(seller.call, { scopes: ["verify"], ...limits });
  assert.deepEqual(refusal(await rotate(own.api_key.id)), [409, "KEY_NOT_ACTIVE"]);
  assert.equal((await call("DELETE", `/v1/api-keys/${own.api_key.id}`)).status, 200, "it revokes");
});

test("viewers read keys, developers make them, and only owners get the scope `manage`", async () => {
  const seller = await owner();
  const [viewer, developer] = [await member(seller, "viewer"), await member(seller, "developer")];
  const manager = await created(seller.call, { scopes: ["manage"] });
  const role = [403, "INSUFFICIENT_ROLE"];
  assert.equal((await viewer("GET", "/v1/api-keys")).body.data.length, 3);
  const path = `/v1/api-keys/${manager.api_key.id}`;
  for (const [method, rest, body] of [
    ["POST", "/v1/api-keys", { name: "x", environment: "test" }],
    ["POST", `${path}/rotate`, {}],
    ["DELETE", path, undefined],
  ])
    assert.deepEqual(refusal(await viewer(method, rest, body)), role);
  const own = await created(developer);
  assert.equal((await developer("POST", `/v1/api-keys/${own.api_key.id}/rotate`, {})).status, 201);
  assert.deepEqual(refusal(await developer("POST", "/v1/api-keys", { name: "x", environment: "test", scopes: ["manage"] })), role);
  assert.deepEqual(refusal(await developer("POST", `${path}/rotate`, {})), role);
  assert.deepEqual(refusal(await developer("DELETE", path)), role, "nor ends one that may do what an owner may");
  assert.equal((await developer("DELETE", `/v1/api-keys/${own.api_key.id}`)).status, 200);
});

test("a key and the one that replaces it hold beside each other, until the grace time ends", async () => {
  const seller = await owner();
  const old = await created(seller.call, { name: "shop", scopes: ["verify"], allow_list: ["0.0.0.0/0"] });
  const path = `/v1/api-keys/${old.api_key.id}/rotate`;
  const rotated = await recorded(seller.id, () => seller.call("POST", path, { grace_seconds: 3_600 }));
  const { key, api_key } = rotated.answer.body;
  assert.equal(rotated.answer.status, 201);
  assert.notEqual(key, old.key);
  const taken = ({ name, environment, kind, scopes, allow_list, expires_at }) => [name, environment, kind, scopes, allow_list, expires_at];
  assert.deepEqual(taken(api_key), taken(old.api_key));
  assert.equal(api_key.rotated_from, old.api_key.id);
  const actor = ["person", seller.session.person.id];
  assert.deepEqual(rotated.made, [
    { actor, action: "key.rotated", subject: old.api_key.id, detail: api_key.id, event: ["key.rotated", "test"] },
  ]);
  const somewhere = from("203.0.113.1");
  for (const each of [old.key, key]) assert.equal((await whoami(each, somewhere)).status, 200);
  const listed = (await seller.call("GET", "/v1/api-keys")).body.data.find(({ id }) => id === old.api_key.id);
  const grace = Date.parse(listed.grace_until) - Date.parse(api_key.created_at);
  assert.equal(grace, 3_600_000);
  assert.equal((await whoami(old.key, somewhere)).body.api_key.expires_at, listed.grace_until);
  const twice = await recorded(seller.id, () => seller.call("POST", path, {}));
  assert.deepEqual([refusal(twice.answer), twice.made], [[409, "KEY_NOT_ACTIVE"], []]);
  // A grace time of nothing ends at once.
  const last = await seller.call("POST", `/v1/api-keys/${api_key.id}/rotate`, { grace_seconds: 0 });
  assert.equal(last.status, 201);
  assert.deepEqual(refusal(await whoami(key, somewhere)), INVALID);
  assert.equal((await whoami(last.body.key, somewhere)).status, 200);
  // A key in its grace time can be revoked.
  assert.equal((await seller.call("DELETE", `/v1/api-keys/${old.api_key.id}`)).status, 200);
  assert.deepEqual(refusal(await whoami(old.key, somewhere)), INVALID);
  const gone = await seller.call("POST", path, {});
  assert.deepEqual(refusal(gone), [409, "KEY_NOT_ACTIVE"]);
});

test("of rotations at the same time one succeeds", async () => {
  const seller = await owner();
  const { api_key } = await created(seller.call);
  const all = await Promise.all(Array.from({ length: 5 }, () => seller.call("POST", `/v1/api-keys/${api_key.id}/rotate`, {})));
  assert.deepEqual(all.map(({ status }) => status).sort(), [201, 409, 409, 409, 409]);
});

test("no request under load is refused while a key is rotated", async () => {
  const seller = await owner();
  const { key, api_key } = await created(seller.call, { scopes: ["verify"] });
  let [current, isOver, done] = [{ key, id: api_key.id }, false, 0];
  const refused = [];
  const buyer = async () => {
    while (!isOver) {
      const { status, text } = await whoami(current.key);
      if (status !== 200) refused.push(text);
      done++;
    }
  };
  const buyers = Array.from({ length: 6 }, buyer);
  for (let round = 0; round < 4; round++) {
    const before = done;
    const { status, body } = await seller.call("POST", `/v1/api-keys/${current.id}/rotate`, { grace_seconds: 60 });
    assert.equal(status, 201, JSON.stringify(body));
    // Requests go on with the old key, then all at once with the new one.
    await until(() => done > before + 20, "requests with the old key");
    current = { key: body.key, id: body.api_key.id };
    await until(() => done > before + 60, "requests with the new key");
  }
  isOver = true;
  await Promise.all(buyers);
  assert.deepEqual(refused, []);
});

test("a key is used from its networks only, whichever way the address is written", async () => {
  const seller = await owner();
  const { key, api_key } = await created(seller.call, { allow_list: ["203.0.113.7/24", "2001:DB8::/32", "198.51.100.1"] });
  assert.deepEqual(api_key.allow_list, ["203.0.113.0/24", "2001:db8::/32", "198.51.100.1/32"]);
  for (const inside of ["203.0.113.0", "203.0.113.255", "::ffff:203.0.113.9", "::FFFF:cb00:7109", "2001:db8:1::1", "198.51.100.1"])
    assert.equal((await whoami(key, from(inside))).status, 200, inside);
  const refused = [403, "IP_NOT_ALLOWED"];
  for (const outside of ["203.0.114.0", "::ffff:203.0.112.255", "2001:db9::1", "198.51.100.2", "::1", "not an address"])
    assert.deepEqual(refusal(await whoami(key, from(outside))), refused, outside);
  // Miniflare sets the platform's header to the address of the connection, where a client sends none; nothing else counts.
  const forwarded = {
    "x-forwarded-for": "203.0.113.7",
    "x-real-ip": "203.0.113.7",
    forwarded: "for=203.0.113.7",
    "true-client-ip": "203.0.113.7",
  };
  assert.deepEqual(refusal(await whoami(key, forwarded)), refused, "headers that anybody may send");
  const body = { tx_hash: `0x${"ab".repeat(32)}`, chain: "base-sepolia" };
  const verified = await worker.call("POST", "/v1/verify", { key, body, headers: from("192.0.2.1") });
  assert.deepEqual(refusal(verified), refused, "before the chain is asked");
  const payment = await worker.call("POST", "/facilitator/verify", { key, body: {}, headers: from("192.0.2.1") });
  assert.equal(payment.body.isValid, false);
  const allowed = await worker.call("POST", "/v1/verify", { key, body, headers: from("203.0.113.1") });
  assert.notEqual(allowed.body.error_code, "IP_NOT_ALLOWED");
  for (const wrong of [
    ["203.0.113.0/33"],
    ["here"],
    ["10.0.0.0/8", ""],
    Array.from({ length: 51 }, (_, host) => `10.0.0.${host}`),
    "10.0.0.0/8",
  ])
    assert.deepEqual(
      refusal(await seller.call("POST", "/v1/api-keys", { name: "x", environment: "test", allow_list: wrong })),
      [422, "INVALID_REQUEST"],
      JSON.stringify(wrong),
    );
});

test("a tenant has a hundred keys, also when they are made at once", async () => {
  const seller = await owner();
  const before = (await seller.call("GET", "/v1/api-keys")).body.data.length;
  const many = 96 - before;
  await worker.sql(
    `INSERT INTO api_keys (id, tenant_id, environment, name, hash, scopes, created_ms)
     SELECT 'key_' || printf('%026d', value), ?, 'test', 'x', printf('%064d', value), '["verify"]', 1 FROM json_each(?)`,
    seller.id,
    JSON.stringify(Array.from({ length: many }, (_, at) => at)),
  );
  const made = await Promise.all(Array.from({ length: 8 }, () => seller.call("POST", "/v1/api-keys", { name: "x", environment: "test" })));
  assert.deepEqual(made.map(({ status }) => status).sort(), [201, 201, 201, 201, 422, 422, 422, 422]);
  const held = await worker.sql("SELECT id FROM api_keys WHERE tenant_id = ? AND revoked_ms IS NULL", seller.id);
  assert.equal(held.length, 100);
  const admin = { admin: true, body: { name: "x", environment: "test" } };
  assert.equal((await worker.call("POST", `/v1/admin/tenants/${seller.id}/api-keys`, admin)).status, 422);
  // A key at the limit is rotated all the same.
  const { id } = made.find(({ status }) => status === 201).body.api_key;
  assert.equal((await seller.call("POST", `/v1/api-keys/${id}/rotate`, {})).status, 201);
});

test("a leaked key is refused from the next request on, and the answer does not tell keys from other texts", async () => {
  const seller = await owner();
  const other = await owner();
  const report = (key, more = {}, headers = network()) =>
    worker.call("POST", "/v1/api-keys/revoke-leaked", { body: { key, ...more }, headers });
  const plain = await created(seller.call);
  const url = await created(seller.call, { kind: "url" });
  const unused = await created(other.call);
  const gone = await created(seller.call);
  await seller.call("DELETE", `/v1/api-keys/${gone.api_key.id}`);
  const found = "https://example.test/paste/1";
  const texts = [plain.key, url.key, gone.key, `${plain.key}x`, plain.key.replace("x402_test_", "x402_live_"), "x402_live_1", "hello"];
  const answers = [];
  for (const text of texts) {
    const { status, headers, text: body } = await report(text, { url: found });
    answers.push([status, headers.get("content-type"), [...headers.keys()].sort().join(), body]);
  }
  assert.equal(answers[0][0], 202);
  for (const answer of answers) assert.deepEqual(answer, answers[0]);
  for (const key of [plain.key]) assert.deepEqual(refusal(await whoami(key)), INVALID);
  const byUrl = await worker.call("GET", `/facilitator/k/${url.key}/supported`);
  assert.ok(!byUrl.body.kinds?.length, JSON.stringify(byUrl.body));
  assert.equal((await whoami(unused.key)).status, 200);
  const log = (await seller.call("GET", "/v1/audit-log?action=key.revoked")).body.data;
  assert.deepEqual(
    log.map(({ actor_kind, actor, subject, detail }) => [actor_kind, actor, subject, detail]),
    [
      ["system", "system", url.api_key.id, `test, leaked: ${found}`],
      ["system", "system", plain.api_key.id, `test, leaked: ${found}`],
      ["person", seller.session.person.id, gone.api_key.id, "test"],
    ],
  );
  const again = await recorded(seller.id, () => report(plain.key));
  assert.deepEqual([again.answer.status, again.made], [202, []]);
  // A place of another form keeps no key in force.
  for (const url of ["=1+1", "http://x.test", "https://x.test/é", `https://x.test/${"a".repeat(500)}`, "", null, 1, {}]) {
    const leaked = await created(seller.call);
    const { status, text } = await report(leaked.key, { url });
    assert.deepEqual([status, text], [202, answers[0][3]], JSON.stringify(url));
    assert.deepEqual(refusal(await whoami(leaked.key)), INVALID, JSON.stringify(url));
    const [entry] = (await seller.call("GET", "/v1/audit-log?action=key.revoked&limit=1")).body.data;
    assert.equal(entry.detail, "test, leaked: reported without a place");
  }
  for (const body of [{}, { key: "" }, { key: "x", at: "y" }])
    assert.equal((await worker.call("POST", "/v1/api-keys/revoke-leaked", { body, headers: network() })).status, 422);
  // The key belongs into the body: in the query it is not read.
  const query = await worker.call("POST", `/v1/api-keys/revoke-leaked?key=${unused.key}`, { body: {}, headers: network() });
  assert.equal(query.status, 422);
  assert.equal((await whoami(unused.key)).status, 200);
  // One network reports so many, and others go on.
  const one = network();
  const flood = await Promise.all(Array.from({ length: 105 }, (_, at) => report(`x402_live_${at}`, {}, one)));
  assert.deepEqual(
    [202, 429].map((wanted) => flood.filter(({ status }) => status === wanted).length),
    [100, 5],
  );
  assert.deepEqual(refusal(flood.find(({ status }) => status === 429)), [429, "RATE_LIMITED"]);
  assert.equal((await report("x402_live_1")).status, 202);
});

test("the documented pattern finds our keys in any text", async () => {
  const pattern = readFileSync(join(ROOT, "docs", "keys.md"), "utf8").match(/^x402_\(.*$/m)?.[0] ?? "";
  const seller = await owner();
  for (const environment of ["live", "test"])
    for (const kind of ["bearer", "url"]) {
      const { key } = await created(seller.call, { environment, kind });
      assert.equal(`const key = "${key}";`.match(new RegExp(pattern))?.[0], key);
    }
});

test("both ledgers know of a revocation before it is answered, else the answer says so", async () => {
  const seller = await owner();
  const { key, api_key } = await created(seller.call);
  const revoke = () => seller.call("DELETE", `/v1/api-keys/${api_key.id}`);
  assert.equal((await whoami(key)).status, 200);
  await worker.fault({ names: `"reload"`, unsent: true, stays: true });
  assert.deepEqual(refusal(await revoke()), [503, "CHANGE_NOT_LOADED"]);
  await worker.fault(null);
  assert.equal((await revoke()).status, 200, "the same again");
  assert.deepEqual(refusal(await whoami(key)), INVALID);
});

test("a change that no ledger has loaded takes effect without another request", async () => {
  const seller = await owner();
  const [revoked, leaked, rotated] = [await created(seller.call), await created(seller.call), await created(seller.call)];
  const texts = [revoked, leaked, rotated].map(({ key }) => key);
  for (const key of texts) assert.equal((await whoami(key)).status, 200);
  await worker.fault({ names: `"reload"`, unsent: true, stays: true });
  const refused = await seller.call("DELETE", `/v1/api-keys/${revoked.api_key.id}`);
  assert.deepEqual(refusal(refused), [503, "CHANGE_NOT_LOADED"]);
  assert.doesNotMatch(refused.body.detail, /Idempotency-Key/);
  const report = (key) => worker.call("POST", "/v1/api-keys/revoke-leaked", { headers: network(), body: { key } });
  const [genuine, other] = [await report(leaked.key), await report(`${leaked.key}x`)];
  assert.deepEqual([genuine.status, genuine.text], [202, other.text]);
  // What is shown once is shown, whether a ledger was reached or not.
  const made = await seller.call("POST", "/v1/api-keys", { name: "x", environment: "test" });
  assert.deepEqual([made.status, made.body.in_force], [201, false]);
  const next = await seller.call("POST", `/v1/api-keys/${rotated.api_key.id}/rotate`, { grace_seconds: 0 });
  assert.deepEqual([next.status, next.body.in_force], [201, false]);
  const waiting = () => worker.sql("SELECT 1 FROM directory_outbox WHERE tenant_id = ? AND shipped_ms IS NULL", seller.id);
  await worker.cron("* * * * *");
  assert.ok((await waiting()).length >= 4, "no event counts as shipped while a ledger does not hold its change");
  await worker.fault(null);
  await until(async () => {
    await worker.cron("* * * * *");
    return (await waiting()).length === 0;
  }, "the events of the changes");
  for (const key of texts) assert.deepEqual(refusal(await whoami(key)), INVALID);
  for (const { body } of [made, next]) assert.equal((await whoami(body.key, from("203.0.113.9"))).status, 200);
  assert.equal((await created(seller.call)).in_force, true);
});

test("a managing key revokes although its ledger is away, if the directory finds it good", async () => {
  const seller = await owner();
  const make = (more) => created(seller.call, { scopes: ["manage", "verify"], ...more });
  const manager = await make({ allow_list: ["203.0.113.0/24"] });
  const leaked = await created(seller.call, { scopes: ["verify"] });
  const [plain, revoked, narrow, other] = [
    await make({}),
    await make({}),
    await make({ scopes: ["verify"] }),
    await make({ environment: "live" }),
  ];
  await seller.call("DELETE", `/v1/api-keys/${revoked.api_key.id}`);
  const path = `/v1/api-keys/${leaked.api_key.id}`;
  const call = (key, method, address, body) => worker.call(method, address ?? path, { key, body, headers: from("203.0.113.7") });
  const storedMs = async () => (await worker.sql("SELECT revoked_ms FROM api_keys WHERE id = ?", leaked.api_key.id))[0].revoked_ms;
  assert.equal((await whoami(leaked.key)).status, 200);
  for (const what of [{ unsent: true }, { refused: true }]) {
    await worker.fault({ names: seller.id, ...what, stays: true });
    const elsewhere = await worker.call("DELETE", path, { key: manager.key, headers: from("192.0.2.1") });
    assert.deepEqual(refusal(elsewhere), [403, "IP_NOT_ALLOWED"]);
    assert.deepEqual(refusal(await call(revoked.key, "DELETE")), INVALID);
    assert.deepEqual(refusal(await call(narrow.key, "DELETE")), [403, "INSUFFICIENT_SCOPE"]);
    assert.deepEqual(refusal(await call(other.key, "DELETE")), [403, "ENVIRONMENT_MISMATCH"]);
    // What gives something waits for the ledger.
    const made = await call(plain.key, "POST", "/v1/api-keys", { name: "x", environment: "test", scopes: ["verify"] });
    assert.deepEqual(refusal(made), [503, "LEDGER_UNAVAILABLE"]);
    assert.equal(await storedMs(), null);
  }
  await worker.call("PATCH", `/v1/admin/tenants/${seller.id}`, { admin: true, body: { status: "suspended" } });
  assert.deepEqual(refusal(await call(manager.key, "DELETE")), [403, "TENANT_SUSPENDED"]);
  await worker.call("PATCH", `/v1/admin/tenants/${seller.id}`, { admin: true, body: { status: "active" } });
  const stored = await call(manager.key, "DELETE");
  assert.deepEqual(refusal(stored), [503, "CHANGE_NOT_LOADED"]);
  assert.match(stored.body.detail, /^the change is stored/);
  assert.notEqual(await storedMs(), null);
  await worker.fault(null);
  await worker.cron("* * * * *");
  assert.deepEqual(refusal(await whoami(leaked.key)), INVALID, "without another request");
});

test("a 503 says that a revocation is stored only where it is", async () => {
  const seller = await owner();
  const { key, api_key } = await created(seller.call);
  const revoke = () => seller.call("DELETE", `/v1/api-keys/${api_key.id}`);
  await worker.dbFault({ names: "UPDATE api_keys SET revoked_ms", stays: true });
  assert.deepEqual(refusal(await revoke()), [503, "LEDGER_UNAVAILABLE"]);
  assert.equal((await whoami(key)).status, 200);
  // The directory fails after the write.
  await worker.dbFault({ names: "tier_by FROM tenants WHERE id", skip: 1, stays: true });
  assert.deepEqual(refusal(await revoke()), [503, "CHANGE_NOT_LOADED"]);
  await worker.dbFault();
  await worker.cron("* * * * *");
  assert.deepEqual(refusal(await whoami(key)), INVALID);
});

test("a new key is shown although the directory fails right after the write", async () => {
  const seller = await owner();
  const reads = { names: "FROM api_keys WHERE tenant_id = ? AND id = ?", stays: true };
  await worker.dbFault(reads);
  const made = await seller.call("POST", "/v1/api-keys", { name: "kept", environment: "test", scopes: ["verify"] });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  // A rotation reads the old key first.
  await worker.dbFault({ ...reads, skip: 1 }, { names: "tier_by FROM tenants WHERE id", skip: 1, stays: true });
  const next = await seller.call("POST", `/v1/api-keys/${made.body.api_key.id}/rotate`, { grace_seconds: 0 });
  await worker.dbFault();
  assert.deepEqual([next.status, next.body.in_force], [201, false], JSON.stringify(next.body));
  const listed = (await seller.call("GET", "/v1/api-keys")).body.data;
  const find = (id) => listed.find((each) => each.id === id);
  assert.deepEqual(next.body.api_key, find(next.body.api_key.id), "as it is stored");
  const { grace_until, revoked_at, ...old } = find(made.body.api_key.id);
  assert.deepEqual({ ...old, grace_until: null, revoked_at: null }, made.body.api_key);
  await worker.cron("* * * * *");
  assert.equal((await whoami(next.body.key)).status, 200);
  assert.deepEqual(refusal(await whoami(made.body.key)), INVALID);
});

test("whoever was removed, demoted or revoked meanwhile makes no key by a request that is under way", async () => {
  const seller = await owner();
  const body = { name: "late", environment: "test", scopes: ["verify"] };
  const held = (await created(seller.call, body)).api_key.id;
  const rotate = `/v1/api-keys/${held}/rotate`;
  const late = () => worker.sql("SELECT 1 FROM api_keys WHERE tenant_id = ? AND (name = 'later' OR rotated_from = ?)", seller.id, held);
  /** What a request answers whose write waits until `end` is done. */
  const meanwhile = async (request, end) => {
    const answer = await worker.whileHeld("INSERT INTO api_keys", request, end);
    assert.deepEqual(await late(), []);
    return refusal(answer);
  };
  const later = { ...body, name: "later" };
  const requests = /** @type {[string, object][]} */ ([
    ["/v1/api-keys", later],
    [rotate, {}],
  ]);
  for (const [path, sent] of requests) {
    const key = await created(seller.call, { scopes: ["manage", "verify"] });
    const byThis = () => byKey(key.key)("POST", path, sent);
    assert.deepEqual(await meanwhile(byThis, () => seller.call("DELETE", `/v1/api-keys/${key.api_key.id}`)), [409, "KEY_NOT_ACTIVE"]);
    const replaced = await created(seller.call, { scopes: ["manage", "verify"] });
    const byOther = () => byKey(replaced.key)("POST", path, sent);
    const end = () => worker.sql("UPDATE api_keys SET grace_until_ms = ? WHERE id = ?", Date.now() + DAY, replaced.api_key.id);
    assert.deepEqual(await meanwhile(byOther, end), [409, "KEY_NOT_ACTIVE"]);
    const email = address();
    await seller.call("POST", "/v1/members/invitations", { email, role: "developer" });
    const browser = new Browser(worker);
    const joined = await browser.call("POST", "/v1/members/join", { token: (await mailTo(worker, email)).token });
    const { id } = joined.body.session.person;
    const remove = () => worker.sql("UPDATE members SET role = 'viewer' WHERE person_id = ? AND tenant_id = ?", id, seller.id);
    assert.deepEqual(await meanwhile(() => browser.call("POST", path, sent), remove), [403, "INSUFFICIENT_ROLE"]);
  }
  assert.equal((await seller.call("POST", rotate, {})).status, 201, "who still may");
});

test("a suspended tenant's keys are read and not changed", async () => {
  const seller = await owner();
  const manager = await created(seller.call, { scopes: ["manage"] });
  await worker.call("PATCH", `/v1/admin/tenants/${seller.id}`, { admin: true, body: { status: "suspended" } });
  const suspended = [403, "TENANT_SUSPENDED"];
  assert.equal((await seller.call("GET", "/v1/api-keys")).status, 200);
  for (const call of [seller.call, byKey(manager.key)])
    for (const [method, path, body] of [
      ["POST", "/v1/api-keys", { name: "x", environment: "test" }],
      ["POST", `/v1/api-keys/${manager.api_key.id}/rotate`, {}],
      ["DELETE", `/v1/api-keys/${manager.api_key.id}`, undefined],
    ])
      assert.deepEqual(refusal(await call(method, path, body)), suspended, `${method} ${path}`);
  assert.deepEqual(refusal(await byKey(manager.key)("GET", "/v1/api-keys")), suspended);
});

test("what the document shows as an example is taken", async () => {
  const seller = await owner();
  const { body } = await worker.call("GET", "/v1/openapi.json");
  const example = (path) => body.paths[path].post.requestBody.content["application/json"].example;
  const made = await seller.call("POST", "/v1/api-keys", example("/v1/api-keys"));
  assert.equal(made.status, 201, JSON.stringify(made.body));
  const rotated = await seller.call("POST", `/v1/api-keys/${made.body.api_key.id}/rotate`, example("/v1/api-keys/{key_id}/rotate"));
  assert.equal(rotated.status, 201, JSON.stringify(rotated.body));
  const leaked = { body: example("/v1/api-keys/revoke-leaked"), headers: network() };
  assert.equal((await worker.call("POST", "/v1/api-keys/revoke-leaked", leaked)).status, 202);
});

// The clock goes forward from here on.
test("a rotated key ends with its grace time, and is revoked by the next change of keys", async () => {
  const seller = await owner();
  const old = await created(seller.call);
  const { key } = (await seller.call("POST", `/v1/api-keys/${old.api_key.id}/rotate`, undefined)).body;
  assert.equal((await whoami(old.key)).status, 200);
  await worker.advance(DAY + 1_000);
  assert.deepEqual(refusal(await whoami(old.key)), INVALID, "a day, where the request names none");
  assert.equal((await whoami(key)).status, 200);
  await created(seller.call);
  const [{ revoked_ms, grace_until_ms }] = await worker.sql("SELECT * FROM api_keys WHERE id = ?", old.api_key.id);
  assert.equal(revoked_ms, grace_until_ms);
  const soon = await created(seller.call, { expires_at: new Date(Date.now() + DAY + 60_000).toISOString() });
  await worker.advance(120_000);
  assert.deepEqual(refusal(await whoami(soon.key)), INVALID);
  const held = await created(seller.call);
  assert.equal((await whoami(held.key)).status, 200);
  // Keys that have expired count neither against the limit nor in the ledger's copy.
  await worker.sql(
    `INSERT INTO api_keys (id, tenant_id, environment, name, hash, scopes, created_ms, expires_ms)
     SELECT 'key_7' || printf('%025d', value), ?, 'test', 'x', printf('%064d', 9000000 + value), '["verify"]', 1, 2
     FROM json_each(?)`,
    seller.id,
    JSON.stringify(Array.from({ length: 2_100 }, (_, at) => at)),
  );
  const next = await created(seller.call);
  for (const { key } of [held, next]) assert.equal((await whoami(key)).status, 200);
  assert.equal((await seller.call("POST", `/v1/api-keys/${next.api_key.id}/rotate`, {})).status, 201);
  const listed = (await seller.call("GET", "/v1/api-keys")).body.data;
  assert.ok(listed.some(({ id }) => id === held.api_key.id));
  assert.ok(listed.length <= 1_010, `${listed.length} keys`);
  assert.deepEqual(refusal(await seller.call("POST", `/v1/api-keys/${soon.api_key.id}/rotate`, {})), [409, "KEY_NOT_ACTIVE"]);
});
