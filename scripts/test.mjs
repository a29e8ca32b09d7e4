// npm test [steps…]: everything, as CI runs it. `npm test -- rust worker` runs
// only those steps; `npm run check` the quick ones.
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT, cargoTool, environment, firstPeers, node, otherPeers, peers, python, run, say, setUp, underNewNode } from "./lib/tools.mjs";

/** A test file's patience: no file takes a minute on two cores. The runner's own
 * limit cannot end a file whose loop is busy, so the process group is ended too. */
const FILE_MS = 240_000;
const NODE_TEST = ["--test", "--test-force-exit", `--test-timeout=${FILE_MS}`, "--test-reporter=spec"];
const totals = { passed: 0, failed: 0 };

/** How to end each process group that a Ctrl-C does not reach. */
const groups = new Set();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(130));
process.once("exit", () => groups.forEach((end) => end()));

/** Runs a command, shows it (with `held`, when it has ended), and counts what `count` finds in its output. */
function counted(command, args, count, env = {}, limit_ms = undefined, held = false) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...process.env, ...environment(), ...env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: limit_ms !== undefined,
    });
    const end = () => process.kill(-child.pid, "SIGKILL");
    if (limit_ms !== undefined) groups.add(end);
    const limit = limit_ms && setTimeout(() => (say(`ended after ${limit_ms / 1000} s: ${args.at(-1)}`), end()), limit_ms);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        output += chunk;
        if (!held) process.stdout.write(chunk);
      });
    }
    child.once("exit", (code) => {
      clearTimeout(limit);
      groups.delete(end);
      if (held) process.stdout.write(output);
      const { passed, failed } = count(output);
      totals.passed += passed;
      totals.failed += failed;
      if (code !== 0 && failed === 0) totals.failed++;
      resolve(code === 0);
    });
  });
}

/** A step that passes or fails as a whole. */
const whole = (command, args, env) => counted(command, args, () => ({ passed: 0, failed: 0 }), env);

const sum = (output, pattern) => [...output.matchAll(pattern)].reduce((all, [, number]) => all + Number(number), 0);
const cargoCounts = (output) => ({
  passed: sum(output, /^test result: .*?(\d+) passed/gm),
  failed: sum(output, /^test result: .*?(\d+) failed/gm),
});
const nodeCounts = (output) => ({ passed: sum(output, /^(?:#|ℹ) pass (\d+)/gm), failed: sum(output, /^(?:#|ℹ) fail (\d+)/gm) });
/** tests/openapi/run.mjs tells each part's outcome on a line of its own. */
const partCounts = (output) => ({ passed: sum(output, /^[a-z ]+: (\d+) passed$/gm), failed: sum(output, /^[a-z ]+: (\d+) failed$/gm) });

/** What the coverage is of: the libraries, not the Worker, tests or scripts. */
const NOT_CORE = `(${ROOT}/src/|tests/|build\\.rs|network/registry\\.rs|examples/|api/src/openapi\\.rs)`;

/** Files that wait for blocks and alarms most of their time: they run side by side. */
const WAITS = /^settler/;
const testFiles = (folder) => readdirSync(join(ROOT, folder)).filter((name) => name.endsWith(".test.mjs")).sort();
const testFile = (folder, name, held = false) =>
  counted(node(), [...NODE_TEST, join(folder, name)], nodeCounts, {}, FILE_MS + 30_000, held);

const STEPS = {
  fmt: () => whole("cargo", ["fmt", "--all", "--check"]),
  clippy: async () =>
    (await whole("cargo", ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])) &&
    whole("cargo", ["clippy", "--quiet", "--target", "wasm32-unknown-unknown", "--", "-D", "warnings"]),
  deny: async () => whole(await cargoTool("cargo-deny"), ["--offline", "check", "licenses", "bans", "sources"]),
  rust: async () => {
    const coverage = await cargoTool("cargo-llvm-cov");
    const args = ["llvm-cov", "--workspace", "--ignore-filename-regex", NOT_CORE, "--fail-under-lines", "90", "--summary-only"];
    return counted(coverage, args, cargoCounts, { CARGO_LLVM_COV_TARGET_DIR: join(ROOT, "target", "coverage") });
  },
  build: async () => {
    const { build, size } = await import("./lib/build.mjs");
    say(size(await build()));
  },
  worker: async () => {
    await testFile("tests", "sanctions.test.mjs");
    const folder = join("tests", "workerd");
    const files = testFiles(folder);
    for (const file of files.filter((name) => !WAITS.test(name))) await testFile(folder, file);
    await Promise.all(files.filter((name) => WAITS.test(name)).map((file) => testFile(folder, file, true)));
  },
  peers: async () => {
    await peers();
    await firstPeers();
    await otherPeers();
    const folder = join("tests", "peers");
    for (const file of testFiles(folder)) await testFile(folder, file);
  },
  "peers-rust": async () => {
    const folder = join(ROOT, "tests", "peers", "rust");
    await run("cargo", ["build", "--locked"], { cwd: folder });
    await testFile(folder, "rust.test.mjs");
  },
  openapi: async () => {
    const folder = join(ROOT, "tests", "openapi");
    if (!existsSync(folder)) return;
    const interpreter = await python("openapi", join(folder, "requirements.txt"));
    await counted(node(), [join(folder, "run.mjs"), interpreter], partCounts);
  },
};

const QUICK = ["fmt", "clippy", "rust"];
/** Steps that only run when they are named: what they build takes minutes. */
const NAMED_ONLY = ["peers-rust"];

await setUp();
if (!(await underNewNode(import.meta.url))) {
  const asked = process.argv.slice(2);
  const names = asked.length === 0 ? Object.keys(STEPS).filter((name) => !NAMED_ONLY.includes(name)) : asked.includes("check") ? QUICK : asked;
  for (const name of names) {
    if (!STEPS[name]) throw new Error(`no step '${name}'; there are ${Object.keys(STEPS).join(", ")}`);
    const began = Date.now();
    say(`\n== ${name}`);
    try {
      await STEPS[name]();
    } catch (error) {
      totals.failed++;
      say(error.message);
    }
    say(`== ${name}: ${Math.round((Date.now() - began) / 1000)} s`);
  }
  process.exitCode = totals.failed ? 1 : 0;
  console.log(`${totals.passed} passed, ${totals.failed} failed`);
  // Whatever a test left open must not keep this alive.
  setTimeout(() => process.exit(), 500).unref();
}
