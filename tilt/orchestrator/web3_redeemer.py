"""Redeeming through web3, which is imported only once there is something to redeem."""

from typing import TYPE_CHECKING, Any

from eth_abi.abi import encode

from tilt.orchestrator.addresses import checksummed
from tilt.orchestrator.chain import ChainUnreachableError, World
from tilt.orchestrator.redemption import RedemptionError, TicketLostError, Transaction
from tilt.orchestrator.winners import Winner

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3

REDEEM_WINNING_TICKET = "0xec8b3cb6"
USED_TICKETS = "0x59a515ba"
TICKET_TYPE = "(address,address,uint256,uint256,uint256,bytes32,bytes)"
FINAL_REVERTS = ("used", "does not have a block hash")
RECEIPT_TIMEOUT_SECONDS = 10


class Web3Redeemer:
    def __init__(self, rpc_url: str, world: World, key: bytes) -> None:
        self._rpc_url = rpc_url
        self._world = world
        self._key = key
        self._connection: tuple[Web3, LocalAccount] | None = None  # made on first use

    def is_used(self, winner: Winner) -> bool:
        return self._asking(self._is_used, winner)

    def prepare(self, winner: Winner) -> Transaction:
        return self._asking(self._prepare, winner)

    def send(self, transaction: Transaction) -> None:
        self._asking(self._send, transaction)

    def _is_used(self, web3: "Web3", _: "LocalAccount", winner: Winner) -> bool:
        data = USED_TICKETS + winner.ticket.hash().hex()
        answer = web3.eth.call({"to": self._broker, "data": data})
        return any(answer)
