"""A stock shop (FastAPI, Flask) and a stock buyer (httpx, requests) of the Python
package x402, with nothing of ours in them but a URL and a key.

    peer.py shop fastapi|flask '{"facilitator", "key", "accepts", "pages"?}'   prints the port
    peer.py buy httpx|requests '{"url", "evm"?, "svm"?, "rpc"?}'     prints what came
"""

import asyncio
import json
import socket
import sys


def accepts(options):
    from x402.http.types import PaymentOption

    return [PaymentOption(scheme="exact", network=each["network"], pay_to=each["payTo"], price=each["price"]) for each in options]


def shop(framework, wishes):
    from x402.http import FacilitatorConfig, HTTPFacilitatorClient, HTTPFacilitatorClientSync
    from x402.http.facilitator_client_base import CreateHeadersAuthProvider
    from x402.http.types import RouteConfig
    from x402.mechanisms.evm.exact import ExactEvmServerScheme
    from x402.mechanisms.svm.exact import ExactSvmServerScheme
    from x402.server import x402ResourceServer, x402ResourceServerSync

    own = {"Authorization": f"Bearer {wishes['key']}"}
    headers = CreateHeadersAuthProvider(lambda: {"verify": own, "settle": own, "supported": own})
    config = FacilitatorConfig(url=wishes["facilitator"], auth_provider=headers)
    pages = wishes.get("pages", ["report"])
    routes = {f"GET /{page}": RouteConfig(accepts=accepts(wishes["accepts"]), description="A report") for page in pages}
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    if framework == "fastapi":
        import uvicorn
        from fastapi import FastAPI
        from x402.http.middleware.fastapi import payment_middleware

        server = x402ResourceServer(HTTPFacilitatorClient(config))
        server.register("eip155:*", ExactEvmServerScheme()).register("solana:*", ExactSvmServerScheme())
        app = FastAPI()
        app.middleware("http")(payment_middleware(routes, server))

        async def report():
            return {"report": "sunny"}

        for page in pages:
            app.get(f"/{page}")(report)

        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
    else:
        from flask import Flask
        from werkzeug.serving import make_server
        from x402.http.middleware.flask import payment_middleware

        server = x402ResourceServerSync(HTTPFacilitatorClientSync(config))
        server.register("eip155:*", ExactEvmServerScheme()).register("solana:*", ExactSvmServerScheme())
        app = Flask(__name__)
        payment_middleware(app, routes, server)

        for page in pages:
            app.get(f"/{page}", endpoint=page)(lambda: {"report": "sunny"})

        make_server("127.0.0.1", 0, app, threaded=True, fd=listener.fileno()).serve_forever()


def told(response, body):
    header = response.headers.get("payment-response")
    import base64

    payment = json.loads(base64.b64decode(header)) if header else None
    print(json.dumps({"status": response.status_code, "body": body, "payment": payment}), flush=True)


def register(client, wishes):
    if "evm" in wishes:
        from eth_account import Account
        from x402.mechanisms.evm import EthAccountSigner
        from x402.mechanisms.evm.exact.register import register_exact_evm_client

        register_exact_evm_client(client, EthAccountSigner(Account.from_key(wishes["evm"])))
    if "svm" in wishes:
        from x402.mechanisms.svm import KeypairSigner
        from x402.mechanisms.svm.exact.register import register_exact_svm_client

        register_exact_svm_client(client, KeypairSigner.from_base58(wishes["svm"]), rpc_url=wishes["rpc"])
    return client


def buy(library, wishes):
    if library == "httpx":
        from x402.client import x402Client
        from x402.http.clients import x402HttpxClient

        async def run():
            async with x402HttpxClient(register(x402Client(), wishes), timeout=60) as http:
                response = await http.get(wishes["url"])
                told(response, json.loads((await response.aread()) or "null"))

        asyncio.run(run())
    else:
        from x402.client import x402ClientSync
        from x402.http.clients import x402_requests

        response = x402_requests(register(x402ClientSync(), wishes)).get(wishes["url"], timeout=60)
        told(response, response.json())


if __name__ == "__main__":
    _, what, which, wishes = sys.argv
    {"shop": shop, "buy": buy}[what](which, json.loads(wishes))
