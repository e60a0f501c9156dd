"""Which capabilities a request asks for, and how rules name them."""

from collections.abc import Iterator
from functools import lru_cache

from contracts.livepeer.capabilities import CAPABILITY_BY_PIPELINE, PIPELINES
from contracts.livepeer.payments_pb2 import Capabilities
from services.signer.parsing import CACHED_MAX, read_capabilities

FIRST_PIPELINE = 27  # those before it are codecs and containers, which every gateway lists
CAPABILITIES_MAX = 1024  # one beyond stands for all beyond: none of them has a name
WORD_BITS = 64
CAPABILITY_BYTES_MAX = 200  # of the text that usage is counted by

# A capability's number and a model of it, or None: the pipeline as such.
type Asked = tuple[int, str | None]


def capability_named(text: str) -> Asked | None:
    """`live-video-to-video` or `live-video-to-video/a-model`; None if there is no such pipeline."""
    pipeline, _, model = text.partition("/")
    capability = CAPABILITY_BY_PIPELINE.get(pipeline)
    return None if capability is None else (capability, model or None)


def name_of(asked: Asked) -> str:
    capability, model = asked
    pipeline = PIPELINES.get(capability, f"capability {capability}")
    return pipeline if model is None else f"{pipeline}/{model}"


def capabilities_asked(raw: bytes) -> frozenset[Asked]:
    """All that the protobuf of a request asks for. Raises BadRequestError."""
    return _kept_asked(raw) if len(raw) <= CACHED_MAX else _asked(raw)


def capability_text(raw: bytes) -> str:
    """What a request asks for as usage is counted by it: all names in order, by commas.

    Models are named by the client, so the text is printable and has a bound; names in its tail may be
    cut off. Raises BadRequestError.
    """
    return _kept_text(raw) if len(raw) <= CACHED_MAX else _text(raw)


def _text(raw: bytes) -> str:
    names = sorted(name_of(asked) for asked in capabilities_asked(raw))
    text = "".join(letter if letter.isprintable() else "?" for letter in ",".join(names))
    return text.encode()[:CAPABILITY_BYTES_MAX].decode(errors="ignore")


def _asked(raw: bytes) -> frozenset[Asked]:
    capabilities = read_capabilities(raw)
    if capabilities is None:
        return frozenset()
    constraints = capabilities.constraints.per_capability
    models = {(number, model) for number, entry in constraints.items() for model in entry.models}
    named = {number for number, _ in models}
    listed = {*constraints, *capabilities.capacities, *_bits(capabilities)}
    pipelines = {(number, None) for number in listed - named if number >= FIRST_PIPELINE}
    return frozenset(models | pipelines)


def _bits(capabilities: Capabilities) -> Iterator[int]:
    """The numbers in the bit string, whose length is the client's choice."""
    words = capabilities.bitstring
    known = words[: CAPABILITIES_MAX // WORD_BITS]
    for place, word in enumerate(known):
        yield from (place * WORD_BITS + bit for bit in range(word.bit_length()) if word >> bit & 1)
    if any(words[len(known) :]):
        yield CAPABILITIES_MAX


_kept_asked = lru_cache(maxsize=1024)(_asked)
_kept_text = lru_cache(maxsize=1024)(_text)
