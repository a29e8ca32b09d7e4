// npm test [steps and files…]: everything, as CI runs it. `npm test worker settler` runs those files of the step whose
// name contains "settler", `npm test settler` such files of any step; `npm test -- settler --name "same nonce"` their
// tests of such a name; `npm test rust nonce` the Rust tests of such a name. `npm run check`: the quick steps.
import { existsSync, readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cargoCounts, counted, fail, partCounts, summary, testFiles, totals, whole } from "./lib/jobs.mjs";
import { say, step } from "./lib/progress.mjs";
import {
  ROOT,
  cargo,
  cargoTool,
  firstPeers,
  otherPeers,
  peers,
  python,
  spotlight,
  pythonTool,
  pythonWheels,
  setUp,
  underNewNode,
} from "./lib/tools.mjs";

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(130));

// A clean checkout compiles once: what a second build would reuse costs gigabytes and time for nothing.
if (process.env.CI) process.env.CARGO_INCREMENTAL ??= "0";

/** What the coverage is of: the libraries, not the Worker, tests or scripts. */
const NOT_CORE = `(${ROOT}/src/|tests/|build\\.rs|network/registry\\.rs|examples/|api/src/openapi\\.rs)`;

/** Files that run at once: one more than there are cores, since a file mostly waits for blocks and alarms. */
const WIDTH = Math.min(4, availableParallelism() + 1);

const PEERS = join("tests", "peers");
/** The Python environments of the peers' files: their names and requirements. */
const PYTHONS = {
  peers: "requirements.txt",
  others: join("others", "requirements.txt"),
  conformance: "conformance.txt",
  webhooks: "webhooks.txt",
};

const filesIn = (folder) =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith(".test.mjs"))
    .map((name) => join(folder, name));

/** The files of each step that runs files. */
const FILES = {
  scripts: () => filesIn("tests"),
  worker: () => filesIn(join("tests", "workerd")),
  peers: () => filesIn(PEERS),
  "peers-rust": () => filesIn(join(PEERS, "rust")),
};

/** The Stripe that tests play. Files that run side by side would install it at once. */
const stripe = () => pythonWheels("stripe-world", join(ROOT, "tests", "workerd", "stripe", "wheels.txt"));

/** Builds the Worker if it is not current. */
async function built() {
  const { build } = await import("./lib/build.mjs");
  return build();
}

/** Runs the step's files, or those that were asked for. */
async function runFiles({ name, files, only, note }) {
  await testFiles(files ?? FILES[name](), { width: WIDTH, only, note });
}

/** Each step gets what of it was asked for, `held` if others run beside it, and `note` to say how far it is. */
const STEPS = {
  fmt: async ({ held }) => {
    await whole("fmt", "cargo", ["fmt", "--all", "--check"], { held });
    await whole("fmt", "cargo", ["fmt", "--check", "--manifest-path", join("scripts", "bindgen", "Cargo.toml")], { held });
  },
  /** The JavaScript of scripts, tests and benchmarks. */
  biome: async ({ held }) => {
    await whole("biome", "biome", ["check", "--error-on-warnings", "."], { held });
  },
  tsc: async ({ held }) => {
    await whole("tsc", "tsc", [], { held });
  },
  /** The spelling of everything. */
  typos: async ({ held }) => {
    await whole("typos", await pythonTool("typos", join(ROOT, "scripts", "requirements.txt")), [], { held });
  },
  /** The tests of scripts and of the repository's own files. */
  scripts: async (asked) => {
    await stripe();
    await runFiles(asked);
  },
  clippy: async ({ held }) => {
    const args = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    if (!(await whole("clippy", "cargo", args, { held }))) return;
    const wasm = ["clippy", "--quiet", "--target", "wasm32-unknown-unknown", "--", "-D", "warnings"];
    await whole("clippy (wasm32)", "cargo", wasm, { held });
  },
  deny: async ({ held }) => {
    // It reads the crates of all platforms, and a build has only brought those of this one.
    if (!(await whole("deny", "cargo", ["fetch", "--locked"], { held }))) return;
    await whole("deny", await cargoTool("cargo-deny"), ["--offline", "check", "licenses", "bans", "sources"], { held });
  },
  rust: async ({ held, patterns }) => {
    if (patterns.length > 0) {
      for (const pattern of patterns) {
        const before = totals.passed + totals.failed;
        await counted("rust", "cargo", ["test", "--workspace", pattern], cargoCounts, { held });
        if (totals.passed + totals.failed === before) fail(`rust: no test is named '${pattern}'`);
      }
      return;
    }
    const args = ["llvm-cov", "--workspace", "--ignore-filename-regex", NOT_CORE, "--fail-under-lines", "90", "--summary-only"];
    const env = { CARGO_LLVM_COV_TARGET_DIR: join(ROOT, "target", "coverage") };
    await counted("rust", await cargoTool("cargo-llvm-cov"), args, cargoCounts, { env, held });
  },
  build: async () => {
    const { size } = await import("./lib/build.mjs");
    say(size(await built()));
  },
  worker: async (asked) => {
    await built();
    // Files that run side by side would compile them at once.
    const { contracts } = await import("./lib/contract.mjs");
    await Promise.all([contracts(), stripe()]);
    await runFiles(asked);
  },
  peers: async (asked) => {
    await built();
    // Files that run side by side would install the same environment at once.
    const pythons = Object.entries(PYTHONS).map(([name, requirements]) => python(name, join(ROOT, PEERS, requirements)));
    await Promise.all([peers(), firstPeers(), otherPeers(), spotlight(), ...pythons]);
    await runFiles(asked);
  },
  "peers-rust": async (asked) => {
    await built();
    await cargo(["build", "--locked"], { cwd: join(ROOT, PEERS, "rust"), note: asked.note });
    await runFiles(asked);
  },
  openapi: async ({ held }) => {
    await built();
    const folder = join(ROOT, "tests", "openapi");
    if (!existsSync(folder)) return;
    const interpreter = await python("openapi", join(folder, "requirements.txt"));
    const { node } = await import("./lib/tools.mjs");
    await counted("openapi", node(), [join(folder, "run.mjs"), interpreter], partCounts, { held });
  },
};

const QUICK = ["fmt", "biome", "tsc", "typos", "scripts", "clippy", "rust"];
/** Steps that only run when they are named: what they build takes minutes. */
const NAMED_ONLY = ["peers-rust"];
/** Steps that compile with cargo run one after another; the others run beside them. */
const CARGO = ["fmt", "clippy", "deny", "rust"];

/** What the command line asks for: `{ name, patterns, files, only }` for each step. */
function wanted(argv) {
  const { values, positionals } = parseArgs({ args: argv, options: { name: { type: "string" } }, allowPositionals: true });
  const named = positionals.includes("check") ? QUICK : positionals.filter((one) => one in STEPS);
  const patterns = positionals.filter((one) => one !== "check" && !(one in STEPS));
  const only = values.name;
  const matching = (name) => FILES[name]?.().filter((path) => patterns.some((pattern) => path.includes(pattern)));
  if (patterns.length === 0) {
    const all = Object.keys(STEPS).filter((name) => !NAMED_ONLY.includes(name) && (only === undefined || name in FILES));
    return (named.length > 0 ? named : all).map((name) => ({ name, patterns, only }));
  }
  const from = named.length > 0 ? named : Object.keys(FILES).filter((name) => !NAMED_ONLY.includes(name));
  const steps = from.map((name) => ({ name, patterns, files: matching(name), only })).filter(({ files }) => files?.length !== 0);
  // Every name must be met, so that a mistyped one is seen: by a file, or of Rust's tests when they run.
  const isMet = (pattern) => steps.some(({ name, files }) => name === "rust" || files?.some((path) => path.includes(pattern)));
  const unmet = patterns.filter((pattern) => !isMet(pattern));
  if (unmet.length > 0) {
    const known = from.flatMap((name) => FILES[name]?.() ?? []).join("\n  ");
    throw new Error(`no step and no file is named '${unmet.join("' or '")}'. Steps: ${Object.keys(STEPS).join(", ")}. Files:\n  ${known}`);
  }
  return steps;
}

/** Runs steps one after another; answers each one's time. */
async function runSteps(steps, held) {
  const done = [];
  for (const asked of steps) {
    const began = Date.now();
    say(`\n== ${asked.name}`);
    try {
      await step(asked.name, (note) => STEPS[asked.name]({ ...asked, held, note }));
    } catch (error) {
      say(error.message);
      fail(`${asked.name}: ${error.message.split("\n")[0]}`);
    }
    done.push({ name: asked.name, ms: Date.now() - began });
  }
  return done;
}

let steps;
try {
  steps = wanted(process.argv.slice(2));
} catch (error) {
  say(error.message);
  process.exit(2);
}
await setUp();
if (!(await underNewNode(import.meta.url))) {
  const [first, second] = [steps.filter(({ name }) => CARGO.includes(name)), steps.filter(({ name }) => !CARGO.includes(name))];
  const held = first.length > 0 && second.length > 0;
  const done = await Promise.all([runSteps(first, held), runSteps(second, held)]);
  summary(done.flat());
  process.exitCode = totals.failed ? 1 : 0;
  // Whatever a test left open must not keep this alive.
  setTimeout(() => process.exit(), 500).unref();
}
