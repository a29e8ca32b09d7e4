// A stock shop (x402-express) and a stock buyer (x402-fetch) of the protocol's version 1.
import express from "express";
import { paymentMiddleware } from "x402-express";
import { createSigner, decodeXPaymentResponse, wrapFetchWithPayment } from "x402-fetch";

/** Opens a shop on loopback, all pages at one price; answers `{ url, close }`, the first page's URL. */
export async function openShop({ facilitator, key, network, payTo, pages = ["report"] }) {
  const own = { Authorization: `Bearer ${key}` };
  const createAuthHeaders = async () => ({ verify: own, settle: own, supported: own });
  const app = express();
  const routes = Object.fromEntries(pages.map((page) => [`GET /${page}`, { price: "$0.01", network }]));
  app.use(paymentMiddleware(payTo, routes, { url: facilitator, createAuthHeaders }));
  app.get(
    pages.map((page) => `/${page}`),
    (_request, response) => response.json({ report: "sunny" }),
  );
  const listener = await new Promise((resolve) => {
    const listening = app.listen(0, "127.0.0.1", () => resolve(listening));
  });
  const close = () => {
    listener.closeAllConnections();
    listener.close();
  };
  return { url: `http://127.0.0.1:${listener.address().port}/${pages[0]}`, close };
}

async function payingFetch({ network, key, rpcUrl }, by) {
  const config = rpcUrl ? { svmConfig: { rpcUrl } } : undefined;
  return wrapFetchWithPayment(by, await createSigner(network, key), undefined, undefined, config);
}

/** What a stock buyer sends for a page: the header alone, which buys nothing yet. */
export async function paymentHeader(url, wallet) {
  let header;
  const keeping = async (input, init) => {
    const request = new Request(input, init);
    header = request.headers.get("x-payment");
    return header ? Response.json({}) : fetch(request);
  };
  await (await payingFetch(wallet, keeping))(url);
  return { "x-payment": header };
}

/** Buys with a private key, at a shop that `by` reaches; answers the status, the body and what the shop says of the payment. */
export async function buy(url, wallet, by = fetch) {
  const response = await (await payingFetch(wallet, by))(url);
  const header = response.headers.get("x-payment-response");
  return {
    status: response.status,
    body: await response.json().catch(() => undefined),
    payment: header ? decodeXPaymentResponse(header) : undefined,
  };
}
