// A wire between two parties that can be cut.
import { connect, createServer } from "node:net";
import { listen } from "../../scripts/lib/ports.mjs";

/** A wire to `target`; `cut` resets every connection that is open, on both ends. */
export async function startWire(target) {
  const { hostname, port } = new URL(target);
  const pairs = new Set();
  const server = createServer((near) => {
    const far = connect({ host: hostname, port: Number(port) });
    const pair = [near, far];
    pairs.add(pair);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ]) {
      from.on("error", () => to.destroy());
      from.on("close", () => {
        to.destroy();
        pairs.delete(pair);
      });
      from.pipe(to);
    }
  });
  const open = await listen(server);
  const cut = () => {
    for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy();
  };
  const stop = () => {
    cut();
    server.close();
  };
  return { url: `http://127.0.0.1:${open}`, cut, stop };
}
