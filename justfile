# What CI runs, and the pieces of it.

# everything that CI runs
check: lint types imports compat sdk-suites test

# the tests
test *options:
    uv run pytest {{options}}

# style and common mistakes
lint:
    uv run ruff check
    uv run ruff format --check

# strict typing of the package
types:
    uv run pyright

# imports go down only
imports:
    uv run lint-imports

# the OpenTelemetry Collector that the tests use, built with Go into a cache outside of the tree
collector:
    collector-config/build.sh

# kills, torn files and full disks, many times over, as a table
faults *options:
    LLMSPAN_FAULT_SEEDS=${LLMSPAN_FAULT_SEEDS:-50} uv run pytest tests/faults {{options}}

# the oldest and the newest SDKs, each in an environment of its own
compat:
    uv run python tests/compat/run.py

# the SDKs' own tests, bare and with llmspan active
sdk-suites *options:
    uv run python tests/sdk_suites/run.py {{options}}

# what llmspan adds to a call, into the README's table
bench:
    uv run python bench/overhead.py --readme

# stores, spool and event loop, each beside its limit in the same run
bench-delivery:
    uv run python bench/backends.py
    uv run python bench/backends_socket.py
    uv run python bench/spool.py
    uv run python bench/loop_lag.py

# the pages that are made from code
docs:
    uv run python docs/generate.py
    uv run python docs/coverage.py
    uv run python collector-config/clickhouse_sql.py
    uv run python collector-config/grafana/build.py
