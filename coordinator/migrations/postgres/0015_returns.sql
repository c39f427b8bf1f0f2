-- Assignments that came back without work since the task last made progress: how many, from whom and
-- why, as JSON; empty when there are none.
ALTER TABLE tasks ADD COLUMN returns TEXT;
-- A task that no agent takes waits until then, and is offered again.
CREATE INDEX tasks_waiting_for_agents ON tasks (not_before) WHERE state = 'waiting' AND wait_reason = 'agent';
