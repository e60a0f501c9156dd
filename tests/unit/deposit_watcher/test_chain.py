"""Logs of the broker, as the redemptions they tell of."""

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3 import AsyncWeb3
from web3.types import LogReceipt

from contracts.livepeer import abi
from services.deposit_watcher.chain import ChainUnreachableError, LivepeerChain, redeemed_tickets
from services.deposit_watcher.settings import Settings

BROKER = AsyncWeb3().eth.contract(AsyncWeb3.to_checksum_address("0x" + "01" * 20), abi=abi.TICKET_BROKER)
PAYER, OTHER_PAYER = "0x" + "aa" * 20, "0x" + "ab" * 20
ORCHESTRATOR, OTHER = "0x" + "bb" * 20, "0x" + "bc" * 20
TX, OTHER_TX = b"\1" * 32, b"\2" * 32
TRANSFER = "WinningTicketTransfer(address,address,uint256)"
REDEEMED = "WinningTicketRedeemed(address,address,uint256,uint256,uint256,uint256,bytes)"


def log(signature: str, index: int, data: bytes, who: tuple[str, str], tx: bytes) -> LogReceipt:
    topics = [keccak(text=signature), *(bytes(12) + bytes.fromhex(address[2:]) for address in who)]
    return LogReceipt(
        address=BROKER.address,
        blockHash=HexBytes(b"\5" * 32),
        blockNumber=77,  # type: ignore[typeddict-item]
        data=HexBytes(data),
        logIndex=index,
        removed=False,
        topics=[HexBytes(topic) for topic in topics],
        transactionHash=HexBytes(tx),
        transactionIndex=0,
    )


def transfer(
    index: int, amount: int, who: tuple[str, str] = (PAYER, ORCHESTRATOR), tx: bytes = TX
) -> LogReceipt:
    return log(TRANSFER, index, encode(["uint256"], [amount]), who, tx)


def redeemed(index: int, who: tuple[str, str] = (PAYER, ORCHESTRATOR), tx: bytes = TX) -> LogReceipt:
    values: list[Any] = [10**18 + 3, 2**255, 41 + index, 0xC0FFEE, b"\6" * 64]
    data = encode(["uint256", "uint256", "uint256", "uint256", "bytes"], values)
    return log(REDEEMED, index, data, who, tx)


def paid(*logs: LogReceipt) -> list[int]:
    return [ticket.paid for ticket in redeemed_tickets(BROKER, logs)]


def test_a_ticket_is_told_in_full() -> None:
    [ticket] = redeemed_tickets(BROKER, [redeemed(8), transfer(7, 5)])

    assert (ticket.payer, ticket.recipient) == (PAYER, ORCHESTRATOR)
    assert (ticket.face_value, ticket.paid, ticket.sender_nonce) == (10**18 + 3, 5, 49)
    assert ticket.win_prob == hex(2**255)
    assert ticket.recipient_rand_hash == "0x" + keccak(0xC0FFEE.to_bytes(32)).hex()
    assert (ticket.tx_hash, ticket.log_index) == ("0x" + TX.hex(), 8)
    assert (ticket.block, ticket.block_hash) == (77, "0x" + "05" * 32)
    assert ticket.aux_data == "0x" + "06" * 64


def test_without_a_transfer_nothing_was_paid() -> None:
    assert paid(redeemed(8)) == [0]


def test_each_ticket_of_a_batch_has_its_own_transfer() -> None:
    assert paid(transfer(1, 5), redeemed(2), redeemed(4), transfer(5, 7), redeemed(6)) == [5, 0, 7]


def test_a_transfer_of_others_is_not_taken() -> None:
    assert paid(transfer(1, 5, (OTHER_PAYER, ORCHESTRATOR)), redeemed(2)) == [0]
    assert paid(transfer(1, 5, (PAYER, OTHER)), redeemed(2)) == [0]
    assert paid(transfer(1, 5), redeemed(2, tx=OTHER_TX)) == [0]


@pytest.mark.anyio
async def test_nothing_of_the_url_is_told_when_the_rpc_is_away() -> None:
    chain = LivepeerChain("http://127.0.0.1:9/secret-key", "0x" + "01" * 20, [PAYER], 2)

    with pytest.raises(ChainUnreachableError) as unreachable:
        await chain.observe()
    await chain.close()

    assert "secret-key" not in repr(unreachable.value)
    assert unreachable.value.__cause__ is None


class TestSettings:
    GIVEN = {  # noqa: RUF012 (a constant)
        "NATS_URL": "nats://x",
        "HTTP_PORT": "1",
        "POSTGRES_DSN": "postgresql://x",
        "RPC_URL": "http://x",
        "CONTROLLER_ADDRESS": "0xD8E8328501E9645d16Cf49539efC04f734606ee4",
        "PAYERS": "0x" + "AA" * 20 + ", " + "0x" + "bb" * 20,
    }

    def test_payers_are_a_list(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.GIVEN.items():
            monkeypatch.setenv(f"DEPOSIT_WATCHER_{name}", value)

        settings = Settings()

        assert settings.payers == ("0x" + "aa" * 20, "0x" + "bb" * 20)
        assert settings.controller_address == "0xd8e8328501e9645d16cf49539efc04f734606ee4"

    @pytest.mark.parametrize(("told", "read"), [("safe", "safe"), ("12", 12), ("0", 0)])
    def test_finality_is_a_tag_or_a_number(
        self, monkeypatch: pytest.MonkeyPatch, told: str, read: str | int
    ) -> None:
        for name, value in {**self.GIVEN, "FINALITY": told}.items():
            monkeypatch.setenv(f"DEPOSIT_WATCHER_{name}", value)

        assert Settings().finality == read

    def test_deposits_count_when_they_are_final_unless_told_otherwise(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in self.GIVEN.items():
            monkeypatch.setenv(f"DEPOSIT_WATCHER_{name}", value)

        assert Settings().finality == "finalized"

    @pytest.mark.parametrize("payers", ["", "0x12", "bb" * 20, "0x" + "zz" * 20])
    def test_what_is_no_address_is_refused(self, monkeypatch: pytest.MonkeyPatch, payers: str) -> None:
        for name, value in {**self.GIVEN, "PAYERS": payers}.items():
            monkeypatch.setenv(f"DEPOSIT_WATCHER_{name}", value)

        with pytest.raises(ValueError, match="payers"):
            Settings()
