"""Redeeming through web3, which is imported only once there is something to redeem."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eth_abi.abi import encode

from tilt.orchestrator.addresses import checksummed
from tilt.orchestrator.chain import ChainUnreachableError, World
from tilt.orchestrator.redemption import RedemptionError, TicketLostError, Transaction
from tilt.orchestrator.winners import Winner

if TYPE_CHECKING:
    from web3 import Web3
    from web3.types import TxParams

REDEEM_WINNING_TICKET = "ec8b3cb6"
USED_TICKETS = "59a515ba"
TICKET_TYPE = "(address,address,uint256,uint256,uint256,bytes32,bytes)"
FINAL_REVERTS = ("ticket is used", "does not have a block hash")
RECEIPT_TIMEOUT_SECONDS = 10


class Web3Redeemer:
    def __init__(self, rpc_url: str, world: World, key: bytes) -> None:
        self._rpc_url = rpc_url
        self._world = world
        self._key = key
        self._connection: Web3 | None = None  # none before the first winner

    def is_used(self, winner: Winner) -> bool:
        with _translated_errors():
            call = self._call(f"{USED_TICKETS}{winner.ticket.hash().hex()}")
            return any(self._web3.eth.call(call))

    def prepare(self, winner: Winner) -> Transaction:
        if self.is_used(winner):
            raise TicketLostError("ticket is used")
        with _translated_errors():
            eth = self._web3.eth
            call = self._call(f"{REDEEM_WINNING_TICKET}{_redeem_arguments(winner).hex()}")
            call["gas"] = eth.estimate_gas(call)
            call["gasPrice"] = eth.gas_price
            call["nonce"] = eth.get_transaction_count(eth.account.from_key(self._key).address)
            call["chainId"] = self._world.chain_id
            signed = eth.account.sign_transaction(call, self._key)
            return Transaction(hash=f"0x{signed.hash.hex()}", raw=bytes(signed.raw_transaction))

    def send(self, transaction: Transaction) -> None:
        with _translated_errors():
            tx = self._web3.eth.send_raw_transaction(transaction.raw)
            receipt = self._web3.eth.wait_for_transaction_receipt(tx, timeout=RECEIPT_TIMEOUT_SECONDS)
        if receipt["status"] != 1:
            raise TicketLostError(f"transaction {transaction.hash} failed")

    @property
    def _web3(self) -> "Web3":
        from web3 import Web3  # noqa: PLC0415 - a second and 60 MB that most runs never need

        if self._connection is None:
            self._connection = Web3(Web3.HTTPProvider(self._rpc_url))
        return self._connection

    def _call(self, data: str) -> "TxParams":
        to_checksum = self._web3.to_checksum_address
        return {
            "from": to_checksum(self._world.orchestrator),
            "to": to_checksum(self._world.ticket_broker),
            "data": self._web3.to_hex(bytes.fromhex(data)),
        }


def _redeem_arguments(winner: Winner) -> bytes:
    params = winner.ticket.params
    ticket = (
        checksummed(params.recipient),
        checksummed(winner.ticket.sender),
        params.face_value,
        params.win_prob,
        winner.ticket.nonce,
        params.recipient_rand_hash,
        params.aux_data,
    )
    return encode([TICKET_TYPE, "bytes", "uint256"], [ticket, winner.signature, winner.recipient_rand])


@contextmanager
def _translated_errors() -> Iterator[None]:
    from web3.exceptions import ContractLogicError, Web3Exception  # noqa: PLC0415 - as above

    try:
        yield
    except ContractLogicError as error:
        is_final = any(text in str(error) for text in FINAL_REVERTS)
        raise (TicketLostError if is_final else RedemptionError)(str(error)) from error
    except Web3Exception as error:
        raise RedemptionError(str(error)) from error
    except OSError as error:
        raise ChainUnreachableError(str(error)) from error
