"""The spool: records wait on disk until every backend has them, and outlive the process that took them in.

One log for each process, written by the pipeline's worker alone and read by every worker at its own pace; the logs of
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
from ..statistics import DeliveryStats
from . import cursor as cursors
from . import disk
from .backlog import ReadPosition, SpoolBacklog
from .cursor import Cursor
from .directory import SpoolDirectory, make_directory, make_root, orphaned_directories
from .log import Log

__all__ = ["Spool", "SpoolBacklog", "SpoolConsumer", "SpoolFullError"]

_SEGMENT_BYTES = 4 * 1024 * 1024
_SMALLEST_SEGMENT = 64 * 1024
#: how many of the descriptors that the process may have are for the logs of dead ones, each of which holds one
_DESCRIPTOR_SHARE = 1 / 8
_MIN_ADOPTED = 32
#: of a backend that is not configured: its position is unknown, so all of the log is kept for it
_UNREADABLE = Cursor("", "", 0, 0)


class SpoolFullError(Exception):
    """There is no room, and the policy is to keep what is there; or there is never enough."""


@dataclass(eq=False, slots=True)
class _OpenLog:
    """A log and its directory; ``unclaimed``: cursors of backends that this process does not have."""

    log: Log
    directory: SpoolDirectory
    unclaimed: list[Cursor] = field(default_factory=list[Cursor])


@dataclass(frozen=True, slots=True)
class SpoolConsumer:
    """Who reads: a backend, where it is, and its counters."""

    backend: str
    location: str
    stats: DeliveryStats


class Spool:
    """Everything below one directory that this process holds. Used by the pipeline's worker.

    ``adopt_more`` is called, on any thread, when a log is done and others wait: time for :meth:`adopt`.
    """

    def __init__(self, root: Path, settings: Settings, adopt_more: Callable[[], None] = lambda: None) -> None:
        self.root = root
        self._adopt_more = adopt_more
        self._sync: SpoolSync = settings.spool_sync
        self._max_bytes = settings.spool_max_bytes
        self._drops_oldest = settings.spool_full_policy == "drop_oldest"
        self._segment_bytes = min(_SEGMENT_BYTES, max(self._max_bytes // 8, _SMALLEST_SEGMENT))
        self._backlogs: dict[SpoolConsumer, SpoolBacklog] = {}
        self._own: _OpenLog | None = None
        self._adopted: list[_OpenLog] = []
        #: whether there were more to adopt than are held at a time
        self.has_more = False
        #: how many were adopted so far
        self.adoptions = 0
        self._removing = allocate_lock()

    @property
    def bytes(self) -> int:
        """What all logs of this process take on the disk."""
        return sum(opened.log.bytes for opened in self._logs())

    def backlogs(self, consumers: Sequence[SpoolConsumer]) -> dict[SpoolConsumer, SpoolBacklog]:
        """What waits for each of ``consumers``, from now on: nothing, before :meth:`open` has begun to look."""
        self._backlogs = {
            consumer: self._backlogs.get(consumer) or self._new_backlog(consumer) for consumer in consumers
        }
        return self._backlogs

    def open(self, consumers: Sequence[SpoolConsumer]) -> dict[SpoolConsumer, SpoolBacklog]:
        """Make our own directory, if there is none yet, for ``consumers``; before that, adopt what died.

        Raises:
            OSError: nothing can be written there. What was adopted is delivered nevertheless, which may make room.
        """
        backlogs = self.backlogs(consumers)
        if self._own is None:
            make_root(self.root)
            self.adopt()
            self._own = self._make_own_log()
        for consumer, backlog in self._backlogs.items():
            if all(position.log is not self._own.log for position in backlog.positions):
                self._add_consumer(consumer, backlog, self._own.log)
        return backlogs

    def commit(self, payloads: Sequence[bytes]) -> None:
        """Write records; :meth:`publish` lets the backlogs see them.

        Raises:
            OSError: they are not written.
            SpoolFullError: they are not written, as there is no room.
        """
        assert self._own is not None
        self._make_space(sum(map(len, payloads)) + 32 * len(payloads))
        self._own.log.append(payloads)

    def publish(self) -> None:
        """Let the backlogs see what was committed."""
        assert self._own is not None
        self._own.log.publish()

    def adopt(self) -> None:
        """Take over the logs of processes that have died, as far as they wait for backends that we have.

        Some at a time: :attr:`has_more` says whether there are others, to be adopted when these are done.
        """
        limit = _max_adopted()
        if self.has_more and len(self._adopted) > limit // 2:  # not worth a look yet
            return
        has_more = False
        for directory in orphaned_directories(self.root):
            has_more = len(self._adopted) >= limit
            if has_more or guarded("spool.adopt", self._adopt, directory) is not True:
                directory.release_lock()
            if has_more:
                break
        self.has_more = has_more

    def close(self) -> None:
        """Remove what is delivered; leave the rest to whoever comes next."""
        for opened in self._logs():
            opened.log.close()
            guarded("spool.close", self._remove_settled, opened, is_last=True)
            opened.directory.release_lock()
        for backlog in self._backlogs.values():
            backlog.stats.close_spool(sum(position.on_disk for position in backlog.positions))
        self._own, self._adopted, self._backlogs = None, [], {}

    def forget(self) -> None:
        """In a forked child: it is all the parent's. The locks too, which end when no process holds their files."""
        for opened in self._logs():
            opened.log.seal()
            opened.directory.forget()

    # -- logs -------------------------------------------------------------------------------------------------------

    def _logs(self) -> list[_OpenLog]:
        return [*self._adopted, *([] if self._own is None else [self._own])]

    def _make_own_log(self) -> _OpenLog:
        own_cursors = [Cursor(consumer.backend, consumer.location) for consumer in self._backlogs]

        def fill(directory: Path) -> None:
            for cursor in own_cursors:
                cursors.save(directory, cursor, durable=self._sync != "none")

        directory = make_directory(self.root, fill, durable=self._sync != "none")
        log = Log(directory.path, sync=self._sync, segment_bytes=self._segment_bytes)
        for backlog, cursor in zip(self._backlogs.values(), own_cursors, strict=True):
            self._add_position(backlog, ReadPosition(log, cursor))
        return _OpenLog(log, directory)

    def _new_backlog(self, consumer: SpoolConsumer) -> SpoolBacklog:
        return SpoolBacklog(consumer.backend, consumer.stats, self._on_settled)

    def _add_consumer(self, consumer: SpoolConsumer, backlog: SpoolBacklog, log: Log) -> None:
        """A backend that was named later gets what comes later."""
        position = ReadPosition(log, Cursor(consumer.backend, consumer.location, log.end, log.end))
        position.save()
        self._add_position(backlog, position)

    def _add_position(self, backlog: SpoolBacklog, position: ReadPosition) -> None:
        with self._removing:  # which takes positions away, on others' threads
            backlog.positions = (*backlog.positions, position)

    def _adopt(self, directory: SpoolDirectory) -> bool:
        cursor_files = cursors.load(directory.path)
        matches = _match_cursors(self._backlogs, cursor_files)
        if cursor_files and not matches:
            return False
        log = Log.recover(directory.path, sync=self._sync)
        if log.bytes_cut:
            message = "llmspan: spool %s: the last %d bytes were not written whole and are cut off"
            guarded("pipeline.log", logger.warning, message, directory.path, log.bytes_cut)
        unmatched = [cursor for name, cursor in cursor_files.items() if name not in matches.values()]
        opened = _OpenLog(log, directory, [cursor or _UNREADABLE for cursor in unmatched])
        positions = {
            consumer: _position_in(log, consumer, matches.get(consumer), cursor_files)
            for consumer in self._backlogs
            if consumer in matches or not cursor_files
        }
        self._adopted.append(opened)  # from here on it is ours, whatever happens
        self.adoptions += 1
        with self._removing:  # nobody may think that he was the only one whom it waited for
            for consumer, position in positions.items():
                consumer.stats.recovered(max(0, log.end - position.cursor.next))
                backlog = self._backlogs[consumer]
                backlog.positions = (*backlog.positions, position)
        guarded("spool.tidy", self._remove_settled, opened)
        return True

    # -- room -------------------------------------------------------------------------------------------------------

    def _make_space(self, size: int) -> None:
        if self.bytes + size <= self._max_bytes:
            return
        if size > self._max_bytes:
            raise SpoolFullError
        for opened in self._logs():
            self._remove_settled(opened, is_last=True)
        while self.bytes + size > self._max_bytes:
            opened = next((open_log for open_log in self._logs() if open_log.log.segments), None)
            if opened is None or not self._drops_oldest:
                raise SpoolFullError
            self._drop_oldest(opened.log)

    def _drop_oldest(self, log: Log) -> None:
        with log.lock:
            segment = log.segments[0]
            for backlog, position in self._positions(log):
                backlog.stats.dropped("spool_full", position.skip(segment.end), "spooled")
            log.drop_segment(segment)

    def _positions(self, log: Log) -> list[tuple[SpoolBacklog, ReadPosition]]:
        return [(b, position) for b in self._backlogs.values() for position in b.positions if position.log is log]

    def _on_settled(self, log: Log) -> None:
        """A backend has got on, says its worker."""
        opened = next((open_log for open_log in self._logs() if open_log.log is log), None)
        if opened is not None:
            self._remove_settled(opened)

    def _remove_settled(self, opened: _OpenLog, *, is_last: bool = False) -> None:
        """Remove segments that all are through with, and a log that is done.

        The segment that is written to goes only if ``is_last``: if its writer asks, or there is no writer any more.
        """
        log, is_own = opened.log, opened is self._own
        with self._removing:
            positions = [position for _, position in self._positions(log)]
            with log.lock:
                settled_up_to = min(
                    [p.cursor.next for p in positions] + [c.next for c in opened.unclaimed], default=log.end
                )
                for segment in list(log.segments):
                    if segment.end <= settled_up_to and (is_last or not is_own or segment is not log.segments[-1]):
                        guarded("spool.remove", log.drop_segment, segment)
            if (
                (is_own and not log.is_closed)
                or opened.directory.descriptor < 0
                or not all(p.is_done for p in positions)
            ):
                return
            if not log.segments:
                guarded("spool.remove", opened.directory.remove)
            opened.directory.release_lock()
            if opened in self._adopted:
                self._adopted.remove(opened)
                for backlog in self._backlogs.values():
                    backlog.positions = tuple(position for position in backlog.positions if position.log is not log)
                if self.has_more:
                    self._adopt_more()


def _max_adopted() -> int:
    """How many logs of dead processes are held at a time."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_MIN_ADOPTED, int((soft if soft >= 0 else sys.maxsize) * _DESCRIPTOR_SHARE))


def _position_in(
    log: Log, consumer: SpoolConsumer, name: str | None, cursor_files: dict[str, Cursor | None]
) -> ReadPosition:
    """Where ``consumer`` goes on in an orphan, whose cursor is called ``name``, if it has one.

    Raises:
        OSError: the cursor of a backend that has moved cannot be given its new name.
    """
    first = log.segments[0].first if log.segments else log.end
    old = cursor_files.get(name) if name is not None else None
    begin, end = (first, first) if old is None else (old.next, old.end)
    begin = max(begin, first)
    position = ReadPosition(log, Cursor(consumer.backend, consumer.location, begin, max(begin, end)))
    if name is not None and name != position.cursor.file_name:
        disk.rename(log.directory / name, log.directory / position.cursor.file_name)
    return position


def _match_cursors(consumers: Iterable[SpoolConsumer], file_names: Iterable[str]) -> dict[SpoolConsumer, str]:
    """Which cursor of an orphan is whose: one's own, or else that of the same backend at another position."""
    consumers, unmatched = list(consumers), list(file_names)
    matches: dict[SpoolConsumer, str] = {}
    for consumer in consumers:
        own = Cursor(consumer.backend, consumer.location).file_name
        if own in unmatched:
            unmatched.remove(own)
            matches[consumer] = own
    for consumer in consumers:
        moved = [name for name in unmatched if name.startswith(cursors.prefix_of(consumer.backend))]
        if consumer not in matches and moved:
            unmatched.remove(moved[0])
            matches[consumer] = moved[0]
    return matches
