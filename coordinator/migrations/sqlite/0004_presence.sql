-- An agent is what `state` says until `present_until`, and offline after it. `session` is its
-- newest stream: the end of an older one says nothing about it.
ALTER TABLE agents ADD COLUMN session TEXT;
ALTER TABLE agents ADD COLUMN present_until BIGINT NOT NULL DEFAULT 0;

-- Attempts that ended without their agents, which are to be told.
CREATE INDEX attempts_taken_away ON attempts (ended_at) WHERE outcome IN ('cancelled', 'lost');
