"""What a stream's view tells, of metering as a process on real PostgreSQL and NATS."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from contracts.audit import AuditPage, ReadAudit, read_audit_subject
from contracts.message import LogPage, ReadLog, read_log_subject
from contracts.metered_streams import (
    AssignStream,
    MeteredStreamView,
    StreamClosed,
)
from contracts.signer import PaymentRefused, PaymentSigned, SessionOpened
from contracts.stream_starts import StreamStarted, StreamStopped
from shared.bus import ask
from tests import infra
from tests.integration.publisher_stand_in import START
from tests.integration.stream_world import STARTED, STREAM_USERS, World, stream_world
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = STREAM_USERS


@pytest.fixture
async def world(
    database: Callable[..., infra.Database], nats: infra.Nats, slot: Slot, directory: Path
) -> AsyncIterator[World]:
    async with stream_world(database("metering"), nats, slot, directory) as made:
        yield made


def opened(session: str) -> SessionOpened:
    return SessionOpened(
        account_id="acme", session_id=session, user_id="ann", key_id="key", stream_id="stream-1",
        app="daydream", job_type="lv2v", orchestrator=f"0x{session}",
    )  # fmt: skip


def paid_by(session: str, cost: int) -> PaymentSigned:
    return PaymentSigned(
        account_id="acme", session_id=session, user_id="ann", app="daydream", job_type="lv2v",
        recipient="0xr", payer="0xp", tickets=1, cost=cost, face_value=1, win_prob="0x1", units=1,
        price_per_unit=1, pixels_per_unit=1, creation_round=9,
    )  # fmt: skip


def refused(session: str) -> PaymentRefused:
    return PaymentRefused(account_id="acme", session_id=session, status=402, reason="spend_limit_reached")


async def test_a_view_tells_swaps_refusals_and_why_it_stopped(world: World) -> None:
    started = StreamStarted(
        account_id="acme", stream_id="stream-1", user_id="ann", key_id=None, app="daydream", job_type="lv2v"
    )
    stopped = StreamStopped(
        account_id="acme", stream_id="stream-1", because="lease_expired", alive_at=START + timedelta(days=1)
    )
    async with world.metering():
        await world.quota.publish(world.quota.append(started))
        told = [opened("s1"), paid_by("s1", 30), paid_by("s1", 5), opened("s2"), paid_by("s2", 40)]
        refusals = [refused("s2"), refused("s2"), refused("elsewhere")]
        await world.signer.publish(world.signer.append(*told, *refusals))
        running = await world.until(lambda view: view.payments == 3 and bool(view.refusals))
        await world.quota.publish(world.quota.append(stopped))
        view = await world.until(lambda view: view.stopped is not None)
        page = await ask(
            world.edge, ReadLog(after=0), LogPage, subject=read_log_subject("metering"), timeout=4
        )

    assert running.stopped is None
    assert view.stopped == (
        "No heartbeat came for the time of its lease. "
        "Its last payments were refused: spend_limit_reached (402)."
    )
    assert [(swap.session_id, swap.minimum_wei) for swap in view.swaps] == [("s2", 40)]
    assert [(each.session_id, each.status, each.times) for each in view.refusals] == [("s2", 402, 2)]
    assert {moment.what for moment in view.timeline} == {
        "run_began", "run_ended", "session_opened", "payments_refused",
    }  # fmt: skip
    closed = [entry.event for entry in page.entries if entry.subject == StreamClosed.subject]
    assert [(each["stream_id"], each["user_id"], each["because"]) for each in closed] == [
        ("stream-1", "ann", "lease_expired")
    ]
    assert await world.replay("--verify") == []


async def test_who_assigned_a_stream_is_in_the_audit_and_told_again_by_the_log(world: World) -> None:
    said = {"actor": "admin:1", "reason": "customer_request"}
    async with world.metering():
        await world.record(STARTED)
        for user in ("bob", "bob", "ann"):
            command = AssignStream(account_id="acme", stream_id="stream-1", user_id=user, **said)
            await ask(world.edge, command, MeteredStreamView)
        subject = read_audit_subject("metering")
        rows = (await ask(world.edge, ReadAudit(account_id="acme"), AuditPage, subject=subject)).rows

    assert [(row.action, row.actor, row.details["user_id"]) for row in rows] == [
        ("stream_assigned", "admin:1", "ann"),
        ("stream_assigned", "admin:1", "bob"),
    ]
    assert await world.replay("--verify") == []
    assert await world.replay() == []
    assert len(world.rows("SELECT * FROM metering.audit")) == 2
