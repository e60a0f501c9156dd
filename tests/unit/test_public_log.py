"""The log of all services as one: what an entry is told as, cursors, and epochs that are over."""

import pytest

from contracts import generate, public_log
from contracts.message import Event, LogEntry
from contracts.metering import UsageRecorded
from contracts.public_log import Place, Wanted, decode, encode, told
from contracts.signer import TicketRecovered
from contracts.streams import PUBLISHERS
from shared.bus import ServiceUnavailableError
from shared.log_reader import EpochOverError, LogReader
from tests.public_logs import START, FakeLogs, at, closed, ids, paid

pytestmark = pytest.mark.anyio

EVERYTHING = Wanted()


@pytest.fixture
def logs() -> FakeLogs:
    return FakeLogs("signer", "quota", "accounts")


@pytest.fixture
def reader(logs: FakeLogs) -> LogReader:
    return LogReader(logs.ask_page)


def test_every_event_of_the_contracts_has_a_name() -> None:
    events = {
        model
        for module in generate.MODULES
        for model in generate.messages_of(module)
        if issubclass(model, Event) and hasattr(model, "subject")
    }

    assert set(public_log.EVENTS.values()) == events
    for name, model in public_log.EVENTS.items():
        entry = LogEntry(epoch=1, position=3, previous_position=0, subject=model.subject, at=START, event={})
        assert told("signer", entry).type == name


def test_an_entry_is_told_with_its_place_and_what_it_is_a_step_of() -> None:
    entry = FakeLogs("signer").of["signer"].tell(paid())

    event = told("signer", entry)

    assert (event.id, event.type, event.version) == ("signer:1:3", "PaymentSigned", 1)
    assert (event.account_id, event.correlation, event.causation) == ("acme", "5e" * 16, None)
    assert event.data["cost"] == str(2**70)


def test_usage_is_caused_by_the_last_entry_that_it_covers() -> None:
    usage = UsageRecorded(from_position=3, to_position=9, records=1, cost=7, from_epoch=4)
    of_old = UsageRecorded(from_position=3, to_position=9, records=1, cost=7)
    log = FakeLogs("metering").of["metering"]

    assert told("metering", log.tell(usage)).causation == "signer:4:9"
    assert told("metering", log.tell(of_old)).causation is None


def test_what_is_told_again_is_caused_by_what_was_lost() -> None:
    lost = TicketRecovered(**paid().model_dump(), lost_epoch=4, lost_position=9, happened_at=START)
    log = FakeLogs("signer").of["signer"]

    assert told("signer", log.tell(lost)).causation == "signer:4:9"


def test_an_event_of_a_newer_release_is_told_as_it_is() -> None:
    entry = LogEntry(
        epoch=1, position=3, previous_position=0, subject="evt.quota.new_fact.v2", at=START, event={"a": 1}
    )

    event = told("quota", entry)

    assert (event.type, event.version, event.account_id, event.data) == ("NewFact", 2, None, {"a": 1})


def test_a_cursor_comes_back_as_it_was() -> None:
    cursor = {service: Place(2**31, 2**61) for service in PUBLISHERS}

    assert decode(encode(cursor)) == cursor
    assert len(encode(cursor)) <= public_log.CURSOR_CHARACTERS_MAX


@pytest.mark.parametrize(
    "text",
    ["", "%", "bm9uZQ", encode({"nobody": Place(1, 1)}), encode({"signer": Place(1, -1)}), "e30x", "ü"],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        decode(text)


async def test_services_are_put_in_order_of_time(logs: FakeLogs, reader: LogReader) -> None:
    for second in (1, 4):
        logs.of["signer"].tell(paid(), at=at(second))
    for second in (3, 2, 5):  # a service's own order stays, whatever its times say
        logs.of["quota"].tell(closed(), at=at(second))

    reading = await reader.read({}, EVERYTHING, 100)

    assert ids(reading.events) == ["signer:1:3", "quota:1:3", "quota:1:6", "signer:1:6", "quota:1:9"]
    assert reading.at_end


async def test_nothing_is_told_past_the_end_of_a_page_that_has_more_behind_it(
    logs: FakeLogs, reader: LogReader
) -> None:
    for second in (1, 2, 3):
        logs.of["signer"].tell(paid(), at=at(second))
    logs.of["quota"].tell(closed(), at=at(2.5))

    first = await reader.read({}, EVERYTHING, 10, size=2)
    rest = await reader.read(first.cursor, EVERYTHING, 10, size=2)

    assert (ids(first.events), first.at_end) == (["signer:1:3", "signer:1:6"], False)
    assert (ids(rest.events), rest.at_end) == (["quota:1:3", "signer:1:9"], True)


async def test_what_is_not_wanted_is_read_over_and_not_again(logs: FakeLogs, reader: LogReader) -> None:
    wanted = Wanted(frozenset({"PaymentSigned"}), "acme")
    for event in (closed(), paid("other"), paid(), closed()):
        logs.of["signer"].tell(event)

    reading = await reader.read({}, wanted, 10)

    assert ids(reading.events) == ["signer:1:9"]
    assert reading.cursor == {"signer": Place(1, 12)}
    assert not logs.of["quota"].asked  # it has no such events


async def test_of_a_service_that_is_away_nothing_is_read_and_nothing_is_lost(
    logs: FakeLogs, reader: LogReader
) -> None:
    for log in logs.of.values():
        log.tell(paid())
    logs.of["signer"].away = True

    partly = await reader.read({}, EVERYTHING, 10)
    with pytest.raises(ServiceUnavailableError):
        await reader.read(partly.cursor, EVERYTHING, 10)
    logs.of["signer"].away = False
    rest = await reader.read(partly.cursor, EVERYTHING, 10)

    assert (sorted(ids(partly.events)), partly.at_end) == (["accounts:1:3", "quota:1:3"], False)
    assert (ids(rest.events), rest.at_end) == (["signer:1:3"], True)


async def test_from_the_end_on_only_what_is_new_is_told(logs: FakeLogs, reader: LogReader) -> None:
    logs.of["signer"].tell(paid())
    end = await reader.ends()
    logs.of["signer"].tell(paid())
    logs.of["quota"].tell(closed())

    assert sorted(ids((await reader.read(end, EVERYTHING, 10)).events)) == ["quota:1:3", "signer:1:6"]


async def test_a_reader_behind_the_end_of_an_epoch_goes_on_into_the_next(
    logs: FakeLogs, reader: LogReader
) -> None:
    log = logs.of["signer"]
    log.tell(paid())
    before = (await reader.read({}, EVERYTHING, 10)).cursor
    log.tell(paid())
    log.restore(2, epoch=7)
    log.tell(paid())

    assert ids((await reader.read(before, EVERYTHING, 10)).events) == ["signer:1:6", "signer:7:9"]


async def test_a_reader_of_what_was_lost_is_told_where_to_go_on(logs: FakeLogs, reader: LogReader) -> None:
    log = logs.of["signer"]
    for _ in range(3):
        log.tell(paid())
    logs.of["quota"].tell(closed())
    ahead = (await reader.read({}, EVERYTHING, 10)).cursor
    log.restore(1, epoch=7)
    log.tell(paid("other"))

    with pytest.raises(EpochOverError) as over:
        await reader.read(ahead, EVERYTHING, 10)

    [stands] = over.value.logs
    assert (stands.service, stands.epoch, stands.began_after, stands.head) == ("signer", 7, 3, 6)
    assert (stands.read_epoch, stands.read_position) == (1, 9)
    assert over.value.cursor["quota"] == ahead["quota"]
    assert ids((await reader.read(over.value.cursor, EVERYTHING, 10)).events) == ["signer:7:6"]


async def test_a_reader_of_an_epoch_that_was_lost_goes_back_to_what_both_know(
    logs: FakeLogs, reader: LogReader
) -> None:
    log = logs.of["signer"]
    log.tell(paid())
    log.restore(1, epoch=5)
    log.tell(paid())
    ahead = (await reader.read({}, EVERYTHING, 10)).cursor
    log.restore(1, epoch=7, forget_epochs=1)
    log.tell(paid("other"))

    with pytest.raises(EpochOverError) as over:
        await reader.read(ahead, EVERYTHING, 10)

    assert over.value.cursor["signer"] == Place(1, 3)
    assert ids((await reader.read(over.value.cursor, EVERYTHING, 10)).events) == ["signer:7:6"]


async def test_a_reader_of_a_history_beside_ours_reads_some_again_and_misses_nothing(
    logs: FakeLogs, reader: LogReader
) -> None:
    log = logs.of["signer"]
    for _ in range(4):
        log.tell(paid())
    beside = {"signer": Place(5, 6)}  # of an epoch that this log never had
    log.restore(4, epoch=7)

    with pytest.raises(EpochOverError) as over:
        await reader.read(beside, EVERYTHING, 10)

    again = await reader.read(over.value.cursor, EVERYTHING, 10)
    assert ids(again.events) == ["signer:1:3", "signer:1:6", "signer:1:9", "signer:1:12"]


@pytest.mark.parametrize("kept", [0, 1])
async def test_a_log_that_went_back_and_does_not_say_so_yet_is_waited_for(
    logs: FakeLogs, reader: LogReader, kept: int
) -> None:
    for _ in range(2):
        logs.of["signer"].tell(paid())
    ahead = (await reader.read({}, EVERYTHING, 10)).cursor
    logs.of["signer"].forget(kept)
    logs.of["signer"].tell(paid(), gap=30)  # there again, another than what was read

    with pytest.raises(ServiceUnavailableError, match="went back"):
        await reader.read(ahead, EVERYTHING, 10)
