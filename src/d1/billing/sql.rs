//! The statements about billing.

use super::rows::{
    Attempt, BilledTenant, BillingRow, DueRow, HeldCustomer, HoldingsRow, KeptCustomer, StandingRow, UnknownPriceRow,
    UnpaidTierRow,
};
use crate::storage::{Present, statements};

statements! {
    /// Binds a tenant and now: its row, made once.
    BILLING_MAKE: () = "INSERT INTO billing (tenant_id, created_ms) VALUES (?, ?) ON CONFLICT (tenant_id) DO NOTHING";
    /// Binds a tenant; returns its row.
    BILLING_GET: BillingRow = "SELECT tenant_id, customer_id, state, trial_used, past_due_ms, ticket, read_ticket, due_ms,
        due_done, checkout_until_ms, customer_told, surplus_told FROM billing WHERE tenant_id = ?";
    /// Binds a customer; returns the row of the tenant that has it.
    BILLING_OF: BillingRow = "SELECT tenant_id, customer_id, state, trial_used, past_due_ms, ticket, read_ticket, due_ms,
        due_done, checkout_until_ms, customer_told, surplus_told FROM billing WHERE customer_id = ?";
    /// Binds a tenant; numbers a read of Stripe that begins, and returns the row.
    BILLING_TICKET: BillingRow = "UPDATE billing SET ticket = ticket + 1 WHERE tenant_id = ? RETURNING tenant_id, customer_id,
        state, trial_used, past_due_ms, ticket, read_ticket, due_ms, due_done, checkout_until_ms, customer_told, surplus_told";
    /// Binds a customer and a tenant: the tenant's, if it has none; returns the one that it has.
    BILLING_CUSTOMER: KeptCustomer = "UPDATE billing SET customer_id = COALESCE(customer_id, ?) WHERE tenant_id = ?
        RETURNING customer_id";
    /// Binds tenant, state or null, ticket; returns a row if no later read was written and the state is another.
    BILLING_STATE: Present = "UPDATE billing SET state = ?2 WHERE tenant_id = ?1 AND read_ticket < ?3 AND state IS NOT ?2
        RETURNING 1 AS present";
    /// Binds tenant, ticket, now, whether a charge has failed, whether there was a trial, when something is due or null, a price
    /// that is unknown or null, and the customer that was read if it was deleted, or null: what a read has found, unless a later
    /// one was written. A customer that was made meanwhile stays, and so does what is due because a later read is wanted.
    BILLING_READ: () = "UPDATE billing SET read_ticket = ?2, read_ms = ?3,
        past_due_ms = CASE WHEN ?4 THEN COALESCE(past_due_ms, ?3) END, trial_used = MAX(trial_used, ?5),
        due_ms = CASE WHEN wanted_ticket > ?2 THEN MIN(due_ms, COALESCE(?6, due_ms)) ELSE ?6 END,
        unknown_price = ?7, customer_id = NULLIF(customer_id, ?8)
        WHERE tenant_id = ?1 AND read_ticket < ?2";
    /// Binds tenant, tier, now, ticket; returns a row if the tier follows what is paid, is another, and the read of that ticket
    /// is the one that was written last.
    TIER_FOLLOWS: Present = "UPDATE tenants SET tier = ?2, version = version + 1, updated_ms = ?3 WHERE id = ?1 AND tier_by = 'billing'
        AND tier <> ?2 AND EXISTS (SELECT 1 FROM billing WHERE tenant_id = ?1 AND read_ticket = ?4) RETURNING 1 AS present";
    /// Binds id, tenant, kind, text, now, when its message is due or null: a notice, if the statement before it in the batch
    /// has changed a row.
    BILLING_NOTICE_PUT: () = "INSERT INTO notices (id, tenant_id, kind, text, created_ms, post_due_ms)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE changes() > 0";
    /// Binds a tenant, the name of a change, now, since when one of the same name goes on, until when no other may begin;
    /// begins it and returns its number, and whether that is the one of a change of the same name that Stripe has not answered.
    /// No row where another change is under way.
    OPERATION_BEGIN: Attempt = "UPDATE billing SET
        attempt = attempt + iif(is_open AND operation = ?2 AND begun_ms > ?4, 0, 1),
        begun_ms = iif(is_open AND operation = ?2 AND begun_ms > ?4, begun_ms, ?3),
        operation = ?2, is_open = 1, busy_until_ms = ?5 WHERE tenant_id = ?1 AND busy_until_ms <= ?3
        RETURNING attempt, begun_ms < ?3 AS is_repeat";
    /// Binds whether Stripe has not answered, a tenant, and a number: the change ends, and others may begin.
    OPERATION_END: () = "UPDATE billing SET is_open = ?1, busy_until_ms = 0 WHERE tenant_id = ?2 AND attempt = ?3";
    /// Binds a time and a tenant: until then a checkout may be paid.
    CHECKOUT_UNTIL: () = "UPDATE billing SET checkout_until_ms = ? WHERE tenant_id = ?";
    /// Binds now and a limit; returns tenants for which something is due.
    BILLING_DUE: DueRow = "SELECT tenant_id, due_ms FROM billing WHERE due_ms <= ? ORDER BY due_ms LIMIT ?";
    /// Binds a time or null, a tenant, and the time at which something was due: it is due then, unless a read is wanted.
    DUE_LATER: () = "UPDATE billing SET due_ms = ?1 WHERE tenant_id = ?2 AND due_ms = ?3 AND wanted_ticket <= read_ticket";
    /// Binds a time, a tenant, and the time at which something was due and failed: it is due again then.
    DUE_AGAIN: () = "UPDATE billing SET due_ms = ?1 WHERE tenant_id = ?2 AND due_ms = ?3";
    /// Binds a mark, when the next is due or null, a tenant, and when this one was due: it is done, if no other has done it.
    /// A read that is wanted stays due.
    DUE_DONE: () = "UPDATE billing SET due_done = ?1, due_ms = iif(wanted_ticket > read_ticket, due_ms, ?2)
        WHERE tenant_id = ?3 AND due_ms = ?4";
    /// Binds a time and a tenant: by then its customer is to be read, by a read that has not begun yet.
    READ_WANTED: () = "UPDATE billing SET due_ms = MIN(COALESCE(due_ms, ?1), ?1), wanted_ticket = ticket + 1
        WHERE tenant_id = ?2 AND customer_id IS NOT NULL";
    /// Binds a time and a customer: the same.
    READ_WANTED_OF: () = "UPDATE billing SET due_ms = MIN(COALESCE(due_ms, ?1), ?1), wanted_ticket = ticket + 1
        WHERE customer_id = ?2";
    /// Binds a tenant; returns what of it matters to its subscription.
    STANDING: StandingRow = "SELECT email, company_name, status, tier_by, EXISTS (SELECT 1 FROM deletions
        WHERE tenant_id = tenants.id AND due_ms IS NOT NULL) AS is_deleting FROM tenants WHERE id = ?";
    /// Binds a hash, a tenant, and its customer: so much of it was reported to Stripe.
    CUSTOMER_TOLD: () = "UPDATE billing SET customer_told = ? WHERE tenant_id = ? AND customer_id = ?";
    /// Binds a second subscription and a tenant; returns a row if it was not the last that was reported.
    SURPLUS_TOLD: Present = "UPDATE billing SET surplus_told = ?1 WHERE tenant_id = ?2 AND surplus_told IS NOT ?1
        RETURNING 1 AS present";
    /// Binds a tier and a tenant, if it has another. An operator's change follows, with a new version.
    TIER_BY_HAND: () = "UPDATE tenants SET tier = ?1 WHERE id = ?2 AND tier <> ?1";
    /// Binds a tenant's id and a limit; returns customers of tenants after it.
    BILLED_AFTER: BilledTenant = "SELECT tenant_id FROM billing WHERE tenant_id > ? AND customer_id IS NOT NULL
        ORDER BY tenant_id LIMIT ?";
    /// Binds a time and a limit; returns tenants whose customers were read before it, the longest ago first.
    BILLED_STALE: BilledTenant = "SELECT tenant_id FROM billing WHERE read_ms < ? AND customer_id IS NOT NULL
        ORDER BY read_ms LIMIT ?";
    /// Binds a tenant's id and a limit; returns tenants after it with a tier by what is paid that have never had a subscription.
    UNPAID_TIERS: UnpaidTierRow = "SELECT t.id, t.tier FROM tenants t LEFT JOIN billing b ON b.tenant_id = t.id
        WHERE t.id > ? AND t.tier <> 'free' AND t.tier_by = 'billing' AND t.status <> 'cancelled' AND b.state IS NULL
        ORDER BY t.id LIMIT ?";
    /// Binds a JSON list of customers; returns those that a tenant has.
    CUSTOMERS_HELD: HeldCustomer = "SELECT customer_id FROM billing WHERE customer_id IN (SELECT value FROM json_each(?))";
    /// Binds a limit; returns tenants whose price is unknown.
    UNKNOWN_PRICES: UnknownPriceRow = "SELECT tenant_id, unknown_price FROM billing WHERE unknown_price IS NOT NULL
        ORDER BY tenant_id LIMIT ?";
    /// Binds a tenant; returns what it has, by which tiers differ.
    HOLDINGS: HoldingsRow = "SELECT (SELECT json_group_array(chain) FROM default_recipients WHERE tenant_id = t.id) AS chains,
        (SELECT COUNT(*) FROM webhook_endpoints WHERE tenant_id = t.id) AS endpoints, t.branding IS NOT NULL AS branding,
        EXISTS (SELECT 1 FROM oidc_connections WHERE tenant_id = t.id) AS oidc FROM tenants t WHERE t.id = ?";
    /// Binds an event of Stripe; returns a row if it was queued.
    STRIPE_EVENT_KNOWN: Present = "SELECT 1 AS present FROM stripe_events WHERE id = ?";
    /// Binds an event of Stripe and now: it was queued.
    STRIPE_EVENT_PUT: () = "INSERT INTO stripe_events (id, received_ms) VALUES (?, ?) ON CONFLICT (id) DO NOTHING";
    /// Binds a time.
    STRIPE_EVENTS_PURGE: () = "DELETE FROM stripe_events WHERE received_ms < ?";
    /// Binds a tenant.
    BILLING_ERASE: () = "DELETE FROM billing WHERE tenant_id = ?";
}
