"""Notes and scores in every store: they come back, calls are found by them, and they go with what they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmspan.annotation import Annotation
from llmspan.annotation_writing import annotation_obstacle
from llmspan.backends.annotation_store import SupportsAnnotations
from llmspan.backends.base import Filters
from llmspan.errors import RecordError
from llmspan.reader import Reader
from records import NOON, make_trace
from stores import MAKERS

TRACE, OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319c"
STORES = [name for name in MAKERS if name != "socket"]
RECORDS = [
    make_trace(id="0", started_at=NOON, trace_id=TRACE, user_id="ann"),
    make_trace(id="1", started_at=NOON + 1, trace_id=TRACE, user_id="bob"),
    make_trace(id="2", started_at=NOON + 2, trace_id=OTHER_TRACE, user_id="ann"),
    make_trace(id="3", started_at=NOON + 3, trace_id=None, user_id="bob"),
]


def note(**overrides: Any) -> Annotation:
    values: dict[str, Any] = {
        "record_id": None, "trace_id": None, "name": "score", "value": None, "comment": None, "source": None
    }  # fmt: skip
    return Annotation.make(**(values | overrides))


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    backend: Any = MAKERS[request.param](tmp_path)
    backend.open()
    backend.write(RECORDS)
    yield backend
    backend.shutdown()


def values(store: Any) -> list[Any]:
    """The values of all annotations that the store has, in the order of time."""
    return [one.value for one in store.annotations([record.id for record in RECORDS], [TRACE, OTHER_TRACE], 100)]


def found(store: Any, query: str) -> str:
    """The ids of the calls that a query means, however it is asked, and as plain Python finds them."""
    filters = Filters.parse(query)
    ids = "".join(record.id for record in reversed(store.list(filters).traces))
    annotations = store.annotations([record.id for record in RECORDS], [TRACE, OTHER_TRACE], 100)
    assert ids == "".join(record.id for record in RECORDS if filters.matches(record, annotations))
    assert store.count(filters) == len(ids) == store.stats([], filters)[0].calls
    return ids


def test_an_annotation_comes_back(store: Any) -> None:
    """Numbers, texts, and those that are only a comment, by what they are about, the oldest first, up to a limit."""
    assert isinstance(store, SupportsAnnotations)
    assert annotation_obstacle(store) is None
    kept = [
        note(record_id="0", value=0.25, comment="two\nlines ü", source="ann"),
        note(record_id="0", name="label ü", value="good"),
        note(trace_id=TRACE, name="note", comment="whole run"),
        note(record_id="3", value=-1),
    ]
    for one in kept:
        store.annotate(one)
    assert list(store.annotations(["0"], [], 10)) == kept[:2]
    assert list(store.annotations(["0", "3"], [TRACE], 3)) == kept[:3]
    assert list(store.annotations([], [OTHER_TRACE], 10)) == []
    assert list(store.annotations([], [], 10)) == []
    assert list(Reader(store).annotations_of(RECORDS, limit=3)) == kept[:3]
    assert store.remove_annotation(kept[1].id)
    assert not store.remove_annotation(kept[1].id)
    assert list(store.annotations(["0"], [], 10)) == kept[:1]
    assert store.get("0") == RECORDS[0]


def test_what_is_not_there_cannot_be_annotated(store: Any) -> None:
    """A call or a trace that is not stored is named in the error, and nothing is kept."""
    for one in (note(record_id="9", value=1), note(trace_id="f" * 32, value=1)):
        with pytest.raises(RecordError, match=f"no call .*{one.record_id or one.trace_id}.* in "):
            store.annotate(one)
        assert list(store.annotations(["9"], ["f" * 32], 10)) == []


def test_large_and_odd_texts(store: Any) -> None:
    """Text of any size is cut to what a store holds; NUL and lone surrogates become what it can hold."""
    store.annotate(note(record_id="0", name="n" * 5000, value="v\0" * 5000, comment="c\ud800" * 50_000, source="'"))
    (one,) = store.annotations(["0"], [], 10)
    assert isinstance(one.value, str)
    assert len(one.name) == 1024
    assert 1000 < len(one.value.encode()) <= 1024
    assert len(one.comment.encode()) <= 16 * 1024
    assert one.comment.startswith("c\ufffd")
    assert found(store, f"annotation.{'n' * 5000}:any") == "0"


def test_calls_are_found_by_annotations(store: Any) -> None:
    """Each operator, on those of the call and of its trace; one without a value is there all the same."""
    store.annotate(note(record_id="0", value=-1))
    store.annotate(note(record_id="0", value=2))
    store.annotate(note(record_id="1", value="poor"))
    store.annotate(note(trace_id=OTHER_TRACE, value=0.5))
    store.annotate(note(record_id="3", name="note", comment="look"))
    store.annotate(note(record_id="3", name="a b'", value="x*y"))
    store.annotate(note(record_id="2", name="label", value="1"))
    expected = {
        "score<0": "0", "score>1": "0", "score<=0.5": "02", "score>=-1": "02", "-score<0": "123", "score:0..1": "2",
        "score:2": "0", "score:0.5,poor": "12", "score:po*": "1", "score!=poor": "023", "score:any": "012",
        "score:none": "3", "score:none,2": "03", "-score:none": "012", "score<0 score>1": "0", "score:2 score:-1": "0",
        "score:2 score:0.5": "", "annotation.score<0": "0", "annotation.note:any": "3", "annotation.note:x": "",
        'annotation."a b\'":"x*y"': "3", 'annotation."a b\'":*y': "3", "annotation.label:1": "2",
        "annotation.label>0": "", "annotation.other:any": "", "score<1 user:ann": "02", "score<1 -user:ann": "",
    }  # fmt: skip
    assert {query: found(store, query) for query in expected} == expected
    many = ",".join(f"v{at}*" for at in range(300))
    assert found(store, f"score:{many},po*") == "1"


def test_annotations_go_with_their_call_and_their_trace(store: Any) -> None:
    """Those of a call go with it, those of a trace with the last of its calls; all others stay."""
    store.annotate(note(record_id="0", value=0))
    store.annotate(note(record_id="1", value=1))
    store.annotate(note(trace_id=TRACE, value="trace"))
    store.annotate(note(trace_id=OTHER_TRACE, value="other"))
    assert store.delete(Filters(id="0")) == 1
    assert values(store) == [1, "trace", "other"]
    if hasattr(store, "remove"):
        store.remove(["1"])
    else:
        store.delete(Filters(id="1"))
    assert values(store) == ["other"]
    assert store.delete(Filters()) == 2
    assert values(store) == []


def test_calls_are_deleted_by_annotations(store: Any) -> None:
    """Deleting what has a bad score, or what is of a trace that has one, deletes that and nothing else."""
    store.annotate(note(record_id="3", value=-1))
    store.annotate(note(trace_id=TRACE, value=-2))
    store.annotate(note(record_id="2", value=1))
    assert store.delete(Filters.parse("score<0")) == 3
    assert [record.id for record in store.list().traces] == ["2"]
    assert values(store) == [1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({}, "exactly one of record_id and trace_id"),
        ({"record_id": "1", "trace_id": TRACE, "value": 1}, "exactly one of record_id and trace_id"),
        ({"record_id": "1"}, "neither a value nor a comment"),
        ({"record_id": "1", "value": ""}, "neither a value nor a comment"),
        ({"record_id": "1", "value": float("nan")}, "value is nan"),
        ({"record_id": "1", "value": 2**60}, "value is 1152921504606846976"),
        ({"record_id": "1", "value": [1]}, r"value is \[1\]"),
        ({"record_id": "1", "value": 1, "name": ""}, "name is empty"),
        ({"record_id": "1", "value": 1, "source": 3}, "source is 3"),
        ({"record_id": "", "value": 1}, "is no id"),
        ({"trace_id": "ABC", "value": 1}, "32 hexadecimal digits"),
    ],
)
def test_wrong_annotations(overrides: dict[str, Any], message: str) -> None:
    """What cannot be an annotation is named, and what would be right."""
    with pytest.raises(RecordError, match=message):
        note(**overrides)
