from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from contracts import limits as contract
from services.cli.accounts_file import Limits, read_file
from services.cli.applying import same_limits
from services.cli.running import RefusedHereError

AT = datetime(2031, 5, 17, 8, 30, tzinfo=UTC)


def file_of(directory: Path, text: str) -> Path:
    path = directory / "accounts.yaml"
    path.write_text(text)
    return path


def test_values_are_the_texts_that_are_written(tmp_path: Path) -> None:
    address = "0x" + "00" * 19 + "10"
    text = f"accounts: [{{account_id: on, payer: {address}, users: {{0123: {{overage: no}}, no: {{}}}}}}]"

    with pytest.raises(RefusedHereError, match=r"accounts\.0\.account_id"):
        read_file(file_of(tmp_path, text))
    [account] = read_file(file_of(tmp_path, text.replace(": on,", ": only,"))).accounts

    assert account.payer == address
    assert account.users == {"0123": Limits(overage=False), "no": Limits()}


def test_an_empty_file_asks_for_nothing(tmp_path: Path) -> None:
    assert read_file(file_of(tmp_path, "# nothing\n")).accounts == []


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = "plans: [{name: A}]\naccounts: [{account_id: acme, colour: red, credit: [{grant_id: g}]}]"

    with pytest.raises(RefusedHereError) as refused:
        read_file(file_of(tmp_path, text))

    told = str(refused.value)
    assert all(where in told for where in ("plans.0.name", "accounts.0.colour", "credit.0.amount_micro_usd"))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedHereError, match="FileNotFoundError"):
        read_file(tmp_path / "none.yaml")


def test_tags_of_other_languages_make_nothing(tmp_path: Path) -> None:
    assert read_file(file_of(tmp_path, "accounts: !!python/object/apply:os.getcwd []")).accounts == []


@pytest.mark.parametrize("text", ["accounts: &a [*a]", "[" * 1_500, "accounts: &a {a: *a}"])
def test_a_file_without_end_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RefusedHereError):
        read_file(file_of(tmp_path, text))


LISTS = (["0x" + "aa" * 20, "0x" + "bb" * 20], ["0x" + "bb" * 20, "0x" + "aa" * 20])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"recipients": LISTS[0]}, {"recipients": LISTS[1]}),
        ({"prices_max": {"live": "2400/2"}}, {"prices_max": {"live": "1200"}}),
        ({"expires_at": AT}, {"expires_at": AT.astimezone(timezone(timedelta(hours=5)))}),
    ],
)
def test_limits_that_mean_the_same_are_the_same(one: dict[str, object], other: dict[str, object]) -> None:
    assert same_limits(contract.Limits.model_validate(one), contract.Limits.model_validate(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"prices_max": {"live": "1201"}}, {"prices_max": {"live": "1200"}}),
        ({"expires_at": AT}, {"expires_at": AT + timedelta(seconds=1)}),
        ({"sessions_max": 0}, {}),
        ({"apps": []}, {}),
    ],
)
def test_limits_that_differ_are_set(one: dict[str, object], other: dict[str, object]) -> None:
    assert not same_limits(contract.Limits.model_validate(one), contract.Limits.model_validate(other))


@pytest.mark.parametrize(
    "text",
    [
        "accounts: [{account_id: acme, users: {ann: {credit_limit_micro_usd: 5}}}]",
        "accounts: [{account_id: acme, keys: {0123456789Ab: {credit_limit_micro_usd: 5}}}]",
        "plans: [{name: pro, user_limits: {credit_limit_micro_usd: 5}}]",
        "plans: [{name: pro, key_limits: {credit_limit_micro_usd: 5}}]",
    ],
)
def test_a_limit_of_accounts_is_set_for_nobody_else(tmp_path: Path, text: str) -> None:
    with pytest.raises(RefusedHereError, match=r": credit_limit_micro_usd is for accounts only, not "):
        read_file(file_of(tmp_path, text))


def test_a_limit_of_accounts_is_theirs(tmp_path: Path) -> None:
    limits = "{credit_limit_micro_usd: 5}"
    text = f"plans: [{{name: pro, limits: {limits}}}]\naccounts: [{{account_id: acme, limits: {limits}}}]"

    file = read_file(file_of(tmp_path, text))

    assert file.plans[0].limits == file.accounts[0].limits == Limits(credit_limit_micro_usd=5)
