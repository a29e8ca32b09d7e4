// npm run doctor: the tools, then the settings by the Worker's own rules, then what production should have.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ROOT, bindgen, node, run, say, setUp, underNewNode } from "./lib/tools.mjs";
import { warn } from "./lib/warnings.mjs";

await setUp();
if (!(await underNewNode(import.meta.url))) await main();

async function main() {
  say(`node           ${node()}`);
  say(`bindgen        ${await bindgen()}`);
  const vars = join(ROOT, ".dev.vars");
  if (!existsSync(vars)) say(".dev.vars      absent; `npm start` makes it");
  else {
    try {
      await run("cargo", ["run", "--quiet", "--example", "doctor", "--", vars]);
    } catch {
      process.exit(1);
    }
  }
  await warn("production");
}
