"""Payments per second, counted by GCRA: a burst of one second's worth, then one by one."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

SCOPES_MAX = 50_000  # more than pay in a second; what was counted before that counts no more
SECOND = 1_000_000  # in microseconds
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

type Rate = tuple[str, int]  # a scope, and its payments per second


class Pace:
    """When each scope's next payment is due, in microseconds times its rate: exact, without fractions.

    The clock may step back: then what was counted before is taken as counted just now, so that
    nothing is freed by it, and nobody waits until it has caught up.
    """

    def __init__(self, most: int = SCOPES_MAX) -> None:
        self._due: OrderedDict[str, tuple[int, int]] = OrderedDict()  # by scope: rate, when
        self._most = most

    def take(self, rates: Sequence[Rate], now: datetime) -> bool:
        """Count one payment against each scope; against none if one of them has to wait."""
        at = (now - EPOCH) // MICROSECOND
        due = {scope: (rate, self._due_at(scope, rate, at)) for scope, rate in rates}
        is_free = all(when - at * rate <= (rate - 1) * SECOND for rate, when in due.values())
        for scope, (rate, when) in due.items():
            self._due[scope] = (rate, when + SECOND if is_free else when)
            self._due.move_to_end(scope)
        while len(self._due) > self._most:
            self._due.popitem(last=False)
        return is_free

    def _due_at(self, scope: str, rate: int, at: int) -> int:
        """Never before now, nor more than a burst ahead."""
        rate_before, when = self._due.get(scope, (rate, 0))
        if rate_before != rate:
            when = -(-when * rate // rate_before)
        return min(max(when, at * rate), (at + SECOND) * rate)
