-- Rows of these tables are written anew several times in a task's life. A new version that finds
-- room in the page of the old one needs no other page, and where no indexed column changes, no
-- entry in any index.
ALTER TABLE tasks SET (fillfactor = 50);
ALTER TABLE attempts SET (fillfactor = 50);
