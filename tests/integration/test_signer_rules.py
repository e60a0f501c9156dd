"""Rules and stops on their way: from the bucket, over a real NATS, to what a signer refuses."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.limits import RULES, Rules, RulesEntry, Scoped, scope_entry
from contracts.quota import AllowanceAnswers, AllowanceAsk, AllowanceGrantedAnswer, GrantAllowances
from contracts.signer import (
    GeneratePayment,
    GeneratePayments,
    PaymentAnswers,
    PaymentRefusedAnswer,
    PaymentSignedAnswer,
)
from contracts.stops import StopView, stop_entry
from services.signer.application import Outcome, Signing
from services.signer.handlers import Payments
from services.signer.intent import PaymentRequest
from services.signer.keys import LocalKey
from services.signer.payer import Payer
from services.signer.refusal import PaymentRefusal
from services.signer.rules import Limits
from services.signer.state import StateSeal
from services.signer.watched_rules import WatchedRules
from shared.bucket import BucketReader, BucketWriter
from shared.bus import connect
from shared.clock import SetClock
from tests import infra
from tests.beside import running, until
from tests.quotes import QuoteMaker, body, chain_view

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEXT = body(QuoteMaker(NOW).text())
KEY_ENTRY = scope_entry(Scoped(account_id="account-1", key_id="key-1"))
STOP = StopView(
    what="recipient",
    value="0x" + "00" * 19 + "08",
    reason="incident_42",
    actor="somebody",
    set_at=NOW,
    expires_at=None,
)


@pytest.fixture
async def client(nats: infra.Nats) -> AsyncIterator[Client]:
    client = await connect("admin", nats.url())
    await client.jetstream().create_key_value(bucket=RULES, history=1)
    yield client
    await client.jetstream().delete_key_value(RULES)
    await client.close()


def signing(reader: BucketReader) -> Signing:
    payer = Payer(LocalKey(b"\x11" * 32), lambda: chain_view(NOW))
    return Signing([payer], StateSeal([b"k" * 32]), Limits(), permits=WatchedRules(reader, reader))


def ask(signing: Signing) -> Outcome:
    [outcome] = signing.sign_all([PaymentRequest("account-1", "key-1", None, None, TEXT)], NOW)
    return outcome


def reason(outcome: Outcome) -> str | None:
    return outcome.reason if isinstance(outcome, PaymentRefusal) else None


def written(**rules: Any) -> bytes:
    return RulesEntry(rules=Rules(**rules)).model_dump_json(exclude_defaults=True).encode()


async def test_what_is_written_to_the_bucket_is_what_the_signer_obeys(client: Client) -> None:
    writer, reader = BucketWriter(client, RULES), BucketReader(client, RULES)
    signer, stop = signing(reader), stop_entry(STOP.what, STOP.value)
    assert reason(ask(signer)) == "rules_unknown"

    async with running(writer.run({KEY_ENTRY: written(apps=["another"])}), reader.run()):
        await until(lambda: reader.ready)
        assert reason(ask(signer)) == "key_scope"

        await writer.drop(KEY_ENTRY)
        await until(lambda: reason(ask(signer)) is None)
        await writer.put(stop, STOP.model_dump_json().encode())
        await until(lambda: reason(ask(signer)) == "signing_stopped")
        await writer.drop(stop)
        await until(lambda: reason(ask(signer)) is None)
    signer.close()


async def test_a_stop_holds_while_its_writer_is_away_and_the_store_is_gone(client: Client) -> None:
    reader = BucketReader(client, RULES)
    signer, stop = signing(reader), stop_entry(STOP.what, STOP.value)
    async with running(reader.run()):
        async with running(BucketWriter(client, RULES).run({stop: STOP.model_dump_json().encode()})):
            await until(lambda: reason(ask(signer)) == "signing_stopped")

        await client.jetstream().delete_key_value(RULES)
        await until(lambda: not reader.ready)

        assert reason(ask(signer)) == "signing_stopped"
        await client.jetstream().create_key_value(bucket=RULES, history=1)
        async with running(BucketWriter(client, RULES).run({})):
            await until(lambda: reason(ask(signer)) is None)
    signer.close()


async def test_quota_is_asked_for_the_token_and_the_answer_says_why_and_when_again(
    client: Client, nats: infra.Nats
) -> None:
    """One message of the edge with two payments of a token that may pay once a second."""
    token = scope_entry(Scoped(account_id="account-1", token_id="token-1"))
    reader, heard = BucketReader(client, RULES), asyncio.Queue[bytes]()
    broker = NatsBroker(nats.url(), logger=None)
    asks: list[AllowanceAsk] = []

    async def grant(message: Msg) -> None:
        asks.extend(GrantAllowances.model_validate_json(message.data).asks)
        granted = AllowanceAnswers(answers=[AllowanceGrantedAnswer(amount=10**9)])
        await message.respond(granted.model_dump_json().encode())

    async def hear(message: Msg) -> None:
        heard.put_nowait(message.data)

    async with running(
        BucketWriter(client, RULES).run({token: written(payments_per_second=1)}), reader.run()
    ):
        await until(lambda: reader.ready)
        await broker.start()
        await client.subscribe(GrantAllowances.subject, cb=grant)
        await client.subscribe("answers", cb=hear)
        await client.flush()  # the answers come over another connection
        payments = Payments(signing(reader), broker, client, SetClock(NOW), 10)
        command = GeneratePayments(requests=[_payment("1"), _payment("2")])
        await payments.answer((command.model_dump_json().encode(), "answers"))
        async with asyncio.timeout(60):
            parts = [PaymentAnswers.model_validate_json(await heard.get()) for _ in range(2)]
    await broker.stop()

    by_index = {answer.index: answer for part in parts for answer in part.answers}
    assert isinstance(by_index[0], PaymentSignedAnswer)
    assert isinstance(by_index[1], PaymentRefusedAnswer)
    assert (by_index[1].status, by_index[1].retry_after_seconds) == (429, 1)
    assert [(ask.key_id, ask.token_id) for ask in asks] == [("key-1", "token-1")]


def _payment(manifest_id: str) -> GeneratePayment:
    return GeneratePayment(
        request_id=manifest_id,
        account_id="account-1",
        key_id="key-1",
        user_id="user-1",
        stream_id=None,
        body=body(QuoteMaker(NOW).text(), manifest_id=manifest_id),
        user_bound=True,
        token_id="token-1",
    )
