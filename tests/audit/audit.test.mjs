// The step `audit` finds a hole where there is one: the real npm and the real cargo-deny are given sources that name one.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import {
  ACCEPTED,
  auditAll,
  cargoLocks,
  deny,
  denyAudited,
  judge,
  npm,
  npmAudited,
  npmLocks,
  pipAudited,
  requirements,
} from "../../scripts/lib/audit.mjs";
import { ROOT } from "../../scripts/lib/tools.mjs";

/** A registry that knows advisories: of one package in all its versions, with a severity. */
async function registry(severity, act) {
  const asked = [];
  const server = createServer(async (request, response) => {
    const sent = Buffer.concat(await request.toArray());
    if (!request.url?.endsWith("/advisories/bulk")) {
      response.writeHead(404).end("{}");
      return;
    }
    const packages = JSON.parse(String(request.headers["content-encoding"] === "gzip" ? gunzipSync(sent) : sent));
    asked.push(packages);
    const hole = { id: 1, url: "https://github.com/advisories/GHSA-test-test-test", title: "a hole", severity, vulnerable_versions: "*" };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ sax: [{ ...hole, cwe: [], cvss: { score: 9 } }] }));
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  // npm keeps what it has computed of an advisory.
  const cache = mkdtempSync(join(tmpdir(), "x402-npm-"));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  try {
    return { found: await act(["--registry", `http://127.0.0.1:${port}/`, "--cache", cache]), asked };
  } finally {
    rmSync(cache, { recursive: true, force: true });
    server.closeAllConnections();
    server.close();
  }
}

test("npm's advisories of a package in the lock are found, and small ones are not", async () => {
  for (const [severity, holes] of [
    ["critical", 1],
    ["high", 1],
    ["moderate", 0],
  ]) {
    const { found, asked } = await registry(severity, (more) => npm("package-lock.json", more));
    assert.equal(found.unchecked, undefined);
    assert.deepEqual(
      found.findings.map(({ id, package: name }) => [id, name]),
      holes ? [["GHSA-test-test-test", "sax"]] : [],
      String(severity),
    );
    assert.ok(asked.length > 0 && asked.every((packages) => packages.wrangler && packages.sax), "it was asked by the lock");
  }
});

test("a registry that gives no advisories is not one that knows of none", async () => {
  const found = await npm("package-lock.json", ["--registry", "http://127.0.0.1:1/"]);
  assert.deepEqual(found.findings, []);
  assert.ok(found.unchecked, JSON.stringify(found));
  assert.match(npmAudited("x", "").unchecked ?? "", /no report/);
  assert.match(pipAudited("x", "").unchecked ?? "", /no report/);
  assert.match(denyAudited("x", "", 0).unchecked ?? "", /no report/);
});

test("RustSec's advisories of a crate in the lock are found; without a database nothing is known", async () => {
  const folder = mkdtempSync(join(tmpdir(), "x402-audit-"));
  try {
    const git = (cwd, ...args) => execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@example.test", ...args], { cwd });
    const source = join(folder, "source");
    mkdirSync(join(source, "crates", "hmac"), { recursive: true });
    const advisory = { id: "RUSTSEC-2026-0001", package: "hmac", date: "2026-01-01" };
    const head = Object.entries(advisory).map(([name, value]) => `${name} = "${value}"`);
    const text = ["```toml", "[advisory]", ...head, "", "[versions]", "patched = []", "```", "", "# A hole of a test", "", "It is none."];
    writeFileSync(join(source, "crates", "hmac", "RUSTSEC-2026-0001.md"), `${text.join("\n")}\n`);
    git(source, "init", "--quiet");
    git(source, "add", "--all");
    git(source, "commit", "--quiet", "--message", "one");
    const config = join(folder, "deny.toml");
    const databases = join(folder, "databases");
    const own = readFileSync(join(ROOT, "deny.toml"), "utf8").replace(
      "[advisories]",
      `[advisories]\ndb-path = ${JSON.stringify(databases)}`,
    );
    writeFileSync(config, own);
    const away = await deny("Cargo.lock", { config });
    assert.deepEqual(away.findings, []);
    // It says where it looks for the copy: the folder's name comes from the database's address.
    const [name] = away.unchecked?.match(/advisory-db-[0-9a-f]+/) ?? [];
    assert.ok(name, away.unchecked);
    cpSync(source, join(databases, name), { recursive: true });
    writeFileSync(join(databases, name, ".git", "FETCH_HEAD"), "");
    const { findings, unchecked } = await deny("Cargo.lock", { config });
    assert.equal(unchecked, undefined);
    assert.ok(
      findings.length > 0 && findings.every(({ id, package: crate }) => id === advisory.id && crate === "hmac"),
      JSON.stringify(findings),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("pip-audit's holes are found, and a package that it could not look up is not one without holes", () => {
  const report = (dependencies) => JSON.stringify({ dependencies, fixes: [] });
  const hole = {
    name: "requests",
    version: "2.19.0",
    vulns: [{ id: "PYSEC-2018-28", fix_versions: ["2.20.0"], aliases: [], description: "It leaks." }],
  };
  assert.deepEqual(pipAudited("x", report([hole])).findings, [
    { id: "PYSEC-2018-28", package: "requests", title: "It leaks.", where: "x" },
  ]);
  assert.deepEqual(pipAudited("x", report([{ name: "a", version: "1", vulns: [] }])), { where: "x", findings: [] });
  assert.match(pipAudited("x", report([{ name: "a", skip_reason: "not found" }])).unchecked ?? "", /not found/);
});

test("what is accepted has a reason and an end, and counts until then", () => {
  for (const { id, package: name, reason, until } of ACCEPTED) {
    assert.match(id, /^(GHSA|PYSEC|RUSTSEC|CVE)-/);
    assert.ok(name && reason.length > 20 && /^\d{4}-\d\d-\d\d$/.test(until), id);
  }
  const finding = { id: "GHSA-1", package: "a", title: "", where: "x" };
  const row = { id: "GHSA-1", package: "a", reason: "", until: "2026-12-31" };
  assert.deepEqual(judge([finding], "2026-12-31", [row]), { open: [], ended: [] });
  assert.deepEqual(judge([finding], "2027-01-01", [row]), { open: [finding], ended: [row] });
  assert.deepEqual(judge([finding], "2026-12-31", [{ ...row, package: "b" }]).open, [finding]);
});

test("every lock file and every file of requirements is asked for", () => {
  const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: ROOT, encoding: "utf8" }).split(
    "\n",
  );
  const listed = [...npmLocks(), ...requirements(), ...cargoLocks()];
  // Whatever a script installs with pip is in a file of texts `name==version`.
  const isPip = (path) =>
    path.endsWith(".txt") && !path.includes("fixtures") && /^[\w-]+(\[[\w,]+\])?==/m.test(readFileSync(join(ROOT, path), "utf8"));
  for (const path of files.filter((name) => /(package-lock\.json|Cargo\.lock)$/.test(name) || isPip(name)))
    assert.ok(listed.includes(path), path);
  assert.equal(typeof auditAll, "function");
});
