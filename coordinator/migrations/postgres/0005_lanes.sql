-- A lane is what waits for one type of agent in one repository. Each lane is in its order: a point
-- of priority is worth ten minutes (600,000,000 microseconds).
ALTER TABLE tasks ADD COLUMN agent_type TEXT;
UPDATE tasks SET agent_type = analysis::json #>> '{requirement,agent_type}' WHERE analysis IS NOT NULL;
DROP INDEX tasks_queue;
CREATE INDEX tasks_lanes ON tasks (agent_type, repository, (queued_at - priority * 600000000), id)
    WHERE state = 'queued';
