-- The label that the issue was last given for the task: it is not given again.
ALTER TABLE tasks ADD COLUMN status_label TEXT;
