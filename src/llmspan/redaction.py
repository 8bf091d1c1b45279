"""What must not leave the program: keys, mail addresses, card numbers, and what a function of the program says.

Pure but for importing that function. Works on JSON values: strings and the names of members are looked at, wherever
they are. Patterns are written so that no input makes them slow: each starts only where it can match, and never
tries a character twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from .errors import SettingsError

__all__ = ["MASK", "PATTERNS", "Redactor", "WithheldError", "mask_keys", "mask_members", "mask_texts"]

MASK: Final = "[masked by llmspan]"

Mask = Callable[[str], str]

#: what vendors' keys look like, as sent and as they are shown with their middle starred out
_KEYS: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-(?:[A-Za-z0-9_*\u2026-]|\.{1,3}(?=[A-Za-z0-9*])){8,}+"  # openai, anthropic, deepseek, openrouter
    r"|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{8,}+"  # stripe
    r"|(?:xai|pplx|nvapi|csk)-[A-Za-z0-9_-]{16,}+"  # x.ai, perplexity, nvidia, cerebras
    r"|(?:gsk|hf|r8|fw|ghp|gho|ghu|ghs|ghr|github_pat)_[A-Za-z0-9_]{16,}+"  # groq, hugging face, replicate, github
    r"|xox[abeprs]-[A-Za-z0-9-]{8,}+"  # slack
    r"|AIza[A-Za-z0-9_-]{30,}+"  # google
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"  # aws
    r"|eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+"  # signed tokens
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-\"]*+(?:-----END [A-Z ]*PRIVATE KEY-----)?"
    r"|(?i:bearer)[ ](?=[A-Za-z_.~+/=*-]*+[0-9])(?:[A-Za-z0-9_~+/=*-]|\.{1,3}(?=[A-Za-z0-9*])){8,}+"
    r")"
)
_EMAIL: Final = re.compile(r"(?<![\w.%+-])[\w.%+-]++@(?:[A-Za-z0-9-]++\.)+[A-Za-z]{2,}+")
_CARD: Final = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?!\d)")
#: members whose value is a credential, whatever it looks like
_SECRET_MEMBERS: Final = frozenset(
    {"api_key", "apikey", "api-key", "x-api-key", "authorization", "authorization_token", "proxy-authorization",
     "access_token", "auth_token", "client_secret", "cookie", "password", "secret", "set-cookie"}
)  # fmt: skip


class WithheldError(Exception):
    """Redaction did not succeed, so what was to be redacted must not go anywhere."""


def mask_keys(text: str) -> str:
    """``text`` with whatever looks like a key of some vendor masked."""
    return _KEYS.sub(MASK, text)


def _mask_emails(text: str) -> str:
    return _EMAIL.sub(MASK, text) if "@" in text else text


def _mask_cards(text: str) -> str:
    return _CARD.sub(lambda match: MASK if _is_card(match[0]) else match[0], text)


def _is_card(text: str) -> bool:
    """Whether the digits pass the check that card numbers pass (Luhn's)."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 and any(digits)


#: the patterns that can be switched on by name
PATTERNS: Final[Mapping[str, Mask]] = {"keys": mask_keys, "email": _mask_emails, "cards": _mask_cards}


def mask_texts(value: Any, mask: Mask) -> Any:
    """A copy of a JSON value whose strings, and names of members, went through ``mask``."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {mask(str(key)): mask_texts(item, mask) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_texts(item, mask) for item in value]
    return value


def mask_members(value: Any) -> Any:
    """A copy of a JSON value in which members that are credentials by their name are masked."""
    if isinstance(value, Mapping):
        return {
            key: MASK if str(key).lower() in _SECRET_MEMBERS and item is not None else mask_members(item)
            for key, item in value.items()
        }
    return [mask_members(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(slots=True)
class Redactor:
    """The patterns that are on, then the program's own function; false if there is neither.

    ``function`` is called with a JSON value (a whole request or response, an error's body or message, an attribute
    map) and returns what may be kept of it. It may change its argument. It runs on llmspan's worker, and for the few
    values that go on spans on the caller's thread. A text ``module:function`` is imported at its first use.
    """

    patterns: tuple[str, ...] = ()
    function: Callable[[Any], Any] | str | None = None

    def __bool__(self) -> bool:
        return bool(self.patterns) or self.function is not None

    def check(self) -> None:
        """Find the function now instead of at its first use.

        Raises:
            SettingsError: there is none of that name.
        """
        if isinstance(self.function, str):
            self.function = _find(self.function)

    def __call__(self, value: Any) -> Any:
        """What may be kept of ``value``.

        Raises:
            WithheldError: nothing; says what went wrong, and not with which value.
        """
        for name in self.patterns:
            value = mask_texts(value, PATTERNS[name])
        if self.function is None:
            return value
        self.check()
        function = self.function
        kept = function(value) if callable(function) else None
        if kept is None and value is not None:
            raise WithheldError("the redaction function returned None: it has to return what may be kept")
        return kept


def _find(name: str) -> Callable[[Any], Any]:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"LLMSPAN_REDACT={name}: {error}; name a function that can be imported") from error
    if not callable(found):
        raise SettingsError(f"LLMSPAN_REDACT={name}: that is {type(found).__name__}, not a function")
    return found
