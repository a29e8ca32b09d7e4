// Cards of the tests: what they do when they are charged.

/** A card that is attached and declines: Stripe's other declining cards do not let themselves be attached. */
const ATTACHABLE = { number: "4000000000000341", exp_month: "12", exp_year: "2034" };
const declines = (code) => `charge_declined=card_declined,decline_code=${code}`;

/** By their names: what the card is made of, and what its charges do.
 * @type {Record<string, { card: Record<string, string>, tags: string }>} */
const CARDS = {
  ok: { card: { token: "tok_visa" }, tags: "" },
  mastercard: { card: { token: "tok_mastercard" }, tags: "" },
  /** Is refused at once, on the page too. */
  refused: { card: { token: "tok_visa_chargeDeclined" }, tags: "attach_refused" },
  declines: { card: ATTACHABLE, tags: declines("generic_decline") },
  insufficient_funds: { card: ATTACHABLE, tags: declines("insufficient_funds") },
  /** Stripe counts further attempts and does not make them. */
  lost: { card: ATTACHABLE, tags: declines("lost_card") },
  /** Each payment needs the customer. */
  authenticates: { card: { number: "4000002760003184", exp_month: "12", exp_year: "2034" }, tags: "three_d_secure=required" },
};

/** A card's name, or a token of Stripe's (`tok_…`). @typedef {string} CardKind */

/** Cards of a gateway. */
export function cards({ own, world }) {
  const known = (kind) => {
    if (kind in CARDS) return CARDS[kind];
    if (/^tok_/.test(kind)) return { card: { token: kind }, tags: "" };
    throw new Error(`no card ${kind}: ${Object.keys(CARDS).join(", ")}, or a token`);
  };
  /** What charges of cards do, where it is not what their numbers say. @type {Map<string, string>} */
  const behaviours = new Map();
  const set = (id, tags) => {
    behaviours.set(id, tags);
    world.behave(id, tags);
  };

  return {
    /** Attaches a new card to a customer; its id. @returns {string} */
    attach(customer, kind) {
      const { card, tags } = known(kind);
      const { id } = own("POST", "/v1/payment_methods", { type: "card", card });
      own("POST", `/v1/payment_methods/${id}/attach`, { customer });
      if (tags) set(id, tags);
      return id;
    },
    /** Does something while the customer is there to authenticate. */
    present(id, act) {
      const tags = behaviours.get(id);
      if (!tags?.startsWith("three_d_secure")) return act();
      world.behave(id, "");
      try {
        return act();
      } finally {
        world.behave(id, tags);
      }
    },
    /** Has charges of a card that is there do what another kind's do. */
    turn: (id, kind) => set(id, known(kind).tags),
    clear: () => behaviours.clear(),
  };
}
