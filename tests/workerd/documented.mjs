// Every answer that a test gets is compared with the OpenAPI document: its status, and its code where it is an error.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const DOCUMENT = join(fileURLToPath(import.meta.url), "..", "..", "..", "docs", "reference", "openapi.json");
/** @type {{ pattern: RegExp, parameters: number, methods: Record<string, any> }[]} */
const paths = Object.entries(JSON.parse(readFileSync(DOCUMENT, "utf8")).paths)
  .map(([path, methods]) => ({
    pattern: new RegExp(`^${path.replaceAll(".", "\\.").replaceAll(/\{[a-z_]+\}/g, "[^/]+")}/?$`),
    parameters: path.split("{").length,
    methods,
  }))
  .sort((one, other) => one.parameters - other.parameters);

/**
 * Throws where the document does not list such an answer of a route; what is no route of the document passes.
 * @param {string} method
 * @param {string} path with its query
 * @param {number} status
 * @param {any} body
 */
export function checkDocumented(method, path, status, body) {
  const [plain] = path.split("?");
  const operation = paths.find(({ pattern }) => pattern.test(plain))?.methods[method.toLowerCase()];
  if (!operation) return;
  const response = operation.responses[status];
  const problem = response?.content?.["application/problem+json"];
  const codes = problem?.schema.allOf.find(({ properties }) => properties)?.properties.error_code.enum;
  if (!response || (codes && !codes.includes(body?.error_code)))
    throw new Error(`the document does not list ${status} ${body?.error_code ?? ""} of ${method} ${plain}`);
}
