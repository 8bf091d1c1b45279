"""A streamed message, as anyone would write it; `llmspan run examples/anthropic_stream.py` records it."""

from anthropic import Anthropic

question = [{"role": "user", "content": "What is a trace?"}]

with (
    Anthropic() as client,  # reads ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL
    client.messages.stream(model="claude-opus-5", max_tokens=1024, messages=question) as stream,
):
    for text in stream.text_stream:
        print(text, end="", flush=True)
print()
