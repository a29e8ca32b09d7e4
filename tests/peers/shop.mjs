// A stock x402 shop (@x402/express) and a stock buyer (@x402/fetch), with nothing
// of ours in them but a URL and a key.
import express from "express";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { x402Client } from "@x402/core/client";
import { ExactEvmScheme as EvmBuyer } from "@x402/evm/exact/client";
import { ExactEvmScheme as EvmShop } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { paymentMiddleware as honoMiddleware } from "@x402/hono";
import { Hono } from "hono";
import { decodePaymentResponseHeader, wrapFetchWithPayment } from "@x402/fetch";
import { ExactSvmScheme as SvmBuyer } from "@x402/svm/exact/client";
import { ExactSvmScheme as SvmShop } from "@x402/svm/exact/server";

/** A resource server that knows both families. */
function resourceServer({ facilitator, key }) {
  const own = { Authorization: `Bearer ${key}` };
  const client = new HTTPFacilitatorClient({
    url: facilitator,
    createAuthHeaders: async () => ({ verify: own, settle: own, supported: own }),
  });
  return new x402ResourceServer(client).register("eip155:*", new EvmShop()).register("solana:*", new SvmShop());
}

/** Pages of one price. */
const routes = (accepts, pages = ["report"]) =>
  Object.fromEntries(
    pages.map((page) => [`GET /${page}`, { accepts: accepts.map((each) => ({ scheme: "exact", ...each })), description: "A report" }]),
  );

/** The same shop with @x402/hono; answers its `fetch`. */
export function honoShop({ facilitator, key, accepts }) {
  const app = new Hono();
  app.use(honoMiddleware(routes(accepts), resourceServer({ facilitator, key })));
  app.get("/report", (context) => context.json({ report: "sunny" }));
  return (input, init) => app.fetch(new Request(input, init));
}

/** Opens a shop on loopback whose pages cost what one of `accepts` says; answers `{ url, served, close }`, the first page's URL. */
export async function openShop({ facilitator, key, accepts, pages = ["report"] }) {
  const server = resourceServer({ facilitator, key });
  const app = express();
  app.use(paymentMiddleware(routes(accepts, pages), server));
  const shop = { served: 0 };
  app.get(
    pages.map((page) => `/${page}`),
    (_request, response) => {
      shop.served++;
      response.json({ report: "sunny" });
    },
  );
  const listener = await new Promise((resolve) => {
    const listening = app.listen(0, "127.0.0.1", () => resolve(listening));
  });
  shop.url = `http://127.0.0.1:${listener.address().port}/${pages[0]}`;
  shop.close = () => {
    listener.closeAllConnections();
    listener.close();
  };
  return shop;
}

function payingFetch({ evm, svm, rpcUrl, anyAsset = false }, by) {
  const client = new x402Client();
  if (evm) client.register("eip155:*", new EvmBuyer(evm));
  if (svm) client.register("solana:*", new SvmBuyer(svm, { rpcUrl }));
  // Stock buyers pay small amounts in well-known tokens only; a development token is neither.
  if (anyAsset) client.setSpendControls(false);
  return wrapFetchWithPayment(by, client);
}

/** What a stock buyer sends for a page: the header alone, which buys nothing yet. */
export async function paymentHeader(url, wallet) {
  let header;
  const keeping = async (input, init) => {
    const request = new Request(input, init);
    header = request.headers.get("payment-signature");
    return header ? Response.json({}) : fetch(request);
  };
  await payingFetch(wallet, keeping)(url);
  return { "payment-signature": header };
}

/** Buys with whichever account is given, `evm` or `svm`; answers the status, the body and what the shop says of the payment. */
export async function buy(url, wallet, by = fetch) {
  const response = await payingFetch(wallet, by)(url);
  const header = response.headers.get("payment-response");
  return {
    status: response.status,
    body: await response.json().catch(() => undefined),
    payment: header ? decodePaymentResponseHeader(header) : undefined,
  };
}
