import asyncio

import pytest

from contracts.signer import OrchestratorInfoSigned
from services.edge.payer import PayerSignatures
from shared.bus import ServiceUnavailableError

pytestmark = pytest.mark.anyio

FIRST, SECOND = "0x" + "ab" * 20, "0x" + "cd" * 20


def signed(payer: str) -> OrchestratorInfoSigned:
    return OrchestratorInfoSigned(address=payer.upper().replace("X", "x"), signature="0x" + "ef" * 65)


class FakeSigner:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.down = False
        self.knows_one_payer = False

    async def ask(self, account_id: str, payer: str | None) -> OrchestratorInfoSigned:
        self.asked.append((account_id, payer))
        await asyncio.sleep(0)
        if self.down:
            raise ServiceUnavailableError("nobody answers")
        return signed(FIRST if payer is None or self.knows_one_payer else payer)


async def test_the_signer_is_asked_once_per_payer_however_many_accounts_wait() -> None:
    signer = FakeSigner()
    signatures = PayerSignatures(signer.ask)

    answers = await asyncio.gather(*(signatures.get(f"account-{number}", FIRST) for number in range(10)))
    later = await signatures.get("bolt", FIRST)
    other, first = await signatures.get("acme", SECOND), await signatures.get("acme", None)

    assert {*answers, later, first} == {signed(FIRST)}
    assert other == signed(SECOND)
    assert signer.asked == [("account-0", FIRST), ("acme", SECOND), ("acme", None)]


async def test_a_failure_is_not_remembered() -> None:
    signer = FakeSigner()
    signer.down = True
    signatures = PayerSignatures(signer.ask)
    with pytest.raises(ServiceUnavailableError):
        await signatures.get("acme", None)

    signer.down = False
    assert await signatures.get("acme", None) == signed(FIRST)


async def test_the_address_of_another_payer_is_never_given_out() -> None:
    signer = FakeSigner()
    signer.knows_one_payer = True
    signatures = PayerSignatures(signer.ask)
    with pytest.raises(ServiceUnavailableError, match=SECOND):
        await signatures.get("acme", SECOND)

    signer.knows_one_payer = False
    assert await signatures.get("acme", SECOND) == signed(SECOND)
