// npm run deploy -- <wrangler flags>: migrations first, then the Worker.
import { environment, run, say, setUp, wrangler } from "./lib/tools.mjs";
import { build, compile, size } from "./lib/build.mjs";

await setUp({ beside: () => compile() });
await build();
say(size());
const [node, script] = wrangler();
const flags = process.argv.slice(2);
const named = flags.find((flag) => flag === "--env" || flag === "-e" || flag.startsWith("--env="));
if (!named) {
  say("Which environment? npm run deploy -- --env production (or staging)");
  process.exit(2);
}
try {
  const env = named.includes("=") ? [named] : ["--env", flags[flags.indexOf(named) + 1]];
  if (!flags.includes("--dry-run")) {
    await run(node, [script, "d1", "migrations", "apply", "DB", "--remote", ...env], { env: environment() });
  }
  await run(node, [script, "deploy", ...flags], { env: environment() });
} catch {
  say("\nThe deployment ended early. Is `npx wrangler login` done, and does wrangler.toml hold your D1 database's id?");
  process.exit(1);
}
