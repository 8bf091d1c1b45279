"""Masks credentials and personal data in texts, JSON values and JSON texts."""

from .credentials import is_credential_name, mask_credential_members, url_credentials
from .json_text import credential_texts, has_credential_members, mask_json_text
from .patterns import MASK, PATTERNS, mask_errors, mask_exact, mask_keys, mask_urls, may_hold
from .redactor import Redactor, WithheldError
from .urls import display_url, url_scheme
from .values import map_json, mask_texts

__all__ = [
    "MASK",
    "PATTERNS",
    "Redactor",
    "WithheldError",
    "credential_texts",
    "display_url",
    "has_credential_members",
    "is_credential_name",
    "map_json",
    "mask_credential_members",
    "mask_errors",
    "mask_exact",
    "mask_json_text",
    "mask_keys",
    "mask_texts",
    "mask_urls",
    "may_hold",
    "url_credentials",
    "url_scheme",
]
