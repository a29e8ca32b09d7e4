// A trial of a build on this machine: which classes it exports, and whether it starts with an environment's settings. Where a secret
// is set at Cloudflare, a specimen of its form takes its place: nobody reads the secret itself.
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** The names that the build's module exports. */
export async function exportsOf(folder) {
  const { build } = await import("esbuild");
  const { metafile } = await build({
    entryPoints: [join(folder, "index.js")],
    outdir: join(folder, "never-written"),
    format: "esm",
    bundle: false,
    write: false,
    metafile: true,
    logLevel: "silent",
  });
  return Object.values(metafile.outputs).flatMap((output) => output.exports);
}

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/** A key pair of Solana's, made for the trial. */
function keyPair() {
  const { privateKey } = generateKeyPairSync("ed25519");
  const { d = "", x = "" } = privateKey.export({ format: "jwk" });
  let number = BigInt(`0x${Buffer.concat([Buffer.from(d, "base64url"), Buffer.from(x, "base64url")]).toString("hex")}`);
  let text = "";
  for (; number > 0n; number /= 58n) text = ALPHABET[Number(number % 58n)] + text;
  // Each zero byte in front is a letter of its own.
  return Buffer.from(d, "base64url").findIndex((byte) => byte !== 0) === 0 ? text : keyPair();
}

const WHSEC = `whsec_${"A".repeat(32)}`;

/** A value of the form that a secret must have. */
export function specimen(name, vars = {}) {
  if (name === "KEY_PEPPERS") return "01".repeat(32);
  if (name === "OPERATOR_ALERT_URL" || name.startsWith("RPC_")) return "https://example.com/";
  if (name.startsWith("EVM_SIGNERS_")) return "11".repeat(32);
  if (name.startsWith("SOLANA_SIGNERS_")) return keyPair();
  if (name === "RESEND_API_KEY") return "re_specimen";
  if (name.endsWith("_WEBHOOK_SECRET")) return WHSEC;
  if (name === "STRIPE_SECRET_KEY") return `sk_${vars.STRIPE_MODE === "live" ? "live" : "test"}_specimen`;
  if (name === "SENTRY_DSN") return "https://specimen@sentry.example/1";
  return "specimen".repeat(5);
}

/**
 * Starts a build with an environment's bindings and settings: what it says against them.
 * @param {string} folder
 * @param {Record<string, any>} config
 * @param {string[]} secrets the names of those that are set
 * @returns {Promise<string[]>}
 */
export async function trial(folder, config, secrets) {
  // Needs a newer node than the scripts.
  const { Miniflare, convertV4MiniflareOptions } = await import("miniflare");
  const objects = config.durable_objects.bindings.map(({ name, class_name: className }) => [name, { className, useSQLite: true }]);
  /** @type {any} Miniflare 4's own type wants one form of `modules` by literal. */
  const options = {
    modules: [
      { type: "ESModule", path: join(folder, "index.js"), contents: readFileSync(join(folder, "index.js"), "utf8") },
      { type: "CompiledWasm", path: join(folder, "index_bg.wasm"), contents: readFileSync(join(folder, "index_bg.wasm")) },
    ],
    modulesRoot: folder,
    compatibilityDate: config.compatibility_date,
    compatibilityFlags: config.compatibility_flags,
    host: "127.0.0.1",
    port: 0,
    d1Databases: Object.fromEntries(config.d1_databases.map(({ binding }) => [binding, binding])),
    durableObjects: Object.fromEntries(objects),
    r2Buckets: Object.fromEntries(config.r2_buckets.map(({ binding }) => [binding, "trial"])),
    bindings: { ...config.vars, ...Object.fromEntries(secrets.map((name) => [name, specimen(name, config.vars)])) },
    handleStructuredLogs: () => {},
  };
  const mf = new Miniflare(convertV4MiniflareOptions(options));
  try {
    // A route that reads its settings and nothing else.
    const answer = await fetch(new URL("/v1/pricing", await mf.ready));
    if (answer.ok) return [];
    const { detail = `it answers ${answer.status}` } = /** @type {any} */ (await answer.json());
    return detail.replace(/^the service's settings are wrong: /, "").split("; ");
  } catch (error) {
    return [`it does not start: ${error.message.split("\n")[0]}`];
  } finally {
    await mf.dispose();
  }
}
