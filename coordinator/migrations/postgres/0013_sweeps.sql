-- When GitHub was last compared with the tasks, by any replica.
CREATE TABLE sweeps (
    name     TEXT PRIMARY KEY,
    began_at BIGINT NOT NULL
);
