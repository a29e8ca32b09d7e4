// npm run build: the Worker, ready for `wrangler`; -- --local: the one of `npm start`; -- --bench: the measured one.
import { setUp, say } from "./lib/tools.mjs";
import { build, compile, size } from "./lib/build.mjs";

const [bench, local] = ["--bench", "--local"].map((flag) => process.argv.includes(flag));
await setUp({ beside: () => compile({ bench, local }) });
const folder = await build({ bench, local });
say(local ? `built ${folder}` : size(folder));
