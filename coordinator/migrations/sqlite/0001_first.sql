-- Moments are microseconds since 1970, UTC, by the database's clock. Ids are UUIDv7 as text.
CREATE TABLE deliveries (
    id          TEXT PRIMARY KEY,
    event       TEXT NOT NULL,
    action      TEXT,
    repository  TEXT,
    received_at BIGINT NOT NULL
);

CREATE TABLE tasks (
    id              TEXT PRIMARY KEY,
    kind            TEXT NOT NULL CHECK (kind IN ('issue', 'revision', 'prompt', 'workflow_step', 'support')),
    state           TEXT NOT NULL CHECK (state IN ('pending', 'analyzing', 'waiting', 'queued', 'assigned',
                        'in_progress', 'testing', 'review', 'completed', 'failed', 'cancelled')),
    wait_reason     TEXT,
    attempt         BIGINT NOT NULL DEFAULT 0,
    failures        BIGINT NOT NULL DEFAULT 0,
    max_attempts    BIGINT NOT NULL,
    priority        BIGINT NOT NULL CHECK (priority BETWEEN 1 AND 10),
    repository      TEXT NOT NULL,
    issue           BIGINT,
    trigger_kind    TEXT NOT NULL,
    trigger_object  TEXT NOT NULL,
    branch          TEXT NOT NULL,
    request         TEXT NOT NULL,
    analysis        TEXT,
    pull_request    TEXT,
    pull_number     BIGINT,
    -- The pull request was closed before its task reported it: 'merged' or 'unmerged'.
    pull_closed     TEXT CHECK (pull_closed IN ('merged', 'unmerged')),
    failure         TEXT,
    summary         TEXT,
    status_comment  BIGINT,
    queued_at       BIGINT,
    not_before      BIGINT NOT NULL DEFAULT 0,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL
);

-- N+1 events of one act are one task.
CREATE UNIQUE INDEX tasks_one_per_trigger
    ON tasks (repository, COALESCE(issue, -1), trigger_kind, trigger_object);
-- An issue has at most one active task, whoever asks.
CREATE UNIQUE INDEX tasks_one_active_per_issue ON tasks (repository, issue)
    WHERE issue IS NOT NULL AND state NOT IN ('completed', 'failed', 'cancelled');
CREATE INDEX tasks_queued ON tasks (priority, queued_at) WHERE state = 'queued';
CREATE INDEX tasks_unanalyzed ON tasks (id) WHERE state IN ('pending', 'analyzing');
CREATE INDEX tasks_by_issue ON tasks (repository, issue, id);
CREATE INDEX tasks_by_pull ON tasks (repository, pull_number) WHERE pull_number IS NOT NULL;

CREATE TABLE attempts (
    task         TEXT NOT NULL REFERENCES tasks (id),
    number       BIGINT NOT NULL,
    agent        TEXT NOT NULL,
    lease_until  BIGINT NOT NULL,
    last_seq     BIGINT NOT NULL DEFAULT 0,
    assigned_at  BIGINT NOT NULL,
    ended_at     BIGINT,
    outcome      TEXT,
    failure      TEXT,
    tests_before TEXT,
    tests_after  TEXT,
    PRIMARY KEY (task, number)
);

-- A task never has two live attempts.
CREATE UNIQUE INDEX attempts_one_live ON attempts (task) WHERE ended_at IS NULL;
CREATE INDEX attempts_live_by_agent ON attempts (agent) WHERE ended_at IS NULL;
CREATE INDEX attempts_leases ON attempts (lease_until) WHERE ended_at IS NULL;

CREATE TABLE checkpoints (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    task   TEXT NOT NULL REFERENCES tasks (id),
    node   TEXT NOT NULL,
    visit  BIGINT NOT NULL,
    output TEXT NOT NULL,
    UNIQUE (task, node, visit)
);

CREATE TABLE task_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    task       TEXT NOT NULL REFERENCES tasks (id),
    attempt    BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    kind       TEXT NOT NULL,
    from_state TEXT,
    to_state   TEXT,
    actor      TEXT NOT NULL,
    detail     TEXT NOT NULL
);
CREATE INDEX task_events_by_task ON task_events (task, id);

CREATE TABLE task_logs (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    task    TEXT NOT NULL REFERENCES tasks (id),
    attempt BIGINT NOT NULL,
    line    TEXT NOT NULL
);
CREATE INDEX task_logs_by_task ON task_logs (task, attempt, id);

CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    repository TEXT NOT NULL,
    issue      BIGINT NOT NULL,
    task       TEXT REFERENCES tasks (id),
    effect     TEXT NOT NULL,
    tries      BIGINT NOT NULL DEFAULT 0,
    next_at    BIGINT NOT NULL DEFAULT 0,
    taken_at   BIGINT,
    held_until BIGINT NOT NULL DEFAULT 0,
    done_at    BIGINT,
    error      TEXT
);
CREATE INDEX outbox_unsent ON outbox (repository, issue, id) WHERE done_at IS NULL;

CREATE TABLE agents (
    id            TEXT PRIMARY KEY,
    description   TEXT NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('offline', 'idle', 'busy', 'overloaded', 'maintenance', 'error')),
    registered_at BIGINT NOT NULL
);
