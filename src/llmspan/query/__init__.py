"""Reading as pure functions: which records are meant, and trees, comparisons and sums of records.

Nothing in this package opens a store, and no backend is known here.
"""
