"""Sending transactions on the local chain, and hearing why one was refused."""

from eth_account import Account
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.contract.contract import ContractConstructor, ContractFunction
from web3.exceptions import ContractLogicError
from web3.types import RPCEndpoint, TxParams, TxReceipt, Wei

RECEIPT_TIMEOUT_SECONDS = 10
RECEIPT_POLL_SECONDS = 0.01

type Call = ContractFunction | ContractConstructor


class TransactionRevertedError(Exception):
    """The contract refused; `reason` is its own word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def send(web3: Web3, call: Call, *, key: str, value_wei: int = 0) -> TxReceipt:
    """Sign with this key and wait until the transaction is in a block."""
    account = Account.from_key(key)
    nonce = web3.eth.get_transaction_count(account.address, "pending")
    draft = _draft(call, {"from": account.address, "value": Wei(value_wei), "nonce": nonce})
    return _mined(web3, web3.eth.send_raw_transaction(account.sign_transaction(draft).raw_transaction))


def send_as_owner(web3: Web3, call: Call) -> TxReceipt:
    """Send from the account that owns the contracts; the node holds its key."""
    return _mined(web3, web3.eth.send_transaction(_draft(call, {"from": owner(web3)})))


def owner(web3: Web3) -> ChecksumAddress:
    return web3.eth.accounts[0]


def set_balance(web3: Web3, address: str, balance_wei: int) -> None:
    rpc(web3, "anvil_setBalance", address, hex(balance_wei))


def rpc(web3: Web3, method: str, *params: object) -> None:
    """Tell the node something that is no part of Ethereum's own API."""
    web3.manager.request_blocking(RPCEndpoint(method), params)


def _draft(call: Call, terms: TxParams) -> TxParams:
    try:
        return call.build_transaction(terms)
    except ContractLogicError as refused:
        reason = str(refused.message or refused).removeprefix("execution reverted: ")
        raise TransactionRevertedError(reason) from refused


def _mined(web3: Web3, tx_hash: HexBytes) -> TxReceipt:
    receipt = web3.eth.wait_for_transaction_receipt(
        tx_hash, timeout=RECEIPT_TIMEOUT_SECONDS, poll_latency=RECEIPT_POLL_SECONDS
    )
    if not receipt["status"]:
        raise TransactionRevertedError(f"transaction {tx_hash.to_0x_hex()} was mined, and reverted")
    return receipt
