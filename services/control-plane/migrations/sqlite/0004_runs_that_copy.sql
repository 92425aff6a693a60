-- Exports that are over and whose bundles are still copied: the watchdog looks at these too.
ALTER TABLE runs ADD COLUMN copying BIGINT NOT NULL DEFAULT 0;
UPDATE runs SET copying = 1 WHERE ended = 1 AND summary LIKE '%"is_copying":true%';
CREATE INDEX runs_copying ON runs (seq) WHERE copying = 1;
