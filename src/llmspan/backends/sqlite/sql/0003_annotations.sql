-- Notes and scores that were given to a record or to a trace. Of the two values one at most is there.
CREATE TABLE annotations (
    id TEXT NOT NULL PRIMARY KEY,
    record_id TEXT,
    trace_id TEXT,
    name TEXT NOT NULL,
    number_value REAL,
    text_value TEXT,
    comment TEXT,
    source TEXT,
    created_at INTEGER NOT NULL
);

CREATE INDEX annotations_record_id ON annotations (record_id, created_at) WHERE record_id IS NOT NULL;
CREATE INDEX annotations_trace_id ON annotations (trace_id, created_at) WHERE trace_id IS NOT NULL;
CREATE INDEX annotations_name ON annotations (name);

-- The annotations of a record go with it, those of a trace with the last of its records, whoever deletes it.
CREATE TRIGGER annotations_of_deleted_records AFTER DELETE ON provider_traces
BEGIN
    DELETE FROM annotations WHERE record_id = old.id;
    DELETE FROM annotations WHERE trace_id = old.trace_id
        AND NOT EXISTS (SELECT 1 FROM provider_traces WHERE trace_id = old.trace_id);
END;
