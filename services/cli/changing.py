"""Reads, changes and writes what somebody else may change at the same time."""

from collections.abc import Awaitable, Callable

from shared.bus import CommandRefusedError

ATTEMPTS = 5
CHANGED = "limits_changed"  # what was read is not what is set any more


async def until_unchanged[R](change: Callable[[], Awaitable[R]]) -> R:
    """Do it anew, from reading on, when somebody was faster; tell so if that goes on."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await change()
        except CommandRefusedError as refused:
            if refused.refusal.code != CHANGED:
                raise
    return await change()
