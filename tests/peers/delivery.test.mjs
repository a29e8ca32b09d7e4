// One payment, one page: stock shops of both versions, both languages and both
// families, and one that settles before it serves, sell the very same header
// over and over, at once and in sequence, on two routes of equal price.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { randomAccount } from "../../scripts/lib/evm.mjs";
import { DEVNET_MINT, randomSigner } from "../../scripts/lib/solana.mjs";
import { python } from "../../scripts/lib/tools.mjs";
import { sent } from "../workerd/settling.mjs";
import { startWire } from "../workerd/wire.mjs";
import { until } from "../workerd/worker.mjs";
import { BASE_SEPOLIA, DEVNET, openMarket, openPythonShop } from "./market.mjs";
import { openShop, paymentHeader } from "./shop.mjs";
import { openShop as openFirst, paymentHeader as firstHeader } from "./v1/shop.mjs";

const PAGES = ["report", "forecast"];
const PRICE = 10_000n;
const stops = [];
let evm, solana, payTo, seller, wire, close;

const onEvm = {
  count: () => sent(evm),
  pool: () => sent(evm, "pending"),
  earned: () => evm.balance(payTo),
  hold: () => evm.rpc("evm_setAutomine", [false]),
  release: async () => {
    await evm.rpc("evm_setAutomine", [true]);
    await evm.rpc("evm_mine");
  },
};
const onSolana = {
  count: async () => new Set(solana.sends).size,
  pool: async () => new Set(solana.sends).size,
  earned: () => solana.balance(seller, DEVNET_MINT),
  hold: () => solana.answer("local_drop", [1_000_000]),
  release: () => solana.answer("local_drop", [0]),
};

/** Each shop: where it sells, what chain it is paid on, and what its stock buyer sends. */
const shops = {};
async function evmHeader(url) {
  const evmBuyer = randomAccount();
  await evm.mint(evmBuyer.address, 1_000_000n);
  return paymentHeader(url, { evm: evmBuyer });
}

before(async () => {
  const interpreter = await python("peers", join(import.meta.dirname, "requirements.txt"));
  const market = await openMarket({ limits: { per_minute: 100_000, per_hour: 100_000 } });
  ({ evm, solana, payTo, seller, close } = market);
  wire = await startWire(market.worker.url);
  const key = market.tenant.test;
  const facilitator = `${wire.url}/facilitator`;
  const price = { network: BASE_SEPOLIA, payTo, price: "$0.01" };
  const opened = async (shop) => {
    stops.push(() => shop.close());
    return shop.url;
  };
  const second = (accepts) => openShop({ facilitator, key, pages: PAGES, accepts: [accepts] }).then(opened);
  shops["@x402/express"] = { chain: onEvm, url: await second(price), header: evmHeader };
  shops["@x402/express, settled before it serves"] = {
    chain: onEvm,
    url: await second({ ...price, extra: { paymentFlow: "upfront" } }),
    header: evmHeader,
  };
  shops["@x402/express on Solana"] = {
    chain: onSolana,
    url: await second({ network: DEVNET, payTo: seller, price: "$0.01" }),
    header: async (url) => {
      const svm = await randomSigner();
      await solana.fund(svm.address, 1_000_000n, DEVNET_MINT);
      return paymentHeader(url, { svm, rpcUrl: solana.url });
    },
  };
  shops["x402-express 1"] = {
    chain: onEvm,
    url: await openFirst({ facilitator, key, network: "base-sepolia", payTo, pages: PAGES }).then(opened),
    header: async (url) => {
      const secret = generatePrivateKey();
      await evm.mint(privateKeyToAccount(secret).address, 1_000_000n);
      return firstHeader(url, { network: "base-sepolia", key: secret });
    },
  };
  const fastApi = openPythonShop(interpreter, "fastapi", { facilitator, key, pages: PAGES, accepts: [price] });
  shops.FastAPI = { chain: onEvm, url: await fastApi.then(opened), header: evmHeader };
});
after(async () => {
  for (const stop of stops) stop();
  wire?.stop();
  await close?.();
});

/** Asks for a page with a header; whether it was served. A page is served whole or not at all. */
async function ask(url, headers) {
  const response = await fetch(url, { headers });
  const body = await response.json().catch(() => undefined);
  const isServed = response.status === 200;
  assert.equal(body?.report === "sunny", isServed, `${response.status} ${JSON.stringify(body)}`);
  return isServed;
}

const page = (url, at) => new URL(`/${PAGES[at % PAGES.length]}`, url).href;
const served = (answers) => answers.filter(Boolean).length;

async function inSequence(url, headers, times) {
  const answers = [];
  for (let at = 0; at < times; at++) answers.push(await ask(page(url, at), headers));
  return served(answers);
}

/** What a stretch of selling brought: transactions and money. */
async function brought(chain, act) {
  const [count, earned] = [await chain.count(), await chain.earned()];
  const pages = await act();
  return { pages, transactions: (await chain.count()) - count, earned: (await chain.earned()) - earned };
}
const ONE = { pages: 1, transactions: 1, earned: PRICE };
const NAMES = ["@x402/express", "@x402/express, settled before it serves", "@x402/express on Solana", "x402-express 1", "FastAPI"];

for (const name of NAMES) {
  for (const times of [6, 50]) {
    test(`${name}: the same header ${times} times at once, and six times more, buys one page`, async () => {
      const { chain, url, header } = shops[name];
      const headers = await header(url);
      const sold = await brought(chain, async () => {
        const answers = await Promise.all(Array.from({ length: times }, (_, at) => ask(page(url, at), headers)));
        return served(answers) + (await inSequence(url, headers, 6));
      });
      assert.deepEqual(sold, ONE);
    });
  }

  test(`${name}: the same header in sequence buys one page`, async () => {
    const { chain, url, header } = shops[name];
    const headers = await header(url);
    assert.deepEqual(await brought(chain, () => inSequence(url, headers, 6)), ONE);
  });

  test(`${name}: an answer that is lost is healed by the buyer's resend, once`, async () => {
    const { chain, url, header } = shops[name];
    const headers = await header(url);
    const sold = await brought(chain, async () => {
      const before = await chain.pool();
      await chain.hold();
      const asking = ask(url, headers).catch(() => false);
      await until(async () => (await chain.pool()) > before, "the transaction");
      wire.cut();
      const first = await asking;
      await chain.release();
      // The buyer knows only that no page came, and sends the same again until one does.
      let resent = false;
      await until(async () => (resent = await ask(url, headers)), "the page", 25_000);
      return served([first, resent]) + (await inSequence(url, headers, 6));
    });
    assert.deepEqual(sold, ONE);
  });
}

test("a payment for one route is not sold again on the other when its first answer was lost", async () => {
  const { chain, url, header } = shops["@x402/express"];
  const headers = await header(url);
  const sold = await brought(chain, async () => {
    const before = await chain.pool();
    await chain.hold();
    const asking = ask(page(url, 0), headers).catch(() => false);
    await until(async () => (await chain.pool()) > before, "the transaction");
    wire.cut();
    const first = await asking;
    await chain.release();
    const answers = [];
    await until(
      async () => {
        answers.push(...(await Promise.all(PAGES.flatMap((_, at) => [ask(page(url, at), headers), ask(page(url, at), headers)]))));
        return served(answers);
      },
      "the page",
      25_000,
    );
    return served([first, ...answers]) + (await inSequence(url, headers, 6));
  });
  assert.deepEqual(sold, ONE);
});

test("four pages, four signatures, one identifier: every page that is served is paid", async () => {
  for (const atOnce of [true, false]) {
    const { chain, url } = shops["@x402/express"];
    const buyer = randomAccount();
    await evm.mint(buyer.address, 1_000_000n);
    const id = `order_${crypto.randomUUID()}`;
    const named = async () => {
      const made = await paymentHeader(url, { evm: buyer });
      const payload = JSON.parse(Buffer.from(made["payment-signature"], "base64").toString());
      payload.extensions = { ...payload.extensions, "payment-identifier": { info: { required: false, id } } };
      return { "payment-signature": Buffer.from(JSON.stringify(payload)).toString("base64") };
    };
    const four = [await named(), await named(), await named(), await named()];
    // As in the other tests, the buyer knows only that no page came, and sends the same again until one does.
    const sold = await brought(chain, async () => {
      const answers = [];
      const inTurn = async () => {
        for (const headers of four) answers.push(await ask(url, headers));
      };
      const once = async () => {
        if (atOnce) answers.push(...(await Promise.all(four.map((headers) => ask(url, headers)))));
        else await inTurn();
        return served(answers);
      };
      await until(once, "the page", 25_000);
      await inTurn();
      return served(answers);
    });
    assert.deepEqual(sold, ONE, atOnce ? "at once" : "in sequence");
  }
});
