-- A task waits until none of those that it depends on is active. The row goes with the end of the
-- other task.
CREATE TABLE task_dependencies (
    task       TEXT NOT NULL,
    depends_on TEXT NOT NULL,
    PRIMARY KEY (depends_on, task)
);
CREATE INDEX task_dependencies_by_task ON task_dependencies (task, depends_on);
