// Runs test commands: shows what they print, counts what they found, and remembers how long each took.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pass, say } from "./progress.mjs";
import { ROOT, environment, node } from "./tools.mjs";

/** A test file's patience: no file takes a minute on two cores. The runner's own
 * limit cannot end a file whose loop is busy, so the process group is ended too. */
const FILE_MS = 240_000;
const NODE_TEST = ["--test", "--test-force-exit", `--test-timeout=${FILE_MS}`];
/** The runner shows every test, and writes the failed ones to a file for the summary. */
const reporters = (failures) => [
  "--test-reporter=spec",
  "--test-reporter-destination=stdout",
  `--test-reporter=${join(ROOT, "scripts", "lib", "failures.mjs")}`,
  `--test-reporter-destination=${failures}`,
];

/** How long each file took in earlier runs on this machine, in ms. */
const TIMES = join(ROOT, "target", "test-times.json");
const times = existsSync(TIMES) ? JSON.parse(readFileSync(TIMES, "utf8")) : {};

export const totals = { passed: 0, failed: 0 };
/** What failed, a line each. */
export const failures = [];
/** The files of this run: `{ file, ms }`. */
export const files = [];

/** How to end each process group that a Ctrl-C does not reach. */
const groups = new Set();
process.once("exit", () => {
  for (const end of groups) end();
});

/** Counts a failure that no test has reported. */
export function fail(what) {
  totals.failed++;
  failures.push(what);
}

/**
 * Runs a command and counts what `count(output)` finds: `{ passed, failed: [names] }`. Its output is shown as it comes,
 * or with `held` when it has ended, then only what `brief(output)` leaves if all went well. Answers whether it did.
 * @param {string} name
 * @param {string} command
 * @param {string[]} args
 * @param {(output: string) => { passed: number, failed: string[] }} count
 * @param {{ env?: Record<string, string>, limit_ms?: number, held?: boolean, brief?: (output: string) => string }} [options]
 *   `limit_ms`: after which the command's process group is ended
 */
export function counted(name, command, args, count, { env = {}, limit_ms, held = false, brief = (all) => all } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...process.env, ...environment(), ...env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: limit_ms !== undefined,
    });
    const end = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // The whole group is gone already.
      }
    };
    if (limit_ms !== undefined) groups.add(end);
    const late = () => {
      say(`ended after ${Number(limit_ms) / 1000} s: ${args.at(-1)}`);
      end();
    };
    const limit = limit_ms && setTimeout(late, limit_ms);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        output += chunk;
        if (!held) pass(process.stdout, chunk);
      });
    }
    const over = (code) => {
      clearTimeout(limit);
      groups.delete(end);
      const { passed, failed } = count(output);
      const well = code === 0 && failed.length === 0;
      if (held) pass(process.stdout, well && !process.env.VERBOSE ? brief(output) : output);
      totals.passed += passed;
      for (const one of failed) fail(`${name}: ${one}`);
      if (code !== 0 && failed.length === 0) fail(`${name}: ended with ${code}`);
      resolve(code === 0);
    };
    child.once("error", (error) => {
      output += error.message;
      over(-1);
    });
    // A grandchild may hold the pipes open: the end of the command counts.
    child.once("exit", (code, signal) => setTimeout(over, 50, code ?? signal));
  });
}

/** A step that passes or fails as a whole. */
export const whole = (name, command, args, options) => counted(name, command, args, () => ({ passed: 0, failed: [] }), options);

const sum = (output, pattern) => [...output.matchAll(pattern)].reduce((all, [, number]) => all + Number(number), 0);
const names = (output, pattern) => [...output.matchAll(pattern)].map(([, name]) => name);
export const cargoCounts = (output) => ({
  passed: sum(output, /^test result: .*?(\d+) passed/gm),
  failed: names(output, /^test (.+?) \.\.\. FAILED/gm),
});
/** tests/openapi/run.mjs reports each part's outcome on a line of its own. */
export const partCounts = (output) => ({
  passed: sum(output, /^[a-z ]+: (\d+) passed$/gm),
  failed: names(output, /^([a-z ]+): \d+ failed$/gm),
});

/**
 * Runs one file of tests; `only` is a pattern of test names.
 * @param {string} path
 * @param {{ only?: string, held?: boolean }} [options]
 */
export async function testFile(path, { only, held = false } = {}) {
  const began = Date.now();
  const folder = mkdtempSync(join(tmpdir(), "x402-edge-test-"));
  const failed = join(folder, "failed");
  const count = (output) => ({
    passed: sum(output, /^(?:#|ℹ) pass (\d+)/gm),
    failed: existsSync(failed) ? readFileSync(failed, "utf8").split("\n").filter(Boolean).map(describe) : [],
  });
  const pattern = only === undefined ? [] : [`--test-name-pattern=${only}`];
  const args = [...NODE_TEST, ...reporters(failed), ...pattern, path];
  const brief = (output) =>
    `${path}\n${output
      .split("\n")
      .filter((line) => /^ *[✔▶﹣]/.test(line))
      .join("\n")}\n`;
  await counted(path, node(), args, count, { limit_ms: FILE_MS + 30_000, held, brief });
  rmSync(folder, { recursive: true, force: true });
  const ms = Date.now() - began;
  files.push({ file: path, ms });
  if (only === undefined) times[path] = ms;
}

function describe(line) {
  const { name, line: at } = JSON.parse(line);
  return at === undefined ? name : `${name} (line ${at})`;
}

/** Runs files side by side, `width` at once, longest first. `note` gets how many are done. A file that has never run
 * here is taken for a second a thousand bytes. */
export async function testFiles(paths, { width, note, ...options }) {
  const length = (path) => times[path] ?? statSync(join(ROOT, path)).size;
  const left = [...paths].sort((a, b) => length(b) - length(a));
  let done = 0;
  const lane = async () => {
    for (let path = left.shift(); path !== undefined; path = left.shift()) {
      await testFile(path, { ...options, held: paths.length > 1 });
      note(`${++done} of ${paths.length} files`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, paths.length) }, lane));
  mkdirSync(dirname(TIMES), { recursive: true });
  writeFileSync(TIMES, JSON.stringify(times, null, 1));
}

const seconds = (ms) => `${Math.round(ms / 1000)} s`.padStart(7);

/** How many of the slowest files the summary names. */
const SLOWEST = 8;

/** Prints each step's time, the slowest files, what failed, and the totals in the last line. */
export function summary(steps) {
  const lines = ["", "time of each step:", ...steps.map(({ name, ms }) => `${seconds(ms)}  ${name}`)];
  if (files.length > 1) {
    const slowest = [...files].sort((a, b) => b.ms - a.ms).slice(0, SLOWEST);
    lines.push("", "slowest files:", ...slowest.map(({ file, ms }) => `${seconds(ms)}  ${file}`));
  }
  if (failures.length > 0) lines.push("", "failed:", ...failures.map((one) => `  ${one}`));
  lines.push("", `${totals.passed} passed, ${totals.failed} failed`);
  console.log(lines.join("\n"));
}
