"""What happens at Stripe as time passes: trials end, periods renew, invoices are finalized an hour later, charges are
tried again, schedules change plans, first payments expire. The world's own walkers do a renewal in one step; at Stripe
a subscription is renewed first and charged an hour later, so these do the same."""

from datetime import datetime

import discounts
from seahaven_stripe_world import _time
from seahaven_stripe_world.billing import dunning, invoicing
from seahaven_stripe_world.billing import subscription_lifecycle as life
from seahaven_stripe_world.resources import events, payment_intents, subscription_schedules

DAY = 86_400
#: An incomplete subscription expires 23 hours after it was made.
INCOMPLETE = 23 * 3_600


def ms(iso):
    return int(datetime.fromisoformat(iso).timestamp() * 1000)


def own(ctx):
    """What the gateway keeps beside the world's tables."""
    return ctx.state.setdefault("gateway", {"warned": set(), "intents": {}})


def pending(ctx):
    """Everything that will happen by itself: `(ms, order, kind, id)`, the first first."""
    found = []
    for row in ctx.db.rows("SELECT * FROM subscriptions"):
        found += [(at, order, kind, row["id"]) for at, order, kind in _of(ctx, row)]
    for row in ctx.db.rows("SELECT * FROM invoices WHERE status IN ('draft', 'open')"):
        if row["status"] == "draft" and row["automatically_finalizes_at"] and row["auto_advance"]:
            found.append((ms(row["automatically_finalizes_at"]), 4, "finalize", row["id"]))
        if row["status"] == "open" and row["next_payment_attempt"] and _collects(ctx, row):
            found.append((ms(row["next_payment_attempt"]), 5, "retry", row["id"]))
    return sorted(found)


def _of(ctx, row):
    """What will happen to a subscription."""
    if row["status"] == "incomplete":
        yield ms(row["created"]) + INCOMPLETE * 1000, 6, "expire"
    if row["status"] == "trialing" and (row["id"], row["trial_end"]) not in own(ctx)["warned"]:
        yield max(ms(row["trial_end"]) - 3 * DAY * 1000, ms(row["created"])), 1, "warn"
    if row["status"] not in life.RENEWING_STATUSES:
        return
    end = life._period_end(ctx, row["id"])
    if row["cancel_at"] and (end is None or row["cancel_at"] < end):
        yield ms(row["cancel_at"]), 3, "cancel"
    elif end is not None:
        yield ms(end), 3, "renew"
    if row["schedule"]:
        schedule = ctx.db.one("SELECT * FROM subscription_schedules WHERE id = ?", row["schedule"])
        current = life._load_dict(schedule["current_phase"])
        if current:
            yield current["end_date"] * 1000, 2, "phase"


def _collects(ctx, invoice):
    row = ctx.db.one("SELECT status FROM subscriptions WHERE id = ?", invoice["parent_subscription"])
    return row is not None and row["status"] in ("past_due", "active")


def perform(ctx, what):
    """Has one thing happen; no request caused it."""
    ctx.state["_request"] = {}
    _, _, kind, id_ = what
    KINDS[kind](ctx, id_)


def _changed(ctx, id_, old):
    body = life._serialize(ctx, life._re_read(ctx, id_))
    if body != old:
        events.emit_event(ctx, type="customer.subscription.updated", obj=body, previous=life._previous(old, body))


def _warn(ctx, id_):
    row = life._re_read(ctx, id_)
    own(ctx)["warned"].add((id_, row["trial_end"]))
    events.emit_event(ctx, type="customer.subscription.trial_will_end", obj=life._serialize(ctx, row))


def _phase(ctx, id_):
    """The schedule goes on to its next phase, or ends."""
    row = life._re_read(ctx, id_)
    schedule = subscription_schedules._re_read(ctx, row["schedule"])
    end = life._load_dict(schedule["current_phase"])["end_date"]
    following = [phase for phase in life._load_list(schedule["phases"]) if phase["start_date"] >= end]
    if not following:
        _end_schedule(ctx, row, schedule)
        return
    phase = following[0]
    items = life._items_of(ctx, id_)
    wanted = phase["items"][0]
    ctx.db.execute(
        "UPDATE subscription_schedules SET current_phase = ? WHERE id = ?",
        life._json.dumps({"start_date": phase["start_date"], "end_date": phase["end_date"]}),
        schedule["id"],
    )
    # At a period's end nothing of it is left to be prorated.
    is_boundary = _time.to_unix(life._period_end(ctx, id_)) <= phase["start_date"]
    behavior = "none" if is_boundary else phase.get("proration_behavior", "create_prorations")
    change = {"id": items[0]["id"], "price": wanted["price"], "quantity": wanted.get("quantity", 1)}
    discounts.hold(ctx, id_, phase)
    life.apply_update(ctx, id_, {"items": [change], "proration_behavior": behavior})
    events.emit_event(
        ctx,
        type="subscription_schedule.updated",
        obj=subscription_schedules.serialize(ctx, subscription_schedules._re_read(ctx, schedule["id"])),
    )


def _end_schedule(ctx, row, schedule):
    now = ctx.clock.iso()
    old = life._serialize(ctx, row)
    released = schedule["end_behavior"] != "cancel"
    ctx.db.execute("UPDATE subscriptions SET schedule = NULL WHERE id = ?", row["id"])
    if released:
        sets = "status = 'released', released_at = ?, released_subscription = subscription, subscription = NULL"
    else:
        sets = "status = 'completed', completed_at = ?"
    ctx.db.execute(f"UPDATE subscription_schedules SET {sets}, current_phase = NULL WHERE id = ?", now, schedule["id"])
    if released:
        _changed(ctx, row["id"], old)
    else:
        life.cancel_subscription(ctx, row["id"])
    events.emit_event(
        ctx,
        type=f"subscription_schedule.{'released' if released else 'completed'}",
        obj=subscription_schedules.serialize(ctx, subscription_schedules._re_read(ctx, schedule["id"])),
    )


def _cancel(ctx, id_):
    """A cancellation that was asked for comes; what was asked stays as it was asked."""
    ctx.db.execute("UPDATE subscriptions SET status = 'canceled', ended_at = ? WHERE id = ?", ctx.clock.iso(), id_)
    events.emit_event(ctx, type="customer.subscription.deleted", obj=life._serialize(ctx, life._re_read(ctx, id_)))


def _renew(ctx, id_):
    """A period ends, of a trial or of what was paid: the next begins with a draft of its invoice."""
    row = life._re_read(ctx, id_)
    old = life._serialize(ctx, row)
    boundary, start = life._period_end(ctx, id_), life._period_start(ctx, id_)
    if row["cancel_at_period_end"] or (row["cancel_at"] and row["cancel_at"] <= boundary):
        _cancel(ctx, id_)
        return
    trial = row["status"] == "trialing"
    behavior = life._load_dict(row["trial_settings"]).get("end_behavior", {}).get("missing_payment_method")
    if trial and behavior in ("cancel", "pause") and life._resolve_pm(ctx, row, row["customer"]) is None:
        life.trial_end_now(ctx, row, boundary=boundary)
        return
    if row["pause_collection"] or row["status"] == "unpaid" or row["collection_method"] == "send_invoice":
        life.advance_cycle(ctx, id_)
        _changed(ctx, id_, old)
        return
    if trial:
        life._set_status(ctx, id_, "active")
    life._roll_periods_to(ctx, id_, boundary)
    invoice = life._cycle_invoice(
        ctx,
        row,
        billing_reason="subscription_cycle",
        auto_advance=True,
        finalize=False,
        period_start=start,
        period_end=boundary,
    )
    life._set_latest_invoice(ctx, id_, invoice["id"])
    _changed(ctx, id_, old)


def _finalize(ctx, id_):
    """A draft is finalized and, where a card is charged, charged."""
    draft = invoicing._re_read(ctx, id_)
    invoicing.finalize_invoice(ctx, id_)
    subscription = draft["parent_subscription"]
    if subscription is None or draft["collection_method"] != "charge_automatically":
        return
    row = life._re_read(ctx, subscription)
    old = life._serialize(ctx, row)
    if row["status"] in life.TERMINAL_STATUSES:
        return
    outcome = invoicing.pay_invoice(ctx, id_, sub_row=row)
    if outcome["outcome"] == "paid":
        return
    _failed(ctx, id_, outcome)
    life._set_status(ctx, subscription, "past_due")
    _changed(ctx, subscription, old)


def _failed(ctx, id_, outcome):
    """What the world leaves out where a charge fails for want of the customer or of a card: the attempt and its event."""
    if outcome["outcome"] == "failed":
        return
    invoicing._count_attempt(ctx, id_, automatic=False)
    invoicing._schedule_next_attempt(ctx, id_)
    invoicing.emit_invoice_event(ctx, "invoice.payment_failed", invoicing._re_read(ctx, id_))


def _retry(ctx, id_):
    """An automatic attempt. Stripe does not send one to the bank that must fail, but counts it."""
    row = invoicing._re_read(ctx, id_)
    subscription = life._re_read(ctx, row["parent_subscription"])
    card = invoicing._resolve_pm(ctx, row, subscription)
    tags = {} if card is None else payment_intents._behavior_tags(card)
    is_sent = card is not None and "three_d_secure" not in tags and dunning.will_reach_network(tags.get("decline_code"))
    policy = dunning.policy(ctx)
    count = row["attempt_count"] + 1
    if not is_sent or "charge_declined" in tags:
        # The event of the failure tells this attempt.
        ctx.db.execute(
            "UPDATE invoices SET attempted = 1, attempt_count = ?, next_payment_attempt = ? WHERE id = ?",
            count,
            dunning.next_attempt_at(ctx.clock.iso(), count, policy),
            id_,
        )
    if is_sent and invoicing.pay_invoice(ctx, id_, sub_row=subscription)["outcome"] == "paid":
        return
    invoicing.emit_invoice_event(ctx, "invoice.updated", invoicing._re_read(ctx, id_))
    if dunning.schedule_exhausted(count, policy) and life._re_read(ctx, subscription["id"])["status"] == "past_due":
        dunning.apply_end_of_schedule(ctx, subscription["id"])


KINDS = {
    "warn": _warn,
    "phase": _phase,
    "renew": _renew,
    "cancel": _cancel,
    "finalize": _finalize,
    "retry": _retry,
    "expire": life.expire_incomplete,
}
