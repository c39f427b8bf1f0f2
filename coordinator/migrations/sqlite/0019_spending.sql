-- What models cost the task, as JSON; empty before the first call.
ALTER TABLE tasks ADD COLUMN spent TEXT;
-- What each scope of a budget has spent, with reservations that are open in full. A scope is `task`,
-- `repository`, `user` or `day`; `day` is the day of UTC (2026-11-26), and empty for a task.
CREATE TABLE spending (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    day TEXT NOT NULL,
    tokens BIGINT NOT NULL DEFAULT 0,
    cost_micros BIGINT NOT NULL DEFAULT 0,
    -- What people allowed beyond the limit.
    extra_tokens BIGINT NOT NULL DEFAULT 0,
    extra_micros BIGINT NOT NULL DEFAULT 0,
    -- 1 once people were warned that little is left.
    warned BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (scope, name, day)
);
-- Calls of models that were allowed. `repository`, `login` and `day` say whose budgets were asked.
CREATE TABLE model_calls (
    task TEXT NOT NULL REFERENCES tasks (id),
    attempt BIGINT NOT NULL,
    call TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    repository TEXT NOT NULL,
    login TEXT NOT NULL,
    day TEXT NOT NULL,
    reserved_tokens BIGINT NOT NULL,
    -- Empty when nobody knows the price.
    reserved_micros BIGINT,
    reserved_at BIGINT NOT NULL,
    settled_at BIGINT,
    -- How often its usage was reported; the first time counts.
    settlements BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (task, attempt, call)
);
-- A task whose budget is spent waits until then, and is offered again.
CREATE INDEX tasks_waiting_for_budgets ON tasks (not_before) WHERE state = 'waiting' AND wait_reason = 'budget';
