// Free ports on loopback.
import { createServer } from "node:net";

function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(server.address() === null)));
  });
}

/** The wished port, or another one with a word about it; 0 wishes for any. */
export async function freePort(wished, what, say = () => {}) {
  if (wished !== 0 && (await isFree(wished))) return wished;
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (wished !== 0) say(`port ${wished} is busy; ${what} takes ${port}`);
  return port;
}
