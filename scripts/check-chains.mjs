// npm run check:chains [-- --url URL --admin-key KEY] [chain …]: the registry
// against the chains, through a running Worker or one started for it.
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { say, setUp, underNewNode } from "./lib/tools.mjs";

await setUp();
if (!(await underNewNode(import.meta.url))) await main();

async function main() {
  const args = process.argv.slice(2);
  const flag = (name) => {
    const at = args.indexOf(name);
    return at < 0 ? undefined : args.splice(at, 2)[1];
  };
  let [url, key] = [flag("--url"), flag("--admin-key") ?? process.env.ADMIN_KEY];
  let worker, state;
  if (!url) {
    const { build } = await import("./lib/build.mjs");
    const { answering, migrate, startWorker } = await import("./lib/worker.mjs");
    const { freePort } = await import("./lib/ports.mjs");
    const folder = await build({ local: true });
    state = mkdtempSync(join(tmpdir(), "x402-check-"));
    const port = await freePort(0);
    key = randomBytes(24).toString("hex");
    await migrate(["--persist-to", state]);
    const flags = [
      "--port",
      String(port),
      "--persist-to",
      state,
      "--var",
      `ADMIN_KEY:${key}`,
      "--var",
      `KEY_PEPPERS:${randomBytes(32).toString("hex")}`,
    ];
    worker = startWorker(flags, { folder, stdio: "ignore" });
    url = `http://127.0.0.1:${port}`;
    await answering(url, worker);
    say("asking the chains …");
  }
  let failed = 0;
  try {
    const response = await fetch(`${url}/v1/admin/chains/check`, {
      method: "POST",
      headers: { "x-admin-key": key ?? "", "content-type": "application/json" },
      body: JSON.stringify(args.length ? { chains: args } : {}),
    });
    const answer = await response.json();
    if (response.status !== 200) throw new Error(answer.detail);
    for (const { chain, outcome, differences } of answer.chains) {
      const listed = differences.map(({ what, expected, found }) => `${what}: expected ${expected}, found ${found}`).join("; ");
      console.log(`${chain.padEnd(20)} ${outcome}${listed && `  ${listed}`}`);
      if (outcome === "differs") failed = 1;
    }
  } catch (error) {
    say(error.message);
    failed = 1;
  }
  await worker?.stop();
  if (state) rmSync(state, { recursive: true, force: true });
  process.exit(failed);
}
