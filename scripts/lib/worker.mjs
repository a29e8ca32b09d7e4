// `wrangler dev` as a child: migrations first, and nothing left behind after.
import { spawn } from "node:child_process";
import { join } from "node:path";
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

/** Starts `wrangler dev` on what is built in `folder`. Its process group dies with this process. */
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
  child.once("exit", () => (over = true));
  const kill = (signal) => {
    try {
      process.kill(-child.pid, signal);
    } catch {
      // The whole group is gone already.
    }
  };
  child.stop = async () => {
    kill("SIGTERM");
    const gone = new Promise((resolve) => (over ? resolve() : child.once("exit", resolve)));
    const late = new Promise((resolve) => setTimeout(resolve, 3000).unref());
    await Promise.race([gone, late]);
    kill("SIGKILL");
  };
  process.once("exit", () => kill("SIGKILL"));
  return child;
}

/** Waits until the Worker answers. */
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
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
