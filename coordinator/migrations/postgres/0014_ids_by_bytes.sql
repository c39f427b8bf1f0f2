-- Ids of tasks are UUIDv7, so their order is the order of their making, as long as they are compared
-- byte by byte. Languages sort otherwise: in Danish and Norwegian `aa` comes after `z`, in Welsh `dd`
-- and `ff` after `dz` and `fz`. These are the columns whose order is relied on.
ALTER TABLE tasks ALTER COLUMN id TYPE TEXT COLLATE "C";
ALTER TABLE task_triggers ALTER COLUMN task TYPE TEXT COLLATE "C";
