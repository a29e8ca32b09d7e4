// The hooks that `npm run hooks` turns on.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { git } from "../scripts/release.mjs";

const HOOK = join(import.meta.dirname, "..", ".githooks", "commit-msg");

/** @type {[string, boolean][]} */
const SUBJECTS = [
  ["chain/evm: refuse an undeployed asset", true],
  ["release: 1.2.3", true],
  ["merge: the last reading and attack", true],
  ["Merge branch 'one' into main", true],
  ["fixup! docs: add a page", true],
  [`docs: ${"a".repeat(54)}`, true],
  [`docs: ${"a".repeat(55)}`, false],
  ["Add a page", false],
  ["docs:add a page", false],
  ["Docs: add a page", false],
  ["docs: add a page.", false],
  ["", false],
];

for (const [subject, good] of SUBJECTS) {
  test(`the subject '${subject}' is ${good ? "taken" : "refused"}`, () => {
    const folder = mkdtempSync(join(tmpdir(), "x402-hook-"));
    try {
      const file = join(folder, "COMMIT_EDITMSG");
      writeFileSync(file, `${subject}\n\nWhy, in some lines.\n# A comment of git\n`);
      const { status, stderr } = spawnSync(HOOK, [file], { encoding: "utf8" });
      assert.equal(status, good ? 0 : 1, stderr);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

test("a commit runs `npm run check` without git's own variables, and fails with it", () => {
  const root = mkdtempSync(join(tmpdir(), "x402-hook-"));
  try {
    const log = join(root, "log");
    mkdirSync(join(root, "bin"));
    const npm = `#!/bin/sh\necho "$* \${GIT_INDEX_FILE-none}" >> ${log}\nexit \${CHECK_STATUS-0}\n`;
    writeFileSync(join(root, "bin", "npm"), npm, { mode: 0o755 });
    git(root, "init", "--quiet");
    git(root, "add", "bin");
    const commit = (more) => {
      const identity = { GIT_AUTHOR_NAME: "a", GIT_AUTHOR_EMAIL: "a@a.test", GIT_COMMITTER_NAME: "a", GIT_COMMITTER_EMAIL: "a@a.test" };
      const outside = Object.entries(process.env).filter(([name]) => !name.startsWith("GIT_"));
      const env = { ...Object.fromEntries(outside), ...identity, PATH: `${join(root, "bin")}:${process.env.PATH}`, ...more };
      const args = ["-c", `core.hooksPath=${join(HOOK, "..")}`, "-c", "commit.gpgSign=false", "commit", "--message", "all: begin"];
      return spawnSync("git", args, { cwd: root, env, encoding: "utf8" });
    };
    const failed = commit({ CHECK_STATUS: "1" });
    assert.notEqual(failed.status, 0, failed.stdout);
    const passed = commit({});
    assert.equal(passed.status, 0, passed.stderr);
    assert.equal(readFileSync(log, "utf8"), "run --silent check none\n".repeat(2));
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
