"""Fills what seahaven's Stripe leaves out or does otherwise than Stripe: payments that must not stay incomplete,
schedules of a subscription, previews, the payments of invoices, the subscriptions of a customer who is deleted."""

import re

import passing
from seahaven_stripe_world import _ids, _json, _seq, _time
from seahaven_stripe_world.billing import invoicing
from seahaven_stripe_world.billing import subscription_lifecycle as life
from seahaven_stripe_world.dispatch.response import ApiResponse
from seahaven_stripe_world.http_api import handler
from seahaven_stripe_world.resources import _lookup, charges, events, invoices, payment_intents, subscription_schedules
from seahaven_stripe_world.stripe_errors import StripeApiError, invalid_request, resource_missing

#: As Stripe answers a payment that needs the customer (recorded by the world for the creation of a subscription).
NEEDS_ACTION = (
    "Payment for this subscription requires additional user action, but the requested payment behavior doesn't save the "
    "invoice or PaymentIntent. Retry the request with `payment_behavior=allow_incomplete` or "
    "`payment_behavior=default_incomplete`, then complete the PaymentIntent on the subscription's latest invoice. "
    "Additional information is available here: https://stripe.com/docs/billing/subscriptions/overview#requires-action"
)

_run = handler._run
_pay = invoicing.pay_invoice
_charge = charges.insert_charge


def fill():
    """Puts these in the world's place."""
    handler._run = run
    # The gateway keeps answers by their keys itself: also those of what it adds, and for a day.
    handler.replay_or_run = lambda ctx, *, run, **_: (run(), False)
    invoicing.pay_invoice = pay
    charges.insert_charge = charge
    subscription_schedules.FIELDS.derived["phases"] = _phases


def run(ctx, request, params, key):
    """A request, by the rule of its route if there is one."""
    for method, pattern, rule in RULES:
        matched = re.fullmatch(pattern, request.path)
        if matched and method == request.method:
            with ctx.db.transaction():
                return rule(ctx, params.form, lambda: _run(ctx, request, params, key), *matched.groups())
    return _run(ctx, request, params, key)


# --- payments of invoices ---------------------------------------------------------------


def pay(ctx, invoice_id, **more):
    """Pays an invoice by a PaymentIntent of its own, and remembers how it went."""
    own = passing.own(ctx)
    own["paying"] = invoice_id
    try:
        outcome = _pay(ctx, invoice_id, **more)
    finally:
        own["paying"] = None
    own["outcome"] = outcome
    return outcome


def charge(ctx, *, payment_intent, pm_row, amount, currency, customer, **more):
    """A charge of an invoice has a PaymentIntent, as Stripe's have."""
    own = passing.own(ctx)
    if payment_intent is None and own.get("paying") is not None:
        payment_intent = _intent(ctx, own["paying"], amount=amount, currency=currency, customer=customer)
    made = _charge(
        ctx, payment_intent=payment_intent, pm_row=pm_row, amount=amount, currency=currency, customer=customer, **more
    )
    failed = made["status"] == "failed"
    if own.get("paying") is not None:
        ctx.db.execute(
            "UPDATE payment_intents SET latest_charge = ?, payment_method = ?, status = ?, amount_received = ? WHERE id = ?",
            made["id"],
            pm_row["id"],
            "requires_payment_method" if failed else "succeeded",
            0 if failed else amount,
            payment_intent,
        )
    return made


def _intent(ctx, invoice_id, *, amount, currency, customer):
    """The PaymentIntent of an invoice; made at its first payment."""
    known = passing.own(ctx)["intents"]
    if invoice_id in known and ctx.db.one("SELECT id FROM payment_intents WHERE id = ?", known[invoice_id]):
        return known[invoice_id]
    now = ctx.clock.iso()
    id_ = _ids.stripe_id(ctx, "pi_", timestamp=now)
    life._insert_row(
        ctx,
        "payment_intents",
        {
            "id": id_,
            "x_seq": _seq.next_seq(ctx, "payment_intents"),
            "created": now,
            "amount": amount,
            "capture_method": "automatic",
            "client_secret": payment_intents._mint_client_secret(ctx, id_),
            "confirmation_method": "automatic",
            "currency": currency,
            "customer": customer,
            "status": "requires_payment_method",
        },
    )
    known[invoice_id] = id_
    return id_


def invoice_payments(ctx, invoice=None, intent=None, status=None):
    """The payments of invoices, the newest first."""
    found = []
    rows = ctx.db.rows("SELECT * FROM invoices WHERE amount_due > 0 AND status != 'draft' ORDER BY x_seq DESC")
    for row in rows if invoice is None else [row for row in rows if row["id"] == invoice]:
        owner = {"currency": row["currency"], "customer": row["customer"]}
        paid = row["status"] == "paid"
        canceled = row["status"] in ("void", "uncollectible")
        paid_at = life._load_dict(row["status_transitions"]).get("paid_at")
        id_ = _intent(ctx, row["id"], amount=row["amount_due"], **owner)
        found.append(
            {
                "id": "inpay_" + row["id"].removeprefix("in_"),
                "object": "invoice_payment",
                "amount_paid": row["amount_due"] if paid else None,
                "amount_requested": row["amount_due"],
                "created": _time.to_unix(row["created"]),
                "currency": row["currency"],
                "invoice": row["id"],
                "is_default": True,
                "livemode": False,
                "payment": {"type": "payment_intent", "payment_intent": id_},
                "status": "paid" if paid else "canceled" if canceled else "open",
                "status_transitions": {"canceled_at": None, "paid_at": paid_at if paid else None},
            }
        )
    wanted = {"payment_intent": intent, "status": status}
    return [
        one
        for one in found
        if wanted["payment_intent"] in (None, one["payment"]["payment_intent"]) and wanted["status"] in (None, one["status"])
    ]


def _list_payments(ctx, form, _go):
    payment = form.get("payment", {})
    data = invoice_payments(ctx, form.get("invoice"), payment.get("payment_intent"), form.get("status"))
    limit = int(form.get("limit", 10))
    return ApiResponse(
        200, {"object": "list", "data": data[:limit], "has_more": len(data) > limit, "url": "/v1/invoice_payments"}
    )


# --- subscriptions ----------------------------------------------------------------------


def _update(ctx, form, go, id_):
    """An update: with `error_if_incomplete` a payment that fails undoes it all."""
    row = ctx.db.one("SELECT schedule FROM subscriptions WHERE id = ?", id_)
    if row and row["schedule"] and ("cancel_at_period_end" in form or "cancel_at" in form):
        raise invalid_request(
            f"The subscription is managed by the subscription schedule `{row['schedule']}`, and updating any cancelation "
            "behavior directly is not allowed. Please update the schedule instead."
        )
    own = passing.own(ctx)
    own["outcome"] = None
    answer = go()
    outcome = own["outcome"]
    if outcome is None or outcome["outcome"] == "paid":
        return answer
    if form.get("payment_behavior") != "error_if_incomplete":
        passing._failed(ctx, life._re_read(ctx, id_)["latest_invoice"], outcome)
        return answer
    if outcome["outcome"] == "no_payment_method":
        life._refuse_no_payment_method()
    if outcome["outcome"] == "requires_action":
        raise StripeApiError(402, "card_error", NEEDS_ACTION, code="subscription_payment_intent_requires_action")
    error = outcome["error"]["error"]
    raise StripeApiError(
        402, "card_error", error["message"], code=error.get("code"), decline_code=error.get("decline_code")
    )


def _cancel(ctx, _form, go, id_):
    """A subscription that is cancelled ends its schedule."""
    answer = go()
    row = life._re_read(ctx, id_)
    if row["schedule"]:
        _end(ctx, row)
    return answer


def _end(ctx, row):
    ctx.db.execute("UPDATE subscriptions SET schedule = NULL WHERE id = ?", row["id"])
    ctx.db.execute(
        "UPDATE subscription_schedules SET status = 'canceled', canceled_at = ?, current_phase = NULL WHERE id = ?",
        ctx.clock.iso(),
        row["schedule"],
    )
    body = subscription_schedules.serialize(ctx, subscription_schedules._re_read(ctx, row["schedule"]))
    events.emit_event(ctx, type="subscription_schedule.canceled", obj=body)


def _delete_customer(ctx, _form, go, id_):
    """A customer who is deleted has their subscriptions cancelled at once."""
    for row in ctx.db.rows("SELECT * FROM subscriptions WHERE customer = ?", id_):
        if row["status"] not in life.TERMINAL_STATUSES:
            life.cancel_subscription(ctx, row["id"])
            if row["schedule"]:
                _end(ctx, row)
    return go()


# --- schedules --------------------------------------------------------------------------


def _schedule(ctx, form, go):
    """A schedule made of a subscription: nothing else may be said with it."""
    id_ = form.get("from_subscription")
    if id_ is None:
        return go()
    others = [name for name in form if name not in ("from_subscription", "expand")]
    if others:
        raise invalid_request(f"You cannot set `{others[0]}` if `from_subscription` is set.", param=others[0])
    row = ctx.db.one("SELECT * FROM subscriptions WHERE id = ?", id_)
    if row is None:
        raise resource_missing("subscription", id_, param="from_subscription")
    form["customer"] = row["customer"]
    return _told(ctx, id_, go)


def _told(ctx, id_, go):
    """Does what may change a subscription beside, with the event of the change."""
    old = life._serialize(ctx, life._re_read(ctx, id_))
    answer = go()
    passing._changed(ctx, id_, old)
    return answer


def _scheduled(ctx, form, go, id_):
    """A schedule is changed: its first phase is the current one."""
    row = ctx.db.one("SELECT * FROM subscription_schedules WHERE id = ?", id_)
    if row is None or row["subscription"] is None:
        return go()
    first = form.get("phases", {}).get("0")
    current = life._load_dict(row["current_phase"])
    if first is not None and current:
        if "start_date" not in first:
            raise invalid_request(
                "The subscription schedule update is missing at least one phase with a `start_date` to anchor end dates to."
            )
        if int(first["start_date"]) != current["start_date"]:
            raise invalid_request("You can not modify the start date of the current phase.", param="phases[0][start_date]")
    return _told(ctx, row["subscription"], go)


def _freed(ctx, _form, go, id_):
    """A schedule is released."""
    row = ctx.db.one("SELECT subscription FROM subscription_schedules WHERE id = ?", id_)
    return go() if row is None or row["subscription"] is None else _told(ctx, row["subscription"], go)


_phases_body = subscription_schedules._phases_body


def _phases(ctx, row):
    """Phases name their prices, as Stripe's do unless they are expanded."""
    phases = _phases_body(ctx, row)
    for phase in phases:
        for item in phase["items"]:
            item["price"] = item["price"]["id"] if isinstance(item["price"], dict) else item["price"]
    return phases


# --- previews ---------------------------------------------------------------------------


class _Undo(Exception):
    """Undoes what a preview has done to see what it would be."""


def _preview(ctx, form, _go):
    """The next invoice, or that of a change: made, read and undone."""
    id_ = form.get("subscription")
    if id_ is None:
        raise NotImplementedError("a preview of anything but a subscription")
    row = _lookup.require_row(ctx, "subscriptions", "subscription", id_, param="subscription")
    body = None
    try:
        with ctx.db.transaction():
            body = _previewed(ctx, row, form.get("subscription_details", {}))
            raise _Undo
    except _Undo:
        return ApiResponse(200, body)


def _previewed(ctx, row, details):
    items = [
        {name: int(value) if name == "quantity" else value for name, value in item.items()}
        for _, item in sorted(details.get("items", {}).items())
    ]
    behavior = details.get("proration_behavior", "create_prorations")
    if row["status"] in life.TERMINAL_STATUSES:
        _nothing(row)
    if items:
        change = {"items": items, "proration_behavior": "none" if behavior == "none" else "create_prorations"}
        if "proration_date" in details:
            change["proration_date"] = _time.from_unix(int(details["proration_date"]))
        life.apply_update(ctx, row["id"], change)
    start, end = life._period_start(ctx, row["id"]), life._period_end(ctx, row["id"])
    if items and behavior == "always_invoice":
        swept, ids = life._pending_sweep(ctx, row)
        invoice = invoicing.create_invoice(
            ctx,
            customer_id=row["customer"],
            currency=row["currency"],
            collection_method=row["collection_method"],
            billing_reason="subscription_update",
            totals=invoicing.compute_totals(swept, currency=row["currency"], livemode=False),
            subscription_id=row["id"],
            auto_advance=True,
            days_until_due=row["days_until_due"],
            period_start=start,
            period_end=ctx.clock.iso(),
            attach=ids,
        )
        return _as_preview(ctx, row, invoice, ctx.clock.iso())
    if row["cancel_at_period_end"] or row["cancel_at"] or details.get("cancel_at_period_end") == "true":
        _nothing(row)
    if row["schedule"] and not items:
        _next_phase(ctx, row, end)
    life._roll_periods_to(ctx, row["id"], end)
    invoice = life._cycle_invoice(
        ctx, row, billing_reason="upcoming", auto_advance=True, finalize=False, period_start=start, period_end=end
    )
    return _as_preview(ctx, row, invoice, end)


def _next_phase(ctx, row, end):
    schedule = subscription_schedules._re_read(ctx, row["schedule"])
    for phase in life._load_list(schedule["phases"]):
        if phase["start_date"] == _time.to_unix(end):
            item = {"id": life._items_of(ctx, row["id"])[0]["id"], "price": phase["items"][0]["price"]}
            life.apply_update(ctx, row["id"], {"items": [item], "proration_behavior": "none"})


def _nothing(row):
    raise invalid_request(f"No upcoming invoices for customer: {row['customer']}", code="invoice_upcoming_none", status=404)


def _as_preview(ctx, row, invoice, at):
    customer = _lookup.require_row(ctx, "customers", "customer", row["customer"], param="customer")
    due, ending, _ = invoicing.settle_customer_balance(invoice["total"], customer["balance"])
    made = _time.to_unix(at)
    return {
        **invoices.serialize(ctx, invoice),
        "id": "upcoming_" + invoice["id"],
        "amount_due": due,
        "amount_remaining": due,
        "starting_balance": customer["balance"],
        "ending_balance": ending,
        "created": made,
        "automatically_finalizes_at": None,
        "next_payment_attempt": made + 3_600,
    }


RULES = [
    ("POST", r"/v1/subscriptions/([^/]+)", _update),
    ("DELETE", r"/v1/subscriptions/([^/]+)", _cancel),
    ("DELETE", r"/v1/customers/([^/]+)", _delete_customer),
    ("POST", r"/v1/subscription_schedules", _schedule),
    ("POST", r"/v1/subscription_schedules/([^/]+)", _scheduled),
    ("POST", r"/v1/subscription_schedules/([^/]+)/(?:release)", _freed),
    ("POST", r"/v1/invoices/create_preview", _preview),
    ("GET", r"/v1/invoice_payments", _list_payments),
]

HOOKS = {
    "payments": lambda ctx, invoice: invoice_payments(ctx, invoice),
    "account": lambda ctx: _json.loads(ctx.db.one("SELECT object FROM account")["object"]),
}
