-- Parts of the queue of which nothing is given to agents.
CREATE TABLE pauses (
    scope  TEXT NOT NULL CHECK (scope IN ('repository', 'agent_type')),
    name   TEXT NOT NULL,
    actor  TEXT NOT NULL,
    reason TEXT,
    since  BIGINT NOT NULL,
    PRIMARY KEY (scope, name)
);

-- What is at work, to be counted where it is limited.
CREATE INDEX tasks_at_work ON tasks (repository, agent_type)
    WHERE state IN ('assigned', 'in_progress', 'testing');
