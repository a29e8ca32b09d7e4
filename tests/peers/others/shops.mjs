// Stock shops of other packages. Each gets the facilitator's URL and nothing else
// of ours; a package that can only name a URL gets one that holds the key.
import { x402Exact as evmRequirements } from "@faremeter/info/evm";
import { x402Exact as svmRequirements } from "@faremeter/info/solana";
import { createMiddleware } from "@faremeter/middleware/express";
import { OpenFacilitator } from "@openfacilitator/sdk";
import express from "express";
import { Hono } from "hono";
import { paymentMiddleware as honoMiddleware } from "x402-hono";
import { X402PaymentHandler } from "x402-solana/server";

const REPORT = { report: "sunny" };

/** Opens an express shop on loopback; `gate` is its payment middleware. Answers `{ url, served, close }`. */
async function listen(gate) {
  const app = express();
  const shop = { served: 0 };
  if (gate) app.use(gate);
  app.get("/report", (_request, response) => {
    shop.served++;
    response.json(REPORT);
  });
  const listener = await new Promise((resolve) => {
    const listening = app.listen(0, "127.0.0.1", () => resolve(listening));
  });
  shop.url = `http://127.0.0.1:${listener.address().port}/report`;
  shop.close = () => {
    listener.closeAllConnections();
    listener.close();
  };
  return shop;
}

/** Faremeter's documented way: a URL and incomplete requirements, which the facilitator completes (`/accepts`). */
export async function faremeterShop({ facilitator, evm, svm, versions }) {
  const accepts = [
    evmRequirements({ network: "eip155:84532", asset: "USDC", amount: 10_000n, payTo: evm }),
    svmRequirements({ network: "devnet", asset: "USDC", amount: 10_000n, payTo: svm }),
  ];
  return listen(await createMiddleware({ facilitatorURL: facilitator, accepts, supportedVersions: versions }));
}

/** A shop as x402-solana's README builds it, with the header that its client looks for: verify, settle, then serve. */
export async function x402SolanaShop({ facilitator, payTo, mint, rpcUrl }) {
  const handler = new X402PaymentHandler({ network: "solana-devnet", treasuryAddress: payTo, facilitatorUrl: facilitator, rpcUrl });
  return listen(async (request, response, next) => {
    const url = `http://${request.headers.host}${request.path}`;
    const asset = { address: mint, decimals: 6 };
    const requirements = await handler.createPaymentRequirements({ amount: "10000", asset, description: "A report" }, url);
    const header = handler.extractPayment(request.headers);
    if (!header) {
      const { status, body } = handler.create402Response(requirements, url);
      return response
        .status(status)
        .set("PAYMENT-REQUIRED", btoa(JSON.stringify(body)))
        .json(body);
    }
    const verified = await handler.verifyPayment(header, requirements);
    if (!verified.isValid) return response.status(402).json({ error: verified.invalidReason });
    const settled = await handler.settlePayment(header, requirements);
    if (!settled.success) return response.status(402).json({ error: settled.errorReason });
    next();
  });
}

/** The facilitator client of @openfacilitator/sdk. */
export const openFacilitator = (url) => new OpenFacilitator({ url });

/** Version 1's x402-hono; answers its `fetch`. */
export function honoShop({ facilitator, key, payTo }) {
  const app = new Hono();
  const own = { Authorization: `Bearer ${key}` };
  const createAuthHeaders = async () => ({ verify: own, settle: own, supported: own });
  app.use(honoMiddleware(payTo, { "/report": { price: "$0.01", network: "base-sepolia" } }, { url: facilitator, createAuthHeaders }));
  app.get("/report", (context) => context.json(REPORT));
  return (input, init) => app.fetch(new Request(input, init));
}
