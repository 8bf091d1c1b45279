"""A streamed chat, as anyone would write it; `llmspan run examples/openai_stream.py` records it."""

from openai import OpenAI

with OpenAI() as client:  # reads OPENAI_API_KEY and OPENAI_BASE_URL
    stream = client.chat.completions.create(
        model="gpt-5.4",
        messages=[{"role": "user", "content": "What is a trace?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
