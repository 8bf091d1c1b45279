-- Spans between calls, with the columns of the Collector's otel_traces. Maps are JSON text; times are nanoseconds.
CREATE TABLE spans (
    trace_id TEXT NOT NULL,
    span_id TEXT NOT NULL,
    parent_span_id TEXT,
    trace_state TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    service_name TEXT NOT NULL,
    resource_attributes TEXT NOT NULL,
    scope_name TEXT NOT NULL,
    scope_version TEXT NOT NULL,
    attributes TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    status_code TEXT NOT NULL,
    status_message TEXT NOT NULL,
    PRIMARY KEY (trace_id, span_id)
);

CREATE INDEX spans_started_at ON spans (started_at);

-- The spans of a trace go with the last of its records, whoever deletes it.
CREATE TRIGGER spans_of_deleted_traces AFTER DELETE ON provider_traces WHEN old.trace_id IS NOT NULL
BEGIN
    DELETE FROM spans WHERE trace_id = old.trace_id
        AND NOT EXISTS (SELECT 1 FROM provider_traces WHERE trace_id = old.trace_id);
END;

CREATE INDEX provider_traces_conversation_id ON provider_traces (conversation_id, started_at, id)
    WHERE conversation_id IS NOT NULL;
