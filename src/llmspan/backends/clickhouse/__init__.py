"""The backend of a ClickHouse server or of chDB in this process; needs the extra ``clickhouse``."""

from .backend import ClickHouseBackend

__all__ = ["ClickHouseBackend"]
