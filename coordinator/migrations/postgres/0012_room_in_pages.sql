-- An attempt's row is written anew with its first report and at its end. A new version that finds room
-- in the page of the old one needs no other page, and no entry in any index when no indexed column
-- changes.
ALTER TABLE attempts SET (fillfactor = 50);
