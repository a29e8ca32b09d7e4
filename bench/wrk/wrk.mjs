// Writes the prepared requests where mix.lua reads them, and runs Debian's wrk on them.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { debianProgram } from "../../scripts/lib/debian.mjs";

/** A request of the mix with its answer. @typedef {import("./mix.mjs").Row & { requests: string[], once?: string[] }} Prepared */
/** What mix.lua counts of a row: answers as expected and others, requests without one, latencies in microseconds.
 * @typedef {{ good: number, bad: number, lost: number, max: number, hist: Record<string, number> }} RowResult */
/** @typedef {{
 *   rows: RowResult[], failures: { row: number, status: number, body: string }[], seconds: number, open: number, connect: number,
 *   wrk: { requests: number, timeout: number },
 * }} Result */

/** A text as Lua writes it: its bytes. */
const quoted = (text) =>
  `"${Buffer.from(text)
    .toString("latin1")
    .replaceAll(/[^ !#-[\]-~]/g, escaped)}"`;
const escaped = (char) => `\\${String(char.charCodeAt(0)).padStart(3, "0")}`;

/**
 * Writes what mix.lua reads.
 * @param {string} folder
 * @param {Prepared[]} rows
 */
export function writeRequests(folder, rows) {
  const lines = rows.map(({ share, status, holds, requests, once }, at) => {
    const name = `once-${at}.txt`;
    if (once) writeFileSync(join(folder, name), once.map((text) => `${text.replaceAll("\r\n", "\u0001")}\n`).join(""), { mode: 0o600 });
    const members = [`share=${share}`, `status=${status}`, `requests={${requests.map(quoted).join(",")}}`];
    if (holds) members.push(`holds=${quoted(holds)}`);
    if (once) members.push(`once=${quoted(name)}`);
    return `{${members.join(",")}}`;
  });
  writeFileSync(join(folder, "requests.lua"), `return {\n${lines.join(",\n")}\n}\n`, { mode: 0o600 });
}

/**
 * Runs wrk. `rate`: so many requests a second, each of which counts from when it is due; 0: each connection sends its next
 * request when the last is answered. `isSweep`: each row is sent once first.
 * @param {{ url: string, folder: string, seconds: number, connections: number, rate?: number, isSweep?: boolean }} options
 * @returns {Promise<Result>}
 */
export async function runWrk({ url, folder, seconds, connections, rate = 0, isSweep = false }) {
  const { path, env } = await debianProgram("wrk", "wrk");
  const count = String(connections);
  const flags = ["--threads", count, "--connections", count, "--duration", `${seconds}s`, "--timeout", "10s"];
  const own = [folder, count, String(rate), isSweep ? "sweep" : "mix"];
  const args = [...flags, "--script", join(import.meta.dirname, "mix.lua"), new URL("/", url).href, "--", ...own];
  const child = spawn(path, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (chunk) => (printed += chunk));
  const code = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  process.off("exit", kill);
  const found = printed.match(/^RESULT (\{.*\})$/m);
  if (!found) throw new Error(`wrk ended with ${code}: ${printed.slice(-2000)}`);
  return JSON.parse(found[1]);
}
