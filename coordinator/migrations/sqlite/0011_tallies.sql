-- How many tasks are in each state, by the history up to the row `counted_to`.
CREATE TABLE tallies (
    name TEXT PRIMARY KEY,
    n    BIGINT NOT NULL
);
