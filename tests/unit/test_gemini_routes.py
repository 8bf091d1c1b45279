"""Which requests of google-genai are recorded, and as what: by their paths and bodies."""

from __future__ import annotations

from typing import Any

import pytest

from llmspan.instrumentation.google_genai.routes import target

PLACE = "projects/p/locations/us-central1/"
PREDICT = f"{PLACE}publishers/google/models/m:predict"


@pytest.mark.parametrize("instance", [
    {"content": "hi"},
    {"content": "hi", "task_type": "RETRIEVAL_QUERY", "title": "t"},
    {"content": ""},
])  # fmt: skip
def test_instances_with_a_content_are_of_embeddings(instance: dict[str, Any]) -> None:
    """Vertex AI's ``predict`` is a call for embeddings where its instances have a content."""
    found = target("POST", PREDICT, {"instances": [instance]})
    assert found is not None
    assert (found.route.operation, found.route.api, found.model, found.stream) == ("embeddings", "predict", "m", False)


@pytest.mark.parametrize("body", [
    {"instances": [{"prompt": "a cat"}]},
    {"instances": [{"prompt": "a cat", "referenceImages": [{"referenceId": 1}]}]},
    {"instances": [{"prompt": "", "image": {"bytesBase64Encoded": "QQ=="}}], "parameters": {"mode": "upscale"}},
    {"instances": [{"image": {"bytesBase64Encoded": "QQ=="}}]},
    {"instances": [{"personImage": {"image": {}}, "productImages": [{"image": {}}]}]},
    {"instances": [{}]},
    {"instances": [None]},
    {"instances": []},
    {"instances": None},
    {},
])  # fmt: skip
def test_other_instances_are_of_images(body: dict[str, Any]) -> None:
    """Image models have instances with a prompt, with images only, or with none: none of them is an embedding."""
    found = target("POST", PREDICT, body)
    assert found is not None
    assert (found.route.operation, found.route.api, found.model) == ("generate_content", "imagen_predict", "m")


@pytest.mark.parametrize(("path", "body", "model"), [
    ("models/m:batchGenerateContent", {}, "m"),
    ("models/m:asyncBatchEmbedContent", {}, "m"),
    ("batchPredictionJobs", {"model": "publishers/google/models/m"}, "m"),
    (f"{PLACE}batchPredictionJobs", {"model": "publishers/google/models/m"}, "m"),
    (f"{PLACE}batchPredictionJobs", {}, None),
])  # fmt: skip
def test_batches_of_each_platform_are_batches(path: str, body: dict[str, Any], model: str | None) -> None:
    """A batch of texts or of embeddings is one, under the model that the path or the body names."""
    found = target("post", path, body)
    assert found is not None
    assert (found.route.operation, found.model, found.stream) == ("create_batch", model, False)


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "batchPredictionJobs"),
    ("GET", "models/m"),
    ("DELETE", "cachedContents/1"),
    ("POST", "batches/1:cancel"),
    ("POST", f"{PLACE}publishers/google/models/m:predictLongRunning"),
])  # fmt: skip
def test_other_requests_are_not_recorded(method: str, path: str) -> None:
    """Neither what only reads or deletes, nor methods that are no call of a model."""
    assert target(method, path, {}) is None
