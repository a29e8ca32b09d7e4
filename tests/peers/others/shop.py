"""A stock shop of a Python package that can only name a facilitator's URL.

    shop.py fastapi-x402|sanic-x402 '{"facilitator", "payTo"}'   prints the port
"""

import json
import socket
import sys

REPORT = {"report": "sunny"}


def fastapi_shop(wishes, listener):
    import uvicorn
    from fastapi import FastAPI
    from fastapi_x402 import init_x402, pay

    app = FastAPI()
    init_x402(app, pay_to=wishes["payTo"], network="base-sepolia", facilitator_url=wishes["facilitator"], load_dotenv_file=False)

    @pay("$0.01")
    @app.get("/report")
    async def report():
        return REPORT

    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def sanic_shop(wishes, listener):
    from sanic import Sanic
    from sanic.response import json as json_response
    from sanic_x402 import X402, paid

    app = Sanic("Report")
    X402(app, pay_to=wishes["payTo"], facilitator=wishes["facilitator"])

    @app.get("/report")
    @paid("$0.01", description="A report")
    async def report(_request):
        return json_response(REPORT)

    app.run(sock=listener, single_process=True, motd=False, access_log=False)


def main():
    framework, wishes = sys.argv[1], json.loads(sys.argv[2])
    listener = socket.create_server(("127.0.0.1", 0))
    # The line goes to whoever started this program, before the frameworks print theirs.
    print(listener.getsockname()[1], flush=True)
    {"fastapi-x402": fastapi_shop, "sanic-x402": sanic_shop}[framework](wishes, listener)


main()
