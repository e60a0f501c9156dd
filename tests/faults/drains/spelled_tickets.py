"""ManifestIDs that spell a ticket, so that the signature of their credentials would be the ticket's.

All that the payer's key signs is the EIP-191 digest of a keccak hash; one type is told from another
only by what was hashed:

    address      42 characters
    credentials  ManifestID, 32 zero bytes, keccak("")
    ticket       recipient, sender, face value, odds, nonce, rand hash: 168 bytes; then round and hash: 64

So credentials are a ticket where a ticket ends in 32 zero bytes and keccak(""): one of round 0, or one
without a round, of nonce 0 and with keccak("") as its rand hash. He needs a ManifestID of 168 or 104
bytes, and we take 100. Two more things would stand in his way: a ManifestID is UTF-8, and has the
payer's address in it; and the TicketBroker pays neither ticket, as is tried here with a payer who has
a deposit, and whose key we hold.
"""

import asyncio
from collections.abc import Iterator

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from tests.acceptance.system import System
from tests.faults.drains.accomplice import NEARLY_CERTAIN, Accomplice, Quote, new_rand, request
from tests.faults.drains.attacker import Attacker, chain_is_seen, spend_bounds
from tests.faults.drains.bound import Bound, Drain, exactly, none_of
from tests.faults.drains.caps import MANIFEST_BYTES_MAX
from tests.faults.drains.messages import EMPTY_HASH, credentials_bytes, sign, ticket_bytes, ticket_digest
from tilt.chain.local_chain import Ticket

BEHIND_MANIFEST = 64  # bytes of credentials
TICKET_BYTES_MIN = 168
ASCII = b"an address of ASCII!"
ODDS = int.from_bytes(b"\x7f" * 32)  # one in two, and ASCII
FACE_VALUE = 0x7F7F7F7F
RAND_HASH = b"he could find such a hash easily"
ROUND_ZERO = bytes(32) + EMPTY_HASH
WHY_NOT = (
    "ticket creationRound does not have a block hash",
    "invalid length for ticket auxData: must be 64 bytes",
)
HOW = ("surrogateescape", "replace", "ignore", "backslashreplace")
LENGTHS = (1, MANIFEST_BYTES_MAX, MANIFEST_BYTES_MAX + 1, 104, 168, 256)


async def run(system: System) -> Drain:
    accomplice = await Accomplice.meet(system)
    attacker = await Attacker.enter(system, accomplice)
    payer = bytes.fromhex(attacker.loot.payer.removeprefix("0x"))
    spellings = [_spelling(ticket) for sender in (payer, ASCII) for ticket in _tickets(sender)]

    await attacker.rush(
        body for spelling in spellings for body in _in_every_way(spelling, accomplice.quote())
    )
    await attacker.rush(
        request(accomplice.quote(), ManifestID=letter * (length // len(letter.encode())))
        for length in LENGTHS
        for letter in ("x", "\0", "\N{TICKET}")
    )
    reasons, control = await asyncio.to_thread(_redeem, system, accomplice)
    await chain_is_seen(system)

    credentials = attacker.loot.credentials
    longest = max(len(credentials_bytes(manifest_id)) for manifest_id in credentials)
    return Drain(
        f"{len(spellings)} spellings in {len(HOW) + 3} ways, and other lengths: {attacker.answers}",
        [
            none_of("ManifestIDs that spell a ticket, signed", len(credentials.keys() & {*spellings})),
            Bound("bytes signed for a ManifestID", longest, TICKET_BYTES_MIN - 1, least=MANIFEST_BYTES_MAX),
            none_of("such tickets paid by the TicketBroker", reasons.count("")),
            exactly("... refused for their round", sum(one in WHY_NOT for one in reasons), len(reasons)),
            exactly("the same with a round, paid", int(control == ""), 1),
            *await spend_bounds(attacker),
        ],
    )


def _spelling(ticket: Ticket) -> bytes:
    """The ManifestID whose credentials are this ticket."""
    spelling = ticket_bytes(ticket)[:-BEHIND_MANIFEST]
    assert credentials_bytes(spelling) == ticket_bytes(ticket)
    return spelling


def _tickets(sender: bytes) -> tuple[Ticket, Ticket]:
    """Both shapes of ticket that credentials can have; all but the sender is his choice, and UTF-8."""
    whole = Ticket(
        recipient=to_checksum_address(ASCII),
        sender=to_checksum_address(sender),
        face_value=FACE_VALUE,
        win_prob=ODDS,
        sender_nonce=1,
        recipient_rand_hash=RAND_HASH,
        aux_data=ROUND_ZERO,
    )
    return whole, whole._replace(sender_nonce=0, recipient_rand_hash=EMPTY_HASH, aux_data=b"")


def _in_every_way(spelling: bytes, quote: Quote) -> Iterator[bytes]:
    """As text with what is no UTF-8 escaped or left out, as numbers, as raw bytes."""
    for how in HOW:
        yield request(quote, ManifestID=spelling.decode(errors=how))
    yield request(quote, ManifestID=spelling.decode("latin-1"))
    yield request(quote, ManifestID=list(spelling))
    yield request(quote, ManifestID="@").replace(b"@", spelling)


def _redeem(system: System, accomplice: Accomplice) -> tuple[list[str], str]:
    """What the broker says to such tickets, well signed by a payer with a deposit; and to a real one."""
    key = bytes.fromhex(system.world.payer_key_paths[1].read_text().removeprefix("0x"))
    rand, now = new_rand(), accomplice.round
    good = Ticket(
        recipient=to_checksum_address(accomplice.address),
        sender=to_checksum_address(system.world.payers[1]),
        face_value=FACE_VALUE,
        win_prob=NEARLY_CERTAIN,
        sender_nonce=1,
        recipient_rand_hash=keccak(rand.to_bytes(32)),
        aux_data=now.number.to_bytes(32) + now.block_hash,
    )
    bad = [
        good._replace(aux_data=ROUND_ZERO),
        good._replace(aux_data=b""),
        good._replace(aux_data=b"", sender_nonce=0, recipient_rand_hash=EMPTY_HASH),
    ]
    reasons = [accomplice.refusal(one, sign(key, ticket_digest(one)), rand) for one in bad]
    return reasons, accomplice.refusal(good, sign(key, ticket_digest(good)), rand)
