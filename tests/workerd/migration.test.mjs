// States that older builds have written (tests/fixtures/state) are read by this build: what was settled counts as handed
// over, what was pending is open, what was claimed stays claimed, and nothing is lost.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { privateKeyToAccount } from "viem/accounts";
import { KEYS, startEvm } from "../../scripts/lib/evm.mjs";
import { keyPairText, signer, startSolana } from "../../scripts/lib/solana.mjs";
import { storedTexts, ulid } from "./months.mjs";
import { LONG, identified, outcome, sign } from "./payment.mjs";
import { sent } from "./settling.mjs";
import { restore } from "./state.mjs";
import { ROOT, startWorker, until } from "./worker.mjs";

/** What is asked by hash is older than a day by now. */
const AGES = { max_age_seconds: 315_360_000 };
/** Rows of an object that are never purged and never change. */
const KEPT = ["claims", "log_claims", "payers", "payment_identifiers"];
/** An entry of the outbox as a later build may leave it, before those that wait. */
const FOREIGN = ["webhook", '{"from":"a later build"}'];

/** Each object's storage below a folder of state: name and database. */
function storages(state, object) {
  const folder = join(state, "do", object);
  return readdirSync(folder)
    .filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name))
    .map((name) => ({ name, db: new DatabaseSync(join(folder, name)) }));
}

/** The rows of a table, as text; none where the schema lacks it. */
function rowsOf(db, table) {
  const made = db.prepare("SELECT 1 FROM sqlite_master WHERE name = ?").get(table);
  return made
    ? db
        .prepare(`SELECT * FROM ${table}`)
        .all()
        .map((row) => JSON.stringify(row))
    : [];
}

/** By object, what must be found again when the Worker has run. */
function snapshot(state) {
  const read = (object) =>
    storages(state, object).map(({ name, db }) => {
      const ids = (table, column) => rowsOf(db, table).map((row) => JSON.parse(row)[column]);
      const found = {
        kept: KEPT.flatMap((table) => rowsOf(db, table).map((row) => `${table} ${row}`)),
        settlements: ids("settlements", "id"),
        payments: ids("payments", "authorization"),
        state: ids("state", "name"),
      };
      const schema = db.prepare("SELECT value FROM state WHERE name = 'schema'").get()?.value ?? null;
      const waiting = rowsOf(db, "outbox");
      const parked = rowsOf(db, "outbox_parked").map((row) => JSON.parse(row));
      db.close();
      return { name, found, schema, waiting, parked };
    });
  return { ledgers: read("-TenantLedger"), settlers: read("-Settler") };
}

for (const folder of ["before-delivery", "before-migrations"]) {
  describe(folder, () => upgrade(folder));
}

function upgrade(folder) {
  const FOLDER = join(ROOT, "tests", "fixtures", "state", folder);
  const MADE = JSON.parse(readFileSync(join(FOLDER, "manifest.json"), "utf8"));
  const {
    cases,
    tenant: { key },
  } = MADE;
  const COMPLETED = ["completed", "external", "identified", "keyed", "solana", ...(cases.handed ? ["handed"] : [])];
  /** A record that only the directory holds. */
  const OLD = `ver_${ulid(Date.parse("2026-11-20T12:00:00Z"))}`;
  let state, evm, solana, worker, old;

  /** A deployment migrates the directory before the new build runs. */
  function migrate() {
    const folder = join(state, "d1", "miniflare-D1DatabaseObject");
    const [name] = readdirSync(folder).filter((each) => /^[0-9a-f]{64}\.sqlite$/.test(each));
    const db = new DatabaseSync(join(folder, name));
    for (const file of readdirSync(join(ROOT, "migrations"))
      .sort()
      .filter((each) => each.endsWith(".sql") && !MADE.migrations.includes(each))) {
      db.exec(readFileSync(join(ROOT, "migrations", file), "utf8"));
    }
    // What its ledger has deleted a week after it was shipped, the directory alone holds.
    const { answer } = cases.claimed;
    db.prepare(
      `INSERT INTO verifications SELECT ?, tenant_id, environment, created_ms, chain, tx_hash, success, status, error_code,
         revision, json_set(body, '$.id', ?) FROM verifications WHERE id = ?`,
    ).run(OLD, OLD, answer.id);
    db.close();
  }

  before(async () => {
    state = mkdtempSync(join(tmpdir(), "x402-migration-"));
    restore(FOLDER, state);
    migrate();
    for (const { db } of storages(state, "-TenantLedger")) {
      if (rowsOf(db, "settlements").length) db.prepare("INSERT INTO outbox (seq, kind, body) VALUES (0, ?, ?)").run(...FOREIGN);
      db.close();
    }
    old = snapshot(state);
    [evm, solana] = await Promise.all([startEvm(), startSolana()]);
    solana.airdrop((await signer(0x21)).address, 1_000_000_000n);
    const chain = gzipSync(gunzipSync(readFileSync(join(FOLDER, "anvil.json.gz"))));
    await evm.rpc("anvil_loadState", [`0x${chain.toString("hex")}`]);
    // What was in the pool is nowhere now, and no block comes before a test says so.
    await evm.rpc("evm_setAutomine", [false]);
    const pair = await keyPairText(new Uint8Array(32).fill(0x21));
    const vars = { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1), RPC_LOCAL_SOLANA: solana.url, SOLANA_SIGNERS_TEST: pair };
    worker = await startWorker({ vars, state });
  });
  after(async () => {
    await worker?.stop();
    evm?.stop();
    solana?.stop();
    rmSync(state, { recursive: true, force: true });
  });

  const post = (path, body, headers) => worker.call("POST", path, { key, body, headers });
  // With our additions in the body of a success too.
  const settle = async (body, headers) => (await post("/facilitator/settle", body, { prefer: "explain", ...headers })).body;
  const verify = async (body) => (await post("/facilitator/verify", body)).body;
  const read = (id) => worker.call("GET", `/v1/settlements/${id}`, { key });
  const idOf = (name) => cases[name].answer.extra.settlementId;
  const openId = cases.open && idOf("open");
  const byHash = async (more) => (await post("/v1/verify", { ...AGES, ...more })).body;
  const anew = (secret, to) => sign({ buyer: privateKeyToAccount(secret), to, ...LONG });

  test("every settlement is read as it was, and those that were completed as handed over", async () => {
    assert.equal(MADE.settlements.length, cases.open ? 10 : 8);
    for (const was of MADE.settlements) {
      const { status, body } = await read(was.id);
      assert.equal(status, 200, was.id);
      // What was pending when that build stopped goes on by itself.
      const kept = was.status === "pending" ? ["id", "network", "payer", "pay_to", "amount", "asset", "created_at"] : Object.keys(was);
      for (const name of kept) assert.deepEqual(body[name], was[name], `${was.id} ${name}`);
      if (was.status === "completed" && was.id !== openId) assert.ok(body.handed_over.at, JSON.stringify(body.handed_over));
      else assert.equal(body.handed_over, null);
    }
    const { body } = await worker.call("GET", "/v1/settlements?limit=100", { key });
    assert.deepEqual(body.data.map(({ id }) => id).sort(), MADE.settlements.map(({ id }) => id).sort());
    for (const { id, status, handed_over } of body.data) assert.equal(Boolean(handed_over), status === "completed" && id !== openId);
  });

  for (const name of COMPLETED) {
    test(`what was completed is not handed over again: ${name}`, async () => {
      const { body, answer, idempotencyKey } = cases[name];
      const headers = idempotencyKey && { "idempotency-key": idempotencyKey };
      const transaction = answer.transaction || (await read(idOf(name))).body.transaction;
      for (const sent of [undefined, headers]) {
        const again = await settle(body, sent);
        assert.deepEqual(
          [outcome(again), again.transaction, again.extra.settlementId],
          ["duplicate_settlement", transaction, idOf(name)],
          JSON.stringify(again),
        );
      }
      const { isValid, invalidReason } = await verify(body);
      assert.deepEqual([isValid, invalidReason], [false, "duplicate_settlement"]);
      const handOver = await worker.call("POST", `/v1/settlements/${idOf(name)}/hand-over`, { key, body: {} });
      assert.equal(handOver.status, 409);
    });
  }

  test("what was pending is waited for as the transaction that it was, and handed over once", async () => {
    const { body, answer } = cases.waiting;
    const before = await sent(evm);
    const valid = await verify(body);
    const asking = settle(body);
    try {
      assert.equal(valid.isValid, true, JSON.stringify(valid));
      await until(async () => (await sent(evm, "pending")) === before + 2, "both transactions in the pool, again");
      await until(async () => (await verify(body)).invalidReason === "duplicate_settlement", "the wait");
    } finally {
      await evm.rpc("evm_setAutomine", [true]);
      await evm.rpc("evm_mine");
    }
    const settled = await asking;
    assert.deepEqual(
      [outcome(settled), settled.extra.settlementId, outcome(await settle(body))],
      ["success", idOf("waiting"), "duplicate_settlement"],
      JSON.stringify(settled),
    );
    const { body: settlement } = await read(idOf("waiting"));
    assert.deepEqual([settlement.attempts[0].transaction, await sent(evm)], [answer.transaction, before + 2]);
  });

  test("what was pending is open: it is completed by itself, and handed over once", async () => {
    const { body, answer } = cases.pending;
    const {
      paymentRequirements: { payTo, amount },
    } = body;
    const [id, had] = [idOf("pending"), BigInt(MADE.balances[payTo])];
    await until(async () => (await read(id)).body.status === "completed", "the alarm", 60_000);
    const { body: settlement } = await read(id);
    const attempts = settlement.attempts.map(({ transaction }) => transaction);
    // Its price may have been raised: any version of it will do.
    assert.deepEqual([attempts[0], attempts.includes(settlement.transaction), settlement.handed_over], [answer.transaction, true, null]);
    assert.equal((await verify(body)).isValid, true);
    const answers = await Promise.all(Array.from({ length: 6 }, () => settle(body)));
    assert.deepEqual(answers.map(outcome).sort(), [...Array(5).fill("duplicate_settlement"), "success"]);
    assert.deepEqual((await verify(body)).invalidReason, "duplicate_settlement");
    // The other that was pending pays the same seller.
    assert.equal((await evm.balance(payTo)) - had, 2n * BigInt(amount));
  });

  if (cases.open) {
    test("what was open is handed over once", async () => {
      const { body } = cases.open;
      assert.equal((await verify(body)).isValid, true);
      const answers = await Promise.all(Array.from({ length: 4 }, () => settle(body)));
      assert.deepEqual(answers.map(outcome).sort(), [...Array(3).fill("duplicate_settlement"), "success"]);
    });
  }

  test("what failed may be tried again", async () => {
    const { body, buyer, answer } = cases.failed;
    await evm.mint(privateKeyToAccount(buyer).address, 10_000n);
    const again = await settle(body);
    assert.deepEqual([outcome(again), again.extra.settlementId], ["success", idOf("failed")], JSON.stringify(again));
    assert.notEqual(again.transaction, answer.transaction);
    assert.equal(outcome(await settle(body)), "duplicate_settlement");
  });

  test("what was verified is still good, and settled once", async () => {
    const { body } = cases.verified;
    assert.equal((await verify(body)).isValid, true);
    assert.deepEqual([outcome(await settle(body)), outcome(await settle(body))], ["success", "duplicate_settlement"]);
  });

  test("what was claimed stays claimed, all of it, and by its own reference only", async () => {
    for (const name of ["claimed", "several", "authorized"]) {
      const { asked, answer } = cases[name];
      const own = await byHash(asked);
      assert.deepEqual(
        [own.success, own.replayed, own.id, own.amount],
        [true, true, answer.id, answer.amount],
        `${name}: ${JSON.stringify(own)}`,
      );
      for (const reference of ["order-9", undefined]) {
        const other = await byHash({ ...asked, reference });
        assert.deepEqual(
          [other.error_code, other.claimed_by.id, other.claimed_by.reference],
          ["ALREADY_CLAIMED", answer.id, asked.reference],
          name,
        );
      }
    }
    // One log of a transaction that was claimed as a whole is not free, whoever names it.
    const { asked, payer, free, answer } = cases.several;
    const { error_code, claimed_by } = await byHash({ ...asked, payer, reference: "order-9" });
    assert.deepEqual([error_code, claimed_by.id], ["ALREADY_CLAIMED", answer.id]);
    // What the same transaction paid to another of his recipients was not claimed, and is not now.
    const elsewhere = await byHash({ ...asked, recipient: free, reference: "order-9" });
    assert.deepEqual([elsewhere.success, elsewhere.replayed, elsewhere.amount], [true, false, "300000"], JSON.stringify(elsewhere));
  });

  test("a settled payment's transaction is claimed by its settlement", async () => {
    for (const name of ["completed", "external", "identified", "keyed"]) {
      const { answer } = cases[name];
      const {
        paymentRequirements: { payTo },
      } = cases[name].body;
      const other = await byHash({ tx_hash: answer.transaction, chain: "local-evm", recipient: payTo, reference: "order-9" });
      assert.deepEqual([other.error_code, other.claimed_by.id], ["ALREADY_CLAIMED", idOf(name)], `${name}: ${JSON.stringify(other)}`);
    }
  });

  test("an identifier that was used names its first authorization", async () => {
    const { id, buyer, body, answer } = cases.identified;
    const again = identified(await anew(buyer, body.paymentRequirements.payTo), id);
    const { invalidReason } = await verify(again);
    const refused = await settle(again);
    assert.deepEqual([invalidReason, outcome(refused)], ["payment_identifier_conflict", "payment_identifier_conflict"]);
    assert.deepEqual([refused.transaction, refused.extra.settlementId], [answer.transaction, idOf("identified")]);
  });

  test("keys, recipients, usage and records are where they were", async () => {
    const { body: usage } = await worker.call("GET", "/v1/usage", { key });
    assert.ok(usage.verifications_used >= MADE.usage || usage.period !== MADE.period, JSON.stringify(usage));
    for (const name of ["claimed", "several", "authorized"]) {
      const { status, body } = await worker.call("GET", `/v1/verifications/${cases[name].answer.id}`, { key });
      assert.deepEqual([status, body.id, body.reference], [200, cases[name].answer.id, cases[name].asked.reference]);
    }
    for (const recipient of MADE.tenant.recipients.slice(0, 2)) {
      const secret = cases.completed.buyer;
      assert.equal((await verify(await anew(secret, recipient))).isValid, true);
    }
    const foreign = await worker.call("GET", `/v1/settlements/${idOf("completed")}`, { key: MADE.other.key });
    assert.equal(foreign.status, 404);
  });

  test("records that only the directory holds are read, and listed with those of the months", async () => {
    const { status, body } = await worker.call("GET", `/v1/verifications/${OLD}`, { key });
    assert.deepEqual([status, body.id, body.tx_hash], [200, OLD, cases.claimed.answer.tx_hash]);
    const shipped = await worker.sql("SELECT id FROM verifications WHERE tenant_id = ? AND environment = 'test'", MADE.tenant.id);
    assert.ok(shipped.length > 1, `${shipped.length} in the directory`);
    const own = await byHash({ tx_hash: `0x${"12".repeat(32)}`, chain: "local-evm", recipient: MADE.tenant.recipients[0] });
    assert.equal(own.error_code, "TX_NOT_FOUND");
    const seen = [];
    let cursor = "";
    do {
      const { body } = await worker.call("GET", `/v1/verifications?limit=3${cursor}`, { key });
      seen.push(...body.data.map(({ id }) => id));
      cursor = body.next_cursor && `&cursor=${body.next_cursor}`;
    } while (cursor);
    const months = [...storedTexts(worker, MADE.tenant.id).keys()];
    assert.ok(months.includes(own.id) && !months.includes(OLD));
    const all = new Set([...shipped.map(({ id }) => id), ...months]);
    assert.deepEqual(seen, [...all].sort().reverse());
  });

  test("what waited in the outbox reaches the directory, and what cannot be read is kept", async () => {
    const shipped = async () =>
      (await worker.sql("SELECT id, body FROM settlements")).filter(({ body }) => JSON.parse(body).handed_over).map(({ id }) => id);
    if (cases.handed) await until(async () => (await shipped()).includes(idOf("handed")), "the hand-over in the directory", 60_000);
    if (cases.late) await until(() => storedTexts(worker).has(cases.late.answer.id), "the record in its month", 60_000);
    assert.ok(
      worker.log.lines.some((line) => line.includes("outbox entry") && line.includes("webhook")),
      "no line about the entry",
    );
  });

  test("nothing is lost, and every object has the newest schema", async () => {
    await worker.stop();
    const { ledgers, settlers } = snapshot(state);
    for (const [was, is, schema] of [
      [old.ledgers, ledgers, "6"],
      [old.settlers, settlers, "0"],
    ]) {
      for (const { name, found } of was) {
        const now = is.find((each) => each.name === name);
        // Some objects had nothing to do: they are brought up to date when they wake.
        assert.ok(now.schema === schema || now.found.settlements.length === 0, `${name}: ${now.schema}`);
        for (const [what, rows] of Object.entries(found))
          for (const row of rows) {
            // A migration may add columns.
            const isKept = (each) => each === row || each.startsWith(`${row.slice(0, -1)},`);
            assert.ok(now.found[what].some(isKept), `${name} has lost of ${what}: ${row}`);
          }
      }
    }
    assert.deepEqual([ledgers.flatMap(({ waiting }) => waiting.filter((row) => row.includes("webhook"))).length], [0]);
    assert.deepEqual(
      ledgers.flatMap(({ parked }) => parked.map(({ kind, body }) => [kind, body])),
      [FOREIGN],
    );
  });
}
