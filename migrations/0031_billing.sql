-- Plans that are paid for: what was read of Stripe last, and what is under way. Stripe is the source of truth.

-- Who sets the tier: `billing` (what is paid), or `operator`. Tiers of before were set by operators.
ALTER TABLE tenants ADD COLUMN tier_by TEXT NOT NULL DEFAULT 'billing';
UPDATE tenants SET tier_by = 'operator' WHERE tier <> 'free';

CREATE TABLE billing (
    tenant_id TEXT PRIMARY KEY,
    customer_id TEXT UNIQUE,
    -- The subscription as JSON; null: there has never been one.
    state TEXT,
    trial_used INTEGER NOT NULL DEFAULT 0,
    -- Since when a charge has failed.
    past_due_ms INTEGER,
    -- A price that is not of the table of tiers.
    unknown_price TEXT,
    -- Reads of Stripe are numbered when they begin; what a later one has found is not overwritten.
    ticket INTEGER NOT NULL DEFAULT 0,
    read_ticket INTEGER NOT NULL DEFAULT 0,
    read_ms INTEGER NOT NULL DEFAULT 0,
    -- When a mail or the end of a grace is due, and the mark of the last one that was done.
    due_ms INTEGER,
    due_done TEXT,
    -- The change at Stripe that is under way: its name, its number (a part of the idempotency key), whether Stripe has not
    -- answered it, since when, and until when no other may begin.
    operation TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    is_open INTEGER NOT NULL DEFAULT 0,
    begun_ms INTEGER NOT NULL DEFAULT 0,
    busy_until_ms INTEGER NOT NULL DEFAULT 0,
    -- Until when a checkout may be paid.
    checkout_until_ms INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX billing_due ON billing (due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX billing_unknown ON billing (tenant_id) WHERE unknown_price IS NOT NULL;
CREATE INDEX billing_read ON billing (read_ms) WHERE customer_id IS NOT NULL;

-- Events of Stripe that were queued: one that comes again is not queued again.
CREATE TABLE stripe_events (
    id TEXT PRIMARY KEY,
    received_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX stripe_events_received ON stripe_events (received_ms);
