from datetime import UTC, datetime

import pytest

from services.cli.printing import dollars, print_table, said


@pytest.mark.parametrize(
    ("micro_usd", "text"),
    [
        (0, "0.00 USD"),
        (1, "0.000001 USD"),
        (1_000_000, "1.00 USD"),
        (1_234_567_890_000, "1,234,567.89 USD"),
        (10**15, "1,000,000,000.00 USD"),
        (None, "-"),
    ],
)
def test_dollars_are_exact(micro_usd: int | None, text: str) -> None:
    assert dollars(micro_usd) == text


def test_values_are_said_for_people() -> None:
    values = [None, "", True, 2**70, ["a", "b"], {"live": "1/7"}, datetime(2031, 5, 17, 8, tzinfo=UTC)]

    told = [said(value) for value in values]

    assert told == ["-", "-", "yes", str(2**70), "a,b", "live=1/7", "2031-05-17T08:00:00Z"]


def test_columns_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"key": "a", "user": None}, {"key": "long-one", "user": "u"}])

    assert capsys.readouterr().out == "key       user\na         -\nlong-one  u\n"
