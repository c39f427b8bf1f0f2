-- The queue in its order: a point of priority is worth ten minutes (600,000,000 microseconds).
DROP INDEX tasks_queued;
CREATE INDEX tasks_queue ON tasks ((queued_at - priority * 600000000), id) WHERE state = 'queued';

-- Status entries that nobody has taken.
CREATE INDEX outbox_untaken ON outbox (task) WHERE done_at IS NULL AND taken_at IS NULL;
