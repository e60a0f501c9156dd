"""Livepeer's contracts, read through an Ethereum RPC; the only place that knows web3.

Each call has a deadline, and whatever goes wrong out there is a ChainUnreachableError. Its text holds
no URL: providers put their keys into it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from aiohttp import ClientError, ClientSession, ClientTimeout
from eth_abi.exceptions import DecodingError
from eth_typing import ABI, ABIElement, BlockNumber, ChecksumAddress
from eth_utils.abi import event_abi_to_log_topic, filter_abi_by_name
from eth_utils.crypto import keccak
from web3 import AsyncWeb3
from web3.contract import AsyncContract
from web3.exceptions import Web3Exception, Web3RPCError
from web3.providers.async_base import AsyncJSONBaseProvider
from web3.types import (
    BlockData,
    BlockIdentifier,
    EventData,
    FilterParams,
    LogReceipt,
    RPCEndpoint,
    RPCResponse,
)

from contracts.livepeer import abi
from services.deposit_watcher.domain.funds import Funds, Observation, Round, RoundClock
from services.deposit_watcher.domain.redemption import RedeemedTicket
from shared.money import Wei

BROKEN_WORLD = (
    Web3Exception,
    ClientError,
    DecodingError,
    OSError,  # TimeoutError too
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
type Finality = Literal["finalized", "safe", "latest"] | int

JSON = {"Content-Type": "application/json"}
ABI_BY_NAME = {
    "TicketBroker": abi.TICKET_BROKER,
    "RoundsManager": abi.ROUNDS_MANAGER,
    "BondingManager": abi.BONDING_MANAGER,
}


class ChainUnreachableError(Exception):
    """The RPC did not answer in time, or not with what the contracts say."""


class RpcProvider(AsyncJSONBaseProvider):
    """Calls over connections that are kept, and that may be given up at any moment.

    The library's own provider opens a connection a call, and holds a lock that a cancelled call
    leaves locked for ever.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        super().__init__()
        self._url = url
        self._timeout = ClientTimeout(total=timeout_seconds)
        self._session: ClientSession | None = None

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        if self._session is None:
            self._session = ClientSession(raise_for_status=True, timeout=self._timeout, headers=JSON)
        body = self.encode_rpc_request(method, params)
        async with self._session.post(self._url, data=body) as response:
            return self.decode_rpc_response(await response.read())

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class Contracts(NamedTuple):
    """Livepeer's contracts at the addresses the Controller tells."""

    chain_id: int
    broker: AsyncContract
    rounds: AsyncContract
    bonding: AsyncContract


class LivepeerChain:
    """`finality` is how far back no reorg reaches: a block tag, or a number of confirmations."""

    def __init__(
        self,
        rpc_url: str,
        controller: str,
        payers: Sequence[str],
        timeout_seconds: float,
        finality: Finality = "finalized",
    ) -> None:
        self._provider = RpcProvider(rpc_url, timeout_seconds)
        self._web3 = AsyncWeb3(self._provider)
        self._controller = AsyncWeb3.to_checksum_address(controller)
        self._payers = {payer: AsyncWeb3.to_checksum_address(payer) for payer in payers}
        self._timeout_seconds = timeout_seconds
        self._finality = finality
        self._contracts: Contracts | None = None
        self._round_clock: tuple[int, RoundClock] | None = None  # and the round it was asked in

    async def observe(self) -> Observation:
        """Rounds and pool at the newest block, and the funds that may be counted on."""
        return await self._asked(self._observe)

    async def source(self) -> tuple[int, str]:
        """What the redemptions are read from: the chain, and the broker's address."""

        async def ask(contracts: Contracts) -> tuple[int, str]:
            return contracts.chain_id, contracts.broker.address.lower()

        return await self._asked(ask)

    async def block_hash(self, number: int) -> str:
        async def ask(_: Contracts) -> str:
            return _hex((await self._web3.eth.get_block(number))["hash"])

        return await self._asked(ask)

    async def redemptions(self, first: int, last: int) -> list[RedeemedTicket]:
        """The tickets of our payers that were redeemed in these blocks, in the chain's order."""

        async def ask(contracts: Contracts) -> list[RedeemedTicket]:
            logs = await self._web3.eth.get_logs(self._filter(contracts, first, last))
            return redeemed_tickets(contracts.broker, logs)

        return await self._asked(ask)

    async def close(self) -> None:
        await self._provider.close()

    async def _asked[Answer](self, ask: Callable[[Contracts], Awaitable[Answer]]) -> Answer:
        """What `ask` answers before the deadline. After a failure the addresses are looked up again."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                if self._contracts is None:
                    self._contracts = await self._look_up()
                return await ask(self._contracts)
        except BROKEN_WORLD as problem:
            self._contracts = self._round_clock = None
            # `from None`, because the library's errors tell the URL.
            raise ChainUnreachableError(_reason(problem)) from None

    async def _look_up(self) -> Contracts:
        chain_id = await self._web3.eth.chain_id
        broker, rounds, bonding = await asyncio.gather(*(self._contract(name) for name in ABI_BY_NAME))
        return Contracts(chain_id, broker, rounds, bonding)

    async def _contract(self, name: str) -> AsyncContract:
        controller = self._web3.eth.contract(self._controller, abi=abi.CONTROLLER)
        address: ChecksumAddress = await controller.functions.getContract(keccak(text=name)).call()
        if int(address, 16) == 0:
            raise ValueError(f"the controller knows no {name}")
        return self._web3.eth.contract(address, abi=ABI_BY_NAME[name])

    async def _observe(self, contracts: Contracts) -> Observation:
        head = await self._web3.eth.get_block("latest")
        at = head["number"]
        final = self._final(at)
        number, pool_size, validity = await asyncio.gather(
            contracts.rounds.functions.lastInitializedRound().call(block_identifier=at),
            contracts.bonding.functions.getTranscoderPoolSize().call(block_identifier=at),
            contracts.broker.functions.ticketValidityPeriod().call(block_identifier=at),
        )
        hash_of = contracts.rounds.functions.blockHashForRound
        block_hash, previous, clock, *funds = await asyncio.gather(
            hash_of(number).call(block_identifier=at),
            hash_of(max(0, number - 1)).call(block_identifier=at),
            self._clock_in(number, contracts, at),
            *(_funds(contracts.broker, payer, at, final) for payer in self._payers.values()),
        )
        return Observation(
            chain_id=contracts.chain_id,
            block=at,
            block_hash=_hex(head["hash"]),
            l1_block=_l1_block(head),
            round=Round(number, _hex(block_hash), _hex(previous), validity),
            pool_size=pool_size,
            funds_by_payer=dict(zip(self._payers, funds, strict=True)),
            round_clock=clock,
        )

    async def _clock_in(self, number: int, contracts: Contracts, at: int) -> RoundClock:
        """Asked once a round: until it is over, the same counts."""
        if self._round_clock is None or self._round_clock[0] != number:
            self._round_clock = number, await _round_clock(contracts.rounds, at)
        return self._round_clock[1]

    def _final(self, head: int) -> BlockIdentifier:
        """The newest block that counts as final; a tag, where there is one, is the node's to resolve."""
        if isinstance(self._finality, int):
            return BlockNumber(max(0, head - self._finality))
        return self._finality

    def _filter(self, contracts: Contracts, first: int, last: int) -> FilterParams:
        payers = ["0x" + payer[2:].rjust(64, "0") for payer in self._payers]
        return {
            "address": contracts.broker.address,
            "fromBlock": first,
            "toBlock": last,
            "topics": [[_topic("WinningTicketTransfer"), _topic("WinningTicketRedeemed")], payers],
        }


def redeemed_tickets(broker: AsyncContract, logs: Iterable[LogReceipt]) -> list[RedeemedTicket]:
    """What the broker logged: a transfer, if anything was paid, and then the redemption it is for."""
    tickets = []
    transfer: EventData | None = None
    for log in sorted(logs, key=lambda log: (log["blockNumber"], log["logIndex"])):
        if _hex(log["topics"][0]) == _topic("WinningTicketTransfer"):
            transfer = broker.events.WinningTicketTransfer().process_log(log)
        else:
            redeemed = broker.events.WinningTicketRedeemed().process_log(log)
            tickets.append(_ticket(redeemed, _paid(transfer, redeemed)))
            transfer = None
    return tickets


def _paid(transfer: EventData | None, redeemed: EventData) -> Wei:
    if transfer is None or transfer["transactionHash"] != redeemed["transactionHash"]:
        return Wei(0)
    whose = [(log["args"]["sender"], log["args"]["recipient"]) for log in (transfer, redeemed)]
    return Wei(transfer["args"]["amount"]) if whose[0] == whose[1] else Wei(0)


def _ticket(redeemed: EventData, paid: Wei) -> RedeemedTicket:
    said = redeemed["args"]
    return RedeemedTicket(
        payer=said["sender"].lower(),
        recipient=said["recipient"].lower(),
        recipient_rand_hash=_hex(keccak(said["recipientRand"].to_bytes(32))),
        sender_nonce=said["senderNonce"],
        face_value=Wei(said["faceValue"]),
        win_prob=hex(said["winProb"]),
        aux_data=_hex(said["auxData"]),
        paid=paid,
        tx_hash=_hex(redeemed["transactionHash"]),
        log_index=redeemed["logIndex"],
        block=redeemed["blockNumber"],
        block_hash=_hex(redeemed["blockHash"]),
    )


async def _round_clock(rounds: AsyncContract, at: int) -> RoundClock:
    number, start, length = await asyncio.gather(
        rounds.functions.currentRound().call(block_identifier=at),
        rounds.functions.currentRoundStartBlock().call(block_identifier=at),
        rounds.functions.roundLength().call(block_identifier=at),
    )
    return RoundClock(number, start, length)


async def _funds(
    broker: AsyncContract, payer: ChecksumAddress, at: BlockIdentifier, final: BlockIdentifier
) -> Funds:
    now, then = await asyncio.gather(_funds_at(broker, payer, at), _funds_at(broker, payer, final))
    return now.counting(then)


async def _funds_at(broker: AsyncContract, payer: ChecksumAddress, at: BlockIdentifier) -> Funds:
    sender, reserve = await broker.functions.getSenderInfo(payer).call(block_identifier=at)
    return Funds(deposit=Wei(sender[0]), reserve=Wei(reserve[0]), withdraw_round=sender[1])


def _l1_block(block: BlockData) -> int:
    """The block of L1 that contracts on Arbitrum see; elsewhere the block itself."""
    said: Any = block.get("l1BlockNumber")  # a field of Arbitrum's, hex text where web3 does not know it
    if said is None:
        return block["number"]
    return int(said, 16) if isinstance(said, str) else int(said)


def _topic(event: str) -> str:
    [element] = _named(abi.TICKET_BROKER, event)
    return _hex(event_abi_to_log_topic(element))  # type: ignore[arg-type] # it is an event's


def _named(contract: ABI, name: str) -> Sequence[ABIElement]:
    return filter_abi_by_name(name, contract)


def _hex(data: bytes) -> str:
    return "0x" + bytes(data).hex()


def _reason(problem: Exception) -> str:
    """What may be logged of a library's error."""
    name = type(problem).__name__
    if isinstance(problem, Web3RPCError) and problem.rpc_response is not None:
        return f"{name} {problem.rpc_response.get('error')!s:.200}"
    return name
