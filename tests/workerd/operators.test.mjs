// What operators do for support, on the real Worker: find, send a mail again, end sessions; and wrong keys of theirs.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, address, mailTo, mailsTo, network, signedUp } from "./browser.mjs";
import { startMock } from "./mock-rpc.mjs";
import { startWorker, until } from "./worker.mjs";

const MINUTE = 60_000;
let mock, worker;
before(async () => {
  mock = await startMock();
  worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox", RPC_BASE: mock.url } });
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

const hex = (bytes) => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString("hex")}`;
const refusal = ({ status, body }) => [status, body.error_code];
const search = (q, more = "") => worker.call("GET", `/v1/admin/search?q=${encodeURIComponent(q)}${more}`, { admin: true });
const found = async (q, more) => {
  const { status, body } = await search(q, more);
  assert.equal(status, 200, JSON.stringify(body));
  assert.equal(body.next_cursor, null);
  return body.data.map(({ kind, tenant, state }) => [kind, tenant, state]);
};
const resend = (id) => worker.call("POST", `/v1/admin/mails/${id}/resend`, { admin: true });
const unmark = (email) => worker.call("DELETE", `/v1/admin/mail-marks/${encodeURIComponent(email)}`, { admin: true });
const endSessions = (id) => worker.call("DELETE", `/v1/admin/people/${id}/sessions`, { admin: true });
const mark = (email, state) => worker.sql("INSERT INTO mail_addresses (address, state, marked_ms) VALUES (?, ?, 1)", email, state);
const stateOf = async (id) => (await worker.sql("SELECT state FROM mails WHERE id = ?", id))[0]?.state;
const ended = (id, state) => until(async () => (await stateOf(id)) === state, `a mail that is ${state}`);
const invite = (owner, email, role = "viewer") => owner.browser.call("POST", "/v1/members/invitations", { email, role });

/** What operators have done in a tenant, as its owner reads it. */
async function doneByOperators({ browser }) {
  const { body } = await browser.call("GET", "/v1/audit-log?actor=operator");
  return body.data.map(({ action, subject, detail }) => [action, subject, detail]);
}

test("a mail address is found with its person, tenants, invitations and mails", async () => {
  const owner = await signedUp(worker);
  const { id } = owner.session.tenant;
  assert.deepEqual(await found(` ${owner.email.toUpperCase()} `), [
    ["tenant", id, "active"],
    ["person", null, null],
    ["member", id, "owner"],
    ["mail", null, "sent"],
  ]);
  const { data } = (await search(owner.email)).body;
  assert.deepEqual([data[0].id, data[1].id, data[2].id], [id, owner.session.person.id, owner.session.person.id]);
  const guest = address();
  await invite(owner, guest);
  await mailTo(worker, guest);
  await mark(guest, "complained");
  const open = [
    ["mark", null, "complained"],
    ["invitation", id, "open"],
    ["mail", id, "sent"],
  ];
  assert.deepEqual((await found(guest)).sort(), open.sort());
  await invite(owner, guest, "developer");
  const states = (await found(guest)).filter(([kind]) => kind === "invitation").map(([, , state]) => state);
  assert.deepEqual(states.sort(), ["open", "revoked"]);
  assert.deepEqual(await found(address()), []);
});

test("a recipient is found in both environments, also one that was retired", async () => {
  const [one, other] = [await worker.tenant(), await worker.tenant()];
  const recipient = hex(20);
  const add = (id, chain) =>
    worker.call("POST", `/v1/admin/tenants/${id}/recipients`, { admin: true, body: { chain, address: recipient } });
  assert.equal((await add(one.id, "base")).status, 201);
  assert.equal((await add(other.id, "base-sepolia")).status, 201);
  const both = [
    ["recipient", one.id, "held"],
    ["recipient", other.id, "held"],
  ];
  assert.deepEqual(await found(recipient), both);
  const { body } = await search(recipient);
  assert.deepEqual(
    body.data.map(({ environment }) => environment),
    ["live", "test"],
  );
  const { status } = await worker.call("DELETE", `/v1/admin/tenants/${one.id}/recipients/${body.data[0].id}`, { admin: true });
  assert.equal(status, 200);
  assert.deepEqual((await found(recipient))[0], ["recipient", one.id, "retired"]);
});

test("a settlement is found by its id and by its transaction", async () => {
  const { id: tenant } = await worker.tenant();
  const transaction = hex(32);
  const ids = ["stl_01KB0000000000000000000001", "stl_01KB0000000000000000000002"];
  for (const id of ids) {
    await worker.sql(
      `INSERT INTO settlements (id, tenant_id, environment, created_ms, network, status, body, revision)
       VALUES (?, ?, 'live', 1, 'eip155:8453', 'completed', ?, 1)`,
      id,
      tenant,
      JSON.stringify({ id, transaction }),
    );
  }
  const one = ["settlement", tenant, "completed"];
  assert.deepEqual(await found(ids[0]), [one]);
  assert.deepEqual(await found(transaction), [one, one]);
  assert.deepEqual(await found(`0x${transaction.slice(2).toUpperCase()}`), [one, one]);
  assert.deepEqual(await found(hex(32)), []);
  assert.deepEqual(await found("stl_01KB0000000000000000000003"), []);
});

test("a verification is found among the records of the tenant that is named", async () => {
  const to = hex(20);
  const [tenant, other] = [await worker.tenant({ recipients: { base: to } }), await worker.tenant()];
  const hash = mock.addTransfer({ transfers: [{ from: hex(20), to, amount: 1_000 }], block: 900 });
  const { id } = (await worker.verify(tenant.live, { tx_hash: hash, chain: "base", claim: false })).body;
  const named = (of) => `&tenant=${of.id}`;
  await until(async () => (await found(id, named(tenant))).length === 1, "a record that is shipped");
  const [view] = (await search(id, named(tenant))).body.data;
  assert.deepEqual([view.kind, view.id, view.tenant, view.environment], ["verification", id, tenant.id, "live"]);
  assert.deepEqual(await found(id, named(other)), []);
  const alone = await search(id);
  assert.deepEqual([...refusal(alone), alone.body.param], [422, "INVALID_REQUEST", "tenant"]);
});

test("what cannot be searched for is refused", async () => {
  for (const wrong of ["", " ", "ann", "a@", "x402_live_1", "0x12", `${"a".repeat(260)}@b.c`]) {
    const answer = await search(wrong);
    assert.deepEqual([...refusal(answer), answer.body.param], [422, "INVALID_REQUEST", "q"], wrong);
  }
});

test("a mail to sign in is sent again with the same link, while that holds", async () => {
  const email = address();
  const browser = new Browser(worker);
  await browser.signUp(email);
  const first = await mailTo(worker, email);
  const again = await resend(first.id);
  assert.equal(again.status, 202, JSON.stringify(again.body));
  assert.equal(again.body.repeats, first.id);
  const second = await mailTo(worker, email, 2);
  assert.deepEqual([second.id, second.token, second.code], [again.body.id, first.token, first.code]);
  const owner = (await browser.session({ token: second.token })).body;
  assert.deepEqual(refusal(await resend(first.id)), [409, "MAIL_NOT_OPEN"], "its link was used");
  assert.deepEqual(await doneByOperators({ browser }), [], "the address had no tenant");
  // The next one concerns a tenant.
  await new Browser(worker).logIn(email);
  const third = await mailTo(worker, email, 3);
  const { id } = (await resend(third.id)).body;
  await ended(id, "sent");
  assert.deepEqual(await doneByOperators({ browser }), [["mail.resent", third.id, id]]);
  await worker.advance(16 * MINUTE);
  assert.deepEqual(refusal(await resend(third.id)), [409, "MAIL_NOT_OPEN"], "its link has expired");
  assert.equal((await mailsTo(worker, email)).length, 4);
  assert.ok(owner.session);
  for (const none of ["mail_01KB0000000000000000000000", "mail_1", "x"]) {
    assert.deepEqual(refusal(await resend(none)), [404, "NOT_FOUND"], none);
  }
});

test("an invitation is sent again until it is revoked, and its tenant reads of it", async () => {
  const owner = await signedUp(worker);
  const guest = address();
  const { invitation } = (await invite(owner, guest)).body;
  const first = await mailTo(worker, guest);
  const { id } = (await resend(first.id)).body;
  assert.equal((await mailTo(worker, guest, 2)).token, first.token);
  assert.deepEqual(await doneByOperators(owner), [["mail.resent", first.id, id]]);
  await owner.browser.call("DELETE", `/v1/members/invitations/${invitation.id}`);
  assert.deepEqual(refusal(await resend(first.id)), [409, "MAIL_NOT_OPEN"]);
  assert.equal((await doneByOperators(owner)).length, 1);
});

test("a mail that waits is not sent twice", async () => {
  const owner = await signedUp(worker);
  const guest = address();
  await invite(owner, guest);
  const first = await mailTo(worker, guest);
  await worker.sql(
    `INSERT INTO mails (id, kind, address, origin, subject_id, state, due_ms, created_ms)
     SELECT 'mail_01KB0000000000000000000009', kind, address, origin, subject_id, 'queued', 1e15, created_ms
     FROM mails WHERE id = ?`,
    first.id,
  );
  assert.deepEqual(refusal(await resend(first.id)), [409, "MAIL_NOT_OPEN"]);
});

test("a marked address gets mails again when an operator removes the mark", async () => {
  const owner = await signedUp(worker, `ann+${address()}`);
  await mark(owner.email, "bounced");
  await new Browser(worker).logIn(owner.email);
  const [{ id }] = await worker.sql("SELECT id FROM mails WHERE address = ? ORDER BY id DESC LIMIT 1", owner.email);
  await ended(id, "suppressed");
  assert.deepEqual(refusal(await resend(id)), [409, "MAIL_NOT_OPEN"]);
  const removed = await unmark(owner.email.toUpperCase());
  assert.deepEqual([removed.status, removed.body.address], [200, owner.email], JSON.stringify(removed.body));
  assert.deepEqual(refusal(await unmark(owner.email)), [404, "NOT_FOUND"]);
  assert.deepEqual(refusal(await unmark("nobody")), [404, "NOT_FOUND"]);
  const again = await resend(id);
  assert.equal(again.status, 202);
  await ended(again.body.id, "sent");
  assert.deepEqual(await doneByOperators(owner), [
    ["mail.resent", id, again.body.id],
    ["mark.removed", owner.session.person.id, null],
  ]);
  const stranger = address();
  await mark(stranger, "complained");
  assert.equal((await unmark(stranger)).status, 200, "an address of nobody");
});

test("all sessions of a person end, and every tenant of the person reads of it", async () => {
  const [ann, bob] = [await signedUp(worker), await signedUp(worker)];
  await invite(bob, ann.email);
  const second = new Browser(worker);
  const { token: invitation } = await mailTo(worker, ann.email, 2);
  // Who belongs to a tenant joins another in a session.
  await second.logIn(ann.email);
  assert.equal((await second.session({ token: (await mailTo(worker, ann.email, 3)).token })).status, 201);
  assert.equal((await second.call("POST", "/v1/members/join", { token: invitation })).status, 201);
  const { id } = ann.session.person;
  const answer = await endSessions(id);
  assert.deepEqual([answer.status, answer.body.person_id, answer.body.ended], [200, id, 2], JSON.stringify(answer.body));
  for (const browser of [ann.browser, second]) {
    assert.deepEqual(refusal(await browser.call("GET", "/v1/session")), [401, "INVALID_SESSION"]);
  }
  const entry = ["sessions.ended", id, null];
  assert.deepEqual(await doneByOperators(bob), [entry]);
  assert.equal((await endSessions(id)).body.ended, 0);
  assert.deepEqual(await doneByOperators(bob), [entry], "what changes nothing is not recorded");
  await ann.browser.logIn(ann.email);
  assert.equal((await ann.browser.session({ token: (await mailTo(worker, ann.email, 4)).token })).status, 201);
  assert.deepEqual(await doneByOperators(ann), [entry]);
  const kinds = await worker.sql("SELECT kind, environment FROM directory_outbox WHERE subject = ?", id);
  assert.deepEqual(
    kinds.filter(({ kind }) => kind !== "member.joined"),
    Array(2).fill({ kind: "tenant.updated", environment: "live" }),
  );
  for (const none of ["per_01KB0000000000000000000000", "x"]) {
    assert.deepEqual(refusal(await endSessions(none)), [404, "NOT_FOUND"], none);
  }
});

test("after twenty wrong keys from a network none is compared for a minute", async () => {
  const from = network();
  const neighbour = { "cf-connecting-ip": from["cf-connecting-ip"].replace(/1$/, "77") };
  const ask = (admin, headers = from) => worker.call("GET", "/v1/admin/tenants?limit=1", { admin, headers });
  for (let missing = 0; missing < 25; missing++) await ask(undefined);
  for (let at = 0; at < 20; at++) {
    assert.equal((await ask(true)).status, 200, "the right key resets nothing, and is not counted");
    assert.deepEqual(refusal(await ask(`wrong ${at}`)), [401, "INVALID_ADMIN_KEY"]);
  }
  for (const { key, headers } of [
    { key: true, headers: from },
    { key: "wrong", headers: from },
    { key: true, headers: neighbour },
  ]) {
    const answer = await ask(key, headers);
    assert.deepEqual(refusal(answer), [429, "RATE_LIMITED"]);
    const wait = Number(answer.headers.get("retry-after"));
    assert.ok(wait >= 1 && wait <= 60, `${wait}`);
  }
  assert.equal((await ask(true, network())).status, 200, "another network");
  await worker.advance(MINUTE + 1_000);
  assert.equal((await ask(true)).status, 200, "a minute later");
});

test("wrong keys at the same time, and from all of a large network, are counted as those one after another", async () => {
  // With a binding that counts nothing, each wrong key is awaited after its comparison.
  const counted = await startWorker({ ratelimits: { OPERATOR_GUARD: { namespace_id: "1", simple: { limit: 10_000, period: 60 } } } });
  try {
    const ask = (admin, from) => counted.call("GET", "/v1/admin/tenants?limit=1", { admin, headers: { "cf-connecting-ip": from } });
    const statuses = async (clients) => {
      const all = await Promise.all(clients.map((from, at) => ask(`wrong ${at}`, from)));
      return Object.fromEntries([...Map.groupBy(all, ({ status }) => status)].map(([status, of]) => [status, of.length]));
    };
    assert.equal((await ask(true, "10.99.1.1")).status, 200);
    const v4 = Array.from({ length: 120 }, (_, at) => `10.99.1.${at}`);
    assert.deepEqual(await statuses(v4), { 401: 20, 429: 100 });
    // A /48 of IPv6 is one network, however an address in it is written.
    const v6 = Array.from({ length: 120 }, (_, at) => (at % 2 ? `2001:db8:1:${at}::${at}` : `2001:0DB8:0001:${at}:0:0:0:1`));
    assert.deepEqual(await statuses(v6), { 401: 20, 429: 100 });
    const mapped = Array.from({ length: 30 }, (_, at) => `::ffff:10.99.1.${at}`);
    assert.deepEqual(await statuses(mapped), { 429: 30 }, "an IPv4 address in IPv6 is that address");
    assert.equal((await ask(true, "10.99.2.1")).status, 200);
  } finally {
    await counted.stop();
  }
});

test("wrong keys that the platform has counted elsewhere close a network too", async () => {
  const counted = await startWorker({ ratelimits: { OPERATOR_GUARD: { namespace_id: "1", simple: { limit: 2, period: 60 } } } });
  try {
    const from = network();
    const ask = (admin, headers = from) => counted.call("GET", "/v1/admin/tenants?limit=1", { admin, headers });
    for (let at = 0; at < 3; at++) {
      assert.equal((await ask(true)).status, 200);
      assert.deepEqual(refusal(await ask("wrong")), [401, "INVALID_ADMIN_KEY"]);
    }
    assert.deepEqual(refusal(await ask(true)), [429, "RATE_LIMITED"]);
    assert.equal((await ask(true, network())).status, 200);
  } finally {
    await counted.stop();
  }
});

test("an invitation names a tenant that shows its branding, and holds no link but ours", async () => {
  const owner = await signedUp(worker);
  const { id } = owner.session.tenant;
  await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { tier: "pro" } });
  const branding = { name: "Ann & Co.", primary_color: "#00ffaa", logo_url: "https://ann.example/logo.png" };
  const changed = await owner.browser.call("PATCH", "/v1/tenant", { branding, support_address: "help@ann.example" });
  assert.equal(changed.status, 200, JSON.stringify(changed.body));
  const invited = async () => {
    const guest = address();
    await invite(owner, guest);
    return mailTo(worker, guest);
  };
  const mail = await invited();
  assert.match(mail.text, /for “Ann & Co\.\u200b”, as viewer/);
  assert.match(mail.text, /Questions are answered at help@ann\.example\./);
  assert.ok(mail.html.includes("Ann &amp; Co.") && mail.html.includes("solid #00ffaa"));
  assert.deepEqual([mail.text.match(/https?:/g).length, mail.html.match(/https?:/g).length, mail.html.includes("logo")], [1, 1, false]);
  await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { tier: "free" } });
  const plain = await invited();
  for (const part of ["Ann", "help@", "#00ffaa"]) assert.ok(!plain.text.includes(part) && !plain.html.includes(part), part);
});
