-- The W3C `traceparent` of what took the task in: all that is done for it is in that trace.
ALTER TABLE tasks ADD COLUMN traceparent TEXT;
