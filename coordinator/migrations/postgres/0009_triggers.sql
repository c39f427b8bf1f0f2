-- What a task never changes of, to be found by. A task's row is written anew with each change of its
-- state, and every index of it with that row; this one is written once.
CREATE TABLE task_triggers (
    repository TEXT NOT NULL,
    -- -1 where there is none.
    issue      BIGINT NOT NULL,
    kind       TEXT NOT NULL,
    object     TEXT NOT NULL,
    task       TEXT NOT NULL,
    -- N+1 events of one act are one task.
    PRIMARY KEY (repository, issue, kind, object)
);
CREATE INDEX task_triggers_newest ON task_triggers (repository, task);
INSERT INTO task_triggers (repository, issue, kind, object, task)
    SELECT repository, COALESCE(issue, -1), trigger_kind, trigger_object, id FROM tasks;
DROP INDEX tasks_one_per_trigger;
DROP INDEX tasks_by_issue;
