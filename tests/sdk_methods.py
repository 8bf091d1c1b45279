"""Every method of the SDKs, sorted: recorded, model spend that is not recorded, and what spends no tokens.

``tests/unit/test_sdk_methods.py`` compares the lists with the installed SDKs, so that a method that a new version
brings is sorted by somebody; ``docs/coverage.md`` names what is spent and not recorded.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import gemini_surfaces
import surfaces

#: resources of accounts and rights, whose methods are not listed one by one
ADMINISTRATION = {"openai": ("admin.organization",), "anthropic": ("beta.organization", "organization")}


@dataclass(frozen=True)
class Unrecorded:
    """A way to spend tokens that has no record."""

    name: str
    methods: tuple[str, ...]
    #: why, and where its usage can be seen
    remark: str


#: recorded beside the table of surfaces: what is a second name for one, or is described under "of their own kind"
ALSO_RECORDED = {
    "openai": (
        "beta.chat.completions: create parse stream",
        "beta.responses: connect",
        "responses: connect",
    ),
    "anthropic": (
        "beta.messages: thread tool_runner",
        "beta.messages.batches: results",
        "messages.batches: results",
    ),
    "google-genai": (),
}

UNRECORDED = {
    "openai": (
        Unrecorded(
            "agent sessions",
            ("beta.agents.sessions: create", "beta.agents.sessions.events: create",
             "beta.agents.automations: create resume", "beta.agents.automations.invocations: create"),
            "the models run at OpenAI; a session's turns have the usage",
        ),
        Unrecorded(
            "assistants",
            ("beta.threads: create_and_run create_and_run_poll create_and_run_stream",
             "beta.threads.runs: create create_and_poll create_and_stream stream",
             "beta.threads.runs: submit_tool_outputs submit_tool_outputs_and_poll submit_tool_outputs_stream"),
            "deprecated by OpenAI; a run has its usage when it has ended",
        ),
        Unrecorded("batches", ("batches: create",), "the results are a file; each line of it has its usage"),
        Unrecorded("ChatKit", ("beta.chatkit.sessions: create",), "the browser talks to OpenAI"),
        Unrecorded("evals", ("evals.runs: create",), "a run has the usage by model"),
        Unrecorded(
            "fine-tuning", ("fine_tuning.jobs: create resume", "fine_tuning.alpha.graders: run"),
            "a job has `trained_tokens`, a grader's run the usage by model",
        ),
        Unrecorded(
            "Realtime and Live",
            ("realtime: connect", "realtime.calls: accept create", "realtime.client_secrets: create",
             "realtime.translations: connect", "realtime.translations.client_secrets: create",
             "beta.realtime: connect", "beta.realtime.sessions: create",
             "beta.realtime.transcription_sessions: create", "live: connect create", "live.forks: connect",
             "live.sessions: accept fork", "live.sideband: connect"),
            "[decision 11](decisions/0011-realtime-is-not-recorded.md); each `response.done` event has the usage",
        ),
        Unrecorded("videos", ("videos: create create_and_poll edit extend remix",), "billed by the second"),
    ),
    "anthropic": (
        Unrecorded(
            "managed agents",
            ("beta.sessions: create", "beta.sessions.events: send", "beta.deployments: create run unpause"),
            "the models run at Anthropic; a session has the sum of its usage",
        ),
        Unrecorded("dreams", ("beta.dreams: create",), "a dream has its usage when it has ended"),
    ),
    "google-genai": (
        Unrecorded(
            "Live", ("aio.live: connect", "aio.live.music: connect"),
            "as [Realtime](decisions/0011-realtime-is-not-recorded.md); messages of a session have the usage",
        ),
        Unrecorded(
            "file search", ("file_search_stores: import_file upload_to_file_search_store",),
            "the embeddings of files; no usage is reported",
        ),
        Unrecorded("triggers", ("triggers: create run",), "they start interactions, which have the usage"),
        Unrecorded("tuning", ("tunings: tune validate_reward",), "a job has its counts when it has ended"),
        Unrecorded("videos", ("models: generate_videos",), "billed by the second"),
    ),
}  # fmt: skip

#: what spends no tokens, by resource
FREE = {
    "openai": """
        audio.voice_consents: create delete list retrieve update
        audio.voices: create delete
        batches: cancel list retrieve
        beta.agents: create delete list retrieve update
        beta.agents.automations: delete list pause retrieve update
        beta.agents.automations.invocations: list retrieve
        beta.agents.environments: create list retrieve
        beta.agents.environments.files: create list prepare prepare_directory upload
        beta.agents.environments.templates: create delete list retrieve update
        beta.agents.sessions: delete list retrieve stream update
        beta.agents.sessions.artifacts: content delete for_result list retrieve
        beta.agents.sessions.events: stream
        beta.agents.sessions.items: list
        beta.agents.sessions.subagents: list retrieve
        beta.agents.sessions.subagents.items: list
        beta.agents.sessions.subagents.turns: list retrieve
        beta.agents.sessions.subagents.turns.items: list
        beta.agents.sessions.traces: list
        beta.agents.sessions.turns: list retrieve
        beta.agents.sessions.turns.items: list
        beta.agents.vaults: create delete list retrieve update
        beta.agents.vaults.credentials: create delete list retrieve update
        beta.assistants: create delete list retrieve update
        beta.chat.completions: delete list retrieve update
        beta.chat.completions.messages: list
        beta.chatkit.sessions: cancel
        beta.chatkit.threads: delete list list_items retrieve
        beta.responses: cancel delete
        beta.responses.input_items: list
        beta.threads: create delete retrieve update
        beta.threads.messages: create delete list retrieve update
        beta.threads.runs: cancel list poll retrieve update
        beta.threads.runs.steps: list retrieve
        chat.completions: delete list retrieve update
        chat.completions.messages: list
        containers: create delete list retrieve
        containers.files: create delete list retrieve
        containers.files.content: retrieve
        content_provenance_checks: create
        conversations: create delete retrieve update
        conversations.items: create delete list retrieve
        evals: create delete list retrieve update
        evals.runs: cancel delete list retrieve
        evals.runs.output_items: list retrieve
        files: content create delete list retrieve retrieve_content wait_for_processing
        fine_tuning.alpha.graders: validate
        fine_tuning.checkpoints.permissions: create delete list retrieve
        fine_tuning.jobs: cancel list list_events pause retrieve
        fine_tuning.jobs.checkpoints: list
        live.sessions: download_recording hangup refer reject
        models: delete list retrieve
        realtime.calls: hangup refer reject
        responses: cancel delete
        responses.input_items: list
        safety.alerts: retrieve
        safety.cases: retrieve
        skills: create delete list retrieve update
        skills.content: retrieve
        skills.versions: create delete list retrieve
        skills.versions.content: retrieve
        uploads: cancel complete create upload_file_chunked
        uploads.parts: create
        vector_stores: create delete list retrieve search update
        vector_stores.file_batches: cancel create create_and_poll list_files poll retrieve upload_and_poll
        vector_stores.files: content create create_and_poll delete list poll retrieve update upload upload_and_poll
        videos: create_character delete download_content get_character list poll retrieve
        webhooks: create delete list retrieve rotate_secret test unwrap update verify_signature
        webhooks.event_types: list
    """,
    "anthropic": """
        beta.agents: archive create list retrieve update
        beta.agents.versions: list
        beta.compliance.review.cases: list respond retrieve
        beta.compliance.review.items: retrieve
        beta.compliance.review.notices: list
        beta.deployment_runs: list retrieve
        beta.deployments: archive list pause retrieve update
        beta.dreams: archive cancel list retrieve
        beta.environments: archive create delete list retrieve update
        beta.environments.work: ack heartbeat list poll retrieve stats stop update
        beta.files: delete download list retrieve_metadata upload
        beta.memory_stores: archive create delete list retrieve update
        beta.memory_stores.memories: create delete list retrieve update
        beta.memory_stores.memory_versions: list redact retrieve
        beta.messages.batches: cancel delete list retrieve
        beta.models: list retrieve
        beta.sessions: archive delete list retrieve update
        beta.sessions.events: list stream
        beta.sessions.resources: add delete list retrieve update
        beta.sessions.threads: archive list retrieve
        beta.sessions.threads.events: list stream
        beta.skills: create delete list retrieve
        beta.skills.versions: create delete download list retrieve
        beta.tunnels: archive create list retrieve reveal_token rotate_token
        beta.tunnels.certificates: archive create list retrieve
        beta.user_profiles: create create_enrollment_url delete list retrieve update
        beta.user_profiles.action_urls: create
        beta.user_profiles.providers.google.data_controls: retrieve update
        beta.vaults: archive create delete list retrieve update
        beta.vaults.credentials: archive create delete list mcp_oauth_validate retrieve update
        beta.webhooks: parse_unverified unwrap
        files: delete download list retrieve_metadata upload
        messages.batches: cancel delete list retrieve
        models: list retrieve
        skills: create delete list retrieve
        skills.versions: create delete list retrieve
        user_profiles: create delete list retrieve update
        user_profiles.action_urls: create
    """,
    "google-genai": """
        agents: create delete get list
        auth_tokens: create
        batches: cancel delete get list
        caches: delete get list update
        chats: create get_history record_history
        credentials: create delete get list update
        environments: create create_environment delete delete_environment get get_environment list list_environments
        environments.files: download list upload
        file_search_stores: create delete download_media get list
        files: delete download get list register_files upload
        interactions: cancel delete
        interactions.auth_tokens: create delete
        models: compute_tokens delete get list update
        operations: get
        triggers: delete get list list_executions update
        tunings: cancel get list
        voices: create delete get list
        webhooks: create delete get list ping rotate_signing_secret update
    """,
}


def recorded(sdk: str) -> set[str]:
    """The methods that are recorded."""
    if sdk == "google-genai":
        return {surface.path for surface in gemini_surfaces.SURFACES}
    rows = {surface.path for surface in surfaces.ALL if surface.provider == sdk}
    return rows | set(expand(ALSO_RECORDED[sdk]))


def unrecorded(sdk: str) -> set[str]:
    """The methods that spend tokens and are not recorded."""
    return {method for row in UNRECORDED[sdk] for method in expand(row.methods)}


def free(sdk: str) -> set[str]:
    """The methods that spend none."""
    return set(expand(line for line in FREE[sdk].splitlines() if line.strip()))


def expand(lines: Iterable[str]) -> Iterator[str]:
    """``a.b: c d`` to ``a.b.c`` and ``a.b.d``."""
    for line in lines:
        resource, _, names = line.strip().partition(": ")
        yield from (f"{resource}.{name}" for name in names.split())


def installed(sdk: str) -> set[str]:
    """The methods of the installed SDK, but for those of administration."""
    if sdk == "google-genai":
        return set(_google_methods())
    methods = set(_methods(_client(sdk), _resource_class(sdk)))
    return {method for method in methods if not method.startswith(tuple(f"{r}." for r in ADMINISTRATION[sdk]))}


def _methods(holder: Any, resource: type, path: str = "") -> Iterator[str]:
    for name in dir(type(holder)):
        if name.startswith(("_", "with_")):
            continue
        member = inspect.getattr_static(type(holder), name)
        if inspect.isfunction(member):
            if path:
                yield path + name
        elif isinstance(inner := getattr(holder, name), resource):
            yield from _methods(inner, resource, f"{path}{name}.")


#: attributes of google-genai's resources that are none of what a program calls
_INNER = ("_", "with_", "do_request", "dynamic_import", "parent_ref", "sdk_configuration", "vertexai")


def _google_methods() -> Iterator[str]:
    """The methods of google-genai's client, of a chat, and of what only its async client has."""
    from google import genai

    client = genai.Client(api_key="test")
    for name in (name for name in dir(type(client)) if not name.startswith(_INNER) and name not in ("aio", "close")):
        yield from _methods_of(getattr(client, name), f"{name}.")
    yield from _methods_of(client.chats.create(model="m"), "chats.")
    yield from _methods_of(client.aio.live, "aio.live.")


def _methods_of(holder: Any, path: str) -> Iterator[str]:
    for name in dir(type(holder)):
        member = inspect.getattr_static(type(holder), name)
        if name.startswith(_INNER):
            continue
        if inspect.isfunction(member):
            yield path + name
        elif isinstance(member, property):
            yield from _methods_of(getattr(holder, name), f"{path}{name}.")
    for name, value in vars(holder).items():
        if not name.startswith(_INNER) and type(value).__module__.startswith("google.genai._gaos."):
            yield from _methods_of(value, f"{path}{name}.")


def _client(sdk: str) -> Any:
    import anthropic
    import openai

    return openai.OpenAI(api_key="test") if sdk == "openai" else anthropic.Anthropic(api_key="test")


def _resource_class(sdk: str) -> type:
    from anthropic._resource import SyncAPIResource as AnthropicResource
    from openai._resource import SyncAPIResource as OpenAIResource

    return OpenAIResource if sdk == "openai" else AnthropicResource
