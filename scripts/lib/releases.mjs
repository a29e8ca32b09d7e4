// Which classes of Durable Objects a tree has, and what `ops/releases.json` keeps of each release. Only node's own modules.
//
// A class ships empty one release before it is used: its migration and its export in one release, its binding in the next. A
// deployment that adds a class goes to all requests at once, and Cloudflare rolls nothing back beyond it. If the same build used
// the class, nothing could be rolled back where it fails.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Where releases are recorded, one after the other. */
export const RECORD = join("ops", "releases.json");

/** A value in TOML: texts, and lists of texts and of tables. Others are not read. */
function value(text) {
  try {
    return JSON.parse(
      text
        .replace(/\s+#[^"\]]*$/, "")
        .replace(/([{,]\s*)(\w+)\s*=/g, '$1"$2":')
        .replace(/,\s*\]/, "]"),
    );
  } catch {
    return undefined;
  }
}

/** The tables of a list in TOML, `[[name]]`, with their texts and lists of texts. */
function tables(text, name) {
  const found = [];
  let table, open;
  for (const raw of text.split("\n")) {
    const line = raw.replace(/^\s*#.*$/, "").trim();
    const [, key, rest] = /^(\w+)\s*=\s*(.*)$/.exec(line) ?? [];
    if (open) {
      open.text += line;
      if (line.includes("]")) {
        open.table[open.key] = value(open.text);
        open = undefined;
      }
    } else if (line.startsWith("[")) {
      table = name.test(line) ? {} : undefined;
      if (table) found.push(table);
    } else if (table && rest?.startsWith("[") && !rest.includes("]")) open = { table, key, text: rest };
    else if (table && key) table[key] = value(rest);
  }
  return found;
}

/**
 * What an entry of `migrations` adds and takes away.
 * @param {Record<string, any>} migration
 */
export function changes(migration) {
  if (Object.values(migration).includes(undefined)) throw new Error(`wrangler.toml: the migration ${migration.tag} cannot be read`);
  const moved = [...(migration.renamed_classes ?? []), ...(migration.transferred_classes ?? [])];
  return {
    tag: String(migration.tag),
    added: [...(migration.new_sqlite_classes ?? []), ...(migration.new_classes ?? []), ...moved.map(({ to }) => to)],
    removed: [...(migration.deleted_classes ?? []), ...(migration.renamed_classes ?? []).map(({ from }) => from)],
  };
}

/** The classes that there are after migrations. */
export function classes(migrations) {
  const all = new Set();
  for (const { added, removed } of migrations) {
    for (const name of removed) all.delete(name);
    for (const name of added) all.add(name);
  }
  return [...all];
}

/** The migrations and the bound classes of a wrangler.toml, over all its environments. */
export function objects(text) {
  const bindings = tables(text, /^\[\[(env\.[\w-]+\.)?durable_objects\.bindings\]\]$/);
  return {
    migrations: tables(text, /^\[\[migrations\]\]$/).map(changes),
    bound: [...new Set(bindings.map(({ class_name: name }) => String(name)))],
  };
}

/**
 * What of a tree breaks the rule against the release before it.
 * @param {{ migrations: { tag: string, added: string[], removed: string[] }[], bound: string[] }} tree
 * @param {{ version: string, migrations: { tag: string, added: string[], removed: string[] }[], bound: string[] } | undefined} last
 * @returns {string[]}
 */
export function breaches({ migrations, bound }, last) {
  const found = [];
  const alive = classes(migrations);
  for (const name of bound) if (!alive.includes(name)) found.push(`${name} is bound, and no migration makes it`);
  // The first release is deployed whole: there is nothing to roll back to.
  if (!last) return found;
  for (const [at, old] of last.migrations.entries()) {
    if (JSON.stringify(migrations[at]) !== JSON.stringify(old)) {
      found.push(`the migration ${old.tag} is not as release ${last.version} shipped it: migrations are only added, at the end`);
    }
  }
  const shipped = classes(last.migrations);
  for (const name of bound.filter((one) => alive.includes(one) && !shipped.includes(one))) {
    found.push(
      `${name} is bound, and release ${last.version} did not ship it: a class ships empty, by its migration and its export, ` +
        "one release before it is bound",
    );
  }
  const removed = migrations.slice(last.migrations.length).flatMap((one) => one.removed);
  for (const name of removed.filter((one) => last.bound.includes(one))) {
    found.push(`${name} goes, and release ${last.version} still binds it: a binding goes one release before its class`);
  }
  return found;
}

/** The releases so far, of a repository that may have none. */
export function releases(root) {
  const path = join(root, RECORD);
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : [];
}

/** The newest release that nothing is rolled back beyond: the last one that brought a migration of objects. */
export function floor(all) {
  return all.findLast(({ migrations }, at) => at === 0 || migrations.length !== all[at - 1].migrations.length)?.version;
}

/** What `ops/releases.json` holds once the tree is released; throws where the tree breaks the rule. */
export function recorded(root, version) {
  const all = releases(root);
  const tree = objects(readFileSync(join(root, "wrangler.toml"), "utf8"));
  const wrong = breaches(tree, all.at(-1));
  if (wrong.length > 0) throw new Error(`wrangler.toml cannot be released: ${wrong.join("; ")}`);
  return `${JSON.stringify([...all, { version, ...tree }], null, 2)}\n`;
}
