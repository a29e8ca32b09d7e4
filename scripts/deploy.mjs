// npm run deploy -- <wrangler flags>: migrations first, then the Worker.
import { environment, run, say, setUp, underNewNode, wrangler } from "./lib/tools.mjs";
import { build, compile, size } from "./lib/build.mjs";
import { warn } from "./lib/warnings.mjs";

await setUp({ beside: () => compile() });
if (!(await underNewNode(import.meta.url))) await main();

async function main() {
  await build();
  say(size());
  const [node, script] = wrangler();
  const flags = process.argv.slice(2);
  const named = flags.find((flag) => flag === "--env" || flag === "-e" || flag.startsWith("--env="));
  if (!named) {
    say("Which environment? npm run deploy -- --env production (or staging)");
    process.exit(2);
  }
  const name = named.includes("=") ? named.slice(named.indexOf("=") + 1) : flags[flags.indexOf(named) + 1];
  const isTried = flags.includes("--dry-run");
  try {
    await warn(name, { asks: !isTried });
    if (!isTried) {
      await run(node, [script, "d1", "migrations", "apply", "DB", "--remote", "--env", name], { env: environment() });
    }
    await run(node, [script, "deploy", ...flags], { env: environment() });
  } catch {
    say("\nThe deployment ended early. Is `npx wrangler login` done, and does wrangler.toml hold your D1 database's id?");
    process.exit(1);
  }
}
