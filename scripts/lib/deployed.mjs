// What Cloudflare holds of an environment, as far as wrangler answers.
import { ask, reason } from "./wrangler.mjs";

/** There is no Worker of that name. */
const ABSENT = /\[code: (10007|10090)\]|has no deployments|\bnot found\b/i;

const json = (text) => JSON.parse(text.slice(Math.max(0, text.search(/[[{]/))));

/**
 * Asks, and reads the answer; `unknown` says why it is not known.
 * @template T
 * @param {string[]} args
 * @param {(answer: any) => T} read
 * @param {{ absent?: RegExp, none?: T }} [options] `none` is the answer where wrangler's refusal matches `absent`
 * @returns {Promise<{ known: T, unknown?: undefined } | { known?: undefined, unknown: string }>}
 */
async function known(args, read, { absent, none } = {}) {
  const answer = await ask(args);
  if (answer.code === 0) {
    try {
      return { known: read(json(answer.out)) };
    } catch {
      return { unknown: "wrangler has answered what this script does not read" };
    }
  }
  if (absent?.test(answer.out + answer.err)) return { known: /** @type {any} */ (none) };
  return { unknown: reason(answer) };
}

/** The names of an environment's secrets. */
export function secretsOf(name) {
  const read = (listed) => listed.map((secret) => String(secret.name));
  return known(["secret", "list", "--format", "json", "--env", name], read, { absent: ABSENT, none: [] });
}

/** The names of the migrations that the directory has applied, in their order. */
export function appliedTo(name) {
  const args = ["d1", "execute", "DB", "--remote", "--json", "--command", "SELECT name FROM d1_migrations ORDER BY id", "--env", name];
  const read = ([{ results }]) => results.map((row) => String(row.name));
  return known(args, read, { absent: /no such table: d1_migrations/, none: [] });
}

/** The versions of the present deployment with their percentages; none where nothing is deployed. */
function versionsOf(name) {
  const read = ({ versions }) => versions.map((one) => ({ id: String(one.version_id), percentage: Number(one.percentage) }));
  return known(["deployments", "status", "--json", "--env", name], read, { absent: ABSENT, none: [] });
}

/**
 * What runs: the versions with their percentages, the tag of the last migration of objects, and the classes that they bind.
 * @typedef {{ versions: { id: string, percentage: number }[], tag: string | undefined, bound: string[] }} Deployed
 */
export async function deployedOf(name) {
  const versions = await versionsOf(name);
  if (versions.unknown !== undefined) return { unknown: versions.unknown };
  /** @type {Deployed} */
  const deployed = { versions: versions.known, tag: undefined, bound: [] };
  for (const { id } of versions.known) {
    const read = ({ resources }) => ({
      tag: resources.script_runtime?.migration_tag,
      bound: resources.bindings.filter(({ type }) => type === "durable_object_namespace").map((one) => String(one.class_name)),
    });
    const seen = await known(["versions", "view", id, "--json", "--env", name], read);
    if (seen.unknown !== undefined) return { unknown: seen.unknown };
    // All versions of a deployment are of one migration: Cloudflare applies it to the Worker, not to a version.
    deployed.tag ??= seen.known.tag;
    deployed.bound.push(...seen.known.bound.filter((one) => !deployed.bound.includes(one)));
  }
  return { known: deployed };
}

/** The point in the directory's history at which it is now. */
export function bookmarkOf(name) {
  return known(["d1", "time-travel", "info", "DB", "--json", "--env", name], ({ bookmark }) => String(bookmark));
}

/** The rules of a bucket that take objects out of it, or keep them in it, as wrangler lists them. */
export async function bucketRules(bucket) {
  const [lifecycle, lock] = await Promise.all([
    ask(["r2", "bucket", "lifecycle", "list", bucket]),
    ask(["r2", "bucket", "lock", "list", bucket]),
  ]);
  if (lifecycle.code !== 0 || lock.code !== 0) return { unknown: reason(lifecycle.code === 0 ? lock : lifecycle) };
  return { known: { lifecycle: lifecycle.out, lock: lock.out } };
}
