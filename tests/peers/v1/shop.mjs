// A stock shop (x402-express) and a stock buyer (x402-fetch) of the protocol's version 1.
import express from "express";
import { paymentMiddleware } from "x402-express";
import { createSigner, decodeXPaymentResponse, wrapFetchWithPayment } from "x402-fetch";

/** Opens a shop on loopback; answers `{ url, close }`. */
export async function openShop({ facilitator, key, network, payTo }) {
  const own = { Authorization: `Bearer ${key}` };
  const createAuthHeaders = async () => ({ verify: own, settle: own, supported: own });
  const app = express();
  app.use(paymentMiddleware(payTo, { "GET /report": { price: "$0.01", network } }, { url: facilitator, createAuthHeaders }));
  app.get("/report", (_request, response) => response.json({ report: "sunny" }));
  const listener = await new Promise((resolve) => {
    const listening = app.listen(0, "127.0.0.1", () => resolve(listening));
  });
  const close = () => {
    listener.closeAllConnections();
    listener.close();
  };
  return { url: `http://127.0.0.1:${listener.address().port}/report`, close };
}

/** Buys with a private key; answers the status, the body and what the shop says of the payment. */
export async function buy(url, { network, key, rpcUrl }) {
  const signer = await createSigner(network, key);
  const config = rpcUrl ? { svmConfig: { rpcUrl } } : undefined;
  const response = await wrapFetchWithPayment(fetch, signer, undefined, undefined, config)(url);
  const told = response.headers.get("x-payment-response");
  return { status: response.status, body: await response.json().catch(() => undefined), payment: told ? decodeXPaymentResponse(told) : undefined };
}
