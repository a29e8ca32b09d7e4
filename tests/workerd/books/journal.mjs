// The journal of a load: what was asked of the service and what it answered, one side of the books.

/** @typedef {import("./balance.mjs").Asked} Asked */
/** @typedef {import("./balance.mjs").Paid} Paid */
/** What came of a request, nothing where its connection broke.
 * @typedef {{ status?: number, headers: import("node:http").IncomingHttpHeaders, text: string, body: any } | undefined} Came */

/** @returns {import("./balance.mjs").Journal} */
export const newJournal = () => ({ verifications: [], payments: [], mails: [], jumps: [], dropped: [], broken: [] });

/** Faults after which nothing of the request was kept. Any other may come from an object that has kept it. */
const KEPT_NOTHING = ["CHAIN_UNAVAILABLE", "QUOTA_EXCEEDED", "RATE_LIMITED"];

/**
 * How a request came out. An answer without a request's id is not the Worker's, but of what stands before it.
 * @param {Came} came
 * @returns {import("./balance.mjs").Outcome}
 */
export function outcomeOf(came) {
  if (!came?.headers["x-request-id"]) return "unknown";
  if (came.status === 200) return "answered";
  return (came.status ?? 500) < 500 || KEPT_NOTHING.includes(came.body?.error_code) ? "refused" : "unknown";
}

const requestOf = (came) => came?.headers["x-request-id"] ?? null;

/** An answer that no fault excuses. */
function noteBroken(journal, came, what) {
  if (requestOf(came) && came.status === 500) journal.broken.push(`${what} was answered 500: ${came.text}`);
}

/**
 * Notes what came of a request to verify. Where it shows what has become of an earlier one that got no answer, that one is
 * resolved.
 * @param {import("./balance.mjs").Journal} journal
 * @param {{ account: string, tx: string, reference: string | null, key: string | null, asked: any }} asked
 * @param {Came} came
 */
export function noteVerification(journal, asked, came) {
  const outcome = outcomeOf(came);
  noteBroken(journal, came, `a verification of ${asked.tx}`);
  const repeated = came?.headers["idempotent-replayed"] === "true";
  const isAnswer = came !== undefined && outcome === "answered";
  const isFirst = isAnswer && !journal.verifications.some(({ outcome, body }) => outcome === "answered" && body.id === came.body.id);
  if (isFirst && (repeated || came.body.replayed)) {
    const lost = journal.verifications.find(
      (one) =>
        one.outcome === "unknown" &&
        !one.resolved &&
        one.account === asked.account &&
        one.tx === asked.tx &&
        (repeated ? one.key === asked.key : one.reference === asked.reference),
    );
    if (lost) lost.resolved = true;
  }
  const [text, body, code] = isAnswer ? [came.text, came.body, null] : [null, null, came?.body?.error_code ?? null];
  journal.verifications.push({ ...asked, outcome, code, resolved: false, repeated, request: requestOf(came), text, body });
}

/** Notes what came of a request to verify a payment of the facilitator. @param {Paid} paid @param {Came} came */
export function notePaymentVerified(journal, paid, came) {
  paid.asked += 1;
  noteBroken(journal, came, `a verify of the payment ${paid.nonce}`);
  if (outcomeOf(came) === "answered" && came?.body.isValid) paid.isGood = true;
}

/** Reasons with which a settle is refused although its payment is recorded. */
const RECORDED = ["settlement_pending", "duplicate_settlement"];

/** Notes what came of a settle, which belongs to a sale. @param {Paid} paid @param {string} sale @param {Came} came */
export function noteSettle(journal, paid, sale, came) {
  paid.asked += 1;
  noteBroken(journal, came, `a settle of the payment ${paid.nonce}`);
  const outcome = outcomeOf(came);
  const success = outcome === "answered" && came?.body.success === true;
  if (success || (outcome === "answered" && RECORDED.includes(came?.body.errorReason))) paid.isGood = true;
  paid.settles.push({ sale, outcome, request: requestOf(came), success });
}
