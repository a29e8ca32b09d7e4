// What must hold before a deployment: pure, over what wrangler.toml says and Cloudflare answers. A mistake stops a deployment, a
// warning does not.
import { changes, classes } from "./releases.mjs";

/** @typedef {{ level: "mistake" | "warning", text: string }} Finding */

/** @type {(text: string) => Finding} */
const mistake = (text) => ({ level: "mistake", text });
/** @type {(text: string) => Finding} */
const warning = (text) => ({ level: "warning", text });

/**
 * The settings that `docs/reference/settings.md` lists, which is generated from the code.
 * @param {string} text
 */
export function settingsOf(text) {
  const rows = [...text.matchAll(/^\| `([A-Z0-9_<>]+)` \| (yes|no) \| (yes|no) \|/gm)];
  return rows.map(([, name, secret, required]) => ({ name, isSecret: secret === "yes", isRequired: required === "yes" }));
}

/** The row of a setting by its name; `<CHAIN>` in a row stands for any. */
const rowOf = (table, name) => table.find((row) => new RegExp(`^${row.name.replace("<CHAIN>", "[A-Z0-9_]+")}$`).test(name));

/**
 * Settings and secrets by their names.
 * @param {{
 *   table: { name: string, isSecret: boolean, isRequired: boolean }[], vars: Record<string, unknown>,
 *   secrets: string[] | undefined, name: string,
 * }} given `secrets` is undefined where nobody was asked
 */
export function checkSettings({ table, vars, secrets, name }) {
  const found = [];
  for (const setting of Object.keys(vars)) {
    const row = rowOf(table, setting);
    if (!row) found.push(mistake(`${setting} in wrangler.toml is no setting of this build (docs/reference/settings.md)`));
    else if (row.isSecret)
      found.push(mistake(`${setting} is a secret, and stands in wrangler.toml: \`npx wrangler secret put\` keeps it out`));
    if (secrets?.includes(setting)) found.push(mistake(`${setting} is both a secret and in wrangler.toml: Cloudflare takes one of them`));
  }
  if (!secrets) return found;
  for (const row of table.filter(({ isRequired }) => isRequired)) {
    if (secrets.includes(row.name) || (!row.isSecret && row.name in vars)) continue;
    found.push(mistake(`${row.name} is not set: \`npx wrangler secret put ${row.name} --env ${name}\``));
  }
  for (const secret of secrets.filter((one) => !rowOf(table, one))) {
    found.push(warning(`the secret ${secret} is no setting of this build`));
  }
  return found;
}

/** The kinds of bindings: where a configuration holds them, the member with the binding's name, and that with the resource's, of
 * which each environment has its own. */
const KINDS = [
  { list: (config) => config.d1_databases, key: "binding", own: "database_name" },
  { list: (config) => config.durable_objects?.bindings, key: "name", own: undefined },
  { list: (config) => config.r2_buckets, key: "binding", own: "bucket_name" },
  { list: (config) => config.queues?.producers, key: "binding", own: "queue" },
  { list: (config) => config.send_email, key: "name", own: undefined },
  { list: (config) => config.ratelimits, key: "name", own: "namespace_id" },
  { list: (config) => config.kv_namespaces, key: "binding", own: "id" },
  { list: (config) => config.services, key: "binding", own: undefined },
];
const ZEROS = /^[0-]*$/;

/**
 * The bindings of an environment against those of the top, which the tests run with, and of the other environments.
 * @param {{ name: string, config: Record<string, any>, top: Record<string, any>, others: Record<string, Record<string, any>> }} given
 */
export function checkBindings({ name, config, top, others }) {
  const found = [];
  for (const { list, key, own } of KINDS) {
    const bound = list(config) ?? [];
    for (const binding of list(top) ?? []) {
      if (!bound.some((one) => one[key] === binding[key])) found.push(mistake(`[env.${name}] lacks the binding ${binding[key]}`));
    }
    if (!own) continue;
    for (const [other, its] of Object.entries({ "the top of wrangler.toml": top, ...others })) {
      const shared = bound.filter((one) => (list(its) ?? []).some((two) => one[own] !== undefined && two[own] === one[own]));
      for (const one of shared) found.push(mistake(`[env.${name}] shares ${one[key]} (${own} ${one[own]}) with ${other}`));
    }
  }
  for (const { binding, database_id: id } of config.d1_databases ?? []) {
    if (ZEROS.test(id ?? "")) {
      found.push(mistake(`[env.${name}] has no database_id for ${binding}: \`npx wrangler d1 create\` prints it (README, Deploy)`));
    }
    const sharing = Object.entries(others).filter(([, its]) => its.d1_databases?.some((one) => one.database_id === id));
    for (const [other] of sharing) if (!ZEROS.test(id ?? "")) found.push(mistake(`[env.${name}] has the database_id of ${other}`));
  }
  const read = (config.queues?.consumers ?? []).map(({ queue }) => queue);
  for (const { queue } of config.queues?.producers ?? []) {
    if (!read.includes(queue)) found.push(mistake(`[env.${name}] has no consumer of the queue ${queue}`));
  }
  return found;
}

/**
 * The directory's migrations: numbered without gaps, and what is applied is a prefix of them.
 * @param {string[]} files
 * @param {string[] | undefined} applied
 */
export function checkMigrations(files, applied) {
  const found = [];
  const sorted = [...files].sort();
  for (const [at, file] of sorted.entries()) {
    if (Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(file)?.[1]) !== at + 1) {
      found.push(mistake(`migrations/${file} is not number ${String(at + 1).padStart(4, "0")}`));
      break;
    }
  }
  for (const [at, one] of (applied ?? []).entries()) {
    if (one === sorted[at]) continue;
    const why = sorted.includes(one)
      ? `the directory has applied ${one} as number ${at + 1}, before ${sorted[at]}`
      : `the directory has applied ${one}, which this checkout lacks: a newer one has migrated it`;
    found.push(mistake(why));
    break;
  }
  return found;
}

/** The directory's migrations that are not applied. */
export const pending = (files, applied) => [...files].sort().filter((file) => !applied.includes(file));

/**
 * The classes of objects: those that are bound are made by a migration and exported by the build, and what is deployed is no newer.
 * @param {{
 *   config: Record<string, any>, exported?: string[],
 *   deployed?: { versions: { id: string, percentage: number }[], tag: string | undefined, bound: string[] },
 * }} given
 */
export function checkObjects({ config, exported, deployed }) {
  const found = [];
  const migrations = (config.migrations ?? []).map(changes);
  const alive = classes(migrations);
  const bound = (config.durable_objects?.bindings ?? []).map((one) => String(one.class_name));
  for (const name of bound) if (!alive.includes(name)) found.push(mistake(`${name} is bound, and no migration makes it`));
  for (const name of exported ? alive.filter((one) => !exported.includes(one)) : []) {
    found.push(mistake(`a migration makes the class ${name}, and the build does not export it`));
  }
  if (!deployed?.versions.length) return found;
  const { fresh, isNewer } = ahead(migrations, deployed);
  if (isNewer) {
    found.push(
      mistake(`what is deployed has the migration ${deployed.tag} of objects, which this checkout lacks: a newer one was deployed`),
    );
    return found;
  }
  const lost = deployed.bound.filter((name) => !alive.includes(name));
  for (const name of lost) found.push(mistake(`what is deployed binds ${name}, which a migration takes away with all its data`));
  const early = fresh.flatMap(({ added }) => added).filter((name) => bound.includes(name));
  if (early.length > 0 && deployed.bound.length > 0) {
    const what = `${early.join(", ")} is added and used by the same deployment`;
    found.push(warning(`${what}: if it fails, nothing can be rolled back (docs/operate/rollout.md)`));
  }
  return found;
}

/** The migrations of objects that what is deployed lacks; `isNewer` where it has one that is not among ours. */
export function ahead(migrations, { tag }) {
  const at = migrations.findIndex((one) => one.tag === tag);
  if (tag !== undefined && at < 0) return { fresh: [], isNewer: true };
  return { fresh: migrations.slice(at + 1), isNewer: false };
}

/**
 * The rules of the archive's bucket. Records are kept until their tenant is deleted, and are then deleted at once.
 * @param {string} bucket
 * @param {{ lifecycle: string, lock: string }} rules as wrangler lists them
 */
export function checkBucket(bucket, { lifecycle, lock }) {
  const found = [];
  if (/Expire objects/.test(lifecycle)) {
    found.push(
      warning(`a lifecycle rule of ${bucket} deletes records, which are kept until their tenant is deleted (docs/operate/backup.md)`),
    );
  }
  if (/^\s*name:/m.test(lock)) {
    found.push(
      warning(
        `a lock rule of ${bucket} keeps records from being archived again after a fault, and from being erased (docs/operate/backup.md)`,
      ),
    );
  }
  return found;
}
