-- When sending an entry was first tried: how long it has been tried for, and since when a comment of
-- it may be on GitHub.
ALTER TABLE outbox ADD COLUMN first_taken_at BIGINT;
