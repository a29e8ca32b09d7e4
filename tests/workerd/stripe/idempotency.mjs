// Stripe's idempotency: the first answer to a key is kept for a day, errors of Stripe included.

const DAY = 86_400_000;
/** Stripe keeps no answer to what it has not begun. */
const NOT_BEGUN = [
  "parameter_missing",
  "parameter_unknown",
  "parameter_invalid_empty",
  "parameter_invalid_integer",
  "idempotency_key_in_use",
];

/** @param {number} status @param {string} message @param {string} [code] */
const error = (status, message, code) => ({
  status,
  headers: {},
  body: { error: { type: "idempotency_error", ...(code ? { code } : {}), message } },
});

/** The keys of a gateway. */
export function idempotency({ now }) {
  /** @type {Map<string, { at: number, asked: string, answer: any }>} */
  const kept = new Map();

  return {
    /** Answers a request by what is kept for its key, or does it. */
    async once({ method, path, params, key }, act) {
      if (method !== "POST" || !key) return act((answer) => answer);
      const asked = JSON.stringify([path, params]);
      const known = kept.get(key);
      if (known && known.at > now() - DAY) {
        if (known.asked !== asked) {
          return error(
            400,
            `Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '${key}' if you meant to execute a different request.`,
          );
        }
        if (known.answer) return { ...known.answer, headers: { ...known.answer.headers, "idempotent-replayed": "true" } };
        return error(
          409,
          `There is currently another in-progress request using this Idempotent Key (that probably means you submitted twice, and the other request is still going through): ${key}. Please try again later.`,
          "idempotency_key_in_use",
        );
      }
      /** @type {{ at: number, asked: string, answer: any }} */
      const entry = { at: now(), asked, answer: undefined };
      kept.set(key, entry);
      const keep = (answer) => {
        const isBegun = answer.status < 400 || (answer.status !== 429 && !NOT_BEGUN.includes(answer.body.error?.code));
        if (isBegun) entry.answer = answer;
        return answer;
      };
      try {
        return await act(keep);
      } finally {
        if (!entry.answer) kept.delete(key);
      }
    },
    clear: () => kept.clear(),
  };
}
