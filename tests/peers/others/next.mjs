// Shops of Next.js middleware, called as Next calls it, without Next's own server.
import { registerHooks } from "node:module";

// Next's bundler finds `next/server` without its ending, node does not.
registerHooks({ resolve: (name, context, next) => next(name === "next/server" ? "next/server.js" : name, context) });
const { NextRequest } = await import("next/server.js");
const { HTTPFacilitatorClient } = await import("@x402/core/server");
const { ExactEvmScheme } = await import("@x402/evm/exact/server");
const { paymentProxy, x402ResourceServer } = await import("@x402/next");
const { paymentMiddleware } = await import("x402-next");

const REPORT = { report: "sunny" };

/** What Next does with a middleware: its answer, or the page with the headers that it adds. */
function behind(middleware) {
  return async (input, init) => {
    const request = new Request(input, init);
    const answer = await middleware(new NextRequest(request.url, request));
    if (answer.headers.get("x-middleware-next") !== "1") return answer;
    return Response.json(REPORT, { headers: answer.headers });
  };
}

/** Version 1's x402-next; answers a `fetch`. */
export function nextShopV1({ facilitator, key, payTo }) {
  const own = { Authorization: `Bearer ${key}` };
  const createAuthHeaders = async () => ({ verify: own, settle: own, supported: own });
  return behind(
    paymentMiddleware(payTo, { "/report": { price: "$0.01", network: "base-sepolia" } }, { url: facilitator, createAuthHeaders }),
  );
}

/** @x402/next; answers a `fetch`. */
export function nextShop({ facilitator, payTo }) {
  const server = new x402ResourceServer(new HTTPFacilitatorClient({ url: facilitator })).register("eip155:*", new ExactEvmScheme());
  const route = { accepts: [{ scheme: "exact", network: "eip155:84532", payTo, price: "$0.01" }], description: "A report" };
  return behind(paymentProxy({ "/report": route }, server));
}
