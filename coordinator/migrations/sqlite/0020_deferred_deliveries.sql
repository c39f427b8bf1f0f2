-- The issue that a delivery is about, where its order among that issue's deliveries matters.
ALTER TABLE deliveries ADD COLUMN issue BIGINT;
-- Deliveries that could not be judged when they came, because GitHub could not be asked. Their ids are
-- in `deliveries` as well. One that was given up stays as long as those do.
CREATE TABLE deferred_deliveries (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery    TEXT NOT NULL UNIQUE,
    event       TEXT NOT NULL,
    repository  TEXT NOT NULL,
    issue       BIGINT NOT NULL,
    payload     TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    tries       BIGINT NOT NULL DEFAULT 0,
    next_at     BIGINT NOT NULL,
    held_until  BIGINT NOT NULL DEFAULT 0,
    given_up_at BIGINT,
    error       TEXT NOT NULL
);
CREATE INDEX deferred_deliveries_waiting ON deferred_deliveries (repository, issue, received_at, id)
    WHERE given_up_at IS NULL;
