-- Spans between calls, with the columns of the Collector's otel_traces, `started_at_ns` for the nanoseconds that a
-- timestamp cannot hold, and a partition a day beside that of the records. They may be there without the table of records,
-- if that one was dropped.
CREATE TABLE IF NOT EXISTS llmspan_spans (
    trace_id text COLLATE "C" NOT NULL,
    span_id text COLLATE "C" NOT NULL,
    parent_span_id text COLLATE "C",
    trace_state text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    service_name text COLLATE "C" NOT NULL,
    resource_attributes json NOT NULL,
    scope_name text COLLATE "C" NOT NULL,
    scope_version text COLLATE "C" NOT NULL,
    attributes json NOT NULL,
    started_at timestamptz NOT NULL,
    started_at_ns bigint NOT NULL,
    duration_ns bigint NOT NULL,
    status_code text COLLATE "C" NOT NULL,
    status_message text COLLATE "C" NOT NULL,
    PRIMARY KEY (trace_id, span_id, started_at)
) PARTITION BY RANGE (started_at);

CREATE TABLE IF NOT EXISTS llmspan_spans_default PARTITION OF llmspan_spans DEFAULT;

CREATE INDEX provider_traces_conversation_id ON provider_traces (conversation_id, started_at_ns)
    WHERE conversation_id IS NOT NULL;

-- Make or drop the partition of a day for the spans, which follows that of the records.
CREATE OR REPLACE FUNCTION llmspan_spans_add_day(day date) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
DECLARE
    name text := 'llmspan_spans_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF to_regclass(quote_ident(name)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE llmspan_spans INCLUDING STORAGE INCLUDING COMPRESSION)', name);
    EXECUTE format(
        'ALTER TABLE llmspan_spans ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name, day::timestamptz, (day + 1)::timestamptz
    );
EXCEPTION WHEN check_violation OR invalid_object_definition THEN
    RETURN; -- the default partition has spans of that day, and will have the rest of them
END
$$;

-- Run by the functions below, with the rights of the tables' owner.
REVOKE ALL ON FUNCTION llmspan_spans_add_day(date) FROM PUBLIC;

SELECT llmspan_spans_add_day(to_date(right(relname, 8), 'YYYYMMDD'))
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'provider_traces'::regclass AND relname ~ '^provider_traces_\d{8}$';

-- The spans of a trace go with the last of its records, whoever deletes it.
CREATE OR REPLACE FUNCTION llmspan_spans_of_deleted_traces() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM llmspan_spans AS spans USING (SELECT DISTINCT gone.trace_id FROM gone WHERE gone.trace_id IS NOT NULL) AS ended
    WHERE spans.trace_id = ended.trace_id
        AND NOT EXISTS (SELECT FROM provider_traces WHERE provider_traces.trace_id = ended.trace_id);
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION llmspan_spans_of_deleted_traces() FROM PUBLIC;

CREATE TRIGGER llmspan_spans_of_deleted_traces AFTER DELETE ON provider_traces
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION llmspan_spans_of_deleted_traces();

-- Whoever may write or read records may write or read spans.
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role, privilege_type
        FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'provider_traces'::regclass AND grantee <> relowner
            AND privilege_type IN ('INSERT', 'SELECT', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON llmspan_spans TO %s', given.privilege_type, given.role);
    END LOOP;
END
$$;

-- The functions of the days, as they were, and now for both tables.
CREATE OR REPLACE FUNCTION provider_traces_add_day(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET lock_timeout = '2s' SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
DECLARE
    name text := 'provider_traces_' || to_char(day, 'YYYYMMDD');
    today date := now()::date;
BEGIN
    IF day NOT BETWEEN today - 400 AND today + 31 THEN
        RAISE EXCEPTION 'provider_traces: no partition is made for %: it is more than 400 days before or 31 days after %, the server''s date; correct the clock of whoever asks for it (records of that day go to provider_traces_default)', day, today
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
        name, day::timestamptz, (day + 1)::timestamptz
    );
    PERFORM llmspan_spans_add_day(day);
    RETURN true;
EXCEPTION
    WHEN check_violation THEN
        RETURN false; -- the default partition has records of that day, and will have the rest of them
    WHEN invalid_object_definition THEN
        RETURN false; -- a part of that day is in another partition already
END
$$;

CREATE OR REPLACE FUNCTION provider_traces_drop_day(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET lock_timeout = '2s' SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
DECLARE
    name text := 'provider_traces_' || to_char(day, 'YYYYMMDD');
    today date := now()::date;
BEGIN
    IF day >= today THEN
        RAISE EXCEPTION 'provider_traces: the partition of % is not dropped: that day is not past, the server''s date is %; correct the clock of whoever asks for it', day, today
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(7812739796155067950);
    IF NOT EXISTS (
        SELECT FROM pg_inherits
        WHERE inhparent = 'provider_traces'::regclass AND inhrelid = to_regclass(quote_ident(name))
    ) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
    EXECUTE format('DROP TABLE IF EXISTS %I', 'llmspan_spans_' || to_char(day, 'YYYYMMDD'));
    RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION provider_traces_trim_default(day date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
DECLARE
    removed bigint;
    today date := now()::date;
BEGIN
    IF day > today THEN
        RAISE EXCEPTION 'provider_traces: records from before % are not deleted: the server''s date is %; correct the clock of whoever asks for it', day, today
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    DELETE FROM provider_traces_default WHERE started_at < day::timestamptz;
    GET DIAGNOSTICS removed = ROW_COUNT;
    DELETE FROM llmspan_spans_default WHERE started_at < day::timestamptz;
    RETURN removed;
END
$$;
