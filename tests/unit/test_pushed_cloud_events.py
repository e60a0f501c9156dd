"""CloudEvents are read as usage: exact numbers, and for all else an error that names the field."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.cloud_events import BadEvent, BadJson, identity_of, read_event, read_json

EVENT = {"specversion": "1.0", "id": "1", "source": "app", "type": "used"}


def read(text: str = "", *, user_id: str | None = None, **told: Any) -> Any:
    return read_event(read_json(text or json.dumps({**EVENT, **told})), "acme", user_id=user_id)


def with_data(text: str) -> str:
    return json.dumps(EVENT)[:-1] + f', "data": {text}}}'


def test_attributes_and_data_are_read_and_others_ignored() -> None:
    event = read(
        subject="ann", time="2031-05-17T12:00:00+02:00", data={"fast": True, "of": "ä", "none": None}, other=7
    )

    assert (event.account_id, event.source, event.event_id, event.type) == ("acme", "app", "1", "used")
    assert (event.user_id, event.own_only, event.voids) == ("ann", False, False)
    assert event.at == datetime(2031, 5, 17, 10, tzinfo=UTC)
    assert (event.numbers, event.texts) == ({}, {"fast": True, "of": "ä"})


@pytest.mark.parametrize(
    ("told", "read_as"),
    [
        ("7", "7"),
        ("-0.0", "0"),
        ("1.50", "1.5"),
        ("1e3", "1000"),
        ("0.000000001", "0.000000001"),
        ("907199254740993", "907199254740993"),
        ("-999999999999999.999999999", "-999999999999999.999999999"),
        ("123456789012345.1234567890000", "123456789012345.123456789"),
    ],
)
def test_numbers_stay_exact(told: str, read_as: str) -> None:
    assert read(with_data(f'{{"n": {told}}}')).numbers == {"n": read_as}


@pytest.mark.parametrize(
    "told", ["1000000000000000", "0.0000000001", "1e15", "-1e999999999", "1e-999999999", "9" * 4000]
)
def test_numbers_that_would_be_rounded_are_refused(told: str) -> None:
    with pytest.raises(BadEvent, match="15 digits before and 9 after") as refused:
        read(with_data(f'{{"n": {told}}}'))

    assert refused.value.field == "data.n"


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"id": None}, "id"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"id": "\ud800"}, "id"),
        ({"id": "lpch_0123456789ab_secret"}, "id"),
        ({"source": "x" * 257}, "source"),
        ({"source": "a\x00b"}, "source"),
        ({"type": None}, "type"),
        ({"specversion": "0.3"}, "specversion"),
        ({"subject": "a b"}, "subject"),
        ({"subject": "lpch_0123456789ab_secret"}, "subject"),
        ({"time": 1772366400}, "time"),
        ({"time": "1772366400"}, "time"),
        ({"time": "2031-05-17T12:00:00"}, "time"),
        ({"time": "2031-13-17T12:00:00Z"}, "time"),
        ({"corrects": 7}, "corrects"),
        ({"data": []}, "data"),
        ({"data": "text"}, "data"),
        ({"data": {"a b": 1}}, "data"),
        ({"data": {f"n{number}": 1 for number in range(21)}}, "data"),
        ({"data": {"n": []}}, "data.n"),
        ({"data": {"n": {}}}, "data.n"),
        ({"data": {"n": "x" * 257}}, "data.n"),
        ({"data": {"n": "ä" * 129}}, "data.n"),
        ({"data": {"n": "\ud800"}}, "data.n"),
        ({"data": {"n": "a\nb"}}, "data.n"),
        ({"data_base64": "AA=="}, "data_base64"),
    ],
)
def test_what_is_wrong_is_told_with_its_field(told: dict[str, Any], field: str) -> None:
    with pytest.raises(BadEvent) as refused:
        read(**told)

    assert refused.value.field == field
    assert "lpch_0123456789ab" not in str(refused.value)


def test_bounds_themselves_are_read() -> None:
    event = read(
        id="x" * 128,
        source="s" * 256,
        type="t" * 128,
        data={f"n{number}": "x" * 256 for number in range(20)},
    )

    assert (len(event.event_id), len(event.source), len(event.type), len(event.texts)) == (128, 256, 128, 20)


def test_a_users_key_books_to_this_user_only() -> None:
    own = read(user_id="ann")

    assert (own.user_id, own.own_only) == ("ann", True)
    assert read(user_id="ann", subject="ann") == own
    with pytest.raises(BadEvent) as refused:
        read(user_id="ann", subject="bob")
    assert (refused.value.field, refused.value.code) == ("subject", "subject_not_allowed")


def test_a_correction_without_data_voids_and_one_with_empty_data_does_not() -> None:
    assert read(corrects="0").voids
    assert read(corrects="0", data=None).voids
    assert not read(corrects="0", data={}).voids
    assert not read().voids


@pytest.mark.parametrize(
    "text", ["", "{", "nonsense", '{"n": NaN}', '{"n": 1' + "0" * 5000 + "}", "[" * 100_000, "\ufeff{}"]
)
def test_what_is_no_json_is_told(text: str) -> None:
    with pytest.raises(BadJson):
        read_json(text)


@pytest.mark.parametrize("given", [[], "text", None, 7])
def test_an_event_is_an_object(given: object) -> None:
    with pytest.raises(BadEvent, match="object"):
        read_event(given, "acme", user_id=None)


def test_ids_are_told_back_where_they_can_be() -> None:
    assert identity_of({"id": "1", "source": "app"}) == ("1", "app")
    assert identity_of({"id": 7, "source": "x" * 257}) == (None, None)
    assert identity_of({"id": "\ud800"}) == (None, None)
    assert identity_of([]) == (None, None)
