// Reads what checks.mjs wants to know of an environment: from this checkout, and from Cloudflare.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ahead, checkBindings, checkBucket, checkMigrations, checkObjects, checkSettings, pending, settingsOf } from "./checks.mjs";
import { appliedTo, bucketRules, deployedOf, secretsOf } from "./deployed.mjs";
import { changes } from "./releases.mjs";
import { ROOT, say } from "./tools.mjs";
import { warnings } from "./warnings.mjs";
import { configuration } from "./wrangler.mjs";

/** @typedef {import("./checks.mjs").Finding} Finding */

/** The settings of this build. */
export const settings = () => settingsOf(readFileSync(join(ROOT, "docs", "reference", "settings.md"), "utf8"));

/** The files of the directory's migrations. */
export const migrationFiles = () => readdirSync(join(ROOT, "migrations")).filter((name) => name.endsWith(".sql"));

/** What Cloudflare answers about an environment; `unknown` holds why something is not known. */
async function asked(name, config) {
  const bucket = config.r2_buckets?.[0]?.bucket_name;
  const [secrets, applied, deployed, rules] = await Promise.all([
    secretsOf(name),
    appliedTo(name),
    deployedOf(name),
    bucket ? bucketRules(bucket) : { known: undefined, unknown: undefined },
  ]);
  return { secrets, applied, deployed, rules, bucket };
}

/**
 * Everything that is found about an environment, and what was read for it.
 * @param {string} name
 * @param {{ asks: boolean }} options `asks`: Cloudflare is asked
 */
export async function inspect(name, { asks }) {
  const [config, top] = await Promise.all([configuration(name), configuration()]);
  const environments = /** @type {string[]} */ (config.definedEnvironments ?? []);
  const others = {};
  for (const other of environments.filter((one) => one !== name)) others[`[env.${other}]`] = await configuration(other);
  const answers = asks ? await asked(name, config) : undefined;
  const [secrets, applied, deployed] = [answers?.secrets.known, answers?.applied.known, answers?.deployed.known];
  const files = migrationFiles();
  /** @type {Finding[]} */
  const findings = [
    ...checkSettings({ table: settings(), vars: config.vars, secrets, name }),
    ...checkBindings({ name, config, top, others }),
    ...checkMigrations(files, applied),
    ...checkObjects({ config, deployed }),
    ...warnings(config.vars, secrets, name).map((text) => ({ level: /** @type {const} */ ("warning"), text })),
  ];
  if (answers) {
    const asking = /** @type {const} */ ({ secrets: "secrets", applied: "migrations of the directory", deployed: "deployment" });
    for (const [key, what] of Object.entries(asking)) {
      const { unknown } = answers[key];
      if (unknown) findings.push({ level: "mistake", text: `the ${what} cannot be read: ${unknown}` });
    }
    const { rules, bucket } = answers;
    if (rules.known) findings.push(...checkBucket(bucket, rules.known));
    else if (bucket) findings.push({ level: "warning", text: `the rules of the bucket ${bucket} cannot be read: ${rules.unknown}` });
  }
  const fresh = deployed ? ahead((config.migrations ?? []).map(changes), deployed).fresh : undefined;
  return { name, config, findings, secrets, deployed, fresh, pending: applied && pending(files, applied) };
}

/** Prints findings; whether none of them is a mistake. */
export function report(name, findings) {
  for (const { level, text } of findings) say(`${level}: ${name}: ${text}`);
  return findings.every(({ level }) => level !== "mistake");
}
