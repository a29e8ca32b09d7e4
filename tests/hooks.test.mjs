// The hooks that `npm run hooks` turns on.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

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
