-- What a price depends on and no other column says (backends/price_columns.py); NULL in rows of earlier versions, whose
-- JSON is read.
ALTER TABLE provider_traces
    ADD COLUMN price_facts text COLLATE "C",
    ADD COLUMN cache_write_5m_tokens bigint,
    ADD COLUMN cache_write_1h_tokens bigint;
