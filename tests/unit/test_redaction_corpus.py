"""What the patterns find and what they leave, as a corpus: every form that a key, an address or a card was seen in."""

from __future__ import annotations

import base64
import html
import json
import random
import uuid
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.redaction import MASK, PATTERNS, mask_errors, mask_json_text, mask_keys
from records import patient

KEY = "sk-" + "proj-Ab3dEf6hIj9kLm2nOp5q"
KEYS = [
    KEY, "sk-" + "ant-api03-Ab3dEf6hIj9kLm2nOp5q", "gsk_" + "Ab3dEf6hIj9kLm2nOp5q", "ghp_" + "Ab3dEf6hIj9kLm2nOp5q",
    "AIza" + "SyAb3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zA", "AKIA" + "ABCDEFGHIJKLMNOP", "xapp-" + "1-A012-345678-abcdef",
    "glpat-" + "Ab3dEf6hIj9kLm2nOp5q", "ya29." + "a0Ab3dEf6hIj9kLm2nOp5q",
    "SG." + "Ab3dEf6hIj9kLm2nOp5q." + "Ab3dEf6hIj9kLm2nOp5q",
    "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N",
    "Bearer " + "Ab3dEf6hIj9kLm2n", "Basic " + base64.b64encode(b"user:hunter-2").decode(),
]  # fmt: skip


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(character):04x}" for character in text)


#: what stands around a key, or what it was put through before it came to us
FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda key: f"bad key {key}, sorry",
    "line break": lambda key: f"bad key:\n{key}\n",
    "quotes": lambda key: f'"{key}"',
    "JSON": lambda key: json.dumps({"error": f"bad key:\n{key}"}),
    "JSON in JSON": lambda key: json.dumps({"arguments": json.dumps({"text": f"\n{key}\t"})}),
    "JSON in JSON in JSON": lambda key: json.dumps(json.dumps(json.dumps(f"\n{key}\n"))),
    "escaped quote": lambda key: f"\\u0022{key}\\u0022",
    "first letter escaped": lambda key: f"key={escaped(key[0])}{key[1:]}",
    "all letters escaped": lambda key: f"key: {escaped(key)}",
    "percent-encoded space": lambda key: f"q=say%20{quote(key)}%20",
    "percent-encoded": lambda key: f"q={quote(f' {key}', safe='')}",
    "percent-encoded twice": lambda key: f"q={quote(quote(f' {key} '))}",
    "coloured": lambda key: f"key \x1b[31m{key}\x1b[0m",
    "behind a coloured word": lambda key: f"error\x1b[31m{key}\x1b[0m",
    "coloured in its middle": lambda key: f"key {key[:9]}\x1b[1m{key[9:]}",
    "coloured, in JSON": lambda key: json.dumps(f"key \x1b[31m{key}\x1b[0m"),
    "HTML": lambda key: html.escape(f'<a title="{key}">'),
    "HTML by numbers": lambda key: f"&#34;{key}&#34;",
    "Python's escapes": lambda key: f"b'\\x22{key}\\x22'",
    "a character without width": lambda key: f"key \u200b{key[:7]}\u200b{key[7:]}",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:6])
def test_a_key_is_found_in_every_form(key: str, form: str) -> None:
    """However a text holds a key, the key is gone."""
    text = FORMS[form](key)
    masked = mask_keys(text)
    assert MASK in masked
    assert key not in masked
    assert key[len(key) // 2 :] not in masked


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:6])
def test_a_key_is_found_in_json(key: str, form: str) -> None:
    """In a string of JSON text as well, however the writer escapes it; what comes out is JSON of the same shape."""
    for ensure_ascii in (True, False):
        text = json.dumps({"error": {"message": FORMS[form](key), "code": 401}}, ensure_ascii=ensure_ascii)
        masked = mask_json_text(text, mask_keys)
        value = json.loads(masked)
        assert value["error"]["code"] == 401
        assert MASK in value["error"]["message"]
        assert key[len(key) // 2 :] not in masked


PEM = "-----BEGIN {0}PRIVATE KEY{1}-----\n{2}-----END {0}PRIVATE KEY{1}-----"
LINES = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\nMzEfYyjiWA==\n"
BLOCKS = [
    PEM.format("", "", LINES), PEM.format("RSA ", "", LINES), PEM.format("OPENSSH ", "", LINES),
    PEM.format("EC ", "", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB12CD\n\n" + LINES),
    PEM.format("ENCRYPTED ", "", LINES), PEM.format("PGP ", " BLOCK", "Version: GnuPG v2\n\n" + LINES + "=Ab3d\n"),
    PEM.format("", "", LINES).replace("\n", "\r\n"), PEM.format("", "", LINES).partition("-----END")[0],
]  # fmt: skip


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
@pytest.mark.parametrize("form", ["plain", "JSON", "JSON in JSON", "percent-encoded"])
def test_private_keys(block: str, form: str) -> None:
    """A PEM block goes as a whole, with its headers, encrypted or not, cut or not, on one line or on many."""
    masked = mask_keys(FORMS[form](block))
    for line in ("MIIEvQIB", "BKcwggSj", "MzEfYyji"):
        assert line not in masked
    assert MASK in masked


@pytest.mark.parametrize("text", [
    'the line "-----BEGIN PRIVATE KEY-----" is missing', '{"a":"-----BEGIN RSA PRIVATE KEY-----","b":"next"}',
    'say \\"-----BEGIN PRIVATE KEY-----\\" twice',
])  # fmt: skip
def test_a_quoted_first_line_takes_nothing_with_it(text: str) -> None:
    """An error that quotes the first line of a PEM block loses that line and no quote, backslash or word behind it."""
    body = json.dumps({"error": {"message": text}})
    masked = json.loads(mask_json_text(body, mask_keys))["error"]["message"]
    start, _, end = text.partition("-----BEGIN")
    assert masked == start + MASK + end.partition("-----")[2]


WORDS = [
    "a task-management-system", "risk-adjusted-returns-of-2026", "the bearer authenticated himself", "sk-learn",
    "sk-plugin-directory", "basic information about tokens", "Basic understanding", "disk-encryption-key-rotation",
    "import sklearn; sk_model = sk-learn", "hf_transformers_library_name", "npm_config_registry_url", "AKIA", "eyJ",
    "a sentence. SG. Then another", "glpat-", "github_pat_", "x = y[sk-1]", "https://example.org/a?b=c&page_token=5#x",
    "https://example.org/@user/token", "see -----BEGIN CERTIFICATE-----", "key = value", "max_tokens=512",
    str(uuid.UUID(int=0x1234567890ABCDEF1234567890ABCDEF)), "0123456789abcdef" * 4, "C:\\new\\users\\table\\bin",
    "100% of \\n and %20 and &amp; stay", "def f(token: str) -> Token: return token",
]  # fmt: skip


@pytest.mark.parametrize("text", WORDS)
def test_prose_code_and_identifiers_stay(text: str) -> None:
    """Text that holds no credential is returned as it is by every pattern."""
    for mask in PATTERNS.values():
        assert mask(text) == text


def test_base64_and_identifiers_are_no_keys() -> None:
    """Of images, hashes and identifiers next to nothing is taken for a key or a card."""
    source = random.Random(20261128)
    images = [base64.b64encode(source.randbytes(60_000)).decode() for _ in range(10)]
    assert sum(mask_keys(image) != image for image in images) == 0
    ids = [str(uuid.UUID(int=source.getrandbits(128), version=4)) for _ in range(2000)]
    hashes = [source.randbytes(32).hex() for _ in range(2000)]
    times = [str(1_700_000_000_000_000_000 + source.getrandbits(55)) for _ in range(2000)]
    for mask in PATTERNS.values():
        for texts in (ids, hashes, times):
            assert sum(mask(text) != text for text in texts) <= len(texts) // 100


CARDS = [
    "4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242", "4242.4242.4242.4242",
    "4242\u00a04242\u00a04242\u00a04242", "4242\u202f4242\u202f4242\u202f4242", "378282246310005", "3782 822463 10005",
    "5555 5555 5555 4444", "6011 1111 1111 1117", "3056 930902 5904", "2223 0031 2200 3222", "4222222222222",
    "\uff14\uff12\uff14\uff12" * 4,
]  # fmt: skip
BESIDE = [
    "{}", "card {}.", "{} 12/27", "{} 12 27 123", "{} exp 12/2027 cvv 123", "{}, 123", "2 x {}", "3 {}", "No.{}",
    "No. {}",     "no:{}", "Visa{{{}}}", "({})", "{}\n{}", "#{}#", "card={}&cvv=123", "\t{}\t", "1. {}", "12,{}",
]  # fmt: skip


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("card", CARDS)
def test_a_card_is_found_beside_other_numbers(card: str, beside: str) -> None:
    """An expiry date, a CVV, a quantity or a label beside a card number does not hide it; it stays itself."""
    text = beside.format(card, card)
    assert PATTERNS["cards"](text) == beside.format(MASK, MASK)


@pytest.mark.parametrize("form", ["JSON", "JSON in JSON", "percent-encoded space", "coloured", "HTML"])
def test_a_card_is_found_in_every_form(form: str) -> None:
    """Encoded texts are decoded for cards as well."""
    assert "4242" not in PATTERNS["cards"](FORMS[form]("4242 4242 4242 4242"))


@pytest.mark.parametrize(
    "text",
    ["4242424242424241", "0" * 16, "1700000000", "1.4242424242424242", "42" * 12, "1700000000000000000",
     "192.168.100.200", "+49 170 1234567", "2026-11-28 20:31:00.000000", "978-3-16-148410-0",
     "3.1415926535897932"]
)  # fmt: skip
def test_other_numbers_stay(text: str) -> None:
    """Times, addresses, telephone and book numbers, fractions and numbers with a wrong check digit are no cards."""
    assert PATTERNS["cards"](f"n {text} n") == f"n {text} n"


def test_cards_as_json_numbers() -> None:
    """A card number that is a JSON number goes too; numbers beside it stay to the digit."""
    text = '{"card": 4242424242424242, "n": 4242424242424241, "big": 12345678901234567890.10, "t": 1700000000000000000}'
    masked = mask_json_text(text, PATTERNS["cards"], cards=True)
    assert masked == text.replace("4242424242424242", json.dumps(MASK))


@pytest.mark.parametrize("address", [
    "ann.o+x@mail.example.co.uk", "o'brien@example.ie", "ann@b\u00fccher.example", "ann@xn--bcher-kva.example",
    "\u7528\u6237@\u4f8b\u5b50.\u5e7f\u544a", "user@\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444",
    "x@y.xn--p1ai", "user\uff20example.com", "ann%40example.org", "ann\\u0040example.org", "ann&#64;example.org",
    "\u0909\u092a\u092f\u094b\u0917@\u0909\u0926\u093e\u0939\u0930\u0923.\u0915\u0949\u092e",
])  # fmt: skip
def test_international_addresses(address: str) -> None:
    """Mail addresses in any script, and encoded ones."""
    assert PATTERNS["email"](f"to {address}, now") == f"to {MASK}, now"


@pytest.mark.parametrize(("text", "masked"), [
    ("GET https://ann:hunter2@x.example/v1", "GET https://{}@x.example/v1"),
    ("https://x.example/v1?api_key=abc123&n=1", "https://x.example/v1?api_key={}&n=1"),
    ("https://x.example/?n=1&key=abc123", "https://x.example/?n=1&key={}"),
    ("wss://x.example/?access_token=abc.def#a", "wss://x.example/?access_token={}#a"),
    ("https://x.example/c?sig=a%2Bb%3D&se=2026", "https://x.example/c?sig={}&se=2026"),
    ('{"url": "https://x.example/?token=abc123"}', '{{"url": "https://x.example/?token={}"}}'),
    ("redis://:hunter2@x.example:6379/0", "redis://{}@x.example:6379/0"),
])  # fmt: skip
def test_credentials_in_urls(text: str, masked: str) -> None:
    """Userinfo and credential parameters of a URL go wherever errors quote it; the rest of the URL stays."""
    assert mask_keys(text) == masked.format(MASK)


@pytest.mark.parametrize(("text", "masked"), [
    ("Incorrect api_key=abcdef123 given", "Incorrect api_key={} given"),
    ('sent {"apiKey": "abc"} to', 'sent {{"apiKey": "{}"}} to'),
    ("password: hunter2abc!", "password: {}"),
    ("{'x-api-key': 'abc', 'n': 1}", "{{'x-api-key': '{}', 'n': 1}}"),
    ("AWS_SECRET_ACCESS_KEY=abcd1234/efgh", "AWS_SECRET_ACCESS_KEY={}"),
    ("max_tokens: 512 and password: required", "max_tokens: 512 and password: required"),
    ("next_page_token=abc123", "next_page_token=abc123"),
])  # fmt: skip
def test_assignments_in_errors(text: str, masked: str) -> None:
    """What an error says of a credential by its name is masked, whatever the value looks like."""
    assert mask_errors(text) == masked.format(MASK)


AROUND = [
    "{}", "https://x.example/?token={}&n=1", "https://ann:{}@x.example/", 'api_key="{}"',
    "password: x{} y", "secret={}",
    "?sig=%20{}", "a{}b", "{}{}", "token={}&token={}", "Authorization: {}", '{{"api_key": "{}"}}',
]  # fmt: skip


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("held", [*KEYS, MASK, f"x{MASK}", "planted-1 2"])
@pytest.mark.parametrize("mask", [mask_errors, mask_keys, *PATTERNS.values()])
def test_what_is_masked_stays_as_it_is(mask: Callable[[str], str], held: str, around: str) -> None:
    """A second process that masks what a first one has masked changes nothing, whichever masks both have."""
    masked = mask(around.replace("{}", held))
    assert mask(masked) == masked
    assert mask(mask_errors(masked)) == mask_errors(masked)


def searched_whole(name: str, text: str) -> str:
    """What a mask makes of ``text`` without the quick look, which is at short texts only."""
    padding = " \n" * 300
    masked = PATTERNS[name](text + padding)
    assert masked.endswith(padding)
    return masked.removesuffix(padding)


PIECES = [
    *KEYS, *CARDS, *WORDS, "a@b.cc", "jané@exämple.org", "ann%40example.org", "ann&#64;example.org",
    "ann\\u0040example.org",
    "https://u:p@host/x?api_key=abc", "?token=abc", "4242 4242 4242 4242", *FORMS["JSON"]("x").split(),
]  # fmt: skip


@pytest.mark.parametrize("name", PATTERNS)
def test_the_quick_look_passes_over_nothing(name: str) -> None:
    """A short text is masked as it is within a long one, alone and in each form."""
    for form in (str, *FORMS.values()):
        for piece in PIECES:
            text = form(piece)
            assert PATTERNS[name](text) == searched_whole(name, text), text


@patient
@given(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=8), min_size=1, max_size=4), st.sampled_from(["", " ", "\n"])
)
def test_the_quick_look_passes_over_nothing_beside_others(pieces: list[str], separator: str) -> None:
    for name in PATTERNS:
        text = separator.join(pieces)
        assert PATTERNS[name](text) == searched_whole(name, text)
