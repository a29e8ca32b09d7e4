//! The statements about alerts and notices.

use super::rows::{
    AlertRecipient, AlertSettings, AlertText, CheckedAt, ExpiringKey, HourResults, KeptAlertRow, NoticeMail,
    NoticeToPost, WaitingCount, WaitingRow,
};
use crate::storage::{Present, statements};

statements! {
    /// Binds event's id, tenant, kind, subject, data, time: written once.
    ALERT_PUT: () = "INSERT INTO alerts (event_id, tenant_id, kind, subject, data, created_ms) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (event_id) DO NOTHING";
    /// Binds the start of the day, the most notices in it, until when settlements are gathered and paused, a limit, and a JSON list of kinds; returns
    /// tenants and kinds of these with alerts of which a notice is due, and their notices, those that have waited longest first. The
    /// oldest alert of each is found by the index: however many wait, one row is read of it.
    ALERTS_WAITING: WaitingRow = "WITH RECURSIVE oldest (event_id) AS (SELECT (SELECT event_id FROM alerts
        WHERE notice_id IS NULL ORDER BY tenant_id, kind, event_id LIMIT 1)
        UNION ALL SELECT COALESCE((SELECT n.event_id FROM alerts n WHERE n.notice_id IS NULL AND n.tenant_id = a.tenant_id
        AND n.kind > a.kind ORDER BY n.kind, n.event_id LIMIT 1), (SELECT n.event_id FROM alerts n WHERE n.notice_id IS NULL
        AND n.tenant_id > a.tenant_id ORDER BY n.tenant_id, n.kind, n.event_id LIMIT 1)) FROM oldest o JOIN alerts a ON a.event_id = o.event_id)
        SELECT tenant_id, kind, oldest_ms, last_ms, in_day FROM (SELECT a.tenant_id, a.kind, a.created_ms AS oldest_ms,
        (SELECT MAX(n.created_ms) FROM notices n WHERE n.tenant_id = a.tenant_id AND n.kind = a.kind) AS last_ms,
        (SELECT COUNT(*) FROM notices n WHERE n.tenant_id = a.tenant_id AND n.kind = a.kind AND n.created_ms > ?1) AS in_day
        FROM oldest o JOIN alerts a ON a.event_id = o.event_id)
        WHERE kind IN (SELECT value FROM json_each(?6)) AND in_day < ?2 AND (kind <> 'settlement.undelivered'
        OR (oldest_ms <= ?3 AND (last_ms IS NULL OR last_ms <= ?4))) ORDER BY oldest_ms LIMIT ?5";
    /// Binds tenant, kind; returns how many alerts wait and the newest of them, or no row where none does.
    ALERTS_COUNT: WaitingCount = "SELECT COUNT(*) AS number, MAX(event_id) AS newest FROM alerts
        WHERE tenant_id = ? AND kind = ? AND notice_id IS NULL GROUP BY tenant_id";
    /// Binds tenant, kind, the newest alert, limit; returns the oldest alerts that wait.
    ALERTS_OF: AlertText = "SELECT subject, data FROM alerts WHERE tenant_id = ? AND kind = ?
        AND notice_id IS NULL AND event_id <= ? ORDER BY event_id LIMIT ?";
    /// Binds a tenant; returns how it is alerted.
    ALERT_SETTINGS: AlertSettings = "SELECT alert_mails, alert_url, alert_host FROM tenants WHERE id = ?";
    /// Binds a tenant and a limit; returns the addresses of its owners, or where it has no members its own.
    ALERT_RECIPIENTS: AlertRecipient = "SELECT p.email FROM members m JOIN people p ON p.id = m.person_id
        WHERE m.tenant_id = ?1 AND m.role = 'owner' UNION ALL SELECT t.email FROM tenants t WHERE t.id = ?1
        AND t.status <> 'cancelled' AND NOT EXISTS (SELECT 1 FROM members WHERE tenant_id = ?1) LIMIT ?2";
    /// Binds id, tenant, kind, text, now, when its message is due or null, the newest of its alerts and how many they are: written
    /// if so many wait. Then no other run has named one of them, and none has come that the text does not count.
    NOTICE_PUT: () = "INSERT INTO notices (id, tenant_id, kind, text, created_ms, post_due_ms)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE (SELECT COUNT(*) FROM alerts WHERE tenant_id = ?2 AND kind = ?3
        AND notice_id IS NULL AND event_id <= ?7) = ?8";
    /// Binds a notice, tenant, kind, the newest of its alerts: they are named by it, if it was written.
    ALERTS_NOTICED: () = "UPDATE alerts SET notice_id = ?1 WHERE tenant_id = ?2 AND kind = ?3 AND notice_id IS NULL
        AND event_id <= ?4 AND EXISTS (SELECT 1 FROM notices WHERE id = ?1)";
    /// Binds id, address, origin, a notice's id, now: a mail of the notice, if that was written.
    NOTICE_MAIL_PUT: () = "INSERT INTO mails (id, kind, address, origin, subject_id, state, created_ms)
        SELECT ?1, 'alert', ?2, ?3, ?4, 'queued', ?5 WHERE EXISTS (SELECT 1 FROM notices WHERE id = ?4)";
    /// Binds a mail's id; returns what its text is made of, unless it was sent.
    NOTICE_MAIL_GET: NoticeMail = "SELECT m.address, m.origin, n.tenant_id, n.kind, n.text
        FROM mails m JOIN notices n ON n.id = m.subject_id WHERE m.id = ? AND m.state = 'queued'";
    /// Binds now, whether tenants whose URL is slow or those of others, and a limit; returns of each tenant the notice whose
    /// message has been due longest. Of slow ones those come first that have waited longest for a turn.
    NOTICES_TO_POST: NoticeToPost = "SELECT n.id, n.tenant_id, n.kind, n.text, n.post_tries FROM (SELECT id,
        ROW_NUMBER() OVER (PARTITION BY tenant_id ORDER BY post_due_ms, id) AS place FROM notices
        WHERE post_due_ms <= ?1 AND post_due_ms IS NOT NULL AND tenant_id IS NOT NULL) due
        JOIN notices n ON n.id = due.id JOIN tenants t ON t.id = n.tenant_id
        WHERE due.place = 1 AND (t.alert_slow_ms IS NOT NULL) = ?2 ORDER BY t.alert_slow_ms, n.post_due_ms LIMIT ?3";
    /// Binds now and a limit; returns operators' notices whose message is due.
    OPERATOR_NOTICES_TO_POST: NoticeToPost = "SELECT id, tenant_id, kind, text, post_tries FROM notices
        WHERE post_due_ms <= ? AND post_due_ms IS NOT NULL AND tenant_id IS NULL ORDER BY post_due_ms LIMIT ?";
    /// Binds when the next try is due or null, a notice, the tries before; returns a row if no other has begun this try.
    NOTICE_POST_BEGIN: Present = "UPDATE notices SET post_tries = post_tries + 1, post_due_ms = ?
        WHERE id = ? AND post_tries = ? RETURNING 1 AS present";
    /// Binds now and a notice: its message was taken.
    NOTICE_POSTED: () = "UPDATE notices SET posted_ms = ?, post_due_ms = NULL WHERE id = ?";
    /// Binds a notice: its message is not tried again.
    NOTICE_POST_END: () = "UPDATE notices SET post_due_ms = NULL WHERE id = ?";
    /// Binds now, or null where a message did not take long, and a tenant.
    ALERT_SLOW_PUT: () = "UPDATE tenants SET alert_slow_ms = ? WHERE id = ?";
    /// Binds an id: notices before it.
    NOTICES_PURGE: () = "DELETE FROM notices WHERE id < ?";
    /// Binds an id of an event: alerts before it that a notice names.
    ALERTS_PURGE: () = "DELETE FROM alerts WHERE event_id < ? AND notice_id IS NOT NULL";

    /// Binds now and a limit; returns keys of which it is to be raised that they end: the next of each tenant, then the second
    /// of each, so that no tenant's keys hold up those of others.
    KEYS_EXPIRING: ExpiringKey = "SELECT id, tenant_id, environment, expires_ms FROM (SELECT id, tenant_id, environment,
        expires_ms, ROW_NUMBER() OVER (PARTITION BY tenant_id ORDER BY expires_ms, id) AS turn FROM api_keys
        WHERE alert_due_ms > ?1 - 604800000 AND alert_due_ms <= ?1 AND expires_ms > ?1) ORDER BY turn, expires_ms LIMIT ?2";
    /// Binds days, key, tenant; returns a row if no alert of as few days was raised.
    KEY_EXPIRING_NOTE: Present = "UPDATE api_keys SET expiry_days = ?1 WHERE id = ?2 AND tenant_id = ?3
        AND revoked_ms IS NULL AND (expiry_days IS NULL OR expiry_days > ?1) RETURNING 1 AS present";

    /// Binds a limit; returns what was wrong at the last check of operators' alerts.
    OPERATOR_ALERTS: KeptAlertRow = "SELECT kind, subject, detail, first_ms, began_ms, notified_ms FROM operator_alerts
        ORDER BY kind, subject LIMIT ?";
    /// Returns when checks have changed something last.
    CHECKS_CHANGED: CheckedAt = "SELECT changed_ms FROM operator_checks WHERE id = 1";
    /// Binds that time, or 0 where there is none, and now. It violates `NOT NULL`, so that its batch fails as a whole, where
    /// others have changed something since.
    CHECKS_CHANGE: () = "INSERT INTO operator_checks (id, changed_ms) SELECT 1,
        CASE WHEN COALESCE((SELECT changed_ms FROM operator_checks WHERE id = 1), 0) = ?1 THEN ?2 END WHERE true
        ON CONFLICT (id) DO UPDATE SET changed_ms = excluded.changed_ms";
    /// Binds kind, subject, detail, first time, beginning or null, time of the last line or null.
    OPERATOR_ALERT_PUT: () = "INSERT INTO operator_alerts (kind, subject, detail, first_ms, began_ms, notified_ms)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kind, subject) DO UPDATE SET detail = excluded.detail,
        first_ms = excluded.first_ms, began_ms = excluded.began_ms, notified_ms = excluded.notified_ms";
    /// Binds kind and subject.
    OPERATOR_ALERT_END: () = "DELETE FROM operator_alerts WHERE kind = ? AND subject = ?";
    /// Binds id, text, now, when its message is due or null: a notice to operators.
    OPERATOR_NOTICE_PUT: () = "INSERT INTO notices (id, kind, text, created_ms, post_due_ms)
        VALUES (?, 'operator', ?, ?, ?)";
    /// Binds an hour and a number.
    FAULTS_ADD: () = "INSERT INTO verification_faults (hour_ms, count) VALUES (?, ?)
        ON CONFLICT (hour_ms) DO UPDATE SET count = count + excluded.count";
    /// Binds an hour; returns how many verifications of it failed and how many were answered, in live.
    HOUR_RESULTS: HourResults = "SELECT COALESCE((SELECT count FROM verification_faults WHERE hour_ms = ?1), 0) AS faults,
        COALESCE((SELECT SUM(count) FROM rollups WHERE span = 'hour' AND start_ms = ?1 AND environment = 'live'), 0)
        AS answered";
    /// Binds a time.
    FAULTS_PURGE: () = "DELETE FROM verification_faults WHERE hour_ms < ?";
}
