"""What patterns find in a text: keys, credentials in URLs and assignments, mail addresses, card numbers.

A pattern runs on the text and on its decoded views, and only where one of its signs is there. Patterns are written so
that no input makes them slow: each starts only where it can match, and never tries a character twice.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Final, NamedTuple

from .cards import card_spans
from .credentials import is_credential_name, is_credential_parameter
from .encodings import views

MASK: Final = "[masked by llmspan]"

Span = tuple[int, int]
Finder = Callable[[str], Iterable[Span]]
Mask = Callable[[str], str]


class _Shape(NamedTuple):
    """One form of a key."""

    #: lower-case texts of which one is in every text that the pattern matches
    signs: tuple[str, ...]
    pattern: re.Pattern[str]
    is_key: Callable[[str], bool] = bool


#: what distinguishes an OpenAI-like key from a word: a digit, a capital, a starred middle, a prefix, or a long run
_SK_KEY: Final = re.compile(r"[0-9A-Z*\u2026]|\.\.|^sk-(?:proj|ant|or|svcacct|admin|lf)-|[A-Za-z]{16}")


def _is_sk_key(text: str) -> bool:
    return bool(_SK_KEY.search(text))


def _is_basic(text: str) -> bool:
    """Whether the word behind ``Basic`` is base64 of ``user:password`` (RFC 7617)."""
    word = text[6:].rstrip("=").translate({45: "+", 95: "/"})
    try:
        decoded = base64.b64decode(word + "=" * (-len(word) % 4), validate=True)
    except (ValueError, binascii.Error):
        return False
    return b":" in decoded and decoded.decode("utf-8", "replace").isprintable()


_START: Final = r"(?<![A-Za-z0-9])"
_STARRED: Final = r"(?:[A-Za-z0-9_*\u2026-]|\.{1,3}(?=[A-Za-z0-9*]))"
#: the lines of a PEM block: base64, and headers such as ``Proc-Type: 4,ENCRYPTED`` (RFC 1421)
_PEM_LINES: Final = (
    r"(?:\s|[A-Za-z][A-Za-z0-9-]*+:[ ][^\r\n\"\\]*+)*+(?:(?:[A-Za-z0-9+/=*]{16,}+\s*+)++[A-Za-z0-9+/=*]{0,63}+)?"
)
_PEM_LABEL: Final = r"[A-Z0-9 ]*+(?:(?<=PRIVATE KEY)|(?<=PRIVATE KEY BLOCK))-----"

_SHAPES: Final = (
    # openai, anthropic, deepseek, openrouter, langfuse
    _Shape(("sk-",), re.compile(f"{_START}sk-{_STARRED}{{8,}}+"), _is_sk_key),
    _Shape(("_live_", "_test_"), re.compile(f"{_START}(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{{8,}}+")),  # stripe
    # x.ai, perplexity, nvidia, cerebras, tavily, gitlab, pypi
    _Shape(
        ("xai-", "pplx-", "nvapi-", "csk-", "tvly-", "glpat-", "pypi-"),
        re.compile(f"{_START}(?:xai|pplx|nvapi|csk|tvly|glpat|pypi)-[A-Za-z0-9_-]{{16,}}+"),
    ),
    # groq, hugging face, replicate, fireworks, github, langsmith, jina, npm
    _Shape(
        ("gsk_", "hf_", "r8_", "fw_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "lsv2_", "jina_", "npm_"),
        re.compile(f"{_START}(?:gsk|hf|r8|fw|gh[pousr]|github_pat|lsv2|jina|npm)_(?=[a-z_]*+[A-Z0-9])[A-Za-z0-9_]{{16,}}+"),
    ),
    _Shape(("xox", "xapp-"), re.compile(f"{_START}(?:xox[abeprs]|xapp)-[A-Za-z0-9-]{{8,}}+")),  # slack
    _Shape(("aiza",), re.compile(f"{_START}AIza[A-Za-z0-9_-]{{30,}}+")),  # google
    _Shape(("ya29.",), re.compile(f"{_START}ya29\\.[A-Za-z0-9_.-]{{16,}}+")),  # google's access tokens
    _Shape(("gocspx-",), re.compile(f"{_START}GOCSPX-[A-Za-z0-9_-]{{16,}}+")),  # google's client secrets
    _Shape(("akia", "asia"), re.compile(f"{_START}(?:AKIA|ASIA)[A-Z0-9]{{16}}(?![A-Za-z0-9])")),  # aws
    _Shape(("absk",), re.compile(f"{_START}ABSK[A-Za-z0-9+/=]{{40,}}+")),  # amazon bedrock
    _Shape(("sg.",), re.compile(f"{_START}SG\\.[A-Za-z0-9_-]{{16,}}+\\.[A-Za-z0-9_-]{{16,}}+")),  # sendgrid
    # JSON web tokens (RFC 7519), signed ones of three parts and encrypted ones of five
    _Shape(
        ("eyj",),
        re.compile(
            f"{_START}eyJ[A-Za-z0-9_-]{{8,}}+\\.[A-Za-z0-9_-]{{8,}}+\\.[A-Za-z0-9_-]*+"
            "(?:(?:\\.[A-Za-z0-9_-]++){2})?"
        ),
    ),
    # a whole PEM block, which has no dashes within; else its first line and what follows as long as it looks like one
    _Shape(
        ("private key",),
        re.compile(
            f'-----BEGIN {_PEM_LABEL}(?:(?:[^"\\\\-]|-(?!----))*+-----END {_PEM_LABEL}|{_PEM_LINES})'
        ),
    ),
    _Shape(
        ("bearer",),
        re.compile(
            f"{_START}(?i:bearer)[ ]+(?=[A-Za-z_.~+/=*-]*+[0-9])"
            "(?:[A-Za-z0-9_~+/=*-]|\\.{1,3}(?=[A-Za-z0-9*])){8,}+"
        ),
    ),
    _Shape(("basic",), re.compile(f"{_START}(?i:basic)[ ][A-Za-z0-9+/_-]{{6,}}+={{0,2}}"), _is_basic),
)  # fmt: skip

_KEY_SIGNS: Final = [sign for shape in _SHAPES for sign in shape.signs]

_MARKS: Final = "\u0300-\u036f\u0900-\u0dff\u0e00-\u0eff"  # vowel signs, which are no letters to ``\w``
_EMAIL: Final = re.compile(
    rf"(?<![\w.%+'{_MARKS}-])[\w.%+'{_MARKS}-]++[@\uff20](?:[\w{_MARKS}-]++[.\u3002\uff0e\uff61])+"
    rf"(?:xn--[A-Za-z0-9-]++|[^\W\d_](?:[^\W\d_]|[{_MARKS}])++)"
)
#: behind a scheme, or at the start of a URL without one; not behind a path that has two slashes
_USERINFO: Final = re.compile(r"(?<=(?<![\w/.-])//)[^\s/?#@\"'<>\\]++(?=@)")
_PARAMETER: Final = re.compile(r"(?<=[?&;#])([A-Za-z0-9_.~-]++)=([^&;#\s\"'<>\\]++)")
_ASSIGNMENT: Final = re.compile(
    r"(?<![A-Za-z0-9_.-])([A-Za-z][A-Za-z0-9_.-]*+)[\"']?\s{0,3}([:=])\s{0,3}"
    r"(\"(?:[^\"\\]|\\.)*+\"?|'(?:[^'\\]|\\.)*+'?|[^\s,;&\"')}\]\\]++)"
)
#: shorter texts hold neither a key nor a URL with credentials
_SHORTEST_KEY: Final = 12
_SHORT: Final = 512
_LONGEST_ID: Final = 100
#: ``a@b.cc`` is the shortest text that any pattern finds
_SHORTEST_MATCH: Final = 6
#: what is in every ASCII text that the patterns for keys and URLs find something in
_SIGNS: Final = ("//", "=", "\\", "%", "&", "\x1b", *_KEY_SIGNS)
_find_sign: Final = re.compile("|".join(map(re.escape, _SIGNS))).search
#: ids are made of words and of UUIDs, whose longest run has twelve
_LONG_RUN: Final = re.compile(r"(?<![A-Za-z0-9_])(?=[A-Za-z_]*+[0-9])[A-Za-z0-9_]{16,}")
_LOOKS_SECRET: Final = re.compile(r"(?=.*[0-9*])[^\s(]{6,}")


def find_keys(text: str) -> Iterator[Span]:
    """The keys of vendors, in the forms that they are sent and shown in."""
    lowered = text.lower()
    for shape in _SHAPES:
        if any(map(lowered.__contains__, shape.signs)):
            yield from (match.span() for match in shape.pattern.finditer(text) if shape.is_key(match[0]))


def find_long_keys(text: str) -> Iterator[Span]:
    """Keys that nobody takes for a word or an id: with a run of many letters and digits in them."""
    yield from ((start, end) for start, end in find_keys(text) if _LONG_RUN.search(text, start, end))


def find_url_credentials(text: str) -> Iterator[Span]:
    """The userinfo of URLs (RFC 3986, section 3.2.1), and those of their parameters that are credentials."""
    if "//" in text and "@" in text:
        yield from (match.span() for match in _USERINFO.finditer(text))
    if "=" in text:
        yield from (match.span(2) for match in _PARAMETER.finditer(text) if is_credential_parameter(match[1]))


def find_assignments(text: str) -> Iterator[Span]:
    """The values of ``api_key=...``, ``"password": "..."`` and the like, in text that is no JSON."""
    for match in _ASSIGNMENT.finditer(text):
        if is_credential_name(match[1]):
            start, end = match.span(3)
            if text[start] in "\"'":
                yield start + 1, end - (end - start > 1 and text[end - 1] == text[start])
            elif match[2] == "=" or _LOOKS_SECRET.match(match[3]):
                yield start, end


def find_emails(text: str) -> Iterator[Span]:
    """Mail addresses, international ones (RFC 6531) too."""
    if "@" in text or "\uff20" in text:
        yield from (match.span() for match in _EMAIL.finditer(text))


def mask_matches(finders: Iterable[Finder], text: str) -> str:
    """``text`` with a mask for whatever ``finders`` find in it or in what it says when it is decoded."""
    finders = tuple(finders)
    if len(text) <= _SHORT:
        finders = _worth_running(finders, text)
        if not finders:
            return text
    spans = [
        view.in_original(*span) for view in views(text) for finder in finders for span in finder(view.text)
        if span[0] < span[1]
    ]  # fmt: skip
    if spans and MASK in text:
        spans = [_with_whole_masks(text, start, end) for start, end in spans]
    return _replaced(text, sorted(spans)) if spans else text


def _worth_running(finders: tuple[Finder, ...], text: str) -> tuple[Finder, ...]:
    """Those of ``finders`` that can find something in a short text: few texts hold a sign of anything.

    Finders without a quick sign look for what a call was made with, which may have any form: they search every text.
    """
    if len(text) < _SHORTEST_MATCH:
        return () if _QUICK_SIGNS.keys() >= set(finders) else tuple(f for f in finders if f not in _QUICK_SIGNS)
    if _may_hold_sign(text):
        return finders
    return tuple(finder for finder in finders if (has_sign := _QUICK_SIGNS.get(finder)) is None or has_sign(text))


def _with_whole_masks(text: str, start: int, end: int) -> Span:
    """The span, and the whole of a mask that it begins or ends in: what was masked before is masked no further."""
    length = len(MASK)
    first = text.find(MASK, max(0, start - length + 1), start + length - 1)
    last = text.find(MASK, max(0, end - length + 1), end + length - 1)
    return (first if first != -1 else start), (last + length if last != -1 else end)


def _replaced(text: str, spans: list[Span]) -> str:
    parts: list[str] = []
    position = 0
    for start, end in spans:
        if start >= position:
            parts += text[position:start], MASK
        position = max(position, end)
    return "".join([*parts, text[position:]])


mask_keys: Final[Mask] = partial(mask_matches, (find_keys, find_url_credentials))
mask_urls: Final[Mask] = partial(mask_matches, (find_url_credentials,))
#: for what errors say, and for bodies that are no JSON: providers and gateways echo what they were sent
ERROR_FINDERS: Final[tuple[Finder, ...]] = (find_keys, find_url_credentials, find_assignments)
mask_errors: Final[Mask] = partial(mask_matches, ERROR_FINDERS)

_mask_long_keys: Final[Mask] = partial(mask_matches, (find_long_keys, find_url_credentials))


def mask_names(text: str) -> str:
    """An id, a name or a tag without a whole key or a URL's credentials in it."""
    return _mask_long_keys(text) if may_hold_key(text) else text


def may_hold_key(text: str) -> bool:
    """Whether a text can hold a key or a URL's credentials, plain or encoded: a quick look, at short texts only."""
    length = len(text)
    return length >= _SHORTEST_KEY and (length > _SHORT or may_hold_sign(text))


def _may_hold_sign(text: str) -> bool:
    if not text.isascii():
        return True
    lowered = text.lower()  # one search for all signs is faster in an id, one search for each sign in a payload
    return _find_sign(lowered) is not None if len(text) <= _LONGEST_ID else any(map(lowered.__contains__, _SIGNS))


#: whether a short text has what is in every key, URL or encoding; names repeat
may_hold_sign: Final = lru_cache(maxsize=4096)(_may_hold_sign)

#: for finders whose texts need not hold a sign of a key, a URL or an encoding: what an ASCII text has then
_QUICK_SIGNS: Final[Mapping[Finder, Callable[[str], object]]] = {
    find_keys: lambda _: False,
    find_long_keys: lambda _: False,
    find_url_credentials: lambda _: False,
    find_emails: lambda text: "@" in text,
    card_spans: re.compile(r"[0-9]").search,
}


#: what each pattern that can be switched on by name looks for
FINDERS: Final[Mapping[str, tuple[Finder, ...]]] = {
    "keys": (find_keys, find_url_credentials),
    "email": (find_emails,),
    "cards": (card_spans,),
}
#: the patterns that can be switched on by name, as functions of a text
PATTERNS: Final[Mapping[str, Mask]] = {name: partial(mask_matches, finders) for name, finders in FINDERS.items()}
