"""The two payment headers: what cannot be read or trusted, and the status it gets."""

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.unit.orchestrator.running_site import SESSION, path_of, running
from tests.unit.orchestrator.wire import headers

pytestmark = pytest.mark.anyio

GARBAGE = ["%%%", "a", "é", "AAAA", base64.b64encode(b"\xff" * 50).decode(), "CgA=" * 1000]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_a_payment_that_cannot_be_read_is_402(tmp_path: Path, garbage: str) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        good = site.payer.headers(info, [2])

        reserved, _ = await site.post(SESSION, headers={**good, "Livepeer-Payment": garbage})
        paid, _ = await site.post(path_of(info), headers={**good, "Livepeer-Payment": garbage})

    # What happens to be valid protobuf has no sender, so nobody signed its segment.
    assert (reserved, paid) in {(402, 402), (403, 403)}


@pytest.mark.parametrize("garbage", ["", *GARBAGE])
async def test_a_segment_that_cannot_be_read_is_403(tmp_path: Path, garbage: str) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        good = site.payer.headers(info, [2])

        reserved, _ = await site.post(SESSION, headers={**good, "Livepeer-Segment": garbage})
        paid, _ = await site.post(path_of(info), headers={**good, "Livepeer-Segment": garbage})

    assert (reserved, paid) == (403, 403)


async def test_bad_base64_in_the_segment_has_a_name(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        mixed = {**site.payer.headers(info, [2]), "Livepeer-Segment": "%%%"}

        assert await site.post(path_of(info), headers=mixed) == (403, "ErrorSegEncoding")


def _expire(segment: Any) -> None:
    segment.auth_token.expiration -= 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda segment: setattr(segment, "duration", -1), "invalid duration"),
        (lambda segment: setattr(segment, "duration", 300_001), "invalid duration"),
        (lambda segment: setattr(segment, "sig", bytes(65)), "ErrSegSig"),
        (lambda segment: setattr(segment, "sig", b""), "ErrSegSig"),
        (lambda segment: setattr(segment, "seq", 1), "ErrSegSig"),
        (lambda segment: setattr(segment, "seq", -1), "ErrSegSig"),
        (lambda segment: setattr(segment, "manifestId", b"\xff"), "ErrSegSig"),
        (lambda segment: segment.capabilities.bitstring.append(1 << 15), "incompatible capabilities"),
        (lambda segment: segment.ClearField("auth_token"), "missing auth token"),
        (lambda segment: setattr(segment.auth_token, "session_id", "00000000"), "invalid auth token"),
        (lambda segment: setattr(segment.auth_token, "token", b""), "invalid auth token"),
        (_expire, "invalid auth token"),
    ],
)
async def test_segment_credentials_are_checked(tmp_path: Path, change: Any, text: str) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        segment = site.payer.segment(info, info.auth_token.session_id)
        change(segment)

        answer = await site.post(path_of(info), headers=headers(site.payer.payment(info, [2]), segment))

    assert answer == (403, text)


async def test_capabilities_of_live_jobs_are_compatible(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        info = await site.reserve(1)
        segment = site.payer.segment(info, info.auth_token.session_id)
        segment.capabilities.bitstring.append(1 << 35 | 1 << 12)

        status, _ = await site.post(path_of(info), headers=headers(site.payer.payment(info, [2]), segment))

    assert status == 200


async def test_an_expired_token_reserves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        _, info = await site.challenge()
        site.clock.now = info.auth_token.expiration + 1
        late = await site.post(SESSION, headers=site.payer.headers(info, [1]))
        site.clock.now = info.auth_token.expiration
        in_time, _ = await site.post(SESSION, headers=site.payer.headers(info, [1]))

    assert late == (403, "expired auth token")
    assert in_time == 200
