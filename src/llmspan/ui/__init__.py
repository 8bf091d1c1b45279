"""``llmspan ui``: calls, runs and sums in a browser, read from the user's own store (extra ``ui``)."""
