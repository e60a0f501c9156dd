import asyncio

import pytest

from contracts.signer import OrchestratorInfoSigned
from services.edge.payer import PayerSignatures
from shared.bus import ServiceUnavailableError

pytestmark = pytest.mark.anyio

SIGNED = OrchestratorInfoSigned(address="0x" + "Ab" * 20, signature="0x" + "cd" * 65)


class FakeSigner:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    async def ask(self, account_id: str) -> OrchestratorInfoSigned:
        self.asked.append(account_id)
        await asyncio.sleep(0)
        if self.down:
            raise ServiceUnavailableError("nobody answers")
        return SIGNED


async def test_the_signer_is_asked_once_per_account_however_many_wait() -> None:
    signer = FakeSigner()
    signatures = PayerSignatures(signer.ask)

    answers = await asyncio.gather(*(signatures.get("acme") for _ in range(10)))
    await signatures.get("acme")
    await signatures.get("bolt")

    assert set(answers) == {SIGNED}
    assert signer.asked == ["acme", "bolt"]


async def test_a_failure_is_not_remembered() -> None:
    signer = FakeSigner()
    signer.down = True
    signatures = PayerSignatures(signer.ask)
    with pytest.raises(ServiceUnavailableError):
        await signatures.get("acme")

    signer.down = False
    assert await signatures.get("acme") == SIGNED
