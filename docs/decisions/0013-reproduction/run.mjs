// node docs/decisions/0013-reproduction/run.mjs: the Worker beside this file under workerd, and how it answers.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Miniflare, convertV4MiniflareOptions } from "miniflare";
import { load } from "../../../bench/load.mjs";

const folder = import.meta.dirname;
const contents = readFileSync(join(folder, "worker.js"), "utf8");
for (const path of ["/constructor", "/withResolvers"]) {
  /** @type {any} Miniflare 4's own type wants one form of `modules` by literal. */
  const options = {
    modules: [{ type: "ESModule", path: join(folder, "worker.js"), contents }],
    modulesRoot: folder,
    compatibilityDate: "2026-11-01",
    unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }],
  };
  const mf = new Miniflare(convertV4MiniflareOptions(options));
  await mf.ready;
  const { hostname: host, port } = await mf.unsafeGetDirectURL();
  const next = () => `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody`;
  for (let round = 0; round < 4; round++) {
    const { statuses, lost } = await load({ host, port: Number(port), connections: 32, seconds: 3, next });
    console.log(path, JSON.stringify(statuses), "lost", lost);
  }
  await mf.dispose();
}
process.exit();
