"""Planted secrets: every place of a call where a secret can be, and every sink that records and their like reach."""
