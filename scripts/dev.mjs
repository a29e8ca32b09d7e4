// npm run dev -- <wrangler flags>: the Worker alone, its D1 migrated first, nothing seeded.
import { compile } from "./lib/build.mjs";
import { say, setUp, underNewNode } from "./lib/tools.mjs";

await setUp({ beside: () => compile({ local: true }) });
if (!(await underNewNode(import.meta.url))) {
  const { build } = await import("./lib/build.mjs");
  const { migrate, startWorker } = await import("./lib/worker.mjs");
  const flags = process.argv.slice(2);
  const folder = await build({ local: true });
  say("applying migrations …");
  await migrate(flags);
  const worker = startWorker(flags, { folder });
  let stopping = false;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, async () => {
      if (stopping) return;
      stopping = true;
      await worker.stop();
      process.exit(0);
    });
  }
  worker.once("exit", (code) => {
    if (!stopping) process.exit(code ?? 1);
  });
}
