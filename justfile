# What CI runs, and the pieces of it.

# everything that CI runs
check: lint types imports compat peers sdk-suites pythons test

# the tests
test *options:
    uv run pytest {{options}}

# style, common mistakes, names and lengths
lint:
    uv run ruff check
    uv run ruff format --check
    uv run python scripts/measure.py

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

# other instrumentations and frameworks beside llmspan; --all runs the large ones, too
peers *options:
    uv run python tests/peers/run.py {{options}}

# units, instrumentation and contracts on every other CPython of this machine, each in an environment of its own
pythons *versions:
    uv run python tests/pythons/run.py {{versions}}

# the SDKs' own tests with llmspan active; those that do not pass, bare as well
sdk-suites *options:
    uv run python tests/sdk_suites/run.py {{options}}

# inputs that break a reader of the wire, found by coverage (fetches atheris)
fuzz *options:
    uv run --with "atheris>=3.0" python tests/fuzz/wire.py {{options}}

# what llmspan costs, beside the bare SDK in the same run; with --docs into docs/performance.md
bench *options:
    uv run python bench/run.py {{options}}

# instructions and memory against bench/baseline.json
bench-check:
    uv run python bench/run.py --only instructions --only memory --check

# the pages that are made from code
docs:
    uv run python docs/generate.py
    uv run python docs/command_line.py
    uv run python docs/comparison.py
    uv run python docs/coverage.py
    uv run python docs/one_span.py
    uv run python docs/query_keys.py
    uv run python collector-config/clickhouse_sql.py
    uv run python collector-config/grafana/build.py

# the site into `site`; a link or an anchor that leads nowhere is an error
docs-build:
    NO_MKDOCS_2_WARNING=1 uv run --isolated --only-group docs mkdocs build --strict

# the site on http://127.0.0.1:8000, built again with every change
docs-serve:
    NO_MKDOCS_2_WARNING=1 uv run --isolated --only-group docs mkdocs serve

# the guides whose frameworks the test environment does not have, each with its own
guides *names:
    uv run python scripts/guides.py {{names}}
