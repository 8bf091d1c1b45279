# What CI runs, and the pieces of it.

# everything that CI runs
check: lint types imports test

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

# what llmspan adds to a call, into the README's table
bench:
    uv run python bench/overhead.py --readme

# docs/settings.md, from the table in the code
docs:
    uv run python docs/generate.py
