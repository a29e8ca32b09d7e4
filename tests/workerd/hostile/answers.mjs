// What every answer of the service is, whatever was asked.
import { readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..", "..", "..");

/** The headers of every answer, as the code lists them. @type {Record<string, string>} */
export const ALWAYS = Object.fromEntries(
  [
    ...(
      readFileSync(join(ROOT, "crates", "api", "src", "headers.rs"), "utf8").match(/^const ALWAYS_HEADERS[\s\S]*?^\];/m)?.[0] ?? ""
    ).matchAll(/\(\s*"([\w-]+)",\s*"([^"]*)",?\s*\)/g),
  ].map(([, name, value]) => [name.toLowerCase(), value]),
);

const PROBLEM = [
  "type",
  "title",
  "status",
  "detail",
  "instance",
  "success",
  "error",
  "error_code",
  "retry",
  "retry_after_s",
  "param",
  "request_id",
  "docs_url",
];

/** Headers that tell what runs here. */
const TELLING = ["server", "x-powered-by", "x-aspnet-version", "x-runtime", "x-generator"];

/**
 * What is wrong with an answer's headers.
 * @param {import("node:http").IncomingHttpHeaders} headers
 */
export function headersAmiss(headers) {
  const absent = Object.entries(ALWAYS).filter(([name, value]) => headers[name] !== value);
  const told = TELLING.filter((name) => headers[name] !== undefined);
  return [...absent.map(([name]) => `without ${name}`), ...told.map((name) => `with ${name}`)];
}

/** What is wrong with the body of a refusal. */
function problemAmiss(status, headers, text) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    return [`a refusal that is no JSON: ${text.slice(0, 80)}`];
  }
  const absent = PROBLEM.filter((member) => !(member in body));
  const amiss = absent.length > 0 ? [`a refusal without ${absent}: ${text.slice(0, 120)}`] : [];
  if (headers["content-type"] !== "application/problem+json") amiss.push(`a refusal as ${headers["content-type"]}`);
  if (body.status !== status) amiss.push(`${status} says ${body.status}`);
  if (body.request_id !== headers["x-request-id"]) amiss.push("another request's id");
  return amiss;
}

/**
 * What is wrong with an answer; nothing where it is right.
 * @param {import("./sender.mjs").Hostile} hostile
 * @param {{ status: number, headers: import("node:http").IncomingHttpHeaders, text: string }} answer
 */
export function checkAnswer({ method, mayPass = false }, { status, headers, text }) {
  const amiss = headersAmiss(headers);
  if (status >= 500) amiss.push(`${status}: ${text.slice(0, 200)}`);
  if (!/^req_/.test(String(headers["x-request-id"]))) amiss.push("no request id");
  // Every cookie of ours is one of a host, and no page's.
  for (const cookie of headers["set-cookie"] ?? [])
    if (!/^__Host-[a-z-]+=[0-9a-f]*; Max-Age=\d+; Path=\/; Secure; HttpOnly; SameSite=Lax$/.test(cookie)) amiss.push(`a cookie: ${cookie}`);
  if (/evil\.example|<script>|panicked|RuntimeError|\.rs:\d/.test(headers.location ?? "")) amiss.push(`leads to ${headers.location}`);
  if (/panicked|RuntimeError|src\/\w+\.rs|SQLITE|D1_ERROR/.test(text)) amiss.push(`says how it is made: ${text.slice(0, 200)}`);
  if (status >= 400 && method !== "HEAD") amiss.push(...problemAmiss(status, headers, text));
  if (status < 300 && !mayPass && method !== "OPTIONS") amiss.push(`it passes: ${status} ${text.slice(0, 120)}`);
  return amiss;
}
