// Free ports on loopback.
import { once } from "node:events";
import { createServer } from "node:net";

/**
 * Opens a server on loopback; answers its port. 0 asks for any free one.
 * @param {import("node:net").Server} server
 */
export async function listen(server, port = 0) {
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return /** @type {import("node:net").AddressInfo} */ (server.address()).port;
}

function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(server.address() === null)));
  });
}

/**
 * The wished port, or another one, which is reported to `say`; 0 wishes for any.
 * @param {number} wished
 * @param {string} [what] whose port it is, for the report
 * @param {(line: string) => void} [say]
 */
export async function freePort(wished, what, say = () => {}) {
  if (wished !== 0 && (await isFree(wished))) return wished;
  const server = createServer();
  const port = await listen(server);
  server.close();
  await once(server, "close");
  if (wished !== 0) say(`port ${wished} is busy; ${what} takes ${port}`);
  return port;
}
