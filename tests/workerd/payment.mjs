// x402 payments by EIP-3009 on the local chain, signed with viem.
import { TOKEN, randomAccount } from "../../scripts/lib/evm.mjs";

const address = () => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex")}`;
const nonce = () => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex")}`;
const seconds = () => BigInt(Math.floor(Date.now() / 1000));

/** A seller, a buyer who holds enough, and a payment signed by that buyer. */
export async function signedPayment(worker, evm, { amount = 10_000n, change = {}, requirements: more = {}, holds = 1_000_000n, buyer = randomAccount() } = {}) {
  const to = address();
  const tenant = await worker.tenant({ recipients: { "local-evm": to } });
  if (holds) await evm.mint(buyer.address, holds);
  const message = { from: buyer.address, to, value: amount, validAfter: 0n, validBefore: seconds() + 600n, nonce: nonce(), ...change };
  const signature = await buyer.signTypedData({
    domain: { name: "USDC", version: "2", chainId: 31337, verifyingContract: TOKEN },
    primaryType: "TransferWithAuthorization",
    types: {
      TransferWithAuthorization: [
        ["address", "from"], ["address", "to"], ["uint256", "value"], ["uint256", "validAfter"], ["uint256", "validBefore"], ["bytes32", "nonce"],
      ].map(([type, name]) => ({ type, name })),
    },
    message,
  });
  const requirements = {
    scheme: "exact", network: "eip155:31337", amount: String(amount), asset: TOKEN, payTo: to,
    maxTimeoutSeconds: 60, extra: { name: "USDC", version: "2" }, ...more,
  };
  const authorization = Object.fromEntries(Object.entries(message).map(([name, value]) => [name, String(value)]));
  const body = {
    x402Version: 2,
    paymentPayload: { x402Version: 2, accepted: requirements, payload: { signature, authorization }, resource: { url: "https://shop.test/a" } },
    paymentRequirements: requirements,
  };
  const post = (verb, sent = body, key = tenant.test) => worker.call("POST", `/facilitator/${verb}`, { key, body: sent });
  return { ...tenant, to, buyer, body, verify: (sent) => post("verify", sent), settle: (sent, key) => post("settle", sent, key), amount };
}
