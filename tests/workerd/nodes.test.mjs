// One node's refusal and one node's error: a node that is behind refuses no buyer, an error is no answer, and a
// transaction is said to be sent only where a node has taken it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { generatePrivateKey } from "viem/accounts";
import { ACCOUNTS, KEYS, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { keyPairText, signer, startSolana } from "../../scripts/lib/solana.mjs";
import { startMock } from "./mock-rpc.mjs";
import { isExternal, sendAsStranger, sign, signedPayment, signedSvmPayment } from "./payment.mjs";
import { behind, failing, refusing, startProxy } from "./proxy.mjs";
import { sent as sentOn } from "./settling.mjs";
import { startWorker, until } from "./worker.mjs";

const BALANCE = "invalid_exact_evm_insufficient_balance";
const SIMULATION = "invalid_exact_svm_transaction_simulation_failed";
const names = ({ extra }) => extra.checks.map(({ name }) => name);

/** A local EVM chain behind two providers of its own, and a Worker that knows both, or `only` so many. */
const onEvm = (name, run, { only = 2 } = {}) =>
  test(name, async () => {
    const evm = await startEvm();
    const [first, second] = [await startProxy(evm.url), await startProxy(evm.url)];
    const providers = [first, second].slice(0, only).map(({ url }) => url);
    const worker = await startWorker({ vars: { RPC_LOCAL_EVM: providers.join(), EVM_SIGNERS_TEST: KEYS.at(-1) } });
    const sent = (tag) => sentOn(evm, tag);
    const grow = () => evm.rpc("anvil_mine", ["0x5"]);
    try {
      await grow();
      await run({ evm, first, second, worker, sent, grow, pay: (wishes) => signedPayment(worker, evm, wishes) });
    } finally {
      await worker.stop();
      for (const one of [first, second, evm]) one.stop();
    }
  });

/** The same on Solana. */
const onSolana = (name, run, { only = 2 } = {}) =>
  test(name, async () => {
    const chain = await startSolana();
    chain.airdrop((await signer(0x21)).address, 1_000_000_000n);
    const [first, second] = [await startProxy(chain.url), await startProxy(chain.url)];
    const providers = [first, second].slice(0, only).map(({ url }) => url);
    const pair = await keyPairText(new Uint8Array(32).fill(0x21));
    const worker = await startWorker({ vars: { RPC_LOCAL_SOLANA: providers.join(), SOLANA_SIGNERS_TEST: pair } });
    try {
      await run({ chain, first, second, worker, pay: (wishes) => signedSvmPayment(worker, chain, wishes) });
    } finally {
      await worker.stop();
      for (const one of [first, second, chain]) one.stop();
    }
  });

/** A Solana node so many slots behind: it knows neither the newest block hash nor an account but our own, which is old. */
const behindSolana =
  (chain, slots, own) =>
  ({ method, params }) => {
    const context = { apiVersion: "4.3.2", slot: chain.slot - slots };
    switch (method) {
      case "getSlot":
        return { result: chain.slot - slots };
      case "simulateTransaction":
        return { result: { context, value: { err: "BlockhashNotFound", logs: [], unitsConsumed: 0 } } };
      case "getAccountInfo":
        return params[0] === own ? undefined : { result: { context, value: null } };
      default:
        return undefined;
    }
  };

onEvm("a node three blocks behind refuses no buyer whose money is there", async ({ evm, first, sent, grow, pay }) => {
  first.answer = behind(evm, 3);
  const { verify, settle, to } = await pay({ holds: 10_000n });
  const verified = (await verify()).body;
  assert.equal(verified.isValid, true, JSON.stringify(verified));
  const settled = (await settle()).body;
  assert.equal(settled.success, true, JSON.stringify(settled));
  assert.deepEqual([await evm.balance(to), await sent()], [10_000n, 1]);
  // The next one follows at once, though that node knows nothing of the first.
  const next = await pay({ holds: 10_000n });
  assert.equal((await next.settle()).body.success, true);
  assert.deepEqual([await evm.balance(next.to), await sent()], [10_000n, 2]);
  // What both refuse is refused for good.
  const poor = await pay({ holds: 9_999n });
  await grow();
  for (const { body } of [await poor.verify(), await poor.settle()]) {
    assert.equal(body.invalidReason ?? body.errorReason, BALANCE, JSON.stringify(body));
    assert.ok(!names(body).includes("single_provider"), JSON.stringify(body));
  }
});

onEvm("a refusal that nobody confirms is no last word, and one from the highest node is", async ({ evm, first, second, pay }) => {
  first.answer = behind(evm, 3);
  second.down = true;
  const made = await pay({ holds: 10_000n });
  const verified = (await made.verify()).body;
  assert.deepEqual(
    [verified.isValid, verified.invalidReason, verified.extra.retry],
    [false, "unexpected_verify_error", "later"],
    JSON.stringify(verified),
  );
  assert.equal(verified.extra.checks.at(-1).name, "second_provider");
  const settled = (await made.settle()).body;
  assert.deepEqual(
    [settled.success, settled.errorReason, settled.extra.retry, settled.transaction],
    [false, "unexpected_settle_error", "later", ""],
    JSON.stringify(settled),
  );
  // The second judges nothing, and says how high it is: the first is as high.
  [first.answer, second.down] = [() => undefined, false];
  second.answer = failing(["eth_call"]);
  const poor = await pay({ holds: 9_999n });
  await until(async () => (await poor.verify()).body.invalidReason === BALANCE, "the word of the node that is as high as the other");
  // It is higher than the first.
  first.answer = behind(evm, 2);
  assert.equal((await (await pay({ holds: 9_999n })).verify()).body.invalidReason, "unexpected_verify_error");
});

onEvm(
  "the only provider is believed, and the checks say so",
  async ({ first, pay }) => {
    const poor = await pay({ holds: 9_999n });
    for (const { body } of [await poor.verify(), await poor.settle()]) {
      assert.equal(body.invalidReason ?? body.errorReason, BALANCE);
      assert.ok(names(body).includes("single_provider"), JSON.stringify(body));
    }
    assert.equal(first.calls.filter((method) => method === "eth_blockNumber").length, 0);
  },
  { only: 1 },
);

onSolana("a node that does not know the newest block hash refuses no buyer", async ({ chain, first, second, pay }) => {
  first.answer = behindSolana(chain, 3, (await signer(0x21)).address);
  const { verify, settle, paid } = await pay();
  const verified = (await verify()).body;
  assert.equal(verified.isValid, true, JSON.stringify(verified));
  const settled = (await settle()).body;
  assert.equal(settled.success, true, JSON.stringify(settled));
  assert.deepEqual([await paid(), new Set(chain.sends).size], [10_000n, 1]);
  const alone = await pay();
  second.down = true;
  const unsure = (await alone.verify()).body;
  assert.deepEqual(
    [unsure.isValid, unsure.invalidReason, unsure.extra.retry],
    [false, "unexpected_verify_error", "later"],
    JSON.stringify(unsure),
  );
  assert.equal((await alone.settle()).body.errorReason, "unexpected_settle_error");
  [first.answer, second.down] = [() => undefined, false];
  const poor = await pay({ holds: 9_999n });
  await until(async () => (await poor.verify()).body.invalidReason === SIMULATION, "the word of both");
});

onSolana(
  "the only provider is believed on Solana too",
  async ({ pay }) => {
    const { body } = await (await pay({ holds: 9_999n })).verify();
    assert.deepEqual([body.invalidReason, names(body).includes("single_provider")], [SIMULATION, true], JSON.stringify(body));
  },
  { only: 1 },
);

test("what one node allows costs no second request, and what two refuse costs two", async () => {
  const [one, two] = [await startMock(), await startMock()];
  const worker = await startWorker({ vars: { RPC_BASE: `${one.url},${two.url}`, EVM_SIGNERS_LIVE: generatePrivateKey() } });
  try {
    const to = `0x${"42".repeat(20)}`;
    const tenant = await worker.tenant({ recipients: { base: to } });
    const buyer = randomAccount();
    const verify = async () => {
      const body = await sign({ buyer, to, token: one.token, chainId: 8453, name: "USD Coin" });
      return (await worker.call("POST", "/facilitator/verify", { key: tenant.live, body })).body;
    };
    assert.equal((await verify()).isValid, true);
    [one.requests, two.requests, one.calls] = [0, 0, []];
    assert.equal((await verify()).isValid, true);
    assert.deepEqual([one.requests, two.requests, one.calls], [1, 0, ["eth_call"]]);
    for (const mock of [one, two]) {
      mock.simulate = ({ data }) =>
        data.startsWith("0xe3ee160e") ? { error: { code: 3, message: "execution reverted", data: "0x08c379a0" } } : undefined;
      mock.requests = 0;
    }
    assert.equal((await verify()).invalidReason, BALANCE);
    assert.deepEqual([one.requests, two.requests], [2, 2]);
  } finally {
    await worker.stop();
    one.stop();
    two.stop();
  }
});

for (const [message, code] of /** @type {[string, number][]} */ ([
  ["the method eth_sendRawTransaction does not exist", -32601],
  ["node is unhealthy", -32005],
  ["internal error", -32603],
  ["insufficient funds for gas * price + value", -32000],
])) {
  onEvm(
    `a node that refuses a transaction (${code}: ${message}) is passed over for the next`,
    async ({ evm, first, second, sent, pay }) => {
      first.answer = refusing(message, code);
      const { settle, to } = await pay();
      const { body } = await settle();
      assert.equal(body.success, true, JSON.stringify(body));
      assert.deepEqual([await evm.balance(to), await sent("pending"), new Set([...first.raw, ...second.raw]).size], [10_000n, 1, 1]);
    },
  );
}

for (const [message, code] of /** @type {[string, number][]} */ ([
  ["Method not found", -32601],
  ["Node is unhealthy", -32005],
])) {
  onSolana(
    `a node that refuses a transaction (${code}: ${message}) is passed over for the next on Solana`,
    async ({ chain, first, pay }) => {
      first.answer = refusing(message, code);
      const { settle, paid } = await pay();
      const { body } = await settle();
      assert.equal(body.success, true, JSON.stringify(body));
      assert.deepEqual([await paid(), new Set(chain.sends).size], [10_000n, 1]);
    },
  );
}

/** What is said of a payment whose transaction no node takes. */
const unwanted = (body) => [body.success, body.errorReason, body.transaction, body.extra.retry];
const UNWANTED = [false, "unexpected_settle_error", "", "later"];

onEvm(
  "bytes that no node takes are not said to be sent, and are never offered again",
  async ({ evm, first, second, sent, worker, pay }) => {
    first.answer = refusing("the method eth_sendRawTransaction does not exist", -32601);
    second.answer = refusing("node is unhealthy", -32005);
    const lost = await pay();
    const { body } = await lost.settle();
    assert.deepEqual(unwanted(body), UNWANTED, JSON.stringify(body));
    const read = async () => (await worker.call("GET", `/v1/settlements/${body.extra.settlementId}`, { key: lost.test })).body;
    assert.deepEqual([(await read()).status, (await read()).transaction], ["failed", null]);
    first.answer = second.answer = () => undefined;
    // The next payment takes the nonce; of the first nothing is mined.
    const next = await pay();
    assert.equal((await next.settle()).body.success, true);
    assert.deepEqual([await sent("pending"), await evm.balance(lost.to), await evm.balance(next.to)], [1, 0n, 10_000n]);
    const offered = [...first.raw, ...second.raw].length;
    const again = (await lost.settle()).body;
    assert.equal(again.success, true, JSON.stringify(again));
    assert.deepEqual([await evm.balance(lost.to), await sent("pending"), [...first.raw, ...second.raw].length], [10_000n, 2, offered + 1]);
  },
);

onEvm("bytes that a node may have taken are said to be sent", async ({ evm, first, second, pay }) => {
  first.answer = refusing("internal error", -32603);
  second.answer = refusing("the method eth_sendRawTransaction does not exist", -32601);
  const { settle, to } = await pay();
  const waiting = (await settle()).body;
  assert.deepEqual([waiting.success, waiting.errorReason], [false, "settlement_pending"], JSON.stringify(waiting));
  assert.match(waiting.transaction, /^0x[0-9a-f]{64}$/);
  first.answer = second.answer = () => undefined;
  await until(async () => (await evm.balance(to)) === 10_000n, "the alarm", 40_000);
});

onSolana(
  "bytes that no node takes on Solana are not said to be sent, and are never offered again",
  async ({ chain, first, second, worker, pay }) => {
    first.answer = refusing("Method not found", -32601);
    second.answer = refusing("Node is unhealthy", -32005);
    const { settle, paid, test: key } = await pay();
    const { body } = await settle();
    assert.deepEqual(unwanted(body), UNWANTED, JSON.stringify(body));
    const read = (await worker.call("GET", `/v1/settlements/${body.extra.settlementId}`, { key })).body;
    assert.deepEqual([read.status, read.transaction], ["failed", null]);
    first.answer = second.answer = () => undefined;
    assert.deepEqual([chain.sends.length, await paid()], [0, 0n]);
    const again = (await settle()).body;
    assert.equal(again.success, true, JSON.stringify(again));
    assert.deepEqual([await paid(), chain.sends.length], [10_000n, 1]);
  },
);

const PRICES = ["eth_gasPrice", "eth_maxPriorityFeePerGas", "eth_getBlockByNumber"];

onSolana(
  "bytes that a node has forwarded though it refused them are found when the payment comes again",
  async ({ chain, first, second, pay }) => {
    let bytes;
    first.answer = ({ method, params }) => {
      if (method !== "sendTransaction") return undefined;
      bytes = params;
      return { error: { code: -32005, message: "Node is unhealthy" } };
    };
    second.answer = refusing("Method not found", -32601);
    const { settle, verify, paid } = await pay();
    assert.deepEqual(unwanted((await settle()).body), UNWANTED);
    await fetch(chain.url, { method: "POST", body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "sendTransaction", params: bytes }) });
    await until(async () => (await paid()) === 10_000n, "the transaction in a block");
    // LiteSVM does not say so of its own accord: real nodes do, while the block hash lives.
    const processed = { context: { slot: 1 }, value: { err: "AlreadyProcessed", logs: [], unitsConsumed: 0 } };
    first.answer = second.answer = ({ method }) => (method === "simulateTransaction" ? { result: processed } : undefined);
    assert.equal((await verify()).body.invalidReason, "duplicate_settlement");
    const healed = await settle();
    assert.equal(healed.body.success, true, healed.text);
    assert.equal((await settle()).body.errorReason, "duplicate_settlement");
    assert.equal(await paid(), 10_000n);
  },
);

onEvm(
  "a price that one node does not tell is asked of the next, and one that none tells is the chain's fault",
  async ({ first, second, pay, sent }) => {
    first.answer = failing(PRICES);
    second.answer = failing(PRICES);
    const { settle } = await pay();
    const { status, body } = await settle();
    assert.deepEqual(
      [status, body.error_code, body.errorReason, body.retry],
      [503, "CHAIN_UNAVAILABLE", "unexpected_settle_error", "later"],
      JSON.stringify(body),
    );
    assert.equal(await sent("pending"), 0);
    second.answer = () => undefined;
    const served = (await settle()).body;
    assert.equal(served.success, true, JSON.stringify(served));
  },
);

onEvm("reads that one node answers with an error are asked of the next", async ({ evm, first, worker, sent, pay }) => {
  first.answer = failing(["eth_getBalance", "eth_getTransactionReceipt", "eth_getTransactionCount", "eth_getLogs", "eth_blockNumber"]);
  const { settle, to } = await pay();
  const { body } = await settle();
  assert.equal(body.success, true, JSON.stringify(body));
  assert.deepEqual([await evm.balance(to), await sent("pending")], [10_000n, 1]);
  const { kinds } = (await worker.call("GET", "/facilitator/supported")).body;
  assert.ok(kinds.some(({ network }) => network === "eip155:31337"));
  // An authorization that somebody else has used is found by its event.
  const stranger = await pay();
  const hash = await sendAsStranger(evm, stranger.body, ACCOUNTS[0]);
  const found = await stranger.settle();
  assert.deepEqual([found.body.success, found.body.transaction, isExternal(found)], [true, hash, true], found.text);
});

onSolana("reads that one node answers with an error are asked of the next on Solana", async ({ first, pay }) => {
  first.answer = failing(["getSignatureStatuses", "getLatestBlockhash", "getAccountInfo", "getSlot", "simulateTransaction"]);
  const { settle, paid } = await pay();
  const { body } = await settle();
  assert.equal(body.success, true, JSON.stringify(body));
  assert.equal(await paid(), 10_000n);
});
