"""Params that live for ever, are over, or were made in a round that is not ours.

He hopes for tickets that can still be redeemed when nobody counts them any more: a far expiration, a
round to come, or one long gone whose exposure was let go. Params may live 50 blocks, and their round
is the last initialized one or the one before, with the hash that the chain has for it.
"""

import asyncio
from itertools import product

from tests.acceptance.system import System
from tests.faults.drains.accomplice import Accomplice, Quote, request
from tests.faults.drains.attacker import Attacker, chain_is_seen, spend_bounds
from tests.faults.drains.bound import Drain, exactly, none_of
from tests.faults.drains.caps import AHEAD_MAX_BLOCKS
from tilt.chain.local_chain import Round

INT64_MAX = 2**63 - 1


async def run(system: System) -> Drain:
    accomplice = await Accomplice.meet(system)
    attacker = await Attacker.enter(system, accomplice)
    earlier = await asyncio.to_thread(_two_rounds_on, accomplice)
    await chain_is_seen(system)
    state = (await attacker.pay(accomplice.quote(), ManifestID="m")).state

    bad = [*_bad_lives(accomplice), *_bad_rounds(accomplice, *earlier)]
    before = len(attacker.loot.tickets)
    answers = await attacker.rush(
        request(quote, maybe, ManifestID=f"m{index}")
        for index, (quote, maybe) in enumerate(product(bad, (None, state)))
    )
    signed = len(attacker.loot.tickets) - before
    good = await attacker.rush(map(request, _just_good(accomplice, earlier[1])))

    statuses = [answer.status for answer in answers]
    return Drain(
        f"{len(bad)} params, each alone and in a session: {attacker.answers}",
        [
            none_of("tickets under such params", signed),
            none_of("answers but 400 and 480", len(statuses) - statuses.count(400) - statuses.count(480)),
            exactly("just within the bounds, paid", sum(answer.status == 200 for answer in good), len(good)),
            *await spend_bounds(attacker),
        ],
    )


def _two_rounds_on(accomplice: Accomplice) -> tuple[Round, Round]:
    """Let two rounds pass; the one that is over for tickets now, and the one before the present."""
    earlier = accomplice.round, accomplice.chain.initialize_next_round()
    accomplice.chain.initialize_next_round()
    accomplice.look()
    return earlier


def _bad_lives(accomplice: Accomplice) -> list[Quote]:
    head = accomplice.head
    blocks = (0, 1, head - 1, head, head + 1, head + AHEAD_MAX_BLOCKS + 1, head + 1000, 2**64, 2**255)
    return [accomplice.quote(expiration_block=block) for block in blocks]


def _bad_rounds(accomplice: Accomplice, oldest: Round, older: Round) -> list[Quote]:
    now = accomplice.round
    rounds = [
        oldest,
        (oldest.number, now.block_hash),
        (older.number, now.block_hash),
        (older.number, bytes(32)),
        (now.number, older.block_hash),
        (now.number, bytes(32)),
        (now.number, b"\xff" * 32),
        (now.number + 1, now.block_hash),
        (now.number + 1, bytes(32)),
        (0, bytes(32)),
        (0, now.block_hash),
        (-1, now.block_hash),
        (INT64_MAX, now.block_hash),
    ]
    return [
        accomplice.quote(creation_round=number, creation_round_hash=block_hash)
        for number, block_hash in rounds
    ]


def _just_good(accomplice: Accomplice, older: Round) -> list[Quote]:
    return [
        accomplice.quote(expiration_block=accomplice.head + AHEAD_MAX_BLOCKS),
        accomplice.quote(expiration_block=accomplice.head + 2),
        accomplice.quote(creation_round=older.number, creation_round_hash=older.block_hash),
    ]
