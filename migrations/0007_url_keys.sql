-- Where a key is sent: 'bearer', in a header; 'url', in the path under /facilitator/k/.

ALTER TABLE api_keys ADD COLUMN kind TEXT NOT NULL DEFAULT 'bearer';
