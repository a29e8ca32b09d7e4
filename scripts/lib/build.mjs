// Builds the Worker, unless nothing has changed since.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { gzipSync } from "node:zlib";
import { ROOT, buildEnvironment, cargoTool, run, say } from "./tools.mjs";

/** The largest Worker, gzipped: the alarm far below the platform's own limit. */
const GZIP_MAX = 1536 * 1024;

const SOURCES = ["src", "crates", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "docs/reference/openapi.json"];

function* files(path) {
  if (!existsSync(path)) return;
  if (statSync(path).isFile()) yield path;
  else for (const name of readdirSync(path).sort()) yield* files(join(path, name));
}

function fingerprint(bench) {
  const hash = createHash("sha256").update(bench ? "bench" : "");
  for (const source of SOURCES) {
    for (const file of files(join(ROOT, source))) hash.update(relative(ROOT, file)).update(readFileSync(file));
  }
  return hash.digest("hex");
}

/** Builds into `build/`, or the benchmark's build into `build-bench/`; answers the folder. */
export async function build({ bench = false } = {}) {
  const folder = join(ROOT, bench ? "build-bench" : "build");
  const stamp = join(folder, ".fingerprint");
  const wanted = fingerprint(bench);
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return folder;
  say(`building the Worker${bench ? " for the benchmark" : ""} (about two minutes the first time) …`);
  const env = await buildEnvironment();
  if (bench) {
    Object.assign(env, { RUSTFLAGS: "--cfg x402_bench", CARGO_TARGET_DIR: join(ROOT, "target", "bench") });
  }
  const kept = join(ROOT, "build-kept");
  // worker-build writes to build/ alone: the ordinary build steps aside for the benchmark's.
  if (bench && existsSync(join(ROOT, "build"))) renameSync(join(ROOT, "build"), kept);
  try {
    await run(await cargoTool("worker-build"), ["--release"], { env, quiet: !process.env.VERBOSE });
    if (bench) {
      rmSync(folder, { recursive: true, force: true });
      renameSync(join(ROOT, "build"), folder);
    }
  } finally {
    if (existsSync(kept)) {
      rmSync(join(ROOT, "build"), { recursive: true, force: true });
      renameSync(kept, join(ROOT, "build"));
    }
  }
  writeFileSync(stamp, wanted);
  return folder;
}

/** The Worker's size; throws above the budget. */
export function size(folder = join(ROOT, "build")) {
  const wasm = readFileSync(join(folder, "index_bg.wasm"));
  const script = readFileSync(join(folder, "index.js"));
  const gzip = gzipSync(wasm).length + gzipSync(script).length;
  const told = `the Worker is ${wasm.length + script.length} bytes, ${gzip} gzipped`;
  if (gzip > GZIP_MAX) throw new Error(`${told}: more than ${GZIP_MAX}`);
  return told;
}
