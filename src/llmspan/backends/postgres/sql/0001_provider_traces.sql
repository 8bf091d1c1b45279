-- One row a record; the columns are the keys of the record, in their order, and `started_at_ns` for the nanoseconds that
-- a timestamp cannot hold. JSON is `json`, which keeps the text as it is, and not `jsonb`, which loses some of it and
-- refuses the rest. Run with the search path set to the schema, and nothing after it but pg_temp.
CREATE TABLE llmspan_schema (
    version integer NOT NULL PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE provider_traces (
    id text COLLATE "C" NOT NULL,
    trace_id text COLLATE "C",
    span_id text COLLATE "C",
    parent_span_id text COLLATE "C",
    schema_version bigint NOT NULL,
    step_id text COLLATE "C",
    run_id text COLLATE "C",
    agent_id text COLLATE "C",
    conversation_id text COLLATE "C",
    user_id text COLLATE "C",
    org_id text COLLATE "C",
    agent_tags json NOT NULL,
    call_type text COLLATE "C",
    source text COLLATE "C",
    attributes json NOT NULL,
    provider text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    api text COLLATE "C" NOT NULL,
    request_model text COLLATE "C",
    response_model text COLLATE "C",
    response_id text COLLATE "C",
    request_id text COLLATE "C",
    stream boolean NOT NULL,
    service_tier text COLLATE "C",
    server_address text COLLATE "C",
    server_port bigint,
    sdk text COLLATE "C",
    status text COLLATE "C" NOT NULL,
    finish_reasons json NOT NULL,
    error_type text COLLATE "C",
    error_message text COLLATE "C",
    error_json json,
    http_status bigint,
    attempts bigint,
    started_at timestamptz NOT NULL,
    started_at_ns bigint NOT NULL,
    duration_ns bigint NOT NULL,
    time_to_first_chunk_ns bigint,
    chunk_count bigint,
    input_tokens bigint,
    output_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    reasoning_tokens bigint,
    usage_details json NOT NULL,
    usage_source text COLLATE "C" NOT NULL,
    usage_raw json,
    content text COLLATE "C" NOT NULL,
    request_bytes bigint,
    response_bytes bigint,
    llm_config json,
    compaction_settings json,
    billing_context json,
    request_json json,
    response_json json,
    -- A partitioned table has no other kind of key: the time is part of it. A record's time never changes.
    PRIMARY KEY (id, started_at)
) PARTITION BY RANGE (started_at);

-- The payloads are the first to leave the row, and everything else stays in it as long as it fits: reading a row
-- without its payloads touches one page.
ALTER TABLE provider_traces
    ALTER COLUMN agent_tags SET STORAGE MAIN,
    ALTER COLUMN attributes SET STORAGE MAIN,
    ALTER COLUMN error_message SET STORAGE MAIN,
    ALTER COLUMN error_json SET STORAGE MAIN,
    ALTER COLUMN usage_details SET STORAGE MAIN,
    ALTER COLUMN usage_raw SET STORAGE MAIN,
    ALTER COLUMN llm_config SET STORAGE MAIN,
    ALTER COLUMN compaction_settings SET STORAGE MAIN,
    ALTER COLUMN billing_context SET STORAGE MAIN;

DO $$
BEGIN
    ALTER TABLE provider_traces
        ALTER COLUMN request_json SET COMPRESSION lz4,
        ALTER COLUMN response_json SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL; -- a server that was built without lz4 compresses with what it has
END
$$;

CREATE INDEX provider_traces_step_id ON provider_traces (step_id, started_at_ns) WHERE step_id IS NOT NULL;
CREATE INDEX provider_traces_trace_id ON provider_traces (trace_id, started_at_ns) WHERE trace_id IS NOT NULL;
CREATE INDEX provider_traces_run_id ON provider_traces (run_id, started_at_ns) WHERE run_id IS NOT NULL;
CREATE INDEX provider_traces_agent_id ON provider_traces (agent_id, started_at_ns) WHERE agent_id IS NOT NULL;
CREATE INDEX provider_traces_started_at_ns ON provider_traces (started_at_ns);
CREATE INDEX provider_traces_started_at ON provider_traces USING brin (started_at);

-- What has no day of its own: times long past or far ahead.
CREATE TABLE provider_traces_default PARTITION OF provider_traces DEFAULT;

-- Make the partition of a day, UTC; whether it was made. Runs with the rights of the table's owner, so that a role that
-- only inserts can be given the right to call it. It waits for locks no longer than two seconds: while it waits,
-- all others wait behind it.
CREATE OR REPLACE FUNCTION provider_traces_add_day(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '2s' AS $$
DECLARE
    name text := 'provider_traces_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF day NOT BETWEEN (now() AT TIME ZONE 'UTC')::date - 400 AND (now() AT TIME ZONE 'UTC')::date + 31 THEN
        RAISE EXCEPTION 'provider_traces: no partition for %, which is more than 400 days past or 31 ahead', day
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(7812739796155067950);
    IF to_regclass(quote_ident(name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- Attaching a table that is there takes lesser locks than CREATE TABLE ... PARTITION OF.
    EXECUTE format('CREATE TABLE %I (LIKE provider_traces INCLUDING STORAGE INCLUDING COMPRESSION)', name);
    EXECUTE format(
        'ALTER TABLE provider_traces ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC'
    );
    RETURN true;
EXCEPTION WHEN check_violation THEN
    RETURN false; -- the default partition has records of that day, and will have the rest of them
END
$$;

-- Drop the partition of a day; whether there was one.
CREATE OR REPLACE FUNCTION provider_traces_drop_day(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '2s' AS $$
DECLARE
    name text := 'provider_traces_' || to_char(day, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(7812739796155067950);
    IF NOT EXISTS (
        SELECT FROM pg_inherits
        WHERE inhparent = 'provider_traces'::regclass AND inhrelid = to_regclass(quote_ident(name))
    ) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
    RETURN true;
END
$$;

-- Delete what the default partition has from before a day; how many records that were.
CREATE OR REPLACE FUNCTION provider_traces_trim_default(day date) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    WITH gone AS (
        DELETE FROM provider_traces_default WHERE started_at < day::timestamp AT TIME ZONE 'UTC' RETURNING 1
    )
    SELECT count(*) FROM gone
$$;

REVOKE ALL ON FUNCTION
    provider_traces_add_day(date), provider_traces_drop_day(date), provider_traces_trim_default(date)
FROM PUBLIC;
