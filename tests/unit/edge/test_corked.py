"""Head and body of a response leave together, and nothing is kept back."""

import asyncio
from typing import cast

import pytest

from services.edge.server import Corked

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class FakeTransport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def corked(transport: FakeTransport) -> Corked:
    return Corked(cast("asyncio.Transport", transport))


def test_head_and_body_are_one_write(transport: FakeTransport, corked: Corked) -> None:
    for _ in range(2):
        corked.write(HEAD)
        corked.write(b"ok")

    assert transport.sent == [HEAD + b"ok"] * 2


def test_a_response_without_a_body_is_flushed_once(transport: FakeTransport, corked: Corked) -> None:
    corked.write(HEAD)
    corked.flush()
    corked.flush()

    assert transport.sent == [HEAD]


def test_an_invitation_to_continue_is_not_kept_back(transport: FakeTransport, corked: Corked) -> None:
    corked.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    assert transport.sent == [b"HTTP/1.1 100 Continue\r\n\r\n"]


def test_closing_sends_what_is_held(transport: FakeTransport, corked: Corked) -> None:
    corked.write(HEAD)
    corked.close()

    assert transport.sent == [HEAD]
    assert corked.is_closing()
