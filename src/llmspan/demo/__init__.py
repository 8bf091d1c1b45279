"""A provider in a box: a local server that answers like OpenAI, Anthropic and Gemini, and calls to make to it.

For ``llmspan demo``, the examples and trying things out: no key, no network, no cost. Nothing here is imported by the
rest of the package.
"""
