// npm run restore -- --env NAME --file FILE: a backup of the directory into an empty database. docs/operate/backup.md says what comes
// before and after it.
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { say, setUp, underNewNode } from "./lib/tools.mjs";

const USAGE = "npm run restore -- --env NAME --file FILE.sql [--local [--config FILE]]";
const OPTIONS = /** @type {const} */ ({ file: { type: "string" }, local: { type: "boolean" }, config: { type: "string" } });
const TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*' AND name NOT GLOB '_cf_*'";
/** The most tables that one query counts: D1 answers up to 100 columns. */
const COLUMNS_MAX = 100;
/** How long Cloudflare may take to take a file. */
const LIMIT_MS = 3_600_000;

await setUp();
if (!(await underNewNode(import.meta.url))) process.exitCode = await main();

/** What is wrong with a backup, by its description and by restoring it on this machine; its description. */
async function examine(file) {
  const { hashOf, tryExport } = await import("./lib/exported.mjs");
  if (!existsSync(file) || !existsSync(`${file}.json`)) return { wrong: [`${file} or ${file}.json is not there`], description: undefined };
  const description = JSON.parse(readFileSync(`${file}.json`, "utf8"));
  if ((await hashOf(file)) !== description.sha256) {
    return { wrong: [`${file} is not the file that ${file}.json describes`], description };
  }
  return { ...(await tryExport(file)), description };
}

async function main() {
  const { read, refuse } = await import("./lib/arguments.mjs");
  const { env: name, file: given, local = false, config } = await read(process.argv.slice(2), OPTIONS, USAGE);
  if (!given) refuse("Which file?", USAGE);
  const file = resolve(given);
  const { wrong, description } = await examine(file);
  if (wrong.length > 0) {
    for (const line of wrong) say(`mistake: ${line}`);
    return 1;
  }
  const { ask, reason } = await import("./lib/wrangler.mjs");
  const where = ["DB", local ? "--local" : "--remote", "--env", name, ...(config ? ["--config", config] : [])];
  const query = async (sql) => {
    const answer = await ask(["d1", "execute", ...where, "--json", "--command", sql]);
    if (answer.code !== 0) throw new Error(reason(answer));
    return JSON.parse(answer.out.slice(answer.out.indexOf("[")))[0].results;
  };
  try {
    const tables = await query(TABLES);
    if (tables.length > 0) {
      say(`mistake: the database has tables (${tables[0].name}, …): a backup goes into an empty one (docs/operate/backup.md)`);
      return 1;
    }
    say(`restoring ${file} …`);
    const done = await ask(["d1", "execute", ...where, "--file", file, "-y"], { limitMs: LIMIT_MS });
    if (done.code !== 0) throw new Error(reason(done));
    const names = Object.keys(description.rows);
    const found = {};
    for (let at = 0; at < names.length; at += COLUMNS_MAX) {
      const columns = names.slice(at, at + COLUMNS_MAX).map((one) => `(SELECT COUNT(*) FROM "${one}") AS "${one}"`);
      Object.assign(found, (await query(`SELECT ${columns.join(", ")}`))[0]);
    }
    const lost = names.filter((one) => found[one] !== description.rows[one]);
    for (const one of lost) say(`mistake: ${one} has ${found[one]} rows, and the backup ${description.rows[one]}`);
    if (lost.length > 0) return 1;
  } catch (error) {
    say(`\nThe backup is not restored: ${error.message.split("\n")[0]}`);
    return 1;
  }
  say(`restored: the directory as it was at ${description.made_at}, with migration ${description.migrations.at(-1)}`);
  say("next: what ledgers know better than it (docs/operate/backup.md, After a restore)");
  return 0;
}
