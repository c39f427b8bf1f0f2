-- A task waits for an issue that no task is at work on: it has none yet, or its pull request was only
-- closed. `asked_at` is when GitHub was last asked how the issue stands.
CREATE TABLE issue_dependencies (
    task       TEXT NOT NULL,
    repository TEXT NOT NULL,
    issue      BIGINT NOT NULL,
    asked_at   BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (task, issue)
);
CREATE INDEX issue_dependencies_by_issue ON issue_dependencies (repository, issue);
-- The names that each repository was seen by, the newest last; GitHub's ids stay when names change.
CREATE TABLE repository_names (
    id      BIGINT NOT NULL,
    name    TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (id, name)
);
