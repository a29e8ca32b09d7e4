// What stands between two parties and can fail: a provider's front that counts
// and refuses, and a wire that can be cut.
import { createServer } from "node:http";
import { connect, createServer as listen } from "node:net";

const opened = (server) => new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`)));

/** A provider in front of a chain. `asked` names every call; while `down` it answers nothing usable. */
export async function startProxy(target) {
  const proxy = { asked: [], down: false };
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    proxy.asked.push(...[JSON.parse(body)].flat().map(({ method }) => method));
    if (proxy.down) return response.writeHead(500).end();
    const answer = await fetch(target, { method: "POST", headers: { "content-type": "application/json" }, body });
    response.writeHead(answer.status, { "content-type": "application/json" }).end(await answer.text());
  });
  // A connection that is closed while it is used again is not what is tested.
  server.keepAliveTimeout = 120_000;
  proxy.url = await opened(server);
  proxy.stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return proxy;
}

/** A wire to `target`; `cut` resets every connection that is open, on both ends. */
export async function startWire(target) {
  const { hostname, port } = new URL(target);
  const pairs = new Set();
  const server = listen((near) => {
    const far = connect({ host: hostname, port: Number(port) });
    const pair = [near, far];
    pairs.add(pair);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on("error", () => to.destroy());
      from.on("close", () => (to.destroy(), pairs.delete(pair)));
      from.pipe(to);
    }
  });
  const url = await opened(server);
  const cut = () => {
    for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy();
  };
  const stop = () => {
    cut();
    server.close();
  };
  return { url, cut, stop };
}
