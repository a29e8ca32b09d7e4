// What is lost of a tenant is rebuilt: rows of the directory from what its ledgers know, and a ledger whose storage is gone from
// the directory and the records of the months. Until then such a ledger serves nobody.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { contracts } from "../../scripts/lib/contract.mjs";
import { ACCOUNTS, KEYS, TOKEN, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { startMock } from "./mock-rpc.mjs";
import { LONG, authorizationCall, nonceOf, outcome, random, sign } from "./payment.mjs";
import { hearing, receivers } from "./receivers.mjs";
import { startWorker, until } from "./worker.mjs";

const SECOND = 1_000;
const CHECK = "*/5 * * * *";
const ENVIRONMENTS = ["live", "test"];
/** What the directory holds of a tenant and its ledgers, or the months, know. */
const TABLES = ["tenants", "api_keys", "recipients", "default_recipients", "webhook_endpoints", "period_usage", "settlements", "rollups"];
/** What no ledger knows of these: see `missing` of the answer. */
const UNKNOWN = {
  tenants: ["email", "updated_ms", "tier_by", "created_ms"],
  api_keys: ["last_four", "rotated_from"],
  recipients: ["created_ms"],
  webhook_endpoints: ["url", "status", "description", "secret_sealed", "secret_lost_ms", "updated_ms"],
  period_usage: ["updated_ms"],
};
/** What a ledger takes back as it was. */
const KEPT = ["claims", "log_claims", "payers", "settlements"];

const play = receivers();
const state = mkdtempSync(join(tmpdir(), "x402-rebuild-"));
/** Within the last hour of a day the clock is in the next one: what is compared is counted in one day and month. */
const isLate = new Date().getUTCHours() === 23;
let ahead = isLate ? 3_600 * SECOND : 0;
let evm, mock, hazards, worker, shop;

async function start(begun = {}) {
  const vars = {
    RPC_LOCAL_EVM: evm.url,
    EVM_SIGNERS_TEST: KEYS.at(-1),
    RPC_BASE: mock.url,
    MAIL_BACKEND: "mailbox",
    PUBLIC_URL: "https://pay.example",
  };
  worker = await startWorker({ vars, outbound: play.outbound, state, begun: { ahead, ...begun } });
}

/** The Worker that runs at the time. @type {any} */
const running = new Proxy({}, { get: (_, name) => (typeof worker[name] === "function" ? worker[name].bind(worker) : worker[name]) });

before(async () => {
  [evm, mock] = await Promise.all([startEvm(), startMock()]);
  hazards = await evm.deployHazards();
  await start();
  shop = await filled();
});
after(async () => {
  await worker?.stop();
  evm?.stop();
  mock?.stop();
  rmSync(state, { recursive: true, force: true });
});

const ok = ({ status, body, text }) => {
  assert.ok(status < 300, text);
  return body;
};

/** A tenant with all that is counted: payments verified and settled in both environments, keys, addresses, an endpoint. */
async function filled() {
  const [to, live] = [random(20), random(20)];
  const tenant = await hearing(running, { to: live });
  await tenant.admin("PATCH", "", { recipients: { "local-evm": to }, limits: { per_month: 5 }, company_name: "Ann & Co" });
  const scopes = ["verify", "settle", "analytics", "manage"];
  const test = (await tenant.admin("POST", "/api-keys", { name: "shop", environment: "test", scopes })).key;
  const gone = await tenant.admin("POST", "/api-keys", { name: "gone", environment: "test" });
  await tenant.admin("DELETE", `/api-keys/${gone.api_key.id}`);
  await tenant.admin("POST", "/api-keys", {
    name: "narrow",
    environment: "test",
    scopes: ["verify"],
    expires_at: "2099-01-01T00:00:00Z",
    allow_list: ["203.0.113.0/24"],
  });
  play.set("hook.example", 200);
  const hook = await tenant.endpoint("hook.example", { events: ["payment.*"] });
  const ask = (body, key = test, chain = "local-evm") => worker.verify(key, { chain, ...body });
  const settle = (body) => worker.call("POST", "/facilitator/settle", { key: test, body });

  // One transaction with two payments, of which one is claimed; another one, which is claimed as a whole.
  const { Hazards } = await contracts();
  const authorized = async (amount) => {
    const buyer = randomAccount();
    await evm.mint(buyer.address, amount);
    const body = await sign({ buyer, to, amount, ...LONG });
    return { call: authorizationCall(body), nonce: nonceOf(body) };
  };
  const batch = async (calls) => {
    const hash = await evm.send(ACCOUNTS[0], hazards, Hazards.abi, "each", [TOKEN, await Promise.all(calls)]);
    assert.equal((await evm.mined(hash)).status, "success");
    return hash;
  };
  const [dear, cent] = [await authorized(10_000_000n), await authorized(10_000n)];
  const two = await batch([dear.call, cent.call]);
  const whole = await batch([(await authorized(20_000n)).call]);
  const parts = {
    dear: { tx_hash: two, authorization_nonce: dear.nonce, reference: "dear" },
    cent: { tx_hash: two, authorization_nonce: cent.nonce, reference: "cent" },
    whole: { tx_hash: whole, reference: "whole" },
  };
  const [first, all] = [ok(await ask(parts.dear)), ok(await ask(parts.whole))];
  assert.deepEqual([first.success, all.success], [true, true]);

  // Two settlements that were handed over.
  const paid = [];
  for (let at = 0; at < 2; at++) {
    const buyer = randomAccount();
    await evm.mint(buyer.address, 1_000_000n);
    const body = await sign({ buyer, to, ...LONG });
    assert.equal((await settle(body)).body.success, true);
    paid.push(body);
  }

  // Two live payments, one of which is not final.
  const pay = (block) => mock.addTransfer({ from: random(20), to: live, amount: 1_000_000, block });
  const [final, recent] = [pay(900), pay(995)];
  const [one, other] = [
    ok(await ask({ tx_hash: final, reference: "final" }, tenant.key, "base")),
    ok(await ask({ tx_hash: recent, reference: "recent" }, tenant.key, "base")),
  ];
  assert.deepEqual([one.status, other.status], ["finalized", "confirmed"]);
  return { ...tenant, hook, test, ask, settle, parts, paid, first, all, final, recent, one, other };
}

const keyOf = (environment) => (environment === "live" ? shop.key : shop.test);

/** Makes both ledgers ship, and the months copy their totals: those of payments that are final too. */
async function shipped() {
  const isWhole = async () => {
    // Months copy their totals each minute, and an isolate remembers analytics for five.
    ahead += 310 * SECOND;
    await worker.advance(310 * SECOND);
    for (const environment of ENVIRONMENTS) {
      ok(await worker.call("GET", "/v1/verifications", { key: keyOf(environment) }));
      ok(await worker.call("GET", "/v1/analytics", { key: keyOf(environment) }));
    }
    const totals = "SELECT outcome, SUM(count) AS sum FROM rollups WHERE tenant_id = ? AND span = 'hour' GROUP BY outcome";
    const sums = Object.fromEntries((await worker.sql(totals, shop.id)).map(({ outcome, sum }) => [outcome, sum]));
    const open = await worker.sql("SELECT id FROM settlements WHERE tenant_id = ? AND body NOT LIKE '%\"request_id\"%'", shop.id);
    // The live payment that is not final is the only one.
    return sums.finalized >= 3 && sums.confirmed === 1 && !open.length;
  };
  await until(isWhole, "totals and settlements in the directory");
}

/** The tenant's rows of the directory. */
async function directory(tables = TABLES) {
  const rows = {};
  for (const table of tables) {
    const column = table === "tenants" ? "id" : "tenant_id";
    const all = await worker.sql(`SELECT * FROM ${table} WHERE ${column} = ?`, shop.id);
    rows[table] = all.map((row) => JSON.stringify(row)).sort();
  }
  return rows;
}

/** The same without what no ledger knows. Usage of a period is counted on by each question. */
function known(rows) {
  const without = (table) => (text) => {
    const row = JSON.parse(text);
    for (const column of UNKNOWN[table] ?? []) delete row[column];
    return JSON.stringify(row);
  };
  const isLost = (table) => (text) => table === "api_keys" && JSON.parse(text).revoked_ms;
  return Object.fromEntries(
    Object.entries(rows).map(([table, all]) => [
      table,
      all
        .filter((text) => !isLost(table)(text))
        .map(without(table))
        .sort(),
    ]),
  );
}

/** What sellers read. */
async function answers() {
  const read = {};
  for (const environment of ENVIRONMENTS) {
    for (const path of ["/v1/usage", "/v1/settlements", "/v1/verifications", "/v1/analytics", "/v1/supported-chains"]) {
      const body = ok(await worker.call("GET", path, { key: keyOf(environment) }));
      // Requests of the last hour are nobody's but the ledger's.
      delete body.rate;
      delete body.generated_at;
      read[`${environment} ${path}`] = body;
    }
    const { tenant, api_key } = ok(await worker.call("GET", "/v1/whoami", { key: keyOf(environment) }));
    const { last_used_at: _, ...who } = api_key;
    read[`${environment} who`] = [tenant, who];
  }
  return read;
}

const command = (body) => worker.call("POST", `/v1/admin/tenants/${shop.id}/rebuild`, { admin: true, body });

/** Sends the command until it is over; what all parts have dealt with. */
async function rebuild(from) {
  const sums = {};
  let cursor;
  for (let parts = 0; ; parts++) {
    assert.ok(parts < 20, "it ends");
    const part = ok(await command({ from, ...(cursor ? { cursor } : {}) }));
    for (const [name, count] of Object.entries(part.rebuilt)) sums[name] = (sums[name] ?? 0) + count;
    cursor = part.next_cursor;
    if (part.done) {
      assert.equal(part.next_cursor, null);
      assert.ok(part.missing.length >= 5 && part.missing.every(({ what, from: where }) => what && where));
      return sums;
    }
  }
}

/** The ledgers' storage by environment; the Worker must have stopped. */
function ledgers() {
  const folder = join(state, "do", "-TenantLedger");
  const found = {};
  for (const name of readdirSync(folder).filter((file) => /^[0-9a-f]{64}\.sqlite$/.test(file))) {
    const path = join(folder, name);
    const db = new DatabaseSync(path);
    const value = (of) => JSON.parse(String(db.prepare("SELECT value FROM state WHERE name = ?").get(of)?.value ?? "null"));
    const tenant = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'state'").get() && value("tenant");
    if (tenant?.id === shop.id) {
      const rows = (table) =>
        db
          .prepare(`SELECT * FROM ${table}`)
          .all()
          .map((row) => JSON.stringify(row))
          .sort();
      const tables = Object.fromEntries(KEPT.map((table) => [table, rows(table)]));
      tables.payments = db
        .prepare("SELECT * FROM payments WHERE settlement_id IS NOT NULL")
        .all()
        .map((row) => JSON.stringify(row))
        .sort();
      const { used, requests, last_id, spending, period } = value("admission");
      const records = db
        .prepare("SELECT id, watched FROM records WHERE watched = 1")
        .all()
        .map(({ id }) => id);
      found[tenant.environment] = { path, tables, counts: { used, requests, last_id, spending, period }, records };
    }
    db.close();
  }
  return found;
}

/** Without what a settlement's row holds of a request, of when it is looked at next, and of the key that it was asked under. */
function lasting({ tables, counts }) {
  const settlements = tables.settlements.map((text) => {
    const { due_ms: _, ...row } = JSON.parse(text);
    const { lease: __, handed_key: ___, ...course } = JSON.parse(row.course);
    return JSON.stringify({ ...row, course });
  });
  return { ...tables, settlements, counts };
}

function destroy({ path }) {
  for (const end of ["", "-wal", "-shm"]) rmSync(`${path}${end}`, { force: true });
  assert.ok(!existsSync(path));
}

/** What must hold after each rebuild: nothing is sold twice, and what was free still is. */
async function sellsNothingTwice() {
  const { ask, settle, parts, paid, first, all } = shop;
  const again = ok(await ask(parts.dear));
  assert.deepEqual([again.success, again.replayed, again.id], [true, true, first.id]);
  const other = ok(await ask({ ...parts.dear, reference: "other" }));
  assert.deepEqual([other.success, other.error_code, other.claimed_by.id], [false, "ALREADY_CLAIMED", first.id]);
  const whole = ok(await ask({ ...parts.whole, reference: "other" }));
  assert.deepEqual([whole.error_code, whole.claimed_by.id], ["ALREADY_CLAIMED", all.id]);
  const live = ok(await ask({ tx_hash: shop.final, reference: "other" }, shop.key, "base"));
  assert.deepEqual([live.error_code, live.claimed_by.id], ["ALREADY_CLAIMED", shop.one.id]);
  for (const body of paid) assert.equal(outcome((await settle(body)).body), "duplicate_settlement");
}

test("the directory is rebuilt from ledgers, also when that is interrupted, and a repeat changes nothing", async () => {
  await shipped();
  const [before, read] = [await directory(), await answers()];
  for (const table of TABLES) assert.ok(before[table].length, table);
  for (const table of TABLES) await worker.sql(`DELETE FROM ${table} WHERE ${table === "tenants" ? "id" : "tenant_id"} = ?`, shop.id);
  await worker.sql("DELETE FROM removed_endpoints");
  assert.deepEqual(Object.values(await directory()).flat(), []);

  // A directory that fails between two parts.
  await worker.dbFault({ names: "INSERT INTO settlements" });
  assert.equal((await command({ from: "ledger" })).status, 503);
  await worker.dbFault();
  assert.equal((await directory(["settlements"])).settlements.length, 0);
  const done = await rebuild("ledger");
  assert.deepEqual([done.ledgers, done.settlements, done.webhook_endpoints], [2, 2, 1]);
  const rebuilt = await directory();
  assert.deepEqual(known(rebuilt), known(before));
  assert.deepEqual(await answers(), read);

  await rebuild("ledger");
  // Of usage it says when it was counted last.
  const steady = (/** @type {any} */ { period_usage, ...rows }) => ({ ...rows, ...known({ period_usage }) });
  assert.deepEqual(steady(await directory()), steady(rebuilt));
  // A cursor begins where it says.
  const rest = ok(await command({ from: "ledger", cursor: "test:stl_" }));
  assert.deepEqual([rest.done, rest.rebuilt.ledgers, rest.rebuilt.settlements], [true, 0, 2]);

  // An endpoint waits for its URL and its secret, which its owner sets.
  const [hook] = ok(await shop.call("GET", "/v1/webhook-endpoints")).data;
  assert.deepEqual([hook.id, hook.url, hook.status, hook.events], [shop.hook.id, "https://lost.invalid/", "paused", ["payment.*"]]);
  ok(await shop.call("PATCH", shop.hook.path, { url: "https://hook.example/new" }));
  ok(await shop.call("POST", `${shop.hook.path}/rotate-secret`));
  const { webhook_endpoint: active } = ok(await shop.call("PATCH", shop.hook.path, { status: "active" }));
  assert.deepEqual([active.url, active.status], ["https://hook.example/new", "active"]);

  // The rows serve: a change reaches the ledgers.
  const made = await shop.admin("POST", "/api-keys", { name: "new", environment: "test" });
  assert.equal(made.in_force, true);
  const path = `/v1/admin/tenants/${shop.id}/api-keys/${made.api_key.id}`;
  ok(await worker.call("GET", "/v1/whoami", { key: made.key }));
  ok(await worker.call("DELETE", path, { admin: true }));
  assert.equal((await worker.call("GET", "/v1/whoami", { key: made.key })).status, 401);
  const entries = await worker.sql("SELECT actor_kind, detail FROM audit_log WHERE tenant_id = ? AND action = 'tenant.rebuilt'", shop.id);
  // Each command that began is recorded, also the one that was interrupted.
  assert.deepEqual(entries, Array(3).fill({ actor_kind: "operator", detail: "directory" }));
  await sellsNothingTwice();
});

test("an older directory takes what ledgers know, and a newer one keeps what it has", async () => {
  const victim = await shop.admin("POST", "/api-keys", { name: "stolen", environment: "test" });
  await shop.admin("DELETE", `/api-keys/${victim.api_key.id}`);
  const kept = await directory(["tenants"]);
  // As a backup has it that was made before the key was revoked.
  await worker.sql("UPDATE api_keys SET revoked_ms = NULL WHERE id = ?", victim.api_key.id);
  await worker.sql("UPDATE tenants SET version = version - 1, tier = 'free', company_name = 'Old' WHERE id = ?", shop.id);
  await rebuild("ledger");
  const [row] = await worker.sql("SELECT revoked_ms FROM api_keys WHERE id = ?", victim.api_key.id);
  assert.ok(row.revoked_ms, "it stays revoked");
  assert.deepEqual(known(await directory(["tenants"])), known(kept));

  await worker.sql("UPDATE tenants SET version = version + 5, company_name = 'Newer' WHERE id = ?", shop.id);
  await worker.sql("DELETE FROM api_keys WHERE tenant_id = ? AND name = 'narrow'", shop.id);
  await worker.sql("DELETE FROM webhook_endpoints WHERE tenant_id = ?", shop.id);
  await rebuild("ledger");
  const [{ company_name }] = await worker.sql("SELECT company_name FROM tenants WHERE id = ?", shop.id);
  assert.equal(company_name, "Newer");
  const [{ scopes, allow_list }] = await worker.sql("SELECT scopes, allow_list FROM api_keys WHERE name = 'narrow'");
  assert.deepEqual([scopes, allow_list], ['["verify"]', '["203.0.113.0/24"]']);
  // Its owner may have removed it.
  assert.deepEqual(await worker.sql("SELECT id FROM webhook_endpoints WHERE tenant_id = ?", shop.id), []);
  assert.equal((await command({ from: "ledger", cursor: "x" })).body.param, "cursor");
  const nobody = await worker.call("POST", "/v1/admin/tenants/ten_01a22830e24a3a1f7b1ccee9/rebuild", {
    admin: true,
    body: { from: "ledger" },
  });
  assert.equal(nobody.status, 404);
});

/** Whether requests of an environment are refused because its ledger is lost. */
async function isLost(environment) {
  const key = keyOf(environment);
  const { status, body, headers } = await worker.call("GET", "/v1/usage", { key });
  if (status === 200) return false;
  assert.deepEqual([status, body.error_code, headers.get("retry-after")], [503, "LEDGER_UNAVAILABLE", "60"]);
  return true;
}

test("a ledger that has lost its storage serves nobody until it is rebuilt, also when that is interrupted", async () => {
  await shipped();
  const read = await answers();
  await shipped();
  await worker.stop();
  const before = ledgers();
  for (const environment of ENVIRONMENTS) assert.ok(before[environment].tables.claims.length, environment);
  assert.ok(before.test.tables.log_claims.length && before.test.tables.payments.length === 2);
  assert.ok(before.test.counts.spending.used["local-evm"].charged > 0, JSON.stringify(before.test.counts));
  assert.deepEqual(before.live.records, [shop.other.id]);
  for (const environment of ENVIRONMENTS) destroy(before[environment]);
  await start();

  const { ask, settle, parts, paid } = shop;
  for (const environment of ENVIRONMENTS) assert.ok(await isLost(environment));
  assert.equal((await ask(parts.cent)).status, 503);
  assert.equal((await settle(paid[0])).body.success, false);
  // A change of the directory is in force: nobody is served by what was before.
  const made = await shop.admin("POST", "/api-keys", { name: "meanwhile", environment: "test" });
  assert.equal(made.in_force, true);
  assert.ok(await isLost("test"));
  await worker.cron(CHECK);
  const alerts = async () =>
    ok(await worker.call("GET", "/v1/admin/alerts", { admin: true })).data.filter(({ kind }) => kind === "ledger_lost");
  assert.deepEqual((await alerts()).map(({ subject }) => subject).sort(), [`${shop.id}:live`, `${shop.id}:test`]);

  // The months fail; then workerd dies between two parts, and before the end of each ledger.
  await worker.fault({ names: '{"page":', unsent: true });
  assert.equal((await command({ from: "directory" })).status, 503);
  for (const names of ['"restore":{"take":{"from":{"records"', '"restore":{"finish"', '"to":{"records":null}', '"restore":{"finish"']) {
    await worker.fault({ names, unsent: true });
    assert.equal((await command({ from: "directory" })).status, 503, names);
    assert.ok(await isLost("test"), names);
    await worker.crash();
    await worker.stop();
    await start();
  }
  assert.ok(await isLost("test"));
  const done = await rebuild("directory");
  assert.ok(done.ledgers >= 1, JSON.stringify(done));
  assert.deepEqual(await answers(), read);
  const again = await rebuild("directory");
  assert.deepEqual(again, Object.fromEntries(Object.keys(again).map((name) => [name, 0])));
  ok(await worker.call("GET", "/v1/whoami", { key: made.key }));
  await worker.cron(CHECK);
  assert.deepEqual(await alerts(), []);
  const entries = await worker.sql(
    "SELECT detail FROM audit_log WHERE tenant_id = ? AND action = 'tenant.rebuilt' AND detail <> 'directory' ORDER BY detail",
    shop.id,
  );
  assert.deepEqual(
    entries.map(({ detail }) => detail),
    ENVIRONMENTS,
  );

  await worker.stop();
  const rebuilt = ledgers();
  for (const environment of ENVIRONMENTS) {
    const { requests: one, ...counts } = before[environment].counts;
    const { requests: other, ...found } = rebuilt[environment].counts;
    assert.deepEqual({ ...lasting(rebuilt[environment]), counts: found }, { ...lasting(before[environment]), counts }, environment);
    assert.ok(other >= one);
  }
  await start();
  await sellsNothingTwice();
  // What was free is free, once.
  const cent = ok(await ask(parts.cent));
  assert.deepEqual([cent.success, cent.replayed, cent.amount], [true, false, "10000"]);
  // What was polled is polled on.
  mock.finalized = 1_000;
  await until(async () => {
    ahead += 60 * SECOND;
    await worker.advance(60 * SECOND);
    const { status } = ok(await worker.call("GET", `/v1/verifications/${shop.other.id}`, { key: shop.key }));
    return status === "finalized";
  }, "a payment that has become final");
  // The quota goes on where it was.
  const used = ok(await worker.call("GET", "/v1/usage", { key: shop.key }));
  assert.ok(used.verifications_used >= 2 && used.verifications_remaining === 5 - used.verifications_used, JSON.stringify(used));
});

test("a new tenant's ledgers begin by themselves, and a command for them does nothing", async () => {
  const tenant = await worker.tenant();
  const part = ok(await worker.call("POST", `/v1/admin/tenants/${tenant.id}/rebuild`, { admin: true, body: { from: "directory" } }));
  assert.deepEqual([part.done, part.rebuilt.ledgers], [true, 0]);
  ok(await worker.call("GET", "/v1/usage", { key: tenant.test }));
  ok(await worker.call("GET", "/v1/usage", { key: tenant.live }));
  assert.deepEqual(await worker.sql("SELECT * FROM lost_ledgers"), []);
});
