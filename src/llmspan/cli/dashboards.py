"""``llmspan dashboards``: the dashboards for Grafana that come with the package, as files to import or to provision.

They query the stores of records: one set for the Postgres data source, one for ClickHouse's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from .output import echo

__all__ = ["dashboards"]

SOURCES: Final = ("postgres", "clickhouse")


@click.group()
def dashboards() -> None:
    """Export dashboards for Grafana.

    They show usage and cost, cache, latency, errors, and one call.
    """


@dashboards.command()
@click.option(
    "--source", type=click.Choice(SOURCES), multiple=True, help="Only for this data source; the default is all."
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def export(*, source: tuple[str, ...], force: bool, directory: Path) -> None:
    """Write the dashboards as JSON into DIRECTORY, a folder for each data source."""
    files = {path: directory / name / path.name for name in source or SOURCES for path in _files(name)}
    existing = [target for target in files.values() if target.exists()]
    if existing and not force:
        raise click.ClickException(f"{existing[0]} is there already; --force replaces it")
    for path, target in files.items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        except OSError as error:
            raise click.ClickException(f"{target} cannot be written: {error.strerror}") from None
        echo(target)


def _files(source: str) -> list[Path]:
    package = Path(__file__).parents[1]
    checkout = package.parents[1] / "collector-config" / "grafana" / "dashboards"  # in a wheel they are in the package
    folder = next((path for path in (package / "dashboards", checkout) if path.is_dir()), None)
    if folder is None:
        raise click.ClickException("this installation has no dashboards; they are in the wheel and in the sources")
    return sorted((folder / source).glob("*.json"))
