-- What operators search by: a transaction, and the address of a mail or an invitation.

CREATE INDEX settlements_by_transaction ON settlements (body ->> '$.transaction');
CREATE INDEX invitations_by_email ON invitations (email);
