// A chain whose gas may be paid in the token (Celo): the fee is neither paid to a seller nor passed on by one.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startMock } from "./mock-rpc.mjs";
import { startWorker } from "./worker.mjs";

const ZERO = `0x${"00".repeat(20)}`;
const VAULT = "0x4200000000000000000000000000000000000011";
const HANDLER = "0xcd437749e43a154c07f3553504c68fbfd56b8778";
const address = () => `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex")}`;
let celo, worker;

before(async () => {
  celo = await startMock({ chainId: 42220, token: "0xceba9300f2b948710d2653dd7b07f33a8b32118c" });
  worker = await startWorker({ vars: { RPC_CELO: celo.url } });
});
after(async () => {
  await worker?.stop();
  celo?.stop();
});

/** A seller, and what is verified of a transaction with these transfers, which `sender` has sent. */
async function sold(transfersOf) {
  const [seller, buyer] = [address(), address()];
  const { live } = await worker.tenant({ recipients: { celo: seller } });
  const { sender, transfers } = transfersOf({ seller, buyer });
  const hash = celo.addTransfer({ transfers });
  celo.receipts.get(hash).from = sender;
  const ask = async (more = {}) => (await worker.verify(live, { tx_hash: hash, chain: "celo", ...more })).body;
  return { seller, buyer, ask };
}

/** As Circle's contract logs a fee: a reserve out and back, and what is earned of it. */
const withFee = (sender, inner, { reserve = 20_000, tip = 200, base = 400 } = {}) => [
  { from: sender, to: ZERO, amount: reserve },
  ...inner,
  { from: ZERO, to: sender, amount: reserve },
  { from: sender, to: VAULT, amount: tip },
  { from: sender, to: HANDLER, amount: base },
];

test("a recipient who settles himself and pays gas in the token got all that was paid", async () => {
  const { ask, buyer } = await sold(({ seller, buyer }) => ({
    sender: seller,
    transfers: withFee(seller, [{ from: buyer, to: seller, amount: 500_000 }]),
  }));
  const answer = await ask({ expected_amount: "0.50", payer: buyer });
  assert.deepEqual([answer.success, answer.amount_usdc, answer.overpaid], [true, "0.500000", "0"], JSON.stringify(answer));
  assert.deepEqual(
    answer.payers.map((payer) => payer.toLowerCase()),
    [buyer],
  );
  assert.equal(answer.transfers.length, 1);
});

test("a reserve that comes back in part is a fee of the rest", async () => {
  const { ask } = await sold(({ seller, buyer }) => ({
    sender: seller,
    transfers: [
      { from: seller, to: ZERO, amount: 20_000 },
      { from: buyer, to: seller, amount: 500_000 },
      { from: ZERO, to: seller, amount: 19_400 },
    ],
  }));
  const answer = await ask({ expected_amount: "0.50" });
  assert.deepEqual([answer.success, answer.amount_usdc], [true, "0.500000"], JSON.stringify(answer));
});

test("a reserve larger than the payment is not passed on", async () => {
  const { ask, buyer } = await sold(({ seller, buyer }) => ({
    sender: seller,
    transfers: withFee(seller, [{ from: buyer, to: seller, amount: 10_000 }]),
  }));
  const answer = await ask({ expected_amount: "0.01", payer: buyer });
  assert.deepEqual([answer.success, answer.amount_usdc, answer.binding], [true, "0.010000", "payer"], JSON.stringify(answer));
});

test("a buyer who pays gas in the token has paid the seller what reached him", async () => {
  const { ask, buyer } = await sold(({ seller, buyer }) => ({
    sender: buyer,
    transfers: withFee(buyer, [{ from: buyer, to: seller, amount: 500_000 }]),
  }));
  const answer = await ask({ expected_amount: "0.50", payer: buyer });
  assert.deepEqual([answer.success, answer.amount_usdc], [true, "0.500000"], JSON.stringify(answer));
});

test("what a recipient passes on beside the fee still counts", async () => {
  const { ask } = await sold(({ seller, buyer }) => ({
    sender: seller,
    transfers: withFee(seller, [
      { from: buyer, to: seller, amount: 500_000 },
      { from: seller, to: address(), amount: 500_000 },
    ]),
  }));
  assert.equal((await ask()).error_code, "RECIPIENT_FORWARDED");
  // The fee alone is no payment.
  const alone = await sold(({ seller }) => ({ sender: seller, transfers: withFee(seller, []) }));
  assert.equal((await alone.ask()).error_code, "NO_MATCHING_TRANSFER");
});
