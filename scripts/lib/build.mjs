// Builds the Worker, unless nothing has changed since: cargo, wasm-bindgen, in a release wasm-opt, and esbuild. This is
// what `worker-build` does; see docs/decisions/0008-the-build-is-a-script.md.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { step } from "./progress.mjs";
import { ESBUILD, ROOT, bindgen, cargo, environment, fingerprint, locked, run } from "./tools.mjs";

/** The largest Worker, gzipped: an alarm, some way below what the platform's free plan takes (3 MB). */
const GZIP_MAX = 2_900_000;

/** The version of the crate `worker` that the shim belongs to. */
const SHIM_VERSION = "0.8.7";
const SHIM = join("scripts", "lib", "worker-shim.js");

/** What decides the build's content. */
const SOURCES = [
  "src",
  "crates",
  "Cargo.toml",
  "Cargo.lock",
  "rust-toolchain.toml",
  "docs/reference/openapi.json",
  "scripts/bindgen",
  "scripts/lib/build.mjs",
  SHIM,
];

/** The kinds of build, each in a folder of its own: what is deployed and tested; what runs on this machine, built in a
 * fraction of the time; what is measured. */
const KINDS = {
  release: { folder: "build", profile: "release", optimise: true },
  local: { folder: "build-local", profile: "local" },
  bench: {
    folder: "build-bench",
    profile: "release",
    optimise: true,
    env: { RUSTFLAGS: "--cfg x402_bench", CARGO_TARGET_DIR: join(ROOT, "target", "bench") },
  },
};

/** What wasm-opt may use: what rustc does by default and what wasm-bindgen's catch wrappers need. Without the list it
 * emits encodings that workerd does not know. */
const FEATURES = [
  "mutable-globals",
  "sign-ext",
  "nontrapping-float-to-int",
  "bulk-memory",
  "multivalue",
  "reference-types",
  "exception-handling",
];

/** Methods of the entrypoint that get the environment and the context. */
const HANDLERS = ["fetch", "scheduled", "queue", "email", "connect"];
/** Functions that only the shim calls. */
const SYSTEM = ["__wbg_reset_state", "__worker_init_state", "report_panic"];

const wanted = (kind) => `${kind} ${fingerprint(SOURCES)}`;

function isCurrent(kind, stamp) {
  const path = join(ROOT, KINDS[kind].folder, ".fingerprint");
  return existsSync(path) && readFileSync(path, "utf8") === stamp;
}

/** The folder of a current build that serves for `kind`: a release serves on this machine as well. */
function current(kind) {
  const serves = kind === "local" ? ["release", "local"] : [kind];
  const found = serves.find((one) => isCurrent(one, wanted(one)));
  return found && join(ROOT, KINDS[found].folder);
}

/** The commit that reports of errors name; nothing where there is no repository. */
function commit() {
  try {
    const found = execFileSync("git", ["rev-parse", "--short=12", "HEAD"], { cwd: ROOT, encoding: "utf8", stdio: "pipe" });
    return { X402_EDGE_COMMIT: found.trim() };
  } catch {
    return {};
  }
}

/** Compiles the Worker; answers the path of the WebAssembly. */
async function compiled(kind, note) {
  const { profile, env = kind === "release" ? commit() : undefined } = KINDS[kind];
  const args = ["build", "--lib", "--locked", "--target", "wasm32-unknown-unknown", "--profile", profile];
  const lines = await cargo([...args, "--message-format", "json-render-diagnostics"], { env, note });
  for (const line of lines) {
    if (!line.startsWith("{")) continue;
    const { reason, target, filenames } = JSON.parse(line);
    if (reason !== "compiler-artifact" || !target.kind.includes("cdylib")) continue;
    const wasm = filenames.find((name) => name.endsWith(".wasm"));
    if (wasm) return wasm;
  }
  throw new Error("cargo built no WebAssembly");
}

const kindOf = ({ bench = false, local = false }) => (bench ? "bench" : local ? "local" : "release");

/** Compiles the Worker ahead of its build: it needs nothing but Rust. */
export async function compile(which = {}) {
  const kind = kindOf(which);
  if (!current(kind)) await step("the Worker's crates", (note) => compiled(kind, note));
}

/** The shim for what wasm-bindgen exports in `script`. */
function shim(script) {
  const functions = [...script.matchAll(/^export (?:async )?function (\w+)|^export \{.*? as (\w+)/gm)].map(
    ([, name, renamed]) => name ?? renamed,
  );
  const methods = functions
    .filter((name) => !SYSTEM.includes(name))
    .map((name) =>
      HANDLERS.includes(name)
        ? `Entrypoint.prototype.${name} = function ${name}(arg) { return exports.${name}.call(this, arg, this.env, this.ctx); };`
        : `Entrypoint.prototype.${name} = exports.${name};`,
    );
  const classes = [...script.matchAll(/^export class (\w+)/gm)].map(
    ([, name]) => `export const ${name} = new Proxy(exports.${name}, classProxyHooks);`,
  );
  const text = readFileSync(join(ROOT, SHIM), "utf8");
  return [text.replace(/^\$HANDLERS;?$/m, () => methods.join("\n")), ...classes, ""].join("\n");
}

/** Makes `index.js` and `index_bg.wasm` of what cargo has built, in `folder`. */
async function assemble(wasm, folder, optimise) {
  await run(await bindgen(), [wasm, folder], { quiet: true });
  const [script, module] = [join(folder, "index.js"), join(folder, "index_bg.wasm")];
  if (optimise) {
    const flags = ["-O", ...FEATURES.map((name) => `--enable-${name}`), "--debuginfo"];
    await step("wasm-opt", () => run("wasm-opt", [module, "-o", module, ...flags], { env: environment(), quiet: true }));
  }
  writeFileSync(join(folder, "shim.js"), shim(readFileSync(script, "utf8")));
  const external = ["--external:./index_bg.wasm", "--external:cloudflare:*"];
  const bundle = ["./shim.js", "--bundle", "--minify", "--format=esm", "--outfile=index.js", "--allow-overwrite"];
  await run(ESBUILD, [...bundle, ...external], { cwd: folder, quiet: true });
  // Workerd has no `import source`: its import of a module is one already.
  writeFileSync(script, readFileSync(script, "utf8").replaceAll("import source ", "import "));
}

/** Builds the Worker: a release, `local` for this machine, or `bench`; answers the folder. */
export async function build(which = {}) {
  const kind = kindOf(which);
  const done = current(kind);
  if (done) return done;
  if (locked("worker") !== SHIM_VERSION) {
    throw new Error(
      `${SHIM} is of worker ${SHIM_VERSION} and Cargo.lock has ${locked("worker")}: compare it and the flags in ` +
        "scripts/bindgen/src/main.rs with the worker-build of that version, then change SHIM_VERSION",
    );
  }
  const stamp = wanted(kind);
  const { folder: name, optimise } = KINDS[kind];
  const folder = join(ROOT, name);
  await step(`the Worker (${kind})`, async (note) => {
    const wasm = await compiled(kind, note);
    note("");
    mkdirSync(folder, { recursive: true });
    const staging = mkdtempSync(join(folder, ".new-"));
    try {
      await assemble(wasm, staging, optimise);
      rmSync(join(folder, ".fingerprint"), { force: true });
      for (const file of ["index_bg.wasm", "index.js"]) renameSync(join(staging, file), join(folder, file));
      writeFileSync(join(folder, ".fingerprint"), stamp);
    } finally {
      rmSync(staging, { recursive: true, force: true });
    }
  });
  return folder;
}

/** The Worker's size; throws above the budget. */
export function size(folder = join(ROOT, "build")) {
  const wasm = readFileSync(join(folder, "index_bg.wasm"));
  const script = readFileSync(join(folder, "index.js"));
  const gzip = gzipSync(wasm).length + gzipSync(script).length;
  const found = `the Worker is ${wasm.length + script.length} bytes, ${gzip} gzipped`;
  if (gzip > GZIP_MAX) throw new Error(`${found}: more than ${GZIP_MAX}`);
  return found;
}
