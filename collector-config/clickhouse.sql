-- What clickhouse.yaml writes into, and what llmspan reads: run it once, before the Collector starts.
--
--   clickhouse-client --multiquery < clickhouse.sql
--
-- Written by clickhouse_sql.py from the statements of `llmspan migrate --backend clickhouse`, for the database `otel`
-- on one server of ClickHouse 26.2 or later; with LLMSPAN_CLICKHOUSE_OTEL_TRACES=1 that command makes the same tables,
-- and knows clusters, other engines and older servers too.
--
-- otel_traces is the table of the Collector's exporter. provider_traces_from_otel makes records of its GenAI spans: all
-- that a span tells, no payloads. A record that llmspan's own backend writes too stays one record, with the payload.
-- Rows leave after 30 days.

CREATE DATABASE IF NOT EXISTS otel;

CREATE TABLE IF NOT EXISTS `otel`.provider_traces (
    id String CODEC(ZSTD(1)),
    trace_id Nullable(String) CODEC(ZSTD(1)),
    span_id Nullable(String) CODEC(ZSTD(1)),
    parent_span_id Nullable(String) CODEC(ZSTD(1)),
    schema_version Int64 DEFAULT 1 CODEC(T64, ZSTD(1)),
    step_id Nullable(String) CODEC(ZSTD(1)),
    run_id Nullable(String) CODEC(ZSTD(1)),
    agent_id Nullable(String) CODEC(ZSTD(1)),
    conversation_id Nullable(String) CODEC(ZSTD(1)),
    user_id Nullable(String) CODEC(ZSTD(1)),
    org_id Nullable(String) CODEC(ZSTD(1)),
    agent_tags Array(String) CODEC(ZSTD(1)),
    call_type LowCardinality(Nullable(String)),
    source LowCardinality(Nullable(String)),
    attributes String DEFAULT '{}' CODEC(ZSTD(1)),
    provider LowCardinality(String),
    operation LowCardinality(String),
    api LowCardinality(String),
    request_model LowCardinality(Nullable(String)),
    response_model LowCardinality(Nullable(String)),
    response_id Nullable(String) CODEC(ZSTD(1)),
    request_id Nullable(String) CODEC(ZSTD(1)),
    stream Bool DEFAULT false,
    service_tier LowCardinality(Nullable(String)),
    server_address LowCardinality(Nullable(String)),
    server_port Nullable(Int64) CODEC(T64, ZSTD(1)),
    sdk LowCardinality(Nullable(String)),
    status LowCardinality(String),
    finish_reasons Array(Nullable(String)) CODEC(ZSTD(1)),
    error_type LowCardinality(Nullable(String)),
    error_message Nullable(String) CODEC(ZSTD(1)),
    error_json Nullable(String) CODEC(ZSTD(1)),
    http_status Nullable(Int64) CODEC(T64, ZSTD(1)),
    attempts Nullable(Int64) CODEC(T64, ZSTD(1)),
    started_at Int64 CODEC(Delta(8), ZSTD(1)),
    duration_ns Int64 CODEC(T64, ZSTD(1)),
    time_to_first_chunk_ns Nullable(Int64) CODEC(T64, ZSTD(1)),
    chunk_count Nullable(Int64) CODEC(T64, ZSTD(1)),
    input_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    output_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    cache_read_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    cache_write_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    reasoning_tokens Nullable(Int64) CODEC(T64, ZSTD(1)),
    usage_details String DEFAULT '{}' CODEC(ZSTD(1)),
    usage_source LowCardinality(String) DEFAULT 'none',
    usage_raw Nullable(String) CODEC(ZSTD(1)),
    content LowCardinality(String) DEFAULT 'metadata',
    request_bytes Nullable(Int64) CODEC(T64, ZSTD(1)),
    response_bytes Nullable(Int64) CODEC(T64, ZSTD(1)),
    llm_config Nullable(String) CODEC(ZSTD(1)),
    compaction_settings Nullable(String) CODEC(ZSTD(1)),
    billing_context Nullable(String) CODEC(ZSTD(1)),
    request_json Nullable(String) CODEC(ZSTD(3)),
    response_json Nullable(String) CODEC(ZSTD(3)),
    timestamp DateTime64(9, 'UTC') DEFAULT fromUnixTimestamp64Nano(greatest(0, least(started_at, 4102444800000000000)), 'UTC') CODEC(Delta(8), ZSTD(1)),
    inserted_at DateTime64(9, 'UTC') DEFAULT now64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    precedence UInt64 DEFAULT 18446744073709551615 - toUnixTimestamp64Nano(inserted_at) CODEC(Delta(8), ZSTD(1)),
    INDEX idx_started_at started_at TYPE minmax GRANULARITY 1,
    INDEX idx_step_id step_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_trace_id trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_run_id run_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_agent_id agent_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toDate(timestamp)
ORDER BY id
TTL toDateTime(timestamp) + INTERVAL 30 DAY
SETTINGS index_granularity = 8192, index_granularity_bytes = 1048576, ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000
COMMENT 'llmspan 1';

CREATE TABLE IF NOT EXISTS `otel`.llmspan_annotations (
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
ENGINE = ReplacingMergeTree
PARTITION BY toDate(timestamp)
ORDER BY id
TTL toDateTime(timestamp) + INTERVAL 30 DAY
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1
COMMENT 'llmspan 1';

CREATE TABLE IF NOT EXISTS `otel`.otel_traces (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)),
    TraceState String CODEC(ZSTD(1)),
    SpanName LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind LowCardinality(String) CODEC(ZSTD(1)),
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion String CODEC(ZSTD(1)),
    SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration UInt64 CODEC(T64, ZSTD(1)),
    StatusCode LowCardinality(String) CODEC(ZSTD(1)),
    StatusMessage String CODEC(ZSTD(1)),
    Events Nested(Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String)) CODEC(ZSTD(1)),
    Links Nested(TraceId String, SpanId String, TraceState String, Attributes Map(LowCardinality(String), String)) CODEC(ZSTD(1)),
    ResourceAttributeItems Array(String) ALIAS arrayMap(kv -> concat(kv.1, '=', kv.2), CAST(ResourceAttributes, 'Array(Tuple(String, String))')),
    SpanAttributeItems Array(String) ALIAS arrayMap(kv -> concat(kv.1, '=', kv.2), CAST(SpanAttributes, 'Array(Tuple(String, String))')),
    INDEX idx_trace_id TraceId TYPE text(tokenizer = 'array'),
    INDEX idx_res_attr_key mapKeys(ResourceAttributes) TYPE text(tokenizer = 'array'),
    INDEX idx_res_attr_items ResourceAttributeItems TYPE text(tokenizer = 'array'),
    INDEX idx_span_attr_key mapKeys(SpanAttributes) TYPE text(tokenizer = 'array'),
    INDEX idx_span_attr_items SpanAttributeItems TYPE text(tokenizer = 'array'),
    INDEX idx_duration Duration TYPE minmax GRANULARITY 1,
    INDEX idx_lower_span_name lower(SpanName) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8
)
ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
PRIMARY KEY (ServiceName, SpanName, toDateTime(Timestamp))
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp), Timestamp)
TTL toDateTime(Timestamp) + INTERVAL 30 DAY
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS `otel`.otel_traces_trace_id_ts (
    TraceId String CODEC(ZSTD(1)),
    Start SimpleAggregateFunction(min, DateTime) CODEC(ZSTD(1)),
    End SimpleAggregateFunction(max, DateTime) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toStartOfWeek(Start)
ORDER BY TraceId
TTL toDateTime(Start) + INTERVAL 30 DAY
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS `otel`.otel_traces_trace_id_ts_mv
TO `otel`.otel_traces_trace_id_ts
AS SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End
FROM `otel`.otel_traces
WHERE TraceId != ''
GROUP BY TraceId;

CREATE MATERIALIZED VIEW IF NOT EXISTS `otel`.provider_traces_from_otel
TO `otel`.provider_traces
AS SELECT
    coalesce(if(mapContains(SpanAttributes, 'llmspan.record.id'), SpanAttributes['llmspan.record.id'], NULL), UUIDNumToString(toFixedString(concat(substring(substring(SHA1(concat(unhex('6ba7b8129dad11d180b400c04fd430c8'), concat(trimLeft(TraceId, '0'), '/', trimLeft(SpanId, '0')))), 1, 16), 1, 6), char(bitOr(bitAnd(reinterpretAsUInt8(substring(substring(SHA1(concat(unhex('6ba7b8129dad11d180b400c04fd430c8'), concat(trimLeft(TraceId, '0'), '/', trimLeft(SpanId, '0')))), 1, 16), 7, 1)), 15), 80)), substring(substring(SHA1(concat(unhex('6ba7b8129dad11d180b400c04fd430c8'), concat(trimLeft(TraceId, '0'), '/', trimLeft(SpanId, '0')))), 1, 16), 8, 1), char(bitOr(bitAnd(reinterpretAsUInt8(substring(substring(SHA1(concat(unhex('6ba7b8129dad11d180b400c04fd430c8'), concat(trimLeft(TraceId, '0'), '/', trimLeft(SpanId, '0')))), 1, 16), 9, 1)), 63), 128)), substring(substring(SHA1(concat(unhex('6ba7b8129dad11d180b400c04fd430c8'), concat(trimLeft(TraceId, '0'), '/', trimLeft(SpanId, '0')))), 1, 16), 10)), 16))) AS id,
    nullIf(TraceId, '') AS trace_id,
    nullIf(SpanId, '') AS span_id,
    nullIf(ParentSpanId, '') AS parent_span_id,
    if(mapContains(SpanAttributes, 'llmspan.step.id'), SpanAttributes['llmspan.step.id'], NULL) AS step_id,
    if(mapContains(SpanAttributes, 'llmspan.run.id'), SpanAttributes['llmspan.run.id'], NULL) AS run_id,
    if(mapContains(SpanAttributes, 'gen_ai.agent.id'), SpanAttributes['gen_ai.agent.id'], NULL) AS agent_id,
    if(mapContains(SpanAttributes, 'gen_ai.conversation.id'), SpanAttributes['gen_ai.conversation.id'], NULL) AS conversation_id,
    if(mapContains(SpanAttributes, 'user.id'), SpanAttributes['user.id'], NULL) AS user_id,
    if(mapContains(SpanAttributes, 'llmspan.org.id'), SpanAttributes['llmspan.org.id'], NULL) AS org_id,
    JSONExtract(SpanAttributes['llmspan.agent.tags'], 'Array(String)') AS agent_tags,
    if(mapContains(SpanAttributes, 'llmspan.call.type'), SpanAttributes['llmspan.call.type'], NULL) AS call_type,
    coalesce(if(mapContains(SpanAttributes, 'llmspan.source'), SpanAttributes['llmspan.source'], NULL), nullIf(ServiceName, '')) AS source,
    concat('{', arrayStringConcat(arrayMap(kv -> concat(toJSONString(substring(kv.1, 20)), ':', toJSONString(kv.2)), arrayFilter(kv -> startsWith(kv.1, 'llmspan.attributes.'), CAST(SpanAttributes, 'Array(Tuple(String, String))'))), ','), '}') AS attributes,
    coalesce(coalesce(if(mapContains(SpanAttributes, 'gen_ai.provider.name'), SpanAttributes['gen_ai.provider.name'], NULL), if(mapContains(SpanAttributes, 'gen_ai.system'), SpanAttributes['gen_ai.system'], NULL)), 'unknown') AS provider,
    SpanAttributes['gen_ai.operation.name'] AS operation,
    coalesce(if(mapContains(SpanAttributes, 'llmspan.api'), SpanAttributes['llmspan.api'], NULL), if(mapContains(SpanAttributes, 'openai.api.type'), SpanAttributes['openai.api.type'], NULL), SpanAttributes['gen_ai.operation.name']) AS api,
    if(mapContains(SpanAttributes, 'gen_ai.request.model'), SpanAttributes['gen_ai.request.model'], NULL) AS request_model,
    if(mapContains(SpanAttributes, 'gen_ai.response.model'), SpanAttributes['gen_ai.response.model'], NULL) AS response_model,
    if(mapContains(SpanAttributes, 'gen_ai.response.id'), SpanAttributes['gen_ai.response.id'], NULL) AS response_id,
    if(mapContains(SpanAttributes, 'llmspan.request.id'), SpanAttributes['llmspan.request.id'], NULL) AS request_id,
    SpanAttributes['gen_ai.request.stream'] = 'true' AS stream,
    if(mapContains(SpanAttributes, 'llmspan.response.service_tier'), SpanAttributes['llmspan.response.service_tier'], NULL) AS service_tier,
    if(mapContains(SpanAttributes, 'server.address'), SpanAttributes['server.address'], NULL) AS server_address,
    toInt64OrNull(SpanAttributes['server.port']) AS server_port,
    if(mapContains(SpanAttributes, 'llmspan.sdk'), SpanAttributes['llmspan.sdk'], NULL) AS sdk,
    coalesce(if(SpanAttributes['llmspan.status'] IN ('ok', 'error', 'cancelled', 'closed_early', 'incomplete'), SpanAttributes['llmspan.status'], NULL), if(isNull(if(mapContains(SpanAttributes, 'error.type'), SpanAttributes['error.type'], NULL)), 'ok', 'error')) AS status,
    arrayMap(reason -> nullIf(reason, 'error'), JSONExtract(coalesce(if(mapContains(SpanAttributes, 'llmspan.response.finish_reasons'), SpanAttributes['llmspan.response.finish_reasons'], NULL), SpanAttributes['gen_ai.response.finish_reasons']), 'Array(String)')) AS finish_reasons,
    coalesce(if(mapContains(SpanAttributes, 'error.type'), SpanAttributes['error.type'], NULL), if(mapContains(SpanAttributes, 'llmspan.cancelled_by'), SpanAttributes['llmspan.cancelled_by'], NULL)) AS error_type,
    coalesce(if(mapContains(SpanAttributes, 'llmspan.error.message'), SpanAttributes['llmspan.error.message'], NULL), nullIf(StatusMessage, '')) AS error_message,
    toInt64OrNull(SpanAttributes['http.response.status_code']) AS http_status,
    toInt64OrNull(SpanAttributes['llmspan.attempts']) AS attempts,
    toUnixTimestamp64Nano(Timestamp) AS started_at,
    toInt64(Duration) AS duration_ns,
    toInt64(round(toFloat64OrNull(SpanAttributes['gen_ai.response.time_to_first_chunk']) * 1e9)) AS time_to_first_chunk_ns,
    toInt64OrNull(SpanAttributes['llmspan.response.chunk_count']) AS chunk_count,
    coalesce(toInt64OrNull(SpanAttributes['gen_ai.usage.input_tokens']), toInt64OrNull(SpanAttributes['gen_ai.usage.prompt_tokens'])) AS input_tokens,
    coalesce(toInt64OrNull(SpanAttributes['gen_ai.usage.output_tokens']), toInt64OrNull(SpanAttributes['gen_ai.usage.completion_tokens'])) AS output_tokens,
    toInt64OrNull(SpanAttributes['gen_ai.usage.cache_read.input_tokens']) AS cache_read_tokens,
    coalesce(toInt64OrNull(SpanAttributes['gen_ai.usage.cache_write.input_tokens']), toInt64OrNull(SpanAttributes['gen_ai.usage.cache_creation.input_tokens'])) AS cache_write_tokens,
    toInt64OrNull(SpanAttributes['gen_ai.usage.reasoning.output_tokens']) AS reasoning_tokens,
    concat('{', arrayStringConcat(arrayMap(kv -> concat(toJSONString(transform(kv.1, ['anthropic.usage.cache_creation.ephemeral_5m_input_tokens', 'anthropic.usage.cache_creation.ephemeral_1h_input_tokens', 'gen_ai.usage.audio.input_tokens', 'gen_ai.usage.audio.output_tokens', 'gen_ai.usage.image.input_tokens', 'gen_ai.usage.image.output_tokens', 'gen_ai.usage.text.input_tokens', 'gen_ai.usage.text.output_tokens', 'gen_ai.usage.audio.cache_read.input_tokens', 'gen_ai.usage.image.cache_read.input_tokens', 'gen_ai.usage.text.cache_read.input_tokens'], ['cache_write_5m_tokens', 'cache_write_1h_tokens', 'audio_input_tokens', 'audio_output_tokens', 'image_input_tokens', 'image_output_tokens', 'text_input_tokens', 'text_output_tokens', 'cache_read_audio_tokens', 'cache_read_image_tokens', 'cache_read_text_tokens'], substring(kv.1, 15))), ':', toString(toInt64OrZero(kv.2))), arrayFilter(kv -> (startsWith(kv.1, 'llmspan.usage.') OR kv.1 IN ('anthropic.usage.cache_creation.ephemeral_5m_input_tokens', 'anthropic.usage.cache_creation.ephemeral_1h_input_tokens', 'gen_ai.usage.audio.input_tokens', 'gen_ai.usage.audio.output_tokens', 'gen_ai.usage.image.input_tokens', 'gen_ai.usage.image.output_tokens', 'gen_ai.usage.text.input_tokens', 'gen_ai.usage.text.output_tokens', 'gen_ai.usage.audio.cache_read.input_tokens', 'gen_ai.usage.image.cache_read.input_tokens', 'gen_ai.usage.text.cache_read.input_tokens')) AND isNotNull(toInt64OrNull(kv.2)), CAST(SpanAttributes, 'Array(Tuple(String, String))'))), ','), '}') AS usage_details,
    coalesce(if(SpanAttributes['llmspan.usage_source'] IN ('provider', 'partial', 'none'), SpanAttributes['llmspan.usage_source'], NULL), if(isNotNull(coalesce(toInt64OrNull(SpanAttributes['gen_ai.usage.input_tokens']), toInt64OrNull(SpanAttributes['gen_ai.usage.prompt_tokens']))) OR isNotNull(coalesce(toInt64OrNull(SpanAttributes['gen_ai.usage.output_tokens']), toInt64OrNull(SpanAttributes['gen_ai.usage.completion_tokens']))) OR isNotNull(toInt64OrNull(SpanAttributes['gen_ai.usage.cache_read.input_tokens'])) OR isNotNull(coalesce(toInt64OrNull(SpanAttributes['gen_ai.usage.cache_write.input_tokens']), toInt64OrNull(SpanAttributes['gen_ai.usage.cache_creation.input_tokens']))) OR isNotNull(toInt64OrNull(SpanAttributes['gen_ai.usage.reasoning.output_tokens'])), 'provider', 'none')) AS usage_source,
    'metadata' AS content,
    toInt64OrNull(SpanAttributes['llmspan.request.bytes']) AS request_bytes,
    toInt64OrNull(SpanAttributes['llmspan.response.bytes']) AS response_bytes,
    9223372036854775807 - toUnixTimestamp64Nano(now64(9, 'UTC')) AS precedence
FROM `otel`.otel_traces
WHERE (mapContains(SpanAttributes, 'llmspan.record.id') OR SpanAttributes['gen_ai.operation.name'] IN ('chat', 'text_completion', 'generate_content', 'embeddings')) AND NOT mapContains(SpanAttributes, 'llmspan.written');
