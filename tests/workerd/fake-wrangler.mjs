// A checkout whose wrangler is played: it writes down how it was called, and answers as it is given. Everything else is this
// checkout's own: the scripts, wrangler's reading of wrangler.toml, the build.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "./worker.mjs";

/** The program: the first answer whose `to` begins the command line, else nothing. */
const PROGRAM = `
import { appendFileSync, readFileSync } from "node:fs";
const args = process.argv.slice(2);
appendFileSync(process.env.FAKE_CALLS, JSON.stringify(args) + "\\n");
const answers = JSON.parse(process.env.FAKE_ANSWERS);
const { out = "", err = "", code = 0, report } = answers.find(({ to }) => args.join(" ").startsWith(to)) ?? {};
process.stdout.write(out);
process.stderr.write(err);
if (report) appendFileSync(process.env.WRANGLER_OUTPUT_FILE_PATH, JSON.stringify(report) + "\\n");
process.exitCode = code;
`;
/** A light build, which developers' machines test with, is larger than what is deployed: here nobody measures it. */
const UNMEASURED = `
import zlib from "node:zlib";
import { syncBuiltinESMExports } from "node:module";
zlib.gzipSync = () => Buffer.alloc(1);
syncBuiltinESMExports();
`;
/** Stands in for the test of what runs. */
const VERIFY = '#!/bin/sh\necho "[\\"verify\\",\\"$1\\"]" >>"$FAKE_CALLS"\nexit "$FAKE_VERIFY"\n';

/** wrangler.toml with databases. */
const TOML = ["1", "2", "3"].reduce(
  (text, digit) => text.replace("00000000-0000-0000-0000-000000000000", `${digit.repeat(8)}-aaaa-4aaa-8aaa-aaaaaaaaaaaa`),
  readFileSync(join(ROOT, "wrangler.toml"), "utf8"),
);

/** Such a checkout; `run` runs one of its scripts. */
export class Checkout {
  root = mkdtempSync(join(tmpdir(), "x402-deploy-"));

  constructor() {
    const at = (...path) => join(this.root, ...path);
    cpSync(join(ROOT, "scripts"), at("scripts"), { recursive: true, filter: (path) => !path.includes("__pycache__") });
    rmSync(at("scripts", "bindgen", "target"), { recursive: true, force: true });
    writeFileSync(at("scripts", "verify-deployment.sh"), VERIFY);
    chmodSync(at("scripts", "verify-deployment.sh"), 0o755);
    for (const name of [
      "src",
      "crates",
      "docs",
      "migrations",
      "build",
      "Cargo.toml",
      "Cargo.lock",
      "rust-toolchain.toml",
      "package.json",
    ]) {
      symlinkSync(join(ROOT, name), at(name));
    }
    cpSync(join(ROOT, "package-lock.json"), at("package-lock.json"));
    mkdirSync(at("node_modules", "wrangler", "bin"), { recursive: true });
    for (const name of readdirSync(join(ROOT, "node_modules"))) {
      if (name !== "wrangler" && name !== ".x402-edge") symlinkSync(join(ROOT, "node_modules", name), at("node_modules", name));
    }
    const lock = createHash("sha256")
      .update(readFileSync(at("package-lock.json")))
      .digest("hex");
    writeFileSync(at("node_modules", ".x402-edge"), lock);
    const real = join(ROOT, "node_modules", "wrangler", "wrangler-dist", "cli.js");
    writeFileSync(at("node_modules", "wrangler", "package.json"), '{"name":"wrangler","type":"module","main":"index.js"}');
    writeFileSync(at("node_modules", "wrangler", "index.js"), `export { unstable_readConfig } from ${JSON.stringify(real)};\n`);
    writeFileSync(at("node_modules", "wrangler", "bin", "wrangler.js"), PROGRAM);
    writeFileSync(at("unmeasured.mjs"), UNMEASURED);
    this.configure();
  }

  /** Sets wrangler.toml, as \`change\` leaves it. */
  configure(change = (text) => text) {
    writeFileSync(join(this.root, "wrangler.toml"), change(TOML));
  }

  /**
   * Runs a script: its exit code, what it prints, and the calls of wrangler.
   * @param {string} script
   * @param {string[]} args
   * @param {{ to: string, out?: string, err?: string, code?: number, report?: any }[]} answers
   * @param {{ verify?: number }} [more] the exit code of the test of what runs
   * @returns {Promise<{ code: number, text: string, calls: string[][] }>}
   */
  run(script, args, answers, { verify = 0 } = {}) {
    const log = join(mkdtempSync(join(this.root, "run-")), "calls.jsonl");
    writeFileSync(log, "");
    // The newer node is the one that runs this.
    const env = {
      ...process.env,
      X402_EDGE_NODE: "1",
      FAKE_CALLS: log,
      FAKE_ANSWERS: JSON.stringify(answers),
      FAKE_VERIFY: String(verify),
    };
    return new Promise((resolve) => {
      const given = ["--import", join(this.root, "unmeasured.mjs"), join(this.root, "scripts", script), ...args];
      execFile(process.execPath, given, { env, cwd: this.root, timeout: 200_000 }, (error, stdout, stderr) => {
        const calls = readFileSync(log, "utf8")
          .trim()
          .split("\n")
          .filter(Boolean)
          .map((line) => JSON.parse(line));
        resolve({ code: error ? Number(error.code) : 0, text: stdout + stderr, calls });
      });
    });
  }

  remove() {
    rmSync(this.root, { recursive: true, force: true });
  }
}
