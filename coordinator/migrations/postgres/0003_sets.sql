-- Every writer of these tables holds the task's row, which is never deleted while they tell of it.
-- A check for each row of history would cost more than the row.
ALTER TABLE attempts DROP CONSTRAINT attempts_task_fkey;
ALTER TABLE checkpoints DROP CONSTRAINT checkpoints_task_fkey;
ALTER TABLE task_events DROP CONSTRAINT task_events_task_fkey;
ALTER TABLE task_logs DROP CONSTRAINT task_logs_task_fkey;
ALTER TABLE outbox DROP CONSTRAINT outbox_task_fkey;

-- The queue in its order: a point of priority is worth ten minutes (600,000,000 microseconds).
DROP INDEX tasks_queued;
CREATE INDEX tasks_queue ON tasks ((queued_at - priority * 600000000), id) WHERE state = 'queued';

-- Status entries that nobody has taken.
CREATE INDEX outbox_untaken ON outbox (task) WHERE done_at IS NULL AND taken_at IS NULL;
