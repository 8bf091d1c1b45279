-- Notes and scores that were given to a record or to a trace; the timestamp is that of the record, or of the newest of the
-- trace, so that they go with it. Of the two values one at most is there.
CREATE TABLE IF NOT EXISTS $database.$table$on_cluster (
    id String CODEC(ZSTD(1)),
    record_id Nullable(String) CODEC(ZSTD(1)),
    trace_id Nullable(String) CODEC(ZSTD(1)),
    name LowCardinality(String),
    number_value Nullable(Float64),
    text_value Nullable(String) CODEC(ZSTD(1)),
    comment Nullable(String) CODEC(ZSTD(1)),
    source LowCardinality(Nullable(String)),
    created_at Int64 CODEC(Delta(8), ZSTD(1)),
    timestamp DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    INDEX idx_record_id record_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_trace_id trace_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = $engine
PARTITION BY toDate(timestamp)
ORDER BY id
$ttl
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1
COMMENT 'llmspan 1'
