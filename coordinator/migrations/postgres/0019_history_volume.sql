-- What agents have written to the history of the attempt's task until then, so that a loop can't fill
-- the database.
ALTER TABLE attempts ADD COLUMN history_volume BIGINT NOT NULL DEFAULT 0;
