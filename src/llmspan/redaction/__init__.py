"""Masks credentials and personal data in texts, JSON values and JSON texts."""

from .context import mask_context
from .credentials import is_credential_name, mask_credential_members, url_credentials
from .exact import ExactMask, mask_bytes
from .json_text import credential_texts, has_credential_members, mask_json_text
from .patterns import MASK, PATTERNS, mask_errors, mask_keys, mask_names, mask_urls, may_hold_key, may_hold_sign
from .redactor import RedactionError, Redactor
from .urls import display_url, url_scheme
from .values import map_json, mask_strings

__all__ = [
    "MASK",
    "PATTERNS",
    "ExactMask",
    "RedactionError",
    "Redactor",
    "credential_texts",
    "display_url",
    "has_credential_members",
    "is_credential_name",
    "map_json",
    "mask_bytes",
    "mask_context",
    "mask_credential_members",
    "mask_errors",
    "mask_json_text",
    "mask_keys",
    "mask_names",
    "mask_strings",
    "mask_urls",
    "may_hold_key",
    "may_hold_sign",
    "url_credentials",
    "url_scheme",
]
