"""The faults of other instrumentations, each seen by running them, and each the business of a test here.

A test takes up faults by ``@pytest.mark.peer_fault("A1", ...)``; a run ends by saying how many were tested. The letter
says what kind it is: A and O are of OpenTelemetry's own instrumentations for anthropic and openai, U of what both are
built on, K of the OpenTelemetry SDK; R of what breaks a program, N of numbers, E of ends, S of what is not seen, C of
what is said, H of housekeeping, M of time and memory, I of installing.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

FAULTS: Final = {
    # -- OpenTelemetry's instrumentation of anthropic
    "A1": "a stream's span stays current until its end: others become its children, elsewhere it cannot be detached",
    "A2": "one malformed stream, and no later one of the process has usage, id or model",
    "A3": "a stream that is left early reports the placeholder as its output",
    "A4": "no time to first chunk for text_stream and get_final_message(); elsewhere message_start counts as output",
    "A5": "a second span with usage beside the one that the SDK makes: every sum doubles (also three others)",
    "A6": "no cache write by lifetime, service tier or effort",
    # -- OpenTelemetry's instrumentation of openai
    "O1": "null where a gateway has no index, or no output: TypeError in the caller's loop",
    "O2": "the chat helper left early: its span is open until a collection, and then an error",
    "O3": "a stream's text is held although it may not be shown",
    "O4": "no API type, model, port 443, effort or previous response on the span",
    "O5": "with_streaming_response: an unawaited coroutine, nothing recorded; a body read before the caller reads it",
    "O6": "raw embeddings have no usage",
    "O7": "an embedding's dimension is the length of its base64 text",
    "O8": "system fingerprint and tier of streams are not told",
    "O9": "reasoning text and custom tool calls are in no output",
    "O10": "a Responses stream that is closed early has no id",
    "O11": "a stream whose HTTP response is closed is not over until a collection",
    # -- what both are built on
    "U1": "the setting for content is read once; a program that changes it is not heard",
    "U2": "the schema that spans name is older than the names on them",
    "U3": "metrics under names that were replaced",
    "U4": "a zero that was reported is not told",
    "U5": "a defect in reading a chunk is raised in the caller's loop",
    "U6": "leaving a stream, and being cancelled, are errors",
    "U7": "suppress_instrumentation() is not obeyed (nor by three others)",
    "U8": "content is text on spans, where spans take structures",
    "U9": "content is encoded on the caller's thread",
    "U10": "a metric point for every chunk",
    "U11": "who wants the call gets messages, and neither request nor response",
    "U12": "a full queue drops the call, and no number says so",
    "U13": "`true`, as its own documentation has it, switches content off",
    # -- the OpenTelemetry SDK
    "K1": "a full queue drops the oldest spans, uncounted",
    "K2": "a batch that could not be exported is gone",
    "K3": "force_flush() takes as long as it likes",
    "K4": "a forked child shares its parent's connection",
    "K5": "what is not sampled is not exported",
    "K6": "attribute limits cut JSON in its middle",
    "K7": "an exporter that cannot be made switches all instrumentation off",
    "K8": "instrumentors of one name cannot be told apart",
    "K9": "instrumented by a file and by the command: twice",
    # -- the program breaks, or asks something else
    "R1": "LangSmith: TypeError on every Anthropic stream, in place of cancellation and of lost connections too",
    "R2": "Laminar: a bare generator, which has no `with` and no `.response`; iter_lines() raises",
    "R3": "OpenInference: next() on a stream raises",
    "R4": "OpenLIT, LangSmith, Braintrust: a stream is not of the SDK's type",
    "R5": "six peers: a generator of messages reaches the provider empty",
    "R6": "three peers and the anthropic SDK: trace ids go to the provider",
    "R7": "Datadog: every server is asked for usage, and the caller cannot say no",
    "R8": "malformed usage is a TypeError in the program (official anthropic)",
    # -- numbers
    "N1": "Traceloop: the placeholder is added to a stream's output",
    "N2": "Traceloop, Laminar: zeros for beta and raw streams",
    "N3": "OpenLIT: input without what came from the cache, and a cost of that",
    "N4": "OpenLIT, Datadog: counts that nobody reported",
    "N5": "Datadog: all cache writes of a stream are of 5 minutes; LangSmith, Braintrust: no total of them",
    "N6": "Traceloop, Laminar: no reasoning tokens of chat streams, no cache writes of OpenAI",
    "N7": "three peers: response.incomplete has no usage; nine: response.failed is a success",
    "N8": "three peers write 0 for null, three nothing for 0",
    "N9": "four peers: the placeholder of a stream that was left",
    "N10": "nobody but Datadog: a chat stream whose caller did not ask has no usage",
    "N11": "nobody has cache and reasoning tokens as metrics",
    "N12": "five peers: usage of raw calls and raw streams is lost; of iter_lines() with all of them",
    # -- ends
    "E1": "OpenLIT and others: a stream that is left by break, close() or an exception has no span",
    "E2": "Traceloop, Laminar, Braintrust: a lost connection and an error event are successes",
    "E3": "Langfuse and others: a stream that was never read has no span",
    "E4": "Datadog, Laminar, LangSmith: close() is not the end while somebody holds the stream",
    "E5": "five peers: a helper that is never entered leaves a span open for ever",
    "E6": "Traceloop, OpenLIT: a helper that is left unread has no span; get_final_text() neither",
    "E7": "a stream cut off by the server is a success (both official ones)",
    "E8": "a cancelled task's span is lost, or a success",
    "E9": "a web response whose client went away is an error",
    "E10": "Logfire: the span ends before the first token",
    # -- not seen
    "S1": "official openai: beta.responses, compact, completions, images, audio, moderations are not seen",
    "S2": "nobody sees the Responses WebSocket",
    "S3": "official anthropic: token counts, batches, completions are not seen",
    "S4": "the provider is `openai` or `anthropic`, whoever answers",
    "S5": "a tool runner's turns have no common parent",
    "S6": "five peers: messages.parse is not seen; Laminar: responses.parse",
    "S7": "LangSmith, Braintrust: a client from with_options() is not seen",
    "S8": "Logfire, MLflow, LangSmith: Vertex is not seen, or breaks",
    "S9": "five peers cannot be had by opentelemetry-instrument",
    # -- said
    "C1": "OpenInference: 200 messages push the first ones out of the span",
    "C2": "three peers: an event on the span for every chunk",
    "C3": "OpenLIT, Langfuse: parameters that nobody gave; Traceloop, MLflow: the SDK's `Omit`",
    "C4": "MLflow: the output is the stream's repr; a tool without `properties` costs the span",
    "C5": "five peers: no thinking text or no signature of it",
    "C6": "Logfire, OpenLIT: no reasoning summary",
    "C7": "MLflow: no tool calls of streams",
    "C8": "four peers: what had come of a stream that broke is lost",
    "C9": "nobody but the SDK itself says how often a call was tried",
    "C10": "five peers: no time to first token, or under the server's name",
    "C11": "nobody keeps the request as sent and the whole response under the program's own id",
    "C12": "the anthropic SDK's span: no finish reason, no parameters, a name of its own",
    "C13": "one large payload, and the receiver refuses the whole batch",
    # -- housekeeping, time and memory, installing
    "H1": "Traceloop, OpenLIT: uninstrument() leaves the SDK as it was patched",
    "M1": "five peers: each chunk's object is held to the end of the stream",
    "M2": "five peers: each chunk is read, dumped or accumulated again as it passes",
    "M3": "three peers: the same work for a span that is not sampled",
    "M4": "four peers: an open stream holds ten times the bytes that came",
    "I1": "OpenLIT, Logfire: upper bounds keep today's SDKs, or OpenTelemetry's, out",
    "I2": "Logfire, Braintrust: weeks-old releases of other packages are asked for",
    "I3": "importing the instrumentation imports the SDKs",
}


def claims(tests: Path) -> dict[str, list[str]]:
    """Each fault that the files in ``tests`` take up -> by which tests."""
    found: dict[str, list[str]] = {}
    for path in sorted(tests.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for call in getattr(node, "decorator_list", ()):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.peer_fault":
                    for word in call.args:
                        found.setdefault(ast.literal_eval(word), []).append(f"{path.name}::{node.name}")
    return found
