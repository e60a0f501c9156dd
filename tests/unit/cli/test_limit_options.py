import pytest
import typer
from typer.testing import CliRunner

from contracts.limits import Alarms, Limits
from services.cli.app import app
from services.cli.limit_options import LIMITS, merged, read, without


@pytest.mark.parametrize("group", ["limits", "plan"])
def test_each_limit_there_is_has_an_option(group: str) -> None:
    told = CliRunner().invoke(app, [group, "set", "--help"], env={"COLUMNS": "400"}).stdout

    assert [name for name in LIMITS if f"--{name.replace('_', '-')}" not in told] == []


def test_what_was_typed_becomes_limits() -> None:
    typed = {
        "prices_max": ["live=1200/7", "a/b=3"],
        "networks": ["192.0.2.0/24"],
        "spend_limit_wei": str(2**200),
        "expires_at": "2031-05-17T08:30:00+02:00",
    }

    assert read(typed).model_dump(mode="json", exclude_none=True) == {
        "prices_max": {"live": "1200/7", "a/b": "3"},
        "networks": ["192.0.2.0/24"],
        "spend_limit_wei": str(2**200),
        "expires_at": "2031-05-17T08:30:00+02:00",
    }


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ({"sessions_max": "-1"}, "--sessions-max: Input should be greater"),
        ({"networks": ["192.0.2.1/24"]}, "--networks.0: Value error"),
        ({"prices_max": ["live=1.5"]}, "--prices-max.live"),
        ({"prices_max": ["live"]}, "such as live=1200"),
        ({"recipients": ["0xAA"]}, "--recipients.0"),
        ({"alarms": ["spend_times=1"]}, "--alarms.spend-times: Input should be greater"),
        ({"alarms": ["holds=spend,nothing"]}, "--alarms.holds.1"),
        ({"alarms": ["nothing=1"]}, "such as spend_times=8"),
        ({"expires_at": "2031-05-17T08:30:00"}, "--expires-at: Input should have timezone"),
    ],
)
def test_what_is_no_limit_is_said_with_its_option(typed: dict[str, object], problem: str) -> None:
    with pytest.raises(typer.BadParameter, match=problem):
        read(typed)


def test_alarms_are_typed_part_by_part() -> None:
    typed = read({"alarms": ["spend_times=none", "network=off", "holds=recipient,spend"]})

    assert typed.alarms == Alarms(spend_times=None, network=False, holds=["recipient", "spend"])
    assert read({"alarms": ["holds="]}).alarms == Alarms()


def test_what_is_not_typed_stays_as_it_was() -> None:
    before = Limits(sessions_max=3, overage=True, job_types=["live"])

    assert merged(before, Limits(overage=False, streams_max=0)) == Limits(
        sessions_max=3, overage=False, job_types=["live"], streams_max=0
    )


def test_limits_are_dropped_by_name_as_options_or_as_fields() -> None:
    before = Limits(sessions_max=3, overage=True, job_types=["live"])

    assert without(before, ["--sessions-max", "job_types"]) == Limits(overage=True)
    with pytest.raises(typer.BadParameter, match="no_such is no limit"):
        without(before, ["no-such"])
