// Requests as bytes: what no HTTP client would send. A proxy in front that reads such a request otherwise than the server behind it
// lets one client's bytes become another's request (request smuggling).
import { connect } from "node:net";

const HOST = "Host: x.example\r\n";
/** The request that an attacker hides in the one before it. */
export const HIDDEN = `GET /v1/health?hidden HTTP/1.1\r\n${HOST}\r\n`;
const chunk = (text) => `${text.length.toString(16)}\r\n${text}\r\n`;
const post = (headers, body) =>
  `POST /v1/api-keys/revoke-leaked HTTP/1.1\r\n${HOST}Content-Type: application/json\r\n${headers}\r\n${body}`;
const both = `Content-Length: ${HIDDEN.length + 5}\r\n`;

/** Messages of which it is not certain where they end: each must be refused, or end the connection, so that nothing after it is read. */
export const AMBIGUOUS = {
  "CL and TE": post(`${both}Transfer-Encoding: chunked\r\n`, `0\r\n\r\n${HIDDEN}`),
  "TE and CL": post(`Transfer-Encoding: chunked\r\n${both}`, `0\r\n\r\n${HIDDEN}`),
  "TE with a space before the colon": post(`${both}Transfer-Encoding : chunked\r\n`, `0\r\n\r\n${HIDDEN}`),
  "TE with a tab": post(`${both}Transfer-Encoding:\tchunked\r\n`, `0\r\n\r\n${HIDDEN}`),
  "TE of a letter more": post(`${both}Transfer-Encoding: xchunked\r\n`, `0\r\n\r\n${HIDDEN}`),
  "TE twice": post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", `0\r\n\r\n${HIDDEN}`),
  "TE of two": post("Transfer-Encoding: chunked, identity\r\n", `0\r\n\r\n${HIDDEN}`),
  "TE in quotes": post(`${both}Transfer-Encoding: "chunked"\r\n`, `0\r\n\r\n${HIDDEN}`),
  "TE on a folded line": post(`${both}Transfer-Encoding:\r\n chunked\r\n`, `0\r\n\r\n${HIDDEN}`),
  "a folded line before TE": post(`X: y\r\n Transfer-Encoding: chunked\r\n${both}`, `0\r\n\r\n${HIDDEN}`),
  "TE behind a NUL": post(`${both}Transfer-Encoding\0: chunked\r\n`, `0\r\n\r\n${HIDDEN}`),
  "TE behind a vertical tab": post(`${both}Transfer-Encoding: \x0bchunked\r\n`, `0\r\n\r\n${HIDDEN}`),
  "two lengths": post(`Content-Length: 2\r\nContent-Length: ${HIDDEN.length + 2}\r\n`, `{}${HIDDEN}`),
  "two lengths, the longer first": post(`Content-Length: ${HIDDEN.length + 2}\r\nContent-Length: 2\r\n`, `{}${HIDDEN}`),
  "a length of two": post(`Content-Length: 2, ${HIDDEN.length + 2}\r\n`, `{}${HIDDEN}`),
  "a length with a plus": post("Content-Length: +2\r\n", `{}${HIDDEN}`),
  "a length in hex": post("Content-Length: 0x2\r\n", `{}${HIDDEN}`),
  "a length below zero": post("Content-Length: -1\r\n", `{}${HIDDEN}`),
  "a length of letters": post("Content-Length: two\r\n", `{}${HIDDEN}`),
  "a length with a space inside": post("Content-Length: 1 2\r\n", `{}${HIDDEN}`),
  "a length beyond 64 bits": post("Content-Length: 18446744073709551618\r\n", `{}${HIDDEN}`),
  "a length with a space before the colon": post("Content-Length : 2\r\n", `{}${HIDDEN}`),
  "a chunk's size in decimal and more": post("Transfer-Encoding: chunked\r\n", `2g\r\n{}\r\n0\r\n\r\n${HIDDEN}`),
  "a chunk's size below zero": post("Transfer-Encoding: chunked\r\n", `-2\r\n{}\r\n0\r\n\r\n${HIDDEN}`),
  "a chunk's size beyond 64 bits": post("Transfer-Encoding: chunked\r\n", `10000000000000002\r\n{}\r\n0\r\n\r\n${HIDDEN}`),
  "a chunk's size behind 0x": post("Transfer-Encoding: chunked\r\n", `0x2\r\n{}\r\n0\r\n\r\n${HIDDEN}`),
  "a chunk that is longer than its size": post("Transfer-Encoding: chunked\r\n", `2\r\n{}}}\r\n0\r\n\r\n${HIDDEN}`),
  "a chunk without its end": post("Transfer-Encoding: chunked\r\n", `2\r\n{}0\r\n\r\n${HIDDEN}`),
  "a header without a name": post(`: x\r\n${both}`, HIDDEN),
  "a header without a colon": post("Content-Length\r\n", `{}${HIDDEN}`),
  "a bare CR in a header": post("X: y\rContent-Length: 2\r\n", `{}${HIDDEN}`),
  "no version": `GET /v1/health\r\n${HOST}\r\n${HIDDEN}`,
  "a version of its own": `GET /v1/health HTTP/9.9\r\n${HOST}\r\n${HIDDEN}`,
  "a space before the first header": `GET /v1/health HTTP/1.1\r\n X: y\r\n${HOST}\r\n${HIDDEN}`,
  "a method of letters that are none": `GE\x01T /v1/health HTTP/1.1\r\n${HOST}\r\n${HIDDEN}`,
  "a preface of HTTP/2": `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${HIDDEN}`,
};

/** Messages that are odd and have one end: they are answered, or refused, and no more than that. */
export const ODD = {
  "an absolute target": `GET http://evil.example/v1/admin/tenants HTTP/1.1\r\n${HOST}\r\n`,
  "an absolute target of https": `GET https://evil.example/v1/admin/tenants HTTP/1.1\r\n${HOST}\r\n`,
  "an asterisk": `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`,
  "an authority": `CONNECT evil.example:443 HTTP/1.1\r\n${HOST}\r\n`,
  "a target without a slash": `GET v1/admin/tenants HTTP/1.1\r\n${HOST}\r\n`,
  "a target of bytes": `GET /v1/admin/\xff\xfe\x80 HTTP/1.1\r\n${HOST}\r\n`,
  "a target with a space": `GET /v1/admin/ tenants HTTP/1.1\r\n${HOST}\r\n`,
  "a target with a fragment": `GET /v1/health#/v1/admin/tenants HTTP/1.1\r\n${HOST}\r\n`,
  "a method that nobody has": `LINK /v1/admin/tenants HTTP/1.1\r\n${HOST}\r\n`,
  "a method in small letters": `get /v1/admin/tenants HTTP/1.1\r\n${HOST}\r\n`,
  "an empty host": "GET /v1/admin/tenants HTTP/1.1\r\nHost: \r\n\r\n",
  "no host": "GET /v1/admin/tenants HTTP/1.1\r\n\r\n",
  "two hosts": `GET /v1/admin/tenants HTTP/1.1\r\n${HOST}Host: evil.example\r\n\r\n`,
  "a host of bytes": "GET /v1/admin/tenants HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
  "HTTP/1.0": "GET /v1/admin/tenants HTTP/1.0\r\n\r\n",
  "bare line feeds": "GET /v1/admin/tenants HTTP/1.1\nHost: x.example\n\n",
  "a key twice": `GET /v1/admin/tenants HTTP/1.1\r\n${HOST}X-Admin-Key: a\r\nX-Admin-Key: b\r\n\r\n`,
  "two keys": `GET /v1/usage HTTP/1.1\r\n${HOST}Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n`,
  "a folded key": `GET /v1/usage HTTP/1.1\r\n${HOST}Authorization: Bearer\r\n x402_live_x\r\n\r\n`,
  "a body of a GET": `GET /v1/admin/tenants HTTP/1.1\r\n${HOST}Content-Length: 2\r\n\r\n{}`,
  "chunks with extensions": post("Transfer-Encoding: chunked\r\n", `2;a="\r\n";b=c\r\n{}\r\n0;x\r\nTrailer: x\r\n\r\n`),
  "trailers that name a key": post(
    "Transfer-Encoding: chunked\r\nTrailer: X-Admin-Key\r\n",
    `${chunk("{}")}0\r\nX-Admin-Key: x\r\nContent-Length: 9\r\n\r\n`,
  ),
  "chunks of one byte": post("Transfer-Encoding: chunked\r\n", `${[...'{"key":"x402_live_x"}'].map(chunk).join("")}0\r\n\r\n`),
  "200 headers": `GET /v1/admin/tenants HTTP/1.1\r\n${HOST}${"X: y\r\n".repeat(200)}\r\n`,
  "a header of 200 KB": `GET /v1/admin/tenants HTTP/1.1\r\n${HOST}X: ${"y".repeat(200_000)}\r\n\r\n`,
  "a target of 200 KB": `GET /${"y".repeat(200_000)} HTTP/1.1\r\n${HOST}\r\n`,
  "empty lines first": `\r\n\r\n\r\nGET /v1/admin/tenants HTTP/1.1\r\n${HOST}\r\n`,
  "no HTTP": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
  expectations: post("Expect: 100-continue\r\nContent-Length: 2\r\n", "{}"),
  "unknown expectations": post("Expect: 200-ok\r\nContent-Length: 2\r\n", "{}"),
};

/** Messages that stop in the middle. */
export const HALF = {
  nothing: "",
  "a line": "GET /v1/hea",
  "headers without an end": `GET /v1/health HTTP/1.1\r\n${HOST}X: `,
  "a body of less than its length": post("Content-Length: 500\r\n", '{"key":"'),
  "a chunk of less than its size": post("Transfer-Encoding: chunked\r\n", 'ff\r\n{"key":"'),
  "chunks without the last": post("Transfer-Encoding: chunked\r\n", chunk('{"key":"')),
};

/**
 * Sends bytes over a connection of their own; what comes back until it ends, or until nothing has come for `quiet_ms`.
 * @param {string} url @param {string} text each letter a byte
 * @param {{ quiet_ms?: number, ends?: boolean }} [options] `ends`: our side is closed after it
 * @returns {Promise<{ text: string, statuses: number[], isClosed: boolean, ms: number }>}
 */
export function exchangeBytes(url, text, { quiet_ms = 400, ends = false } = {}) {
  const { hostname, port } = new URL(url);
  const began = Date.now();
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    let came = "";
    /** @type {NodeJS.Timeout | undefined} */
    let quiet;
    const done = (isClosed) => {
      clearTimeout(quiet);
      socket.destroy();
      const statuses = [...came.matchAll(/HTTP\/1\.[01] (\d{3}) /g)].map(([, status]) => Number(status));
      resolve({ text: came, statuses, isClosed, ms: Date.now() - began });
    };
    const wait = (ms) => {
      clearTimeout(quiet);
      quiet = setTimeout(() => done(false), ms);
    };
    socket.on("connect", () => (ends ? socket.end(Buffer.from(text, "latin1")) : socket.write(Buffer.from(text, "latin1"))));
    // The first answer may take its time; after it nothing more is awaited than what was hidden.
    wait(5_000);
    socket.on("data", (data) => {
      came += data.toString("latin1");
      wait(quiet_ms);
    });
    socket.on("end", () => done(true));
    socket.on("error", () => done(true));
  });
}
