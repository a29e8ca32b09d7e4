// What the project needs on a machine, and where it lives. Only node's own modules.
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const CACHE = process.env.X402_EDGE_TOOLS ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "x402-edge");
const MODULES = join(ROOT, "node_modules");

export const say = (line) => process.stderr.write(`${line}\n`);

/** Runs a command; rejects unless it ends well. */
export function run(command, args, { env = {}, quiet = false, cwd = ROOT } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", quiet ? "pipe" : "inherit", quiet ? "pipe" : "inherit"],
    });
    let tail = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (chunk) => (tail = (tail + chunk).slice(-4000)));
    }
    child.once("error", reject);
    child.once("exit", (code) => {
      if (code === 0) resolve(tail);
      else reject(new Error(`${command} ${args.join(" ")} ended with ${code}\n${tail}`));
    });
  });
}

function has(command, args = ["--version"]) {
  try {
    execFileSync(command, args, { stdio: "ignore", cwd: ROOT });
    return true;
  } catch {
    return false;
  }
}

/** The version of a crate that Cargo.lock names. */
function locked(crate) {
  const lock = readFileSync(join(ROOT, "Cargo.lock"), "utf8");
  const found = lock.match(new RegExp(`name = "${crate}"\\nversion = "([^"]+)"`));
  if (!found) throw new Error(`${crate} is not in Cargo.lock`);
  return found[1];
}

/** Cargo-installed tools: name, version, program. */
const CARGO_TOOLS = {
  "worker-build": () => ["0.8.7", "worker-build"],
  // The one tool that must be of the locked crate's own version.
  "wasm-bindgen-cli": () => [locked("wasm-bindgen"), "wasm-bindgen"],
  "cargo-llvm-cov": () => ["0.9.1", "cargo-llvm-cov"],
  "cargo-deny": () => ["0.20.2", "cargo-deny"],
};

/** Where a cargo-installed tool's program is; installs it when it is missing. */
export async function cargoTool(name) {
  const [version, program] = CARGO_TOOLS[name]();
  const root = join(CACHE, `${name}-${version}`);
  const path = join(root, "bin", program);
  if (existsSync(path)) return path;
  say(`installing ${name} ${version} (once a machine; a few minutes) …`);
  const install = (extra) =>
    run("cargo", ["install", name, "--version", version, "--root", root, ...extra], { env: { RUSTFLAGS: "" } });
  // A registry mirror may lack a version that the tool's own lock names.
  await install(["--locked"]).catch(() => install([]));
  return path;
}

const PLATFORM = `${process.platform}-${process.arch}`;

/** The node that npm brought, new enough for wrangler; else the running one. */
export function node() {
  const path = join(MODULES, `node-${PLATFORM}`, "bin", "node");
  return existsSync(path) ? path : process.execPath;
}

/** What a child needs on its PATH: npm's binaries, the newer node first. */
export function environment() {
  const path = [join(MODULES, ".bin"), process.env.PATH].join(":");
  return { PATH: path, WRANGLER_SEND_METRICS: "false", NO_UPDATE_NOTIFIER: "1" };
}

/** What worker-build needs. */
export async function buildEnvironment() {
  return {
    ...environment(),
    WASM_BINDGEN_BIN: await cargoTool("wasm-bindgen-cli"),
    WASM_OPT_BIN: join(MODULES, ".bin", "wasm-opt"),
    ESBUILD_BIN: join(MODULES, "@esbuild", PLATFORM, "bin", "esbuild"),
  };
}

/** Wrangler as a command line. */
export const wrangler = () => [node(), join(MODULES, "wrangler", "bin", "wrangler.js")];

async function modules(folder, told) {
  const lock = readFileSync(join(folder, "package-lock.json"));
  const stamp = join(folder, "node_modules", ".x402-edge");
  const hash = createHash("sha256").update(lock).digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === hash) return;
  say(`installing ${told} …`);
  const flags = ["--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  // npm 11's `ci` refuses locks that lack other platforms' optional packages.
  await run("npm", ["ci", ...flags], { quiet: true }).catch(() => run("npm", ["install", ...flags, "--no-save"]));
  writeFileSync(stamp, hash);
}

/** The public x402 packages, which only tests and `npm run pay` need. */
export const peers = () => modules(join(ROOT, "tests", "peers"), "the public x402 packages");

/** Those of the protocol's version 1. */
export const firstPeers = () => modules(join(ROOT, "tests", "peers", "v1"), "the public x402 packages of version 1");

/** Packages of others that can name a facilitator. */
export const otherPeers = () => modules(join(ROOT, "tests", "peers", "others"), "other x402 packages");

/** Sets everything up; quick when it is done already. */
export async function setUp() {
  const missing = [["cargo", "rustup (https://rustup.rs)"], ["rustup", "rustup (https://rustup.rs)"], ["npm", "Node.js 20 or later with npm"]];
  const absent = missing.filter(([command]) => !has(command)).map(([, what]) => what);
  if (absent.length) throw new Error(`please install ${[...new Set(absent)].join(" and ")} first`);
  await modules(ROOT, "npm packages");
  const sysroot = execFileSync("rustc", ["--print", "sysroot"], { encoding: "utf8", cwd: ROOT }).trim();
  if (!existsSync(join(sysroot, "lib", "rustlib", "wasm32-unknown-unknown"))) {
    say("adding the wasm32 target …");
    await run("rustup", ["target", "add", "wasm32-unknown-unknown"]);
  }
  await cargoTool("worker-build");
  await cargoTool("wasm-bindgen-cli");
}

/** Runs this script again under npm's node, if that is newer than the running one. */
export async function underNewNode(script) {
  if (node() === process.execPath || process.env.X402_EDGE_NODE) return false;
  const args = [fileURLToPath(script), ...process.argv.slice(2)];
  const child = spawn(node(), args, { stdio: "inherit", env: { ...process.env, ...environment(), X402_EDGE_NODE: "1" } });
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
  process.exitCode = await new Promise((resolve) => child.once("exit", (code) => resolve(code ?? 1)));
  return true;
}

/** A Python with what a file of requirements names, in a virtual environment of its own; answers the interpreter. */
export async function python(name, requirements) {
  const folder = join(ROOT, ".venv", name);
  const interpreter = join(folder, "bin", "python");
  const stamp = join(folder, ".installed");
  const wanted = createHash("sha256").update(readFileSync(requirements)).digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return interpreter;
  if (!existsSync(interpreter)) await run("python3", ["-m", "venv", folder]);
  await run(interpreter, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements], { quiet: true });
  writeFileSync(stamp, wanted);
  return interpreter;
}
