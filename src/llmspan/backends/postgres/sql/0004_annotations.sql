-- Notes and scores that were given to a record or to a trace. Of the two values one at most is there. They may be there
-- without the table of records, if that one was dropped, and then they are about nothing.
CREATE TABLE IF NOT EXISTS llmspan_annotations (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    record_id text COLLATE "C",
    trace_id text COLLATE "C",
    name text COLLATE "C" NOT NULL,
    number_value double precision,
    text_value text COLLATE "C",
    comment text COLLATE "C",
    source text COLLATE "C",
    created_at bigint NOT NULL
);

DELETE FROM llmspan_annotations;

CREATE INDEX IF NOT EXISTS llmspan_annotations_record_id ON llmspan_annotations (record_id) WHERE record_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS llmspan_annotations_trace_id ON llmspan_annotations (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS llmspan_annotations_name ON llmspan_annotations (name);

-- The annotations of a record go with it, those of a trace with the last of its records, whoever deletes it. The lock
-- waits for those who are writing an annotation, which is not seen before; whoever writes one shares the lock. It is
-- always taken after the rows are deleted: two deletions would else wait for each other.
CREATE OR REPLACE FUNCTION llmspan_annotations_of_deleted_records() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7812739796155067951);
    DELETE FROM llmspan_annotations AS notes USING gone WHERE notes.record_id = gone.id;
    DELETE FROM llmspan_annotations AS notes USING (SELECT DISTINCT gone.trace_id FROM gone WHERE gone.trace_id IS NOT NULL) AS ended
    WHERE notes.trace_id = ended.trace_id
        AND NOT EXISTS (SELECT FROM provider_traces WHERE provider_traces.trace_id = ended.trace_id);
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION llmspan_annotations_of_deleted_records() FROM PUBLIC;

CREATE TRIGGER llmspan_annotations_of_deleted_records AFTER DELETE ON provider_traces
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION llmspan_annotations_of_deleted_records();

-- Delete the annotations of what a partition has from before a time, which is about to go without that trigger.
CREATE OR REPLACE FUNCTION llmspan_annotations_drop(name text, until timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    EXECUTE format(
        'DELETE FROM llmspan_annotations AS notes USING %I AS old WHERE notes.record_id = old.id AND old.started_at < $1',
        name
    ) USING until;
    EXECUTE format(
        'DELETE FROM llmspan_annotations AS notes'
        ' WHERE notes.trace_id IN (SELECT old.trace_id FROM %I AS old WHERE old.started_at < $1) AND NOT EXISTS ('
        '   SELECT FROM provider_traces AS other WHERE other.trace_id = notes.trace_id'
        '   AND NOT (other.tableoid = $2 AND other.started_at < $1))',
        name
    ) USING until, to_regclass(quote_ident(name))::oid;
END
$$;

-- Delete the annotations of the last day that are about nothing: those that were being written meanwhile.
CREATE OR REPLACE FUNCTION llmspan_annotations_sweep() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM llmspan_annotations AS notes
    WHERE notes.created_at > (extract(epoch FROM now())::bigint - 86400) * 1000000000 AND (
        (notes.record_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM provider_traces WHERE provider_traces.id = notes.record_id))
        OR (notes.trace_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM provider_traces WHERE provider_traces.trace_id = notes.trace_id))
    );
END
$$;

-- Run by the functions below, with the rights of the tables' owner.
REVOKE ALL ON FUNCTION llmspan_annotations_drop(text, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION llmspan_annotations_sweep() FROM PUBLIC;

-- Whoever may write or read records may write or read annotations.
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
        EXECUTE format('GRANT %s ON llmspan_annotations TO %s', given.privilege_type, given.role);
    END LOOP;
END
$$;

-- The functions that take days away, as they were, and now with the annotations.
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
    PERFORM llmspan_annotations_drop(name, 'infinity');
    EXECUTE format('DROP TABLE %I', name);
    EXECUTE format('DROP TABLE IF EXISTS %I', 'llmspan_spans_' || to_char(day, 'YYYYMMDD'));
    -- dropping has waited for all who read the records to write an annotation
    PERFORM llmspan_annotations_sweep();
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
    PERFORM llmspan_annotations_drop('provider_traces_default', day::timestamptz);
    DELETE FROM provider_traces_default WHERE started_at < day::timestamptz;
    GET DIAGNOSTICS removed = ROW_COUNT;
    DELETE FROM llmspan_spans_default WHERE started_at < day::timestamptz;
    PERFORM pg_advisory_xact_lock(7812739796155067951);
    PERFORM llmspan_annotations_sweep();
    RETURN removed;
END
$$;
