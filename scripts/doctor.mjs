// npm run doctor [-- --env NAME]: the tools, then the settings of this machine by the Worker's own rules; then what production should
// have, or with an environment's name everything that a deployment checks.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ROOT, bindgen, node, run, say, setUp, underNewNode } from "./lib/tools.mjs";

await setUp();
if (!(await underNewNode(import.meta.url))) process.exitCode = await main();

/** The tools and settings of this machine; whether the settings hold. */
async function checkMachine() {
  say(`node           ${node()}`);
  say(`bindgen        ${await bindgen()}`);
  const vars = join(ROOT, ".dev.vars");
  if (!existsSync(vars)) {
    say(".dev.vars      absent; `npm start` makes it");
    return true;
  }
  try {
    await run("cargo", ["run", "--quiet", "--example", "doctor", "--", vars]);
    return true;
  } catch {
    return false;
  }
}

async function main() {
  const argv = process.argv.slice(2);
  if (argv.length === 0) {
    if (!(await checkMachine())) return 1;
    const { warn } = await import("./lib/warnings.mjs");
    await warn("production");
    return 0;
  }
  const { read } = await import("./lib/arguments.mjs");
  const { env: name } = await read(argv, {}, "npm run doctor [-- --env NAME]");
  const { inspect, report } = await import("./lib/inspect.mjs");
  const seen = await inspect(name, { asks: true });
  if (!report(name, seen.findings)) return 1;
  say(`${name}: ${seen.pending.length} migrations to apply, ${seen.fresh.length} of objects; a deployment may begin`);
  return 0;
}
