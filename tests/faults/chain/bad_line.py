"""A line to NATS that loses, repeats, disorders and alters what is published through it.

It carries what a real relay says; the server and everything behind it are real.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from nats.aio.client import Client

from contracts.message import CHECKSUM_HEADER

MESSAGE_ID = "Nats-Msg-Id"
HELD_BACK_MAX = 40

type Headers = dict[str, str] | None


class BadLine(Client):
    """Each published entry meets one of `faults` with a chance of `share`; commands pass untouched."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.share = 0.0
        self.done: Counter[str] = Counter()
        self._random = random
        self._held_back: list[tuple[str, bytes, Headers]] = []
        self._moving = asyncio.Event()
        self._moving.set()
        self._was_halted = False

    def heal(self) -> None:
        self.faults, self.share = [], 0.0
        self.resume()

    def halt(self) -> None:
        """Let whoever publishes stand still, with what it read and meant to say."""
        self._moving.clear()
        self._was_halted = True

    def resume(self) -> None:
        self._moving.set()

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: Headers = None
    ) -> None:
        if not subject.startswith("evt."):
            await super().publish(subject, payload, reply, headers)
            return
        await self._moving.wait()
        if self._was_halted and headers:  # the server forgets message ids, too, after a while
            headers = {name: value for name, value in headers.items() if name != MESSAGE_ID}
        fault = self._random.choice(self.faults) if self._random.random() < self.share else ""
        if fault in LOSING and reply:
            fault = ""  # it is waited for, and told again
        await self._publish(fault, subject, payload, reply, headers)
        if fault:
            self.done[fault] += 1
        if len(self._held_back) > self._random.randrange(HELD_BACK_MAX):
            await self._let_go()

    async def _publish(self, fault: str, subject: str, payload: bytes, reply: str, headers: Headers) -> None:
        match fault:
            case "dropped":
                return
            case "held back":
                self._held_back.append((subject, payload, headers))
                return
            case "repeated":
                await super().publish(subject, payload, "", _without(headers, MESSAGE_ID))
            case "without a checksum":
                headers = _without(headers, CHECKSUM_HEADER)
            case "on another subject":
                subject = "evt.signer.payment_signed.v9"
            case _ if fault in ALTERATIONS:
                payload = ALTERATIONS[fault](payload, self._random)
        await super().publish(subject, payload, reply, headers)

    async def _let_go(self) -> None:
        """Say what was held back, in any order."""
        self._random.shuffle(self._held_back)
        while self._held_back:
            subject, payload, headers = self._held_back.pop()
            await super().publish(subject, payload, "", headers)


def _without(headers: Headers, name: str) -> Headers:
    return {key: value for key, value in (headers or {}).items() if key != name}


def flip_bits(payload: bytes, random: Random) -> bytes:
    data = bytearray(payload)
    for _ in range(random.randint(1, 3)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def cut(payload: bytes, random: Random) -> bytes:
    return payload[: random.randrange(len(payload))]


def _altered(payload: bytes, random: Random, alter: Callable[[dict[str, Any], Random], None]) -> bytes:
    entry = json.loads(payload)
    alter(entry, random)
    return json.dumps(entry).encode()


def _cost(entry: dict[str, Any], random: Random) -> None:
    """Believable: another digit, and still a number."""
    for name in ("cost", "spent"):
        if name in entry["event"]:
            entry["event"][name] = str(int(entry["event"][name]) + random.randint(1, 9))


def _account(entry: dict[str, Any], _: Random) -> None:
    entry["event"]["account_id"] = "bcme"


def _position(entry: dict[str, Any], random: Random) -> None:
    entry["position"] += random.randint(1, 2**20)


def _previous_position(entry: dict[str, Any], random: Random) -> None:
    entry["previous_position"] = random.randrange(2 * entry["position"])


def _epoch(entry: dict[str, Any], random: Random) -> None:
    entry["epoch"] += random.randint(1, 9)


def _subject(entry: dict[str, Any], random: Random) -> None:
    names = ("session_closed.v1", "payment_signed.v9", "payment_refused.v1")
    entry["subject"] = "evt.signer." + random.choice(names)


def altering(alter: Callable[[dict[str, Any], Random], None]) -> Callable[[bytes, Random], bytes]:
    return lambda payload, random: _altered(payload, random, alter)


ALTERATIONS: dict[str, Callable[[bytes, Random], bytes]] = {
    "bits flipped": flip_bits,
    "cut short": cut,
    "another cost": altering(_cost),
    "another account": altering(_account),
    "another position": altering(_position),
    "another previous position": altering(_previous_position),
    "another epoch": altering(_epoch),
    "another kind of event": altering(_subject),
}
LOSING = ("dropped", "held back")
LINE_FAULTS = (
    *LOSING,
    "repeated",
    "without a checksum",
    "on another subject",
    *ALTERATIONS,
)
