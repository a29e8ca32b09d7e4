// Books that do not balance any more: each line makes one thing wrong, and says what `balance` reports of it.
import { timeOf } from "../months.mjs";

/** @typedef {import("./balance.mjs").Books} Books */

/** The first that has what a line needs: the books of the unit tests have it. */
const having = (list, what) => {
  const found = list.find(what);
  if (!found) throw new Error(`no such thing in the books: ${what}`);
  return found;
};
const bodyOf = ({ text }) => JSON.parse(text);
const withClaim = ({ accounts }) => having(accounts, ({ ledger }) => ledger.claims.length > 0);
const withYoung = ({ accounts }) => having(accounts, ({ ledger }) => ledger.records.length > 0);
const withSettlement = ({ accounts }) => having(accounts, ({ ledger }) => ledger.settlements.some(({ status }) => status === "completed"));
const completedOf = ({ ledger }) => having(ledger.settlements, ({ status }) => status === "completed");
const usedOf = ({ directory }) => having(directory.usage, ({ verifications }) => verifications > 0);
const sold = ({ journal }) => having(journal.payments, ({ settles }) => settles.some(({ success }) => success));
const signer = ({ signers }) => having(signers, ({ sent }) => sent.length > 1);
/** A record that was answered and is as it was answered. */
const answered = (books) => {
  for (const account of books.accounts)
    for (const { outcome, body } of books.journal.verifications) {
      const record =
        outcome === "answered" && !body.replayed && account.months.find(({ id, revision }) => id === body.id && revision === 0);
      if (record) return { account, record };
    }
  throw new Error("no record is as it was answered");
};
const without = (list, one) => list.splice(list.indexOf(one), 1);

/** @type {[string, RegExp, (books: Books) => void][]} */
export const TAMPERING = [
  [
    "a month lacks a record",
    /^answers: .* answered ver_\w+, which no month has/,
    (books) => {
      const { account, record } = answered(books);
      without(account.months, record);
    },
  ],
  [
    "a ledger lacks a record",
    /^copies: .*'s ledger lacks ver_/,
    (books) => {
      const account = withYoung(books);
      const lost = account.ledger.records.shift();
      // As long as a ledger keeps its records.
      account.now = timeOf(lost?.id) + 1_000;
    },
  ],
  [
    "a month has a record twice",
    /^copies: .* has ver_\w+ twice in its months/,
    (books) => {
      const { account, record } = answered(books);
      account.months.push(record);
    },
  ],
  [
    "a month has another text than was answered",
    /^answers: ver_\w+ is kept otherwise than it was answered/,
    (books) => {
      const { record } = answered(books);
      record.text = JSON.stringify({ ...bodyOf(record), risk_score: 99 });
    },
  ],
  [
    "a later revision has another amount",
    /^answers: ver_\w+ is kept with another amount/,
    (books) => {
      const { record } = answered(books);
      Object.assign(record, { revision: 1, text: JSON.stringify({ ...bodyOf(record), amount: "7" }) });
    },
  ],
  [
    "a ledger has another revision than the month",
    /^copies: .* differ about ver_/,
    (books) => {
      withYoung(books).ledger.records[0].revision += 1;
    },
  ],
  [
    "there is a record that nobody has asked for",
    /^answers: .* which was never answered/,
    (books) => {
      const { account, record } = answered(books);
      const id = `${record.id.slice(0, -3)}ZZZ`;
      account.months.push({ ...record, id, text: JSON.stringify({ ...bodyOf(record), id, tx_hash: "0xother" }) });
    },
  ],
  [
    "a repeat under a key is another answer",
    /^answers: .* was answered differently under the key/,
    (books) => {
      const first = having(
        books.journal.verifications,
        ({ outcome, key, repeated }) => outcome === "answered" && key !== null && !repeated,
      );
      books.journal.verifications.push({ ...first, repeated: true, text: `${first.text} ` });
    },
  ],
  [
    "something was answered 500",
    /^answers: .*500/,
    ({ journal }) => {
      journal.broken.push("a request was answered 500");
    },
  ],
  [
    "a list lacks a record",
    /^copies: .* does not list ver_/,
    ({ accounts }) => {
      having(accounts, ({ shown }) => shown.records.length > 0).shown.records.shift();
    },
  ],
  [
    "a rollup is off by one",
    /^rollups: .* which its records do not add up to/,
    ({ accounts }) => {
      const [, counted] = having(accounts, ({ rollups }) => rollups.length > 0).rollups[0];
      counted[0] += 1;
    },
  ],
  [
    "a rollup is missing",
    /^rollups: .* has no rollup/,
    ({ accounts }) => {
      having(accounts, ({ rollups }) => rollups.length > 0).rollups.shift();
    },
  ],
  [
    "the quota is off by one",
    /^quota: .* has used \d+ of its quota, and \d+ attempts are kept/,
    (books) => {
      const account = having(books.accounts, ({ directory }) => directory.usage.some(({ verifications }) => verifications > 0));
      usedOf(account).verifications += 1;
    },
  ],
  [
    "another use is shown than is counted",
    /^quota: .* is shown \d+ used/,
    ({ accounts }) => {
      accounts[0].shown.usage.verifications_used += 1;
    },
  ],
  [
    "more is used than may be",
    /^quota: .* has used \d+ of 0 in/,
    (books) => {
      having(books.accounts, ({ directory }) => directory.usage.some(({ verifications }) => verifications > 0)).limit = 0;
    },
  ],
  [
    "a budget is held for nothing",
    /^budgets: .* holds 5 of its budget on local-evm/,
    ({ accounts }) => {
      accounts[0].ledger.reserved = { "local-evm": 5 };
    },
  ],
  [
    "a payment is claimed twice",
    /^claims: .* is claimed twice/,
    (books) => {
      const { ledger } = withClaim(books);
      ledger.claims.push({ ...ledger.claims[0] });
    },
  ],
  [
    "a payment is claimed in part and as a whole",
    /^claims: .* is claimed twice/,
    (books) => {
      const { ledger } = withClaim(books);
      ledger.claims.push({ ...ledger.claims[0], ordinal: ledger.claims[0].ordinal === null ? 0 : null });
    },
  ],
  [
    "a claim is lost",
    /^claims: .* has no claim/,
    (books) => {
      withClaim(books).ledger.claims.shift();
    },
  ],
  [
    "a claim is nobody's",
    /^claims: .* which is not kept/,
    (books) => {
      withClaim(books).ledger.claims[0].id = "ver_nobody";
    },
  ],
  [
    "two references were answered for one payment",
    /^claims: .* was answered that .* is claimed by/,
    ({ journal }) => {
      const first = having(journal.verifications, ({ outcome, body }) => outcome === "answered" && body.success && body.claimed);
      journal.verifications.push({ ...first, reference: "another order" });
    },
  ],
  [
    "a nonce has a gap",
    /^nonces: .* has a gap at the nonce/,
    (books) => {
      signer(books).sent.shift();
    },
  ],
  [
    "a transaction waits",
    /^nonces: .* with the pool's/,
    (books) => {
      signer(books).pending += 1;
    },
  ],
  [
    "a Settler is ahead of the chain",
    /^nonces: .* would use the nonce/,
    (books) => {
      const one = signer(books);
      one.next = one.latest + 1;
    },
  ],
  [
    "a flight has not ended",
    /^nonces: .* has not ended the flight/,
    (books) => {
      const own = signer(books);
      own.flights.push({ key: "stl_open:0", nonce: own.latest, status: "open", isReported: false });
    },
  ],
  [
    "money has moved that no settlement says",
    /^nonces: .* which completes no settlement/,
    (books) => {
      without(withSettlement(books).ledger.settlements, completedOf(withSettlement(books)));
    },
  ],
  [
    "a settlement names a transaction that is not on the chain",
    /^nonces: .* which no signer has on the chain/,
    (books) => {
      completedOf(withSettlement(books)).body.transaction = "0xnowhere";
    },
  ],
  [
    "an event is not delivered",
    /^events: .*'s endpoint did not get the event evt_/,
    ({ accounts }) => {
      having(accounts, ({ received }) => received.length > 0).received.shift();
    },
  ],
  [
    "an event is invented",
    /^events: .* which is no event/,
    ({ accounts }) => {
      accounts[0].received.push("evt_invented");
    },
  ],
  [
    "a record has no event",
    /^events: .* lists no event of the record/,
    (books) => {
      const { account, record } = answered(books);
      without(
        account.shown.events,
        having(account.shown.events, ({ id }) => id === record.id.replace("ver_", "evt_")),
      );
    },
  ],
  [
    "a settlement has no event",
    /^events: .* lists no event that stl_\w+ is completed/,
    (books) => {
      const account = withSettlement(books);
      const { id } = completedOf(account);
      account.shown.events = account.shown.events.filter(({ subject }) => subject !== id);
    },
  ],
  [
    "a success was given twice",
    /^hand-overs: .* its success was given to 2 sales/,
    (books) => {
      const { settles } = sold(books);
      settles.push({ ...having(settles, ({ success }) => success), sale: "another" });
    },
  ],
  [
    "a success was given to nobody",
    /^hand-overs: .* handed over to nobody/,
    (books) => {
      completedOf(withSettlement(books)).body.handed_over = null;
    },
  ],
  [
    "a success counts as given to somebody who was refused",
    /^hand-overs: .* everybody who asked was refused/,
    (books) => {
      for (const one of sold(books).settles) Object.assign(one, { success: false, outcome: "answered" });
    },
  ],
  [
    "a success counts as given to another request",
    /^hand-overs: .* which was not given it/,
    (books) => {
      for (const paid of books.journal.payments) paid.settles = paid.settles.filter(({ outcome }) => outcome !== "unknown");
      completedOf(withSettlement(books)).body.handed_over.request_id = "req_another";
    },
  ],
  [
    "the directory lacks a settlement",
    /^hand-overs: .*'s directory lacks the settlement/,
    (books) => {
      withSettlement(books).directory.settlements.shift();
    },
  ],
  [
    "a month has an older settlement",
    /^hand-overs: .*'s months lacks the settlement/,
    (books) => {
      withSettlement(books).monthSettlements[0].revision -= 1;
    },
  ],
  [
    "the chain has moved other money",
    /^hand-overs: .* was paid \d+ on the chain/,
    (books) => {
      const account = withSettlement(books);
      account.balance = String(BigInt(account.balance ?? 0) + 1n);
    },
  ],
  [
    "a payment that has left its chain stands",
    /^chain: .* has left its chain/,
    (books) => {
      books.journal.jumps = [];
      const { months } = having(books.accounts, ({ months }) => months.some((one) => bodyOf(one).claimed));
      books.journal.dropped.push(bodyOf(having(months, (one) => bodyOf(one).claimed && bodyOf(one).status !== "reorged")).tx_hash);
    },
  ],
  [
    "a payment has left a chain that has it",
    /^chain: .* says that .* has left its chain/,
    (books) => {
      books.journal.dropped = [];
      const { record } = answered(books);
      record.text = JSON.stringify({ ...bodyOf(record), status: "reorged" });
    },
  ],
  [
    "a mail is lost",
    /^mails: the mail to .* is queued/,
    (books) => {
      const own = having(books.mails, ({ address }) => books.journal.mails.includes(address));
      books.journal.jumps = [];
      Object.assign(own, { state: "queued", sent: 0 });
    },
  ],
  [
    "a mail was not written",
    /^mails: there is no mail to/,
    ({ journal }) => {
      journal.mails.push("nobody@example.test");
    },
  ],
];
