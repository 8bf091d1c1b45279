"""The spool: records wait on disk until every backend has them, and outlive the process that took them in.

One log for each process, written by the pipeline's worker alone and read by every delivery at its own pace; the logs of
processes that died are adopted, and delivered like one's own. Off unless ``LLMSPAN_SPOOL_DIR`` is set.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..._guard import guarded, logger
from ..._native import allocate_lock
from ...settings import Settings, SpoolSync
from ..counts import Counts
from . import cursor as cursors
from . import disk
from .backlog import Place, SpoolBacklog
from .cursor import Cursor
from .home import Home, make_home, make_root, orphans
from .log import Log

__all__ = ["Reader", "Spool", "SpoolBacklog", "SpoolFullError"]

_SEGMENT_BYTES = 4 * 1024 * 1024
_SMALLEST_SEGMENT = 64 * 1024
#: how many of the descriptors that the process may have are for the logs of dead ones, each of which holds one
_SHARE = 1 / 8
_LEAST_ADOPTED = 32
#: of a backend that we do not have: nobody knows how far it is, so all of the log is left to it
_UNREADABLE = Cursor("", "", 0, 0)


class SpoolFullError(Exception):
    """There is no room, and the policy is to keep what is there; or there is never enough."""


@dataclass(eq=False, slots=True)
class _Kept:
    """A log and its directory; ``unclaimed``: cursors of backends that this process does not have."""

    log: Log
    home: Home
    unclaimed: list[Cursor] = field(default_factory=list[Cursor])


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads: a backend, where it is, and its counters."""

    backend: str
    location: str
    counts: Counts


class Spool:
    """Everything below one directory that this process holds. Used by the pipeline's worker.

    ``adopt_more`` is called, on any thread, when a log is done and others wait: time for :meth:`adopt`.
    """

    def __init__(self, root: Path, settings: Settings, adopt_more: Callable[[], None] = lambda: None) -> None:
        self.root = root
        self._adopt_more = adopt_more
        self._sync: SpoolSync = settings.spool_sync
        self._max_bytes = settings.spool_max_bytes
        self._drops_oldest = settings.spool_full == "drop_oldest"
        self._segment_bytes = min(_SEGMENT_BYTES, max(self._max_bytes // 8, _SMALLEST_SEGMENT))
        self._backlogs: dict[Reader, SpoolBacklog] = {}
        self._own: _Kept | None = None
        self._adopted: list[_Kept] = []
        #: whether there were more to adopt than are held at a time
        self.has_more = False
        #: how many were adopted so far
        self.adoptions = 0
        self._tidying = allocate_lock()

    @property
    def bytes(self) -> int:
        """What all logs of this process take on the disk."""
        return sum(kept.log.bytes for kept in self._logs())

    def backlogs(self, readers: Sequence[Reader]) -> dict[Reader, SpoolBacklog]:
        """What waits for each of ``readers``, from now on: nothing, before :meth:`open` has begun to look."""
        self._backlogs = {reader: self._backlogs.get(reader) or self._new_backlog(reader) for reader in readers}
        return self._backlogs

    def open(self, readers: Sequence[Reader]) -> dict[Reader, SpoolBacklog]:
        """Make our own directory, if there is none yet, for ``readers``; before that, adopt what died.

        Raises:
            OSError: nothing can be written there. What was adopted is delivered nevertheless, which may make room.
        """
        backlogs = self.backlogs(readers)
        if self._own is None:
            make_root(self.root)
            self.adopt()
            self._own = self._make_own()
        for reader, backlog in self._backlogs.items():
            if all(place.log is not self._own.log for place in backlog.places):
                self._join(reader, backlog, self._own.log)
        return backlogs

    def commit(self, payloads: Sequence[bytes]) -> None:
        """Write records; :meth:`publish` lets the backlogs see them.

        Raises:
            OSError: they are not written.
            SpoolFullError: they are not written, as there is no room.
        """
        assert self._own is not None
        self._make_room(sum(map(len, payloads)) + 32 * len(payloads))
        self._own.log.append(payloads)

    def publish(self) -> None:
        """Let the backlogs see what was committed."""
        assert self._own is not None
        self._own.log.publish()

    def adopt(self) -> None:
        """Take over the logs of processes that have died, as far as they wait for backends that we have.

        Some at a time: :attr:`has_more` says whether there are others, to be adopted when these are done.
        """
        most = _most_adopted()
        if self.has_more and len(self._adopted) > most // 2:  # not worth a look yet
            return
        has_more = False
        for home in orphans(self.root):
            has_more = len(self._adopted) >= most
            if has_more or guarded("spool.adopt", self._adopt, home) is not True:
                home.leave()
            if has_more:
                break
        self.has_more = has_more

    def close(self) -> None:
        """Remove what is delivered; leave the rest to whoever comes next."""
        for kept in self._logs():
            kept.log.close()
            guarded("spool.close", self._tidy, kept, is_last=True)
            kept.home.leave()
        for backlog in self._backlogs.values():
            backlog.counts.left_on_disk(sum(place.on_disk for place in backlog.places))
        self._own, self._adopted, self._backlogs = None, [], {}

    def forget(self) -> None:
        """In a forked child: it is all the parent's. The locks too, which end when nobody holds their files."""
        for kept in self._logs():
            kept.log.seal()
            kept.home.forget()

    # -- logs -------------------------------------------------------------------------------------------------------

    def _logs(self) -> list[_Kept]:
        return [*self._adopted, *([] if self._own is None else [self._own])]

    def _make_own(self) -> _Kept:
        places = [Cursor(reader.backend, reader.location) for reader in self._backlogs]

        def fill(directory: Path) -> None:
            for cursor in places:
                cursors.save(directory, cursor, durable=self._sync != "none")

        home = make_home(self.root, fill, durable=self._sync != "none")
        log = Log(home.directory, sync=self._sync, segment_bytes=self._segment_bytes)
        for backlog, cursor in zip(self._backlogs.values(), places, strict=True):
            self._add(backlog, Place(log, cursor))
        return _Kept(log, home)

    def _new_backlog(self, reader: Reader) -> SpoolBacklog:
        return SpoolBacklog(reader.backend, reader.counts, self._settled)

    def _join(self, reader: Reader, backlog: SpoolBacklog, log: Log) -> None:
        """A backend that was named later gets what comes later."""
        place = Place(log, Cursor(reader.backend, reader.location, log.end, log.end))
        place.save()
        self._add(backlog, place)

    def _add(self, backlog: SpoolBacklog, place: Place) -> None:
        with self._tidying:  # which takes places away, on others' threads
            backlog.places = (*backlog.places, place)

    def _adopt(self, home: Home) -> bool:
        found = cursors.load(home.directory)
        claims = _claims(self._backlogs, found)
        if found and not claims:
            return False
        log = Log.recover(home.directory, sync=self._sync)
        if log.cut:
            line = "llmspan: spool %s: the last %d bytes were not written whole and are cut off"
            guarded("pipeline.log", logger.warning, line, home.directory, log.cut)
        others = [cursor for name, cursor in found.items() if name not in claims.values()]
        kept = _Kept(log, home, [cursor or _UNREADABLE for cursor in others])
        places = {
            reader: _place_in(log, reader, claims.get(reader), found)
            for reader in self._backlogs
            if reader in claims or not found
        }
        self._adopted.append(kept)  # from here on it is ours, whatever happens
        self.adoptions += 1
        with self._tidying:  # nobody may think that he was the only one whom it waited for
            for reader, place in places.items():
                reader.counts.recovered(max(0, log.end - place.cursor.next))
                backlog = self._backlogs[reader]
                backlog.places = (*backlog.places, place)
        guarded("spool.tidy", self._tidy, kept)
        return True

    # -- room -------------------------------------------------------------------------------------------------------

    def _make_room(self, size: int) -> None:
        if self.bytes + size <= self._max_bytes:
            return
        if size > self._max_bytes:
            raise SpoolFullError
        for kept in self._logs():
            self._tidy(kept, is_last=True)
        while self.bytes + size > self._max_bytes:
            kept = next((kept for kept in self._logs() if kept.log.segments), None)
            if kept is None or not self._drops_oldest:
                raise SpoolFullError
            self._drop_oldest(kept.log)

    def _drop_oldest(self, log: Log) -> None:
        with log.lock:
            segment = log.segments[0]
            for backlog, place in self._places(log):
                backlog.counts.dropped("spool_full", place.skip(segment.end), "spooled")
            log.drop_segment(segment)

    def _places(self, log: Log) -> list[tuple[SpoolBacklog, Place]]:
        return [(b, place) for b in self._backlogs.values() for place in b.places if place.log is log]

    def _settled(self, log: Log) -> None:
        """A backend has got on, says its worker."""
        kept = next((kept for kept in self._logs() if kept.log is log), None)
        if kept is not None:
            self._tidy(kept)

    def _tidy(self, kept: _Kept, *, is_last: bool = False) -> None:
        """Remove segments that all are through with, and a log that is done.

        The segment that is written to goes only if ``is_last``: if its writer asks, or nobody writes any more.
        """
        log, is_own = kept.log, kept is self._own
        with self._tidying:
            places = [place for _, place in self._places(log)]
            with log.lock:
                through = min([p.cursor.next for p in places] + [c.next for c in kept.unclaimed], default=log.end)
                for segment in list(log.segments):
                    if segment.end <= through and (is_last or not is_own or segment is not log.segments[-1]):
                        guarded("spool.remove", log.drop_segment, segment)
            if (is_own and not log.is_closed) or kept.home.descriptor < 0 or not all(p.is_done for p in places):
                return
            if not log.segments:
                guarded("spool.remove", kept.home.remove)
            kept.home.leave()
            if kept in self._adopted:
                self._adopted.remove(kept)
                for backlog in self._backlogs.values():
                    backlog.places = tuple(place for place in backlog.places if place.log is not log)
                if self.has_more:
                    self._adopt_more()


def _most_adopted() -> int:
    """How many logs of dead processes are held at a time."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_LEAST_ADOPTED, int((soft if soft >= 0 else sys.maxsize) * _SHARE))


def _place_in(log: Log, reader: Reader, name: str | None, found: dict[str, Cursor | None]) -> Place:
    """Where ``reader`` goes on in an orphan, whose cursor is called ``name``, if it has one.

    Raises:
        OSError: the cursor of a backend that has moved cannot be given its new name.
    """
    first = log.segments[0].first if log.segments else log.end
    old = found.get(name) if name is not None else None
    begin, end = (first, first) if old is None else (old.next, old.end)
    begin = max(begin, first)
    place = Place(log, Cursor(reader.backend, reader.location, begin, max(begin, end)))
    if name is not None and name != place.cursor.file_name:
        disk.rename(log.directory / name, log.directory / place.cursor.file_name)
    return place


def _claims(readers: Iterable[Reader], found: Iterable[str]) -> dict[Reader, str]:
    """Which cursor of an orphan is whose: one's own, or else that of the same backend at another place."""
    readers, rest = list(readers), list(found)
    claims: dict[Reader, str] = {}
    for reader in readers:
        own = Cursor(reader.backend, reader.location).file_name
        if own in rest:
            rest.remove(own)
            claims[reader] = own
    for reader in readers:
        moved = [name for name in rest if name.startswith(cursors.prefix_of(reader.backend))]
        if reader not in claims and moved:
            rest.remove(moved[0])
            claims[reader] = moved[0]
    return claims
