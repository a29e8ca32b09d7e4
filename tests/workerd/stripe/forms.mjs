// Forms as Stripe reads them, `items[0][price]=…`, and the errors that it answers.

/** Reads a form: objects, lists by their indices or by `[]`, and texts. */
export function decode(text) {
  const root = {};
  for (const [key, value] of new URLSearchParams(text)) {
    const parts = [...key.matchAll(/^[^[\]]+|\[([^[\]]*)\]/g)].map(([whole, inner]) => inner ?? whole);
    let node = root;
    for (const [at, part] of parts.entries()) {
      const name = part === "" ? String(Object.keys(node).length) : part;
      if (at === parts.length - 1) node[name] = value;
      else node = node[name] ??= {};
    }
  }
  return lists(root);
}

/** Objects whose names are indices are lists. */
function lists(node) {
  if (typeof node !== "object") return node;
  const made = Object.fromEntries(Object.entries(node).map(([name, value]) => [name, lists(value)]));
  const names = Object.keys(made);
  return names.length > 0 && names.every((name) => /^\d+$/.test(name)) ? names.map((name) => made[name]) : made;
}

/** Writes a form; what is undefined is left out. */
export function encode(params) {
  const pairs = [];
  const write = (name, value) => {
    if (value === undefined) return;
    if (typeof value !== "object" || value === null) pairs.push([name, value === null ? "" : String(value)]);
    else for (const [inner, one] of Object.entries(value)) write(name === "" ? inner : `${name}[${inner}]`, one);
  };
  write("", params);
  return new URLSearchParams(pairs).toString();
}

/** An error that Stripe answers. */
export class StripeError extends Error {
  /** @param {number} status @param {{ type?: string, code?: string, param?: string, message: string }} error */
  constructor(status, { type = "invalid_request_error", ...error }) {
    super(error.message);
    this.status = status;
    this.body = { error: { type, ...error } };
  }
}

export const missing = (what, id) => new StripeError(404, { code: "resource_missing", param: "id", message: `No such ${what}: '${id}'` });

/** A page of a list, as Stripe cuts it. `all` is the newest first. */
export function page(all, { limit = 10, starting_after: after, ending_before: before }, url) {
  let found = all;
  if (after) found = all.slice(all.findIndex(({ id }) => id === after) + 1);
  if (before)
    found = all
      .slice(
        0,
        all.findIndex(({ id }) => id === before),
      )
      .slice(-limit);
  return { object: "list", data: found.slice(0, limit), has_more: found.length > limit, url };
}
