// x402 payments on the local chains: EIP-3009 signed with viem, Solana's transactions with @solana/kit.
import { createWalletClient, encodeFunctionData, http, parseSignature } from "viem";
import {
  appendTransactionMessageInstructions,
  createTransactionMessage,
  getBase64EncodedWireTransaction,
  partiallySignTransactionMessageWithSigners,
  pipe,
  setTransactionMessageConfig,
  setTransactionMessageFeePayer,
  setTransactionMessageLifetimeUsingBlockhash,
} from "@solana/kit";
import { contracts } from "../../scripts/lib/contract.mjs";
import { ACCOUNTS, TOKEN, randomAccount } from "../../scripts/lib/evm.mjs";
import { COMPUTE_BUDGET, MEMO_PROGRAM, MINT, getTransferCheckedInstruction, randomSigner } from "../../scripts/lib/solana.mjs";

/** The id of an answer's settlement: a success holds it in a header, a refusal in its body. */
export const settlementOf = ({ headers, body }) => body.extra?.settlementId ?? headers.get("x402-settlement-id");

/** Whether an answer says that somebody else has sent the payment's transaction. */
export const isExternal = ({ headers }) => headers.get("x402-externally-settled") === "true";

/** @type {(bytes: number) => `0x${string}`} */
export const random = (bytes) => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString("hex")}`;
const seconds = () => BigInt(Math.floor(Date.now() / 1000));
const FIELDS = [
  ["address", "from"],
  ["address", "to"],
  ["uint256", "value"],
  ["uint256", "validAfter"],
  ["uint256", "validBefore"],
  ["bytes32", "nonce"],
].map(([type, name]) => ({ type, name }));

/** @typedef {{ address: `0x${string}`, signTypedData: (data: any) => Promise<`0x${string}`> }} Signing an account, of any copy of viem */

/** A test may put the Worker's clock forward; what is signed so outlives it. */
export const LONG = { change: { validBefore: 4_000_000_000n } };

/** How a settle came out: `success`, or the reason of its refusal. */
export const outcome = ({ success, errorReason }) => (success ? "success" : errorReason);

export const nonceOf = (body) => body.paymentPayload.payload.authorization.nonce;

/** The same payment under a `payment-identifier`; `body` itself is changed. */
export function identified(body, id) {
  body.paymentPayload.extensions = { "payment-identifier": { info: { required: true, id } } };
  return body;
}

/** The same payment in version 1 of the protocol. */
export const asVersionOne = ({ paymentRequirements, paymentPayload }, resource = "https://shop.test/a") => ({
  x402Version: 1,
  paymentRequirements: {
    ...paymentRequirements,
    network: "local-evm",
    maxAmountRequired: paymentRequirements.amount,
    resource,
    description: "",
  },
  paymentPayload: { x402Version: 1, scheme: "exact", network: "local-evm", payload: paymentPayload.payload },
});

/** The token call that uses a signed authorization: with `v`, `r` and `s`, as the Worker sends it for a key of its own. */
export async function authorizationCall({ paymentPayload: { payload } }) {
  const { abi } = (await contracts()).LocalUSDC;
  const { from, to, value, validAfter, validBefore, nonce } = payload.authorization;
  const { r, s, v } = parseSignature(payload.signature);
  const args = [from, to, BigInt(value), BigInt(validAfter), BigInt(validBefore), nonce, Number(v), r, s];
  return encodeFunctionData({ abi, functionName: "transferWithAuthorization", args });
}

/**
 * The body of /verify and /settle: a payment that `buyer` has signed.
 * @param {{
 *   buyer: Signing, to: string, amount?: bigint, token?: `0x${string}`, chainId?: number, name?: string, change?: object,
 *   requirements?: object,
 * }} wishes `change`: other members of the authorization; `requirements`: other members of those
 * @returns {Promise<any>}
 */
export async function sign({
  buyer,
  to,
  amount = 10_000n,
  token = TOKEN,
  chainId = 31337,
  name = "USDC",
  change = {},
  requirements: more = {},
}) {
  const message = { from: buyer.address, to, value: amount, validAfter: 0n, validBefore: seconds() + 600n, nonce: random(32), ...change };
  const signature = await buyer.signTypedData({
    domain: { name, version: "2", chainId, verifyingContract: token },
    primaryType: "TransferWithAuthorization",
    types: { TransferWithAuthorization: FIELDS },
    message,
  });
  const requirements = {
    scheme: "exact",
    network: `eip155:${chainId}`,
    amount: String(amount),
    asset: token,
    payTo: to,
    maxTimeoutSeconds: 60,
    extra: { name, version: "2" },
    ...more,
  };
  const authorization = Object.fromEntries(Object.entries(message).map(([member, value]) => [member, String(value)]));
  return {
    x402Version: 2,
    paymentPayload: {
      x402Version: 2,
      accepted: requirements,
      payload: { signature, authorization },
      resource: { url: "https://shop.test/a" },
    },
    paymentRequirements: requirements,
  };
}

/**
 * A seller, a buyer who holds enough, and a payment signed by that buyer.
 * @param {import("./worker.mjs").Worker} worker
 * @param {import("../../scripts/lib/evm.mjs").Evm} evm
 * @param {{ holds?: bigint, buyer?: Signing, [wish: string]: any }} [options] wishes are those of `sign`
 */
export async function signedPayment(worker, evm, { holds = 1_000_000n, buyer = randomAccount(), ...wishes } = {}) {
  const to = random(20);
  const tenant = await worker.tenant({ recipients: { "local-evm": to } });
  if (holds) await evm.mint(buyer.address, holds);
  const body = await sign({ buyer, to, ...wishes });
  const post = (verb, sent = body, key = tenant.test) => worker.call("POST", `/facilitator/${verb}`, { key, body: sent });
  return { ...tenant, to, buyer, body, verify: (sent) => post("verify", sent), settle: (sent, key) => post("settle", sent, key) };
}

/**
 * Sends the authorization of a payment in somebody else's name; answers the hash once it is mined.
 * @param {import("../../scripts/lib/evm.mjs").Evm} evm
 */
export async function sendAsStranger(evm, body, account = ACCOUNTS[3]) {
  const wallet = createWalletClient({ account, chain: evm.definition, transport: http(evm.url) });
  const hash = await wallet.sendTransaction({ to: TOKEN, data: await authorizationCall(body), gas: 200_000n });
  await evm.mined(hash);
  return hash;
}

const compute = (word, bytes) => ({ programAddress: COMPUTE_BUDGET, data: new Uint8Array([word, ...bytes]) });

/**
 * The body of /verify and /settle on Solana: a transaction that `buyer` has signed and the fee payer has not.
 * @param {{
 *   chain: import("../../scripts/lib/solana.mjs").Solana, buyer: import("@solana/kit").TransactionSigner,
 *   to: import("@solana/kit").Address, feePayer: import("@solana/kit").Address, amount?: bigint,
 *   mint?: import("@solana/kit").Address, network?: string, version?: "legacy" | 0 | 1, memo?: string,
 *   instructions?: (all: import("@solana/kit").Instruction[]) => import("@solana/kit").Instruction[],
 * }} wishes
 * @returns {Promise<any>}
 */
export async function signSvm({
  chain,
  buyer,
  to,
  feePayer,
  amount = 10_000n,
  mint = MINT,
  network = "solana:local",
  version = 0,
  memo,
  instructions = (all) => all,
}) {
  const transfer = getTransferCheckedInstruction({
    source: await chain.ata(buyer.address, mint),
    mint,
    destination: await chain.ata(to, mint),
    authority: buyer,
    amount,
    decimals: 6,
  });
  const text = memo ?? random(16);
  const remark = { programAddress: MEMO_PROGRAM, accounts: [], data: new TextEncoder().encode(text) };
  const budget = version === 1 ? [] : [compute(2, [0x20, 0x4e, 0, 0]), compute(3, [1, 0, 0, 0, 0, 0, 0, 0])];
  const lifetime = { blockhash: chain.blockhash(), lastValidBlockHeight: 1_000_000n };
  const empty =
    version === 1
      ? setTransactionMessageConfig(
          { computeUnitLimit: 20_000, loadedAccountsDataSizeLimit: 1_048_576, priorityFeeLamports: 7n },
          createTransactionMessage({ version }),
        )
      : createTransactionMessage({ version });
  const message = pipe(
    empty,
    (m) => setTransactionMessageFeePayer(feePayer, m),
    (m) => setTransactionMessageLifetimeUsingBlockhash(lifetime, m),
    (m) => appendTransactionMessageInstructions(instructions([...budget, transfer, remark]), m),
  );
  const transaction = getBase64EncodedWireTransaction(await partiallySignTransactionMessageWithSigners(message));
  const requirements = {
    scheme: "exact",
    network,
    amount: String(amount),
    asset: mint,
    payTo: to,
    maxTimeoutSeconds: 60,
    extra: { feePayer, ...(memo ? { memo } : {}) },
  };
  return {
    x402Version: 2,
    paymentPayload: { x402Version: 2, accepted: requirements, payload: { transaction }, resource: { url: "https://shop.test/a" } },
    paymentRequirements: requirements,
  };
}

/**
 * A seller with a token account, a buyer who holds enough, and a payment signed by that buyer.
 * @param {import("./worker.mjs").Worker} worker
 * @param {import("../../scripts/lib/solana.mjs").Solana} chain
 * @param {{ holds?: bigint, [wish: string]: any }} [options] wishes are those of `signSvm`
 */
export async function signedSvmPayment(worker, chain, { holds = 1_000_000n, ...wishes } = {}) {
  const [buyer, seller] = await Promise.all([randomSigner(), randomSigner()]);
  const tenant = await worker.tenant({ recipients: { "local-solana": seller.address } });
  await chain.fund(buyer.address, holds);
  await chain.fund(seller.address, 0n);
  const { kinds } = (await worker.call("GET", "/facilitator/supported", { key: tenant.test })).body;
  const { feePayer } = kinds.find(({ network }) => network === "solana:local").extra;
  const body = await signSvm({ chain, buyer, to: seller.address, feePayer, ...wishes });
  const post = (verb, sent = body, key = tenant.test) => worker.call("POST", `/facilitator/${verb}`, { key, body: sent });
  const paid = () => chain.balance(seller.address);
  return {
    ...tenant,
    to: seller.address,
    buyer,
    feePayer,
    body,
    paid,
    verify: (sent) => post("verify", sent),
    settle: (sent, key) => post("settle", sent, key),
  };
}
