"""One setting: its variable, its keyword, how its value is read, and what to say of a value that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._setting_values import BadValueError
from .errors import SettingsError

__all__ = ["Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. ``aliases`` are older variables; ``former_name`` is the keyword before it was renamed."""

    name: str
    env: str
    parse: Callable[[Any], Any]
    expects: str
    default: str
    doc: str
    aliases: tuple[str, ...] = ()
    former_name: str | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that are read, the current one first."""
        return (self.env, *self.aliases)

    @property
    def keywords(self) -> tuple[str, ...]:
        """The keyword arguments that are taken, the current one first."""
        return (self.name,) if self.former_name is None else (self.name, self.former_name)

    def read(self, value: Any, origin: str) -> Any:
        """``value`` parsed; a :class:`SettingsError` says where it came from and what is expected."""
        try:
            return self.parse(value)
        except (ValueError, TypeError, RuntimeError) as error:  # RuntimeError: `~nobody`, or a user without a home
            is_ours = isinstance(error, BadValueError)
            value_text = (error.shown if is_ours else None) or str(value)
            raise SettingsError(
                f"{origin}{value_text}: expected {self.expects}{f' ({error})' if is_ours else ''}"
            ) from None
