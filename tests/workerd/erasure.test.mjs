// What is left of a deleted tenant in its ledgers, the months of its records and the archive, on the real Worker.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { mailTo, mailsTo, signedUp } from "./browser.mjs";
import { startMock } from "./mock-rpc.mjs";
import { archived, ask, monthOf, stored, ulid } from "./months.mjs";
import { startWorker, until, withState } from "./worker.mjs";

const EVERY_MINUTE = "* * * * *";
const MANY = 12_000;
let mock;
before(async () => (mock = await startMock()));
after(() => mock?.stop());

const vars = () => ({ MAIL_BACKEND: "mailbox", RPC_BASE: mock.url });
const hex = (bytes) => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString("hex")}`;
const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const row = async (worker, id) => (await worker.sql("SELECT * FROM deletions WHERE tenant_id = ?", id))[0];
const cron = (worker) => worker.cron(EVERY_MINUTE);

/** Runs `act` with the database of a ledger. */
function withLedger({ state }, { id, environment = "live" }, act) {
  const folder = join(state, "do", "-TenantLedger");
  for (const name of readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name))) {
    const db = new DatabaseSync(join(folder, name), { timeout: 10_000 });
    try {
      const text = db.prepare("SELECT value FROM state WHERE name = 'tenant'").get()?.value;
      const tenant = JSON.parse(String(text ?? "{}"));
      if (tenant.id === id && tenant.environment === environment) return act(db);
    } finally {
      db.close();
    }
  }
  throw new Error(`no ledger of ${id} in ${environment}`);
}

const claimsOf = (worker, of) =>
  withLedger(worker, of, (db) => [
    ...db.prepare("SELECT tx, -1 AS ordinal, id, reference, hashed, claimed_ms FROM claims ORDER BY tx").all(),
    ...db.prepare("SELECT tx, ordinal, id, reference, hashed, claimed_ms FROM log_claims ORDER BY tx, ordinal").all(),
  ]).map((claim) => ({ ...claim }));

/** Where a text stands in a ledger, in any column of any table. */
const placesInLedger = (worker, of, text) =>
  withLedger(worker, of, (db) => {
    const tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf%' ESCAPE '\\'").all();
    return tables.filter(({ name }) => JSON.stringify(db.prepare(`SELECT * FROM "${name}"`).all()).includes(text)).map(({ name }) => name);
  });

/** A seller with a recipient on base. */
async function seller(worker) {
  const owner = await signedUp(worker);
  const { id } = owner.session.tenant;
  const recipient = hex(20);
  const body = { chain: "base", address: recipient };
  assert.equal((await worker.call("POST", `/v1/admin/tenants/${id}/recipients`, { admin: true, body })).status, 201);
  return { ...owner, id, recipient, key: owner.api_keys.live };
}

/** A transaction in which each of these pays the seller. */
const paid = ({ recipient }, payers = [hex(20)]) =>
  mock.addTransfer({ transfers: payers.map((from) => ({ from, to: recipient, amount: 1_000_000 })), block: 900 });

async function verified(worker, { key }, hash, reference, more = {}, headers = {}) {
  const answer = await worker.verify(key, { tx_hash: hash, chain: "base", reference, ...more }, headers);
  assert.equal(answer.status, 200, answer.text);
  return answer.body;
}

/** Deletes a tenant, past the week in which that can be undone. */
async function deleted(worker, owner) {
  const seen = (await mailsTo(worker, owner.email)).length;
  const asked = await owner.browser.call("DELETE", "/v1/tenant", { confirm: owner.id });
  assert.equal(asked.status, 202, JSON.stringify(asked.body));
  const { token } = await mailTo(worker, owner.email, seen + 1);
  const confirmed = await owner.browser.call("POST", "/v1/tenant/deletion", { token });
  assert.equal(confirmed.status, 200, JSON.stringify(confirmed.body));
  await worker.sql("UPDATE deletions SET due_ms = 1 WHERE tenant_id = ?", owner.id);
}

/** Makes an erased tenant serve again, as no route does: to see what its ledger answers. */
async function revived(worker, { id }) {
  await worker.sql("DELETE FROM deletions WHERE tenant_id = ?", id);
  await worker.sql("UPDATE api_keys SET revoked_ms = NULL WHERE tenant_id = ?", id);
  const { status, body } = await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { status: "active" } });
  assert.equal(status, 200, JSON.stringify(body));
}

/** Writes claims into a ledger as verifications do, a tenth without a reference. */
const fillClaims = (worker, of, count) =>
  withLedger(worker, of, (db) => {
    db.exec("BEGIN IMMEDIATE");
    const put = db.prepare(
      "INSERT INTO claims (network, tx, recipient, id, reference, claimed_ms) VALUES ('eip155:8453', ?, '0xR', ?, ?, 1)",
    );
    for (let at = 0; at < count; at++) put.run(`0xmany${at}`, `ver_${ulid(1, BigInt(at))}`, at % 10 ? `many-${at}@buyer.test` : null);
    db.exec("COMMIT");
  });

test("a claim keeps the hash of its reference, refuses every other, and is nobody's anew", async () => {
  await withState(vars(), async ({ worker }) => {
    const ann = await seller(worker);
    const [reference, part] = [`order-${crypto.randomUUID()}`, `part-${crypto.randomUUID()}@buyer.test`];
    const payer = hex(20);
    const [whole, logs, plain] = [paid(ann), paid(ann, [payer, hex(20)]), paid(ann)];
    const first = await verified(worker, ann, whole, reference, {}, { "idempotency-key": `key-${reference}` });
    assert.equal(first.success, true, JSON.stringify(first));
    const log = await verified(worker, ann, logs, part, { payer });
    assert.equal(log.success, true, JSON.stringify(log));
    assert.equal((await verified(worker, ann, plain)).success, true);
    const taken = await verified(worker, ann, whole, "order-2");
    assert.equal(taken.claimed_by.reference, reference);
    await until(() => stored(worker, ann.id).length > 0, "records in their month");
    const claims = claimsOf(worker, ann);
    assert.deepEqual(new Set(claims.map((each) => each.reference)), new Set([reference, part, null]));
    await deleted(worker, ann);
    await cron(worker);
    assert.ok((await row(worker, ann.id)).erased_ms, JSON.stringify(await row(worker, ann.id)));
    for (const text of [reference, part, "order-2"]) assert.deepEqual(placesInLedger(worker, ann, text), [], text);
    const hashed = ({ reference: text, ...more }) => ({ ...more, hashed: text && 1, reference: text && sha256(text) });
    assert.deepEqual(claimsOf(worker, ann), claims.map(hashed));
    assert.deepEqual(stored(worker, ann.id), [], "the months are deleted");
    // The same run again changes nothing.
    await worker.sql("UPDATE deletions SET erased_ms = NULL WHERE tenant_id = ?", ann.id);
    await cron(worker);
    assert.deepEqual(claimsOf(worker, ann), claims.map(hashed));

    await revived(worker, ann);
    const again = await verified(worker, ann, whole, reference);
    assert.deepEqual([again.success, again.replayed, again.id], [true, true, first.id], JSON.stringify(again));
    for (const other of ["order-2", sha256(reference), undefined]) {
      const refused = await verified(worker, ann, whole, other);
      assert.deepEqual([refused.success, refused.error_code], [false, "ALREADY_CLAIMED"], JSON.stringify(refused));
      assert.deepEqual([refused.claimed_by.id, refused.claimed_by.reference], [first.id, sha256(reference)]);
    }
    assert.equal((await verified(worker, ann, plain, "order-3")).error_code, "ALREADY_CLAIMED");
    const ofLogs = await verified(worker, ann, logs, part, { payer });
    assert.deepEqual([ofLogs.replayed, ofLogs.id], [true, log.id]);
  });
});

test("many claims take several messages, each claim once, whatever is cut off", async () => {
  await withState(vars(), async (running) => {
    let { worker } = running;
    const ann = await seller(worker);
    for (const key of Object.values(ann.api_keys)) assert.equal((await worker.call("GET", "/v1/whoami", { key })).status, 200);
    const environments = [ann, { id: ann.id, environment: "test" }];
    for (const of of environments) fillClaims(worker, of, MANY);
    await deleted(worker, ann);
    const left = (of) => claimsOf(worker, of).filter(({ reference }) => String(reference).includes("@buyer.test")).length;
    const whole = environments.map((of) => left(of));
    assert.deepEqual(whole, [MANY * 0.9, MANY * 0.9]);
    // Not reached, refused as by a ledger of the build before, an answer that is lost.
    await worker.fault({ names: '"erase"', unsent: true, stays: true });
    await cron(worker);
    await worker.fault({ names: '"erase"', refused: true, stays: true });
    await cron(worker);
    assert.deepEqual(environments.map(left), whole);
    assert.deepEqual(await worker.sql("SELECT email FROM tenants WHERE id = ?", ann.id), [{ email: `${ann.id}@erased.invalid` }]);
    assert.deepEqual(await worker.sql("SELECT person_id FROM members WHERE tenant_id = ?", ann.id), [], "the directory does not wait");
    await worker.fault({ names: '"erase"', lost: true });
    await cron(worker);
    await worker.fault(null);
    assert.equal((await row(worker, ann.id)).erased_ms, null);
    const some = left(ann);
    assert.ok(some > 0 && some < whole[0], `${some} are left`);
    const before = claimsOf(worker, ann).filter(({ hashed }) => hashed);
    // Killed in the middle of a run: the next goes on.
    const run = cron(worker).catch(() => {});
    await until(() => left(ann) < some, "a turn that is stored");
    worker.crash();
    await run;
    worker = await running.again();
    while (!(await row(worker, ann.id)).erased_ms) await cron(worker);
    for (const of of environments) {
      assert.equal(left(of), 0);
      const claims = claimsOf(worker, of);
      assert.equal(claims.length, MANY);
      const wanted = (at) => (at % 10 ? sha256(`many-${at}@buyer.test`) : null);
      for (const { tx, reference } of claims) assert.equal(reference, wanted(Number(tx.slice("0xmany".length))), tx);
    }
    const after = new Map(claimsOf(worker, ann).map((claim) => [claim.tx, claim]));
    for (const claim of before) assert.deepEqual(after.get(claim.tx), claim, "hashed once");
    const done = await worker.sql("SELECT 1 FROM audit_log WHERE tenant_id = ? AND action = 'deletion.done'", ann.id);
    assert.equal(done.length, 1);
  });
});

test("records are deleted in all months, in the archive, and where an older build has put them", async () => {
  await withState(vars(), async (running) => {
    let { worker } = running;
    const [ann, bob] = [await seller(worker), await seller(worker)];
    const reference = `order-${crypto.randomUUID()}`;
    const now = Date.now();
    const keys = (id) =>
      ["live", "test"].flatMap((environment) =>
        Array.from({ length: 30 }, (_, at) => `${id}/${environment}/2025/01/${10 + at}/ver_a-ver_b.ndjson.gz`),
      );
    const bucket = await worker.mf.getR2Bucket("ARCHIVE");
    for (const { id } of [ann, bob]) {
      for (const environment of ["live", "test"]) {
        const record = { id: `ver_${ulid(now)}`, chain: "base", status: "confirmed", error_code: null, amount: "1", reference };
        const event = { id: `evt_${ulid(now)}`, kind: "payment.finalized", subject: record.id, body: record, at: now };
        const batch = { records: [{ id: record.id, revision: 0, record }], events: [event] };
        assert.equal(await ask(worker, { tenant: id, environment, month: monthOf(now) }, { take: batch }), "taken");
      }
      for (const key of keys(id)) await bucket.put(key, readFileSync(import.meta.filename));
      const put = (table, columns, ...values) =>
        worker.sql(`INSERT INTO ${table} (${columns}) VALUES (${values.map(() => "?")})`, ...values);
      const body = JSON.stringify({ reference });
      await put(
        "verifications",
        "id, tenant_id, environment, created_ms, chain, tx_hash, success, status, revision, body",
        `ver_${ulid(2)}`,
        id,
        "live",
        2,
        "base",
        "0x1",
        1,
        "confirmed",
        0,
        body,
      );
      await put(
        "events",
        "id, tenant_id, environment, kind, subject_id, created_ms, body",
        `evt_${ulid(2)}`,
        id,
        "live",
        "payment.finalized",
        "ver_1",
        2,
        body,
      );
    }
    await deleted(worker, ann);
    // Killed before the month is deleted, and after.
    for (const isDone of [false, true]) {
      await worker.halt({ what: "Records deleteAll", isDone });
      const run = cron(worker).catch(() => {});
      await until(async () => (await worker.halted()).isReached, "the deletion of a month");
      worker.crash();
      await run;
      worker = await running.again();
      assert.equal((await row(worker, ann.id)).erased_ms, null);
    }
    await cron(worker);
    assert.ok((await row(worker, ann.id)).erased_ms);
    assert.deepEqual(stored(worker, ann.id), []);
    const left = async (id) => {
      const { objects } = await (await worker.mf.getR2Bucket("ARCHIVE")).list({ prefix: `${id}/` });
      const rows = await worker.sql(
        "SELECT id FROM verifications WHERE tenant_id = ?1 UNION ALL SELECT id FROM events WHERE tenant_id = ?1",
        id,
      );
      return [objects.length, rows.length];
    };
    assert.deepEqual(await left(ann.id), [0, 0]);
    // The totals are usage, and stay; another tenant keeps all.
    const [{ count }] = await worker.sql("SELECT SUM(count) AS count FROM rollups WHERE tenant_id = ? AND span = 'hour'", ann.id);
    assert.equal(count, 2);
    assert.deepEqual(await left(bob.id), [60, 2]);
    assert.equal(stored(worker, bob.id).length, 2);
  });
});

test("no ledger erases what its tenant still has, and operators change nothing that was erased", async () => {
  const worker = await startWorker({ vars: vars() });
  try {
    const ann = await seller(worker);
    const reference = `order-${crypto.randomUUID()}`;
    assert.equal((await verified(worker, ann, paid(ann), reference)).success, true);
    const objects = /** @type {any} */ (await worker.mf.getDurableObjectNamespace("LEDGERS"));
    const erase = async (id) => {
      const stub = objects.get(objects.idFromName(`${id}:live`));
      const envelope = { tenant: id, environment: "live", request_id: `req_${ulid(Date.now())}`, origin: "", path: "", ask: "erase" };
      return stub.fetch("https://ledger/v2/", { method: "POST", body: JSON.stringify(envelope) });
    };
    assert.equal((await erase(ann.id)).status, 503);
    assert.deepEqual(claimsOf(worker, ann)[0].reference, reference);
    const suspend = { admin: true, body: { status: "suspended" } };
    await worker.call("PATCH", `/v1/admin/tenants/${ann.id}`, suspend);
    assert.equal((await erase(ann.id)).status, 503);
    await worker.call("PATCH", `/v1/admin/tenants/${ann.id}`, { admin: true, body: { status: "active" } });
    await deleted(worker, ann);
    await cron(worker);
    assert.ok((await row(worker, ann.id)).erased_ms);
    for (const body of [{ status: "active" }, { email: "ann@example.test" }, { company_name: "Ann" }]) {
      const { status, body: refused } = await worker.call("PATCH", `/v1/admin/tenants/${ann.id}`, { admin: true, body });
      assert.deepEqual([status, refused.error_code], [409, "TENANT_DELETING"]);
    }
    const body = { chain: "base", address: hex(20) };
    const added = await worker.call("POST", `/v1/admin/tenants/${ann.id}/recipients`, { admin: true, body });
    assert.deepEqual([added.status, added.body.error_code], [409, "TENANT_DELETING"]);
    const search = async (q) => (await worker.call("GET", `/v1/admin/search?q=${encodeURIComponent(q)}`, { admin: true })).body.data;
    assert.deepEqual(await search(ann.email), [], "nobody has the address");
    assert.deepEqual(
      (await search(ann.recipient)).map(({ tenant }) => tenant),
      [ann.id],
      "the address at which it was paid stays",
    );
    assert.deepEqual(await archived(worker, `${ann.id}/`), []);
  } finally {
    await worker.stop();
  }
});

test("keys that are in use when a deletion is confirmed are dead when that is answered, in both ledgers", async () => {
  const worker = await startWorker({ vars: vars() });
  try {
    const ann = await seller(worker);
    const asked = await ann.browser.call("DELETE", "/v1/tenant", { confirm: ann.id });
    assert.equal(asked.status, 202, JSON.stringify(asked.body));
    const { token } = await mailTo(worker, ann.email, 2);
    let [isOver, answeredAt] = [false, Infinity];
    const seen = [];
    const use = async (key) => {
      while (!isOver) {
        const began = performance.now();
        const { status, body } = await worker.call("GET", "/v1/whoami", { key });
        seen.push({ began, status, code: body.error_code, key });
      }
    };
    const users = Object.values(ann.api_keys).flatMap((key) => [use(key), use(key), use(key)]);
    await until(() => seen.length > 20, "keys in use");
    const confirmed = await ann.browser.call("POST", "/v1/tenant/deletion", { token });
    answeredAt = performance.now();
    assert.equal(confirmed.status, 200, JSON.stringify(confirmed.body));
    await until(() => seen.filter(({ began }) => began > answeredAt).length > 20, "requests after that");
    isOver = true;
    await Promise.all(users);
    const [before, later] = [seen.filter(({ began }) => began <= answeredAt), seen.filter(({ began }) => began > answeredAt)];
    assert.deepEqual([...new Set(later.map(({ status, code }) => `${status} ${code}`))], ["401 INVALID_API_KEY"]);
    assert.equal(new Set(later.map(({ key }) => key)).size, 2);
    for (const { status } of before) assert.ok([200, 401, 429].includes(status), `${status}`);
    assert.ok(before.some(({ status }) => status === 200));
  } finally {
    await worker.stop();
  }
});
