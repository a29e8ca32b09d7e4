// A tenant reads and changes itself, on the real Worker.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, address as newEmail, mailTo, signedUp } from "./browser.mjs";
import { startWorker } from "./worker.mjs";

const BRANDING = { name: "Ann & Co", logo_url: "https://cdn.example/logo.png", primary_color: "#00ffaa", background_color: null };
let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } })));
after(() => worker.stop());

const refusal = ({ status, body }) => [status, body.error_code, body.param];
const read = async ({ browser }) => (await browser.call("GET", "/v1/tenant")).body.tenant;
const change = ({ browser }, body) => browser.call("PATCH", "/v1/tenant", body);

async function operator(id, body) {
  const answer = await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body });
  assert.equal(answer.status, 200, answer.text);
}

test("a tenant is read and changed, member by member", async () => {
  const ann = await signedUp(worker);
  const { id } = ann.session.tenant;
  const first = await read(ann);
  assert.deepEqual([first.id, first.email, first.tier, first.status], [id, ann.email, "free", "active"]);
  assert.deepEqual([first.company_name, first.support_address, first.branding, first.sanctions], [null, null, null, "refuse"]);
  assert.deepEqual(first.limits, { per_minute: 10, per_hour: 100, per_month: 1000 });
  const body = { company_name: "Ann Ltd", support_address: "Help@Ann.example", sanctions: "report" };
  const changed = await change(ann, body);
  assert.equal(changed.status, 200, JSON.stringify(changed.body));
  assert.deepEqual(changed.body.tenant, { ...first, ...body, support_address: "help@ann.example" });
  assert.deepEqual(await read(ann), changed.body.tenant);
  // Its ledgers know before the answer.
  const me = await worker.call("GET", "/v1/whoami", { key: ann.api_keys.live });
  assert.equal(me.body.tenant.company_name, "Ann Ltd");
  assert.deepEqual((await change(ann, {})).body.tenant, changed.body.tenant, "nothing is named, nothing changes");
  const removed = await change(ann, { company_name: null, support_address: null });
  assert.deepEqual(removed.body.tenant, { ...changed.body.tenant, company_name: null, support_address: null });
  const entries = (await ann.browser.call("GET", "/v1/audit-log?action=tenant.updated")).body.data;
  assert.deepEqual(
    entries.map(({ subject, detail }) => [subject, detail]),
    [
      [id, "company_name, support_address"],
      [id, "company_name, support_address, sanctions"],
    ],
  );
});

test("branding is of the tiers that include it, and is hidden below them", async () => {
  const ann = await signedUp(worker);
  const { id } = ann.session.tenant;
  for (const tier of ["free", "starter"]) {
    await operator(id, { tier });
    const refused = await change(ann, { branding: BRANDING });
    assert.deepEqual(refusal(refused), [403, "NOT_IN_TIER", "branding"], tier);
    assert.match(refused.body.upgrade_url, /\/docs\/tiers$/);
    const page = await worker.call("GET", new URL(refused.body.upgrade_url).pathname);
    const rows = page.text.split("<tr>");
    for (const [name, has] of [
      [tier, "no"],
      ["pro", "yes"],
    ])
      assert.ok(rows.find((row) => row.startsWith(`<td>${name}<`))?.includes(`<td>${has}`), `the page says of ${name}: ${has}`);
    assert.equal((await change(ann, { branding: null })).status, 200, "its absence is of every tier");
  }
  await operator(id, { tier: "pro" });
  const branded = await change(ann, { branding: { ...BRANDING, primary_color: "#00FFAA" } });
  assert.equal(branded.status, 200, JSON.stringify(branded.body));
  assert.deepEqual([branded.body.tenant.branding, branded.body.tenant.branding_shown], [BRANDING, true]);
  await operator(id, { tier: "free" });
  const below = await read(ann);
  assert.deepEqual([below.branding, below.branding_shown], [BRANDING, false]);
  await operator(id, { tier: "enterprise" });
  assert.equal((await read(ann)).branding_shown, true);
  const name = await change(ann, { branding: { name: "Ann" } });
  assert.deepEqual(name.body.tenant.branding, { name: "Ann", logo_url: null, primary_color: null, background_color: null }, "as a whole");
});

test("a wrong member is named, and nothing is changed", async () => {
  const ann = await signedUp(worker);
  await operator(ann.session.tenant.id, { tier: "pro" });
  const before = await read(ann);
  for (const [body, param] of [
    [{ tier: "enterprise" }, "tier"],
    [{ status: "active" }, "status"],
    [{ limits: { per_month: -1 } }, "limits"],
    [{ email: "x@y.example" }, "email"],
    [{ company_name: "Ann", support_address: "nobody" }, "support_address"],
    [{ sanctions: "ignore" }, "sanctions"],
    [{ branding: { name: "http://evil.example" } }, "branding.name"],
    [{ branding: { logo_url: "http://cdn.example/logo.png" } }, "branding.logo_url"],
    [{ branding: { logo_url: "javascript:alert(1)" } }, "branding.logo_url"],
    [{ branding: { primary_color: "red" } }, "branding.primary_color"],
    [{ branding: [] }, "branding"],
  ])
    assert.deepEqual(refusal(await change(ann, body)), [422, "INVALID_REQUEST", param], JSON.stringify(body));
  assert.deepEqual(await read(ann), before);
});

test("a viewer and a developer read, an owner changes, and nobody of another tenant", async () => {
  const [ann, bob] = [await signedUp(worker), await signedUp(worker)];
  for (const role of ["viewer", "developer"]) {
    const email = newEmail();
    await ann.browser.call("POST", "/v1/members/invitations", { email, role });
    const browser = new Browser(worker);
    const { token } = await mailTo(worker, email);
    assert.equal((await browser.call("POST", "/v1/members/join", { token })).status, 201);
    assert.equal((await read({ browser })).id, ann.session.tenant.id);
    assert.deepEqual(refusal(await change({ browser }, { company_name: "X" })).slice(0, 2), [403, "INSUFFICIENT_ROLE"]);
  }
  await change(bob, { company_name: "Bob" });
  assert.equal((await read(ann)).company_name, null);
});

test("a key with the scope manage reads, and a live one changes", async () => {
  const ann = await signedUp(worker);
  const { id } = ann.session.tenant;
  const key = async (environment) => {
    const body = { name: "ci", environment, scopes: ["manage"] };
    return (await worker.call("POST", `/v1/admin/tenants/${id}/api-keys`, { admin: true, body })).body.key;
  };
  const [live, test] = [await key("live"), await key("test")];
  for (const each of [live, test]) assert.equal((await worker.call("GET", "/v1/tenant", { key: each })).body.tenant.id, id);
  const patch = (each) => worker.call("PATCH", "/v1/tenant", { key: each, body: { company_name: "Ann" } });
  assert.deepEqual(refusal(await patch(test)).slice(0, 2), [403, "ENVIRONMENT_MISMATCH"]);
  assert.equal((await read(ann)).company_name, null);
  assert.equal((await patch(live)).body.tenant.company_name, "Ann");
  assert.deepEqual(refusal(await worker.call("GET", "/v1/tenant", { key: ann.api_keys.live })).slice(0, 2), [403, "INSUFFICIENT_SCOPE"]);
});

test("a suspended tenant reads, and changes nothing", async () => {
  const ann = await signedUp(worker);
  await operator(ann.session.tenant.id, { status: "suspended" });
  assert.equal((await read(ann)).status, "suspended");
  assert.deepEqual(refusal(await change(ann, { company_name: "X" })).slice(0, 2), [403, "TENANT_SUSPENDED"]);
  assert.equal((await read(ann)).company_name, null);
});
