// npm run backup -- --env NAME [--out FOLDER]: the directory (D1) as a file of SQL, restored once on this machine, with a description
// beside it. docs/operate/backup.md says what is in it, and where to keep it.
import { chmodSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { ROOT, say, setUp, underNewNode } from "./lib/tools.mjs";

const USAGE = "npm run backup -- --env NAME [--out FOLDER] [--local [--config FILE]]";
const OPTIONS = /** @type {const} */ ({
  out: { type: "string" },
  // A database of `wrangler dev` on this machine, of this or another configuration.
  local: { type: "boolean" },
  config: { type: "string" },
});

await setUp();
if (!(await underNewNode(import.meta.url))) process.exitCode = await main();

async function main() {
  const { read } = await import("./lib/arguments.mjs");
  const { env: name, out = join(ROOT, "backups"), local = false, config } = await read(process.argv.slice(2), OPTIONS, USAGE);
  const { act, configuration } = await import("./lib/wrangler.mjs");
  const { bookmarkOf } = await import("./lib/deployed.mjs");
  const { hashOf, tryExport } = await import("./lib/exported.mjs");
  const [database] = (await configuration(name, config)).d1_databases;
  const made = new Date().toISOString();
  const folder = resolve(out);
  const file = join(folder, `${database.database_name}-${made.replaceAll(":", "-").slice(0, 19)}Z.sql`);
  process.umask(0o077);
  mkdirSync(folder, { recursive: true });
  const bookmark = local ? { known: undefined, unknown: "a database on this machine has none" } : await bookmarkOf(name);
  const where = config ? ["--config", config] : [];
  try {
    await act(["d1", "export", "DB", local ? "--local" : "--remote", "--output", file, "--env", name, "-y", ...where]);
  } catch (error) {
    say(`\nThere is no backup: ${error.message.split("\n")[0]}`);
    return 1;
  }
  chmodSync(file, 0o600);
  const { wrong, rows, migrations } = await tryExport(file);
  const description = {
    environment: name,
    database: database.database_name,
    made_at: made,
    bookmark: bookmark.known ?? null,
    bytes: statSync(file).size,
    sha256: await hashOf(file),
    migrations,
    rows,
  };
  writeFileSync(`${file}.json`, `${JSON.stringify(description, null, 2)}\n`, { mode: 0o600 });
  say(`${file}: ${description.bytes} bytes, ${Object.values(rows).reduce((sum, one) => sum + one, 0)} rows`);
  say(bookmark.known ? `Time Travel: bookmark ${bookmark.known}` : `Time Travel: no bookmark (${bookmark.unknown})`);
  if (wrong.length > 0) {
    for (const line of wrong) say(`mistake: ${line}`);
    say("\nThis backup cannot be restored.");
    return 1;
  }
  say("It was restored on this machine, and is whole. It holds mail addresses and networks of people, in the clear; keys as hashes;");
  say("secrets sealed by KEY_PEPPERS, which is not in it: keep that elsewhere. Encrypt this file, and delete it after 30 days.");
  return 0;
}
