-- The table in front of the shards. By id, so that a record that comes again comes to the same shard.
CREATE TABLE IF NOT EXISTS $database.provider_traces$on_cluster
AS $database.provider_traces_local
ENGINE = Distributed($cluster, $database, provider_traces_local, cityHash64(id))
