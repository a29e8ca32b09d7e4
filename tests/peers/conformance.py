"""The safety checks of PyPI's x402-conformance (F1 to F14, S5), driven against a running facilitator.

    conformance.py '{"url", "fixture"}'   prints the results as JSON

The package's payments are stand-ins, such as {"tx": "tx-1", "memo": "m-1", "amount": 10000}; what listens at `url` makes
real ones of them, sends those to the facilitator, and moves the chain (conformance.test.mjs).
"""

import json
import sys
import urllib.error
import urllib.request

from x402conf.harness import check_safety
from x402conf.mock import Chain, vectors


def ask(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=90) as response:
        return json.loads(response.read())


class RealChain(Chain):
    def __init__(self, url):
        super().__init__()
        self.url = url

    def set(self, tx, status):
        super().set(tx, status)
        ask(f"{self.url}/set", {"tx": tx, "status": status})


class Facilitator:
    def __init__(self, url):
        self.url, self.chain = url, RealChain(url)

    def _ask(self, verb, payment, requirements):
        status = self.chain.status(payment) if payment.get("tx") else None
        return ask(f"{self.url}/{verb}", {"payment": payment, "requirements": requirements, "status": status})

    def verify(self, payment, requirements):
        return self._ask("verify", payment, requirements)

    def settle(self, payment, requirements):
        return self._ask("settle", payment, requirements)

    def supported(self):
        return ask(f"{self.url}/supported", {})


if __name__ == "__main__":
    wishes = json.loads(sys.argv[1])
    print(json.dumps(check_safety(Facilitator(wishes["url"]), vectors(wishes["fixture"]))))
