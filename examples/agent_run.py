"""An agent of two providers with a tool; afterwards `llmspan show --run-id agent-run-1` shows its tree."""

import json

from anthropic import Anthropic
from openai import OpenAI
from opentelemetry.sdk.trace import TracerProvider

import llmspan

provider = TracerProvider()
tracer = provider.get_tracer("agent_run")
llmspan.instrument(tracer_provider=provider)

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}


def get_weather(city: str) -> str:
    """What the model asks for."""
    with tracer.start_as_current_span(
        "execute_tool get_weather",
        attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_weather"},
    ):
        return f"7 degrees in {city}"


def plan(client: OpenAI, question: str) -> str:
    """Ask OpenAI, which wants the tool, and give it what the tool says."""
    messages = [{"role": "user", "content": question}]
    wish = client.chat.completions.create(model="gpt-5.4", messages=messages, tools=[TOOL]).choices[0].message
    messages.append(wish.model_dump(exclude_none=True))
    for call in wish.tool_calls or []:
        result = get_weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    reply = client.chat.completions.create(model="gpt-5.4", messages=messages, tools=[TOOL])
    return reply.choices[0].message.content or ""


def review(client: Anthropic, draft: str) -> str:
    """Have Anthropic say it better."""
    message = client.messages.create(
        model="claude-opus-5", max_tokens=200, messages=[{"role": "user", "content": f"Shorten this: {draft}"}]
    )
    return "".join(block.text for block in message.content if block.type == "text")


agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
with (
    OpenAI() as openai_client,
    Anthropic() as anthropic_client,
    llmspan.context(run_id="agent-run-1"),
    tracer.start_as_current_span("invoke_agent planner", attributes=agent),
):
    print(review(anthropic_client, plan(openai_client, "What is the weather in Oslo?")))
llmspan.flush()
