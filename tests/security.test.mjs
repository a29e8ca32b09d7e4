// What docs/security names exists: each test, by its file and its name, and each file of the code.
import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "..");
const FOLDER = join(ROOT, "docs", "security");
const read = (path) => readFileSync(path, "utf8");

/** Every Rust file below a folder. */
const rust = (folder) =>
  readdirSync(join(ROOT, folder), { recursive: true })
    .map(String)
    .filter((path) => path.endsWith(".rs") && !path.includes("target/"))
    .map((path) => join(folder, path));
const RUST = ["crates", "fuzz", "src", "tests/native", "tests/evm_fixtures", "tests/svm_fixtures"]
  .flatMap(rust)
  .concat("tests/ledger.rs", "tests/model.rs");

/** The texts of the files that a page names so: one of tests, or Rust's file with its tests. */
function filesOf(name) {
  if (!name.includes(".")) return [join("tests", "workerd", `${name}.test.mjs`)];
  if (name.endsWith(".mjs")) return [name];
  const own = RUST.filter((path) => path === name || path.endsWith(`/${name}`));
  return own.concat(
    own.flatMap((path) => RUST.filter((other) => other.startsWith(`${path.replace(/\.rs$/, "")}/`) && other.includes("tests"))),
  );
}

/** Each test that a text names: its file, and its name. */
function* named(text) {
  for (const [, file, tests] of text.matchAll(/`([\w./-]+)` › ((?:(?:"[^"]+"|`[\w]+`)(?:, | and )?)+)/g))
    for (const [, quoted, code] of tests.matchAll(/"([^"]+)"|`(\w+)`/g)) yield { file, name: quoted ?? code, isRust: code !== undefined };
}

// The page about fuzzing names commands and folders: its targets are held by tests of their own (`fuzz/src/complete.rs`).
for (const page of readdirSync(FOLDER).filter((page) => page !== "fuzzing.md"))
  test(`each test that ${page} names exists`, () => {
    const text = read(join(FOLDER, page));
    const all = [...named(text)];
    assert.ok(all.length > 15, `${all.length} tests`);
    assert.equal(new Set(text.match(/`[\w./-]+` › /g)).size > 5, true);
    const amiss = [];
    for (const { file, name, isRust } of all) {
      const files = filesOf(file).filter((path) => existsSync(join(ROOT, path)));
      const texts = files.map((path) => read(join(ROOT, path)));
      // A name may be cut by an ellipsis, or be followed by what the test puts in.
      const start = name.replace(/ ?…$/, "");
      const found = texts.some((one) =>
        isRust ? new RegExp(`fn ${name}\\b`).test(one) : one.includes(`"${start}`) || one.includes(`test(\`${start} \${`),
      );
      if (!found) amiss.push(`${file} › ${name}${files.length ? "" : ": no such file"}`);
    }
    assert.deepEqual(amiss, []);
  });

test("each credential stands in the table, with its bound and a test", () => {
  const text = read(join(FOLDER, "credentials.md"));
  const rows = text
    .split("\n")
    .filter((line) => /^\| (?!credential|-)/.test(line) && !line.startsWith("|---"))
    .map((line) => line.split("|").map((cell) => cell.trim()));
  for (const [, credential, entropy, compared, bound, tests] of rows) {
    assert.ok(entropy && compared && bound, credential);
    assert.ok([...named(tests)].length > 0, `a test for ${credential}`);
  }
  const wanted = [
    /API key/,
    /ADMIN_KEY/,
    /code of a mail/,
    /link of a mail/,
    /Stripe/,
    /Resend/,
    /METRICS_TOKEN/,
    /session/,
    /state/,
    /delete/,
    /invitation/,
    /Turnstile/,
  ];
  for (const one of wanted)
    assert.ok(
      rows.some(([, credential]) => one.test(credential)),
      String(one),
    );
});
