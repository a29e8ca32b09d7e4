// A steady load: sellers who verify payments and settle others, repeat what they asked, ask twice at once and vanish. Each
// answer is noted in the journal.
import { randomAccount } from "../../../scripts/lib/evm.mjs";
import { caller } from "../callers.mjs";
import { LONG, nonceOf, random, sign } from "../payment.mjs";
import { until } from "../worker.mjs";
import { notePaymentVerified, noteSettle, noteVerification, outcomeOf } from "./journal.mjs";

/** @typedef {import("./world.mjs").World} World */
/** @typedef {import("./world.mjs").Own} Own */

/** From so many atomic units on, two providers must agree. */
const LARGE = 150_000_000;
/** A payment of the mock chain is verified at any time of the Worker's clock. */
const MAX_AGE_S = 315_360_000;
/** How many earlier requests of a lane may be repeated. */
const REMEMBERED = 30;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Asks over a connection of its own, once the Worker is up. Where `leaves` is a time, the caller resets it then.
 * @param {World} world
 * @param {{ key: string, body: any, path: string, idempotency?: string | null, leaves?: number }} asked
 */
async function ask(world, { key, body, path, idempotency, leaves }) {
  await until(() => world.isUp, "the Worker to be up", 60_000);
  const { answer, cut } = caller(world.worker, { key, body }, idempotency ? { "idempotency-key": idempotency } : {}, path);
  if (leaves !== undefined) setTimeout(cut, leaves);
  world.inFlight += 1;
  return answer.finally(() => (world.inFlight -= 1));
}

/**
 * Verifies, and notes what came. Further members are the request's.
 * @param {World} world
 * @param {Own} own
 * @param {{ tx: string, chain?: string, reference?: string | null, key?: string | null, leaves?: number, [member: string]: any }} asked
 */
export async function verify(world, own, { leaves, ...asked }) {
  const { tx, chain = "base", reference = null, key = null, ...more } = asked;
  const body = { tx_hash: tx, chain, max_age_seconds: MAX_AGE_S, ...(reference ? { reference } : {}), ...more };
  const came = await ask(world, { key: own.key, body, path: "/v1/verify", idempotency: key, leaves });
  noteVerification(world.journal, { account: own.name, tx, reference, key, asked: { ...asked, reference, key } }, came);
  return came;
}

/**
 * Settles, and notes what came: an attempt under a key is one sale.
 * @param {World} world
 * @param {{ own: Own, body: any, paid: import("./balance.mjs").Paid }} made
 * @param {{ key?: string | null, leaves?: number }} [how]
 */
export async function settle(world, { own, body, paid }, { key = null, leaves } = {}) {
  const sale = key ?? `call ${crypto.randomUUID()}`;
  const came = await ask(world, { key: own.key, body, path: "/facilitator/settle", idempotency: key, leaves });
  noteSettle(world.journal, paid, sale, came);
  return came;
}

/** What a seller who verifies does next. @param {World} world @param {Own} own @param {any[]} before */
function verifications(world, own, before, chance) {
  const { mocks } = world;
  const fresh = (amount = 1_000_000) => {
    const isYoung = chance.below(4) === 0;
    const block = isYoung ? world.youngBlock : 900;
    const hash = mocks[0].addTransfer({ from: random(20), to: own.to, amount, block });
    mocks[1].receipts.set(hash, mocks[0].receipts.get(hash));
    if (isYoung) world.young.push(hash);
    return hash;
  };
  const keep = (asked) => {
    before.push(asked);
    if (before.length > REMEMBERED) before.shift();
    return verify(world, own, asked);
  };
  const keyed = (tx = fresh()) => ({ tx, reference: `order ${tx}`, key: crypto.randomUUID() });
  const acts = [
    () => keep(keyed()),
    () => keep(keyed()),
    () => keep(keyed(fresh(LARGE))),
    () => keep({ tx: fresh(), reference: crypto.randomUUID() }),
    () => verify(world, own, { tx: fresh(), claim: false }),
    // Two orders want one payment, at once.
    () => {
      const tx = fresh();
      return Promise.all(["one", "other"].map((reference) => verify(world, own, { tx, reference })));
    },
    () => keep({ ...keyed(), leaves: chance.below(60) }),
    () => verify(world, own, { tx: fresh(), reference: crypto.randomUUID(), leaves: chance.below(40) }),
    () => verify(world, own, { tx: fresh(), expected_amount: "2.5", key: crypto.randomUUID() }),
    () => verify(world, own, { tx: random(32) }),
    ...Array(3).fill(() => (before.length ? verify(world, own, { ...chance.pick(before), leaves: undefined }) : keep(keyed()))),
  ];
  return chance.pick(acts)();
}

/** A payment that a buyer has signed. @param {World} world @param {Own} own */
async function payment(world, own, chance) {
  const amount = BigInt(1_000 + chance.below(9_000));
  const body = await sign({ buyer: chance.pick(world.buyers), to: own.to, amount, ...LONG });
  /** @type {import("./balance.mjs").Paid} */
  const paid = { account: own.name, nonce: nonceOf(body), amount: String(amount), isGood: false, asked: 0, settles: [] };
  world.journal.payments.push(paid);
  const made = { own, body, paid };
  world.made.push(made);
  return made;
}

/** What a seller who settles does with a new payment. @param {World} world @param {Own} own */
async function sale(world, own, chance) {
  const made = await payment(world, own, chance);
  const key = crypto.randomUUID();
  const look = async () => {
    const came = await ask(world, { key: own.key, body: made.body, path: "/facilitator/verify" });
    notePaymentVerified(world.journal, made.paid, came);
  };
  const acts = [
    async () => {
      await look();
      await settle(world, made, { key });
    },
    async () => {
      const first = await settle(world, made, { key });
      const again = await settle(world, made, { key });
      const isRepeat = again?.headers["idempotent-replayed"] === "true";
      if (isRepeat && first?.body?.success && again?.text !== first.text)
        world.journal.broken.push(`a success was repeated otherwise: ${first.text} ${again?.text}`);
    },
    () => Promise.all([settle(world, made, { key }), settle(world, made)]),
    () => settle(world, made, { key, leaves: chance.below(150) }),
    () => settle(world, made, { leaves: chance.below(150) }),
    () => look(),
    // Its transaction was claimed by the settlement.
    async () => {
      const came = await settle(world, made, { key });
      if (outcomeOf(came) !== "answered" || !came?.body.success) return;
      await verify(world, own, { tx: came.body.transaction, chain: "local-evm", reference: "settled" });
    },
  ];
  await chance.pick(acts)();
}

/** Somebody who asks for a mail. @param {World} world */
async function mail(world) {
  const email = `${crypto.randomUUID()}@example.test`;
  await until(() => world.isUp, "the Worker to be up", 60_000);
  const came = await world
    .stranger()
    .signUp(email)
    .catch(() => undefined);
  if (came?.status === 202) world.journal.mails.push(email);
}

/**
 * Starts the load; `stop` ends it once all that is under way has been answered.
 * @param {World} world
 * @param {{ below: (limit: number) => number, pick: (list: any[]) => any }} chance
 */
export function startLoad(world, chance) {
  let isOn = true;
  let failure;
  const lane = async (act, ms) => {
    while (isOn && !failure) {
      await act().catch((error) => (failure ??= error));
      await pause(chance.below(2 * ms));
    }
  };
  const live = world.accounts.filter(({ environment }) => environment === "live");
  const test = world.accounts.filter(({ environment }) => environment === "test");
  const lanes = [
    ...live.flatMap((own) => {
      const before = [];
      return [1, 2].map(() => lane(() => Promise.resolve(verifications(world, own, before, chance)), 50));
    }),
    ...test.flatMap((own) => [1, 2].map(() => lane(() => sale(world, own, chance), 50))),
    lane(() => mail(world), 400),
  ];
  return {
    async stop() {
      isOn = false;
      await Promise.all(lanes);
      if (failure) throw failure;
    },
  };
}

/** A buyer who holds enough for any number of payments. @param {import("../../../scripts/lib/evm.mjs").Evm} evm */
export async function richBuyer(evm) {
  const buyer = randomAccount();
  await evm.mint(buyer.address, 10n ** 15n);
  return buyer;
}
