-- What an attempt's log takes, so that its output can't fill the database.
ALTER TABLE attempts ADD COLUMN log_volume BIGINT NOT NULL DEFAULT 0;
