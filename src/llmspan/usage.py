"""Token usage of one call: the provider's numbers, normalised in meaning but never invented.

Rules: ``None`` is *not reported*, ``0`` is *reported as zero*. Input includes cache reads and writes, output
includes reasoning (OpenTelemetry GenAI semantic conventions). What arrives later replaces what came before,
field by field; nothing is ever added up over a stream, clamped or refused. Providers break their own cross-field
rules (reasoning outside of completion tokens, more cached than prompt tokens): what was sent is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Literal

from ._unchecked import unchecked_constructor

__all__ = ["KNOWN_COUNTS", "Usage", "UsageSource", "merge_reports"]

UsageSource = Literal["provider", "partial", "none"]
Raw = Mapping[str, Any]

_MODALITIES: Final = ("text", "image", "audio", "video", "document")


def _by_modality(path: str, spell: Callable[[str], str], names: Mapping[str, str]) -> dict[str, str | None]:
    """The rows of :data:`KNOWN_COUNTS` for lists that have one item for each modality: list -> name of its counts."""
    return {
        path.format(key, spell(modality)): name.format(modality)
        for key, name in names.items()
        for modality in _MODALITIES
    }


#: Every integer that the providers' usage objects are known to carry, by its path, and the name it gets in
#: :attr:`Usage.details`. ``None``: the five fields of :class:`Usage` already say it.
KNOWN_COUNTS: Final[dict[str, str | None]] = {
    # chat completions, completions, embeddings (openai.types.CompletionUsage, CreateEmbeddingResponse.Usage)
    "prompt_tokens": None,
    "completion_tokens": None,
    "total_tokens": None,
    "prompt_tokens_details.cached_tokens": None,
    "prompt_tokens_details.cache_write_tokens": None,
    "prompt_tokens_details.audio_tokens": "audio_input_tokens",
    "prompt_tokens_details.image_tokens": "image_input_tokens",
    "prompt_tokens_details.text_tokens": "text_input_tokens",
    "prompt_tokens_details.video_tokens": "video_input_tokens",
    "prompt_tokens_details.cache_write_tokens_details.ttl_30m_tokens": "cache_write_30m_tokens",
    "prompt_tokens_details.cache_write_tokens_details.ttl_12h_tokens": "cache_write_12h_tokens",
    # gateways to Anthropic's models (LiteLLM, new-api, Portkey) and Qwen's explicit caches, within OpenAI's shape
    "prompt_tokens_details.cache_creation_tokens": None,
    "prompt_tokens_details.cache_creation_input_tokens": None,
    "prompt_tokens_details.cached_creation_tokens": None,
    "prompt_tokens_details.cache_read_input_tokens": None,
    "prompt_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    "prompt_tokens_details.cache_creation.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "prompt_tokens_details.cache_creation.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    "prompt_tokens_details.web_search_requests": "web_search_requests",
    "claude_cache_creation_5_m_tokens": "cache_write_5m_tokens",
    "claude_cache_creation_1_h_tokens": "cache_write_1h_tokens",
    "completion_tokens_details.reasoning_tokens": None,
    "completion_tokens_details.thinking_tokens": None,
    "completion_tokens_details.audio_tokens": "audio_output_tokens",
    "completion_tokens_details.image_tokens": "image_output_tokens",
    "completion_tokens_details.text_tokens": "text_output_tokens",
    "completion_tokens_details.accepted_prediction_tokens": "accepted_prediction_tokens",
    "completion_tokens_details.rejected_prediction_tokens": "rejected_prediction_tokens",
    # Responses, as in openai.types.responses.ResponseUsage
    "input_tokens": None,
    "output_tokens": None,
    "input_tokens_details.cached_tokens": None,
    "input_tokens_details.cache_write_tokens": None,
    "input_tokens_details.cache_write_tokens_details.ttl_30m_tokens": "cache_write_30m_tokens",
    "input_tokens_details.cache_write_tokens_details.ttl_12h_tokens": "cache_write_12h_tokens",
    "input_tokens_details.cache_creation_tokens": None,
    "input_tokens_details.cache_creation_input_tokens": None,
    "input_tokens_details.cached_creation_tokens": None,
    "input_tokens_details.cache_read_input_tokens": None,
    "input_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "input_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    "input_tokens_details.cache_creation.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "input_tokens_details.cache_creation.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    "input_tokens_details.audio_tokens": "audio_input_tokens",
    "input_tokens_details.image_tokens": "image_input_tokens",
    "input_tokens_details.text_tokens": "text_input_tokens",
    "output_tokens_details.reasoning_tokens": None,
    "output_tokens_details.audio_tokens": "audio_output_tokens",
    "output_tokens_details.image_tokens": "image_output_tokens",
    "output_tokens_details.text_tokens": "text_output_tokens",
    "output_tokens_details.tool_output_tokens": "tool_output_tokens",
    # transcriptions, with a detail object of their own spelling (openai.types.audio.transcription.UsageTokens)
    "input_token_details.audio_tokens": "audio_input_tokens",
    "input_token_details.text_tokens": "text_input_tokens",
    # hosted tools, spent beside the base model (openai.types.responses.response.ToolUsage), and the authoring of SVG
    # (openai.types.images_response.SvgUsage): never in the five numbers
    "tool_usage.image_gen.input_tokens": "image_gen_input_tokens",
    "tool_usage.image_gen.output_tokens": "image_gen_output_tokens",
    "tool_usage.image_gen.total_tokens": None,
    "tool_usage.image_gen.cached_tokens": "image_gen_cache_read_tokens",
    "tool_usage.image_gen.cached_tokens_details.cached_image_tokens": "image_gen_cache_read_image_tokens",
    "tool_usage.image_gen.cached_tokens_details.cached_text_tokens": "image_gen_cache_read_text_tokens",
    "tool_usage.image_gen.input_tokens_details.image_tokens": "image_gen_image_input_tokens",
    "tool_usage.image_gen.input_tokens_details.text_tokens": "image_gen_text_input_tokens",
    "tool_usage.image_gen.output_tokens_details.image_tokens": "image_gen_image_output_tokens",
    "tool_usage.image_gen.output_tokens_details.text_tokens": "image_gen_text_output_tokens",
    "tool_usage.web_search.num_requests": "web_search_requests",
    "svg_usage.input_tokens": "svg_input_tokens",
    "svg_usage.output_tokens": "svg_output_tokens",
    "svg_usage.reasoning_tokens": "svg_reasoning_tokens",
    "svg_usage.total_tokens": None,
    "output[].svg_usage.input_tokens": "svg_input_tokens",
    "output[].svg_usage.output_tokens": "svg_output_tokens",
    "output[].svg_usage.reasoning_tokens": "svg_reasoning_tokens",
    "output[].svg_usage.total_tokens": None,
    # messages (anthropic.types.Usage, MessageDeltaUsage and their beta twins)
    "cache_read_input_tokens": None,
    "cache_creation_input_tokens": None,
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    "cache_creation.ephemeral_24h_input_tokens": "cache_write_24h_tokens",
    "output_tokens_details.thinking_tokens": None,
    "server_tool_use.web_search_requests": "web_search_requests",
    "server_tool_use.web_fetch_requests": "web_fetch_requests",
    # beta iterations: compaction and advisor passes are billed but are not in the top-level totals
    "iterations[].input_tokens": "iterations_input_tokens",
    "iterations[].cache_read_input_tokens": "iterations_cache_read_tokens",
    "iterations[].cache_creation_input_tokens": "iterations_cache_write_tokens",
    "iterations[].cache_creation.ephemeral_5m_input_tokens": "iterations_cache_write_5m_tokens",
    "iterations[].cache_creation.ephemeral_1h_input_tokens": "iterations_cache_write_1h_tokens",
    "iterations[].output_tokens": "iterations_output_tokens",
    # fields of single vendors, under their own names
    "prompt_cache_hit_tokens": "prompt_cache_hit_tokens",
    "prompt_cache_miss_tokens": "prompt_cache_miss_tokens",
    "num_cached_tokens": "num_cached_tokens",
    "cached_tokens": "cached_tokens",
    "draft_tokens": "draft_tokens",
    # Google's generateContent, batchEmbedContents and Live (google.genai.types.GenerateContentResponseUsageMetadata,
    # UsageMetadata); counts of a list's items are told apart by the modality of the item
    "promptTokenCount": None,
    "candidatesTokenCount": None,
    "responseTokenCount": None,
    "thoughtsTokenCount": None,
    "cachedContentTokenCount": None,
    "totalTokenCount": None,
    "toolUsePromptTokenCount": "tool_use_input_tokens",
    **_by_modality("{}[{}].tokenCount", str.upper, {
        "promptTokensDetails": "{}_input_tokens",
        "promptTokenDetails": "{}_input_tokens",
        "toolUsePromptTokensDetails": "{}_input_tokens",
        "candidatesTokensDetails": "{}_output_tokens",
        "responseTokensDetails": "{}_output_tokens",
        "cacheTokensDetails": "cache_read_{}_tokens",
    }),
    # Google's interactions (google.genai.interactions.Usage)
    "total_input_tokens": None,
    "total_output_tokens": None,
    "total_thought_tokens": None,
    "total_cached_tokens": None,
    "total_tool_use_tokens": "tool_use_input_tokens",
    "initial_input_tokens": "initial_input_tokens",
    "raw_prompt_token": "raw_prompt_tokens",
    "grounding_tool_count[google_search].count": "web_search_requests",
    "grounding_tool_count[google_maps].count": "map_search_requests",
    "grounding_tool_count[retrieval].count": "retrieval_requests",
    **_by_modality("{}[{}].tokens", str.lower, {
        "input_tokens_by_modality": "{}_input_tokens",
        "tool_use_tokens_by_modality": "{}_input_tokens",
        "output_tokens_by_modality": "{}_output_tokens",
        "cached_tokens_by_modality": "cache_read_{}_tokens",
    }),
    # Vertex AI's embeddings by :predict, and what a cache holds (google.genai.types.CachedContentUsageMetadata)
    "statistics[].token_count": None,
    "metadata.billableCharacterCount": "billable_characters",
    "textCount": "text_characters",
    "imageCount": "images",
    "videoDurationSeconds": "video_seconds",
    "audioDurationSeconds": "audio_seconds",
}  # fmt: skip

_TTL_SPLIT: Final = frozenset(path for path in KNOWN_COUNTS if path.startswith("cache_creation."))
#: Anthropic's names, which gateways put beside OpenAI's. Databricks and Vercel send zeros there for models that have no
#: such cache: only a number that is not zero is a report.
_COPIES: Final = _TTL_SPLIT | {"cache_read_input_tokens", "cache_creation_input_tokens"}
_NOTHING: Final[frozenset[str]] = frozenset()
#: what tells a list's items apart, where it is not their modality
_LABELS: Final = {"grounding_tool_count": "type"}
#: shapes with disjoint counts, told by any of their names: each of the five is the sum of those that are reported. What
#: is read from the cache is a part of the input, the reasoning a part of the output. All are Google's.
_DISJOINT_SHAPES: Final[tuple[dict[str, tuple[str, ...]], ...]] = (
    {
        "input_tokens": ("promptTokenCount", "toolUsePromptTokenCount"),
        "output_tokens": ("candidatesTokenCount", "responseTokenCount", "thoughtsTokenCount"),
        "cache_read_tokens": ("cachedContentTokenCount",),
        "reasoning_tokens": ("thoughtsTokenCount",),
    },
    {
        "input_tokens": ("total_input_tokens", "total_tool_use_tokens"),
        "output_tokens": ("total_output_tokens", "total_thought_tokens"),
        "cache_read_tokens": ("total_cached_tokens",),
        "reasoning_tokens": ("total_thought_tokens",),
    },
    {"input_tokens": ("statistics[].token_count",)},
)
_PATHS_OF_SHAPES: Final = tuple(frozenset(chain(*shape.values())) for shape in _DISJOINT_SHAPES)
_ALL_DISJOINT_PATHS: Final = frozenset(chain(*_PATHS_OF_SHAPES))
_ANTHROPIC_KEYS: Final = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one call cost in tokens, as the provider reported it.

    ``details`` holds the finer counts (cache writes by lifetime, audio, image, predictions, server tools,
    ``iterations_*`` sums); ``raw`` is the provider's own object, merged over a stream but otherwise as sent.
    ``source`` says how far to trust the numbers: ``provider`` is a final report, ``partial`` what was known when
    a stream broke off (a lower bound), ``none`` no report at all.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    details: Mapping[str, int] = field(default_factory=dict[str, int])
    source: UsageSource = "none"
    raw: Raw | None = None

    @classmethod
    def from_raw(
        cls, raw: object, *, final: bool = True, stale_split: bool = False, beside: Raw | None = None
    ) -> Usage:
        """Read a provider's usage object, telling the three families apart by its shape.

        ``final=False``: the report comes from a stream that broke off. ``stale_split=True``: the object's cache
        write split by lifetime is older than its total and is kept in ``raw`` only. ``beside`` has other usage objects
        of the same response by their names (``tool_usage``): their counts are ``details``, and not in ``raw``.
        """
        counts: dict[str, int] = {}
        if beside:
            _collect(beside, "", counts)
        if not isinstance(raw, Mapping) or not raw:
            return cls(details=_named(counts, _NOTHING))
        raw_counts: Raw = raw if isinstance(raw, dict) else dict(raw)
        _collect(raw_counts, "", counts)
        anthropic = _is_anthropic(raw_counts)
        if not anthropic:
            counts = {path: count for path, count in counts.items() if count or path not in _COPIES}
        five = _disjoint(counts) or (_anthropic(counts) if anthropic else _openai(raw_counts, counts))
        details = _named(counts, _TTL_SPLIT if stale_split else _NOTHING)
        return _usage_of((*map(five.get, _FIVE), details, "provider" if final else "partial", raw_counts))

    def as_partial(self) -> Usage:
        """The same numbers, marked as a lower bound."""
        if self.source != "provider":
            return self
        return Usage(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cache_read_tokens=self.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens,
            details=self.details,
            source="partial",
            raw=self.raw,
        )


_FIVE: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_usage_of: Final = unchecked_constructor(Usage)


def merge_reports(reports: Iterable[Raw]) -> dict[str, Any]:
    """One usage object of several cumulative ones: the last non-null value of each key wins."""
    reports = list(filter(None, reports))
    if len(reports) == 1:  # of a call that does not stream
        return dict(reports[0])
    merged: dict[str, Any] = {}
    for report in reports:
        merged.update({key: value for key, value in report.items() if value is not None or key not in merged})
    return merged


def _disjoint(counts: Mapping[str, int]) -> dict[str, int | None] | None:
    """The numbers of a shape with disjoint counts; None if ``counts`` are in none of them."""
    if _ALL_DISJOINT_PATHS.isdisjoint(counts):
        return None
    for shape, paths_of_shape in zip(_DISJOINT_SHAPES, _PATHS_OF_SHAPES, strict=True):
        if paths_of_shape.isdisjoint(counts):
            continue
        reported = {name: [counts[path] for path in paths if path in counts] for name, paths in shape.items()}
        return {name: sum(numbers) if numbers else None for name, numbers in reported.items()}
    return None


def _is_anthropic(raw: Raw) -> bool:
    """Anthropic-shaped: ``input_tokens`` is what was *not* cached; cache counts stand beside it."""
    if "prompt_tokens" in raw or isinstance(raw.get("input_tokens_details"), dict):
        return False
    return not _ANTHROPIC_KEYS.isdisjoint(raw)


def _anthropic(counts: Mapping[str, int]) -> dict[str, int | None]:
    uncached = counts.get("input_tokens")
    cache_read = counts.get("cache_read_input_tokens")
    write = counts.get("cache_creation_input_tokens")
    return {
        "input_tokens": None if uncached is None else uncached + (cache_read or 0) + (write or 0),
        "output_tokens": counts.get("output_tokens"),
        "cache_read_tokens": cache_read,
        "cache_write_tokens": write,
        "reasoning_tokens": counts.get("output_tokens_details.thinking_tokens"),
    }


def _paths(details_in: str, details_out: str, total_in: str, total_out: str) -> dict[str, tuple[str, ...]]:
    """Where OpenAI's shape has each of the five numbers; of several the first that was reported counts.

    Behind OpenAI's own names come those of gateways to Anthropic's models, which keep Anthropic's beside OpenAI's
    totals. Those totals include the cache already.
    """
    return {
        "input_tokens": (total_in,),
        "output_tokens": (total_out,),
        "cache_read_tokens": (
            f"{details_in}.cached_tokens",
            f"{details_in}.cache_read_input_tokens",
            "cache_read_input_tokens",
        ),
        "cache_write_tokens": (
            f"{details_in}.cache_write_tokens",
            f"{details_in}.cache_creation_tokens",
            f"{details_in}.cache_creation_input_tokens",
            f"{details_in}.cached_creation_tokens",
            "cache_creation_input_tokens",
        ),
        "reasoning_tokens": (f"{details_out}.reasoning_tokens", f"{details_out}.thinking_tokens"),
    }


_CHAT: Final = _paths("prompt_tokens_details", "completion_tokens_details", "prompt_tokens", "completion_tokens")
_RESPONSES: Final = _paths("input_tokens_details", "output_tokens_details", "input_tokens", "output_tokens")


def _openai(raw: Raw, counts: Mapping[str, int]) -> dict[str, int | None]:
    paths = _paths_of(tuple(counts), "prompt_tokens" in raw or "completion_tokens" in raw)
    return {name: None if path is None else counts[path] for name, path in paths}


@lru_cache(maxsize=256)  # the reports of a model have the same members
def _paths_of(reported: tuple[str, ...], is_chat: bool) -> tuple[tuple[str, str | None], ...]:
    """Where each of the five numbers stands, if these paths are reported."""
    return tuple([
        (name, next((path for path in places if path in reported), None))
        for name, places in (_CHAT if is_chat else _RESPONSES).items()
    ])  # fmt: skip


def _named(counts: Mapping[str, int], skip: frozenset[str]) -> dict[str, int]:
    counts_by_name: dict[str, int] = {}
    for path, value in counts.items():
        name = KNOWN_COUNTS[path]
        if name is not None and path not in skip:
            # a modality's tokens in the prompt and in the results of tools, which are input as well
            counts_by_name[name] = value + (counts_by_name.get(name, 0) if "[" in path and "[]" not in path else 0)
    if "iterations_input_tokens" in counts_by_name:  # inclusive, as the top-level input is
        counts_by_name["iterations_input_tokens"] += counts_by_name.get("iterations_cache_read_tokens", 0)
        counts_by_name["iterations_input_tokens"] += counts_by_name.get("iterations_cache_write_tokens", 0)
    return counts_by_name


def _collect(raw: Raw, prefix: str, counts: dict[str, int]) -> None:
    """Gather the known counts of an object by path. Those of a list's items are summed: passes of one call.

    Items that name their modality are told apart by it.
    """
    for key, value in raw.items():
        if value is None:
            continue
        path = prefix + key
        if isinstance(value, dict):
            _collect(value, path + ".", counts)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    label = item.get(_LABELS.get(key, "modality"))
                    _collect(item, f"{path}[{label if isinstance(label, str) else ''}].", counts)
        elif path in KNOWN_COUNTS and (count := value if type(value) is int else _integer(value)) is not None:
            counts[path] = counts.get(path, 0) + count if "[" in path else count


def _integer(value: object) -> int | None:
    return int(value) if isinstance(value, float) and value.is_integer() else None
