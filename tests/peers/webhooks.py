"""Verifies a message by the public package: its secret, headers and body come as JSON on standard input."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

given = json.load(sys.stdin)
webhook = Webhook(given["secret"])
data = webhook.verify(given["text"], given["headers"])
try:
    webhook.verify(given["text"] + " ", given["headers"])
except WebhookVerificationError:
    print(json.dumps(data))
