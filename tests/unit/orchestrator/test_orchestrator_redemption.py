"""Redemption: which winners are due, and what becomes of those that fail."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.unit.orchestrator.world import FakeRedeemer, Stage
from tilt.orchestrator.chain import ChainUnreachableError, Head
from tilt.orchestrator.redemption import Redemption, RedemptionError, TicketLostError
from tilt.orchestrator.winners import Winner

pytestmark = pytest.mark.anyio


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(max_workers=1) as threads:
        yield threads


async def won(stage: Stage) -> list[Winner]:
    stage.win_almost_always()
    await stage.reserve(*range(1, 9))
    winners = list(stage.orchestrator.winners)
    assert winners
    return winners


def head(stage: Stage, *, l1_block: int = 1040, last_round: int = 10) -> Head:
    return replace(stage.chain.current, l1_block=l1_block, last_initialized_round=last_round)


async def test_winners_are_redeemed_once_their_params_have_expired(stage: Stage, executor: Executor) -> None:
    winners, redeemer = await won(stage), FakeRedeemer()
    redemption = Redemption(redeemer, stage.orchestrator.winners, executor)

    await redemption.redeem_due(head(stage, l1_block=1039))
    early = len(redeemer.used)
    await redemption.redeem_due(head(stage, l1_block=1040))
    await redemption.redeem_due(head(stage, l1_block=1041))

    assert early == 0
    assert redeemer.used == {winner.ticket.hash() for winner in winners}
    assert all(winner.is_redeemed and winner.tx for winner in stage.orchestrator.winners)
    assert stage.orchestrator.winners.pending(stage.sender) == 0


@pytest.mark.parametrize(("last_round", "is_due"), [(12, True), (13, False)])
async def test_a_winner_of_an_old_round_is_left(stage: Stage, last_round: int, is_due: bool) -> None:  # noqa: FBT001
    [winner, *_] = await won(stage)

    assert winner.is_due(head(stage, last_round=last_round)) is is_due


async def test_an_inactive_orchestrator_redeems_nothing(stage: Stage, executor: Executor) -> None:
    await won(stage)
    redeemer = FakeRedeemer()

    inactive = replace(head(stage), recipient_is_active=False)
    await Redemption(redeemer, stage.orchestrator.winners, executor).redeem_due(inactive)

    assert not redeemer.used


@pytest.mark.parametrize("error", [RedemptionError("round not initialized"), ChainUnreachableError("down")])
async def test_a_failed_attempt_is_repeated(stage: Stage, executor: Executor, error: Exception) -> None:
    winners = await won(stage)
    redeemer = FakeRedeemer(error)
    redemption = Redemption(redeemer, stage.orchestrator.winners, executor)

    await redemption.redeem_due(head(stage))
    redeemer.error = None
    await redemption.redeem_due(head(stage))

    assert len(redeemer.used) == len(winners)


async def test_a_lost_winner_is_not_tried_again(stage: Stage, executor: Executor) -> None:
    await won(stage)
    redeemer = FakeRedeemer(TicketLostError("ticket is used"))
    redemption = Redemption(redeemer, stage.orchestrator.winners, executor)

    await redemption.redeem_due(head(stage))
    redeemer.error = None
    await redemption.redeem_due(head(stage))

    assert not redeemer.used
    assert {winner.fault for winner in stage.orchestrator.winners} == {"ticket is used"}


async def test_a_transaction_sent_before_a_restart_is_not_sent_again(
    stage: Stage, executor: Executor
) -> None:
    winners = await won(stage)
    for winner in winners:
        stage.orchestrator.winners.sent(winner, "0xabc")
    stage.orchestrator.store.close()
    stage.restart()
    redeemer = FakeRedeemer(used={winner.ticket.hash() for winner in winners})

    await Redemption(redeemer, stage.orchestrator.winners, executor).redeem_due(head(stage))

    assert {winner.tx for winner in stage.orchestrator.winners} == {"0xabc"}
    assert all(winner.is_redeemed for winner in stage.orchestrator.winners)
