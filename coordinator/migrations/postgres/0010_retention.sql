-- Ids of deliveries say nothing of their age.
CREATE INDEX deliveries_by_age ON deliveries (received_at);
