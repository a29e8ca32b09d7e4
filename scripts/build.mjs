// npm run build: the Worker, ready for `wrangler`.
import { setUp, say } from "./lib/tools.mjs";
import { build, size } from "./lib/build.mjs";

await setUp();
say(size(await build({ bench: process.argv.includes("--bench") })));
