"""Whether a job's capabilities are among ours (§7.3 b, §14).

Bit i of a bitstring is in word i / 64. A longer bitstring never fits into a shorter one, even if
the words in excess are zero: so it is in go-livepeer.
"""

import re
from collections.abc import Iterable, Sequence

from contracts.livepeer import payments_pb2 as pb

WORD_BITS = 64
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-+].*)?")


def are_compatible(wanted: pb.Capabilities, ours: pb.Capabilities) -> bool:
    """Tell whether a job that asks for these may run here; a job that asks for nothing may."""
    return (
        _is_recent_enough(wanted.constraints.min_version, ours.version)
        and _fits(ours.mandatories, into=wanted.bitstring)
        and _models_fit(wanted.constraints, ours.constraints)
        and _fits(wanted.bitstring, into=ours.bitstring)
    )


def bitstring(bits: Iterable[int]) -> list[int]:
    """Write a set of capabilities as words, as few as it needs."""
    words: list[int] = []
    for bit in bits:
        words.extend([0] * (bit // WORD_BITS + 1 - len(words)))
        words[bit // WORD_BITS] |= 1 << bit % WORD_BITS
    return words


def _fits(words: Sequence[int], *, into: Sequence[int]) -> bool:
    if len(words) > len(into):
        return False
    return all(word & other == word for word, other in zip(words, into, strict=False))


def _models_fit(wanted: pb.Constraints, ours: pb.Constraints) -> bool:
    """Compare model by model; a capability on which we have no constraints is not looked at."""
    return all(
        _model_fits(constraint, ours.per_capability[capability].models.get(model))
        for capability, constraints in wanted.per_capability.items()
        if capability in ours.per_capability
        for model, constraint in constraints.models.items()
    )


def _model_fits(wanted: pb.ModelConstraint, ours: pb.ModelConstraint | None) -> bool:
    if ours is None or (wanted.warm and not ours.warm):
        return False
    return _is_recent_enough(wanted.runner_version, ours.runner_version)


def _is_recent_enough(minimum: str, version: str) -> bool:
    """Compare release numbers; what follows them counts for nothing, and a garbled minimum is none."""
    if not minimum:
        return True
    least, actual = VERSION.fullmatch(minimum), VERSION.fullmatch(version)
    if version in {"", "undefined"}:
        return False
    if least is None:
        return True
    return actual is not None and _numbers(actual) >= _numbers(least)


def _numbers(match: re.Match[str]) -> list[int]:
    return [int(number) for number in match.groups()]
