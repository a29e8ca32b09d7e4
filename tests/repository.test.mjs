// Files that must name each other: locks and Dependabot, CI and its actions, migrations and their numbers.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { unlocked } from "../scripts/lib/tools.mjs";

const ROOT = join(import.meta.dirname, "..");
const FILES = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: ROOT, encoding: "utf8" })
  .trim()
  .split("\n")
  .filter((path) => existsSync(join(ROOT, path)));
const read = (path) => readFileSync(join(ROOT, path), "utf8");

/** The folders, as Dependabot names them, of the files that `name` matches. */
const folders = (name) =>
  [...new Set(FILES.filter((path) => name.test(path)).map((path) => `/${dirname(path)}`.replace("/.", "/")))].sort();

test("what is installed is not committed", () => {
  assert.deepEqual(
    FILES.filter((file) => file.split("/").includes("node_modules")),
    [],
  );
});

test("Dependabot knows every folder with a lock file or a file of requirements", () => {
  const updates = read(".github/dependabot.yml")
    .split(/^ {2}- package-ecosystem: /m)
    .slice(1);
  const known = (ecosystem) => {
    const own = updates.filter((text) => text.startsWith(`${ecosystem}\n`));
    return own
      .flatMap((text) => [...(text.match(/^ {4}director(?:y|ies): (.*)$/m)?.[1] ?? "").matchAll(/\/[\w/.-]*/g)].map(([folder]) => folder))
      .sort();
  };
  assert.deepEqual(known("npm"), folders(/(^|\/)package-lock\.json$/));
  assert.deepEqual(known("cargo"), folders(/(^|\/)Cargo\.lock$/));
  assert.deepEqual(known("pip"), folders(/(^|\/)requirements\.txt$/));
});

test("a lock file holds no download address", () => {
  for (const path of FILES.filter((name) => /(^|\/)package-lock\.json$/.test(name))) assert.ok(!/"resolved": "http/.test(read(path)), path);
});

test("the workflow pins its actions and runs what everybody runs", () => {
  const workflow = read(".github/workflows/ci.yml");
  const uses = [...workflow.matchAll(/uses: (.*)/g)].map(([, action]) => action);
  assert.ok(uses.length > 0);
  // A tag can be moved by whoever owns it, a commit cannot. Dependabot moves both, by the version behind it.
  for (const action of uses) assert.match(action, /^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  // One action is of one commit.
  assert.equal(new Set(uses).size, new Set(uses.map((action) => action.split("@")[0])).size);
  assert.match(workflow, /run: \.ci\/run$/m);
  assert.match(workflow, /run: npm test audit\n {8}env:\n {10}AUDIT: strict$/m, "known holes are looked for where they can be");
});

test("what is installed is what a lock names", () => {
  const tools = read("scripts/lib/tools.mjs");
  const installs = [...tools.matchAll(/\["install", [^\]]*\]/g)].map(([args]) => args);
  const wanted = [
    '["install", "--debug", "--locked", ...args, "--root", root, "--target-dir", target]',
    '["install", ...flags, "--no-save"]',
  ];
  assert.deepEqual(installs.sort(), wanted.sort());
  // What npm has put there is compared with the lock, whichever way it went.
  const lock = JSON.parse(read("package-lock.json"));
  const installed = JSON.parse(read("node_modules/.package-lock.json"));
  assert.ok(Object.keys(installed.packages).length > 50);
  assert.deepEqual(unlocked(lock, installed), []);
  const [place, one] = Object.entries(installed.packages)[0];
  for (const other of [
    { ...one, version: "0.0.0" },
    { ...one, integrity: "sha512-x" },
    { ...one, integrity: undefined },
  ])
    assert.deepEqual(unlocked(lock, { packages: { [place]: other } }), [place]);
  assert.deepEqual(unlocked(lock, { packages: { "node_modules/zz-nobodys": one } }), ["node_modules/zz-nobodys"]);
});

test("migrations are numbered without a gap", () => {
  const migrations = FILES.filter((path) => /^migrations\/.*\.sql$/.test(path)).sort();
  assert.ok(migrations.length > 0);
  for (const [at, path] of migrations.entries()) assert.equal(Number(path.match(/^migrations\/(\d{4})_[a-z_]+\.sql$/)?.[1]), at + 1, path);
});

test("a name that `npm test` does not meet is an error, also beside one that it does", () => {
  for (const names of [["zz_nope"], ["repository", "zz_nope"], ["fmt", "zz_nope"], ["worker", "zz_nope"]]) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(ROOT, "scripts", "test.mjs"), ...names], {
      encoding: "utf8",
      timeout: 20_000,
    });
    assert.deepEqual([status, (stdout + stderr).split(".")[0]], [2, "no step and no file is named 'zz_nope'"], names.join(" "));
  }
});
