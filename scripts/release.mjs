// npm run release -- X.Y.Z: moves what CHANGELOG.md has under Unreleased below that version, sets the version where it
// stands, records the classes of objects in ops/releases.json, commits `release: X.Y.Z` and tags it `vX.Y.Z`. It pushes nothing.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { RECORD, recorded } from "./lib/releases.mjs";

/** A release's version: three numbers without leading zeros. Nothing is released under a pre-release's version. */
const VERSION = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$/;

/** Runs git in a repository, whatever repository a hook of git has named in the environment. */
export function git(root, ...args) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("GIT_")));
  return execFileSync("git", args, { cwd: root, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
}

/** Whether version `one` is greater than `other`. */
function isGreater(one, other) {
  const [ours, theirs] = [one, other].map((version) => version.split(".").map(Number));
  const at = ours.findIndex((number, place) => number !== theirs[place]);
  return at >= 0 && ours[at] > theirs[at];
}

/** Replaces the one place that `pattern` finds; its first group is kept. */
function replaceOne(file, text, pattern, replacement) {
  const found = [...text.matchAll(pattern)].length;
  if (found !== 1) throw new Error(`${file}: the version stands in ${found} places of the kind ${pattern}, not in one`);
  return text.replace(pattern, (_, kept) => kept + replacement);
}

/** The manifests of the root package and of the workspace's crates, as paths and texts. */
function manifests(root) {
  const crates = join(root, "crates");
  const folders = existsSync(crates) ? readdirSync(crates).sort() : [];
  const paths = ["Cargo.toml", ...folders.map((name) => `crates/${name}/Cargo.toml`)];
  return paths.filter((path) => existsSync(join(root, path))).map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
}

/** What follows a table's heading in TOML, up to the next heading. */
const table = (name) => `^\\[${name}\\]\\n(?:(?!\\[).*\\n)*?`;

/** The Cargo files with the version `to` in place of `from`. A crate whose version is the workspace's has none of its own. */
function cargoFiles(root, from, to) {
  const version = from.replaceAll(".", "\\.");
  const changed = {};
  let lock = readFileSync(join(root, "Cargo.lock"), "utf8");
  for (const { path, text } of manifests(root)) {
    const own = new RegExp(`(${table("(?:workspace\\.)?package")}version = ")${version}(?=")`, "gm");
    if (own.test(text)) changed[path] = text.replace(own, (_, kept) => kept + to);
    const name = text.match(new RegExp(`${table("package")}name = "([^"]+)"`, "m"))?.[1];
    if (name === undefined) throw new Error(`${path} names no package`);
    lock = replaceOne("Cargo.lock", lock, new RegExp(`(^name = "${name}"\\nversion = ")${version}(?="$)`, "gm"), to);
  }
  if (changed["Cargo.toml"] === undefined) throw new Error(`Cargo.toml does not have the version ${from} of package.json`);
  return { ...changed, "Cargo.lock": lock };
}

/** npm's files with the version `to`, written as npm writes them. */
function npmFiles(root, to) {
  const read = (path) => JSON.parse(readFileSync(join(root, path), "utf8"));
  const write = (json) => `${JSON.stringify(json, null, 2)}\n`;
  const lock = read("package-lock.json");
  lock.version = to;
  lock.packages[""].version = to;
  return { "package.json": write({ ...read("package.json"), version: to }), "package-lock.json": write(lock) };
}

/** CHANGELOG.md with what is unreleased below `version`. */
function changelog(root, version, date) {
  const text = readFileSync(join(root, "CHANGELOG.md"), "utf8");
  const [before, rest] = text.split(/^## \[Unreleased\]\n/m);
  if (rest === undefined) throw new Error("CHANGELOG.md has no heading `## [Unreleased]`");
  if (!/^- /m.test(rest.split(/^## /m)[0])) throw new Error("CHANGELOG.md has nothing under Unreleased");
  return `${before}## [Unreleased]\n\n## [${version}] - ${date}\n${rest}`;
}

/** Releases what is committed in a repository; `date` as `YYYY-MM-DD`. Answers the tag. Refuses before it changes anything. */
export function release(root, version, date) {
  if (!VERSION.test(version)) throw new Error(`'${version}' is no version: it must be X.Y.Z`);
  const from = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version;
  if (!isGreater(version, from)) throw new Error(`${version} is not greater than ${from}, the version of package.json`);
  if (git(root, "status", "--porcelain") !== "") throw new Error("the tree has changes that are not committed");
  const tag = `v${version}`;
  if (git(root, "tag", "--list", tag) !== "") throw new Error(`the tag ${tag} exists`);
  const openapi = "docs/reference/openapi.json";
  const reference = readFileSync(join(root, openapi), "utf8");
  const files = {
    ...cargoFiles(root, from, version),
    ...npmFiles(root, version),
    [openapi]: replaceOne(openapi, reference, new RegExp(`("version": ")${from.replaceAll(".", "\\.")}(?=")`, "g"), version),
    "CHANGELOG.md": changelog(root, version, date),
    [RECORD]: recorded(root, version),
  };
  try {
    for (const [path, text] of Object.entries(files)) writeFileSync(join(root, path), text);
    git(root, "add", "--", ...Object.keys(files));
    git(root, "commit", "--quiet", "--message", `release: ${version}`);
  } catch (error) {
    // The tree was clean: nothing but this release's own changes is lost.
    git(root, "restore", "--staged", "--worktree", "--", ...Object.keys(files));
    throw error;
  }
  git(root, "tag", "--annotate", tag, "--message", tag);
  return tag;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = join(import.meta.dirname, "..");
  try {
    const [version = "", ...more] = process.argv.slice(2);
    if (more.length > 0) throw new Error(`one version is released at a time, not also ${more.join(" ")}`);
    const tag = release(root, version, new Date().toISOString().slice(0, 10));
    console.log(`committed and tagged ${tag}; \`git push --follow-tags\` publishes it`);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
