"""Runs seahaven's Stripe for the gateway of the tests: requests, the clock, and what happens as time passes.

Every function takes and answers JSON texts, so that nothing of Python is held in JavaScript.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import holes
import passing
from seahaven.http.messages import HttpRequest, HttpResponse
from seahaven.http.runtime import dispatch
from seahaven_stripe_world import world
from seahaven_stripe_world.http_api.handler import handle
from seahaven_stripe_world.resources import events

holes.fill()
# A folder of our own, in Pyodide's memory: the world looks after its default one by calls that Pyodide lacks.
world.work_dir = Path("/instances")
world.work_dir.mkdir()
_instance = None


def start(text):
    """Makes a blank account in test mode; `dunning` is the account's policy of retries."""
    global _instance
    options = json.loads(text)
    if _instance is not None:
        _instance.destroy()
    _instance = world.instance(
        seed=options["seed"], now=_instant(options["now"]), clock_mode="fixed", startup={"livemode": False}
    )
    _within(lambda ctx: ctx.state["account"].update(dunning=options["dunning"]))


def _instant(ms):
    return datetime.fromtimestamp(ms / 1000, UTC)


def set_clock(ms):
    """The world's clocks only go by themselves; the gateway's goes as a test says."""
    start = _instant(ms)
    _instance.clock._start = start.replace(microsecond=start.microsecond // 1000 * 1000)


def request(text):
    """One request of the API: `{method, path, query, key, body}`."""
    asked = json.loads(text)
    headers = [("authorization", "Bearer sk_test_gateway"), ("content-type", "application/x-www-form-urlencoded")]
    if asked.get("key"):
        headers.append(("idempotency-key", asked["key"]))
    answer = dispatch(
        _instance,
        handle,
        HttpRequest(asked["method"], asked["path"], asked.get("query", ""), tuple(headers), asked.get("body", "").encode()),
    )
    if answer.status == 500:
        raise RuntimeError(f"{asked['method']} {asked['path']}: {answer.body_bytes.decode()}")
    return json.dumps({"status": answer.status, "headers": dict(answer.headers), "body": json.loads(answer.body_bytes)})


def _within(act):
    """Runs `act` in a transaction of the instance; what it raises goes on to JavaScript."""
    kept = []

    def handler(ctx, _request):
        kept.append(act(ctx))
        return HttpResponse.json({})

    answer = dispatch(_instance, handler, HttpRequest("POST", "/", "", (), b""))
    if answer.status != 200:
        raise RuntimeError(answer.body_bytes.decode())
    return kept[0]


def emit(text):
    """Adds an event of an object that the gateway itself keeps."""
    event = json.loads(text)
    return _within(lambda ctx: events.emit_event(ctx, type=event["type"], obj=event["object"], previous=event.get("previous")))


def events_after(seq):
    """The events after one, as the API shows them: `[{seq, event}]`."""

    def read(ctx):
        rows = ctx.db.rows("SELECT * FROM events WHERE x_seq > ? ORDER BY x_seq", seq)
        return [{"seq": row["x_seq"], "event": events.serialize(ctx, row)} for row in rows]

    return json.dumps(_within(read))


def due():
    """When the next thing happens by itself, in milliseconds; none is -1."""
    moments = _within(passing.pending)
    return moments[0][0] if moments else -1


def step():
    """Has the first thing happen that is due; the clock must stand at it."""
    _within(lambda ctx: passing.perform(ctx, passing.pending(ctx)[0]))


def behave(text):
    """Has charges of a card that is attached decline, need the customer, or succeed: `{card, tags}`."""
    asked = json.loads(text)
    _within(lambda ctx: ctx.db.execute("UPDATE payment_methods SET x_behavior = ? WHERE id = ?", asked["tags"], asked["card"]))


def hook(text):
    """What the world has no route for: `{name, …}`, of `holes.HOOKS`."""
    asked = json.loads(text)
    return json.dumps(_within(lambda ctx: holes.HOOKS[asked.pop("name")](ctx, **asked)))
