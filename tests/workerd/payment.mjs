// x402 payments by EIP-3009 on the local chain, signed with viem.
import { TOKEN, randomAccount } from "../../scripts/lib/evm.mjs";

const random = (bytes) => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString("hex")}`;
const seconds = () => BigInt(Math.floor(Date.now() / 1000));
const FIELDS = [
  ["address", "from"], ["address", "to"], ["uint256", "value"], ["uint256", "validAfter"], ["uint256", "validBefore"], ["bytes32", "nonce"],
].map(([type, name]) => ({ type, name }));

/** The body of /verify and /settle: a payment that `buyer` has signed. */
export async function sign({ buyer, to, amount = 10_000n, token = TOKEN, chainId = 31337, change = {}, requirements: more = {} }) {
  const message = { from: buyer.address, to, value: amount, validAfter: 0n, validBefore: seconds() + 600n, nonce: random(32), ...change };
  const signature = await buyer.signTypedData({
    domain: { name: "USDC", version: "2", chainId, verifyingContract: token },
    primaryType: "TransferWithAuthorization",
    types: { TransferWithAuthorization: FIELDS },
    message,
  });
  const requirements = {
    scheme: "exact", network: `eip155:${chainId}`, amount: String(amount), asset: token, payTo: to,
    maxTimeoutSeconds: 60, extra: { name: "USDC", version: "2" }, ...more,
  };
  const authorization = Object.fromEntries(Object.entries(message).map(([name, value]) => [name, String(value)]));
  return {
    x402Version: 2,
    paymentPayload: { x402Version: 2, accepted: requirements, payload: { signature, authorization }, resource: { url: "https://shop.test/a" } },
    paymentRequirements: requirements,
  };
}

/** A seller, a buyer who holds enough, and a payment signed by that buyer. */
export async function signedPayment(worker, evm, { holds = 1_000_000n, buyer = randomAccount(), ...wishes } = {}) {
  const to = random(20);
  const tenant = await worker.tenant({ recipients: { "local-evm": to } });
  if (holds) await evm.mint(buyer.address, holds);
  const body = await sign({ buyer, to, ...wishes });
  const post = (verb, sent = body, key = tenant.test) => worker.call("POST", `/facilitator/${verb}`, { key, body: sent });
  return { ...tenant, to, buyer, body, verify: (sent) => post("verify", sent), settle: (sent, key) => post("settle", sent, key) };
}
