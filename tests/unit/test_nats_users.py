"""The NATS users of a production server, as the command prints them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.streams import SERVICES, permissions_of

ROOT = Path(__file__).parents[2]
PASSWORDS = {f"NATS_PASSWORD_{user.upper()}": f"{user}-password" for user in ("admin", *SERVICES)}


def printed(passwords: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.provisioner.nats_config"],
        cwd=ROOT,
        env=passwords,
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_user_has_the_password_of_its_name() -> None:
    users = json.loads(printed(PASSWORDS).stdout)["authorization"]["users"]

    assert {user["user"]: user["password"] for user in users} == {
        user: f"{user}-password" for user in ("admin", *SERVICES)
    }


def test_the_operators_command_is_a_user_like_any_other() -> None:
    users = json.loads(printed(PASSWORDS).stdout)["authorization"]["users"]

    [cli] = [user for user in users if user["user"] == "cli"]
    assert cli["permissions"]["publish"]["allow"] == list(permissions_of("cli").publish)
    assert "allow_responses" not in cli["permissions"]


def test_each_reader_is_a_user_with_a_password_of_its_own() -> None:
    readers = {"PROVISIONER_READERS": "billing, data-lake", "NATS_PASSWORD_READER_BILLING": "one"}

    ended = printed(PASSWORDS | readers | {"NATS_PASSWORD_READER_DATA_LAKE": "two"})
    missing = printed(PASSWORDS | readers)

    users = {user["user"]: user for user in json.loads(ended.stdout)["authorization"]["users"]}
    assert (users["reader-billing"]["password"], users["reader-data-lake"]["password"]) == ("one", "two")
    assert users["reader-billing"]["permissions"] != users["reader-data-lake"]["permissions"]
    assert missing.stderr.endswith("not set: NATS_PASSWORD_READER_DATA_LAKE\n")


@pytest.mark.parametrize("names", ["Billing", "a_b", "a.b", "-a", "a,a", "a" * 33])
def test_a_reader_that_cannot_be_called_so_is_refused(names: str) -> None:
    ended = printed(PASSWORDS | {"PROVISIONER_READERS": names})

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("PROVISIONER_READERS ")


@pytest.mark.parametrize("empty", [{}, {"NATS_PASSWORD_CLI": ""}])
def test_a_password_that_is_missing_is_named_and_none_is_told(empty: dict[str, str]) -> None:
    passwords = {name: value for name, value in PASSWORDS.items() if name != "NATS_PASSWORD_CLI"} | empty

    ended = printed(passwords)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "a password is needed for each user; not set: NATS_PASSWORD_CLI\n"
