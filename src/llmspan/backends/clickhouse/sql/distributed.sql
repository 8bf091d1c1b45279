-- The table in front of the shards. By id, so that a row that comes again comes to the same shard.
CREATE TABLE IF NOT EXISTS $database.$table$on_cluster
AS $database.${table}_local
ENGINE = Distributed($cluster, $database, ${table}_local, cityHash64(id))
