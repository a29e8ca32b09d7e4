// Wrangler as a program: what it answers, and what it does in front of a person.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT, environment, run, wrangler } from "./tools.mjs";

/** How long an answer of Cloudflare's may take. */
const LIMIT_MS = 60_000;

/**
 * Runs wrangler without a person: what it has printed, and its exit code.
 * @param {string[]} args
 * @param {{ limitMs?: number }} [options]
 * @returns {Promise<{ code: number | null, out: string, err: string }>}
 */
export function ask(args, { limitMs = LIMIT_MS } = {}) {
  const [program, script] = wrangler();
  return new Promise((resolve, reject) => {
    const child = spawn(program, [script, ...args], {
      cwd: ROOT,
      // Without a terminal it asks nothing and colours nothing.
      env: { ...process.env, ...environment(), NO_COLOR: "1", FORCE_COLOR: "0" },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: limitMs,
    });
    const answer = { out: "", err: "" };
    child.stdout.on("data", (chunk) => (answer.out += chunk));
    child.stderr.on("data", (chunk) => (answer.err += chunk));
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, ...answer }));
  });
}

/** Why wrangler refused, on one line. */
export function reason({ out, err }) {
  const lines = `${err}\n${out}`.split("\n").map((line) => line.trim());
  const line = lines.find((one) => one.includes("[ERROR]")) ?? lines.find((one) => one !== "") ?? "no answer";
  return line.replace(/^.*\[ERROR\]\s*/, "").slice(0, 300);
}

/**
 * Runs wrangler in front of a person; rejects unless it ends well. Answers what it reports to programs, one object a line.
 * @param {string[]} args
 * @returns {Promise<Record<string, any>[]>}
 */
export async function act(args) {
  const [program, script] = wrangler();
  const folder = mkdtempSync(join(tmpdir(), "x402-wrangler-"));
  const path = join(folder, "report.jsonl");
  try {
    await run(program, [script, ...args], { env: { ...environment(), WRANGLER_OUTPUT_FILE_PATH: path } });
    let text = "";
    try {
      text = readFileSync(path, "utf8");
    } catch {
      // Not every command reports.
    }
    return text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * The configuration of an environment in wrangler.toml, or of its top, and the names of all environments.
 * @param {string} [name]
 * @param {string} [path]
 * @returns {Promise<Record<string, any>>}
 */
export async function configuration(name, path = join(ROOT, "wrangler.toml")) {
  // Needs a newer node than the scripts.
  const { unstable_readConfig: read } = await import("wrangler");
  return read({ config: path, env: name }, { hideWarnings: true });
}
