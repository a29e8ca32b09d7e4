// Members of a tenant and invitations, on the real Worker: each role against each route, and the last owner.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { Browser, address, mailTo, mailsTo, signedUp } from "./browser.mjs";
import { startWorker } from "./worker.mjs";

const DAY = 24 * 60 * 60_000;
let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } })));
after(() => worker.stop());

const refusal = ({ status, body }) => [status, body.error_code];
const invite = (owner, email, role) => owner.browser.call("POST", "/v1/members/invitations", { email, role });
const members = async ({ browser }) => (await browser.call("GET", "/v1/members")).body;
const remove = (by, person) => by.browser.call("DELETE", `/v1/members/${person}`);
const change = (by, person, role) => by.browser.call("PATCH", `/v1/members/${person}`, { role });

/** A person who has joined the tenant of `owner`. */
async function joined(owner, role, email = address()) {
  const invited = await invite(owner, email, role);
  assert.equal(invited.status, 201, JSON.stringify(invited.body));
  const browser = new Browser(worker);
  const { token } = await mailTo(worker, email);
  const made = await browser.call("POST", "/v1/members/join", { token });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  return { browser, email, token, person: made.body.session.person.id, ...made.body };
}

test("a person joins by the link of an invitation, in the role that it names", async () => {
  const owner = await signedUp(worker);
  const email = address();
  const invited = await invite(owner, email.toUpperCase(), "developer");
  assert.equal(invited.status, 201);
  const { invitation } = invited.body;
  assert.deepEqual([invitation.email, invitation.role], [email, "developer"]);
  assert.deepEqual((await members(owner)).invitations, [invitation]);
  const mail = await mailTo(worker, email);
  assert.ok(mail.text.includes(owner.email) && !JSON.stringify(invited.body).includes(mail.token));
  const browser = new Browser(worker);
  const made = await browser.call("POST", "/v1/members/join", { token: mail.token });
  assert.equal(made.status, 201);
  assert.deepEqual([made.body.session.tenant.id, made.body.session.role], [owner.session.tenant.id, "developer"]);
  assert.equal(made.body.api_keys, null);
  const { data, invitations } = await members(owner);
  assert.deepEqual(
    data.map(({ email: each, role }) => [each, role]),
    [
      [owner.email, "owner"],
      [email, "developer"],
    ],
  );
  assert.deepEqual(invitations, []);
  const again = await new Browser(worker).call("POST", "/v1/members/join", { token: mail.token });
  assert.deepEqual(refusal(again), [401, "INVALID_SIGN_IN"]);
  assert.deepEqual(refusal(await invite(owner, email, "viewer")), [409, "ALREADY_MEMBER"]);
});

test("a person may belong to several tenants, and signs in to the first", async () => {
  const [own, owner] = [await signedUp(worker), await signedUp(worker)];
  assert.equal((await invite(owner, own.email, "viewer")).status, 201);
  const { token } = await mailTo(worker, own.email, 2);
  const made = await own.browser.call("POST", "/v1/members/join", { token });
  assert.deepEqual([made.status, made.body.session.tenant.id], [201, owner.session.tenant.id]);
  assert.deepEqual(
    made.body.tenants.map(({ id, role }) => [id, role]),
    [
      [own.session.tenant.id, "owner"],
      [owner.session.tenant.id, "viewer"],
    ],
  );
  const back = await own.browser.call("POST", "/v1/session/tenant", { tenant: own.session.tenant.id });
  assert.deepEqual([back.status, back.body.session.role], [200, "owner"]);
});

test("an invitation opens no account: a person who has one joins by a session of his own", async () => {
  const [own, owner, stranger] = [await signedUp(worker), await signedUp(worker), await signedUp(worker)];
  assert.equal((await invite(owner, own.email, "viewer")).status, 201);
  const { token } = await mailTo(worker, own.email, 2);
  for (const browser of [new Browser(worker), stranger.browser]) {
    const refused = await browser.call("POST", "/v1/members/join", { token });
    assert.deepEqual(refusal(refused), [401, "INVALID_SIGN_IN"]);
    assert.match(refused.body.detail, /sign in/);
  }
  assert.equal((await stranger.browser.call("GET", "/v1/session")).status, 200);
  const elsewhere = new Browser(worker);
  await elsewhere.logIn(own.email);
  await elsewhere.session({ code: (await mailTo(worker, own.email, 3)).code });
  const made = await elsewhere.call("POST", "/v1/members/join", { token });
  assert.deepEqual([made.status, made.body.session.tenant.id], [201, owner.session.tenant.id]);
  // Whoever belongs to no tenant has nothing that the link could open.
  assert.equal((await remove(owner, own.session.person.id)).status, 200);
  await worker.sql("DELETE FROM members WHERE person_id = ?", own.session.person.id);
  await invite(owner, own.email, "viewer");
  const back = await new Browser(worker).call("POST", "/v1/members/join", { token: (await mailTo(worker, own.email, 4)).token });
  assert.deepEqual([back.status, back.body.tenants.length], [201, 1]);
});

test("whoever is an owner no longer leaves no invitation that holds", async () => {
  const owner = await signedUp(worker);
  for (const end of [(other) => remove(owner, other.person), (other) => change(owner, other.person, "developer")]) {
    const other = await joined(owner, "owner");
    const [theirs, mine] = [address(), address()];
    await invite(other, theirs, "owner");
    await invite(owner, mine, "viewer");
    const { token } = await mailTo(worker, theirs);
    assert.equal((await end(other)).status, 200);
    const refused = await new Browser(worker).call("POST", "/v1/members/join", { token });
    assert.deepEqual(refusal(refused), [401, "INVALID_SIGN_IN"]);
    const open = (await members(owner)).invitations.map(({ email }) => email);
    assert.deepEqual([open.includes(theirs), open.includes(mine)], [false, true]);
  }
  const kept = address();
  await invite(owner, kept, "viewer");
  assert.equal((await remove(owner, owner.session.person.id)).status, 409, "the last owner");
  assert.ok((await members(owner)).invitations.some(({ email }) => email === kept));
});

test("a founder who was removed, or whose tenant has his address, signs up again", async () => {
  const founder = await signedUp(worker);
  const other = await joined(founder, "owner");
  assert.equal((await remove(other, founder.session.person.id)).status, 200);
  const contact = async (tenant) => (await worker.sql("SELECT email FROM tenants WHERE id = ?", tenant))[0].email;
  assert.equal(await contact(founder.session.tenant.id), other.email);
  const signUpAgain = async ({ email }, count) => {
    const browser = new Browser(worker);
    await browser.signUp(email);
    const made = await browser.session({ token: (await mailTo(worker, email, count)).token });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    return made.body.session;
  };
  const again = await signUpAgain(founder, 2);
  assert.notEqual(again.tenant.id, founder.session.tenant.id);
  assert.deepEqual([again.role, await contact(again.tenant.id)], ["owner", founder.email]);
  // Here the other owner's address is the contact of his own tenant.
  const [second, busy] = [await signedUp(worker), await signedUp(worker)];
  await invite(second, busy.email, "owner");
  const { token } = await mailTo(worker, busy.email, 2);
  assert.equal((await busy.browser.call("POST", "/v1/members/join", { token })).status, 201);
  assert.equal((await remove(busy, second.session.person.id)).status, 200);
  assert.equal((await signUpAgain(second, 2)).role, "owner");
  assert.equal(await contact(busy.session.tenant.id), busy.email);
});

test("a token is spent with what it does, or not at all", async () => {
  const owner = await signedUp(worker);
  const [invited, fresh] = [address(), address()];
  await invite(owner, invited, "viewer");
  await new Browser(worker).signUp(fresh);
  const tokens = { join: (await mailTo(worker, invited)).token, session: (await mailTo(worker, fresh)).token };
  const use = {
    join: () => new Browser(worker).call("POST", "/v1/members/join", { token: tokens.join }),
    session: () => new Browser(worker).session({ token: tokens.session }),
  };
  await worker.sql("CREATE TRIGGER no_session BEFORE INSERT ON sessions BEGIN SELECT RAISE(ABORT, 'no session'); END");
  try {
    for (const each of Object.values(use)) assert.equal((await each()).status, 503);
  } finally {
    await worker.sql("DROP TRIGGER no_session");
  }
  assert.deepEqual(await worker.sql("SELECT id FROM people WHERE email IN (?, ?)", invited, fresh), []);
  for (const each of Object.values(use)) {
    assert.equal((await each()).status, 201);
    assert.deepEqual(refusal(await each()), [401, "INVALID_SIGN_IN"]);
  }
});

/** Makes a tenant one of so many members. */
async function fill({ session }, count) {
  const more = "SELECT 'per_01KB' || printf('%022d', value) AS id FROM json_each(?2)";
  const numbers = JSON.stringify(Array.from({ length: count - 1 }, (_, at) => at));
  const { id } = session.tenant;
  await worker.sql(`INSERT INTO people (id, email, created_ms) SELECT id, id || ?1 || '@example.test', 1 FROM (${more})`, id, numbers);
  await worker.sql(`INSERT INTO members (tenant_id, person_id, role, created_ms) SELECT ?1, id, 'viewer', 1 FROM (${more})`, id, numbers);
}

test("a tenant has a hundred members, invited ones among them, also of those who come at once", async () => {
  const owner = await signedUp(worker);
  await fill(owner, 98);
  const all = await Promise.all(Array.from({ length: 5 }, () => invite(owner, address(), "viewer")));
  assert.deepEqual(all.map(({ status }) => status).sort(), [201, 201, 422, 422, 422]);
  const [one, two] = all.filter(({ status }) => status === 201).map(({ body }) => body.invitation.email);
  // The mail of an invitation that another has replaced is not sent: its text is made when the queue hands it over.
  await mailTo(worker, one);
  assert.equal((await invite(owner, one, "developer")).status, 201, "in the place of the first");
  assert.deepEqual(refusal(await invite(owner, address(), "viewer")), [422, "INVALID_REQUEST"]);
  // One seat is taken otherwise: of two who join at once one stays outside.
  await worker.sql("INSERT INTO people (id, email, created_ms) VALUES ('per_01KC0000000000000000000000', 'seat@example.test', 1)");
  await worker.sql(
    "INSERT INTO members (tenant_id, person_id, role, created_ms) VALUES (?, 'per_01KC0000000000000000000000', 'viewer', 1)",
    owner.session.tenant.id,
  );
  const tokens = [(await mailTo(worker, one, 2)).token, (await mailTo(worker, two)).token];
  const join = (token) => new Browser(worker).call("POST", "/v1/members/join", { token });
  const joins = await Promise.all(tokens.map(join));
  const left = joins.findIndex(({ status }) => status !== 201);
  assert.deepEqual(joins.filter(({ status }) => status === 201).length, 1);
  const refused = await join(tokens[left]);
  assert.deepEqual([...refusal(refused), refused.body.param], [422, "INVALID_REQUEST", "token"]);
  // The invitation was not spent.
  await worker.sql("DELETE FROM members WHERE person_id = 'per_01KC0000000000000000000000'");
  assert.equal((await join(tokens[left])).status, 201);
});

test("nobody joins a tenant that is not served, and the invitation is kept", async () => {
  const owner = await signedUp(worker);
  const email = address();
  await invite(owner, email, "viewer");
  const { token } = await mailTo(worker, email);
  const join = () => new Browser(worker).call("POST", "/v1/members/join", { token });
  const become = (status) => worker.call("PATCH", `/v1/admin/tenants/${owner.session.tenant.id}`, { admin: true, body: { status } });
  await become("suspended");
  assert.deepEqual(refusal(await join()), [403, "TENANT_SUSPENDED"]);
  assert.deepEqual(await worker.sql("SELECT id FROM people WHERE email = ?", email), []);
  await become("active");
  assert.equal((await join()).status, 201);
});

test("without a mail backend nobody is invited", async () => {
  const bare = await startWorker();
  try {
    const { id } = await bare.tenant();
    const secret = "ab".repeat(32);
    const hash = createHash("sha256").update(Buffer.from(secret, "hex")).digest("hex");
    const person = "per_01KB0000000000000000000000";
    const [now, end] = [Date.now(), Date.now() + DAY];
    await bare.sql("INSERT INTO people (id, email, created_ms) VALUES (?, 'a@example.test', 1)", person);
    await bare.sql("INSERT INTO members (tenant_id, person_id, role, created_ms) VALUES (?, ?, 'owner', 1)", id, person);
    await bare.sql(
      `INSERT INTO sessions (id, hash, person_id, tenant_id, ip_prefix, created_ms, seen_ms, expires_ms)
       VALUES ('ses_01KB0000000000000000000000', ?, ?, ?, 'unknown', ?, ?, ?)`,
      hash,
      person,
      id,
      now,
      now,
      end,
    );
    const browser = new Browser(bare);
    browser.cookies.set("__Host-session", secret);
    const refused = await browser.call("POST", "/v1/members/invitations", { email: address(), role: "viewer" });
    assert.deepEqual(refusal(refused), [404, "NOT_FOUND"]);
    assert.match(refused.body.detail, /sends no mail/);
    assert.deepEqual(await bare.sql("SELECT id FROM invitations"), []);
  } finally {
    await bare.stop();
  }
});

test("an address gets few invitations a day, whoever sends them", async () => {
  const email = address();
  const sent = [];
  for (let at = 0; at < 5; at++) sent.push((await invite(await signedUp(worker), email, "viewer")).status);
  assert.deepEqual(sent, [201, 201, 201, 429, 429], "of tenants of the free tier");
});

test("an invitation that was revoked, replaced or has expired is worth nothing", async () => {
  const owner = await signedUp(worker);
  const stranger = await signedUp(worker);
  const [one, two] = [address(), address()];
  const join = (token) => new Browser(worker).call("POST", "/v1/members/join", { token });
  const invited = await invite(owner, one, "viewer");
  const { token } = await mailTo(worker, one);
  const path = `/v1/members/invitations/${invited.body.invitation.id}`;
  assert.deepEqual(refusal(await stranger.browser.call("DELETE", path)), [404, "NOT_FOUND"]);
  assert.equal((await owner.browser.call("DELETE", path)).status, 200);
  assert.deepEqual(refusal(await owner.browser.call("DELETE", path)), [404, "NOT_FOUND"]);
  assert.deepEqual(refusal(await join(token)), [401, "INVALID_SIGN_IN"]);
  await invite(owner, two, "viewer");
  const first = await mailTo(worker, two);
  await invite(owner, two, "owner");
  const second = await mailTo(worker, two, 2);
  assert.deepEqual(refusal(await join(first.token)), [401, "INVALID_SIGN_IN"]);
  assert.equal((await members(owner)).invitations.length, 1);
  for (const wrong of ["x", "ab".repeat(32)]) assert.deepEqual(refusal(await join(wrong)), [401, "INVALID_SIGN_IN"]);
  const all = await Promise.all([join(second.token), join(second.token)]);
  assert.deepEqual(all.map(({ status }) => status).sort(), [201, 401]);
});

test("each role may do what it may, and nothing of another tenant", async () => {
  const owner = await signedUp(worker);
  const stranger = await signedUp(worker);
  const people = { viewer: await joined(owner, "viewer"), developer: await joined(owner, "developer") };
  const victim = await joined(owner, "viewer");
  for (const [role, person] of Object.entries(people)) {
    assert.equal((await members(person)).data.length, 4, role);
    for (const answer of [
      await invite(person, address(), "viewer"),
      await change(person, person.person, "owner"),
      await change(person, victim.person, "viewer"),
      await remove(person, victim.person),
      await person.browser.call("DELETE", "/v1/members/invitations/x"),
    ])
      assert.deepEqual(refusal(answer), [403, "INSUFFICIENT_ROLE"], role);
  }
  for (const answer of [
    await change(stranger, victim.person, "owner"),
    await remove(stranger, victim.person),
    await remove(owner, "per_x"),
  ]) {
    assert.deepEqual(refusal(answer), [404, "NOT_FOUND"]);
  }
  assert.equal((await members(owner)).data.length, 4, "nobody was changed");
  const promoted = await change(owner, people.viewer.person, "owner");
  assert.deepEqual([promoted.status, promoted.body.member.role], [200, "owner"]);
  // The role holds for the very next request.
  assert.equal((await invite(people.viewer, address(), "viewer")).status, 201);
  assert.equal((await change(people.viewer, owner.session.person.id, "viewer")).status, 200);
  assert.deepEqual(refusal(await invite(owner, address(), "viewer")), [403, "INSUFFICIENT_ROLE"]);
  assert.equal((await remove(people.viewer, victim.person)).status, 200);
  assert.deepEqual(refusal(await victim.browser.call("GET", "/v1/session")), [401, "INVALID_SESSION"]);
  assert.equal((await remove(people.developer, people.developer.person)).status, 200, "a person leaves");
  assert.deepEqual(refusal(await people.developer.browser.call("GET", "/v1/members")), [401, "INVALID_SESSION"]);
});

test("a tenant keeps one owner, also when all leave at once", async () => {
  const owner = await signedUp(worker);
  const last = [409, "LAST_OWNER"];
  assert.deepEqual(refusal(await remove(owner, owner.session.person.id)), last);
  assert.deepEqual(refusal(await change(owner, owner.session.person.id, "developer")), last);
  assert.equal((await change(owner, owner.session.person.id, "owner")).status, 200, "no change");
  const others = [await joined(owner, "owner"), await joined(owner, "owner")];
  const left = await Promise.all([remove(owner, owner.session.person.id), ...others.map((other) => change(other, other.person, "viewer"))]);
  assert.deepEqual(left.map(({ status }) => status).sort(), [200, 200, 409]);
  const owners = await worker.sql("SELECT 1 FROM members WHERE tenant_id = ? AND role = 'owner'", owner.session.tenant.id);
  assert.equal(owners.length, 1);
});

test("a suspended tenant is read and not changed", async () => {
  const owner = await signedUp(worker);
  const path = `/v1/admin/tenants/${owner.session.tenant.id}`;
  await worker.call("PATCH", path, { admin: true, body: { status: "suspended" } });
  assert.deepEqual(refusal(await invite(owner, address(), "viewer")), [403, "TENANT_SUSPENDED"]);
  assert.deepEqual(refusal(await change(owner, owner.session.person.id, "owner")), [403, "TENANT_SUSPENDED"]);
  assert.equal((await members(owner)).data.length, 1);
  assert.equal((await owner.browser.call("GET", "/v1/session")).body.session.tenant.status, "suspended");
});

test("the audit log says who changed what, and only what was changed", async () => {
  const owner = await signedUp(worker);
  const [tenant, self] = [owner.session.tenant.id, owner.session.person.id];
  const member = await joined(owner, "viewer");
  const revoked = address();
  const { body } = await invite(owner, revoked, "developer");
  await owner.browser.call("DELETE", `/v1/members/invitations/${body.invitation.id}`);
  // What is refused is no change.
  await owner.browser.call("DELETE", `/v1/members/invitations/${body.invitation.id}`);
  await remove(owner, self);
  await change(owner, member.person, "developer");
  await remove(member, member.person);
  const log = (by, query = "") => by.browser.call("GET", `/v1/audit-log${query}`);
  const { data } = (await log(owner)).body;
  const keys = await worker.sql("SELECT id, environment FROM api_keys WHERE tenant_id = ?", tenant);
  const key = (wanted) => keys.find(({ environment }) => environment === wanted).id;
  assert.deepEqual(data.map(({ actor, action, subject, detail }) => [actor, action, subject, detail]).reverse(), [
    [self, "tenant.created", tenant, null],
    [self, "key.created", key("live"), "live"],
    [self, "key.created", key("test"), "test"],
    [self, "member.joined", owner.email, "owner"],
    [self, "member.invited", member.email, "viewer"],
    [member.person, "member.joined", member.email, "viewer"],
    [self, "member.invited", revoked, "developer"],
    [self, "invitation.revoked", body.invitation.id, null],
    [self, "member.changed", member.person, "developer"],
    [member.person, "member.removed", member.person, null],
  ]);
  assert.match(data[0].ip_prefix, /^10\./);
  const first = (await log(owner, "?limit=3")).body;
  const rest = (await log(owner, `?limit=100&cursor=${first.next_cursor}`)).body;
  assert.deepEqual([...first.data, ...rest.data], data);
  assert.equal((await log(owner, "?action=member.invited")).body.data.length, 2);
  assert.equal((await log(owner, "?action=member")).status, 422);
  const stranger = await signedUp(worker);
  assert.equal((await log(stranger)).body.data.length, 4, "its own");
  const developer = await joined(stranger, "developer");
  assert.deepEqual(refusal(await log(developer)), [403, "INSUFFICIENT_ROLE"]);
  for (const sql of ["UPDATE audit_log SET detail = 'x'", "DELETE FROM audit_log"]) await assert.rejects(worker.sql(sql), /audit log/);
});

test("what the document shows as an example is taken", async () => {
  const owner = await signedUp(worker);
  const { body } = await worker.call("GET", "/v1/openapi.json");
  const example = (path, method) => body.paths[path][method].requestBody.content["application/json"].example;
  const invited = await owner.browser.call("POST", "/v1/members/invitations", example("/v1/members/invitations", "post"));
  assert.equal(invited.status, 201);
  const { person_id: id } = (await members(owner)).data[0];
  const changed = await owner.browser.call("PATCH", `/v1/members/${id}`, example("/v1/members/{person_id}", "patch"));
  assert.deepEqual(refusal(changed), [409, "LAST_OWNER"]);
});

// The clock goes forward from here on.
test("a tenant invites twenty people a day, and an invitation holds a week", async () => {
  const owner = await signedUp(worker);
  const emails = Array.from({ length: 22 }, address);
  const all = await Promise.all(emails.map((email) => invite(owner, email, "viewer")));
  assert.equal(all.filter(({ status }) => status === 201).length, 20);
  const refused = all.find(({ status }) => status !== 201);
  assert.deepEqual(refusal(refused), [429, "RATE_LIMITED"]);
  const email = emails[all.findIndex(({ status }) => status === 201)];
  const { token } = await mailTo(worker, email);
  const uninvited = emails[all.indexOf(refused)];
  assert.deepEqual(await mailsTo(worker, uninvited), []);
  await worker.advance(7 * DAY + 1);
  const late = await new Browser(worker).call("POST", "/v1/members/join", { token });
  assert.deepEqual(refusal(late), [401, "INVALID_SIGN_IN"]);
});
