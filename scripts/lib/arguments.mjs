// The command lines of `npm run deploy`, `backup` and `restore`.
import { parseArgs } from "node:util";
import { say } from "./tools.mjs";
import { configuration } from "./wrangler.mjs";

/** Ends the process because of its command line. @returns {never} */
export function refuse(why, usage) {
  say(`${why}\nusage: ${usage}`);
  process.exit(2);
}

/**
 * The options of a command line, `env` checked against wrangler.toml.
 * @template {Record<string, { type: "string" | "boolean", short?: string, multiple?: boolean }>} T
 * @param {string[]} argv
 * @param {T} options
 * @param {string} usage
 */
export async function read(argv, options, usage) {
  let values;
  try {
    ({ values } = parseArgs({ args: argv, options: { env: { type: "string", short: "e" }, ...options } }));
  } catch (error) {
    refuse(error.message.split(". ")[0], usage);
  }
  const given = /** @type {Record<string, any>} */ (values);
  const { definedEnvironments: known } = await configuration(undefined, given.config);
  const name = given.env;
  if (name === undefined) refuse(`Which environment? --env ${known.join(" or ")}`, usage);
  if (!known.includes(name)) refuse(`wrangler.toml has no environment '${name}', only ${known.join(" and ")}`, usage);
  return /** @type {Record<string, any> & { env: string }} */ (given);
}
