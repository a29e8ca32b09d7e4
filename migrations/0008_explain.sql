-- Whether a settle's success holds our additions in its body too, and not in headers only.

ALTER TABLE tenants ADD COLUMN explain INTEGER NOT NULL DEFAULT 0;
