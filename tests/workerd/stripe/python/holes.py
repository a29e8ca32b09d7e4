"""Fills what seahaven's Stripe leaves out or does otherwise than Stripe: payments that must not stay incomplete,
schedules of a subscription, previews, the payments of invoices, the subscriptions of a customer who is deleted."""

import re

import discounts
import passing
import payments
import previews
from seahaven_stripe_world.billing import invoicing
from seahaven_stripe_world.billing import subscription_lifecycle as life
from seahaven_stripe_world.dispatch import resource
from seahaven_stripe_world.dispatch.response import ApiResponse
from seahaven_stripe_world.http_api import handler
from seahaven_stripe_world.resources import charges, events, subscription_schedules
from seahaven_stripe_world.stripe_errors import StripeApiError, invalid_request, resource_missing

#: As Stripe answers a payment that needs the customer (recorded by the world for the creation of a subscription).
NEEDS_ACTION = (
    "Payment for this subscription requires additional user action, but the requested payment behavior doesn't save the "
    "invoice or PaymentIntent. Retry the request with `payment_behavior=allow_incomplete` or "
    "`payment_behavior=default_incomplete`, then complete the PaymentIntent on the subscription's latest invoice. "
    "Additional information is available here: https://stripe.com/docs/billing/subscriptions/overview#requires-action"
)

_run = handler._run


def fill():
    """Puts these in the world's place."""
    handler._run = run
    # The gateway keeps answers by their keys itself: also those of what it adds, and for a day.
    handler.replay_or_run = lambda ctx, *, run, **_: (run(), False)
    invoicing.pay_invoice = payments.pay
    charges.insert_charge = payments.charge
    subscription_schedules.FIELDS.derived["phases"] = _phases
    life.emit_proration_side_effects = _prorate


def run(ctx, request, params, key):
    """A request, by the rule of its route if there is one."""
    for method, pattern, rule in RULES:
        matched = re.fullmatch(pattern, request.path)
        if matched and method == request.method:
            with ctx.db.transaction():
                return rule(ctx, params.form, lambda: _run(ctx, request, params, key), *matched.groups())
    return _run(ctx, request, params, key)


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
    if row and row["schedule"] and "items" in form:
        discounts.changed(ctx, row["schedule"], form)
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


_prorations = life.emit_proration_side_effects


def _prorate(ctx, sub_id, *items, **how):
    """A trial costs nothing, so a change within it has nothing to prorate."""
    if life._re_read(ctx, sub_id)["status"] != "trialing":
        _prorations(ctx, sub_id, *items, **how)


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


def _list(_ctx, form, go):
    """Without a status those are listed that are not cancelled."""
    if "status" in form:
        return go()
    page = resource.page

    def without(ctx, **more):
        return page(ctx, **{**more, "where": [*more["where"], "status <> 'canceled'"]})

    resource.page = without
    try:
        return go()
    finally:
        resource.page = page


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
    _told(ctx, id_, go)
    return ApiResponse(200, discounts.copied(ctx, id_))


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
        if life._re_read(ctx, row["subscription"])["status"] == "trialing" and not first.keys() & {"trial", "trial_end"}:
            raise NotImplementedError("a first phase that does not say the trial's end again, which may end the trial at Stripe")
        if int(first["start_date"]) != current["start_date"]:
            raise invalid_request("You can not modify the start date of the current phase.", param="phases[0][start_date]")
    wanted = discounts.taken(form)

    def act():
        go()
        if not wanted:
            return subscription_schedules.serialize(ctx, subscription_schedules._re_read(ctx, id_))
        return discounts.placed(ctx, id_, wanted)

    return ApiResponse(200, _told(ctx, row["subscription"], act))


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
            # The world shows the phase's there.
            item["discounts"] = []
            item["price"] = item["price"]["id"] if isinstance(item["price"], dict) else item["price"]
    return phases


RULES = [
    ("GET", r"/v1/subscriptions", _list),
    ("POST", r"/v1/subscriptions/([^/]+)", _update),
    ("DELETE", r"/v1/subscriptions/([^/]+)", _cancel),
    ("DELETE", r"/v1/customers/([^/]+)", _delete_customer),
    ("POST", r"/v1/subscription_schedules", _schedule),
    ("POST", r"/v1/subscription_schedules/([^/]+)", _scheduled),
    ("POST", r"/v1/subscription_schedules/([^/]+)/(?:release)", _freed),
    ("POST", r"/v1/invoices/create_preview", previews.preview),
    ("GET", r"/v1/invoice_payments", payments.list_payments),
]

HOOKS = {
    "payments": lambda ctx, invoice: payments.invoice_payments(ctx, invoice),
}
