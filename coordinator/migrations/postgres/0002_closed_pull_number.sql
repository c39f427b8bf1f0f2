-- Which pull request `pull_closed` tells of: an earlier attempt may have opened another one.
ALTER TABLE tasks ADD COLUMN pull_closed_number BIGINT;
