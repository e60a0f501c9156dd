"""Waiting for a server that somebody has just started."""

import time
from collections.abc import Callable

POLL_SECONDS = 0.02


class NoAnswerError(Exception):
    """The server did not answer in time."""


def wait_until(answers: Callable[[], bool], name: str, *, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not answers():
        if time.monotonic() > deadline:
            raise NoAnswerError(f"{name} did not answer within {timeout_seconds:g} s")
        time.sleep(POLL_SECONDS)
