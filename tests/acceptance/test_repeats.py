"""Repeats, lost replies, old states and races: no ticket twice, nothing charged twice."""

import asyncio
from collections import Counter

import pytest

from tests.acceptance.checks import settled
from tests.acceptance.system import System
from tests.acceptance.wire import Challenge, Paid, Payer, request

pytestmark = pytest.mark.anyio

CLIENTS = 16


@pytest.fixture
async def payer(system: System) -> Payer:
    return Payer(system, await system.open_account())


@pytest.fixture
async def challenge(payer: Payer) -> Challenge:
    return await payer.challenge()


async def test_an_exact_repeat_gets_the_same_bytes_and_costs_nothing(
    system: System, payer: Payer, challenge: Challenge
) -> None:
    first_body = request(challenge)
    first = await payer.ask(first_body)
    first_again = await payer.ask(first_body)
    second_body = request(challenge, Paid.read(first).state)
    second = await payer.ask(second_body)
    once = await settled(system, payer.account)

    repeats = [await payer.ask(second_body) for _ in range(3)]

    assert first_again.body == first.body
    assert {answer.body for answer in repeats} == {second.body}
    assert second.body != first.body
    assert await settled(system, payer.account) == once
    assert once.payments == 2


async def test_after_a_lost_reply_the_client_goes_on_and_pays_for_what_was_lost(
    payer: Payer, challenge: Challenge
) -> None:
    first = await payer.pay(challenge)
    reserved = await payer.reserve(challenge, first)
    lost = await payer.pay(challenge, first)

    refreshed = await payer.refresh(challenge)  # so it is another request, not a repeat
    third = await payer.pay(refreshed, first)
    delivered = await payer.deliver(refreshed, third)

    timeline = await payer.system.timeline(payer.account, third.session_id)
    assert (reserved.status, delivered.status) == (200, 200)
    assert len(third.nonces) == len(lost.nonces) + 1
    assert third.session_id == first.session_id
    assert "the reply before it was lost" in timeline[-1]["text"]
    assert not await payer.system.rejected(challenge.manifest_id)


async def test_an_older_state_gets_new_nonces(system: System, payer: Payer, challenge: Challenge) -> None:
    first = await payer.pay(challenge)
    second = await payer.pay(challenge, first)
    third = await payer.pay(challenge, second)
    fourth = await payer.pay(challenge, third)

    copies = [await payer.ask(request(challenge, paid.state)) for paid in (first, second)]
    forked = [await payer.pay(challenge, paid, other="bytes") for paid in (first, second)]

    assert [copy.status for copy in copies] == [480, 480]  # of requests that were answered long ago

    nonces = [nonce for paid in (first, second, third, fourth, *forked) for nonce in paid.nonces]
    assert sorted(nonces) == list(range(1, len(nonces) + 1))
    assert {paid.session_id for paid in forked} == {first.session_id}
    assert (await settled(system, payer.account)).tickets == len(nonces)


async def test_sixteen_clients_on_one_set_of_params_share_no_nonce(
    system: System, payer: Payer, challenge: Challenge
) -> None:
    rival = Payer(system, await system.open_account())

    async def client(number: int) -> list[Paid]:
        who = (payer, rival)[number % 2]
        manifest_id = f"client-{number}"
        paid = [await who.pay(challenge, ManifestID=manifest_id)]
        for _ in range(4):
            paid.append(await who.pay(challenge, paid[-1], ManifestID=manifest_id))
        return paid

    replies = await asyncio.gather(*(client(number) for number in range(CLIENTS)))

    nonces = [nonce for paid in replies for one in paid for nonce in one.nonces]
    assert sorted(nonces) == list(range(1, len(nonces) + 1))
    assert len({paid[0].session_id for paid in replies}) == CLIENTS
    totals = [await settled(system, who.account) for who in (payer, rival)]
    assert [total.payments for total in totals] == [5 * CLIENTS // 2] * 2


async def test_a_first_request_repeated_at_once_opens_one_session(
    system: System, payer: Payer, challenge: Challenge
) -> None:
    body = request(challenge)

    answers = await asyncio.gather(*(payer.ask(body) for _ in range(CLIENTS)))

    assert Counter(answer.status for answer in answers) == {200: CLIENTS}
    assert len({answer.body for answer in answers}) == 1
    assert (await settled(system, payer.account)).payments == 1


async def test_a_session_of_one_account_is_nothing_to_another(
    system: System, payer: Payer, challenge: Challenge
) -> None:
    rival = Payer(system, await system.open_account())
    paid = await payer.pay(challenge)

    answer = await rival.ask(request(challenge, paid.state))

    assert answer.status == 400
    assert b"invalid sig" in answer.body
    assert not (await system.log()).of(rival.account.account_id).payments
