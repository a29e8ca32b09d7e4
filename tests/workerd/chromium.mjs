// Chromium in front of the Worker, which it reaches as https://pay.example.test and by other names.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, request } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium as browsers } from "playwright-core";
import { chromium } from "../../scripts/lib/chromium.mjs";

/** A certificate that its holder has signed, for these minutes. */
function certificate() {
  const folder = mkdtempSync(join(tmpdir(), "x402-tls-"));
  try {
    const [keyFile, certFile] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    const made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"];
    execFileSync("openssl", [...made, "-subj", "/CN=example.test", "-keyout", keyFile, "-out", certFile], { stdio: "ignore" });
    return { key: readFileSync(keyFile), cert: readFileSync(certFile) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * What stands before the Worker: it passes requests on, with the name that the browser asked for. The path /empty is a page
 * of its own, to which `sets` adds cookies.
 */
function front(worker, sets) {
  const { hostname, port } = new URL(worker.url);
  return (asked, answer) => {
    if (asked.url === "/empty") {
      const cookies = sets[asked.headers.host.split(":")[0]] ?? [];
      return answer.writeHead(200, { "content-type": "text/html", "set-cookie": cookies }).end("<!doctype html><title>page</title>");
    }
    const passed = request({ hostname, port, path: asked.url, method: asked.method, headers: asked.headers, agent: false }, (given) => {
      answer.writeHead(given.statusCode, given.headers);
      given.pipe(answer);
    });
    passed.once("error", () => answer.destroy());
    asked.pipe(passed);
  };
}

const listen = (server) => new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));

/**
 * Starts Chromium before a Worker. Every name below .test leads to it: by TLS on port 443, in the clear on port 80.
 * `sets` holds cookies that the page /empty of a name sets, as header values.
 * @param {{ url: string }} worker
 * @param {Record<string, string[]>} [sets]
 */
export async function startChromium(worker, sets = {}) {
  const handler = front(worker, sets);
  const servers = [createSecureServer(certificate(), handler), createServer(handler)];
  const [secure, clear] = await Promise.all(servers.map(listen));
  const { executablePath, env } = await chromium();
  const browser = await browsers.launch({
    executablePath,
    env: { ...process.env, ...env },
    args: [
      "--no-sandbox",
      `--host-resolver-rules=MAP *.test:443 127.0.0.1:${secure}, MAP *.test:80 127.0.0.1:${clear}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`,
    ],
  });
  return {
    /** A browser of its own: cookies are shared with no other. */
    person: () => browser.newContext({ ignoreHTTPSErrors: true }),
    async stop() {
      await browser.close();
      for (const server of servers) {
        server.closeAllConnections();
        server.close();
      }
    },
  };
}

/**
 * A request that a page makes by `fetch`, with the cookies of its browser.
 * @param {import("playwright-core").Page} page
 * @param {string} method
 * @param {string} url
 * @param {any} [body]
 * @param {{ mode?: RequestMode, headers?: Record<string, string> }} [more]
 * @returns {Promise<{ status: number, body: any, refused: string }>} status 0 and why, where the browser gives the page no answer
 */
export const ask = (page, method, url, body = undefined, more = {}) =>
  page.evaluate(
    async ({ method, url, body, more }) => {
      const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
      try {
        const answer = await fetch(url, { method, credentials: "include", ...sent, ...more });
        const text = await answer.text();
        return { status: answer.status, body: text ? JSON.parse(text) : undefined, refused: "" };
      } catch (error) {
        return { status: 0, body: undefined, refused: String(error) };
      }
    },
    { method, url, body, more },
  );
