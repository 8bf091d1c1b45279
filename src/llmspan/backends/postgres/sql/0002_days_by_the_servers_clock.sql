-- Which day it is, the server says: a caller whose clock is wrong can neither drop a day that is not past nor have days
-- made far from now. Days are UTC, in whatever time zone and style a session writes times: an abbreviation such as IST
-- means one zone when it is written and another when it is read. CREATE OR REPLACE leaves owners and rights as they are.
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
    RETURN removed;
END
$$;
