-- Records of what came through a Collector. A record that was also written here is the same record, by its id; it has
-- the payload, so it is preferred whenever it comes: precedence is in the lower half here.
CREATE MATERIALIZED VIEW IF NOT EXISTS $database.provider_traces_from_otel$on_cluster
TO $database.provider_traces
AS SELECT
    $columns,
    9223372036854775807 - toUnixTimestamp64Nano(now64(9, 'UTC')) AS precedence
FROM $database.otel_traces
WHERE $condition
