-- What a tenant shows of itself: an address for its buyers' questions, and name, logo and colours (a JSON object).

ALTER TABLE tenants ADD COLUMN support_address TEXT;
ALTER TABLE tenants ADD COLUMN branding TEXT;
