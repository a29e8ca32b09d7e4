"""Previews of invoices: what would be made is made, read and undone."""

from seahaven_stripe_world import _time
from seahaven_stripe_world.billing import invoicing
from seahaven_stripe_world.billing import subscription_lifecycle as life
from seahaven_stripe_world.dispatch.response import ApiResponse
from seahaven_stripe_world.resources import _lookup, invoices, subscription_schedules
from seahaven_stripe_world.stripe_errors import invalid_request


class _Undo(Exception):
    """Undoes what a preview has done to see what it would be."""


def preview(ctx, form, _go):
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
