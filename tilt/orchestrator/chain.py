"""What the orchestrator reads from the chain: rounds, L1 blocks and what a sender can pay."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from tilt.orchestrator.addresses import Address
from tilt.orchestrator.tickets import WORD_BYTES, Wei, word

TIMEOUT_SECONDS = 5

LAST_INITIALIZED_ROUND = "8807f36e"
BLOCK_HASH_FOR_ROUND = "3aa4add4"
GET_TRANSCODER_POOL_SIZE = "2a4e0d55"
IS_ACTIVE_TRANSCODER = "08802374"
GET_SENDER_INFO = "e1a589da"
CLAIMED_RESERVE = "4ac826da"


class ChainUnreachableError(Exception):
    """The node does not answer, or answers with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    l1_block: int
    last_initialized_round: int
    creation_round: int  # the round that tickets name; older when the last one has no hash
    creation_round_block_hash: bytes
    pool_size: int
    recipient_is_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """A sender's account at the broker, as seen by one recipient."""

    deposit: Wei
    withdraw_round: int
    reserve: Wei
    claimed_in_current_round: Wei
    claimed_by_recipient: Wei

    def is_unlocking(self, last_initialized_round: int) -> bool:
        return self.withdraw_round != 0 and self.withdraw_round <= last_initialized_round + 1

    def reserve_share(self, pool_size: int) -> Wei:
        """What one recipient of the pool can still count on (§7.1)."""
        if pool_size == 0:
            return Wei(0)
        share = (self.reserve + self.claimed_in_current_round) // pool_size
        return Wei(share - self.claimed_by_recipient)


class ChainReader(Protocol):
    """Reads the chain as it is now; both raise ChainUnreachableError."""

    async def head(self) -> Head: ...

    async def funds(self, sender: Address) -> Funds: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where the contracts are, and who we are to them."""

    chain_id: int
    ticket_broker: str
    rounds_manager: str
    bonding_manager: str
    orchestrator: str

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "World":
        return cls(
            chain_id=int(document["chain_id"]),
            ticket_broker=document["ticket_broker"],
            rounds_manager=document["rounds_manager"],
            bonding_manager=document["bonding_manager"],
            orchestrator=document["orchestrator"],
        )


class RpcChain:
    def __init__(self, rpc_url: str, world: World, recipient: Address) -> None:
        self._rpc_url = rpc_url
        self._world = world
        self._recipient = recipient

    async def head(self) -> Head:
        world = self._world
        block = await self._rpc("eth_getBlockByNumber", "latest", False)
        [last_round] = await self._words(world.rounds_manager, LAST_INITIALIZED_ROUND)
        creation_round, block_hash = await self._creation_round(last_round)
        [pool_size] = await self._words(world.bonding_manager, GET_TRANSCODER_POOL_SIZE)
        [active] = await self._words(world.bonding_manager, IS_ACTIVE_TRANSCODER, _padded(self._recipient))
        return Head(
            l1_block=_l1_block(block),
            last_initialized_round=last_round,
            creation_round=creation_round,
            creation_round_block_hash=block_hash,
            pool_size=pool_size,
            recipient_is_active=bool(active),
        )

    async def funds(self, sender: Address) -> Funds:
        broker = self._world.ticket_broker
        deposit, withdraw_round, reserve, claimed = await self._words(
            broker, GET_SENDER_INFO, _padded(sender)
        )
        [claimed_by_recipient] = await self._words(
            broker, CLAIMED_RESERVE, _padded(sender) + _padded(self._recipient)
        )
        return Funds(
            deposit=Wei(deposit),
            withdraw_round=withdraw_round,
            reserve=Wei(reserve),
            claimed_in_current_round=Wei(claimed),
            claimed_by_recipient=Wei(claimed_by_recipient),
        )

    async def _creation_round(self, last_round: int) -> tuple[int, bytes]:
        """Name the last round whose L1 block hash is known; Arbitrum forgets some."""
        block_hash = await self._round_hash(last_round)
        if any(block_hash) or last_round == 0:
            return last_round, block_hash
        return last_round - 1, await self._round_hash(last_round - 1)

    async def _round_hash(self, number: int) -> bytes:
        [block_hash] = await self._words(self._world.rounds_manager, BLOCK_HASH_FOR_ROUND, word(number))
        return word(block_hash)

    async def _words(self, contract: str, selector: str, arguments: bytes = b"") -> list[int]:
        call = {"to": contract, "data": f"0x{selector}{arguments.hex()}"}
        answer = bytes.fromhex((await self._rpc("eth_call", call, "latest"))[2:])
        if not answer:
            raise ChainUnreachableError(f"no contract at {contract}")
        return [
            int.from_bytes(answer[start : start + WORD_BYTES]) for start in range(0, len(answer), WORD_BYTES)
        ]

    # JSON-RPC results have as many shapes as methods.
    async def _rpc(self, method: str, *params: object) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._rpc_url, json=request) as response,
            ):
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ChainUnreachableError(f"{method}: {error}") from error
        if not isinstance(answer, dict) or answer.get("result") is None:
            raise ChainUnreachableError(f"{method}: {answer}")
        return answer["result"]


def _l1_block(block: Mapping[str, Any]) -> int:
    """Read Arbitrum's extra field, hex there and a plain number on anvil; elsewhere L1 is the chain."""
    number = block.get("l1BlockNumber", block["number"])
    return number if isinstance(number, int) else int(number, 16)


def _padded(address: Address) -> bytes:
    return address.rjust(WORD_BYTES, b"\0")
