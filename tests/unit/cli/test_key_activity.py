from datetime import UTC, date, datetime

import pytest

from contracts.key_watch import AlarmRow, HighestHour, KeyActivity, KeyStop, NetworkRow
from services.cli.keys import _show_activity

NOW = datetime(2031, 5, 17, 8, tzinfo=UTC)
UNUSED = KeyActivity(
    account_id="acme",
    key_id="AbCdEfGhIjKl",
    networks=[],
    recipients=[],
    spent_this_hour_wei=0,
    highest_hours=[],
    alarms=[],
    stop=None,
)


def test_a_key_that_was_not_used_has_nothing_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    _show_activity(UNUSED, json=False)

    assert capsys.readouterr().out.splitlines() == [
        "Key AbCdEfGhIjKl of acme: not stopped",
        "0 wei were spent this hour",
        "Highest hours: none",
        "Networks: none",
        "Recipients: none",
        "Alarms: none",
    ]


def test_what_a_key_does_is_shown_to_people_and_to_machines(capsys: pytest.CaptureFixture[str]) -> None:
    alarm = AlarmRow(at=NOW, alarm="spend", value="", spent_wei=2**70, usual_wei=7, held=True)
    used = UNUSED.model_copy(
        update={
            "networks": [NetworkRow(network="192.0.2.0/24", first_seen_at=NOW, last_seen_at=NOW)],
            "highest_hours": [HighestHour(day=date(2031, 5, 16), spent_wei=7)],
            "alarms": [alarm],
            "stop": KeyStop(reason="alarm_spend", set_at=NOW, expires_at=None),
        }
    )

    _show_activity(used, json=False)
    shown = capsys.readouterr().out
    _show_activity(used, json=True)
    told = capsys.readouterr().out

    assert "stopped since 2031-05-17T08:00:00Z (alarm_spend)" in shown
    assert f"2031-05-17T08:00:00Z  spend  -      {2**70}  7          yes" in shown
    assert "192.0.2.0/24  2031-05-17T08:00:00Z" in shown
    assert KeyActivity.model_validate_json(told) == used
