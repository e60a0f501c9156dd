"""The payer's key as an oracle: every field of every endpoint, to have a hash of his choice signed.

He hopes for a signature over the hash of a ticket that was never charged: one that is sure to win and
takes half of the deposit. The key signs three typed messages: our address, the segment credentials of
a ManifestID, a ticket. Every signature that leaves the system is searched for in all answers, and its
digest is made anew: it is one of the three, or this script fails. States are sealed with a MAC.
"""

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from tests.acceptance.system import Answer, System
from tests.faults.drains.accomplice import NEARLY_CERTAIN, Accomplice, new_rand, request
from tests.faults.drains.attacker import Attacker, spend_bounds
from tests.faults.drains.bound import Bound, Drain, exactly, none_of
from tests.faults.drains.messages import (
    address_digest,
    credentials_digest,
    personal,
    signer_of,
    ticket_bytes,
    ticket_digest,
    ticket_hash,
)
from tests.faults.drains.released import signatures_in
from tilt.chain.local_chain import Ticket

WISHES = 4
HEADERS = ("Idempotency-Key", "Clearinghouse-User", "Clearinghouse-Stream", "Signer-Auth-Id")
PATHS = ("/v1/me", "/v1/accounts/{0}", "/v1/accounts/{0}/limits", "/v1/accounts/{0}/usage")
SESSION_PATHS = ("/v1/sessions/{0}", "/v1/sessions/{0}/timeline")
SESSIONS = 20  # whose timelines are read


async def run(system: System) -> Drain:
    hunt = Hunt(await Attacker.enter(system))
    wishes = [hunt.wish() for _ in range(WISHES)]

    await hunt.ask_for_addresses(wishes)
    await hunt.ask_for_payments(wishes)
    await hunt.read_everything()

    booked = (await hunt.attacker.log()).tickets()
    kinds = Counter(map(hunt.kinds().get, hunt.released))
    unknown = kinds.pop(None, 0)
    return Drain(
        f"{hunt.calls} calls: {hunt.attacker.answers}",
        [
            none_of("signatures over anything he wished for", hunt.granted(wishes)),
            none_of("signatures of no known type", unknown),
            Bound("address signed", kinds["address"], 1, least=1),
            exactly("tickets signed = booked", kinds["ticket"], len(booked)),
            exactly(
                "credentials signed = ManifestIDs", kinds["credentials"], len(hunt.attacker.loot.credentials)
            ),
            none_of(
                "tickets in hand that are not booked",
                len(hunt.attacker.loot.by_id().items() - booked.items()),
            ),
            none_of("states signed by the payer", hunt.signed_states()),
            *await spend_bounds(hunt.attacker),
        ],
    )


class Hunt:
    """What was asked, and every signature that came back."""

    def __init__(self, attacker: Attacker) -> None:
        self.attacker = attacker
        self.payer = attacker.loot.payer
        self.address = to_checksum_address(self.payer)
        self.released: set[bytes] = set()
        self.calls = 0

    def wish(self) -> Ticket:
        """A ticket that nobody would sign: it takes half of the deposit, and is sure to win."""
        accomplice = self.attacker.accomplice
        return Ticket(
            recipient=to_checksum_address(accomplice.address),
            sender=self.address,
            face_value=accomplice.deposit(self.payer) // 2,
            win_prob=NEARLY_CERTAIN,
            sender_nonce=1,
            recipient_rand_hash=keccak(new_rand().to_bytes(32)),
            aux_data=accomplice.round.number.to_bytes(32) + accomplice.round.block_hash,
        )

    # What he asks

    async def ask_for_addresses(self, wishes: list[Ticket]) -> None:
        for body in (b"", b"{}", b"null", *(form for wish in wishes for form in _forms(wish))):
            await self._send("POST", "/sign-orchestrator-info", body)

    async def ask_for_payments(self, wishes: list[Ticket]) -> None:
        """Put what is to be signed into every field there is."""
        state = (await self._pay(request(self.attacker.quote(), ManifestID="m"))).json["state"]
        for wish in wishes:
            for body in _bodies(self.attacker.accomplice, wish, state):
                await self._pay(body)
            for header in HEADERS:
                await self._pay(request(self.attacker.quote()), **{header: ticket_hash(wish).hex()})

    async def read_everything(self) -> None:
        account = self.attacker.account.account_id
        sessions = (await self.attacker.system.sessions(self.attacker.account))[:SESSIONS]
        paths = [path.format(account) for path in (*PATHS, "/v1/accounts/{0}/sessions")]
        paths += [path.format(row["session_id"]) for path in SESSION_PATHS for row in sessions]
        for path in (*paths, "/discover-orchestrators", "/openapi.json"):
            await self._send("GET", path)

    async def _pay(self, body: bytes, **headers: str) -> Answer:
        return self._keep(await self.attacker.send(body, **headers))

    async def _send(self, method: str, path: str, body: bytes | None = None) -> None:
        headers = self.attacker.account.headers
        self._keep(await self.attacker.system.send(method, path, data=body, headers=headers))

    def _keep(self, answer: Answer) -> Answer:
        self.calls += 1
        self.released |= signatures_in(answer)
        return answer

    # What he got

    def kinds(self) -> dict[bytes, str]:
        """Each signature of the payer whose typed message is known: it was hashed anew, and fits."""
        loot = self.attacker.loot
        kinds = dict.fromkeys(loot.signatures, "ticket")  # each was checked when it came
        for manifest_id, signature in loot.credentials.items():
            if signer_of(credentials_digest(manifest_id), signature) == self.payer:
                kinds[signature] = "credentials"
        digest = address_digest(self.address)
        return kinds | {one: "address" for one in self.released if signer_of(digest, one) == self.payer}

    def granted(self, wishes: list[Ticket]) -> int:
        """Signatures that are good for a wish, in any form in which it could have been hashed."""
        digests = [digest for wish in wishes for digest in _digests(wish)]
        return sum(signer_of(digest, one) == self.payer for digest in digests for one in self.released)

    def signed_states(self) -> int:
        """States whose seal is somebody's signature, over the text as go-livepeer signs it."""
        seals = [(b64decode(one["State"]), b64decode(one["Sig"])) for one in self.attacker.loot.states]
        return sum(signer_of(personal(text), seal) != "" for text, seal in seals)


def _forms(wish: Ticket) -> tuple[bytes, ...]:
    """What he would like to have signed: the ticket, its hash, and both as text."""
    flat, hashed = ticket_bytes(wish), ticket_hash(wish)
    return flat, hashed, hashed.hex().encode(), b"0x" + hashed.hex().encode()


def _digests(wish: Ticket) -> Iterator[bytes]:
    """With and without auxiliary data; as a ticket, as text, and without any prefix."""
    for ticket in (wish, wish._replace(aux_data=b"")):
        yield ticket_digest(ticket)
        for form in _forms(ticket):
            yield from (personal(form), personal(keccak(form)), keccak(form))
        yield ticket_hash(ticket)


def _bodies(accomplice: Accomplice, wish: Ticket, state: Any) -> Iterator[bytes]:
    quote = accomplice.quote()
    for form in _forms(wish):
        coded, text = b64encode(form).decode(), form.decode("latin-1")
        for field in ("ManifestID", "app", "type"):
            yield request(accomplice.quote(), **{field: text})
            yield request(accomplice.quote(), **{field: form.decode(errors="surrogateescape")})
        yield request(accomplice.quote(), capabilities=coded)
        yield request(coded)
        yield request(quote, {"State": coded, "Sig": state["Sig"]}, ManifestID="m")
        yield request(quote, {"State": state["State"], "Sig": coded}, ManifestID="m")
        yield request(accomplice.quote(), maxPrice={"price": text, "currency": text, "unit": text})
    yield request(quote, _go_state(quote.rand_hash), ManifestID="m")
    for message in _quoted(accomplice, ticket_hash(wish)):
        yield request(b64encode(message.SerializeToString()).decode())


def _go_state(rand_hash: bytes) -> dict[str, str]:
    """A state as go-livepeer's signer would have signed it, had it ever."""
    text = json.dumps({"StateID": "00000000", "PMSessionID": "0x" + rand_hash.hex(), "Balance": "1"})
    return {"State": b64encode(text.encode()).decode(), "Sig": b64encode(bytes(64) + b"\x1b").decode()}


def _quoted(accomplice: Accomplice, wanted: bytes) -> Iterator[Any]:
    """Quotes with the hash in each field that is bytes or text, and in one of their own."""
    for path in (
        *("ticket_params.recipient_rand_hash", "ticket_params.seed", "ticket_params.face_value"),
        *("ticket_params.win_prob", "ticket_params.expiration_block", "auth_token.token"),
        "ticket_params.expiration_params.creation_round_block_hash",
    ):
        yield _with(accomplice.quote().message(), path, wanted)
    for path in ("transcoder", "price_info.constraint", "auth_token.session_id"):
        yield _with(accomplice.quote().message(), path, wanted.hex())
    message = accomplice.quote().message()
    message.MergeFromString(b"\x9a\x3f\x20" + wanted)  # field 1011, which nobody knows
    yield message


def _with(message: Any, path: str, value: object) -> Any:
    *parents, name = path.split(".")
    inner = message
    for parent in parents:
        inner = getattr(inner, parent)
    setattr(inner, name, value)
    return message
