-- What bounds of mails and changes count by.

-- The mailbox of an address: without what follows a plus sign, since such addresses lead to one person.
ALTER TABLE sign_ins ADD COLUMN mailbox TEXT AS (CASE WHEN instr(email, '+') > 1 AND instr(email, '+') < instr(email, '@')
    THEN substr(email, 1, instr(email, '+') - 1) || substr(email, instr(email, '@')) ELSE email END) VIRTUAL;
CREATE INDEX sign_ins_by_mailbox ON sign_ins (mailbox, created_ms);
-- The hash of the cookie of a browser in which the person has signed in before; null of other browsers.
ALTER TABLE sign_ins ADD COLUMN known TEXT;
CREATE INDEX sign_ins_by_known ON sign_ins (known, created_ms) WHERE known IS NOT NULL;

ALTER TABLE invitations ADD COLUMN mailbox TEXT AS (CASE WHEN instr(email, '+') > 1
    AND instr(email, '+') < instr(email, '@')
    THEN substr(email, 1, instr(email, '+') - 1) || substr(email, instr(email, '@')) ELSE email END) VIRTUAL;
CREATE INDEX invitations_by_mailbox ON invitations (mailbox, id);
-- Whether the tenant shares the bounds of those that anybody makes: it signed up by itself, is of the free tier, and has no
-- confirmed payment.
ALTER TABLE invitations ADD COLUMN shared INTEGER NOT NULL DEFAULT 0;

CREATE INDEX directory_outbox_of_tenant ON directory_outbox (tenant_id) WHERE shipped_ms IS NULL;
