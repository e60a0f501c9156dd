"""A user's connection to NATS, byte by byte: no client library decides what may be said."""

import json
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests import infra

VIOLATION = re.compile(
    r'-ERR \'Permissions Violation for (Publish|Subscription) (?:to|using queue) "([^"]+)"'
)
DEADLINE_SECONDS = 20


@dataclass(frozen=True)
class Heard:
    """A message that arrived: on which subject, where an answer would go, and what it says."""

    subject: str
    reply: str
    data: bytes


class Line:
    """One connection. `flush` waits until the server has judged everything said before."""

    def __init__(self, nats: infra.Nats, user: str) -> None:
        self._socket = socket.create_connection((nats.host, nats.port), DEADLINE_SECONDS)
        self._file = self._socket.makefile("rb")
        self._file.readline()  # INFO
        options = {"user": user, "pass": nats.users[user].password, "verbose": False, "echo": True}
        self._socket.sendall(b"CONNECT " + json.dumps(options).encode() + b"\r\n")
        self._subscriptions = 0
        self.heard: list[Heard] = []
        self.refused: set[str] = set()
        try:
            self.flush()
        except BaseException:
            self.close()
            raise

    def publish(self, subject: str, data: bytes = b"{}", *, reply: str = "") -> None:
        words = f"PUB {subject} {reply} {len(data)}\r\n".encode()
        self._socket.sendall(words + data + b"\r\n")

    def subscribe(self, subject: str) -> int:
        self._subscriptions += 1
        self._socket.sendall(f"SUB {subject} {self._subscriptions}\r\n".encode())
        return self._subscriptions

    def unsubscribe(self, number: int) -> None:
        self._socket.sendall(f"UNSUB {number}\r\n".encode())

    def flush(self) -> None:
        self._socket.sendall(b"PING\r\n")
        while (line := self._file.readline()) != b"PONG\r\n":
            if not line:
                raise ConnectionResetError("the server hung up")
            self._take(line.decode())

    def refused_of(self, subjects: Iterable[str], *, verb: str) -> set[str]:
        """Say or listen to all of these, and tell which of them the server refused."""
        self.refused.clear()
        for subject in subjects:
            if verb == "publish":
                self.publish(subject)
            else:
                self.unsubscribe(self.subscribe(subject))
        self.flush()
        return set(self.refused)

    def _take(self, line: str) -> None:
        if line == "PING\r\n":
            self._socket.sendall(b"PONG\r\n")
        elif line.startswith("MSG "):
            words = line.split()
            data = self._file.read(int(words[-1]) + 2)[:-2]
            self.heard.append(Heard(words[1], words[3] if len(words) > 4 else "", data))
        elif line.startswith("-ERR"):
            match = VIOLATION.match(line)
            if match is None:
                raise PermissionError(line)
            self.refused.add(match[2])
        else:
            assert line.startswith(("+OK", "INFO")), line

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
