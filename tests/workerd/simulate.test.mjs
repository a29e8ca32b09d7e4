// What is judged is what is sent: the very transaction is simulated, with its gas, its price and its
// sender, on a real chain (anvil) and on a provider that says what no real one can be made to say.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { decodeFunctionData, keccak256, parseGwei } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { contracts } from "../../scripts/lib/contract.mjs";
import { randomAccount } from "../../scripts/lib/evm.mjs";
import { startMock } from "./mock-rpc.mjs";
import { random, sign, signedPayment } from "./payment.mjs";
import { sent as sentOn, startSettling } from "./settling.mjs";
import { startWorker } from "./worker.mjs";

let evm, worker, stop;

before(async () => {
  ({ evm, worker, stop } = await startSettling());
});
after(() => stop?.());

const sent = (address) => sentOn(evm, "latest", address);

/** A payment of a wallet that takes `signature` for its own. */
async function ofWallet(signature, { gas = 0n, prices = [0n, 2n ** 255n] } = {}) {
  const address = await evm.deploy("OddWallet", [keccak256(signature), gas, ...prices]);
  return signedPayment(worker, evm, { buyer: { address, signTypedData: async () => signature } });
}

test("a wallet that needs more gas than would be sent is refused, and burns none", async () => {
  const before = await sent();
  const { verify, settle, to } = await ofWallet(random(65), { gas: 380_000n });
  const verified = (await verify()).body;
  assert.deepEqual(
    [verified.isValid, verified.invalidReason],
    [false, "invalid_exact_evm_transaction_simulation_failed"],
    JSON.stringify(verified),
  );
  const settled = (await settle()).body;
  assert.deepEqual(
    [settled.success, settled.errorReason],
    [false, "invalid_exact_evm_transaction_simulation_failed"],
    JSON.stringify(settled),
  );
  assert.deepEqual([await sent(), await evm.balance(to)], [before, 0n]);
  // One that keeps within it is served.
  const frugal = await ofWallet(random(65), { gas: 50_000n });
  assert.equal((await frugal.verify()).body.isValid, true);
  assert.equal((await frugal.settle()).body.success, true);
});

test("a wallet that looks at the price of gas is judged at the price it would be sent at", async () => {
  const before = await sent();
  const free = await ofWallet(random(65), { prices: [0n, 0n] });
  assert.equal((await free.verify()).body.invalidReason, "invalid_exact_evm_signature");
  assert.equal((await free.settle()).body.errorReason, "invalid_exact_evm_signature");
  const dear = await ofWallet(random(65), { prices: [parseGwei("1000"), 2n ** 255n] });
  assert.equal((await dear.verify()).body.invalidReason, "invalid_exact_evm_signature");
  assert.equal(await sent(), before);
  const paid = await ofWallet(random(65), { prices: [1n, parseGwei("100")] });
  const verified = (await paid.verify()).body;
  assert.equal(verified.isValid, true, JSON.stringify(verified));
  const settled = (await paid.settle()).body;
  assert.equal(settled.success, true, JSON.stringify(settled));
  assert.equal(await evm.balance(paid.to), 10_000n);
});

test("a contract's signature reaches the token byte for byte, whatever its length", async () => {
  const { LocalUSDC } = await contracts();
  const ended = (bytes, last) => `${random(bytes - 1)}${last}`;
  const signatures = [random(64), ended(65, "00"), ended(65, "01"), ended(65, "1b"), ended(65, "1f"), random(66), random(130)];
  for (const signature of signatures) {
    const { verify, settle, to } = await ofWallet(signature);
    for (const look of ["first", "second"]) {
      const { body } = await verify();
      assert.equal(body.isValid, true, `${look} look, ${signature}: ${JSON.stringify(body)}`);
    }
    const { body } = await settle();
    assert.equal(body.success, true, `${signature}: ${JSON.stringify(body)}`);
    assert.equal(await evm.balance(to), 10_000n);
    const { input } = await evm.rpc("eth_getTransactionByHash", [body.transaction]);
    assert.equal(input.slice(0, 10), "0xcf092995");
    assert.equal(decodeFunctionData({ abi: LocalUSDC.abi, data: input }).args.at(-1), signature);
    // Another signature is none, of whatever length.
    const other = await ofWallet(signature);
    other.body.paymentPayload.payload.signature = ended((signature.length - 2) / 2, signature.endsWith("1b") ? "1c" : "1b");
    assert.equal((await other.verify()).body.invalidReason, "invalid_exact_evm_signature");
  }
});

test("of a payer without code 66 bytes are no signature, and 64 are one", async () => {
  const { verify, settle, body, to } = await signedPayment(worker, evm);
  const { signature } = body.paymentPayload.payload;
  const as = (changed) => {
    const other = structuredClone(body);
    other.paymentPayload.payload.signature = changed;
    return other;
  };
  assert.equal((await verify(as(`${signature}00`))).body.invalidReason, "invalid_exact_evm_signature");
  const raw = Buffer.from(signature.slice(2), "hex");
  raw[32] |= (raw[64] - 27) << 7;
  const short = as(`0x${raw.subarray(0, 64).toString("hex")}`);
  assert.equal((await verify(short)).body.isValid, true);
  assert.equal((await settle(short)).body.success, true);
  assert.equal(await evm.balance(to), 10_000n);
});

/** The place of the signer that is a payer's own. */
const own = (caip2, payer, count) => createHash("sha256").update(`${caip2}/${payer.toLowerCase()}`).digest().readUInt16BE(0) % count;

/** A buyer whose own signer is at a place. */
function buyerAt(place, caip2, count) {
  for (;;) {
    const buyer = randomAccount();
    if (own(caip2, buyer.address, count) === place) return buyer;
  }
}

test("where a payer's signer cannot pay, the next one serves; where none can, that is ours", async () => {
  const keys = [generatePrivateKey(), generatePrivateKey()];
  const [first, second] = keys.map((key) => privateKeyToAccount(key).address);
  const coin = (address, wei) => evm.rpc("anvil_setBalance", [address, `0x${wei.toString(16)}`]);
  await coin(first, 1n);
  await coin(second, 10n ** 18n);
  const mine = await startWorker({ vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: keys.join() } });
  try {
    const payment = () => signedPayment(mine, evm, { buyer: buyerAt(0, "eip155:31337", 2) });
    const served = await payment();
    const verified = (await served.verify()).body;
    assert.equal(verified.isValid, true, JSON.stringify(verified));
    const settled = (await served.settle()).body;
    assert.equal(settled.success, true, JSON.stringify(settled));
    assert.deepEqual([await sent(first), await sent(second)], [0, 1]);
    await coin(second, 1n);
    const stuck = await payment();
    const poor = (await stuck.verify()).body;
    assert.deepEqual([poor.isValid, poor.invalidReason], [false, "unexpected_verify_error"], JSON.stringify(poor));
    assert.match(poor.invalidMessage, /cannot pay for gas/);
    const failed = (await stuck.settle()).body;
    assert.deepEqual(
      [failed.success, failed.errorReason, failed.transaction],
      [false, "invalid_exact_evm_relayer_insufficient_funds", ""],
      JSON.stringify(failed),
    );
    assert.deepEqual([await sent(first), await sent(second), await evm.balance(stuck.to)], [0, 1, 0n]);
  } finally {
    await mine.stop();
  }
});

/** The words of nodes whose sender cannot pay for its gas. */
const POOR = [
  { code: -32000, message: "err: insufficient funds for gas * price + value: address 0x55 have 1 want 2 (supplied gas 200000)" },
  { code: -32003, message: "Insufficient funds for gas * price + value" },
  { code: -32003, message: "lack of funds (1) for max fee (2)" },
  { code: -32000, message: "insufficient sender balance" },
  { code: -32000, message: "err: insufficient MaxFeePerGas for sender balance (supplied gas 200000)" },
  { code: -32004, message: "Upfront cost exceeds account balance" },
  { code: -32603, message: "insufficient balance for fee" },
];

/** A Worker of live signers in front of a scripted provider of Base, and a payment to be judged there. */
async function scripted(signers, use) {
  const mock = await startMock();
  const keys = Array.from({ length: signers }, () => generatePrivateKey());
  const addresses = keys.map((key) => privateKeyToAccount(key).address.toLowerCase());
  const mine = await startWorker({ vars: { RPC_BASE: mock.url, EVM_SIGNERS_LIVE: keys.join() } });
  const to = random(20);
  const tenant = await mine.tenant({ recipients: { base: to } });
  const payment = async (buyer = randomAccount()) => {
    const body = await sign({ buyer, to, token: mock.token, chainId: 8453, name: "USD Coin" });
    const post = async (verb, sent = body) => (await mine.call("POST", `/facilitator/${verb}`, { key: tenant.live, body: sent })).body;
    return { body, verify: (sent) => post("verify", sent), settle: (sent) => post("settle", sent) };
  };
  try {
    await use({ mock, addresses, payment });
  } finally {
    await mine.stop();
    mock.stop();
  }
}

test("a node's error about our sender's funds passes the payment to the next signer, in every node's wording", async () => {
  await scripted(POOR.length + 1, async ({ mock, addresses, payment }) => {
    const words = new Map(POOR.map((error, at) => [addresses[at], error]));
    mock.simulate = ({ from }) => (words.has(from) ? { error: words.get(from) } : undefined);
    const first = await payment(buyerAt(0, "eip155:8453", addresses.length));
    const verified = await first.verify();
    assert.equal(verified.isValid, true, JSON.stringify(verified));
    assert.deepEqual(
      mock.simulated.map(({ from }) => from),
      addresses,
    );
    // They are known now, and not asked about again.
    mock.simulated.length = 0;
    assert.equal((await (await payment(buyerAt(3, "eip155:8453", addresses.length))).verify()).isValid, true);
    assert.deepEqual(
      mock.simulated.map(({ from }) => from),
      [addresses.at(-1)],
    );
    words.set(addresses.at(-1), POOR[0]);
    const none = await (await payment()).verify();
    assert.deepEqual([none.isValid, none.invalidReason], [false, "unexpected_verify_error"]);
  });
});

test("a token's revert is the payer's refusal, even in the words of a poor sender", async () => {
  await scripted(2, async ({ mock, addresses, payment }) => {
    const texts = [
      "ERC20: transfer amount exceeds balance",
      "insufficient funds for gas * price + value",
      "max fee per gas less than block base fee",
    ];
    for (const text of texts) {
      mock.simulate = ({ data }) =>
        data.startsWith("0xe3ee160e") ? { error: { code: 3, message: `execution reverted: ${text}`, data: "0x08c379a0" } } : undefined;
      const { isValid, invalidReason } = await (await payment()).verify();
      assert.deepEqual([isValid, invalidReason], [false, "invalid_exact_evm_insufficient_balance"], text);
    }
    mock.simulate = () => undefined;
    mock.simulated.length = 0;
    for (const [place, address] of addresses.entries()) {
      assert.equal((await (await payment(buyerAt(place, "eip155:8453", 2))).verify()).isValid, true);
      assert.equal(mock.simulated.at(-1).from, address);
    }
  });
});

test("what a token says of a transfer that would fail is the protocol's reason", async () => {
  await scripted(1, async ({ mock, payment }) => {
    const words = (text) =>
      `0x08c379a0${[32n, BigInt(text.length)].map((one) => one.toString(16).padStart(64, "0")).join("")}${Buffer.from(text).toString("hex").padEnd(128, "0")}`;
    const reasons = {
      "FiatTokenV2: authorization is not yet valid": "invalid_exact_evm_payload_authorization_valid_after",
      "FiatTokenV2: authorization is expired": "invalid_exact_evm_payload_authorization_valid_before",
      "FiatTokenV2: authorization is used or canceled": "invalid_exact_evm_nonce_already_used",
      "FiatTokenV2: invalid signature": "invalid_exact_evm_signature",
      "ERC20: transfer amount exceeds balance": "invalid_exact_evm_insufficient_balance",
      "Blacklistable: account is blacklisted": "invalid_exact_evm_transaction_simulation_failed",
    };
    for (const [text, reason] of Object.entries(reasons)) {
      for (const error of [
        { code: 3, message: `execution reverted: ${text}`, data: words(text) },
        { code: 3, message: "execution reverted", data: words(text) },
        { code: -32015, message: "VM execution error.", data: `Reverted ${words(text)}` },
      ]) {
        mock.simulate = ({ data }) => {
          if (data.startsWith("0xe3ee160e")) return { error };
          // The payer holds enough, and the authorization is not used, as far as a look at the state tells.
          return data.startsWith("0x70a08231") ? `0x${(10n ** 12n).toString(16).padStart(64, "0")}` : undefined;
        };
        const { isValid, invalidReason, invalidMessage } = await (await payment()).verify();
        assert.deepEqual([isValid, invalidReason], [false, reason], `${text}: ${error.message}`);
        assert.ok(invalidMessage.includes(text), invalidMessage);
      }
    }
  });
});

test("a price that the market has left behind is quoted anew at once", async () => {
  await scripted(1, async ({ mock, payment }) => {
    mock.simulate = ({ maxFeePerGas }) =>
      maxFeePerGas !== undefined && BigInt(maxFeePerGas) < mock.baseFee
        ? {
            error: {
              code: -32000,
              message: `err: max fee per gas less than block base fee: address 0x55, maxFeePerGas: 1, baseFee: 2 (supplied gas 200000)`,
            },
          }
        : undefined;
    assert.equal((await (await payment()).verify()).isValid, true);
    mock.baseFee *= 3n;
    mock.simulated.length = 0;
    const verified = await (await payment()).verify();
    assert.equal(verified.isValid, true, JSON.stringify(verified));
    assert.deepEqual(
      mock.simulated.map(({ maxFeePerGas }) => BigInt(maxFeePerGas)),
      [2_001_000_000n, 5_000_000_000n],
    );
  });
});

test("without a price a payment is judged by its gas alone, and not sent", async () => {
  await scripted(1, async ({ mock, payment }) => {
    mock.baseFee = undefined;
    const { verify, settle } = await payment();
    const verified = await verify();
    assert.equal(verified.isValid, true, JSON.stringify(verified));
    assert.match(verified.extra.checks.at(-1).detail, /without a price/);
    assert.deepEqual([mock.simulated[0].gas, mock.simulated[0].maxFeePerGas], ["0x30d40", undefined]);
    const settled = await settle();
    assert.deepEqual(
      [settled.success, settled.errorReason, settled.error_code],
      [false, "unexpected_settle_error", "CHAIN_UNAVAILABLE"],
      JSON.stringify(settled),
    );
    assert.ok(!mock.calls.includes("eth_sendRawTransaction"));
  });
});

test("many at once ask for the price once, and a warm verification makes one call", async () => {
  await scripted(1, async ({ mock, payment }) => {
    const buyer = randomAccount();
    const all = await Promise.all(Array.from({ length: 20 }, () => payment(buyer)));
    const answers = await Promise.all(all.map(({ verify }) => verify()));
    assert.ok(
      answers.every(({ isValid }) => isValid),
      JSON.stringify(answers.find(({ isValid }) => !isValid)),
    );
    assert.equal(mock.calls.filter((method) => method === "eth_gasPrice").length, 1);
    [mock.calls, mock.requests] = [[], 0];
    const again = await payment(buyer);
    assert.equal((await again.verify()).isValid, true);
    assert.deepEqual([mock.requests, mock.calls], [1, ["eth_call"]]);
    // What its key has not signed needs no chain.
    const forged = structuredClone(again.body);
    forged.paymentPayload.payload.authorization.nonce = random(32);
    assert.equal((await again.verify(forged)).invalidReason, "invalid_exact_evm_signature");
    assert.equal(mock.requests, 1);
  });
});
