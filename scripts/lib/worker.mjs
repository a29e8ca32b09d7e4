// `wrangler dev` as a child: migrations first, and nothing left behind after.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { ROOT, environment, run, wrangler } from "./tools.mjs";

/** Flags that migrations take as well. */
const SHARED = ["--persist-to", "--env", "-e", "--config", "-c"];

function shared(flags) {
  const taken = [];
  for (let at = 0; at < flags.length; at++) {
    const [name] = flags[at].split("=");
    if (!SHARED.includes(name)) continue;
    taken.push(flags[at]);
    if (!flags[at].includes("=") && at + 1 < flags.length) taken.push(flags[at + 1]);
  }
  return taken;
}

/** Applies the migrations of the local D1. */
export async function migrate(flags = []) {
  const [node, script] = wrangler();
  const args = [script, "d1", "migrations", "apply", "DB", "--local", ...shared(flags)];
  await run(node, args, { env: { ...environment(), CI: "1" }, quiet: true });
}

/**
 * Starts `wrangler dev` on what is built in `folder`; `stop` ends it. Its process group dies with this process.
 * @param {string[]} flags
 * @param {{ folder: string, stdio?: "inherit" | "ignore" }} options
 */
export function startWorker(flags, { folder, stdio = "inherit" }) {
  const given = (name) => flags.some((flag) => flag === name || flag.startsWith(`${name}=`));
  const args = [...flags];
  if (!given("--ip")) args.push("--ip", "127.0.0.1");
  // The inspector's usual port is often taken by another wrangler.
  if (!given("--inspector-port")) args.push("--inspector-port", "0");
  if (!given("--show-interactive-dev-session")) args.push("--show-interactive-dev-session=false");
  const [node, script] = wrangler();
  const child = spawn(node, [script, "dev", join(folder, "index.js"), ...args], {
    cwd: ROOT,
    env: { ...process.env, ...environment() },
    stdio: ["ignore", stdio, stdio],
    detached: true,
  });
  let over = false;
  child.once("exit", () => {
    over = true;
  });
  const kill = (signal) => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch {
      // The whole group is gone already.
    }
  };
  const stop = async () => {
    kill("SIGTERM");
    const gone = over ? Promise.resolve() : once(child, "exit");
    await Promise.race([gone, setTimeout(3000, undefined, { ref: false })]);
    kill("SIGKILL");
  };
  process.once("exit", () => kill("SIGKILL"));
  return Object.assign(child, { stop });
}

/**
 * Waits until the Worker answers.
 * @param {string} url
 * @param {import("node:child_process").ChildProcess} [child] whose end ends the wait
 */
export async function answering(url, child, patience = 60_000) {
  const until = Date.now() + patience;
  for (;;) {
    try {
      const response = await fetch(`${url}/v1/health`, { signal: AbortSignal.timeout(2000) });
      if (response.status < 500) return;
      const { detail } = await response.json();
      throw new Error(detail);
    } catch (error) {
      if (child?.exitCode != null) throw new Error(`wrangler ended with ${child.exitCode}`);
      if (Date.now() > until) throw new Error(`the Worker does not answer: ${error.message}`);
      await setTimeout(100);
    }
  }
}
