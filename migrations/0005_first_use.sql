-- In test an address is registered to the tenant that first uses it. Whoever is registered for it by an operator takes
-- it from such a tenant, whose ledger must then forget it: `taken_from` names that tenant. Rows made before this
-- migration do not say how they came about, and keep their tenant.

ALTER TABLE recipients ADD COLUMN first_use INTEGER NOT NULL DEFAULT 0;
ALTER TABLE recipients ADD COLUMN taken_from TEXT;
