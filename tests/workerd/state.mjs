// A Worker's stored state: rows of its objects; and all of it as SQL text, and back, for tests that a build reads
// what the build before has written. Needs node:sqlite (the bundled node 24).
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";

const quoted = (name) => `"${name.replaceAll('"', '""')}"`;

/**
 * What `read` makes of each object of a class that has a table, the Worker running or not. It gets `all`, which answers a
 * query's rows, and the object's id in hex.
 * @template T
 * @param {{ state: string }} worker
 * @param {string} name the class
 * @param {string} table
 * @param {(all: (sql: string, ...bind: any[]) => any[], id: string) => T} read
 * @returns {T[]}
 */
export function readObjects({ state }, name, table, read) {
  const folder = join(state, "do", `-${name}`);
  const files = existsSync(folder) ? readdirSync(folder).filter((file) => /^[0-9a-f]{64}\.sqlite$/.test(file)) : [];
  return files.flatMap((file) => {
    const db = new DatabaseSync(join(folder, file), { readOnly: true, timeout: 5_000 });
    try {
      if (!db.prepare("SELECT 1 FROM sqlite_master WHERE name = ?").get(table)) return [];
      return [read((sql, ...bind) => db.prepare(sql).all(...bind), file.slice(0, -".sqlite".length))];
    } finally {
      db.close();
    }
  });
}

/** Every statement that makes a database again, tables before their rows. */
function statements(db) {
  const made = db
    .prepare(
      "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type = 'table' DESC, rowid",
    )
    .all();
  const rows = (table) => {
    const columns = db
      .prepare(`SELECT name FROM pragma_table_info(?)`)
      .all(table)
      .map(({ name }) => name);
    const values = columns.map((name) => `quote(${quoted(name)})`).join(" || ',' || ");
    const list = columns.map(quoted).join(",");
    return db
      .prepare(`SELECT ${values} AS text FROM ${quoted(table)} ORDER BY 1`)
      .all()
      .map(({ text }) => `INSERT INTO ${quoted(table)} (${list}) VALUES (${text});`);
  };
  const tables = made.filter(({ type }) => type === "table").map(({ name }) => name);
  const counters = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").get()
    ? ["DELETE FROM sqlite_sequence;", ...rows("sqlite_sequence")]
    : [];
  return [...made.map(({ sql }) => `${sql.trim()};`), ...tables.flatMap(rows), ...counters];
}

/** Writes each SQLite file under `state` as `<its path>.sql` under `folder`. The Worker must have stopped. */
export function dump(state, folder) {
  for (const name of readdirSync(state, { recursive: true, encoding: "utf8" })) {
    // What Miniflare caches is nobody's state.
    if (!name.endsWith(".sqlite") || name.startsWith("cache/")) continue;
    const db = new DatabaseSync(join(state, name));
    const text = statements(db).join("\n");
    db.close();
    const path = join(folder, `${name}.sql`);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${text}\n`);
  }
}

/** Makes under `state` what `dump` has written under `folder`. */
export function restore(folder, state) {
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".sqlite.sql")) continue;
    const path = join(state, name.slice(0, -".sql".length));
    mkdirSync(dirname(path), { recursive: true });
    const db = new DatabaseSync(path);
    db.exec("PRAGMA journal_mode = WAL");
    db.exec(readFileSync(join(folder, name), "utf8"));
    db.close();
  }
}
