// `npm run backup` and `npm run restore` with wrangler itself, on a database of this machine that the real Worker has filled: all rows,
// sequences, indexes and triggers come back, and the Worker serves on what was restored.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { appendFileSync, cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { tryExport } from "../../scripts/lib/exported.mjs";
import { signedUp } from "./browser.mjs";
import { random } from "./payment.mjs";
import { ROOT, startWorker } from "./worker.mjs";

const FOLDER = mkdtempSync(join(tmpdir(), "x402-backup-test-"));
const STATE = join(FOLDER, ".wrangler", "state", "v3");
const CONFIG = join(FOLDER, "wrangler.toml");
const OBJECTS = "miniflare-D1DatabaseObject";
/** What `wrangler d1 migrations apply` keeps of itself. */
const APPLIED = `CREATE TABLE "d1_migrations"(
		id         INTEGER PRIMARY KEY AUTOINCREMENT,
		name       TEXT UNIQUE,
		applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
)`;
/** A text that an export must quote. */
const HARD = 'O\'Neil "&" Sons;\n-- not a comment\r\n\\ 🧾 \u0001';
/** @type {{ kept: string, revoked: string, file: string, before: Map<string, string> }} */
let made;

const start = () => startWorker({ state: STATE, vars: { MAIL_BACKEND: "mailbox" } });

/** The directory, while no Worker runs. */
function open() {
  const folder = join(STATE, "d1", OBJECTS);
  const [name] = readdirSync(folder).filter((one) => one.endsWith(".sqlite") && !one.startsWith("metadata"));
  return new DatabaseSync(join(folder, name));
}

/** Runs a script of ours. @returns {Promise<{ code: number, text: string }>} */
function run(script, args) {
  const given = [join(ROOT, "scripts", script), "--env", "production", "--local", "--config", CONFIG, ...args];
  const env = { ...process.env, X402_EDGE_NODE: "1", CI: "1" };
  return new Promise((resolve) => {
    execFile(process.execPath, given, { env, cwd: ROOT, timeout: 200_000 }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, text: stdout + stderr }),
    );
  });
}

/** All rows of all tables, and all that the schema holds, as text by name. */
function dump() {
  const db = open();
  const all = new Map();
  for (const { type, name, sql } of db.prepare("SELECT type, name, sql FROM sqlite_master WHERE name NOT GLOB '_cf_*'").all()) {
    all.set(`${type} ${name}`, String(sql));
    if (type !== "table") continue;
    const rows = db.prepare(`SELECT * FROM "${name}"`).all();
    all.set(
      `rows of ${name}`,
      rows
        .map((row) => JSON.stringify(Object.values(row)))
        .sort()
        .join("\n"),
    );
  }
  db.close();
  return all;
}

/** A value for a column that nothing but a test reads. */
const valueFor = (type) => (type === "INTEGER" ? 7 : type === "REAL" ? 1.5 : type === "BLOB" ? Buffer.from([0, 255, 39]) : HARD);

/** Puts a row into each table that has none: whatever its schema takes. Answers the tables that stay empty. */
function fillRest(db) {
  const tables = db
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB '_cf_*' AND name NOT GLOB 'sqlite_*'")
    .all();
  const isEmpty = ({ name }) => db.prepare(`SELECT COUNT(*) AS n FROM "${name}"`).get().n === 0;
  for (const { name } of tables.filter(isEmpty)) {
    const columns = db.prepare(`PRAGMA table_info("${name}")`).all();
    const names = columns.map((column) => `"${column.name}"`).join(", ");
    const values = columns.map((column) => valueFor(column.type));
    try {
      db.prepare(`INSERT INTO "${name}" (${names}) VALUES (${values.map(() => "?").join(", ")})`).run(...values);
    } catch {
      // A check or a trigger wants other values.
    }
  }
  return tables.filter(isEmpty).map(({ name }) => name);
}

before(async () => {
  writeFileSync(
    CONFIG,
    `name = "x402-edge"\ncompatibility_date = "2026-11-01"\n[[env.production.d1_databases]]\nbinding = "DB"\n` +
      `database_name = "x402-edge-production"\ndatabase_id = "x402-edge"\nmigrations_dir = "${join(ROOT, "migrations")}"\n`,
  );
  const worker = await start();
  try {
    const to = random(20);
    const { id, test: kept, live } = await worker.tenant({ company_name: "Shop", recipients: { "base-sepolia": to } });
    const [{ id: revoked }] = await worker.sql("SELECT id FROM api_keys WHERE tenant_id = ? AND environment = 'live'", id);
    // A person with a session, and mails.
    await signedUp(worker);
    await worker.sql("UPDATE tenants SET company_name = ? WHERE id = ?", HARD, id);
    assert.equal((await worker.call("GET", "/v1/usage", { key: kept })).status, 200);
    assert.equal((await worker.call("GET", "/v1/usage", { key: live })).status, 200);
    made = { kept, revoked: live, file: "", before: new Map() };
    Object.assign(made, { tenant: id, to, revokedId: revoked });
  } finally {
    await worker.stop();
  }
  const db = open();
  db.exec(APPLIED);
  const files = readdirSync(join(ROOT, "migrations")).filter((name) => name.endsWith(".sql"));
  for (const name of files.sort()) db.prepare("INSERT INTO d1_migrations (name) VALUES (?)").run(name);
  const empty = fillRest(db);
  assert.ok(empty.length < 6, `tables without a row: ${empty}`);
  // A sequence is ahead of the rows that are left.
  db.exec("INSERT INTO d1_migrations (name) VALUES ('x'); DELETE FROM d1_migrations WHERE name = 'x';");
  db.close();
  made.before = dump();
});
after(() => rmSync(FOLDER, { recursive: true, force: true }));

test("a backup is whole, described, and readable to nobody else", async () => {
  const { code, text } = await run("backup.mjs", ["--out", join(FOLDER, "out")]);
  assert.equal(code, 0, text);
  const [name] = readdirSync(join(FOLDER, "out")).filter((one) => one.endsWith(".sql"));
  made.file = join(FOLDER, "out", name);
  assert.deepEqual(
    ["", ".json"].map((end) => statSync(made.file + end).mode & 0o077),
    [0, 0],
  );
  const description = JSON.parse(readFileSync(`${made.file}.json`, "utf8"));
  assert.ok(description.rows.tenants >= 2 && description.rows.audit_log >= 1, JSON.stringify(description.rows));
  assert.equal(description.migrations.length, description.rows.d1_migrations);
  assert.match(text, /It was restored on this machine, and is whole/);
});

test("a database that holds something takes no backup, and a backup that was changed goes nowhere", async () => {
  const full = await run("restore.mjs", ["--file", made.file]);
  assert.deepEqual([full.code, /a backup goes into an empty one/.test(full.text)], [1, true], full.text);
  const other = join(FOLDER, "changed.sql");
  for (const end of ["", ".json"]) cpSync(made.file + end, other + end);
  appendFileSync(other, "DELETE FROM audit_log;\n");
  const changed = await run("restore.mjs", ["--file", other]);
  assert.deepEqual([changed.code, /is not the file that/.test(changed.text)], [1, true], changed.text);
  assert.deepEqual(dump(), made.before);
});

test("an export that lacks a trigger, an index or a table, or has a row that D1 does not take, is no backup", async () => {
  const whole = readFileSync(made.file, "utf8");
  assert.deepEqual((await tryExport(made.file)).wrong, []);
  const path = join(FOLDER, "broken.sql");
  for (const [text, wanted] of /** @type {[string, RegExp][]} */ ([
    [whole.replace(/^CREATE TRIGGER audit_log_is_kept.*$/m, ""), /trigger audit_log_is_kept is not as its migrations make it/],
    [whole.replace(/^CREATE INDEX (\w+) .*$/m, ""), /index \w+ is not as/],
    [whole.replace(/^INSERT INTO "d1_migrations".*$/gm, ""), /does not say which migrations/],
    [whole.slice(0, whole.indexOf("CREATE TRIGGER") + 40), /cannot be restored/],
    [`${whole}\nINSERT INTO "tenants" VALUES('${"x".repeat(100_001)}');\n`, /cannot be restored|takes a statement/],
  ])) {
    writeFileSync(path, text);
    assert.match((await tryExport(path)).wrong.join("; "), wanted);
  }
  writeFileSync(path, `${whole}\nINSERT INTO "d1_migrations" ("id","name") SELECT 1000,'${"x".repeat(100_001)}' WHERE 0;\n`);
  assert.match((await tryExport(path)).wrong.join("; "), /a row takes a statement of 1000\d\d bytes, and D1 takes 100000/);
});

test("a directory that is lost comes back row by row, with sequences, indexes and triggers, beside ledgers that are ahead", async () => {
  const { kept, revoked, file, tenant, to, revokedId } = /** @type {any} */ (made);
  // A key is revoked after the backup.
  const now = await start();
  try {
    const asked = await now.call("DELETE", `/v1/admin/tenants/${tenant}/api-keys/${revokedId}`, { admin: true });
    assert.ok(asked.status < 300, asked.text);
    assert.equal((await now.call("GET", "/v1/usage", { key: revoked })).status, 401);
  } finally {
    await now.stop();
  }
  rmSync(join(STATE, "d1"), { recursive: true });
  const { code, text } = await run("restore.mjs", ["--file", file]);
  assert.equal(code, 0, text);
  const restored = dump();
  assert.deepEqual([...restored.keys()].sort(), [...made.before.keys()].sort());
  for (const [name, rows] of made.before) assert.equal(restored.get(name), rows, name);
  const worker = await start();
  try {
    assert.equal((await worker.call("GET", "/v1/usage", { key: kept })).status, 200);
    // Its ledger has a newer copy than the directory.
    assert.equal((await worker.call("GET", "/v1/usage", { key: revoked })).status, 401);
    const { body } = await worker.call("GET", `/v1/admin/tenants/${tenant}`, { admin: true });
    assert.ok(JSON.stringify(body).toLowerCase().includes(to.toLowerCase()), "its address is there");
    for (const sql of ["UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log"]) {
      await assert.rejects(worker.sql(sql), /the audit log is (kept|not changed)/);
    }
  } finally {
    await worker.stop();
  }
});

test("without its ledgers the directory serves by itself, and a key that was revoked since lives again", async () => {
  const { kept, revoked, file } = made;
  rmSync(STATE, { recursive: true });
  const { code, text } = await run("restore.mjs", ["--file", file]);
  assert.equal(code, 0, text);
  const worker = await start();
  try {
    for (const key of [kept, revoked]) assert.equal((await worker.call("GET", "/v1/usage", { key })).status, 200);
    const made = await worker.tenant();
    assert.equal((await worker.call("GET", "/v1/usage", { key: made.test })).status, 200);
  } finally {
    await worker.stop();
  }
});
