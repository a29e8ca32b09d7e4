//! The statements about people, their sessions and mails.

use super::rows::{
    ClaimedMail, FoundRow, IdentityMail, IdentityRow, InvitationMail, InvitationRow, LostMail, MailToRepeat,
    MailboxRow, MemberRow, MembershipRow, OldestMail, OpenInvitation, OpenSignIn, OwnIdentityRow, OwnSessionRow,
    PersonRow, SessionRow, SignInMail, UnownedTenant, WrongCodes,
};
use crate::storage::{Present, statements};

statements! {
    /// Binds id, email, intent, company name, token's hash, browser's hash, prefix of the client's address, now, end, the
    /// start of the span and of the day; the most in the span, and in the day, to a mailbox from a prefix; the most in the
    /// day to a mailbox from prefixes that are new to it; the most in the span of a prefix and of all; what a prefix may
    /// ask for beyond that, a pattern of the network around it, and the most of that; the mailbox; the hash of a cookie that
    /// proves that the person has signed in in this browser, or null; the most in the day to a mailbox from such browsers,
    /// and of prefixes that are new to a mailbox of one network around them. Returns a row if the mail may be sent. Where
    /// there is a cookie only its own bounds count.
    SIGN_IN_PUT: Present = "INSERT INTO sign_ins (id, email, intent, company_name, token_hash, browser_hash, ip_prefix,
        created_ms, expires_ms, known) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?21 WHERE CASE WHEN ?21 IS NOT NULL
        THEN (SELECT COUNT(*) FROM sign_ins WHERE known = ?21 AND created_ms > ?10) < ?12
        AND (SELECT COUNT(*) FROM sign_ins WHERE mailbox = ?20 AND created_ms > ?11 AND known IS NOT NULL) < ?22
        ELSE (SELECT COUNT(*) FROM sign_ins
            WHERE mailbox = ?20 AND created_ms > ?10 AND ip_prefix = ?7 AND known IS NULL) < ?12
        AND (SELECT COUNT(*) FROM sign_ins
            WHERE mailbox = ?20 AND created_ms > ?11 AND ip_prefix = ?7 AND known IS NULL) < ?13
        AND ((SELECT COUNT(*) FROM sign_ins WHERE mailbox = ?20 AND created_ms > ?11 AND known IS NULL) < ?13
        OR ((SELECT COUNT(*) FROM sign_ins WHERE mailbox = ?20 AND created_ms > ?11 AND known IS NULL) < ?14
        AND NOT EXISTS (SELECT 1 FROM sign_ins WHERE mailbox = ?20 AND created_ms > ?11 AND ip_prefix = ?7)
        AND (SELECT COUNT(DISTINCT ip_prefix) FROM sign_ins
            WHERE mailbox = ?20 AND created_ms > ?11 AND ip_prefix GLOB ?18) < ?23))
        AND (SELECT COUNT(*) FROM sign_ins WHERE ip_prefix = ?7 AND created_ms > ?10 AND known IS NULL) < ?15
        AND ((SELECT COUNT(*) FROM sign_ins WHERE created_ms > ?10 AND known IS NULL) < ?16
        OR ((SELECT COUNT(*) FROM sign_ins WHERE ip_prefix = ?7 AND created_ms > ?10 AND known IS NULL) < ?17
        AND (SELECT COUNT(*) FROM sign_ins WHERE created_ms > ?10 AND ip_prefix GLOB ?18 AND known IS NULL) < ?19)) END
        RETURNING 1 AS present";
    /// Binds a mailbox, the start of the day, prefix of the client's address, the most in the day to a mailbox, the same
    /// from prefixes that are new to it, a pattern of the network around the prefix and the most new ones of that, the hash
    /// of the cookie or null, and the most in the day from such browsers; returns the time of the day's first mail if a
    /// bound of the day is reached.
    SIGN_IN_REFUSED_BY_DAY: OldestMail = "SELECT created_ms FROM sign_ins WHERE mailbox = ?1 AND created_ms > ?2
        AND (known IS NULL) = (?8 IS NULL) AND CASE WHEN ?8 IS NOT NULL
        THEN (SELECT COUNT(*) FROM sign_ins WHERE mailbox = ?1 AND created_ms > ?2 AND known IS NOT NULL) >= ?9
        ELSE (SELECT COUNT(*) FROM sign_ins
            WHERE mailbox = ?1 AND created_ms > ?2 AND ip_prefix = ?3 AND known IS NULL) >= ?4
        OR ((SELECT COUNT(*) FROM sign_ins WHERE mailbox = ?1 AND created_ms > ?2 AND known IS NULL) >= ?4
        AND ((SELECT COUNT(*) FROM sign_ins WHERE mailbox = ?1 AND created_ms > ?2 AND known IS NULL) >= ?5
        OR EXISTS (SELECT 1 FROM sign_ins WHERE mailbox = ?1 AND created_ms > ?2 AND ip_prefix = ?3)
        OR (SELECT COUNT(DISTINCT ip_prefix) FROM sign_ins
            WHERE mailbox = ?1 AND created_ms > ?2 AND ip_prefix GLOB ?6) >= ?7)) END ORDER BY created_ms LIMIT 1";
    /// Binds id, address, origin, a sign-in's id, now: the sign-in's mail, if the sign-in was written.
    SIGN_IN_MAIL_PUT: () = "INSERT INTO mails (id, kind, address, origin, subject_id, state, created_ms)
        SELECT ?1, 'sign_in', ?2, ?3, ?4, 'queued', ?5 WHERE EXISTS (SELECT 1 FROM sign_ins WHERE id = ?4)";
    /// Binds a token's hash and now; returns the sign-in if it holds.
    SIGN_IN_BY_TOKEN: OpenSignIn = "SELECT id, token_hash, email, intent, company_name FROM sign_ins
        WHERE token_hash = ? AND used_ms IS NULL AND expires_ms > ?";
    /// Binds a browser's hash, now, the most tries, the day, prefix of the client's address, and the most wrong codes of the
    /// day from the prefix and from all: one more code is compared. In a browser that shows that the person has signed in in it,
    /// only the tries count.
    SIGN_IN_TRY: OpenSignIn = "UPDATE sign_ins SET tries = tries + 1
        WHERE browser_hash = ?1 AND used_ms IS NULL AND expires_ms > ?2 AND tries < ?3
        AND (known IS NOT NULL
        OR (COALESCE((SELECT wrong FROM wrong_codes WHERE day_ms = ?4 AND ip_prefix = ?5), 0) < ?6
        AND COALESCE((SELECT wrong FROM wrong_codes WHERE day_ms = ?4 AND ip_prefix = 'all'), 0) < ?7))
        RETURNING id, token_hash, email, intent, company_name";
    /// Binds the day and a prefix: the code counts as wrong until it proves right, if the statement before it in the batch
    /// lets it be compared.
    CODE_WRONG: () = "INSERT INTO wrong_codes (day_ms, ip_prefix, wrong)
        SELECT ?1, value, 1 FROM json_each(json_array(?2, 'all')) WHERE changes() > 0
        ON CONFLICT (day_ms, ip_prefix) DO UPDATE SET wrong = wrong + 1";
    /// Binds the day and a prefix; returns the wrong codes of the day.
    WRONG_CODES_GET: WrongCodes =
        "SELECT COALESCE((SELECT wrong FROM wrong_codes WHERE day_ms = ?1 AND ip_prefix = ?2), 0) AS of_prefix,
        COALESCE((SELECT wrong FROM wrong_codes WHERE day_ms = ?1 AND ip_prefix = 'all'), 0) AS of_all";
    /// Binds the day and a prefix: a code was right.
    CODE_RIGHT: () = "UPDATE wrong_codes SET wrong = wrong - 1
        WHERE day_ms = ?1 AND ip_prefix IN (?2, 'all') AND wrong > 0";
    /// Binds a time.
    WRONG_CODES_PURGE: () = "DELETE FROM wrong_codes WHERE day_ms < ?";
    /// Binds now and an id: the sign-in is used. A second use violates `NOT NULL`, so that its batch fails as a whole.
    SIGN_IN_USE: () = "UPDATE sign_ins SET used_ms = ?1, email = CASE WHEN used_ms IS NULL THEN email END WHERE id = ?2";
    /// Binds now and an address: whoever has signed in needs no other mail.
    SIGN_INS_CLOSE: () = "UPDATE sign_ins SET used_ms = ? WHERE email = ? AND used_ms IS NULL";

    /// Binds an address; returns the person's tenants: that whose contact it is, then in the order of joining.
    MEMBERSHIPS_OF: MembershipRow = "SELECT m.tenant_id, m.role, t.company_name
        FROM members m JOIN tenants t ON t.id = m.tenant_id
        WHERE m.person_id = (SELECT id FROM people WHERE email = ?1) ORDER BY t.email <> ?1, m.created_ms, m.tenant_id LIMIT 100";
    /// Binds an address; returns the tenant whose contact it is, if that has no member.
    UNOWNED_TENANT: UnownedTenant = "SELECT id FROM tenants WHERE email = ?
        AND NOT EXISTS (SELECT 1 FROM members WHERE tenant_id = tenants.id)";
    /// Binds an address; returns the tenant whose contact it is, if that has members of whom none has it.
    CONTACT_LEFT: UnownedTenant = "SELECT id FROM tenants WHERE email = ?1
        AND EXISTS (SELECT 1 FROM members WHERE tenant_id = tenants.id)
        AND NOT EXISTS (SELECT 1 FROM members m JOIN people p ON p.id = m.person_id
        WHERE m.tenant_id = tenants.id AND p.email = ?1)";
    /// Binds id, address, now.
    PERSON_PUT: () = "INSERT INTO people (id, email, created_ms) VALUES (?, ?, ?) ON CONFLICT (email) DO NOTHING";
    /// Binds tenant, role, now, address, the most members of a tenant.
    MEMBER_PUT: () = "INSERT INTO members (tenant_id, person_id, role, created_ms)
        SELECT ?1, id, ?2, ?3 FROM people WHERE email = ?4
        AND (SELECT COUNT(*) FROM members WHERE tenant_id = ?1) < ?5 ON CONFLICT (tenant_id, person_id) DO NOTHING";

    /// Binds a state's hash, the service, a browser's hash, prefix of the client's address, now, end, the start of the span,
    /// the most of a prefix and of all in it, what a prefix may ask for beyond that of all, a pattern of the network around
    /// it, and the most of that; returns a row if none of them is reached.
    OAUTH_PUT: Present = "INSERT INTO oauth_states (hash, provider, browser_hash, ip_prefix, created_ms, expires_ms)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6
        WHERE (SELECT COUNT(*) FROM oauth_states WHERE ip_prefix = ?4 AND created_ms > ?7) < ?8
        AND ((SELECT COUNT(*) FROM oauth_states WHERE created_ms > ?7) < ?9
        OR ((SELECT COUNT(*) FROM oauth_states WHERE ip_prefix = ?4 AND created_ms > ?7) < ?10
        AND (SELECT COUNT(*) FROM oauth_states WHERE created_ms > ?7 AND ip_prefix GLOB ?11) < ?12))
        RETURNING 1 AS present";
    /// Binds now, a state's hash, a browser's hash, the service; returns a row if the state held: it is used.
    OAUTH_USE: Present = "UPDATE oauth_states SET used_ms = ?1 WHERE hash = ?2 AND browser_hash = ?3 AND provider = ?4
        AND used_ms IS NULL AND expires_ms > ?1 RETURNING 1 AS present";
    /// Binds a time.
    OAUTH_PURGE: () = "DELETE FROM oauth_states WHERE created_ms < ?";
    /// Binds the service and its id of a person; returns the person's address, and whether the account was shut out.
    IDENTITY_GET: IdentityRow = "SELECT p.email, i.ended_ms IS NOT NULL AS is_ended
        FROM identities i JOIN people p ON p.id = i.person_id WHERE i.provider = ? AND i.subject = ?";
    /// Binds the service, its id of a person, the account's name, prefix of the client's address, now, the person's address.
    /// A company's own provider may name another person by an id: it answers for its domain.
    IDENTITY_PUT: () = "INSERT INTO identities (provider, subject, person_id, name, ip_prefix, created_ms)
        SELECT ?1, ?2, id, ?3, ?4, ?5 FROM people WHERE email = ?6 ON CONFLICT (provider, subject)
        DO UPDATE SET person_id = excluded.person_id WHERE identities.provider <> 'github'";
    /// Binds id, address, origin, the linked account's id, now, whether the address leads to a tenant that was there before,
    /// and the id that the person gets if it is new: the mail about the link, if a statement before it in the batch has made
    /// the link, and person or tenant were there before.
    IDENTITY_MAIL_PUT: () = "INSERT INTO mails (id, kind, address, origin, subject_id, state, created_ms)
        SELECT ?1, 'identity', ?2, ?3, ?4, 'queued', ?5 WHERE changes() > 0
        AND (?6 = 1 OR EXISTS (SELECT 1 FROM people WHERE email = ?2 AND id <> ?7))";
    /// Binds now, the service, its id of a person, the person's address: the account signs the person in. It violates
    /// `NOT NULL`, so that its batch fails as a whole, where the account was shut out or is another person's.
    IDENTITY_USE: () = "UPDATE identities SET used_ms = ?1, person_id = CASE WHEN ended_ms IS NULL
        AND person_id = (SELECT id FROM people WHERE email = ?4) THEN person_id END WHERE provider = ?2 AND subject = ?3";
    /// Binds a person; returns the accounts that were linked, the newest first, without those of companies' own providers.
    IDENTITIES_OF: OwnIdentityRow = "SELECT provider, subject, name, ip_prefix, created_ms, used_ms, ended_ms
        FROM identities WHERE person_id = ? AND provider = 'github' ORDER BY created_ms DESC, subject LIMIT 100";
    /// Binds now, the service, its id of a person, and the person; returns a row if the account was not shut out.
    IDENTITY_END: Present = "UPDATE identities SET ended_ms = ?1 WHERE provider = ?2 AND subject = ?3 AND person_id = ?4
        AND ended_ms IS NULL RETURNING 1 AS present";
    /// Binds a mail's id; returns what its text is made of, unless it was sent.
    IDENTITY_MAIL_GET: IdentityMail = "SELECT m.address, m.origin, i.provider, i.subject, i.name, i.ip_prefix, i.created_ms
        FROM mails m JOIN identities i ON i.provider = substr(m.subject_id, 1, instr(m.subject_id, '-') - 1)
        AND i.subject = substr(m.subject_id, instr(m.subject_id, '-') + 1) WHERE m.id = ? AND m.state = 'queued'";

    /// Binds id, hash, tenant, prefix of the client's address, user agent, now, end, address of the person, and 1 where it
    /// holds for the tenant alone.
    SESSION_PUT: () = "INSERT INTO sessions (id, hash, person_id, tenant_id, ip_prefix, user_agent, created_ms, seen_ms,
        expires_ms, only_tenant) SELECT ?1, ?2, id, ?3, ?4, ?5, ?6, ?6, ?7, ?9 FROM people WHERE email = ?8";
    /// Binds a hash; returns the session, unless it was ended or the person has left the tenant.
    SESSION_GET: SessionRow = "SELECT s.id, s.person_id, p.email, s.tenant_id, t.company_name, t.tier, t.status, d.due_ms,
        m.role, s.created_ms, s.seen_ms, s.expires_ms, s.only_tenant FROM sessions s JOIN people p ON p.id = s.person_id
        JOIN tenants t ON t.id = s.tenant_id LEFT JOIN deletions d ON d.tenant_id = s.tenant_id
        JOIN members m ON m.tenant_id = s.tenant_id AND m.person_id = s.person_id
        WHERE s.hash = ? AND s.ended_ms IS NULL";
    /// Binds a time and an id; never goes back.
    SESSION_SEEN: () = "UPDATE sessions SET seen_ms = MAX(seen_ms, ?) WHERE id = ?";
    /// Binds now and a hash. A session that has ended keeps its time.
    SESSION_END: () = "UPDATE sessions SET ended_ms = COALESCE(ended_ms, ?) WHERE hash = ?";

    /// Binds person, now, a time, and a tenant or null: those used since then; of a tenant only those that hold for it
    /// alone. Returns the sessions that hold, the newest first.
    SESSIONS_OF: OwnSessionRow = "SELECT id, tenant_id, ip_prefix, user_agent, created_ms, seen_ms, expires_ms FROM sessions
        WHERE person_id = ?1 AND ended_ms IS NULL AND expires_ms > ?2 AND seen_ms > ?3
        AND (?4 IS NULL OR tenant_id = ?4 AND only_tenant = 1) ORDER BY id DESC LIMIT 100";
    /// Binds now, id, person, a tenant or null; returns a row if the session held.
    SESSION_END_OWN: Present = "UPDATE sessions SET ended_ms = ?1 WHERE id = ?2 AND person_id = ?3 AND ended_ms IS NULL
        AND (?4 IS NULL OR tenant_id = ?4 AND only_tenant = 1) RETURNING 1 AS present";
    /// Binds now, tenant, and a person's id or address: whoever is no member of the tenant leaves no session of it. One of
    /// before would hold again when the person joins again.
    SESSIONS_LEFT: () = "UPDATE sessions SET ended_ms = ?1 WHERE tenant_id = ?2 AND ended_ms IS NULL
        AND person_id = (SELECT id FROM people WHERE id = ?3 OR email = ?3)
        AND NOT EXISTS (SELECT 1 FROM members m WHERE m.tenant_id = ?2 AND m.person_id = sessions.person_id)";
    /// Binds now, a person, a tenant or null.
    SESSIONS_END: () = "UPDATE sessions SET ended_ms = ?1 WHERE person_id = ?2 AND ended_ms IS NULL
        AND (?3 IS NULL OR tenant_id = ?3 AND only_tenant = 1)";
    /// Binds now and a person; returns a row a session that held.
    SESSIONS_END_COUNTED: Present = "UPDATE sessions SET ended_ms = ? WHERE person_id = ? AND ended_ms IS NULL
        RETURNING 1 AS present";
    /// Binds the new id and hash, a tenant, now, the hash of the session that is replaced, an id of the start of the hour, and
    /// the most sessions of the person since then: the new one ends when the replaced one would have. Returns a row if the
    /// person belongs to the tenant and has fewer, and the session holds for others than its own.
    SESSION_SWITCH: Present = "INSERT INTO sessions (id, hash, person_id, tenant_id, ip_prefix, user_agent, created_ms,
        seen_ms, expires_ms) SELECT ?1, ?2, s.person_id, ?3, s.ip_prefix, s.user_agent, s.created_ms, ?4, s.expires_ms
        FROM sessions s JOIN members m ON m.tenant_id = ?3 AND m.person_id = s.person_id
        WHERE s.hash = ?5 AND s.ended_ms IS NULL AND s.only_tenant = 0
        AND (SELECT COUNT(*) FROM sessions o WHERE o.person_id = s.person_id AND o.id > ?6) < ?7 RETURNING 1 AS present";
    /// Binds now, a hash, and the hash of the session that replaces it, if that was written.
    SESSION_REPLACED: () = "UPDATE sessions SET ended_ms = ?1 WHERE hash = ?2 AND ended_ms IS NULL
        AND EXISTS (SELECT 1 FROM sessions WHERE hash = ?3)";
    /// Binds a time.
    SIGN_INS_PURGE: () = "DELETE FROM sign_ins WHERE created_ms < ?";
    /// Binds an id: sessions before it.
    SESSIONS_PURGE: () = "DELETE FROM sessions WHERE id < ?";
    /// Binds an id: invitations before it.
    INVITATIONS_PURGE: () = "DELETE FROM invitations WHERE id < ?";
    /// Binds an id: mails before it.
    MAILS_PURGE: () = "DELETE FROM mails WHERE id < ?";
    /// Binds an id: mails before it.
    MAILBOX_PURGE: () = "DELETE FROM mailbox WHERE mail_id < ?";

    /// Binds a tenant; returns its members in the order of joining.
    MEMBERS_OF: MemberRow = "SELECT m.person_id, p.email, m.role, m.created_ms FROM members m
        JOIN people p ON p.id = m.person_id WHERE m.tenant_id = ? ORDER BY m.created_ms, m.person_id LIMIT 200";
    /// Binds role, tenant, person, and who changes it; returns a row if the role is another, the tenant keeps an owner, and
    /// who changes it is one.
    MEMBER_ROLE: Present = "UPDATE members SET role = ?1 WHERE tenant_id = ?2 AND person_id = ?3 AND role <> ?1
        AND EXISTS (SELECT 1 FROM members a WHERE a.tenant_id = ?2 AND a.person_id = ?4 AND a.role = 'owner')
        AND (role <> 'owner'
        OR ?1 = 'owner' OR EXISTS (SELECT 1 FROM members o WHERE o.tenant_id = ?2 AND o.role = 'owner'
        AND o.person_id <> ?3)) RETURNING 1 AS present";
    /// Binds tenant, person, and who removes it; returns a row if the tenant keeps an owner, and who removes another is one.
    MEMBER_REMOVE: Present = "DELETE FROM members WHERE tenant_id = ?1 AND person_id = ?2 AND (?3 = ?2
        OR EXISTS (SELECT 1 FROM members a WHERE a.tenant_id = ?1 AND a.person_id = ?3 AND a.role = 'owner'))
        AND (role <> 'owner'
        OR EXISTS (SELECT 1 FROM members o WHERE o.tenant_id = ?1 AND o.role = 'owner' AND o.person_id <> ?2))
        RETURNING 1 AS present";
    /// Binds id, tenant, address, role, token's hash, person who invites, now, end, an id of the start of the day, and the
    /// most in a day of a tenant, of a tenant to a mailbox, and of all, the most members, and the mailbox; returns a row if
    /// none is reached, who invites is an owner, and there is no such invitation of the day that holds. Whoever is invited
    /// counts as a member. Only a tenant that signed up by itself, is of the free tier and has no confirmed payment is counted
    /// and refused for what others do: beyond as many other such tenants that have invited the mailbox, and, if it has
    /// invited two itself, beyond the most of all such.
    INVITATION_PUT: Present = "INSERT INTO invitations (id, tenant_id, email, role, token_hash, invited_by, created_ms,
        expires_ms, shared) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, s.shared FROM (SELECT tier = 'free'
        AND (SELECT action = 'tenant.created' AND actor_kind = 'person' FROM audit_log WHERE tenant_id = ?2
            ORDER BY id LIMIT 1) IS 1
        AND NOT EXISTS (SELECT 1 FROM rollups WHERE tenant_id = ?2 AND environment = 'live'
            AND outcome IN ('confirmed', 'finalized') AND count > 0) AS shared FROM tenants WHERE id = ?2) s
        WHERE EXISTS (SELECT 1 FROM members WHERE tenant_id = ?2 AND person_id = ?6 AND role = 'owner')
        AND NOT EXISTS (SELECT 1 FROM invitations WHERE mailbox = ?14 AND id > ?9 AND tenant_id = ?2 AND email = ?3
            AND role = ?4 AND accepted_ms IS NULL AND revoked_ms IS NULL)
        AND (SELECT COUNT(*) FROM invitations WHERE id > ?9 AND tenant_id = ?2) < ?10
        AND (SELECT COUNT(*) FROM invitations WHERE mailbox = ?14 AND id > ?9 AND tenant_id = ?2) < ?11
        AND (s.shared = 0 OR ((SELECT COUNT(DISTINCT tenant_id) FROM invitations
            WHERE mailbox = ?14 AND id > ?9 AND tenant_id <> ?2 AND shared = 1) < ?11
        AND ((SELECT COUNT(*) FROM invitations WHERE id > ?9 AND shared = 1) < ?12
        OR (SELECT COUNT(*) FROM invitations WHERE id > ?9 AND tenant_id = ?2) < 2)))
        AND (SELECT COUNT(*) FROM members WHERE tenant_id = ?2) + (SELECT COUNT(*) FROM invitations WHERE tenant_id = ?2
        AND email <> ?3 AND accepted_ms IS NULL AND revoked_ms IS NULL AND expires_ms > ?7) < ?13 RETURNING 1 AS present";
    /// Binds now, tenant, address, and the id of the invitation that replaces all others to the address, if it was written.
    INVITATION_REPLACED: () = "UPDATE invitations SET revoked_ms = ?1 WHERE tenant_id = ?2 AND email = ?3 AND id <> ?4
        AND accepted_ms IS NULL AND revoked_ms IS NULL AND EXISTS (SELECT 1 FROM invitations WHERE id = ?4)";
    /// Binds id, address, origin, an invitation's id, now: the invitation's mail, if the invitation was written.
    INVITATION_MAIL_PUT: () = "INSERT INTO mails (id, kind, address, origin, subject_id, state, created_ms)
        SELECT ?1, 'invitation', ?2, ?3, ?4, 'queued', ?5 WHERE EXISTS (SELECT 1 FROM invitations WHERE id = ?4)";
    /// Binds a mail's id, origin, an invitation's id, now, the start of the day, and the most mails in it of the tenant to the
    /// address; returns a row if the invitation holds and that is not reached: its mail is sent again.
    INVITATION_MAIL_AGAIN: Present = "INSERT INTO mails (id, kind, address, origin, subject_id, state, created_ms)
        SELECT ?1, 'invitation', i.email, ?2, i.id, 'queued', ?4 FROM invitations i WHERE i.id = ?3
        AND i.accepted_ms IS NULL AND i.revoked_ms IS NULL AND i.expires_ms > ?4
        AND (SELECT COUNT(*) FROM mails m JOIN invitations o ON o.id = m.subject_id
            WHERE m.address = i.email AND m.created_ms > ?5 AND o.tenant_id = i.tenant_id) < ?6 RETURNING 1 AS present";
    /// Binds a tenant and now; returns the invitations that hold, the newest first.
    INVITATIONS_OF: InvitationRow = "SELECT id, email, role, created_ms, expires_ms FROM invitations WHERE tenant_id = ?
        AND accepted_ms IS NULL AND revoked_ms IS NULL AND expires_ms > ? ORDER BY created_ms DESC LIMIT 200";
    /// Binds now, tenant, id; returns a row if it held.
    INVITATION_REVOKE: Present = "UPDATE invitations SET revoked_ms = ?1 WHERE tenant_id = ?2 AND id = ?3
        AND accepted_ms IS NULL AND revoked_ms IS NULL AND expires_ms > ?1 RETURNING 1 AS present";
    /// Binds a token's hash and now; returns the invitation if it holds. `has_account`: the invited person belongs to a
    /// tenant. `members`: of the tenant, without the invited person.
    INVITATION_BY_TOKEN: OpenInvitation = "SELECT id, tenant_id, email, role, EXISTS (SELECT 1 FROM people p
        JOIN members m ON m.person_id = p.id WHERE p.email = invitations.email) AS has_account,
        (SELECT status FROM tenants t WHERE t.id = invitations.tenant_id) AS status,
        (SELECT COUNT(*) FROM members m JOIN people p ON p.id = m.person_id WHERE m.tenant_id = invitations.tenant_id
        AND p.email <> invitations.email) AS members FROM invitations
        WHERE token_hash = ? AND accepted_ms IS NULL AND revoked_ms IS NULL AND expires_ms > ?
        AND NOT EXISTS (SELECT 1 FROM deletions d
        WHERE d.tenant_id = invitations.tenant_id AND d.due_ms IS NOT NULL)";
    /// Binds now, an id, the address of the browser's session or null, and the most members: the invitation is accepted. It
    /// violates `NOT NULL`, so that its batch fails as a whole, where the invitation was accepted or revoked meanwhile, its
    /// tenant is not served, has as many members as it may or is being deleted, or the invited person belongs to a tenant and
    /// the session is not the person's.
    INVITATION_ACCEPT: () = "UPDATE invitations SET accepted_ms = ?1, email = CASE WHEN accepted_ms IS NULL
        AND revoked_ms IS NULL AND NOT EXISTS (SELECT 1 FROM deletions d
        WHERE d.tenant_id = invitations.tenant_id AND d.due_ms IS NOT NULL) AND (email = ?3 OR NOT EXISTS (SELECT 1 FROM people p
        JOIN members m ON m.person_id = p.id WHERE p.email = invitations.email))
        AND EXISTS (SELECT 1 FROM tenants t WHERE t.id = invitations.tenant_id AND t.status = 'active')
        AND (SELECT COUNT(*) FROM members m JOIN people p ON p.id = m.person_id WHERE m.tenant_id = invitations.tenant_id
        AND p.email <> invitations.email) < ?4 THEN email END WHERE id = ?2";
    /// Binds now, tenant, person: whoever is no owner of the tenant leaves no invitation to it that holds.
    INVITATIONS_LEFT: () = "UPDATE invitations SET revoked_ms = ?1 WHERE tenant_id = ?2 AND invited_by = ?3
        AND accepted_ms IS NULL AND revoked_ms IS NULL AND NOT EXISTS (SELECT 1 FROM members
        WHERE tenant_id = ?2 AND person_id = ?3 AND role = 'owner')";
    /// Binds now, a person's id or address, tenant, and an entry of the audit log or null: if the entry was written, the
    /// tenant, whose contact is the address and that has members of whom none has it, gets the address of its oldest owner
    /// whose address is no tenant's contact, or one that takes no mail.
    CONTACT_MOVE: () = "UPDATE tenants SET version = version + 1, updated_ms = ?1, email = COALESCE(
        (SELECT p.email FROM members m JOIN people p ON p.id = m.person_id
        WHERE m.tenant_id = tenants.id AND m.role = 'owner'
        AND NOT EXISTS (SELECT 1 FROM tenants o WHERE o.email = p.email)
        ORDER BY m.created_ms, m.person_id LIMIT 1), id || '@contact.invalid')
        WHERE id = ?3 AND email = (SELECT email FROM people WHERE id = ?2 OR email = ?2)
        AND (?4 IS NULL OR EXISTS (SELECT 1 FROM audit_log WHERE id = ?4))
        AND EXISTS (SELECT 1 FROM members WHERE tenant_id = tenants.id)
        AND NOT EXISTS (SELECT 1 FROM members m JOIN people p ON p.id = m.person_id
        WHERE m.tenant_id = tenants.id AND p.email = tenants.email)";
    /// Binds a mail's id; returns what its text is made of, unless it was sent or the invitation was accepted or revoked.
    INVITATION_MAIL_GET: InvitationMail = "SELECT m.address, m.origin, i.id, i.role, i.token_hash, i.expires_ms,
        i.tenant_id, p.email AS inviter FROM mails m JOIN invitations i ON i.id = m.subject_id
        JOIN people p ON p.id = i.invited_by
        WHERE m.id = ? AND m.state = 'queued' AND i.accepted_ms IS NULL AND i.revoked_ms IS NULL";
    /// Binds the time until when the mail is reserved, id, now; counts a try and returns what is tried. Nothing where the
    /// mail is not queued, or another try is under way or to come.
    MAIL_CLAIM: ClaimedMail = "UPDATE mails SET tries = tries + 1, due_ms = ?1
        WHERE id = ?2 AND state = 'queued' AND due_ms <= ?3 RETURNING kind, tries, created_ms,
        EXISTS (SELECT 1 FROM mail_addresses a WHERE a.address = mails.address) AS is_marked";
    /// Binds the time of the next try, and an id.
    MAIL_DUE: () = "UPDATE mails SET due_ms = ? WHERE id = ? AND state = 'queued'";
    /// Binds an address, a mark's name, now. The first mark stays.
    MAIL_MARK: () = "INSERT INTO mail_addresses (address, state, marked_ms) VALUES (?, ?, ?)
        ON CONFLICT (address) DO NOTHING";
    /// Binds a mail's id; returns what its text is made of, unless it was sent or its link was used. `is_known`: the address
    /// belongs to a person with a tenant, or to a tenant without a member.
    SIGN_IN_MAIL_GET: SignInMail = "SELECT m.address, m.origin, s.id, s.intent, s.token_hash, s.expires_ms,
        (EXISTS (SELECT 1 FROM people p JOIN members b ON b.person_id = p.id WHERE p.email = s.email)
        OR EXISTS (SELECT 1 FROM tenants t WHERE t.email = s.email
        AND NOT EXISTS (SELECT 1 FROM members b WHERE b.tenant_id = t.id))) AS is_known
        FROM mails m JOIN sign_ins s ON s.id = m.subject_id
        WHERE m.id = ? AND m.state = 'queued' AND s.used_ms IS NULL";
    /// Binds state, now, the provider's id, id: the mail is done with.
    MAIL_END: () = "UPDATE mails SET state = ?, sent_ms = ?, provider_id = ? WHERE id = ? AND state = 'queued'";
    /// Binds a time, now and a limit; returns mails that were made, and could be tried, before, and puts them behind the others.
    MAILS_LOST: LostMail = "UPDATE mails SET due_ms = ?2 WHERE id IN (SELECT id FROM mails WHERE state = 'queued'
        AND due_ms < ?1 AND created_ms < ?1 ORDER BY due_ms LIMIT ?3) RETURNING id";
    /// Binds mail, address, subject, text, HTML, now. A mail is there once.
    MAILBOX_PUT: () = "INSERT INTO mailbox (mail_id, address, subject, text, html, created_ms)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (mail_id) DO NOTHING";
    /// Binds a limit; returns the newest mails.
    MAILBOX_GET: MailboxRow = "SELECT mail_id, address, subject, text, html, created_ms FROM mailbox
        ORDER BY mail_id DESC LIMIT ?";

    /// Binds a person's id or address; returns the person.
    PERSON_FIND: PersonRow = "SELECT id, email FROM people WHERE id = ?1 OR email = ?1 LIMIT 1";
    /// Binds a mail address; returns whose it is.
    FOUND_OWNERS: FoundRow = "SELECT 'tenant' AS kind, id, id AS tenant_id, NULL AS environment, status AS state,
        created_ms FROM tenants WHERE email = ?1
        UNION ALL SELECT 'person', id, NULL, NULL, NULL, created_ms FROM people WHERE email = ?1
        UNION ALL SELECT 'mark', address, NULL, NULL, state, marked_ms FROM mail_addresses WHERE address = ?1
        UNION ALL SELECT 'member', person_id, tenant_id, NULL, role, created_ms FROM members
        WHERE person_id = (SELECT id FROM people WHERE email = ?1) LIMIT 100";
    /// Binds a mail address and now; returns its newest invitations and mails.
    FOUND_MAILS: FoundRow = "SELECT 'invitation' AS kind, id, tenant_id, NULL AS environment,
        CASE WHEN accepted_ms IS NOT NULL THEN 'accepted' WHEN revoked_ms IS NOT NULL THEN 'revoked'
        WHEN expires_ms <= ?2 THEN 'expired' ELSE 'open' END AS state, created_ms FROM invitations WHERE email = ?1
        UNION ALL SELECT 'mail', m.id, i.tenant_id, NULL, m.state, m.created_ms FROM mails m
        LEFT JOIN invitations i ON i.id = m.subject_id WHERE m.address = ?1 ORDER BY created_ms DESC LIMIT 50";
    /// Binds an address on a chain; returns who holds it, or held it.
    FOUND_RECIPIENTS: FoundRow = "SELECT 'recipient' AS kind, address AS id, tenant_id, environment,
        CASE WHEN removed_ms IS NOT NULL THEN 'retired' WHEN first_use = 1 THEN 'first_use' ELSE 'held' END AS state,
        created_ms FROM recipients WHERE environment IN ('live', 'test') AND address = ?";
    /// Binds a settlement's or a verification's id; of verifications the table holds what the builds before 0009 have
    /// shipped.
    FOUND_PAYMENTS: FoundRow = "SELECT 'settlement' AS kind, id, tenant_id, environment, status AS state, created_ms
        FROM settlements WHERE id = ?1
        UNION ALL SELECT 'verification', id, tenant_id, environment, status, created_ms FROM verifications WHERE id = ?1";
    /// Binds a transaction; returns the settlements that have it.
    FOUND_TRANSACTIONS: FoundRow = "SELECT 'settlement' AS kind, id, tenant_id, environment, status AS state, created_ms
        FROM settlements WHERE body ->> '$.transaction' = ? LIMIT 100";
    /// Binds a mail's id; returns what an operator must know to repeat it.
    MAIL_TO_REPEAT: MailToRepeat = "SELECT m.address, i.tenant_id FROM mails m
        LEFT JOIN invitations i ON i.id = m.subject_id WHERE m.id = ?";
    /// Binds the new id, now, and the id of the mail that is repeated; returns a row if its link holds, its address gets
    /// mails, and no mail about the same waits.
    MAIL_REPEAT: Present = "INSERT INTO mails (id, kind, address, origin, subject_id, state, created_ms)
        SELECT ?1, m.kind, m.address, m.origin, m.subject_id, 'queued', ?2 FROM mails m WHERE m.id = ?3
        AND NOT EXISTS (SELECT 1 FROM mail_addresses a WHERE a.address = m.address)
        AND NOT EXISTS (SELECT 1 FROM mails q WHERE q.address = m.address AND q.subject_id = m.subject_id
        AND q.state = 'queued') AND (EXISTS (SELECT 1 FROM sign_ins s WHERE s.id = m.subject_id AND s.used_ms IS NULL
        AND s.expires_ms > ?2) OR EXISTS (SELECT 1 FROM invitations i WHERE i.id = m.subject_id
        AND i.accepted_ms IS NULL AND i.revoked_ms IS NULL AND i.expires_ms > ?2)) RETURNING 1 AS present";
    /// Binds an address; returns a row if it was marked.
    MARK_REMOVE: Present = "DELETE FROM mail_addresses WHERE address = ? RETURNING 1 AS present";
}
