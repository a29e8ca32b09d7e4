// Payloads that are almost right: from good ones, by a seeded generator.

/** A generator of numbers below 1, the same for the same seed (mulberry32). */
export function seeded(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (limit) => Math.floor(next() * limit);
  return { next, below, pick: (list) => list[below(list.length)] };
}

const JUNK = ["", "0x", "abc", "-1", "1.5", " 1", "1e3", null, 5, true, [], {}, "9".repeat(90), undefined];

/** Puts a value at a path; `undefined` removes what is there. */
export function put(body, path, value) {
  const parts = path.split(".");
  const last = parts.pop();
  const holder = parts.reduce((object, part) => object?.[part], body);
  if (holder === null || typeof holder !== "object") return;
  if (value === undefined) delete holder[last];
  else holder[last] = value;
}

const get = (body, path) => path.split(".").reduce((object, part) => object?.[part], body);

/** Requirements change on both sides, or the buyer did not accept them. */
function both(random, body, member, value) {
  const sides = random.pick([
    ["paymentRequirements", "paymentPayload.accepted"],
    ["paymentRequirements", "paymentPayload.accepted"],
    ["paymentRequirements"],
    ["paymentPayload.accepted"],
  ]);
  for (const side of sides) put(body, `${side}.${member}`, value);
  return `${sides.length === 2 ? "both" : sides[0]}.${member}=${JSON.stringify(value)}`;
}

const REQUIREMENTS = {
  amount: ["10001", "9999", "0", "010000", "1e4"],
  scheme: ["upto", "Exact", "exact "],
  maxTimeoutSeconds: [1, 0, "60"],
  "extra.unknown": [1],
  description: ["more"],
};

/** Changes requirements, whichever the family. */
export function changeRequirements(random, body, more) {
  const all = { ...REQUIREMENTS, ...more };
  const member = random.pick(Object.keys(all));
  return both(random, body, member, random.pick([...all[member], ...(random.below(4) ? [] : JUNK)]));
}

/** Puts junk at one of the paths. */
export function junk(random, body, paths) {
  const path = random.pick(paths);
  const value = random.pick(JUNK);
  put(body, path, value);
  return `${path}=${JSON.stringify(value)}`;
}

/** Changes one character of a text at one of the paths. */
export function scratch(random, body, paths, alphabet) {
  const path = random.pick(paths);
  const text = get(body, path);
  if (typeof text !== "string" || text.length === 0) return `${path} left`;
  const at = random.below(text.length);
  put(body, path, text.slice(0, at) + random.pick([...alphabet]) + text.slice(at + 1));
  return `${path}[${at}]`;
}
