// Whether the books balance: what was answered against what is kept, and every kept thing against its other copies. It is
// pure; `collect.mjs` reads the books.
//
// An answer whose connection broke may or may not be in the books. The journal has such a request as unknown: what is kept
// lies between what was answered and that with all unknown ones. What is kept inside is compared exactly.
import { timeOf, totalsOf } from "../months.mjs";

/** How long a ledger keeps a record at least, in milliseconds. */
const RECORD_MS = 600_000;
/** What stays of a record when its payment's block leaves the chain, or is final. */
const FIXED = ["id", "request_id", "tx_hash", "chain", "amount", "to_address", "reference", "claimed", "error_code", "retry"];

/** How a request came out. `unknown`: it may have been carried out or not.
 * @typedef {"answered" | "refused" | "unknown"} Outcome */

/** A request to verify a transaction, `asked` as it is repeated; `code` of a fault. `resolved`: it is unknown, and a later answer has shown what has become of it.
 * @typedef {{ account: string, tx: string, reference: string | null, key: string | null, asked: any, outcome: Outcome, code: string | null, resolved: boolean,
 *   repeated: boolean, request: string | null, text: string | null, body: any }} Asked */

/** A payment of the facilitator. A sale is an attempt under a key, however often it is repeated.
 * @typedef {{ account: string, nonce: string, amount: string, isGood: boolean, asked: number,
 *   settles: { sale: string, outcome: Outcome, request: string | null, success: boolean }[] }} Paid */

/** @typedef {{ verifications: Asked[], payments: Paid[], mails: string[], jumps: number[], dropped: string[], broken: string[] }} Journal */

/** A record as it is kept. @typedef {{ id: string, revision: number, text: string }} Kept */
/** @typedef {{ id: string, status: string, revision: number }} KeptSettlement */

/**
 * All that is kept of an account, which is a tenant's environment.
 * `reserved` is what of a day's budgets is held for settlements that have not ended, by network.
 * @typedef {{
 *   name: string, payTo: string, now: number, limit: number | null,
 *   ledger: { reserved: Record<string, number>, records: Kept[], claims: { network: string, tx: string, recipient: string, ordinal: number | null, id: string }[],
 *     payments: { authorization: string, settlement: string | null }[], settlements: (KeptSettlement & { body: any })[] },
 *   months: Kept[], monthSettlements: KeptSettlement[], rollups: [string, [number, string]][],
 *   directory: { settlements: KeptSettlement[], usage: { period: string, verifications: number }[] },
 *   shown: { records: string[], usage: { period: string, verifications_used: number }, events: { id: string, type: string, subject: string }[],
 *     settlements: { id: string, status: string, isHandedOver: boolean }[] },
 *   received: string[], balance: string | null,
 * }} Account
 */

/** A signer with what the chain has of it and what its Settler keeps. `sent` are its transactions in blocks, `moved` whether
 * one has moved tokens.
 * @typedef {{ address: string, latest: number, pending: number, queued: number, next: number | null,
 *   sent: { nonce: number, hash: string, moved: boolean }[], flights: { key: string, nonce: number, status: string, isReported: boolean }[] }} Signer */

/** @typedef {{ journal: Journal, accounts: Account[], signers: Signer[], mails: { address: string, state: string, at: number, sent: number }[] }} Books */

const idsOf = (list) => new Set(list.map(({ id }) => id));
const bodyOf = ({ text }) => JSON.parse(text);
const isFinal = ({ error_code, retry }) => error_code === null || retry === "never";
const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
const none = (list, say) => list.map(say);

/** Items that occur more than once. */
function doubles(list) {
  const seen = new Set();
  return list.filter((one) => seen.has(one) || !seen.add(one));
}

/** What two sets do not share, each said. */
function differences(one, other, { missing, surplus }) {
  return [
    ...none(
      sorted(one).filter((id) => !other.has(id)),
      missing,
    ),
    ...none(
      sorted(other).filter((id) => !one.has(id)),
      surplus,
    ),
  ];
}
const sorted = (set) => [...set].sort();

const askedOf = ({ verifications }, { name }) => verifications.filter(({ account }) => account === name);
const paidOf = ({ payments }, { name }) => payments.filter(({ account }) => account === name);

/** The answers of an account that have made a record: the first that was given with an id. */
function answersOf(journal, account) {
  const all = new Map();
  for (const { outcome, body, text } of askedOf(journal, account)) {
    if (outcome !== "answered") continue;
    const known = all.get(body.id);
    // The answer itself, where another request for the same payment was answered first.
    if (!known || (known.isRepeat && !body.replayed)) all.set(body.id, { body, text, isRepeat: body.replayed });
  }
  return all;
}

/** Answers that were repeated under an `Idempotency-Key` and are not what was answered under it. */
function wrongRepeats(journal, account) {
  const byKey = Map.groupBy(
    askedOf(journal, account).filter(({ key }) => key !== null),
    ({ key }) => key,
  );
  return [...byKey].flatMap(([key, all]) => {
    const first = new Set(all.filter(({ outcome, repeated }) => outcome === "answered" && !repeated).map(({ text }) => text));
    const repeats = new Set(all.filter(({ repeated }) => repeated).map(({ text }) => text));
    const isWrong = first.size ? [...repeats].some((text) => !first.has(text)) : repeats.size > 1;
    return isWrong ? [`${account.name} was answered differently under the key ${key}`] : [];
  });
}

/** 1. Each answer is a record, and each record was an answer, or may be one that was lost. */
function checkAnswers({ journal, accounts }) {
  return accounts.flatMap((account) => {
    const [answers, kept] = [answersOf(journal, account), new Map(account.months.map((record) => [record.id, record]))];
    const wrong = wrongRepeats(journal, account);
    for (const [id, { body, text, isRepeat }] of answers) {
      const record = kept.get(id);
      if (!record) wrong.push(`${account.name} answered ${id}, which no month has`);
      else if (!isRepeat && record.revision === 0 && record.text !== text) wrong.push(`${id} is kept otherwise than it was answered`);
      else {
        const own = bodyOf(record);
        const changed = FIXED.filter((member) => own[member] !== body[member] && !(isRepeat && member === "request_id"));
        if (changed.length) wrong.push(`${id} is kept with another ${changed.join(", ")} than it was answered with`);
      }
    }
    // What is kept beside that was asked by somebody who got no answer.
    const lost = new Map();
    for (const { tx, outcome, resolved } of askedOf(journal, account))
      if (outcome === "unknown" && !resolved) lost.set(tx, (lost.get(tx) ?? 0) + 1);
    for (const record of account.months.filter(({ id }) => !answers.has(id))) {
      const { tx_hash: tx } = bodyOf(record);
      const left = lost.get(tx) ?? 0;
      if (left === 0) wrong.push(`${account.name} has ${record.id}, which was never answered`);
      lost.set(tx, left - 1);
    }
    return wrong;
  });
}

/** 2. The ledgers' records are those of the months, as far as ledgers keep them, and those that the API lists. */
function checkCopies({ accounts }) {
  return accounts.flatMap(({ name, ledger, months, shown, now }) => {
    const [held, kept] = [ledger.records, months].map((list) => new Map(list.map((record) => [record.id, record])));
    const young = [...kept.keys()].filter((id) => timeOf(id) > now - RECORD_MS && !held.has(id));
    const others = [...held.values()].filter(({ id, revision, text }) => {
      const month = kept.get(id);
      return month && (month.revision !== revision || month.text !== text);
    });
    return [
      ...none(doubles(months.map(({ id }) => id)), (id) => `${name} has ${id} twice in its months`),
      ...none(young, (id) => `${name}'s ledger lacks ${id}`),
      ...none(
        [...held.keys()].filter((id) => !kept.has(id)),
        (id) => `${name}'s months lack ${id}, which its ledger has`,
      ),
      ...none(others, ({ id }) => `${name}'s ledger and month differ about ${id}`),
      ...differences(new Set(kept.keys()), new Set(shown.records), {
        missing: (id) => `${name} does not list ${id}`,
        surplus: (id) => `${name} lists ${id}, which no month has`,
      }),
      ...none(doubles(shown.records), (id) => `${name} lists ${id} twice`),
    ];
  });
}

/** 3. The directory's rollups are the records added up. */
function checkRollups({ accounts }) {
  return accounts.flatMap(({ name, months, rollups }) => {
    const wanted = totalsOf(months.map((record) => ({ at: timeOf(record.id), record: bodyOf(record) })));
    const lines = (all) => new Set([...all].map(([key, [count, amount]]) => `${key}: ${count}, ${amount}`));
    return differences(lines(wanted), lines(new Map(rollups)), {
      missing: (line) => `${name} has no rollup ${line}`,
      surplus: (line) => `${name} has the rollup ${line}, which its records do not add up to`,
    });
  });
}

/** 4. The quota used is the attempts that count: final verdicts, and payments that were found good. */
function checkQuota({ journal, accounts }) {
  return accounts.flatMap((account) => {
    const { name, months, ledger, directory, shown, limit } = account;
    const used = sum(directory.usage.map(({ verifications }) => verifications));
    const counted = months.filter((record) => isFinal(bodyOf(record))).length + ledger.payments.length;
    const wrong = used === counted ? [] : [`${name} has used ${used} of its quota, and ${counted} attempts are kept that count`];
    const current = directory.usage.find(({ period }) => period === shown.usage.period)?.verifications ?? 0;
    if (current !== shown.usage.verifications_used)
      wrong.push(`${name} is shown ${shown.usage.verifications_used} used in ${shown.usage.period}, and the directory has ${current}`);
    for (const { period, verifications } of directory.usage) {
      if (limit !== null && verifications > limit) wrong.push(`${name} has used ${verifications} of ${limit} in ${period}`);
      const records = months.filter((record) => new Date(timeOf(record.id)).toISOString().startsWith(period) && isFinal(bodyOf(record)));
      if (verifications < records.length) wrong.push(`${name} has counted ${verifications} in ${period}, of ${records.length} records`);
    }
    const least =
      [...answersOf(journal, account).values()].filter(({ body }) => isFinal(body)).length +
      paidOf(journal, account).filter(({ isGood }) => isGood).length;
    const unknown = askedOf(journal, account).filter(({ outcome, resolved }) => outcome === "unknown" && !resolved).length;
    const most = least + unknown + paidOf(journal, account).filter(({ isGood, asked }) => !isGood && asked > 0).length;
    if (used < least || used > most) wrong.push(`${name} has used ${used} of its quota, and was answered ${least} to ${most}`);
    return wrong;
  });
}

/** A settlement that has ended holds nothing of a day's budget any more. */
function checkBudgets({ accounts }) {
  return accounts.flatMap(({ name, ledger }) =>
    Object.entries(ledger.reserved)
      .filter(([, amount]) => amount !== 0)
      .map(([network, amount]) => `${name} holds ${amount} of its budget on ${network} for nothing`),
  );
}

/** 5. A payment is claimed once, by a record or a settlement that there is. */
function checkClaims({ journal, accounts }) {
  const wrong = [];
  const held = new Map();
  for (const { name, ledger, months } of accounts) {
    const known = new Set([...idsOf(months), ...idsOf(ledger.settlements)]);
    for (const { network, tx, recipient, ordinal, id } of ledger.claims) {
      const payment = `${network} ${tx} ${recipient}`;
      const others = held.get(payment) ?? [];
      held.set(payment, [...others, ordinal]);
      if (others.some((other) => other === null || ordinal === null || other === ordinal)) wrong.push(`${tx} is claimed twice`);
      if (!known.has(id)) wrong.push(`${name} has a claim of ${tx} by ${id}, which is not kept`);
    }
    const claimers = idsOf(ledger.claims);
    for (const record of months.filter((record) => bodyOf(record).claimed && !claimers.has(record.id)))
      wrong.push(`${name} says that ${record.id} claims its payment, and has no claim`);
    for (const { id } of ledger.settlements.filter(({ id, status }) => status === "completed" && !claimers.has(id)))
      wrong.push(`${name} has no claim of the settlement ${id}`);
  }
  // As it was answered: a payment belongs to one record and one reference.
  const owners = new Map();
  for (const { account, tx, reference, outcome, body } of journal.verifications) {
    if (outcome !== "answered" || !body.success || !body.claimed) continue;
    const owner = `${body.id} for ${reference}`;
    const first = owners.get(`${account} ${tx}`) ?? owner;
    owners.set(`${account} ${tx}`, first);
    if (first !== owner) wrong.push(`${account} was answered that ${tx} is claimed by ${first}, and by ${owner}`);
  }
  return wrong;
}

/** 6. Each signer's nonces are used once, without a gap, and nothing waits. */
function checkNonces({ accounts, signers }) {
  const wrong = [];
  const completed = accounts.flatMap(({ ledger }) => ledger.settlements.filter(({ status }) => status === "completed"));
  for (const { address, latest, pending, queued, next, sent, flights } of signers) {
    if (latest !== pending || queued)
      wrong.push(`${address} has ${latest} transactions in blocks, ${pending} with the pool's, ${queued} queued`);
    if (next !== null && next !== latest) wrong.push(`${address} would use the nonce ${next} next, and the chain ${latest}`);
    const used = new Set(sent.map(({ nonce }) => nonce));
    for (let nonce = 0; nonce < latest; nonce++) if (!used.has(nonce)) wrong.push(`${address} has a gap at the nonce ${nonce}`);
    if (sent.length !== latest) wrong.push(`${address} has ${sent.length} transactions in blocks, and the chain counts ${latest}`);
    // A flight that has failed without being sent has given its nonce back.
    const landed = flights.filter(({ status }) => status === "completed").map(({ nonce }) => nonce);
    for (const nonce of doubles(landed)) wrong.push(`${address} has two flights with the nonce ${nonce}`);
    for (const nonce of landed.filter((nonce) => nonce >= latest))
      wrong.push(`${address} has a completed flight with the nonce ${nonce}, and ${latest} in blocks`);
    for (const { key, status, isReported } of flights) {
      if (status === "open" || !isReported) wrong.push(`${address} has not ended the flight ${key}`);
    }
  }
  const moved = new Set(signers.flatMap(({ sent }) => sent.filter(({ moved }) => moved).map(({ hash }) => hash)));
  const settled = completed.map(({ body }) => body.transaction);
  return [
    ...wrong,
    ...none(doubles(settled), (hash) => `two settlements have the transaction ${hash}`),
    ...differences(new Set(settled), moved, {
      missing: (hash) => `a settlement is completed by ${hash}, which no signer has on the chain`,
      surplus: (hash) => `a signer has moved money by ${hash}, which completes no settlement`,
    }),
  ];
}

/** 7. Each event reaches its endpoint at least once, none is invented, and what has happened is an event. */
function checkEvents({ accounts }) {
  return accounts.flatMap(({ name, months, ledger, shown, received }) => {
    const listed = idsOf(shown.events);
    const has = (type, subject) => shown.events.some((event) => event.type === type && event.subject === subject);
    const answered = months.filter(({ id }) => !listed.has(id.replace("ver_", "evt_")));
    const reorged = months.filter((record) => bodyOf(record).status === "reorged" && !has("payment.reorged", record.id));
    const settled = ledger.settlements.filter(({ id, status }) => status === "completed" && !has("settlement.succeeded", id));
    return [
      ...none(answered, ({ id }) => `${name} lists no event of the record ${id}`),
      ...none(reorged, ({ id }) => `${name} lists no event that ${id} has left the chain`),
      ...none(settled, ({ id }) => `${name} lists no event that ${id} is completed`),
      ...none(doubles(shown.events.map(({ id }) => id)), (id) => `${name} lists the event ${id} twice`),
      ...differences(listed, new Set(received), {
        missing: (id) => `${name}'s endpoint did not get the event ${id}`,
        surplus: (id) => `${name}'s endpoint got ${id}, which is no event`,
      }),
    ];
  });
}

/** What is wrong with the hand-over of one payment. */
function handOver(paid, settlement) {
  const wins = new Set(paid.settles.filter(({ success }) => success).map(({ sale }) => sale));
  const lost = paid.settles.filter(({ outcome }) => outcome === "unknown");
  const wrong = wins.size > 1 ? [`its success was given to ${wins.size} sales`] : [];
  if (!settlement) return wins.size ? ["a success without a settlement", ...wrong] : wrong;
  const { status } = settlement;
  const { handed_over } = settlement.body;
  if (wins.size && status !== "completed") wrong.push(`a success, and its settlement is ${status}`);
  if (status === "pending") wrong.push("its settlement is pending");
  if (status !== "completed") return wrong;
  if (!handed_over) return ["it is completed and handed over to nobody", ...wrong];
  if (wins.size === 0 && lost.length === 0) wrong.push("it counts as handed over, and everybody who asked was refused");
  // Who got it is somebody who was answered so, or whose answer was lost.
  const winners = paid.settles.filter(({ success }) => success).map(({ request }) => request);
  if (lost.length === 0 && !winners.includes(handed_over.request_id))
    wrong.push(`it counts as handed over to ${handed_over.request_id}, which was not given it`);
  return wrong;
}

/** 8. Each settlement that has succeeded is handed over once, moves its money once, and its copies are the same. */
function checkHandOvers({ journal, accounts }) {
  return accounts.flatMap((account) => {
    const { name, ledger, directory, monthSettlements, shown, balance } = account;
    const of = new Map(ledger.payments.map(({ authorization, settlement }) => [authorization.split("/").at(-1), settlement]));
    const byId = new Map(ledger.settlements.map((settlement) => [settlement.id, settlement]));
    const paid = paidOf(journal, account);
    const wrong = paid.flatMap((payment) => {
      const settlement = byId.get(of.get(payment.nonce) ?? "");
      return handOver(payment, settlement).map((text) => `${name}'s payment ${payment.nonce}: ${text}`);
    });
    const asked = new Set(paid.map(({ nonce }) => nonce));
    for (const nonce of of.keys()) if (!asked.has(nonce)) wrong.push(`${name} keeps a payment ${nonce} that nobody has made`);
    const line = ({ id, status, revision }) => `${id} ${status} ${revision}`;
    for (const [where, copies] of Object.entries({ directory: directory.settlements, months: monthSettlements }))
      wrong.push(
        ...differences(new Set(ledger.settlements.map(line)), new Set(copies.map(line)), {
          missing: (one) => `${name}'s ${where} lacks the settlement ${one}`,
          surplus: (one) => `${name}'s ${where} has the settlement ${one}, and its ledger does not`,
        }),
      );
    const seen = ({ id, status, isHandedOver }) => `${id} ${status} ${isHandedOver ? "handed over" : "open"}`;
    const own = ledger.settlements.map(({ id, status, body }) => seen({ id, status, isHandedOver: body.handed_over !== null }));
    wrong.push(
      ...differences(new Set(own), new Set(shown.settlements.map(seen)), {
        missing: (one) => `${name} does not list the settlement ${one}`,
        surplus: (one) => `${name} lists the settlement ${one}, which its ledger does not have`,
      }),
    );
    const completed = ledger.settlements.filter(({ status }) => status === "completed");
    const moved = completed.reduce((all, { body }) => all + BigInt(body.amount), 0n);
    if (balance !== null && BigInt(balance) !== moved)
      wrong.push(`${name} was paid ${balance} on the chain, and ${moved} by its settlements`);
    return wrong;
  });
}

/** A record has left its chain if its payment has, and no other. */
function checkChain({ journal, accounts }) {
  const gone = new Set(journal.dropped);
  const since = journal.jumps.at(-1) ?? 0;
  return accounts.flatMap(({ name, months }) =>
    months.flatMap((record) => {
      const { tx_hash: tx, status, claimed } = bodyOf(record);
      if (status === "reorged" && !gone.has(tx)) return [`${name} says that ${tx} has left its chain`];
      const isFollowed = claimed && timeOf(record.id) > since;
      return isFollowed && gone.has(tx) && status !== "reorged" ? [`${name} says that ${tx} is ${status}, and it has left its chain`] : [];
    }),
  );
}

/** 9. Each mail that was asked for is sent, once. A link whose time ran out by a jump of the clock is sent to nobody. */
function checkMails({ journal, mails }) {
  const asked = new Set(journal.mails);
  const isLate = ({ at }) => journal.jumps.some((jump) => at <= jump && at > jump - RECORD_MS);
  const own = mails.filter(({ address }) => asked.has(address));
  return [
    ...none(
      own.filter((mail) => (mail.state !== "sent" || mail.sent !== 1) && !isLate(mail)),
      ({ address, state, sent }) => `the mail to ${address} is ${state}, and came ${sent} times`,
    ),
    ...none(
      sorted(asked).filter((address) => !own.some((mail) => mail.address === address)),
      (address) => `there is no mail to ${address}`,
    ),
  ];
}

const checks = {
  answers: checkAnswers,
  copies: checkCopies,
  rollups: checkRollups,
  quota: checkQuota,
  budgets: checkBudgets,
  claims: checkClaims,
  nonces: checkNonces,
  events: checkEvents,
  "hand-overs": checkHandOvers,
  chain: checkChain,
  mails: checkMails,
};

/**
 * What does not balance; nothing where all does.
 * @param {Books} books
 * @returns {string[]} each begins with the rule that it breaks
 */
export function balance(books) {
  const broken = books.journal.broken.map((text) => `answers: ${text}`);
  return [...broken, ...Object.entries(checks).flatMap(([name, check]) => check(books).map((text) => `${name}: ${text}`))];
}
