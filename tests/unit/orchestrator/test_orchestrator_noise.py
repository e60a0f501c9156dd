"""No payment, however odd, does more than get refused."""

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.orchestrator.wire import headers
from tests.unit.orchestrator.world import Stage
from tilt.orchestrator.refusals import RefusedError

NUMBERS = ("face_value", "win_prob", "seed", "expiration_block", "recipient", "recipient_rand_hash")
INT64 = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=50, deadline=None)
@given(
    fields=st.dictionaries(st.sampled_from(NUMBERS), st.binary(max_size=80)),
    price=INT64,
    pixels=INT64,
    creation_round=INT64,
    signature=st.binary(max_size=70),
)
def test_signed_nonsense_is_refused(
    fields: dict[str, bytes], price: int, pixels: int, creation_round: int, signature: bytes
) -> None:
    def change(payment: Any) -> None:
        for name, value in fields.items():
            setattr(payment.ticket_params, name, value)
        payment.expected_price.pricePerUnit, payment.expected_price.pixelsPerUnit = price, pixels
        payment.expiration_params.creation_round = creation_round
        payment.ticket_sender_params[0].sig = signature

    asyncio.run(_pay_with(change))


@settings(max_examples=50, deadline=None)
@given(payment=st.text(max_size=60), segment=st.text(max_size=60))
def test_unreadable_headers_are_refused(payment: str, segment: str) -> None:
    async def pay() -> None:
        with tempfile.TemporaryDirectory() as directory:
            stage = Stage(Path(directory))
            with suppress(RefusedError):
                await stage.open(payment, segment)
            stage.orchestrator.store.close()

    asyncio.run(pay())


async def _pay_with(change: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(Path(directory))
        info = await stage.challenge()
        payment = stage.payer.payment(info, [1])
        change(payment)
        segment = stage.payer.segment(info, info.auth_token.session_id)
        with suppress(RefusedError):
            await stage.open(*headers(payment, segment).values())
        stage.orchestrator.store.close()
        assert stage.orchestrator.journal.counters.tickets_accepted == 0
