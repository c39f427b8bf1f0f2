-- What people added to tasks after they were asked for, in the order of its coming.
CREATE TABLE follow_ups (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    task    TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    comment BIGINT NOT NULL,
    author  TEXT NOT NULL,
    body    TEXT NOT NULL,
    said_at BIGINT NOT NULL,
    UNIQUE (task, comment)
);
CREATE INDEX follow_ups_by_time ON follow_ups (said_at);
