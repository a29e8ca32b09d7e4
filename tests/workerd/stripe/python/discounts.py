"""Discounts in the phases of a schedule, which the world leaves out. A schedule that is made of a subscription lists what the
subscription has; phases are replaced as a whole, and what a phase does not list is gone as soon as it holds."""

from seahaven_stripe_world.billing import subscription_lifecycle as life
from seahaven_stripe_world.resources import subscription_schedules as schedules
from seahaven_stripe_world.stripe_errors import resource_missing


def _known(ctx):
    """Discounts that a phase may list, by their ids: the world keeps them in subscriptions alone."""
    return ctx.state.setdefault("gateway_discounts", {})


def _store(ctx, id_, phases):
    ctx.db.execute("UPDATE subscription_schedules SET phases = ? WHERE id = ?", life._json.dumps(phases), id_)


def copied(ctx, subscription):
    """Lists a subscription's discounts in the phase of the schedule that was made of it; the schedule, as it is answered."""
    row = life._re_read(ctx, subscription)
    held = life._load_list(row["discounts"])
    _known(ctx).update({one["id"]: one for one in held})
    schedule = schedules._re_read(ctx, row["schedule"])
    phases = life._load_list(schedule["phases"])
    phases[0]["discounts"] = [{"coupon": None, "discount": one["id"], "promotion_code": None} for one in held]
    _store(ctx, schedule["id"], phases)
    return schedules.serialize(ctx, schedules._re_read(ctx, schedule["id"]))


def taken(form):
    """What the phases of a form say that the world does not know: each phase's discounts."""
    wanted = []
    for _, phase in sorted(form.get("phases", {}).items(), key=lambda one: int(one[0])):
        phase.pop("automatic_tax", None)
        wanted.append(list(phase.pop("discounts", {}).values()))
    return wanted


def placed(ctx, id_, wanted):
    """Gives phases their discounts, and the subscription those of the present one; the schedule, as it is answered."""
    schedule = schedules._re_read(ctx, id_)
    phases = life._load_list(schedule["phases"])
    for phase, entries in zip(phases, wanted, strict=True):
        for entry in entries:
            if "discount" not in entry:
                raise NotImplementedError("a phase that makes a discount of a coupon")
            if entry["discount"] not in _known(ctx):
                raise resource_missing("discount", entry["discount"], param="phases[0][discounts][0][discount]")
        phase["discounts"] = [{"coupon": None, "discount": one["discount"], "promotion_code": None} for one in entries]
    _store(ctx, id_, phases)
    start = life._load_dict(schedule["current_phase"]).get("start_date")
    for phase in phases:
        if phase["start_date"] == start:
            hold(ctx, schedule["subscription"], phase)
    return schedules.serialize(ctx, schedules._re_read(ctx, id_))


def hold(ctx, subscription, phase):
    """A phase holds: the subscription has the discounts that it lists, and no other."""
    held = [_known(ctx)[one["discount"]] for one in phase.get("discounts", [])]
    ctx.db.execute("UPDATE subscriptions SET discounts = ? WHERE id = ?", life._json.dumps(held), subscription)


def changed(ctx, id_, form):
    """A subscription is changed beside its schedule: the present phase says so."""
    schedule = schedules._re_read(ctx, id_)
    phases, start = life._load_list(schedule["phases"]), life._load_dict(schedule["current_phase"]).get("start_date")
    for phase in phases:
        if phase["start_date"] == start:
            phase["items"][0]["price"] = form["items"]["0"].get("price", phase["items"][0]["price"])
    _store(ctx, id_, phases)
