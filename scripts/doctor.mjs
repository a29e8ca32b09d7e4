// npm run doctor: the tools, then the settings by the Worker's own rules.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ROOT, bindgen, node, run, say, setUp } from "./lib/tools.mjs";

await setUp();
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
