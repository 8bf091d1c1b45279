"""Every interaction, replayed through the real SDK with llmspan watching: one span, one exact record.

The expectations of our own interactions were worked out by hand; those of the recorded ones were computed from the raw
bodies with plain JSON parsing, without any SDK and without this project.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from anthropic.types import Message
from anthropic.types.beta import BetaMessage
from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel, ValidationError

from expectations import check
from interaction import Interaction, interaction_ids, parameters
from llmspan.content import Policy
from replay import call, client_of, read, read_async, replay_sync
from watching import Watch, watching

pytestmark = [  # the SDKs' own
    pytest.mark.filterwarnings("ignore:The model '.*' is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]
every_interaction = pytest.mark.parametrize("name", parameters())

#: media of any size are kept: every byte is compared
WHOLE = Policy(max_media_bytes=1 << 40)
MODELS: dict[str, type[BaseModel]] = {
    "chat_completions": ChatCompletion,
    "completions": Completion,
    "responses": Response,
    "messages": Message,
    "beta_messages": BetaMessage,
}


async def replay_async(interaction: Interaction, watch: Watch) -> None:
    """The same, async."""
    async with client_of(interaction, is_async=True) as client:
        await read_async(interaction, await call(client, interaction))


#: how a raw response is read: ``with_raw_response`` and ``.parse()``, ``with_streaming_response`` and each of its own
WAYS = ("parse", "streaming", "lines", "bytes")


def ways(*, in_turn: bool = False) -> pytest.MarkDecorator:
    """Every interaction in every way; ``in_turn``: our own in every other way, by turns, as another test has all."""
    values: list[Any] = []
    for number, name in enumerate(parameters()):
        if name.values[0].startswith("complete-"):  # made by `post`, which has no variants
            continue
        chosen = WAYS[number % 2 :: 2] if in_turn and not name.marks else WAYS
        values += [pytest.param(*name.values, way, marks=name.marks) for way in chosen]
    return pytest.mark.parametrize(("name", "way"), values)


def replay_raw(interaction: Interaction, way: str) -> None:
    """Make the call by one of the raw variants and read it to its end."""
    with client_of(interaction) as client:
        if way == "parse":
            read(interaction, call(client, interaction, "with_raw_response").parse())
            return
        with call(client, interaction, "with_streaming_response") as response:
            if way == "streaming":
                read(interaction, response.parse())
            else:
                for _ in response.iter_lines() if way == "lines" else response.iter_bytes():
                    pass


async def replay_raw_async(interaction: Interaction, way: str) -> None:
    """The same, async."""
    async with client_of(interaction, is_async=True) as client:
        if way == "parse":
            parsed = (await call(client, interaction, "with_raw_response")).parse()
            await read_async(interaction, await parsed if hasattr(parsed, "__await__") else parsed)
            return
        async with call(client, interaction, "with_streaming_response") as response:
            if way == "streaming":
                await read_async(interaction, await response.parse())
            else:
                async for _ in response.iter_lines() if way == "lines" else response.iter_bytes():
                    pass


@every_interaction
def test_sync(name: str) -> None:
    """One span and one record, equal to what the interaction is known to hold."""
    interaction = Interaction.load(name)
    with watching(policy=WHOLE) as watch:
        error = exception_of(lambda: replay_sync(interaction))
    check(interaction, watch, error)


@pytest.mark.anyio
@every_interaction
async def test_async(name: str) -> None:
    """The same through the async client."""
    interaction = Interaction.load(name)
    with watching(policy=WHOLE) as watch:
        error: BaseException | None = None
        try:
            await replay_async(interaction, watch)
        except Exception as raised:
            error = raised
    check(interaction, watch, error)


@ways()
def test_raw(name: str, way: str) -> None:
    """The same where the caller takes the raw response, and parses it, or reads its lines or bytes himself."""
    interaction = Interaction.load(name)
    with watching(policy=WHOLE) as watch:
        error = exception_of(lambda: replay_raw(interaction, way))
    check(interaction, watch, error, unread=way in ("lines", "bytes"))


@pytest.mark.anyio
@ways(in_turn=True)
async def test_asyncraw(name: str, way: str) -> None:
    """The same through the async client."""
    interaction = Interaction.load(name)
    with watching(policy=WHOLE) as watch:
        error: BaseException | None = None
        try:
            await replay_raw_async(interaction, way)
        except Exception as raised:
            error = raised
    check(interaction, watch, error, unread=way in ("lines", "bytes"))


def exception_of(function: Callable[[], None]) -> Exception | None:
    try:
        function()
    except Exception as error:
        return error
    return None


STREAMS = [name for name in interaction_ids() if "-stream-" in name and name.partition("-")[0] in MODELS]


@pytest.mark.parametrize("name", parameters(STREAMS))
def test_reassembled_response_is_the_sdks_model(name: str) -> None:
    """A reassembled stream is an object of the SDK's non-streaming model, as strictly as what was sent allows."""
    interaction = Interaction.load(name)
    expect = interaction.expect
    if not expect["is_sse"] or (expect["error"] and not expect["finish_reasons"]):
        assert expect["error"]  # there is nothing to reassemble
        return
    with watching(policy=WHOLE) as watch:
        exception_of(lambda: replay_sync(interaction))
    (record,) = watch.records
    response = json.loads(record.response_json or "null")
    model = MODELS[interaction.prefix]
    faults = strict_faults(model, response)
    unexplained = [fault for fault in faults if not interaction.is_loose and not sent_so(fault, interaction)]
    assert unexplained == []
    lenient = model.construct(**response)  # what the SDK itself does with every response: it never validates
    assert lenient.model_dump(exclude_unset=True, warnings=False).keys() >= response.keys()


def strict_faults(model: type[BaseModel], response: Any) -> list[Any]:
    try:
        model.model_validate(response)
    except ValidationError as error:
        return list(error.errors())
    return []


def sent_so(fault: Any, interaction: Interaction) -> bool:
    """Whether strict validation stumbles over what the provider sent (or left out) rather than over our work."""
    if interaction.record_api == "responses":  # the terminal event's response is stored as it came
        terminal = [
            json.loads(line[5:]) for line in interaction.response["body"].splitlines() if line.startswith("data: {")
        ]
        whole = [event["response"] for event in terminal if "response" in event][-1]
        return any(fault["loc"] == other["loc"] for other in strict_faults(Response, whole))
    if interaction.prefix == "messages" and any(mark in interaction.response["body"] for mark in BETA_BLOCKS):
        return True  # blocks that only the beta API's model knows, in an interaction of the plain API
    if fault["type"] == "missing":
        return f'"{fault["loc"][-1]}"' not in interaction.response["body"]
    given = fault["input"]
    if fault["type"] == "literal_error" and given is None:  # a choice that never got a finish reason
        return None in interaction.expect["finish_reasons"]
    if isinstance(given, list):  # Mistral's content is a list of parts, streamed and not
        return interaction.upstream == "mistral"
    return json.dumps(given) in interaction.response["body"]


BETA_BLOCKS = ('"mcp_tool_use"', '"advisor"')
