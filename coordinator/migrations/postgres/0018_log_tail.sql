-- Lines after a log's head are in parts that are numbered from 1; the oldest of them are removed while
-- the log grows, and the last line of them is kept as a row that says how many were left out.
ALTER TABLE task_logs ADD COLUMN part BIGINT;
ALTER TABLE task_logs ADD COLUMN left_out BIGINT;
