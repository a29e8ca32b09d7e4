// What packages that can name a facilitator ask of it beside verify and settle: requirements filled in, the
// asset's data among the kinds, health and version, bases that end in a slash.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { KEYS, TOKEN, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { MINT, keyPairText, signer, startSolana } from "../../scripts/lib/solana.mjs";
import { sign } from "./payment.mjs";
import { startWorker } from "./worker.mjs";

let evm, chain, worker, seller, tenant;
before(async () => {
  [evm, chain] = await Promise.all([startEvm(), startSolana()]);
  chain.airdrop((await signer(0x24)).address, 1_000_000_000n);
  const pair = await keyPairText(new Uint8Array(32).fill(0x24));
  const vars = { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1), RPC_LOCAL_SOLANA: chain.url, SOLANA_SIGNERS_TEST: pair };
  worker = await startWorker({ vars });
  seller = { evm: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C", svm: "3Nx1cFvHcFJ9uQ8rWNiKbZ5fNdUBKCNMNxwQTgLLFS7v" };
  tenant = await worker.tenant({ recipients: { "local-evm": seller.evm, "local-solana": seller.svm } });
});
after(async () => {
  await worker?.stop();
  evm?.stop();
  chain?.stop();
});

/** @type {(body: any, headers?: Record<string, string>, path?: string) => ReturnType<typeof worker.call>} */
const accepts = (body, headers = { authorization: `Bearer ${tenant.test}` }, path = "/facilitator/accepts") =>
  worker.call("POST", path, { body, headers });

test("partial requirements are filled in, on both families, in version 2", async () => {
  const resource = { url: "https://shop.test/a", description: "a page" };
  const { status, body } = await accepts({
    x402Version: 2,
    resource,
    accepts: [
      { scheme: "exact", network: "eip155:31337", amount: "10000", payTo: seller.evm.toLowerCase(), maxTimeoutSeconds: 0 },
      { scheme: "exact", network: "solana:local", amount: "10000", payTo: seller.svm, maxTimeoutSeconds: 60, extra: { memo: "order-7" } },
    ],
  });
  const { kinds } = (await worker.call("GET", "/facilitator/supported", { key: tenant.test })).body;
  const { feePayer } = kinds.find(({ network }) => network === "solana:local").extra;
  assert.equal(status, 200);
  assert.deepEqual(body, {
    x402Version: 2,
    resource,
    accepts: [
      {
        scheme: "exact",
        network: "eip155:31337",
        amount: "10000",
        asset: TOKEN,
        payTo: seller.evm,
        maxTimeoutSeconds: 300,
        extra: { name: "USDC", version: "2" },
      },
      {
        scheme: "exact",
        network: "solana:local",
        amount: "10000",
        asset: MINT,
        payTo: seller.svm,
        maxTimeoutSeconds: 60,
        extra: { memo: "order-7", feePayer, decimals: 6 },
      },
    ],
  });
});

test("what was filled in is what verify takes", async () => {
  const buyer = randomAccount();
  await evm.mint(buyer.address, 10_000n);
  const { body } = await accepts({ accepts: [{ network: "eip155:31337", amount: "10000" }] });
  const [requirements] = body.accepts;
  const payment = await sign({ buyer, to: requirements.payTo, token: requirements.asset, requirements });
  const { body: verified } = await worker.call("POST", "/facilitator/verify", { key: tenant.test, body: payment });
  assert.equal(verified.isValid, true, JSON.stringify(verified));
});

test("version 1 keeps its names, and thirdweb's price is answered 402", async () => {
  const old = await accepts({
    x402Version: 1,
    accepts: [{ network: "local-evm", maxAmountRequired: "10000", resource: "https://shop.test/a", description: "a" }],
  });
  assert.deepEqual([old.status, old.body.x402Version, old.body.error], [200, 1, ""]);
  assert.deepEqual(old.body.accepts, [
    {
      scheme: "exact",
      network: "local-evm",
      maxAmountRequired: "10000",
      resource: "https://shop.test/a",
      description: "a",
      mimeType: "",
      asset: TOKEN,
      payTo: seller.evm,
      maxTimeoutSeconds: 300,
      extra: { name: "USDC", version: "2" },
    },
  ]);
  // As thirdweb's facilitator sends it, with its key in its own header.
  const asked = {
    resourceUrl: "https://shop.test/a",
    method: "GET",
    network: "eip155:31337",
    price: "$0.01",
    serverWalletAddress: seller.evm,
  };
  const priced = await accepts(asked, { "x-secret-key": tenant.test });
  assert.deepEqual([priced.status, priced.body.x402Version], [402, 1], priced.text);
  const [{ maxAmountRequired, payTo, network, extra }] = priced.body.accepts;
  assert.deepEqual(
    [maxAmountRequired, payTo, network, extra],
    ["10000", seller.evm, "eip155:31337", { name: "USDC", version: "2", primaryType: "TransferWithAuthorization" }],
  );
});

test("only the seller's own recipients are filled in, and nothing is registered by it", async () => {
  const stranger = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
  const { status, body } = await accepts({
    accepts: [
      { network: "eip155:31337", amount: "1", payTo: stranger },
      { network: "eip155:31337", amount: "1" },
      { network: "eip155:8453", amount: "1" },
    ],
  });
  assert.deepEqual([status, body.accepts.map(({ payTo }) => payTo)], [200, [seller.evm]]);
  assert.match(body.error, /accepts\[0\]: pay_to_not_allowed: .*accepts\[2\]: network_not_enabled: /);
  const { body: recipients } = await worker.call("GET", `/v1/admin/tenants/${tenant.id}/recipients`, { admin: true });
  assert.ok(!JSON.stringify(recipients).includes(stranger));
  const bare = await worker.tenant();
  const nobody = await accepts({ accepts: [{ network: "eip155:31337", amount: "1" }] }, { authorization: `Bearer ${bare.test}` });
  assert.deepEqual(
    [nobody.body.accepts, nobody.body.error],
    [[], "accepts[0]: pay_to_not_allowed: the seller has no recipient on 'local-evm'"],
  );
});

test("accepts wants a key, and a body of one of its forms", async () => {
  assert.equal((await accepts({ accepts: [] }, {})).status, 401);
  const wrong = await accepts({});
  assert.deepEqual([wrong.status, wrong.body.error_code, wrong.body.param, wrong.body.accepts], [422, "INVALID_REQUEST", "accepts", []]);
});

test("EVM kinds carry the asset's name, version and decimals", async () => {
  const { body } = await worker.call("GET", "/facilitator/supported");
  const of = (network) => body.kinds.filter((kind) => kind.network === network);
  assert.equal(of("eip155:31337").length, 1);
  for (const kind of [...of("eip155:31337"), ...of("local-evm")]) {
    assert.deepEqual(kind.extra, { name: "USDC", version: "2", decimals: 6 }, JSON.stringify(kind));
  }
  assert.deepEqual(Object.keys(of("solana:local")[0].extra), ["feePayer"]);
});

test("health and version answer anybody", async () => {
  const { body: health } = await worker.call("GET", "/v1/health");
  const own = await worker.call("GET", "/facilitator/health");
  assert.deepEqual([own.status, own.body.status, own.body.version], [200, health.status, health.version]);
  const version = await worker.call("GET", "/v1/facilitator/version");
  assert.deepEqual([version.status, version.body], [200, { name: "x402-edge", version: health.version, x402Versions: [1, 2] }]);
});

test("doubled slashes find their route", async () => {
  for (const path of ["//facilitator//supported", "/facilitator//supported/", "//v1///facilitator//supported"]) {
    assert.ok((await worker.call("GET", path)).body.kinds, path);
  }
  const verified = await worker.call("POST", "//facilitator//verify", { key: tenant.test, body: {} });
  assert.deepEqual([verified.status, verified.body.invalidReason], [200, "invalid_x402_version"]);
  const wrong = await worker.call("POST", "//v1//verify", { key: tenant.test, body: {} });
  assert.equal(wrong.body.instance, "/v1/verify");
});
