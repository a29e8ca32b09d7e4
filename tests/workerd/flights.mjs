// Orders for a Settler, without the Worker and the ledger in front: what no
// verification would let through reaches it all the same.
import { encodeFunctionData, parseSignature } from "viem";
import { contracts } from "../../scripts/lib/contract.mjs";
import { ACCOUNTS, KEYS, TOKEN, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { sign } from "./payment.mjs";
import { startProxy } from "./proxy.mjs";
import { startWorker } from "./worker.mjs";

export const SIGNER = ACCOUNTS.at(-1).address;
const DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const random = (bytes) => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString("hex")}`;
const settlement = () => `stl_01${[...crypto.getRandomValues(new Uint8Array(24))].map((byte) => DIGITS[byte % 32]).join("")}`;

/** A chain, a proxy in front of it, a Worker that knows only the proxy, and its one signer's Settler. */
export async function startSettler({ evm: options, vars = {}, state } = {}) {
  const evm = await startEvm(options);
  const proxy = await startProxy(evm.url);
  const worker = await startWorker({ vars: { RPC_LOCAL_EVM: proxy.url, EVM_SIGNERS_TEST: KEYS.at(-1), ...vars }, state });
  const { id: tenant } = await worker.tenant();
  const stop = async () => {
    await worker.stop();
    proxy.stop();
    evm.stop();
  };
  const sent = async (tag) => Number(await evm.rpc("eth_getTransactionCount", [SIGNER, tag]));
  return { evm, proxy, worker, tenant, stop, sent, order: (body) => order(worker, body) };
}

/** Asks the Settler of the local chain's signer. */
export async function order(worker, body) {
  const settlers = await worker.mf.getDurableObjectNamespace("SETTLERS");
  const stub = settlers.get(settlers.idFromName(`local-evm:${SIGNER}`));
  const answer = await stub.fetch("https://settler/", { method: "POST", body: JSON.stringify(body) });
  const text = await answer.text();
  if (answer.status !== 200) throw new Error(`${answer.status} ${text}`);
  return JSON.parse(text);
}

/** A flight of a payment that `buyer` has signed; `lasts` seconds. */
export async function flight({ tenant }, { buyer = randomAccount(), to = random(20), amount = 10_000n, lasts = 600, change = {}, ...more } = {}) {
  const before = BigInt(Math.floor(Date.now() / 1000) + lasts);
  const { paymentPayload } = await sign({ buyer, to, amount, change: { validBefore: before, ...change } });
  const { signature, authorization } = paymentPayload.payload;
  const { abi } = (await contracts()).LocalUSDC;
  const { from, value, validAfter, validBefore, nonce } = authorization;
  const { r, s, v } = parseSignature(signature);
  const args = [from, authorization.to, BigInt(value), BigInt(validAfter), BigInt(validBefore), nonce, Number(v), r, s];
  const data = encodeFunctionData({ abi, functionName: "transferWithAuthorization", args });
  const settle = {
    settlement: settlement(), attempt: 0, tenant, environment: "test", network: "local-evm", signer: SIGNER, held: null,
    cargo: { Evm: { to: TOKEN, data, gas_limit: 200_000 } },
    payer: buyer.address, pay_to: to, amount: String(amount), nonce, valid_before: Number(before), free: false, ...more,
  };
  return { settle, buyer, to, data };
}
