// An export of the directory (`wrangler d1 export`): whether it can be restored, and what is in it. It is restored into a database of
// SQLite on this machine: a backup that nobody has restored is none.
import { createHash } from "node:crypto";
import { createReadStream, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ROOT } from "./tools.mjs";

/** The longest statement that D1 takes, in bytes. */
const STATEMENT_MAX = 100_000;
/** So much of the text goes to SQLite at once. */
const CHUNK = 1_000_000;

/** SQLite as Node has it; needs a newer node than the scripts. */
async function open(path) {
  const { DatabaseSync } = await import("node:sqlite");
  return new DatabaseSync(path);
}

/** The SHA-256 of a file, in hex. */
export async function hashOf(path) {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest("hex");
}

/** Runs the statements of an export; answers the longest, in bytes. */
async function load(db, path) {
  let text = "";
  let longest = 0;
  for await (const line of createInterface({ input: createReadStream(path, "utf8"), crlfDelay: Number.POSITIVE_INFINITY })) {
    // A row is one line.
    if (line.startsWith("INSERT INTO ")) {
      longest = Math.max(longest, Buffer.byteLength(line));
      if (text.length > CHUNK) {
        db.exec(text);
        text = "";
      }
    }
    text += `${line}\n`;
  }
  db.exec(text);
  return longest;
}

/** What SQLite and Cloudflare keep for themselves. */
const OWN = "name NOT GLOB 'sqlite_*' AND name NOT GLOB '_cf_*'";

/** Tables, indexes and triggers by their names, as they were written. */
function schemaOf(db) {
  const rows = db.prepare(`SELECT type, name, sql FROM sqlite_master WHERE ${OWN} AND sql IS NOT NULL AND name <> 'd1_migrations'`).all();
  return new Map(rows.map(({ type, name, sql }) => [`${type} ${name}`, sql.replace(/\s+/g, " ")]));
}

/** The schema that migrations make. */
async function schemaAfter(files) {
  const db = await open(":memory:");
  for (const file of files) db.exec(readFileSync(join(ROOT, "migrations", file), "utf8"));
  const schema = schemaOf(db);
  db.close();
  return schema;
}

/** What differs between the schema of an export and that which its migrations make. */
function differences(found, wanted) {
  const names = [...new Set([...found.keys(), ...wanted.keys()])].sort();
  return names.filter((name) => found.get(name) !== wanted.get(name)).map((name) => `${name} is not as its migrations make it`);
}

/**
 * Restores an export on this machine: what is wrong with it, the rows of each table, and the migrations that it has.
 * @param {string} path
 * @returns {Promise<{ wrong: string[], rows: Record<string, number>, migrations: string[] }>}
 */
export async function tryExport(path) {
  const folder = mkdtempSync(join(tmpdir(), "x402-backup-"));
  const db = await open(join(folder, "directory.sqlite"));
  try {
    db.exec("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;");
    const longest = await load(db, path);
    const wrong = [];
    if (longest > STATEMENT_MAX) wrong.push(`a row takes a statement of ${longest} bytes, and D1 takes ${STATEMENT_MAX}`);
    const checked = db.prepare("PRAGMA integrity_check").all();
    if (checked[0]?.integrity_check !== "ok") wrong.push(`SQLite finds it damaged: ${checked[0]?.integrity_check}`);
    const broken = db.prepare("PRAGMA foreign_key_check").all();
    if (broken.length > 0) wrong.push(`${broken.length} rows refer to rows that are not there`);
    const tables = db.prepare(`SELECT name FROM sqlite_master WHERE type = 'table' AND ${OWN} ORDER BY name`).all();
    const count = (name) => Number(db.prepare(`SELECT COUNT(*) AS rows FROM "${name}"`).get()?.rows);
    const rows = Object.fromEntries(tables.map(({ name }) => [name, count(name)]));
    const has = "d1_migrations" in rows;
    const migrations = has
      ? db
          .prepare("SELECT name FROM d1_migrations ORDER BY id")
          .all()
          .map(({ name }) => String(name))
      : [];
    if (migrations.length === 0) wrong.push("it does not say which migrations it has");
    else wrong.push(...differences(schemaOf(db), await schemaAfter(migrations)));
    return { wrong, rows, migrations };
  } catch (error) {
    return { wrong: [`it cannot be restored: ${error.message}`], rows: {}, migrations: [] };
  } finally {
    db.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
