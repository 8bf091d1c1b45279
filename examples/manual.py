"""Set up by hand: your own TracerProvider for the spans, llmspan for the calls. Run it as any program."""

from openai import OpenAI
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import llmspan

provider = TracerProvider(resource=Resource.create({"service.name": "manual-example"}))
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))

llmspan.instrument(tracer_provider=provider)  # records go to SQLite, or to what LLMSPAN_BACKENDS names

with OpenAI() as client, llmspan.context(step_id="manual-1", user_id="ada"):
    reply = client.responses.create(model="gpt-5.4", input="What is a trace?")
    print(reply.output_text)

llmspan.flush()
with llmspan.Reader.from_env() as reader:
    record = reader.get_by_step_id("manual-1")
    if record is not None:
        print(record.status, record.usage.input_tokens, record.usage.output_tokens)
