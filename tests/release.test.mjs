// `npm run release`, in a repository of its own.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { git, release } from "../scripts/release.mjs";

const REPOSITORY = join(import.meta.dirname, "..");
const TODAY = "2026-11-30";

/** @type {Record<string, string>} */
const FILES = {
  "Cargo.toml":
    '[workspace]\nmembers = ["crates/core", "crates/api"]\n\n[package]\nname = "shop"\nversion = "0.1.0"\n\n[dependencies]\nhex = { version = "0.1.0" }\n',
  "crates/core/Cargo.toml": '[package]\nname = "shop-core"\nversion = "0.1.0"\n\n[dependencies.time]\nversion = "0.1.0"\n',
  "crates/api/Cargo.toml": '[package]\nname = "shop-api"\nversion.workspace = true\n',
  "Cargo.lock": ["hex", "shop", "shop-api", "shop-core"].map((name) => `[[package]]\nname = "${name}"\nversion = "0.1.0"\n`).join("\n"),
  "package.json": `${JSON.stringify({ name: "shop", version: "0.1.0", dependencies: { hex: "0.1.0" } }, null, 2)}\n`,
  "package-lock.json": `${JSON.stringify({ name: "shop", version: "0.1.0", packages: { "": { version: "0.1.0" }, "node_modules/hex": { version: "0.1.0" } } }, null, 2)}\n`,
  "docs/reference/openapi.json": '{\n  "info": {\n    "version": "0.1.0"\n  }\n}\n',
  "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n### Added\n- A shop.\n",
  "ops/releases.json": "[]\n",
  "wrangler.toml":
    '[[durable_objects.bindings]]\nname = "TILLS"\nclass_name = "Till"\n\n[[migrations]]\ntag = "v1"\nnew_sqlite_classes = ["Till"]\n',
};

/** Nothing of the user's own configuration of git counts. */
const CONFIG = {
  "user.name": "Test",
  "user.email": "test@example.test",
  "core.hooksPath": ".githooks",
  "commit.gpgSign": "false",
  "tag.gpgSign": "false",
};

/** Runs `act` with the folder of a fresh repository that holds FILES. */
async function inRepository(act, files = FILES) {
  const root = mkdtempSync(join(tmpdir(), "x402-release-"));
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    git(root, "init", "--quiet", "--initial-branch", "main");
    for (const [name, value] of Object.entries(CONFIG)) git(root, "config", name, value);
    git(root, "add", "--all");
    git(root, "commit", "--quiet", "--message", "all: begin");
    await act({ root, read: (path) => readFileSync(join(root, path), "utf8"), head: () => git(root, "rev-parse", "HEAD") });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

test("a release sets the version everywhere, moves the changelog, commits and tags", () =>
  inRepository(({ root, read }) => {
    assert.equal(release(root, "0.2.0", TODAY), "v0.2.0");
    assert.equal(read("CHANGELOG.md"), `# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - ${TODAY}\n\n### Added\n- A shop.\n`);
    assert.equal(read("Cargo.toml"), FILES["Cargo.toml"].replace('name = "shop"\nversion = "0.1.0"', 'name = "shop"\nversion = "0.2.0"'));
    assert.equal(
      read("crates/core/Cargo.toml"),
      FILES["crates/core/Cargo.toml"].replace('core"\nversion = "0.1.0"', 'core"\nversion = "0.2.0"'),
    );
    assert.equal(read("crates/api/Cargo.toml"), FILES["crates/api/Cargo.toml"]);
    assert.deepEqual(
      [...read("Cargo.lock").matchAll(/name = "(.*)"\nversion = "(.*)"/g)].map(([, ...pair]) => pair),
      [
        ["hex", "0.1.0"],
        ["shop", "0.2.0"],
        ["shop-api", "0.2.0"],
        ["shop-core", "0.2.0"],
      ],
    );
    assert.deepEqual(JSON.parse(read("package.json")), { name: "shop", version: "0.2.0", dependencies: { hex: "0.1.0" } });
    assert.deepEqual(JSON.parse(read("package-lock.json")), {
      name: "shop",
      version: "0.2.0",
      packages: { "": { version: "0.2.0" }, "node_modules/hex": { version: "0.1.0" } },
    });
    assert.equal(JSON.parse(read("docs/reference/openapi.json")).info.version, "0.2.0");
    assert.deepEqual([git(root, "log", "-1", "--format=%s"), git(root, "status", "--porcelain")], ["release: 0.2.0", ""]);
    assert.deepEqual(
      [git(root, "cat-file", "-t", "v0.2.0"), git(root, "rev-parse", "v0.2.0^{commit}")],
      ["tag", git(root, "rev-parse", "HEAD")],
    );
  }));

test("a version that is malformed or not greater is refused, and nothing changes", () =>
  inRepository(({ root, head }) => {
    const before = head();
    for (const version of ["", "1", "1.2", "v1.2.3", "1.2.3-rc.1", "01.2.3", "1.2.3.4", "1.2.x", " 1.2.3"]) {
      assert.throws(() => release(root, version, TODAY), /is no version/, version);
    }
    for (const version of ["0.1.0", "0.0.9"]) assert.throws(() => release(root, version, TODAY), /is not greater than 0\.1\.0/, version);
    assert.deepEqual([head(), git(root, "status", "--porcelain"), git(root, "tag")], [before, "", ""]);
    // Numbers are compared, not texts.
    release(root, "0.9.0", TODAY);
    writeFileSync(join(root, "CHANGELOG.md"), FILES["CHANGELOG.md"]);
    git(root, "commit", "--quiet", "--all", "--message", "docs: add a line");
    assert.equal(release(root, "0.10.0", TODAY), "v0.10.0");
  }));

test("changes that are not committed, files that git does not know and a tag that exists are refused", () =>
  inRepository(({ root, read, head }) => {
    const before = head();
    writeFileSync(join(root, "new.txt"), "new");
    assert.throws(() => release(root, "0.2.0", TODAY), /not committed/);
    rmSync(join(root, "new.txt"));
    writeFileSync(join(root, "CHANGELOG.md"), `${read("CHANGELOG.md")}- Another.\n`);
    assert.throws(() => release(root, "0.2.0", TODAY), /not committed/);
    git(root, "restore", ".");
    git(root, "tag", "v0.2.0");
    assert.throws(() => release(root, "0.2.0", TODAY), /tag v0\.2\.0 exists/);
    assert.deepEqual([head(), git(root, "status", "--porcelain")], [before, ""]);
  }));

test("a changelog with nothing unreleased, and a version that stands nowhere, are refused", async () => {
  await inRepository(({ root }) => assert.throws(() => release(root, "0.2.0", TODAY), /nothing under Unreleased/), {
    ...FILES,
    "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-01-01\n\n### Added\n- A shop.\n",
  });
  for (const [path, wrong] of [
    ["Cargo.lock", "[[package]]\n"],
    ["docs/reference/openapi.json", "{}\n"],
    ["Cargo.toml", '[package]\nname = "shop"\nversion = "0.0.1"\n'],
  ]) {
    await inRepository(
      ({ root }) => {
        assert.throws(() => release(root, "0.2.0", TODAY), new RegExp(path.replace(".", "\\.")));
        assert.equal(git(root, "status", "--porcelain"), "", path);
      },
      { ...FILES, [path]: wrong },
    );
  }
});

test("a release records the classes of objects, and one whose class comes and is used at once is refused", () =>
  inRepository(({ root, read, head }) => {
    release(root, "0.2.0", TODAY);
    const first = { version: "0.2.0", migrations: [{ tag: "v1", added: ["Till"], removed: [] }], bound: ["Till"] };
    assert.deepEqual(JSON.parse(read("ops/releases.json")), [first]);
    const write = (toml) => {
      writeFileSync(join(root, "wrangler.toml"), toml);
      writeFileSync(join(root, "CHANGELOG.md"), FILES["CHANGELOG.md"]);
      git(root, "commit", "--quiet", "--all", "--message", "objects: change");
    };
    const empty = `${FILES["wrangler.toml"]}\n[[migrations]]\ntag = "v2"\nnew_sqlite_classes = ["Safe"]\n`;
    const used = `${empty}\n[[env.live.durable_objects.bindings]]\nname = "SAFES"\nclass_name = "Safe"\n`;
    write(used);
    const before = head();
    assert.throws(() => release(root, "0.3.0", TODAY), /Safe is bound, and release 0\.2\.0 did not ship it/);
    assert.deepEqual([head(), git(root, "status", "--porcelain")], [before, ""]);
    write(empty);
    release(root, "0.3.0", TODAY);
    write(used);
    release(root, "0.4.0", TODAY);
    const recorded = JSON.parse(read("ops/releases.json"));
    assert.deepEqual(
      recorded.map(({ version, migrations, bound }) => [version, migrations.length, bound]),
      [
        ["0.2.0", 1, ["Till"]],
        ["0.3.0", 2, ["Till"]],
        ["0.4.0", 2, ["Till", "Safe"]],
      ],
    );
    assert.deepEqual(recorded[0], first);
  }));

test("a release that a hook refuses leaves the tree as it was", () =>
  inRepository(({ root, head }) => {
    const before = head();
    mkdirSync(join(root, ".git", "no"));
    writeFileSync(join(root, ".git", "no", "pre-commit"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    git(root, "config", "core.hooksPath", join(root, ".git", "no"));
    assert.throws(() => release(root, "0.2.0", TODAY));
    assert.deepEqual([head(), git(root, "status", "--porcelain"), git(root, "tag")], [before, "", ""]);
  }));

test("this repository's own files can be released, by the command", () => {
  const list = execFileSync(
    "git",
    ["ls-files", "Cargo.toml", "crates/*/Cargo.toml", "Cargo.lock", "package*.json", "docs/reference/openapi.json"],
    { cwd: REPOSITORY, encoding: "utf8" },
  );
  const paths = [...list.trim().split("\n"), "scripts/release.mjs", "scripts/lib/releases.mjs", "ops/releases.json", "wrangler.toml"];
  const files = Object.fromEntries(paths.map((path) => [path, readFileSync(join(REPOSITORY, path), "utf8")]));
  return inRepository(
    ({ root }) => {
      const script = join(root, "scripts", "release.mjs");
      assert.match(execFileSync(process.execPath, [script, "99.0.0"], { encoding: "utf8" }), /tagged v99\.0\.0/);
      const changed = git(root, "diff", "--name-only", "HEAD~1", "--", ":!crates").split("\n");
      assert.deepEqual(changed, [
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "docs/reference/openapi.json",
        "ops/releases.json",
        "package-lock.json",
        "package.json",
      ]);
      // Each line that changes is a version.
      const lines = git(root, "diff", "--unified=0", "HEAD~1", "--", ":!CHANGELOG.md", ":!ops")
        .split("\n")
        .filter((line) => /^\+[^+]/.test(line));
      assert.deepEqual(
        lines.filter((line) => !/version"?(:| =) "99\.0\.0"/.test(line)),
        [],
      );
      assert.throws(() => execFileSync(process.execPath, [script, "1.0"], { stdio: "pipe" }), /is no version/);
      assert.throws(() => execFileSync(process.execPath, [script, "99.0.1", "more"], { stdio: "pipe" }), /one version/);
    },
    { ...files, "CHANGELOG.md": FILES["CHANGELOG.md"] },
  );
});
