// Thousands of payloads that are almost right, sent to ours and to the reference
// facilitator: the same verdict and the same reason, but for what is listed.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { multicall3Bytecode } from "../../node_modules/viem/_esm/constants/contracts.js";
import { KEYS, randomAccount } from "../../scripts/lib/evm.mjs";
import { DEVNET_MINT, randomSigner } from "../../scripts/lib/solana.mjs";
import { sign, signSvm } from "../workerd/payment.mjs";
import { EVM_DIFFERENCES, SVM_DIFFERENCES } from "./differences.mjs";
import { CIRCLE, DEVNET, openMarket } from "./market.mjs";
import { changeRequirements, junk, put, scratch, seeded } from "./mutations.mjs";
import { reference, withEvm, withSvm } from "./reference-facilitator.mjs";

const CASES = Number(process.env.CASES ?? 2_000);
const SEED = Number(process.env.SEED ?? 402);
const AT_ONCE = 24;
let evm, solana, worker, tenant, payTo, seller, feePayer, close, facilitator;

before(async () => {
  const market = await openMarket({ limits: { per_minute: 1_000_000, per_hour: 1_000_000 } });
  ({ evm, solana, worker, tenant, payTo, seller, feePayer, close } = market);
  // The reference looks into failures by Multicall3, at the address it has everywhere.
  const deployed = await evm.rpc("eth_call", [{ data: multicall3Bytecode }]);
  await evm.rpc("anvil_setCode", ["0xcA11bde05977b3631167028862bE2a173976CA11", deployed]);
  facilitator = withEvm(reference(), { url: evm.url, chainId: 84532, key: KEYS[KEYS.length - 1], name: "base-sepolia" });
  await withSvm(facilitator, {
    url: solana.url,
    signer: feePayer,
    limits: { maxPriorityFeeMicroLamports: 500_000, maxComputeUnits: 400_000, maxRequiredSignatures: 2 },
  });
});
after(() => close?.());

const verdict = ({ isValid, invalidReason }) => (isValid ? "valid" : invalidReason);

async function compare(cases, differences) {
  // Signing has kept the event loop busy. A connection that the Worker has closed meanwhile is noticed here, not used.
  await setImmediate();
  const seen = new Map();
  const unexpected = [];
  const left = [...cases];
  const quiet = console.error;
  console.error = () => {};
  const one = async () => {
    for (let next = left.pop(); next; next = left.pop()) {
      const { body, description } = next;
      const answer = await worker.call("POST", "/facilitator/verify", { key: tenant.test, body });
      const ours = answer.status === 200 ? verdict(answer.body) : `HTTP ${answer.status}`;
      const theirs = await facilitator
        .verify(structuredClone(body.paymentPayload), structuredClone(body.paymentRequirements))
        .then(verdict, (error) => `throws: ${error.message}`);
      const same = ours === theirs;
      const known = same || differences.find((each) => each.ours.test(ours) && each.theirs.test(theirs) && (!each.when || each.when(body)));
      const name = same ? ours : known ? `meant: ${known.why}` : `${ours} / ${theirs}`;
      seen.set(name, (seen.get(name) ?? 0) + 1);
      if (!known) unexpected.push(`${ours} / ${theirs}: ${description}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  console.error = quiet;
  for (const [name, count] of [...seen].sort((a, b) => b[1] - a[1])) console.log(`${String(count).padStart(6)}  ${name}`);
  const show = unexpected
    .filter((line) => !process.env.SHOW || new RegExp(process.env.SHOW).test(line))
    .slice(0, 40)
    .join("\n");
  assert.equal(unexpected.length, 0, `${unexpected.length} of ${cases.length} differ (seed ${SEED}):\n${show}`);
}

/** Requirements and what was accepted are one object when made, and two from here. */
const apart = (body) => JSON.parse(JSON.stringify(body));

/** The same in version 1. */
function first(body, network) {
  const { accepted, ...payload } = body.paymentPayload;
  const { amount, ...rest } = body.paymentRequirements;
  return {
    x402Version: 1,
    paymentPayload: { x402Version: 1, scheme: accepted?.scheme, network, payload: payload.payload },
    paymentRequirements: { ...rest, maxAmountRequired: amount, network, resource: "https://shop.test/a", description: "" },
  };
}

test("EVM payments are judged as the reference judges them", { timeout: 240_000 }, async () => {
  const random = seeded(SEED);
  const [rich, poor, spent] = [randomAccount(), randomAccount(), randomAccount()];
  await evm.mint(rich.address, 1_000_000_000n);
  await evm.mint(poor.address, 5_000n);
  await evm.mint(spent.address, 1_000_000n);
  const seconds = BigInt(Math.floor(Date.now() / 1000));
  const used = `0x${"ab".repeat(32)}`;
  await evm.payWithAuthorization({ from: spent, to: payTo, amount: 1n, nonce: used });
  const other = randomAccount().address;
  const signed = "paymentPayload.payload";
  const members = ["from", "to", "value", "validAfter", "validBefore", "nonce"].map((name) => `${signed}.authorization.${name}`);
  const changes = [
    () => undefined,
    () => ({ change: { validBefore: seconds + BigInt(random.pick([-100, 0, 3])) } }),
    () => ({ change: { validAfter: seconds + BigInt(random.pick([600, 6_000])) } }),
    () => ({ change: { value: BigInt(random.pick([1, 9_999, 10_001])) } }),
    () => ({ change: { to: other } }),
    () => ({ buyer: poor }),
    () => ({ buyer: spent, change: { nonce: used } }),
    () => ({ chainId: 8453, requirements: { network: "eip155:84532" } }),
    () => ({ token: other, requirements: { asset: CIRCLE } }),
  ];
  const mutate = [
    (body) =>
      changeRequirements(random, body, {
        asset: [other, CIRCLE.toLowerCase()],
        payTo: [other, payTo.toLowerCase()],
        network: ["eip155:8453", "base-sepolia", "eip155:084532"],
        "extra.name": ["USD Coin", "usdc", undefined],
        "extra.version": ["1", undefined],
        extra: [null, {}, undefined],
      }),
    (body) => junk(random, body, [...members, `${signed}.signature`, `${signed}.authorization`, signed]),
    (body) => scratch(random, body, [`${signed}.signature`, ...members], "0123456789abcdefx"),
    (body) => {
      const text = body.paymentPayload?.payload?.signature;
      if (typeof text !== "string") return "left";
      const cut = random.pick([
        text.slice(0, -2),
        `${text}00`,
        text.slice(2),
        text.slice(0, 130),
        `${text.slice(0, -2)}${random.pick(["00", "01", "1d", "1b", "1c"])}`,
        `0x${"00".repeat(65)}`,
      ]);
      put(body, `${signed}.signature`, cut);
      return `signature=${cut.slice(-6)}`;
    },
    (body) => {
      for (const [path, text] of [
        [`${signed}.authorization.from`, rich.address],
        [`${signed}.authorization.to`, payTo],
      ])
        put(body, path, text.toLowerCase());
      return "lower case";
    },
    (body) => {
      Object.assign(body, { more: 1 });
      Object.assign(body.paymentPayload, { more: null, extensions: null });
      return "unknown members";
    },
  ];
  const cases = [];
  for (let at = 0; at < CASES; at++) {
    const wishes = random.below(3) ? undefined : random.pick(changes)();
    let body = apart(await sign({ buyer: rich, to: payTo, token: CIRCLE, chainId: 84532, ...wishes }));
    const description = [
      JSON.stringify(wishes, (_, value) => (typeof value === "bigint" ? String(value) : (value?.address ?? value))) ?? "good",
    ];
    const isFirst = random.below(4) === 0;
    for (let rounds = random.below(3); rounds > 0; rounds--) description.push(random.pick(mutate)(body));
    if (isFirst) body = first(body, "base-sepolia");
    cases.push({ body, description: `${isFirst ? "v1 " : ""}${description.join(", ")}` });
  }
  await compare(cases, EVM_DIFFERENCES);
});

test("Solana payments are judged as the reference judges them", { timeout: 240_000 }, async () => {
  const random = seeded(SEED + 1);
  const [rich, poor] = [await randomSigner(), await randomSigner()];
  await solana.fund(rich.address, 1_000_000_000n, DEVNET_MINT);
  await solana.fund(poor.address, 5_000n, DEVNET_MINT);
  const other = (await randomSigner()).address;
  await solana.fund(other, 0n, DEVNET_MINT);
  const budget = (word, ...bytes) => ({
    programAddress: "ComputeBudget111111111111111111111111111111",
    data: new Uint8Array([word, ...bytes]),
  });
  const lighthouse = (kind) => ({
    programAddress: "L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95",
    accounts: [],
    data: new Uint8Array([kind]),
  });
  const system = { programAddress: "11111111111111111111111111111111", accounts: [], data: new Uint8Array([1]) };
  const layouts = [
    (all) => all.slice(0, 3),
    (all) => all.slice(0, 2),
    (all) => all.slice(1),
    (all) => [all[1], all[0], ...all.slice(2)],
    (all) => [all[0], all[1], all[3], all[2]],
    (all) => [...all, all[3]],
    (all) => [...all, lighthouse(5)],
    (all) => [...all, lighthouse(15)],
    (all) => [all[0], all[1], lighthouse(5), ...all.slice(2)],
    (all) => [...all, ...Array(random.below(6)).fill(all[3])],
    (all) => [...all, system],
    (all) => [all[0], all[1], all[2], system],
    // 400,000 units and one more; 500,000 millionths of a lamport, which for 20,000 units are 10,000 lamports, and one more.
    (all) => [budget(2, 0x80, 0x1a, 0x06, 0x00), ...all.slice(1)],
    (all) => [budget(2, 0x81, 0x1a, 0x06, 0x00), ...all.slice(1)],
    (all) => [all[0], budget(3, 0x20, 0xa1, 0x07, 0, 0, 0, 0, 0), ...all.slice(2)],
    (all) => [all[0], budget(3, 0x21, 0xa1, 0x07, 0, 0, 0, 0, 0), ...all.slice(2)],
    (all) => [budget(2, 0x80, 0x1a, 0x06, 0x00), budget(3, 0x20, 0xa1, 0x07, 0, 0, 0, 0, 0), ...all.slice(2)],
    (all) => [all[0], all[1], { ...all[2], accounts: [all[2].accounts[2], ...all[2].accounts.slice(1)] }, all[3]],
    (all) => [all[0], all[1], { ...all[2], data: new Uint8Array([3, ...all[2].data.slice(1, 9)]) }, all[3]],
    (all) => [all[0], all[1], { ...all[2], data: new Uint8Array([...all[2].data.slice(0, 9), 9]) }, all[3]],
    (all) => [all[0], all[1], { ...all[2], programAddress: "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb" }, all[3]],
  ];
  const changes = [
    () => ({ buyer: poor }),
    () => ({ to: other, claims: seller }),
    () => ({ amount: 9_999n, asks: "10000" }),
    () => ({ memo: "order-1" }),
    () => ({ memo: "order-1", asksMemo: "order-2" }),
    () => ({ version: "legacy" }),
    () => ({ instructions: random.pick(layouts) }),
    () => ({ instructions: random.pick(layouts) }),
    () => ({ instructions: random.pick(layouts), memo: "order-1" }),
    () => ({ feePayer: other }),
  ];
  const transaction = "paymentPayload.payload.transaction";
  const mutate = [
    (body) =>
      changeRequirements(random, body, {
        asset: ["EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"],
        payTo: [other, "nobody"],
        network: ["solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana-devnet"],
        "extra.feePayer": [other, undefined, 7],
        "extra.memo": ["order-9", undefined],
        extra: [null, {}, undefined],
      }),
    (body) => junk(random, body, [transaction, "paymentPayload.payload"]),
    (body) => {
      const text = body.paymentPayload?.payload?.transaction;
      if (typeof text !== "string") return "left";
      const bytes = Buffer.from(text, "base64");
      // Not in our own signature's place, which is overwritten.
      const at = random.pick([0, 65 + random.below(bytes.length - 65)]);
      bytes[at] ^= 1 << random.below(8);
      put(body, transaction, bytes.toString("base64"));
      return `byte ${at}`;
    },
    (body) => {
      const text = body.paymentPayload?.payload?.transaction;
      if (typeof text !== "string") return "left";
      const bytes = Buffer.from(text, "base64");
      put(
        body,
        transaction,
        random.pick([bytes.subarray(0, random.below(bytes.length)), Buffer.concat([bytes, Buffer.from([0])])]).toString("base64"),
      );
      return "another length";
    },
  ];
  const cases = [];
  for (let at = 0; at < CASES; at++) {
    const { claims, asks, asksMemo, ...wishes } = random.below(3) ? random.pick(changes)() : {};
    const body = apart(
      await signSvm({ chain: solana, buyer: rich, to: seller, feePayer: feePayer.address, mint: DEVNET_MINT, network: DEVNET, ...wishes }),
    );
    for (const side of ["paymentRequirements", "paymentPayload.accepted"]) {
      if (claims) put(body, `${side}.payTo`, claims);
      if (asks) put(body, `${side}.amount`, asks);
      if (asksMemo) put(body, `${side}.extra.memo`, asksMemo);
    }
    const description = [wishes.instructions ? `layout ${layouts.indexOf(wishes.instructions)}` : Object.keys(wishes).join() || "good"];
    for (let rounds = random.below(3); rounds > 0; rounds--) description.push(random.pick(mutate)(body));
    cases.push({ body, description: description.join(", ") });
  }
  await compare(cases, SVM_DIFFERENCES);
});
