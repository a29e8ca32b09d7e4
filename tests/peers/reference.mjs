// The reference TypeScript facilitator behind express, for comparison:
// node tests/peers/reference.mjs <port> <rpc url> <chain id> <private key>
import express from "express";
import { reference, withEvm } from "./reference-facilitator.mjs";

const [port, url, chainId, key] = process.argv.slice(2);
const facilitator = withEvm(reference(), { url, chainId, key: /** @type {`0x${string}`} */ (key) });
const app = express();
app.use(express.json());
for (const verb of ["verify", "settle"]) {
  app.post(`/${verb}`, async (request, response) => {
    const { paymentPayload, paymentRequirements } = request.body;
    try {
      response.json(await facilitator[verb](paymentPayload, paymentRequirements));
    } catch (error) {
      response.status(500).json({ error: String(error) });
    }
  });
}
app.listen(Number(port), "127.0.0.1", () => console.log("ready"));
