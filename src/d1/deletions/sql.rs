//! The statements about deletions of tenants.

use super::rows::{DeletionMail, DeletionRow, DueDeletion, ErasedMember};
use crate::storage::{Present, statements};

statements! {
    /// Binds a tenant.
    DELETION_GET: DeletionRow =
        "SELECT token_hash, expires_ms, due_ms, erasing_ms FROM deletions WHERE tenant_id = ?";
    /// Binds tenant, id, token's hash, person, now, end, the person's address, the start of the day, and the most mails of
    /// this kind to an address in a day. Replaces a question that is open; returns a row unless that number is reached, or
    /// the deletion was confirmed.
    DELETION_ASK: Present = "INSERT INTO deletions (tenant_id, id, token_hash, asked_by, asked_ms, expires_ms)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6
        WHERE (SELECT COUNT(*) FROM mails WHERE address = ?7 AND created_ms > ?8 AND kind = 'deletion') < ?9
        ON CONFLICT (tenant_id) DO UPDATE SET id = excluded.id, token_hash = excluded.token_hash,
        asked_by = excluded.asked_by, asked_ms = excluded.asked_ms, expires_ms = excluded.expires_ms
        WHERE deletions.due_ms IS NULL RETURNING 1 AS present";
    /// Binds id, address, origin, a deletion's id, now: the question's mail, if the question was written.
    DELETION_MAIL_PUT: () = "INSERT INTO mails (id, kind, address, origin, subject_id, state, created_ms)
        SELECT ?1, 'deletion', ?2, ?3, ?4, 'queued', ?5 WHERE EXISTS (SELECT 1 FROM deletions WHERE id = ?4)";
    /// Binds a mail's id; returns what its text is made of, unless it was sent or the question is answered or replaced.
    DELETION_MAIL_GET: DeletionMail = "SELECT m.address, m.origin, d.id, d.tenant_id, d.token_hash, d.expires_ms
        FROM mails m JOIN deletions d ON d.id = m.subject_id
        WHERE m.id = ? AND m.state = 'queued' AND d.due_ms IS NULL";
    /// Binds when it is due, tenant, token's hash, now; returns a row if the question was open.
    DELETION_CONFIRM: Present = "UPDATE deletions SET due_ms = ?1 WHERE tenant_id = ?2 AND token_hash = ?3
        AND due_ms IS NULL AND expires_ms > ?4 RETURNING 1 AS present";
    /// Binds now and a tenant: its keys are dead, if its deletion is confirmed.
    DELETION_KEYS: () = "UPDATE api_keys SET revoked_ms = ?1 WHERE tenant_id = ?2 AND revoked_ms IS NULL
        AND EXISTS (SELECT 1 FROM deletions WHERE tenant_id = ?2 AND due_ms IS NOT NULL)";
    /// Binds now and a tenant: both its ledgers know that.
    DELETION_CLOSED: () = "UPDATE deletions SET closed_ms = ? WHERE tenant_id = ? AND due_ms IS NOT NULL
        AND closed_ms IS NULL";
    /// Binds a tenant and now; returns a row if the deletion was confirmed and is not due.
    DELETION_UNDO: Present = "DELETE FROM deletions WHERE tenant_id = ? AND due_ms > ? AND erasing_ms IS NULL
        RETURNING 1 AS present";

    /// Binds now and a limit; returns deletions that are due or of which a ledger may not know, those tried least first.
    DELETIONS_OPEN: DueDeletion = "SELECT tenant_id, due_ms, erasing_ms FROM deletions
        WHERE due_ms IS NOT NULL AND erased_ms IS NULL AND (closed_ms IS NULL OR due_ms <= ?)
        ORDER BY tries, due_ms LIMIT ?";
    /// Binds a time and a limit; returns deletions whose erasure began before it and is not done.
    DELETIONS_LATE: DueDeletion = "SELECT tenant_id, due_ms, erasing_ms FROM deletions
        WHERE due_ms IS NOT NULL AND erased_ms IS NULL AND erasing_ms < ? ORDER BY tries, due_ms LIMIT ?";
    /// Binds a tenant: one more run.
    DELETION_TRIED: () = "UPDATE deletions SET tries = tries + 1 WHERE tenant_id = ?";
    /// Binds now and a tenant; returns a row if its deletion is due: from then on nobody undoes it.
    ERASURE_BEGIN: Present = "UPDATE deletions SET erasing_ms = COALESCE(erasing_ms, ?1) WHERE tenant_id = ?2
        AND (due_ms <= ?1 OR erasing_ms IS NOT NULL) AND erased_ms IS NULL RETURNING 1 AS present";
    /// Binds now and a tenant: its row names nobody, and its address is free.
    TENANT_ERASE: () = "UPDATE tenants SET email = id || '@erased.invalid', company_name = NULL, support_address = NULL,
        branding = NULL, alert_url = NULL, alert_host = NULL, status = 'cancelled', version = version + 1, updated_ms = ?1
        WHERE id = ?2
        AND (email <> id || '@erased.invalid' OR company_name IS NOT NULL OR support_address IS NOT NULL
        OR branding IS NOT NULL OR alert_url IS NOT NULL OR status <> 'cancelled')";
    /// Binds a tenant and a limit.
    ERASED_MEMBERS: ErasedMember =
        "SELECT person_id FROM members WHERE tenant_id = ? ORDER BY person_id LIMIT ?";
    /// Binds a tenant and a JSON list of people.
    MEMBERS_ERASE: () =
        "DELETE FROM members WHERE tenant_id = ? AND person_id IN (SELECT value FROM json_each(?))";
    /// Binds a JSON list of people: the mails in the mailbox of those without a tenant.
    PEOPLE_MAILBOX_ERASE: () = "DELETE FROM mailbox WHERE mail_id IN (SELECT m.id FROM json_each(?)
        JOIN people p ON p.id = json_each.value JOIN mails m ON m.address = p.email
        WHERE NOT EXISTS (SELECT 1 FROM members WHERE person_id = p.id))";
    /// Binds the same: their mails.
    PEOPLE_MAILS_ERASE: () = "DELETE FROM mails WHERE address IN (SELECT p.email FROM json_each(?)
        JOIN people p ON p.id = json_each.value WHERE NOT EXISTS (SELECT 1 FROM members WHERE person_id = p.id))";
    /// Binds the same: their requests to sign in.
    PEOPLE_SIGN_INS_ERASE: () = "DELETE FROM sign_ins WHERE email IN (SELECT p.email FROM json_each(?)
        JOIN people p ON p.id = json_each.value WHERE NOT EXISTS (SELECT 1 FROM members WHERE person_id = p.id))";
    /// Binds the same: the marks of their addresses.
    PEOPLE_MARKS_ERASE: () = "DELETE FROM mail_addresses WHERE address IN (SELECT p.email FROM json_each(?)
        JOIN people p ON p.id = json_each.value WHERE NOT EXISTS (SELECT 1 FROM members WHERE person_id = p.id))";
    /// Binds the same: who they are for other services.
    PEOPLE_IDENTITIES_ERASE: () = "DELETE FROM identities WHERE person_id IN (SELECT json_each.value FROM json_each(?)
        WHERE NOT EXISTS (SELECT 1 FROM members WHERE person_id = json_each.value))";
    /// Binds the same: their sessions.
    PEOPLE_SESSIONS_ERASE: () = "DELETE FROM sessions WHERE person_id IN (SELECT json_each.value FROM json_each(?)
        WHERE NOT EXISTS (SELECT 1 FROM members WHERE person_id = json_each.value))";
    /// Binds the same: they.
    PEOPLE_ERASE: () = "DELETE FROM people WHERE id IN (SELECT json_each.value FROM json_each(?)
        WHERE NOT EXISTS (SELECT 1 FROM members WHERE person_id = json_each.value))";
    /// Binds a tenant and a limit: sessions that acted for it.
    SESSIONS_ERASE: () =
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE tenant_id = ? LIMIT ?)";
    /// Binds a tenant and a limit: the mails in the mailbox of its oldest invitations.
    INVITATIONS_MAILBOX_ERASE: () = "DELETE FROM mailbox WHERE mail_id IN (SELECT id FROM mails
        WHERE address IN (SELECT email FROM invitations WHERE tenant_id = ?1 ORDER BY created_ms, id LIMIT ?2)
        AND subject_id IN (SELECT id FROM invitations WHERE tenant_id = ?1 ORDER BY created_ms, id LIMIT ?2))";
    /// Binds the same: those mails.
    INVITATIONS_MAILS_ERASE: () = "DELETE FROM mails WHERE id IN (SELECT id FROM mails
        WHERE address IN (SELECT email FROM invitations WHERE tenant_id = ?1 ORDER BY created_ms, id LIMIT ?2)
        AND subject_id IN (SELECT id FROM invitations WHERE tenant_id = ?1 ORDER BY created_ms, id LIMIT ?2))";
    /// Binds the same: those invitations.
    INVITATIONS_ERASE: () = "DELETE FROM invitations WHERE id IN
        (SELECT id FROM invitations WHERE tenant_id = ? ORDER BY created_ms, id LIMIT ?)";
    /// Binds a tenant and a limit: its oldest entries that name a network, with the addresses of people in them.
    AUDIT_ERASE: () = "UPDATE audit_log SET ip_prefix = 'erased', user_agent = NULL,
        subject = iif(instr(subject, '@'), 'erased', subject) WHERE id IN (SELECT id FROM audit_log
        WHERE tenant_id = ? AND ip_prefix <> 'erased' ORDER BY id LIMIT ?)";
    /// Binds a tenant and a limit: the names of its keys, and the networks from which they could be used.
    KEYS_ERASE: () = "UPDATE api_keys SET name = 'erased', allow_list = '[]' WHERE id IN (SELECT id FROM api_keys
        WHERE tenant_id = ? AND (name <> 'erased' OR allow_list <> '[]') LIMIT ?)";
    /// Binds a tenant: its identity provider.
    OIDC_ERASE: () = "DELETE FROM oidc_connections WHERE tenant_id = ?";
    /// Binds the same: who people are for that provider.
    OIDC_IDENTITIES_ERASE: () = "DELETE FROM identities WHERE provider = 'oidc ' || ?";
    /// Binds a tenant and a limit: records that an older build has shipped.
    VERIFICATIONS_ERASE: () =
        "DELETE FROM verifications WHERE id IN (SELECT id FROM verifications WHERE tenant_id = ? LIMIT ?)";
    /// Binds the same: its alerts.
    ALERTS_ERASE: () = "DELETE FROM alerts WHERE event_id IN (SELECT event_id FROM alerts WHERE tenant_id = ? LIMIT ?)";
    /// Binds the same: the notices about them.
    NOTICES_ERASE: () = "DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE tenant_id = ? LIMIT ?)";
    /// Binds the same: events of that build.
    EVENTS_ERASE: () = "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE tenant_id = ? LIMIT ?)";
    /// Binds a tenant.
    CHALLENGES_ERASE: () = "DELETE FROM recipient_challenges WHERE tenant_id = ?";
    /// Binds now and a tenant; returns a row if nothing personal was left.
    ERASURE_END: Present = "UPDATE deletions SET erased_ms = ?1, token_hash = '' WHERE tenant_id = ?2
        AND erasing_ms IS NOT NULL AND erased_ms IS NULL
        AND NOT EXISTS (SELECT 1 FROM members WHERE tenant_id = ?2)
        AND NOT EXISTS (SELECT 1 FROM invitations WHERE tenant_id = ?2)
        AND NOT EXISTS (SELECT 1 FROM sessions WHERE tenant_id = ?2)
        AND NOT EXISTS (SELECT 1 FROM oidc_connections WHERE tenant_id = ?2)
        AND NOT EXISTS (SELECT 1 FROM webhook_endpoints WHERE tenant_id = ?2)
        AND NOT EXISTS (SELECT 1 FROM identities WHERE provider = 'oidc ' || ?2)
        AND NOT EXISTS (SELECT 1 FROM audit_log WHERE tenant_id = ?2 AND ip_prefix <> 'erased')
        AND NOT EXISTS (SELECT 1 FROM api_keys WHERE tenant_id = ?2 AND (name <> 'erased' OR allow_list <> '[]'))
        AND NOT EXISTS (SELECT 1 FROM verifications WHERE tenant_id = ?2)
        AND NOT EXISTS (SELECT 1 FROM events WHERE tenant_id = ?2)
        RETURNING 1 AS present";
}
