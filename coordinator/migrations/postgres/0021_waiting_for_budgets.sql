-- no-transaction
-- A task whose budget is spent waits until then, and is offered again.
CREATE INDEX CONCURRENTLY IF NOT EXISTS tasks_waiting_for_budgets ON tasks (not_before) WHERE state = 'waiting' AND wait_reason = 'budget';
