"""A stream's time depends on the set of facts alone, whatever order, repeats and losses do to it."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metering.domain import known as known_facts
from services.metering.domain.known import RUNS_MAX, Delivery, Known, UserFrom
from services.metering.domain.runs import HOUR_MS, RUN_MS_MAX

EVENTS = ("stream.started", "stream.idle", "recording.ready", "multistream.connected")
USERS: tuple[UserFrom, ...] = ("creator_id", "user_tags")
START = 500_000 * HOUR_MS

# Odd steps, so that times meet, and lie on both sides of the turns of hours.
moments = st.integers(0, 400).map(lambda step: START + step * (HOUR_MS // 7))


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    at = draw(moments)
    received = at + draw(st.integers(0, HOUR_MS))
    seen = draw(st.none() | moments)
    return Delivery(
        hook_id="hook",
        webhook_id=draw(st.sampled_from(("webhook-1", "webhook-2"))),
        event_id=draw(st.uuids()).hex,
        event=draw(st.sampled_from(EVENTS)),
        at=at,
        seen=min(seen, received) if seen is not None else None,
        source=draw(st.none() | st.integers(0, 10 * HOUR_MS)),
        user_id=draw(st.sampled_from(("", "ann", "bob"))),
        user_from=draw(st.sampled_from(USERS)),
        received=received,
    )


type Told = tuple[str, int, str]  # begun or ended or given up, when, whose
told = st.tuples(st.sampled_from(("begun", "ended", "given_up")), moments, st.sampled_from(("", "cid")))
histories = st.lists(deliveries() | told, max_size=RUNS_MAX // 2)


def learned(facts: Sequence[Delivery | Told]) -> Known:
    known = Known()
    for fact in facts:
        if isinstance(fact, Delivery):
            known.hear(fact)
            continue
        kind, at, user_id = fact
        match kind:
            case "begun":
                known.begin(f"begun {at} {user_id}", at, user_id, "demo")
            case "ended":
                known.end(f"ended {at} {user_id}", at, user_id or "ended")
            case _:
                known.give_up(at)
    return known


def follows(known: Known) -> tuple[object, ...]:
    return (
        known.studio_runs,
        known.begun_runs,
        known.hours(),
        known.state,
        known.user_id,
        known.app,
        known.source,
        known.differs,
        known.alive,
        known.last_run,
    )


@given(histories, st.data())
def test_any_order_and_any_repeats_give_one_state(facts: list[Delivery | Told], data: st.DataObject) -> None:
    again = facts + data.draw(st.lists(st.sampled_from(facts), max_size=9)) if facts else []

    shuffled = learned(data.draw(st.permutations(again)))

    assert shuffled == learned(facts)
    assert follows(shuffled) == follows(learned(facts))


@given(histories, st.data())
def test_whatever_was_lost_seconds_stay_within_the_wall(
    facts: list[Delivery | Told], data: st.DataObject
) -> None:
    kept = [fact for fact in facts if data.draw(st.booleans())]

    known = learned(kept)

    for runs in (known.studio_runs, known.begun_runs):
        assert all(0 <= run.ms <= RUN_MS_MAX for run in runs)
        assert all(one.ended <= other.began for one, other in pairwise(runs))
        assert sum(run.ms for run in runs) <= known.last - (known.first or 0)


@given(histories)
def test_hours_add_up_to_the_time_of_the_runs_that_count(facts: list[Delivery | Told]) -> None:
    known = learned(facts)

    hours = known.hours()

    assert sum(hours.values()) in {
        sum(run.ms for run in runs) for runs in (known.studio_runs, known.begun_runs)
    }
    assert all(0 < ms <= HOUR_MS for ms in hours.values())


@given(st.permutations(range(3)))
def test_an_event_that_two_webhooks_bring_counts_once(order: list[int]) -> None:
    started = Delivery("h1", "w1", "e1", "stream.started", START, None, None, "", "creator_id", START + 9)
    later = started._replace(webhook_id="w2", at=START + 5, received=START + 5)
    idle = started._replace(event_id="e2", event="stream.idle", at=START + 9_000)

    known = learned([(started, later, idle)[place] for place in order])

    assert [(run.began, run.ended, run.state) for run in known.studio_runs] == [
        (START, START + 9_000, "idle")
    ]


def test_runs_before_the_last_hundred_are_sealed_and_keep_their_time() -> None:
    facts = [
        Delivery(
            "h", "w", f"{run}-{event}", event, START + run * 10_000 + at, None, None, "", "creator_id", 0
        )
        for run in range(3 * RUNS_MAX)
        for event, at in (("stream.started", 0), ("stream.idle", 4_000))
    ]

    known = learned(facts)
    known.hear(facts[0]._replace(event_id="late"))

    assert len(known.studio_runs) == RUNS_MAX
    assert sum(known.hours().values()) == 3 * RUNS_MAX * 4_000
    assert known.too_late == 1


def one_after_the_other(random: Random) -> list[Delivery | Told]:
    """Starts and ends of both kinds, some lost, some at the same time."""
    at, facts = START, list[Delivery | Told]()
    for number in range(12 * RUNS_MAX):
        at += random.choice([0, 1, random.randrange(HOUR_MS)])
        kind = random.choice(["stream.started", "stream.idle", "begun", "ended"])
        if kind in EVENTS:
            facts.append(Delivery("h", "w", f"{number}", kind, at, None, None, "", "creator_id", at))
        else:
            facts.append((kind, at, ""))
    return facts


@pytest.mark.parametrize("seed", range(5))
def test_sealing_one_kind_of_runs_changes_no_time_of_either(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = one_after_the_other(Random(seed))
    known, heard_again = learned(facts), learned(facts + facts)
    monkeypatch.setattr(known_facts, "RUNS_MAX", len(facts))

    never_sealed = learned(facts)

    assert known.hours() == heard_again.hours() == never_sealed.hours()
    for sealed, again, never in (
        (known.studio_runs, heard_again.studio_runs, never_sealed.studio_runs),
        (known.begun_runs, heard_again.begun_runs, never_sealed.begun_runs),
    ):
        assert sealed == again == never[-len(sealed) :]
        assert len(never) > 2 * RUNS_MAX >= 2 * len(sealed) >= 2 * (RUNS_MAX - 1)
    assert (known.state, known.too_late) == (never_sealed.state, 0)


def test_a_long_run_keeps_its_time_while_runs_of_the_other_kind_are_sealed() -> None:
    known = Known()
    started = Delivery("h", "w", "e1", "stream.started", START, None, None, "", "creator_id", START)
    known.hear(started)
    for run in range(2 * RUNS_MAX):
        known.begin(f"{run}", START + run * 10_000, "", "demo")
        known.end(f"{run} end", START + run * 10_000 + 4_000, "ended")

    of_streams = sum(known.hours().values())
    known.hear(started._replace(event_id="e2", event="stream.idle", at=START + 2 * HOUR_MS))

    assert of_streams == 2 * RUNS_MAX * 4_000
    assert sum(known.hours().values()) == 2 * HOUR_MS
