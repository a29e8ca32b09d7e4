// Where we mean to differ from the reference facilitator. Each row: what ours
// says, what theirs says, why, and when that may be.

const ANY = /^/;
const REFUSED = /^(?!valid$)/;

/** Requirements and what the buyer accepted, as far as they bind. */
const parts = (all) => {
  const { scheme, network, amount, asset, payTo, extra } = all ?? {};
  const lower = (text) => (typeof text === "string" && text.startsWith("0x") ? text.toLowerCase() : text);
  const text = (name) => (typeof extra?.[name] === "string" && extra[name] ? extra[name] : undefined);
  return JSON.stringify([scheme, network, amount, lower(asset), lower(payTo), ...["name", "version", "feePayer", "memo"].map(text)]);
};
const differ = ({ paymentPayload, paymentRequirements }) => parts(paymentPayload?.accepted) !== parts(paymentRequirements);
const isText = (value) => typeof value === "string" && value !== "";
const lacks = ({ paymentPayload, paymentRequirements }) =>
  [paymentRequirements, paymentPayload?.accepted ?? paymentRequirements].some(
    (all) => ["scheme", "network", "asset", "payTo"].some((name) => !isText(all?.[name])) || !isText(all?.amount ?? all?.maxAmountRequired),
  );

const COMMON = [
  {
    ours: REFUSED,
    theirs: /^throws/,
    why: "the reference throws, which a server tells as a fault of its own; ours names what is wrong",
  },
  {
    ours: /^invalid_payment_requirements$/,
    theirs: ANY,
    when: (body) => differ(body) || lacks(body),
    why: "what the buyer accepted must be what is asked for, and whole",
  },
  { ours: /^invalid_payload$/, theirs: ANY, when: lacks, why: "what the buyer accepted must be whole" },
  {
    ours: ANY,
    theirs: /^throws: No facilitator registered .*network: (base-sepolia|solana-devnet)$/,
    why: "a network is known by either version's name",
  },
  { ours: /^asset_not_allowed$/, theirs: ANY, why: "an asset that is not registered is refused, before anything else" },
];

const authorization = (body) => body.paymentPayload?.payload?.authorization ?? {};
const signature = (body) => String(body.paymentPayload?.payload?.signature);

export const EVM_DIFFERENCES = [
  ...COMMON,
  {
    ours: ANY,
    theirs: /^invalid_exact_evm_missing_eip712_domain$/,
    why: "the token's name and version are filled in from the registry",
  },
  {
    ours: ANY,
    theirs: /^invalid_exact_evm_signature$/,
    when: ({ paymentRequirements: { extra } }) => !["name", "version"].every((name) => isText(extra?.[name])),
    why: "the token's name and version are filled in from the registry (version 1 signs with what it is given)",
  },
  {
    ours: /^(invalid_payload|invalid_exact_evm_(failed_to_parse_signature|recipient_mismatch|payload_authorization_(valid_before|valid_after|value_mismatch)|authorization_value|token_(name|version)_mismatch))$/,
    theirs: REFUSED,
    why: "of several faults the one that is free to see is named first",
  },
  {
    ours: /^invalid_payload$/,
    theirs: /^valid$/,
    when: (body) =>
      ["value", "validAfter", "validBefore"].some(
        (name) => !/^\d+$/.test(String(authorization(body)[name] ?? "")) || typeof authorization(body)[name] !== "string",
      ),
    why: "numbers are decimal texts, as the protocol writes them",
  },
  {
    ours: /^(valid|invalid_exact_evm_(nonce_already_used|insufficient_balance))$/,
    theirs: /^invalid_exact_evm_(signature|transaction_simulation_failed)$/,
    when: (body) => signature(body).length === 130 || /0[01]$/.test(signature(body)),
    why: "a signature in its short form (EIP-2098), or with a parity for v, is sent to the token in the form that it takes",
  },
];

/** Whether an assertion of Lighthouse is the third instruction. */
function guardsFirst({ paymentPayload }) {
  const text = paymentPayload?.payload?.transaction;
  if (typeof text !== "string") return false;
  const bytes = Buffer.from(text, "base64");
  // The compute price, then a program's index, no accounts and one byte of data.
  const price = bytes.indexOf(Buffer.from([9, 3, 1, 0, 0, 0, 0, 0, 0, 0]));
  return price > 0 && bytes.subarray(price + 11, price + 14).equals(Buffer.from([0, 1, 5]));
}

export const SVM_DIFFERENCES = [
  ...COMMON,
  {
    ours: /^invalid_payload$/,
    theirs: REFUSED,
    when: ({ paymentPayload }) =>
      typeof paymentPayload?.payload !== "object" || paymentPayload.payload === null || Array.isArray(paymentPayload.payload),
    why: "a payload that is no object is refused before anything else",
  },
  {
    ours: /^invalid_exact_svm_payload_transaction_could_not_be_decoded$/,
    theirs: /^invalid_exact_svm_/,
    why: "a transaction is read whole and strictly before any of it is judged",
  },
  {
    ours: /^invalid_exact_svm_payload_transaction_instructions_compute_price_instruction_too_high$/,
    theirs: /^(?!.*_compute_)/,
    why: "our cap is on the whole priority fee, theirs on the price of a unit",
  },
  {
    ours: /^invalid_exact_svm_payload_unknown_(fourth|fifth|sixth|seventh)_instruction$/,
    theirs: /^(valid|invalid_exact_svm_(transaction_simulation_failed|payload_memo_count|payload_memo_mismatch))$/,
    why: "of Lighthouse's instructions only the assertions about accounts are taken",
  },
  {
    ours: /^(?!invalid_exact_svm_payload_no_transfer_instruction$)/,
    theirs: /^invalid_exact_svm_payload_no_transfer_instruction$/,
    when: (body) => guardsFirst(body),
    why: "a wallet's assertions may stand before the transfer, too",
  },
  {
    ours: /^invalid_exact_svm_payload_recipient_mismatch$/,
    theirs: /^(valid|invalid_exact_svm_(payload_amount_mismatch|transaction_simulation_failed))$/,
    why: "a transfer from an account to itself pays nobody",
  },
];
