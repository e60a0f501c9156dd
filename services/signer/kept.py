"""Answers that were made of a bucket's entries, kept until one of these entries changes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

type Look = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Found[A]:
    names: tuple[str, ...]  # of all entries that were looked at
    entries: tuple[bytes | None, ...]
    answer: A


class Kept[Q: Hashable, A]:
    """One answer a question, made by `make`, which reads entries only through the `Look` it is given.

    To see that an answer still holds costs a look-up for each of its entries; the oldest are dropped.
    """

    def __init__(self, look: Look, make: Callable[[Q, Look], A], most: int) -> None:
        self._look = look
        self._make = make
        self._most = most
        self._found: OrderedDict[Q, Found[A]] = OrderedDict()

    def of(self, question: Q) -> A:
        found = self._found.get(question)
        if found is not None and tuple(map(self._look, found.names)) == found.entries:
            return found.answer
        return self._find(question)

    def _find(self, question: Q) -> A:
        looked: dict[str, bytes | None] = {}

        def look(name: str) -> bytes | None:
            looked[name] = self._look(name)
            return looked[name]

        answer = self._make(question, look)
        self._found[question] = Found(tuple(looked), tuple(looked.values()), answer)
        if len(self._found) > self._most:
            self._found.popitem(last=False)
        return answer
