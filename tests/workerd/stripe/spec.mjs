// Stripe's OpenAPI, which comes with the world: every request that we send and every answer that the gateway gives is
// held against it. It is of 2026-08-26.dahlia; AMENDED is what the pinned version says otherwise, as npm's `stripe` has it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv } from "ajv";
import { wheels } from "./world.mjs";

/** What links are expanded to here. Other links stay ids, since their schemas are most of the document. */
const EXPANDED = ["invoice", "payment_method", "product", "price", "subscription", "subscription_schedule", "customer", "deleted_customer"];
/** Members that no answer here fills, and whose schemas lead to most of the document. */
const ABSENT = {
  api_errors: ["payment_intent", "payment_method", "setup_intent", "source"],
  customer: ["sources", "subscriptions", "tax_ids", "default_source"],
};

/** Members that Stripe answers as null, as the world has recorded, though the document does not say so. */
const NULLABLE = { payment_method: ["radar_options"], charge: ["radar_options"] };

const SCHEMA = "#/components/schemas/";
/** A schema of the document, as Ajv is to call it. */
const named = (name) => `https://stripe.example/${name}`;

/** `billing_cycle_anchor` of a change became an object with 2026-09-30.endive. */
const ANCHOR = { type: "object", properties: { type: { enum: ["now", "unchanged"] } }, required: ["type"], additionalProperties: false };

/** What the pinned version says otherwise, by the operation. @type {Record<string, (form: any) => void>} */
const AMENDED = {
  PostWebhookEndpoints: (form) => form.properties.api_version.enum.push("2026-09-30.endive", "2026-10-28.endive"),
  PostCheckoutSessions: (form) => delete form.properties.payment_method_types,
  PostSubscriptionsSubscriptionExposedId: (form) => (form.properties.billing_cycle_anchor = ANCHOR),
  PostSubscriptionsSubscriptionResume: (form) => (form.properties.billing_cycle_anchor = ANCHOR),
  PostInvoicesCreatePreview: (form) => (form.properties.subscription_details.properties.billing_cycle_anchor = ANCHOR),
};

/** A schema of OpenAPI 3.0 as one of JSON Schema. `seen` gets the names of the schemas that it refers to. */
function asJsonSchema(schema, seen = (_name) => {}) {
  const inner = (value) => asJsonSchema(value, seen);
  if (Array.isArray(schema)) return schema.map(inner);
  if (typeof schema !== "object" || schema === null) return schema;
  const { nullable, description: _, "x-expansionResources": links, "x-expandableFields": __, ...own } = schema;
  if (links && own.anyOf) own.anyOf = own.anyOf.filter(({ $ref }) => !$ref || EXPANDED.includes($ref.slice(SCHEMA.length)));
  if (typeof own.$ref === "string") {
    const name = own.$ref.slice(SCHEMA.length);
    seen(name);
    own.$ref = named(name);
  }
  const made = Object.fromEntries(Object.entries(own).map(([name, value]) => [name, inner(value)]));
  return nullable ? { anyOf: [{ type: "null" }, made] } : made;
}

/** Has every object of a form refuse members that it does not know, as Stripe does: only the outermost says so. */
function close(schema) {
  if (Array.isArray(schema)) return schema.map(close);
  if (typeof schema !== "object" || schema === null) return schema;
  const made = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, close(value)]));
  const isClosed =
    made.properties && typeof made.properties === "object" && made.additionalProperties === undefined && made.type === "object";
  return isClosed ? { ...made, additionalProperties: false } : made;
}

/** Reads the document. */
async function read() {
  const path = join(await wheels(), "seahaven_stripe_world", "spec", "spec3.json");
  const { paths, components } = JSON.parse(readFileSync(path, "utf8"));
  const operations = Object.entries(paths).flatMap(([path, methods]) => {
    const pattern = new RegExp(`^${path.replaceAll(/\{[^}]*\}/g, "([^/]+)")}$`);
    const literal = path.split("/").filter((part) => !part.startsWith("{")).length;
    return Object.entries(methods).map(([method, about]) => ({ method: method.toUpperCase(), pattern, literal, about }));
  });
  // A path that names more of itself goes before one that has a place for it: `/v1/invoices/create_preview`.
  operations.sort((a, b) => b.literal - a.literal);
  const { schemas } = components;
  for (const [name, members] of Object.entries(ABSENT)) for (const member of members) schemas[name].properties[member] = {};
  for (const [name, members] of Object.entries(NULLABLE)) for (const member of members) schemas[name].properties[member].nullable = true;
  return { operations, schemas };
}

let document;

/** The checks of requests and answers. */
export async function startSpec() {
  document ??= read();
  const { operations, schemas } = await document;
  const options = { strict: false, validateFormats: false, validateSchema: false, logger: /** @type {false} */ (false) };
  // Everything in a form is text: what it stands for is by the schema.
  const forms = new Ajv({ ...options, coerceTypes: true, allErrors: true });
  const answers = new Ajv(options);
  const checks = new Map();
  const kept = (name, make) => {
    if (!checks.has(name)) checks.set(name, make());
    return checks.get(name);
  };

  const added = new Set();
  /** Adds a schema of the document with those that it refers to. Each is compiled once, when it is first met. */
  function add(name) {
    if (added.has(name)) return;
    added.add(name);
    answers.addSchema(asJsonSchema(schemas[name], add), named(name));
  }

  const operation = (method, path) => operations.find((one) => one.method === method && one.pattern.test(path));

  /** The schema of an operation's parameters. */
  function form({ parameters = [], requestBody, operationId }) {
    const made = structuredClone(requestBody?.content?.["application/x-www-form-urlencoded"]?.schema ?? { type: "object", properties: {} });
    made.additionalProperties = false;
    for (const { name, in: place, schema, required } of parameters) {
      if (place !== "query") continue;
      made.properties[name] = schema;
      if (required) made.required = [...(made.required ?? []), name];
    }
    AMENDED[operationId]?.(made);
    return close(asJsonSchema(made));
  }

  /** What is wrong with a body by a schema, which is kept by a name. */
  function by(name, schema, body) {
    const check = kept(`answer ${name}`, () => answers.compile(asJsonSchema(schema, add)));
    return check(body) ? undefined : told(check.errors);
  }

  return {
    /** What is wrong with the parameters of a request; undefined is nothing. They get their types. */
    request(method, path, params) {
      const found = operation(method, path);
      if (!found) return `Stripe has no ${method} ${path}`;
      const check = kept(found.about.operationId, () => forms.compile(form(found.about)));
      return check(params) ? undefined : told(check.errors);
    },
    /** What is wrong with an answer; undefined is nothing. */
    answer(method, path, status, body) {
      const found = operation(method, path);
      if (!found) return `Stripe has no ${method} ${path}`;
      const { responses } = found.about;
      const schema = (responses[status] ?? responses.default).content["application/json"].schema;
      return by(`${found.about.operationId} ${responses[status] ? status : ""}`, schema, body);
    },
    /** What is wrong with an object by its name in the document. */
    object(name, body) {
      return by(name, { $ref: `${SCHEMA}${name}` }, body) ?? unknown(name, body);
    },
  };

  /** Members that the document's schema lacks: one that we have made up would be read by nobody at Stripe. */
  function unknown(name, body) {
    const members = Object.keys(body).filter((member) => !(member in schemas[name].properties));
    return members.length ? `${name} has no ${members.join(", ")}` : undefined;
  }
}

const told = (errors) =>
  (errors ?? [])
    .slice(0, 5)
    .map(({ instancePath, message, params }) => `${instancePath || "/"} ${message} ${JSON.stringify(params)}`)
    .join("; ");
