// Known holes of what the project is built, run and tested with, by its lock files: npm's registry, PyPI and RustSec's
// database are asked where they can be reached. What could not be asked is said, and is a failure only where it must be
// known: with AUDIT=strict, as the job `advisories` of CI sets it.
import { execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ROOT, cargoTool, environment, pythonTool } from "./tools.mjs";

/** The longest that one question may take. */
const LIMIT_MS = 90_000;

/**
 * Holes that are known and do not matter here, by advisory: why, and until when that holds.
 * @type {{ id: string, package: string, reason: string, until: string }[]}
 */
export const ACCEPTED = [];

/** @typedef {{ id: string, package: string, title: string, where: string }} Finding */
/** @typedef {{ where: string, findings: Finding[], unchecked?: string }} Audited `unchecked`: why nothing is known */

const GRAVE = ["high", "critical"];
const unchecked = (where, why) => ({ where, findings: [], unchecked: why.trim().split("\n")[0].slice(0, 200) });
const parsed = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/**
 * What `npm audit --json` says of a lock file: holes that are high or critical.
 * @returns {Audited}
 */
export function npmAudited(where, stdout) {
  const report = parsed(stdout);
  if (report?.auditReportVersion !== 2) return unchecked(where, report?.message ?? report?.error?.summary ?? "npm gave no report");
  const all = Object.values(report.vulnerabilities).flatMap(({ name, via }) => via.map((one) => ({ name, ...one })));
  // A text names another package by which this one is affected, which has an entry of its own.
  const grave = all.filter(({ url, severity }) => url && GRAVE.includes(severity));
  const findings = grave.map(({ dependency, name, url, title }) => ({
    id: url.split("/").at(-1),
    package: dependency ?? name,
    title,
    where,
  }));
  return { where, findings: [...new Map(findings.map((one) => [`${one.id} ${one.package}`, one])).values()] };
}

/**
 * What `pip-audit --format json` says of a file of requirements. PyPI gives no severity: each hole counts.
 * @returns {Audited}
 */
export function pipAudited(where, stdout) {
  const report = parsed(stdout);
  if (!Array.isArray(report?.dependencies)) return unchecked(where, "pip-audit gave no report");
  const skipped = report.dependencies.filter(({ skip_reason: why }) => why);
  const findings = report.dependencies.flatMap(({ name, vulns = [] }) =>
    vulns.map(({ id, description }) => ({ id, package: name, title: String(description).split("\n")[0].slice(0, 120), where })),
  );
  if (findings.length === 0 && skipped.length > 0) return unchecked(where, `${skipped.length} packages: ${skipped[0].skip_reason}`);
  return { where, findings };
}

/**
 * What `cargo deny --format json check advisories` says: a line of JSON each, on its standard error.
 * @returns {Audited}
 */
export function denyAudited(where, stderr, code) {
  const lines = stderr.split("\n").flatMap((line) => parsed(line) ?? []);
  const errors = lines.filter(({ type, fields }) => type === "diagnostic" && fields.severity === "error");
  const findings = errors
    .filter(({ fields }) => fields.advisory)
    .map(({ fields: { advisory } }) => ({ id: advisory.id, package: advisory.package, title: advisory.title, where }));
  if (findings.length > 0) return { where, findings };
  const isWhole = lines.some(({ type }) => type === "summary");
  if (code === 0 && isWhole) return { where, findings };
  const said = lines.find(({ type, fields }) => type === "log" && fields.level === "ERROR")?.fields.message;
  return unchecked(where, said ?? (errors[0]?.fields.message || "cargo-deny gave no report"));
}

/** Which findings are not accepted today, and which rows of the table have ended or are met by none. */
export function judge(findings, today, accepted = ACCEPTED) {
  const isRow = (row, finding) => row.id === finding.id && row.package === finding.package;
  const open = findings.filter((finding) => !accepted.some((row) => isRow(row, finding) && today <= row.until));
  return { open, ended: accepted.filter(({ until }) => today > until) };
}

/** Runs a program for a bounded time; what it has printed, whichever way it ends. */
function output(command, args, { env = {}, cwd = ROOT } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, ...environment(), ...env }, stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => (stdout += chunk));
    child.stderr.on("data", (chunk) => (stderr += chunk));
    const limit = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
    const done = (code) => {
      clearTimeout(limit);
      resolve({ code, stdout, stderr });
    };
    child.once("error", () => done(null));
    child.once("close", done);
  });
}

/** Files of the repository by their names. */
function named(pattern) {
  const all = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: ROOT, encoding: "utf8" });
  return all.split("\n").filter((path) => pattern.test(path) && existsSync(join(ROOT, path)));
}

export const npmLocks = () => named(/(^|\/)package-lock\.json$/);
export const requirements = () => named(/(^|\/)(requirements|conformance|webhooks|wheels)\.txt$/);
export const cargoLocks = () => named(/(^|\/)Cargo\.lock$/);

/** @param {string} lock @param {string[]} more further arguments, as another registry */
export async function npm(lock, more = []) {
  const folder = join(ROOT, lock, "..");
  const args = ["audit", "--package-lock-only", "--json", "--loglevel=silent", "--fetch-retries=0", "--fetch-timeout=20000", ...more];
  return npmAudited(lock, (await output("npm", args, { cwd: folder })).stdout);
}

async function pip(path) {
  const tool = await pythonTool("pip-audit", join(ROOT, "scripts", "audit", "requirements.txt")).catch(() => undefined);
  if (!tool) return unchecked(path, "pip-audit cannot be installed");
  const args = ["--vulnerability-service", "pypi", "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"];
  return pipAudited(path, (await output(tool, [...args, "--timeout", "10", "--requirement", join(ROOT, path)])).stdout);
}

/** @param {string} lock @param {{ isStrict?: boolean, config?: string }} [options] `isStrict`: the database is fetched */
export async function deny(lock, { isStrict = false, config = join(ROOT, "deny.toml") } = {}) {
  const manifest = join(ROOT, lock, "..", "Cargo.toml");
  const offline = isStrict ? [] : ["--offline"];
  const args = ["--manifest-path", manifest, "--format", "json", "--config", config, ...offline, "check", "advisories"];
  const { stderr, code } = await output(await cargoTool("cargo-deny"), args);
  return denyAudited(lock, stderr, code);
}

/**
 * Asks for all. Answers what to say, and what is a failure.
 * @param {{ isStrict?: boolean, today?: string, note?: (text: string) => void }} [options] `isStrict`: what was not checked is one
 */
export async function auditAll({
  isStrict = process.env.AUDIT === "strict",
  today = new Date().toISOString().slice(0, 10),
  note = () => {},
} = {}) {
  /** @type {Audited[]} */
  const all = [];
  const groups = [
    [npmLocks(), (lock) => npm(lock)],
    [requirements(), pip],
    [cargoLocks(), (lock) => deny(lock, { isStrict })],
  ];
  for (const [paths, ask] of groups) {
    for (const path of /** @type {string[]} */ (paths)) {
      note(path);
      all.push(await /** @type {(path: string) => Promise<Audited>} */ (ask)(path));
    }
  }
  const { open, ended } = judge(
    all.flatMap(({ findings }) => findings),
    today,
  );
  const silent = all.filter(({ unchecked: why }) => why !== undefined);
  const failed = [
    ...open.map(({ id, package: name, title, where }) => `${where}: ${name}: ${id} ${title}`),
    ...ended.map(({ id, until }) => `ACCEPTED: ${id} was accepted until ${until}`),
    ...(isStrict ? silent.map(({ where, unchecked: why }) => `${where}: not checked: ${why}`) : []),
  ];
  const lines = all.map(({ where, findings, unchecked: why }) =>
    why === undefined ? `${where}: ${findings.length} known holes` : `${where}: NOT CHECKED: ${why}`,
  );
  return { lines, failed, checked: all.length - silent.length };
}
