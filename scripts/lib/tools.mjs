// What the project needs on a machine, and where it lives. Only node's own modules.
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { say, step } from "./progress.mjs";

export { say };

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
/** Where tools are kept that all checkouts of this machine share. */
export const CACHE = process.env.X402_EDGE_TOOLS ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "x402-edge");
const MODULES = join(ROOT, "node_modules");

/** The children that run: none outlives this process. */
const children = new Set();
process.once("exit", () => {
  for (const child of children) child.kill();
});

/** So much of a failed command's output is shown. */
const TAIL = 16_000;

/**
 * Runs a command; rejects unless it ends well. Answers the end of its output when it is quiet.
 * @param {string} command
 * @param {string[]} args
 * @param {{
 *   env?: Record<string, string>, quiet?: boolean, cwd?: string, stdout?: (chunk: Buffer) => void,
 *   stderr?: (chunk: string) => string,
 * }} [options] `stdout` and `stderr` get the chunks of a quiet command; the latter answers what of them is kept
 */
export function run(command, args, { env = {}, quiet = false, cwd = ROOT, stdout, stderr } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", quiet ? "pipe" : "inherit", quiet ? "pipe" : "inherit"],
    });
    children.add(child);
    let tail = "";
    const keep = (chunk) => (tail = (tail + chunk).slice(-TAIL));
    child.stdout?.on("data", stdout ?? keep);
    child.stderr?.on("data", (chunk) => keep(stderr ? stderr(String(chunk)) : chunk));
    child.once("error", reject);
    child.once("close", (code, signal) => {
      children.delete(child);
      if (code === 0) resolve(tail);
      else reject(new Error(`${command} ${args.join(" ")} ended with ${code ?? signal}\n${tail}`));
    });
  });
}

/** Cargo's progress bar, which it rewrites on one line. */
const BAR = /^ +(?:Building|Downloading|Fetch|Updating) \[[^\]]*\](?: +(\d+)\/(\d+))?[^\r\n]*[\r\n]?/gm;

/**
 * Runs cargo; `note` gets how many crates are done. Answers the lines of its standard output.
 * @param {string[]} args
 * @param {{ env?: Record<string, string>, note?: (text: string) => void, cwd?: string }} [options]
 */
export async function cargo(args, { env = {}, note = () => {}, ...more } = {}) {
  let printed = "";
  const stderr = (chunk) => {
    const text = chunk.replaceAll("\r", "\n");
    for (const [, done, all] of text.matchAll(BAR)) if (all) note(`${done} of ${all} crates`);
    const [, downloading] = text.match(/Downloading (\d+ crates)/) ?? [];
    if (downloading) note(`downloading ${downloading}`);
    return text.replaceAll(BAR, "");
  };
  await run("cargo", args, {
    env: { CARGO_TERM_PROGRESS_WHEN: "always", CARGO_TERM_PROGRESS_WIDTH: "100", ...env },
    quiet: true,
    stdout: (chunk) => (printed += chunk),
    stderr,
    ...more,
  });
  return printed.split("\n");
}

function has(command, args = ["--version"]) {
  try {
    execFileSync(command, args, { stdio: "ignore", cwd: ROOT });
    return true;
  } catch {
    return false;
  }
}

/** The version of a crate that a Cargo.lock names; the repository's unless another is given. */
export function locked(crate, path = join(ROOT, "Cargo.lock")) {
  const found = readFileSync(path, "utf8").match(new RegExp(`name = "${crate}"\nversion = "([^"]+)"`));
  if (!found) throw new Error(`${crate} is not in ${path}`);
  return found[1];
}

/** Every file below a path, in order. */
export function* filesBelow(path) {
  if (!existsSync(path)) return;
  if (statSync(path).isFile()) yield path;
  else for (const name of readdirSync(path).sort()) yield* filesBelow(join(path, name));
}

/** A hash of files by their paths in the repository and their content: the same in every checkout. */
export function fingerprint(paths, ...more) {
  const hash = createHash("sha256").update(more.join("\0"));
  for (const path of paths) {
    for (const file of filesBelow(join(ROOT, path))) hash.update(relative(ROOT, file)).update(readFileSync(file));
  }
  return hash.digest("hex");
}

/** How tools are compiled: unoptimised, in a third of the time. They run for seconds. */
const TOOL_PROFILE = { RUSTFLAGS: "", CARGO_PROFILE_DEV_DEBUG: "0", CARGO_PROFILE_DEV_INCREMENTAL: "false" };

/** Cargo-installed tools: their versions. A tool is its package's only program. */
const CARGO_TOOLS = { "cargo-llvm-cov": "0.9.1", "cargo-deny": "0.20.2" };

/** Installs a program of cargo's once a machine; answers its path. */
async function installed(name, folder, args) {
  const root = join(CACHE, folder);
  const path = join(root, "bin", name);
  if (existsSync(path)) return path;
  const target = join(CACHE, "target", folder);
  const install = (extra, note) =>
    cargo(["install", "--debug", ...args, "--root", root, "--target-dir", target, ...extra], { env: TOOL_PROFILE, note });
  await step(name, async (note) => {
    // A registry mirror may lack a version that the tool's own lock names.
    await install(["--locked"], note).catch(() => install([], note));
  });
  rmSync(target, { recursive: true, force: true });
  return path;
}

/** Where a cargo-installed tool's program is; installs it when it is missing. */
export const cargoTool = (name) => {
  const version = CARGO_TOOLS[name];
  return installed(name, `${name}-${version}`, [name, "--version", version]);
};

/** Our own wasm-bindgen, which must be of the locked crate's version; compiled when it is missing. */
export function bindgen() {
  const folder = join("scripts", "bindgen");
  const [own, wanted] = [locked("wasm-bindgen-cli-support", join(ROOT, folder, "Cargo.lock")), locked("wasm-bindgen")];
  if (own !== wanted) {
    throw new Error(`${folder} is of wasm-bindgen ${own} and Cargo.lock has ${wanted}: set ${wanted} in ${folder}/Cargo.toml`);
  }
  const files = ["src", "Cargo.toml", "Cargo.lock"].map((name) => join(folder, name));
  return installed("bindgen", `bindgen-${fingerprint(files).slice(0, 16)}`, ["--path", folder]);
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

/** esbuild's program, which wrangler brings. */
export const ESBUILD = join(MODULES, "@esbuild", PLATFORM, "bin", "esbuild");

/** Wrangler as a command line. */
export const wrangler = () => [node(), join(MODULES, "wrangler", "bin", "wrangler.js")];

async function modules(folder, what) {
  const lock = readFileSync(join(folder, "package-lock.json"));
  const stamp = join(folder, "node_modules", ".x402-edge");
  const hash = createHash("sha256").update(lock).digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === hash) return;
  const flags = ["--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  // npm 11's `ci` refuses locks that lack other platforms' optional packages.
  await step(what, () =>
    run("npm", ["ci", ...flags], { quiet: true }).catch(() => run("npm", ["install", ...flags, "--no-save"], { quiet: true })),
  );
  writeFileSync(stamp, hash);
}

/** The public x402 packages, which only tests and `npm run pay` need. */
export const peers = () => modules(join(ROOT, "tests", "peers"), "the public x402 packages");

/** Those of the protocol's version 1. */
export const firstPeers = () => modules(join(ROOT, "tests", "peers", "v1"), "the public x402 packages of version 1");

/** Packages of others that can name a facilitator. */
export const otherPeers = () => modules(join(ROOT, "tests", "peers", "others"), "other x402 packages");

/** Sentry's receiver for development. */
export const spotlight = () => modules(join(ROOT, "tests", "peers", "spotlight"), "Spotlight");

/** Sets everything up; quick when it is done already. `beside` is work that needs only Rust's toolchain. */
export async function setUp({ beside = async () => {} } = {}) {
  const missing = [
    ["cargo", "rustup (https://rustup.rs)"],
    ["rustup", "rustup (https://rustup.rs)"],
    ["npm", "Node.js 20 or later with npm"],
  ];
  const absent = missing.filter(([command]) => !has(command)).map(([, what]) => what);
  if (absent.length) throw new Error(`please install ${[...new Set(absent)].join(" and ")} first`);
  const sysroot = execFileSync("rustc", ["--print", "sysroot"], { encoding: "utf8", cwd: ROOT }).trim();
  if (!existsSync(join(sysroot, "lib", "rustlib", "wasm32-unknown-unknown"))) {
    await step("Rust's wasm32 target", () => run("rustup", ["target", "add", "wasm32-unknown-unknown"], { quiet: true }));
  }
  await Promise.all([modules(ROOT, "npm packages"), bindgen(), beside()]);
}

/** Runs this script again under npm's node, if that is newer than the running one. */
export async function underNewNode(script) {
  if (node() === process.execPath || process.env.X402_EDGE_NODE) return false;
  const args = [fileURLToPath(script), ...process.argv.slice(2)];
  const child = spawn(node(), args, { stdio: "inherit", env: { ...process.env, ...environment(), X402_EDGE_NODE: "1" } });
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM"])) process.on(signal, () => child.kill(signal));
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
  await step(`Python packages (${name})`, async () => {
    if (!existsSync(interpreter)) await run("python3", ["-m", "venv", folder], { quiet: true });
    const install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements];
    await run(interpreter, install, { quiet: true });
  });
  writeFileSync(stamp, wanted);
  return interpreter;
}

/** What wheels must be built for to run in npm's Pyodide 314. */
const PYODIDE = ["--python-version", "3.14", "--implementation", "cp", "--abi", "cp314", "--abi", "none"];
const PYODIDE_PLATFORMS = ["--platform", "pyemscripten_2026_0_wasm32", "--platform", "any"];

/** Wheels for Pyodide that a file of requirements names with their hashes, unpacked; answers the folder of modules. */
export async function pythonWheels(name, requirements) {
  const folder = join(ROOT, ".venv", name);
  const modules = join(folder, "site");
  const stamp = join(folder, ".installed");
  const wanted = createHash("sha256").update(readFileSync(requirements)).digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return modules;
  await step(`Python packages (${name})`, async () => {
    rmSync(folder, { recursive: true, force: true });
    await run("python3", ["-m", "venv", folder], { quiet: true });
    const interpreter = join(folder, "bin", "python");
    const wheels = join(folder, "wheels");
    const what = ["--no-deps", "--only-binary=:all:", "--require-hashes", ...PYODIDE, ...PYODIDE_PLATFORMS, "-r", requirements];
    const options = ["--quiet", "--disable-pip-version-check", "--dest", wheels];
    await run(interpreter, ["-m", "pip", "download", ...options, ...what], { quiet: true });
    // A wheel is an archive of modules. pip itself does not install for another platform from a file of hashes.
    for (const wheel of filesBelow(wheels)) await run(interpreter, ["-m", "zipfile", "-e", wheel, modules], { quiet: true });
    rmSync(wheels, { recursive: true });
  });
  writeFileSync(stamp, wanted);
  return modules;
}

/** Where a program that a Python package brings is; `requirements` names the package of the same name. */
export async function pythonTool(name, requirements) {
  return join(dirname(await python(name, requirements)), name);
}
