-- What is kept so that Stripe and the directory stay in line: the hash of the address and name that Stripe was told last (null:
-- not known), the second subscription that was told of last, and the number of the read that is wanted: one with a smaller
-- number began before something happened, and what is due because of it stays due.
ALTER TABLE billing ADD COLUMN customer_told TEXT;
ALTER TABLE billing ADD COLUMN surplus_told TEXT;
ALTER TABLE billing ADD COLUMN wanted_ticket INTEGER NOT NULL DEFAULT 0;
-- Tenants with a tier that is paid for, as operators look for those without a subscription.
CREATE INDEX tenants_sold ON tenants (id) WHERE tier <> 'free' AND tier_by = 'billing';
