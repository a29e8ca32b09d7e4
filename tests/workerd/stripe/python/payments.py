"""Payments of invoices: each invoice has a PaymentIntent, which the world leaves out, and `/v1/invoice_payments` lists them."""

import passing
from seahaven_stripe_world import _ids, _seq, _time
from seahaven_stripe_world.billing import invoicing
from seahaven_stripe_world.billing import subscription_lifecycle as life
from seahaven_stripe_world.dispatch.response import ApiResponse
from seahaven_stripe_world.resources import charges, payment_intents

_pay = invoicing.pay_invoice
_charge = charges.insert_charge


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


def list_payments(ctx, form, _go):
    payment = form.get("payment", {})
    data = invoice_payments(ctx, form.get("invoice"), payment.get("payment_intent"), form.get("status"))
    limit = int(form.get("limit", 10))
    return ApiResponse(
        200, {"object": "list", "data": data[:limit], "has_more": len(data) > limit, "url": "/v1/invoice_payments"}
    )
