"""Spans that other instrumentations open for the same call: how they are found, and which of them have a record."""
