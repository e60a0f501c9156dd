"""Makes the body of a violation small: what can be left out while it still happens, is."""

from collections.abc import Callable
from random import Random

from tests.fuzz.arena import Arena
from tests.fuzz.judge import Violation
from tests.fuzz.setting import ORDINARY, UNUSUAL

TRIES_MAX = 600
SETTINGS = {setting.name: setting for setting in (ORDINARY, *UNUSUAL)}


def smallest(violation: Violation) -> bytes | None:
    """The smallest body found that breaks the same rule on a fresh signer; None if none does alone."""
    tries = 0

    def breaks(body: bytes) -> bool:
        nonlocal tries
        tries += 1
        return tries <= TRIES_MAX and _breaks(violation, body)

    if not breaks(violation.case.body):
        return None
    members = _reduce(violation.case.body.split(b","), b",", breaks)
    return _reduce([bytes([byte]) for byte in members], b"", breaks)


def _breaks(violation: Violation, body: bytes) -> bool:
    arena = Arena(SETTINGS[violation.setting], Random(0), generous=True)
    arena.now = violation.now
    try:
        arena.judge_all([violation.case.with_body(body)])
    finally:
        arena.close()
    return any(found.rule == violation.rule for found in arena.tally.violations)


def _reduce(parts: list[bytes], joint: bytes, breaks: Callable[[bytes], bool]) -> bytes:
    """Leave out ever smaller runs of parts (Zeller's delta debugging, without its complements)."""
    size = len(parts) // 2
    while size:
        place = 0
        while place < len(parts):
            without = parts[:place] + parts[place + size :]
            if without and breaks(joint.join(without)):
                parts = without
            else:
                place += size
        size //= 2
    return joint.join(parts)
