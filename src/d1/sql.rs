//! Every statement of the directory and the records (D1).
//!
//! Amounts and ids are TEXT; times are integers of unix milliseconds.

use super::rows::{
    AddressRow, AppearanceRow, AuditRow, ChallengeRow, CheckRow, ChildRow, DefaultRow, ListedRecord, OpenPeriod,
    PreviousHolderRow, RecipientRow, RecordBody, RollupRow, StuckRow, TenantDefaultRow, TenantRow, TenantToLoad,
    UnshippedEvent,
};
use crate::storage::{Present, statements};
use x402_api::admin::KeyView;
use x402_core::tenancy::tenant::ApiKey;
use x402_core::webhook::subscription::WebhookSubscription;

statements! {
    /// A trivial question, for health.
    PING: Present = "SELECT 1 AS present";
    /// Binds id, email, company name, tier, region, limits, sanctions, whether to explain, now, now.
    /// A tier that is not free is an operator's.
    TENANT_PUT: () = "INSERT INTO tenants (id, email, company_name, tier, status, region, limits, sanctions, explain,
        version, created_ms, updated_ms, tier_by) VALUES (?1, ?2, ?3, ?4, 'active', ?5, ?6, ?7, ?8, 1, ?9, ?10,
        iif(?4 = 'free', 'billing', 'operator'))";
    /// Binds an id; returns the row.
    TENANT_GET: TenantRow = "SELECT id, email, company_name, tier, status, region, limits, sanctions, explain, version,
        created_ms, tier_by FROM tenants WHERE id = ?";
    /// Binds an id and a limit; returns older tenants, the newest first.
    TENANTS_BEFORE: TenantRow =
        "SELECT id, email, company_name, tier, status, region, limits, sanctions, explain, version,
        created_ms, tier_by FROM tenants WHERE id < ? ORDER BY id DESC LIMIT ?";
    /// Binds email, whether to set the name, name, tier, status, limits patch, sanctions, whether to explain, who sets the
    /// tier, now, id; `null` leaves a member as it is.
    TENANT_PATCH: () = "UPDATE tenants SET email = COALESCE(?, email),
        company_name = CASE WHEN ? = 1 THEN ? ELSE company_name END, tier = COALESCE(?, tier),
        status = COALESCE(?, status), limits = json_patch(limits, ?), sanctions = COALESCE(?, sanctions),
        explain = COALESCE(?, explain), tier_by = COALESCE(?, tier_by), version = version + 1, updated_ms = ? WHERE id = ?";
    /// Binds now and id: something of the tenant has changed.
    TENANT_TOUCH: () = "UPDATE tenants SET version = version + 1, updated_ms = ? WHERE id = ?";

    /// Binds id, tenant, action, subject, detail, prefix of the client's address, user agent, now, kind of actor, the
    /// actor's id or, of a person, the address, the environment or null, the most entries of the tenant or null, the id
    /// since which they count, and the person or key that must be an owner or hold, or null. Written if the statement before
    /// it in the batch has changed a row and no earlier one has written the entry. It violates `NOT NULL`, so that its batch
    /// fails as a whole, where the tenant has the most (and an owner has made as many alone), or whoever makes the change may not any more.
    AUDIT_PUT: () = "INSERT INTO audit_log (id, tenant_id, action, subject, detail, ip_prefix, user_agent, created_ms,
        actor_kind, actor_id, environment) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7,
        CASE WHEN (SELECT COUNT(*) FROM audit_log WHERE tenant_id = ?2 AND id > ?13) >= ?12
        AND NOT (EXISTS (SELECT 1 FROM members WHERE tenant_id = ?2 AND person_id = ?10 AND role = 'owner')
        AND (SELECT COUNT(*) FROM audit_log WHERE tenant_id = ?2 AND id > ?13 AND actor_id = ?10) < ?12)
        THEN NULL ELSE ?8 END, ?9,
        CASE WHEN ?14 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM members WHERE tenant_id = ?2 AND person_id = ?14
        AND role = 'owner') AND NOT EXISTS (SELECT 1 FROM api_keys WHERE id = ?14 AND tenant_id = ?2 AND revoked_ms IS NULL
        AND (grace_until_ms IS NULL OR grace_until_ms > ?8) AND (expires_ms IS NULL OR expires_ms > ?8)) THEN NULL
        WHEN instr(?10, '@') THEN (SELECT id FROM people WHERE email = ?10) ELSE ?10 END, ?11
        WHERE changes() > 0 AND NOT EXISTS (SELECT 1 FROM audit_log WHERE id = ?1)";
    /// Binds id, environment, kind, the id of the entry of the same change, and whether ledgers must load it: written with the
    /// entry, once. Events are kept in the records for good, so that none holds a person's address: in its place stands the
    /// entry's id.
    EVENT_PUT: () = "INSERT INTO directory_outbox (event_id, tenant_id, environment, kind, subject, body, created_ms,
        loaded_ms) SELECT ?1, tenant_id, ?2, ?3, iif(instr(subject, '@'), id, subject), json_object('action', action,
        'subject', iif(instr(subject, '@'), id, subject), 'detail', detail, 'actor_kind', actor_kind, 'actor', actor_id),
        created_ms, iif(?5, NULL, created_ms) FROM audit_log WHERE id = ?4 ON CONFLICT (event_id) DO NOTHING";
    /// Binds prefix of the client's address, now, the start of the span, the most reports of a prefix and of all in the span,
    /// and what a prefix may report beyond that of all; returns a row if neither is reached.
    REPORT_PUT: Present = "INSERT INTO key_reports (ip_prefix, created_ms) SELECT ?1, ?2
        WHERE (SELECT COUNT(*) FROM key_reports WHERE ip_prefix = ?1 AND created_ms > ?3) < ?4
        AND ((SELECT COUNT(*) FROM key_reports WHERE created_ms > ?3) < ?5
        OR (SELECT COUNT(*) FROM key_reports WHERE ip_prefix = ?1 AND created_ms > ?3) < ?6) RETURNING 1 AS present";
    /// Binds a time.
    REPORTS_PURGE: () = "DELETE FROM key_reports WHERE created_ms < ?";
    /// Binds tenant, two ids, an action and an actor, each null for all, a limit, and an environment or null for all; returns
    /// entries before the first id, from the second on, the newest first. What is about the tenant as a whole is of `live`.
    AUDIT_OF: AuditRow = "SELECT id, actor_kind, actor_id, action, subject, detail, ip_prefix, user_agent, created_ms
        FROM audit_log WHERE tenant_id = ?1 AND id < ?2 AND id >= ?3 AND (?4 IS NULL OR action = ?4)
        AND (?5 IS NULL OR actor_id = ?5) AND (?7 IS NULL OR COALESCE(environment, 'live') = ?7)
        ORDER BY id DESC LIMIT ?6";
    /// Binds a tenant; returns a row if a ledger may not have loaded a change.
    EVENTS_WAIT: Present = "SELECT 1 AS present FROM directory_outbox WHERE tenant_id = ? AND loaded_ms IS NULL
        AND shipped_ms IS NULL LIMIT 1";
    /// Binds a tenant; returns a row if an event is not shipped.
    EVENTS_LEFT: Present = "SELECT 1 AS present FROM directory_outbox WHERE tenant_id = ? AND shipped_ms IS NULL LIMIT 1";
    /// Binds a time or null, a limit, and a tenant or null; returns events of these, or all, that ledgers hold and that are not
    /// shipped, of those tried as often the oldest first.
    EVENTS_UNSHIPPED: UnshippedEvent = "SELECT event_id, tenant_id, environment, kind, subject, body, created_ms
        FROM directory_outbox WHERE loaded_ms IS NOT NULL AND shipped_ms IS NULL AND (?1 IS NULL OR created_ms = ?1)
        AND (?3 IS NULL OR tenant_id = ?3) ORDER BY tries, seq LIMIT ?2";
    /// Binds a time or null, a JSON list of events, and a time or null: they were shipped then, or were tried once more; since
    /// the last time webhook endpoints have them.
    EVENTS_NOTE: () = "UPDATE directory_outbox SET shipped_ms = ?1, heard_ms = ?3, tries = tries + 1
        WHERE shipped_ms IS NULL AND event_id IN (SELECT value FROM json_each(?2))";
    /// Binds a time or null, a limit, and a tenant or null; returns events of these, or all, that are shipped and that webhook
    /// endpoints may not have, of those tried as often the oldest first.
    EVENTS_UNHEARD: UnshippedEvent = "SELECT event_id, tenant_id, environment, kind, subject, body, created_ms
        FROM directory_outbox WHERE heard_ms IS NULL AND shipped_ms IS NOT NULL AND (?1 IS NULL OR created_ms = ?1)
        AND (?3 IS NULL OR tenant_id = ?3) ORDER BY tries, seq LIMIT ?2";
    /// Binds a time or null, and a JSON list of events: webhook endpoints have them, or were tried once more.
    EVENTS_HEARD: () = "UPDATE directory_outbox SET heard_ms = ?1, tries = tries + 1
        WHERE heard_ms IS NULL AND shipped_ms IS NOT NULL AND event_id IN (SELECT value FROM json_each(?2))";
    /// Binds a time or null, a limit, and a tenant or null; returns tenants with events of that time, or any, that ledgers do
    /// not hold: each with the last of these, and the tenants whose ledgers must load, itself and those that lost one of the
    /// addresses. What only adds something comes after ten tries of what takes something away.
    TENANTS_TO_LOAD: TenantToLoad = "WITH waiting AS MATERIALIZED (SELECT tenant_id, MAX(seq) AS last FROM directory_outbox
        WHERE loaded_ms IS NULL AND shipped_ms IS NULL AND (?1 IS NULL OR created_ms = ?1)
        AND (?3 IS NULL OR tenant_id = ?3) GROUP BY tenant_id
        ORDER BY MIN(loads + 10 * (kind IN ('key.created', 'recipient.added'))), MIN(seq) LIMIT ?2)
        SELECT w.tenant_id AS owner, w.last, t.id, t.version, t.region FROM waiting w LEFT JOIN tenants t ON t.id = w.tenant_id
        UNION SELECT w.tenant_id, w.last, t.id, t.version, t.region FROM waiting w JOIN directory_outbox o
        ON o.tenant_id = w.tenant_id AND o.loaded_ms IS NULL AND o.shipped_ms IS NULL
        JOIN recipients r ON r.environment IN ('live', 'test') AND r.address = o.subject JOIN tenants t ON t.id = r.taken_from";
    /// Binds a time or null, a tenant, and a number: the ledgers hold the tenant's events up to that one since then, or were
    /// tried once more.
    EVENTS_LOADED: () = "UPDATE directory_outbox SET loaded_ms = ?1, loads = loads + 1
        WHERE tenant_id = ?2 AND seq <= ?3 AND loaded_ms IS NULL AND shipped_ms IS NULL";
    /// Binds a time: events shipped before it.
    EVENTS_PURGE: () = "DELETE FROM directory_outbox WHERE shipped_ms IS NOT NULL AND shipped_ms < ?";

    /// Binds id, tenant, environment, name, hash, scopes, now, end, kind, end of its text, networks, the most keys of a
    /// tenant, and the person or the key that makes it, or null for an operator. Returns a row if those that hold are fewer,
    /// the tenant is not being deleted, and the maker may make it at this moment: a member in the role, or a key that is
    /// neither revoked nor replaced nor expired.
    KEY_PUT: Present = "INSERT INTO api_keys (id, tenant_id, environment, name, hash, scopes, created_ms, expires_ms, kind,
        last_four, allow_list) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11
        WHERE (SELECT COUNT(*) FROM api_keys WHERE tenant_id = ?2 AND revoked_ms IS NULL
        AND (grace_until_ms IS NULL OR grace_until_ms > ?7) AND (expires_ms IS NULL OR expires_ms > ?7)) < ?12
        AND (?13 IS NULL OR EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = ?2 AND m.person_id = ?13 AND (m.role = 'owner'
        OR (m.role = 'developer' AND NOT instr(?6, 'manage')))) OR EXISTS (SELECT 1 FROM api_keys a
        WHERE a.tenant_id = ?2 AND a.id = ?13 AND a.revoked_ms IS NULL AND a.grace_until_ms IS NULL
        AND (a.expires_ms IS NULL OR a.expires_ms > ?7)))
        AND NOT EXISTS (SELECT 1 FROM deletions WHERE tenant_id = ?2 AND due_ms IS NOT NULL) RETURNING 1 AS present";
    /// Binds the same without the most keys: a key of a new tenant.
    KEY_PUT_FIRST: () = "INSERT INTO api_keys (id, tenant_id, environment, name, hash, scopes, created_ms, expires_ms,
        kind, last_four, allow_list) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    /// Binds id, hash, end of its text, now, tenant, the key that is replaced, the most keys of a tenant, and who replaces
    /// it, or null for an operator; returns a row if that key holds, was not replaced before, those that hold are fewer, and
    /// whoever replaces it may do so at this moment, as in `KEY_PUT`.
    KEY_ROTATE: Present = "INSERT INTO api_keys (id, tenant_id, environment, name, hash, scopes, created_ms, expires_ms,
        kind, last_four, allow_list, rotated_from) SELECT ?1, tenant_id, environment, name, ?2, scopes, ?4, expires_ms,
        kind, ?3, allow_list, id FROM api_keys WHERE tenant_id = ?5 AND id = ?6 AND revoked_ms IS NULL
        AND grace_until_ms IS NULL AND (expires_ms IS NULL OR expires_ms > ?4)
        AND (SELECT COUNT(*) FROM api_keys o WHERE o.tenant_id = ?5 AND o.revoked_ms IS NULL
        AND (o.grace_until_ms IS NULL OR o.grace_until_ms > ?4) AND (o.expires_ms IS NULL OR o.expires_ms > ?4)) < ?7
        AND (?8 IS NULL OR EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = ?5 AND m.person_id = ?8 AND (m.role = 'owner'
        OR (m.role = 'developer' AND NOT instr(api_keys.scopes, 'manage')))) OR EXISTS (SELECT 1 FROM api_keys a
        WHERE a.tenant_id = ?5 AND a.id = ?8 AND a.revoked_ms IS NULL AND a.grace_until_ms IS NULL
        AND (a.expires_ms IS NULL OR a.expires_ms > ?4))) RETURNING 1 AS present";
    /// Binds tenant, a person or a key, the scopes of a key as JSON, and now; returns a row if that maker may make such a key
    /// at this moment, as in `KEY_PUT`.
    KEY_MAKER: Present = "SELECT 1 AS present WHERE EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = ?1
        AND m.person_id = ?2 AND (m.role = 'owner' OR (m.role = 'developer' AND NOT instr(?3, 'manage'))))
        OR EXISTS (SELECT 1 FROM api_keys a WHERE a.tenant_id = ?1 AND a.id = ?2 AND a.revoked_ms IS NULL
        AND a.grace_until_ms IS NULL AND (a.expires_ms IS NULL OR a.expires_ms > ?4))";
    /// Binds a time, tenant, a key, and the key that replaces it: if that was written, the key holds until then.
    KEY_GRACE: () = "UPDATE api_keys SET grace_until_ms = ?1 WHERE tenant_id = ?2 AND id = ?3
        AND EXISTS (SELECT 1 FROM api_keys WHERE id = ?4)";
    /// Binds now and tenant: keys that were replaced and hold no longer are revoked.
    KEYS_END: () = "UPDATE api_keys SET revoked_ms = grace_until_ms WHERE grace_until_ms <= ? AND tenant_id = ?
        AND revoked_ms IS NULL";
    /// Binds a tenant and now; returns its newest thousand keys and every one that holds, the newest first.
    KEYS_OF: KeyView = "SELECT id, environment, kind, name, last_four, scopes, allow_list, created_ms, expires_ms,
        rotated_from, grace_until_ms, revoked_ms, last_used_ms FROM api_keys WHERE tenant_id = ?1 AND ((revoked_ms IS NULL
        AND (expires_ms IS NULL OR expires_ms > ?2))
        OR id IN (SELECT id FROM api_keys WHERE tenant_id = ?1 ORDER BY id DESC LIMIT 1000)) ORDER BY id DESC LIMIT 2000";
    /// Binds tenant and id; returns the key.
    KEY_GET: KeyView = "SELECT id, environment, kind, name, last_four, scopes, allow_list, created_ms, expires_ms,
        rotated_from, grace_until_ms, revoked_ms, last_used_ms FROM api_keys WHERE tenant_id = ? AND id = ?";
    /// Binds tenant and a key's hash; returns the key.
    KEY_BY_HASH: KeyView = "SELECT id, environment, kind, name, last_four, scopes, allow_list, created_ms, expires_ms,
        rotated_from, grace_until_ms, revoked_ms, last_used_ms FROM api_keys WHERE tenant_id = ? AND hash = ?";
    /// Binds tenant, environment and now; returns keys that are not revoked and have not expired. One that was replaced ends
    /// with its grace time.
    KEYS_IN_FORCE: ApiKey = "SELECT id, name, hash, scopes, created_ms, CASE WHEN grace_until_ms IS NULL THEN expires_ms
        ELSE MIN(grace_until_ms, COALESCE(expires_ms, grace_until_ms)) END AS expires_ms, allow_list FROM api_keys
        WHERE tenant_id = ?1 AND environment = ?2 AND revoked_ms IS NULL AND (expires_ms IS NULL OR expires_ms > ?3)
        LIMIT 1000";
    /// Binds tenant and environment; returns the endpoints, those that are disabled too.
    ENDPOINTS_OF_TENANT: WebhookSubscription = "SELECT id, events, disabled_ms, active_ms,
        earlier_disabled_ms, earlier_active_ms FROM webhook_endpoints WHERE tenant_id = ? AND environment = ? LIMIT 100";
    /// Binds a reason, now, an id, and the URL that has failed, or null where it is not known; returns a row unless the endpoint is
    /// disabled or gone, or has another URL.
    ENDPOINT_DISABLE: Present = "UPDATE webhook_endpoints SET status = 'disabled', disabled_reason = ?1, updated_ms = ?2
        WHERE id = ?3 AND status <> 'disabled' AND (?4 IS NULL OR url = ?4) RETURNING 1 AS present";
    /// Binds now, tenant, id; returns a row if the key was not revoked.
    KEY_REVOKE: Present = "UPDATE api_keys SET revoked_ms = ? WHERE tenant_id = ? AND id = ? AND revoked_ms IS NULL
        RETURNING 1 AS present";
    /// Binds time, tenant, id; never goes back.
    KEY_USED: () =
        "UPDATE api_keys SET last_used_ms = MAX(COALESCE(last_used_ms, 0), ?) WHERE tenant_id = ? AND id = ?";

    /// Binds tenant, environment, address; returns as `tenant_id` the tenant that holds the address by its first use
    /// alone, or held it so before it was taken, unless it is the one bound; or null.
    RECIPIENT_LOSER: PreviousHolderRow =
        "SELECT CASE WHEN first_use = 1 AND tenant_id <> ? THEN tenant_id ELSE taken_from END AS tenant_id
        FROM recipients WHERE environment = ? AND address = ?";
    /// Binds now, environment, address, tenant: the tenant that loses the address has changed.
    RECIPIENT_LOSER_TOUCH: () = "UPDATE tenants SET version = version + 1, updated_ms = ? WHERE id =
        (SELECT tenant_id FROM recipients WHERE environment = ? AND address = ? AND first_use = 1 AND tenant_id <> ?)";
    /// Binds tenant, now, environment, address, tenant: the address is taken from a tenant that holds it by its first
    /// use alone, or did before it removed it.
    RECIPIENT_TAKE: () = "UPDATE recipients SET taken_from = tenant_id, tenant_id = ?, created_ms = ?,
        first_use = 0, removed_ms = NULL WHERE environment = ? AND address = ? AND first_use = 1 AND tenant_id <> ?";
    /// Binds environment, address, tenant: a removed address of the tenant comes back, what it held by its first use it
    /// holds for good, and what it had proven for some chains it holds on all.
    RECIPIENT_RESTORE: () = "UPDATE recipients SET removed_ms = NULL, first_use = 0, proof = NULL, only_on = NULL,
        added_by = NULL WHERE environment = ? AND address = ? AND tenant_id = ?
        AND (removed_ms IS NOT NULL OR first_use = 1 OR only_on IS NOT NULL)";
    /// Binds environment, address, tenant, now, and again environment, address, tenant. Fails where another
    /// tenant holds the address, or held it.
    RECIPIENT_PUT: () = "INSERT INTO recipients (environment, address, tenant_id, created_ms)
        SELECT ?, ?, ?, ? WHERE NOT EXISTS
        (SELECT 1 FROM recipients WHERE environment = ? AND address = ? AND tenant_id = ?)";
    /// Binds environment, address, tenant, now, again tenant and environment, and the most that a tenant may hold so:
    /// the address is the tenant's by its first use, unless anybody holds it, or held it.
    RECIPIENT_FIRST_USE: () = "INSERT INTO recipients (environment, address, tenant_id, created_ms, first_use)
        SELECT ?, ?, ?, ?, 1 WHERE (SELECT COUNT(*) FROM recipients
        WHERE tenant_id = ? AND environment = ? AND first_use = 1) < ? ON CONFLICT (environment, address) DO NOTHING";
    /// Binds now, tenant, environment, address, tenant: the tenant has changed if it holds the address so.
    FIRST_USER_TOUCH: () = "UPDATE tenants SET version = version + 1, updated_ms = ? WHERE id = ? AND EXISTS
        (SELECT 1 FROM recipients WHERE environment = ? AND address = ? AND tenant_id = ? AND first_use = 1
        AND removed_ms IS NULL)";
    /// Binds tenant, environment, now; returns the index of a child that nobody had.
    DERIVED_PUT: ChildRow =
        "INSERT INTO derived_recipients (tenant_id, environment, created_ms) VALUES (?, ?, ?) RETURNING id AS number";
    /// Binds tenant, environment, now, and a time: a child that was asked for by then, and registered nowhere, is given again.
    DERIVED_AGAIN: ChildRow = "UPDATE derived_recipients SET open_ms = ?3 WHERE id = (SELECT id FROM derived_recipients
        WHERE tenant_id = ?1 AND environment = ?2 AND open_ms IS NOT NULL AND open_ms <= ?4 ORDER BY id LIMIT 1)
        RETURNING id AS number";
    /// Binds tenant, environment, now, and the most addresses that a tenant may have in force, those that are being derived
    /// included; returns the index of a child that nobody had, unless that number is reached.
    DERIVED_OPEN: ChildRow = "INSERT INTO derived_recipients (tenant_id, environment, created_ms, open_ms)
        SELECT ?1, ?2, ?3, ?3 WHERE (SELECT COUNT(*) FROM recipients WHERE tenant_id = ?1 AND removed_ms IS NULL)
        + (SELECT COUNT(*) FROM derived_recipients WHERE tenant_id = ?1 AND open_ms IS NOT NULL) < ?4
        RETURNING id AS number";
    /// Binds the index of a child: it is registered.
    DERIVED_DONE: () = "UPDATE derived_recipients SET open_ms = NULL WHERE id = ?";
    /// Binds tenant; returns its addresses, removed ones too.
    RECIPIENTS_OF: RecipientRow = "SELECT environment, address, only_on, proof, created_ms, removed_ms FROM recipients
        WHERE tenant_id = ? ORDER BY environment, created_ms LIMIT 5000";
    /// Binds tenant, environment, address; returns the address, removed or not.
    RECIPIENT_OF: RecipientRow = "SELECT environment, address, only_on, proof, created_ms, removed_ms FROM recipients
        WHERE tenant_id = ? AND environment = ? AND address = ?";
    /// Binds tenant and environment; returns its addresses.
    RECIPIENTS_IN_FORCE: AddressRow = "SELECT address, first_use, only_on FROM recipients
        WHERE tenant_id = ? AND environment = ? AND removed_ms IS NULL ORDER BY created_ms, address LIMIT 5000";
    /// Binds now, tenant, address: retired in both environments.
    RECIPIENT_REMOVE: () =
        "UPDATE recipients SET removed_ms = ? WHERE tenant_id = ? AND address = ? AND removed_ms IS NULL";
    /// Binds tenant, chain, address.
    DEFAULT_PUT: () = "INSERT INTO default_recipients (tenant_id, chain, address) VALUES (?, ?, ?)
        ON CONFLICT (tenant_id, chain) DO UPDATE SET address = excluded.address
        WHERE default_recipients.address <> excluded.address";
    /// Binds tenant, chain, address: only where the chain has none.
    DEFAULT_PUT_FIRST: () = "INSERT INTO default_recipients (tenant_id, chain, address) VALUES (?, ?, ?)
        ON CONFLICT (tenant_id, chain) DO NOTHING";
    /// Binds tenant and address.
    DEFAULTS_REMOVE: () = "DELETE FROM default_recipients WHERE tenant_id = ? AND address = ?";
    /// Binds tenant; returns chain and address.
    DEFAULTS_OF: DefaultRow = "SELECT chain, address FROM default_recipients WHERE tenant_id = ? ORDER BY chain";
    /// Binds a JSON list of tenants; returns tenant, chain, address.
    DEFAULTS_OF_MANY: TenantDefaultRow = "SELECT tenant_id, chain, address FROM default_recipients
        WHERE tenant_id IN (SELECT value FROM json_each(?)) ORDER BY tenant_id, chain";

    /// Binds nonce, tenant, environment, chain, address, service, now, end, and the most challenges of a tenant that hold;
    /// returns a row if the tenant has fewer.
    CHALLENGE_PUT: Present = "INSERT INTO recipient_challenges (nonce, tenant_id, environment, chain, address, service,
        created_ms, expires_ms) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE (SELECT COUNT(*) FROM recipient_challenges
        WHERE tenant_id = ?2 AND expires_ms > ?7 AND uses = 0 AND tries < ?10) < ?9
        AND (SELECT COUNT(*) FROM recipient_challenges WHERE tenant_id = ?2 AND expires_ms > ?7) < ?11
        RETURNING 1 AS present";
    /// Binds nonce, tenant, environment, chain, address, the most tries, now; counts a try, and returns the challenge if it
    /// holds and is of all these.
    CHALLENGE_TRY: ChallengeRow = "UPDATE recipient_challenges SET tries = tries + 1 WHERE nonce = ? AND tenant_id = ?
        AND environment = ? AND chain = ? AND address = ? AND uses = 0 AND tries < ? AND expires_ms > ?
        RETURNING service, expires_ms";
    /// Binds nonce, tenant, environment, chain, address, now; returns a row if the challenge is of all these, was used
    /// before its end, and the address is the tenant's.
    CHALLENGE_USED: Present = "SELECT 1 AS present FROM recipient_challenges c JOIN recipients r
        ON r.environment = c.environment AND r.address = c.address AND r.tenant_id = c.tenant_id
        WHERE c.nonce = ? AND c.tenant_id = ? AND c.environment = ? AND c.chain = ? AND c.address = ? AND c.uses = 1
        AND c.expires_ms > ? AND r.removed_ms IS NULL";
    /// Binds a nonce: a second use fails the batch.
    CHALLENGE_USE: () = "UPDATE recipient_challenges SET uses = uses + 1 WHERE nonce = ?";
    /// Binds a time: challenges that ended before it.
    CHALLENGES_PURGE: () = "DELETE FROM recipient_challenges WHERE expires_ms < ?";
    /// Binds environment, address, tenant, now, proof, a JSON list of one chain or null, and who registers it: an address
    /// that nobody has, that the tenant has or had, or that is held by first use alone becomes the tenant's. Returns a row
    /// unless another tenant has it, or had it. The chain is added to those before; an address for all chains stays so.
    RECIPIENT_PROVE: Present = "INSERT INTO recipients (environment, address, tenant_id, created_ms, proof, only_on,
        added_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (environment, address) DO UPDATE SET
        proof = CASE WHEN excluded.only_on IS NOT NULL AND recipients.tenant_id = excluded.tenant_id
            AND recipients.removed_ms IS NULL AND recipients.first_use = 0 AND recipients.only_on IS NULL
            THEN recipients.proof ELSE excluded.proof END,
        only_on = CASE WHEN excluded.only_on IS NULL OR recipients.tenant_id <> excluded.tenant_id
            OR recipients.removed_ms IS NOT NULL OR recipients.first_use = 1 THEN excluded.only_on
            WHEN recipients.only_on IS NULL THEN NULL
            WHEN excluded.only_on ->> 0 IN (SELECT value FROM json_each(recipients.only_on)) THEN recipients.only_on
            ELSE json_insert(recipients.only_on, '$[#]', excluded.only_on ->> 0) END,
        taken_from = CASE WHEN recipients.tenant_id <> excluded.tenant_id THEN recipients.tenant_id
            ELSE recipients.taken_from END,
        created_ms = CASE WHEN recipients.tenant_id <> excluded.tenant_id THEN excluded.created_ms
            ELSE recipients.created_ms END,
        tenant_id = excluded.tenant_id, added_by = excluded.added_by, first_use = 0, removed_ms = NULL
        WHERE recipients.tenant_id = excluded.tenant_id OR recipients.first_use = 1
        OR (recipients.proof = 'erc1271' AND excluded.proof = 'eip191') RETURNING 1 AS present";
    /// Binds tenant, environment, address, proof; returns as `tenant_id` the tenant that loses the address by the proof, or
    /// lost it before, or null.
    PROOF_LOSER: PreviousHolderRow = "SELECT CASE WHEN tenant_id <> ?1
        AND (first_use = 1 OR (proof = 'erc1271' AND ?4 = 'eip191')) THEN tenant_id ELSE taken_from END AS tenant_id
        FROM recipients WHERE environment = ?2 AND address = ?3";
    /// Binds tenant, environment, address, proof, now: the tenant that loses the address has changed.
    PROOF_LOSER_TOUCH: () = "UPDATE tenants SET version = version + 1, updated_ms = ?5 WHERE id =
        (SELECT tenant_id FROM recipients WHERE environment = ?2 AND address = ?3 AND tenant_id <> ?1
        AND (first_use = 1 OR (proof = 'erc1271' AND ?4 = 'eip191')))";
    /// Binds tenant, environment, address; returns the other tenant that has the address, or had it.
    OTHER_HOLDER: PreviousHolderRow =
        "SELECT tenant_id FROM recipients WHERE tenant_id <> ? AND environment = ? AND address = ?";
    /// Binds tenant, environment, address and a JSON list of chains: the address is the default of none of them, if it is not
    /// the tenant's.
    DEFAULTS_LOST: () = "DELETE FROM default_recipients WHERE tenant_id = ?1 AND address = ?3
        AND chain IN (SELECT value FROM json_each(?4)) AND NOT EXISTS (SELECT 1 FROM recipients
        WHERE environment = ?2 AND address = ?3 AND tenant_id = ?1)";
    /// Binds tenant, chain, address, environment, and whether to replace another default; the address must be the tenant's
    /// on the chain. Returns a row if the default changes.
    DEFAULT_PUT_HELD: Present = "INSERT INTO default_recipients (tenant_id, chain, address) SELECT ?1, ?2, ?3
        WHERE EXISTS (SELECT 1 FROM recipients WHERE environment = ?4 AND address = ?3 AND tenant_id = ?1
        AND removed_ms IS NULL AND (only_on IS NULL OR ?2 IN (SELECT value FROM json_each(only_on))))
        ON CONFLICT (tenant_id, chain) DO UPDATE SET address = excluded.address
        WHERE ?5 = 1 AND default_recipients.address <> excluded.address RETURNING 1 AS present";
    /// Binds now, tenant, address, environment; returns a row if the address was in force.
    RECIPIENT_RETIRE: Present = "UPDATE recipients SET removed_ms = ? WHERE tenant_id = ? AND address = ?
        AND environment = ? AND removed_ms IS NULL RETURNING 1 AS present";
    /// Binds tenant, address and a JSON list of chains.
    DEFAULTS_RETIRE: () = "DELETE FROM default_recipients WHERE tenant_id = ? AND address = ?
        AND chain IN (SELECT value FROM json_each(?))";
    /// Binds a tenant; returns what it shows of itself.
    APPEARANCE_OF: AppearanceRow = "SELECT support_address, branding, tier FROM tenants WHERE id = ?";
    /// Binds whether to set the name, name, whether to set the support address, address, sanctions or null, whether to set
    /// the branding, branding, now, id, whether to set the URL of alerts, the URL sealed and its host, and whether alerts are
    /// mailed or null. Returns a row if something changes; a URL that is set is a change.
    TENANT_SETTINGS_PUT: Present = "UPDATE tenants SET
        company_name = CASE WHEN ?1 = 1 THEN ?2 ELSE company_name END,
        support_address = CASE WHEN ?3 = 1 THEN ?4 ELSE support_address END, sanctions = COALESCE(?5, sanctions),
        branding = CASE WHEN ?6 = 1 THEN ?7 ELSE branding END,
        alert_url = CASE WHEN ?10 = 1 THEN ?11 ELSE alert_url END,
        alert_host = CASE WHEN ?10 = 1 THEN ?12 ELSE alert_host END, alert_mails = COALESCE(?13, alert_mails),
        version = version + 1, updated_ms = ?8
        WHERE id = ?9 AND ((?1 = 1 AND company_name IS NOT ?2) OR (?3 = 1 AND support_address IS NOT ?4)
        OR sanctions <> ?5 OR (?6 = 1 AND branding IS NOT ?7)
        OR (?10 = 1 AND alert_url IS NOT ?11) OR alert_mails <> ?13) RETURNING 1 AS present";

    /// Binds tenant, environment, id; returns the body. The table holds what the builds before 0009 have shipped.
    RECORD_GET: RecordBody = "SELECT body FROM verifications WHERE tenant_id = ? AND environment = ? AND id = ?";
    /// Binds tenant, environment, id, limit; returns older records, the newest first.
    RECORDS_BEFORE: ListedRecord = "SELECT id, body FROM verifications
        WHERE tenant_id = ? AND environment = ? AND id < ? ORDER BY id DESC LIMIT ?";
    /// Binds tenant, environment, and a JSON list of totals: span, start, chain, outcome, count, amount, revision. An
    /// older revision changes nothing.
    ROLLUPS_PUT: () = "INSERT INTO rollups (tenant_id, environment, span, start_ms, chain, outcome, count, amount,
        revision) SELECT ?, ?, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
        FROM json_each(?) WHERE true ON CONFLICT (tenant_id, environment, span, start_ms, chain, outcome) DO UPDATE SET
        count = excluded.count, amount = excluded.amount, revision = excluded.revision
        WHERE excluded.revision > rollups.revision";
    /// Binds tenant, environment, a time and a later one; returns the totals of the hours from the first, before the
    /// second.
    ROLLUPS_OF_DAY: RollupRow = "SELECT start_ms, chain, outcome, count, amount, revision FROM rollups
        WHERE tenant_id = ? AND environment = ? AND span = 'hour' AND start_ms >= ? AND start_ms < ?";
    /// Binds id, tenant, environment, time, network, status, body, revision, progress. An older revision changes nothing.
    SETTLEMENT_PUT: () =
        "INSERT INTO settlements (id, tenant_id, environment, created_ms, network, status, body, revision, course)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body,
        revision = excluded.revision, course = excluded.course WHERE excluded.revision > settlements.revision";
    /// Binds tenant, environment, two ids and a limit; returns settlements before the first, from the second on, the newest
    /// first.
    SETTLEMENTS_BEFORE: ListedRecord = "SELECT id, body FROM settlements
        WHERE tenant_id = ? AND environment = ? AND id < ? AND id >= ? ORDER BY id DESC LIMIT ?";
    /// Binds tenant, environment, period, verifications, requests, now; totals never shrink.
    USAGE_PUT: () = "INSERT INTO period_usage (tenant_id, environment, period, verifications, requests, updated_ms)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (tenant_id, environment, period) DO UPDATE SET
        verifications = MAX(verifications, excluded.verifications), requests = MAX(requests, excluded.requests),
        updated_ms = excluded.updated_ms";
    /// Binds the current period and a limit; returns tenants and environments of periods not yet closed.
    USAGE_OPEN: OpenPeriod = "SELECT tenant_id, environment, period FROM period_usage
        WHERE closed_ms IS NULL AND period < ? ORDER BY period, tenant_id LIMIT ?";
    /// Binds now, tenant, environment, period.
    USAGE_CLOSE: () = "UPDATE period_usage SET closed_ms = ?
        WHERE tenant_id = ? AND environment = ? AND period = ? AND closed_ms IS NULL";

    /// Binds settler, chain, number of flights, now.
    STUCK_PUT: () = "INSERT INTO stuck_flights (settler, chain, flights, reported_ms) VALUES (?, ?, ?, ?)
        ON CONFLICT (settler) DO UPDATE SET chain = excluded.chain, flights = excluded.flights,
        reported_ms = excluded.reported_ms";
    /// Binds a time; returns chain and number of flights that were reported stuck since. One row a signer.
    STUCK_GET: StuckRow =
        "SELECT chain, SUM(flights) AS number FROM stuck_flights WHERE reported_ms > ? AND flights > 0 GROUP BY chain";
    /// Returns chain and last definite outcome.
    CHECKS_GET: CheckRow = "SELECT chain, outcome FROM chain_checks";
    /// Binds chain, outcome, report, now. An unreachable chain keeps its last definite outcome.
    CHECK_PUT: () = "INSERT INTO chain_checks (chain, outcome, report, checked_ms) VALUES (?, ?, ?, ?)
        ON CONFLICT (chain) DO UPDATE SET
        outcome = CASE WHEN excluded.outcome = 'unreachable' THEN chain_checks.outcome ELSE excluded.outcome END,
        report = excluded.report, checked_ms = excluded.checked_ms";
}
