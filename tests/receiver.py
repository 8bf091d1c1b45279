"""A receiver written from docs/socket-protocol.md alone: the standard library, and nothing of llmspan.

Subclasses misbehave on purpose. One thread for each connection; everything that came is in ``records`` and ``seen``.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from pathlib import Path
from typing import Any


class Receiver:
    """Listens at ``path``; keeps records in memory by ``id``."""

    max_frame = 16 * 1024 * 1024

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = {}
        self.frames: dict[str, str] = {}
        #: the ids of each connection, in the order in which they came
        self.seen: list[list[str]] = []
        self.errors: list[BaseException] = []
        self.hung_up = threading.Semaphore(0)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self) -> None:
        """Stop listening; connections end when their senders hang up."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink()
        for thread in self._threads:
            thread.join()
        assert not self.errors, self.errors

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=[connection]))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self.converse(connection)
        except (EOFError, ConnectionError):
            pass
        except BaseException as error:
            self.errors.append(error)
        self.hung_up.release()

    def converse(self, connection: socket.socket) -> None:
        hello = json.loads(self.read(connection))
        assert hello["type"] == "hello", hello
        if hello["version"] != 4:
            self.say(connection, type="error", code="unsupported_version", message="only 4", versions=[4])
            return
        self.say(connection, type="hello", version=4, max_frame=self.max_frame, software="tiny/1")
        ids: list[str] = []
        self.seen.append(ids)
        while True:
            text = self.read(connection).decode()
            try:
                record = json.loads(text)
            except ValueError as error:
                self.say(connection, type="error", code="malformed", message=str(error), seq=len(ids) + 1)
                return
            assert record["seq"] == len(ids) + 1, record["seq"]
            ids.append(record["id"])
            self.store(record, text)
            self.answer(connection, record)

    def store(self, record: dict[str, Any], text: str) -> None:
        if record["id"] not in self.records:
            self.records[record["id"]] = {key: record[key] for key in record if key not in ("type", "seq")}
            self.frames[record["id"]] = text

    def answer(self, connection: socket.socket, record: dict[str, Any]) -> None:
        self.say(connection, type="ack", seq=record["seq"])

    def read(self, connection: socket.socket) -> bytes:
        (length,) = struct.unpack(">I", self.exactly(connection, 4))
        assert 0 < length <= self.max_frame, length
        return self.exactly(connection, length)

    def exactly(self, connection: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = connection.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def say(self, connection: socket.socket, **values: Any) -> None:
        body = json.dumps(values).encode()
        connection.sendall(struct.pack(">I", len(body)) + body)
