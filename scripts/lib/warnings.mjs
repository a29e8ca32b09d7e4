// What a deployment should have, and may lack: its Worker starts without.
import { secretsOf } from "./deployed.mjs";
import { say } from "./tools.mjs";
import { configuration } from "./wrangler.mjs";

/**
 * The warnings about an environment.
 * @param {Record<string, unknown>} vars its variables in wrangler.toml
 * @param {string[]} [secrets] the names of its secrets; `undefined` where they are not known
 * @param {string} [name] that of the environment
 */
export function warnings(vars, secrets, name) {
  const has = (name) => Boolean(vars[name]) || Boolean(secrets?.includes(name));
  const known = secrets ? "is not set" : "is not in wrangler.toml, and whether it is a secret is not known";
  return [...mails({ vars, has, known }), ...billing({ vars, has, known, name })];
}

function mails({ vars, has, known }) {
  if (!has("MAIL_BACKEND") || vars.MAIL_BACKEND === "mailbox" || has("TURNSTILE_SECRET")) return [];
  return [`mails are sent, and TURNSTILE_SECRET ${known}: without it programs can ask for mails to any address (docs/sign-in.md)`];
}

/** The settings of Stripe: both or none, and in production those of the mode in which somebody pays. What a secret holds, nobody
 * reads here: the Worker itself holds it against STRIPE_MODE. */
function billing({ vars, has, known, name }) {
  const [key, webhook, wanted] = ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", String(vars.STRIPE_MODE ?? "")];
  const found = [];
  for (const [one, other] of [
    [key, webhook],
    [webhook, key],
  ]) {
    if (has(one) && !has(other)) found.push(`${one} is set, and ${other} ${known}: no plan is sold without both (docs/billing.md)`);
  }
  const [, mode] = /^[rs]k_(test|live)_/.exec(String(vars[key] ?? "")) ?? [];
  if (vars[key] || vars[webhook]) found.push("secrets of Stripe's stand in wrangler.toml: `npx wrangler secret put` keeps them out of it");
  if (mode && wanted && mode !== wanted) found.push(`${key} is a ${mode} key, and STRIPE_MODE is ${wanted}: no plan is sold`);
  if (name === "production" && has(key) && wanted !== "live") {
    const why = mode === "test" ? `${key} is a test key` : `STRIPE_MODE is not "live", and ${key} may be a test key`;
    found.push(`${why}: whoever knows Stripe's test cards has any plan for nothing (docs/billing.md)`);
  }
  return found;
}

/**
 * Prints the warnings about an environment of wrangler.toml.
 * @param {string} name
 * @param {{ asks?: boolean }} [options] `asks`: Cloudflare is asked which secrets there are
 */
export async function warn(name, { asks = true } = {}) {
  const { vars } = await configuration(name);
  const secrets = asks ? (await secretsOf(name)).known : undefined;
  for (const warning of warnings(vars, secrets, name)) say(`warning: ${name}: ${warning}`);
}
