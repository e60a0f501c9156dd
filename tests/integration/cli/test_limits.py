"""Limits, plans, credit, tokens, stops, streams and the pool by the command."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from contracts.stream_starts import BeginStream, StreamBegun
from shared.bus import ask
from tests.integration.cli.house import House
from tests.integration.quota_stand_in import PAYERS

pytestmark = pytest.mark.anyio


async def test_limits_that_are_not_named_stay(house: House, account: str) -> None:
    await house(
        "limits", "set", account, "--spend-limit-wei", str(10**20 + 1), "--job-types", "live",
        "--job-types", "lv2v", "--prices-max", "live=1200/7", "--overage",
    )  # fmt: skip
    merged = await house.one("limits", "set", account, "--sessions-max", "3", "--no-overage")
    cleared = await house.one("limits", "clear", account, "job_types", "prices-max")
    none = await house.one("limits", "clear", account)

    def own(view: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in view["own"].items() if value is not None}

    assert own(merged) == {
        "spend_limit_wei": str(10**20 + 1),
        "job_types": ["live", "lv2v"],
        "prices_max": {"live": "1200/7"},
        "overage": False,
        "sessions_max": 3,
    }
    assert own(cleared) == {"spend_limit_wei": str(10**20 + 1), "overage": False, "sessions_max": 3}
    assert own(none) == {}


async def test_those_who_set_limits_at_the_same_time_all_do(house: House, account: str) -> None:
    if house.stand_in is not None:
        pytest.skip("of what only quota does")
    wanted = {"sessions_max": 3, "streams_max": 4, "payments_per_second": 5, "grace_seconds": 6}

    ended = await asyncio.gather(
        *(
            house.process("limits", "set", account, f"--{name.replace('_', '-')}", str(value))
            for name, value in wanted.items()
        )
    )

    assert ended == [0] * len(wanted)
    own = (await house.one("limits", "show", account))["own"]
    assert {name: own[name] for name in wanted} == wanted


async def test_a_session_token_is_ended(house: House, account: str) -> None:
    ended = await house.one("tokens", "end", account, "0123456789Ab", "--reason", "lost_phone")

    assert ended["token_id"] == "0123456789Ab"
    assert ended["own"]["expires_at"] is not None
    assert (
        f"Account {account}, token 0123456789Ab: plan -"
        in (await house("tokens", "end", account, "0123456789Ab")).out
    )
    told = await house("tokens", "end", "no-such", "0123456789Ab", status=1)
    assert "(account_not_found)" in told.err


async def test_limits_of_users_and_keys_are_their_own(house: House, account: str) -> None:
    await house("limits", "set", account, "--credit-limit-micro-usd", "1500000")
    await house("limits", "set", account, "--user", "u-1", "--streams-max", "1")
    await house("limits", "set", account, "--key", "k3yIdOf12Ltr", "--networks", "192.0.2.0/24")

    shown = await house("limits", "show", account, "--user", "u-1")
    assert f"Account {account}, user u-1: plan -" in shown.out
    assert "  streams_max 1" in shown.out
    key = await house.one("limits", "show", account, "--key", "k3yIdOf12Ltr")
    assert (key["own"]["networks"], key["own"]["streams_max"]) == (["192.0.2.0/24"], None)
    whole = await house.one("limits", "show", account)
    assert (whole["own"]["streams_max"], whole["most_micro_usd"]) == (None, 1_500_000)
    assert "The most it can cost us: 1.50 USD\n" in (await house("limits", "show", account)).out


async def test_a_plan_is_made_changed_and_assigned(house: House, account: str) -> None:
    await house("plan", "set", "basic", "--sessions-max", "2", "--streams-max", "4", "--rank", "3")
    await house("plan", "set", "basic", "--of", "keys", "--spend-per-hour-micro-usd", "7")
    await house("plan", "set", "basic", "--unset", "streams_max", "--trial")

    [plan] = [line["plan"] for line in await house.json("plan", "list") if line["name"] == "basic"]
    assert (plan["rank"], plan["trial"]) == (3, True)
    assert (plan["limits"]["sessions_max"], plan["limits"]["streams_max"]) == (2, None)
    assert plan["key_limits"]["spend_per_hour_micro_usd"] == 7
    assert (await house.one("plan", "assign", account, "basic"))["plan"] == "basic"
    assert (await house.one("plan", "assign", account))["plan"] is None
    refused = await house("plan", "assign", account, "no-such", status=1)
    assert "(plan_not_found)" in refused.err


async def test_an_account_counts_in_its_own_time_zone(house: House, account: str) -> None:
    assert (await house.one("time-zone", account, "Europe/Berlin"))["time_zone"] == "Europe/Berlin"


async def test_credit_is_granted_once_by_its_id_and_taken_back(house: House, account: str) -> None:
    words = ("credit", "grant", account, "12345678", "--id", "g-1", "--expires-at", "2031-12-31T00:00:00Z")
    granted = await house.one(*words, "--kind", "promotion")
    again = await house.one(*words, "--kind", "promotion")
    another = await house(*words, status=1)
    made_up = await house.one("credit", "grant", account, "1")
    shown = await house("credit", "show", account)
    voided = await house.one("credit", "void", account, "g-1")

    assert granted == again
    assert granted["grants"][0]["expires_at"] == "2031-12-31T00:00:00Z"
    assert "(credit_grant_id_taken)" in another.err
    assert len(made_up["grants"]) == 2
    assert f"Account {account}: prepaid 12.345679 USD, owes 0.00 USD, may owe -" in shown.out
    assert voided["prepaid_micro_usd"] == 1


async def test_stops_are_set_listed_and_lifted(house: House) -> None:
    await house("stops", "set", "everything", "--reason", "drill", "--actor", "on-call")
    await house("stops", "set", "user", "acme:u-1", "--expires-at", "2031-12-31T00:00:00Z")

    listed = {(stop["what"], stop["value"]): stop for stop in await house.json("stops", "list")}
    assert listed["everything", ""]["actor"] == "on-call"
    assert listed["user", "acme:u-1"]["expires_at"] == "2031-12-31T00:00:00Z"
    assert (await house("stops", "lift", "everything")).out == "everything is not stopped\n"
    await house("stops", "lift", "user", "acme:u-1")
    assert (await house("stops", "list")).out == "nothing is stopped\n"


async def test_a_long_list_of_recipients_is_stopped(house: House, directory: Path) -> None:
    file = directory / "deny.csv"
    recipients = [f"0x{number:040X}" for number in range(1_201)]
    rows = [f"seen,{recipient},why\n" for recipient in (*recipients, recipients[0])]
    file.write_text("# from elsewhere\nat,Recipient,note\n\n" + "".join(rows))

    told = await house("stops", "import", str(file), "--reason", "deny_list")

    listed = await house.json("stops", "list")
    assert told.out == "1201 recipients are stopped\n"
    assert {stop["value"] for stop in listed} == {recipient.lower() for recipient in recipients}
    await house.lift_all()


async def test_nothing_is_stopped_by_a_list_with_a_wrong_line(house: House, directory: Path) -> None:
    file = directory / "deny.txt"
    file.write_text(f"{PAYERS[0]}\n0xnone\n{PAYERS[1]}\n")

    told = await house("stops", "import", str(file), status=1)

    assert told.err == "refused: 1 of no recipient: line 2; 0x and 40 hex digits (bad_file)\n"
    assert await house.json("stops", "list") == []


async def test_streams_are_listed_and_ended(house: House, account: str) -> None:
    begin = BeginStream(account_id=account, stream_id="s-1", user_id="u-1", app="demo/echo", job_type="live")
    await ask(house.admin, begin, StreamBegun)

    listed = await house("streams", "list", account)
    ended = await house.one("streams", "end", account, "s-1")

    assert "demo/echo" in listed.out
    assert ended["ended_because"] == "ended"
    assert (await house("streams", "list", account)).out == "no streams\n"


@pytest.mark.usefixtures("stand_in")  # it has payers
async def test_the_pool_is_shown_to_the_wei(house: House) -> None:
    pools = await house.json("pool")

    assert [pool["payer"] for pool in pools] == list(PAYERS)
    assert "1000000000000000000" in (await house("pool")).out
