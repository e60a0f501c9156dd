"""The `clearinghouse` command against accounts on real PostgreSQL and NATS, as the NATS user `cli`.

Each test runs twice: with quota as a process, and with a stand-in for it and for the signer that keeps
what it is told, and that may be silent. Nothing else is on the bus: no web.
"""

import asyncio
import json
import os
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from pydantic import SecretStr
from typer.testing import CliRunner

from contracts import api_keys
from contracts import limits as contract
from contracts.accounts import AccountPage, FindIdentity, Identity, ListAccounts
from contracts.hooks import hook_secret
from contracts.stops import LiftStops, StopPage, StopToSet
from contracts.stream_starts import BeginStream, StreamBegun
from services.cli.app import app
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bus import ServiceUnavailableError, ask, connect
from tests import infra
from tests.integration.quota_stand_in import PAYERS, QuotaStandIn
from tests.integration.service_process import bus_user, service
from tilt.slot import Slot

pytestmark = pytest.mark.anyio

NATS_USERS = (bus_user("accounts"), bus_user("quota"), bus_user("cli"))
HOOK_KEY = "7e" * 32
PEPPER = "a-pepper-of-these-tests-and-no-other-0123"
EXAMPLE = Path("docs/accounts.yaml")
NOBODY = "0x" + "99" * 20


@dataclass
class House:
    """How the command is called, and what stands behind it."""

    nats: infra.Nats
    admin: Client
    settings: Mapping[str, str]
    stand_in: QuotaStandIn | None = None

    async def __call__(self, *words: str, status: int = 0, **settings: str) -> "Said":
        runner, told = CliRunner(), {**self.settings, **settings}
        result = await asyncio.to_thread(runner.invoke, app, list(words), env=told, catch_exceptions=False)
        assert result.exit_code == status, result.output
        return Said(result.stdout, result.stderr)

    async def process(self, *words: str) -> int | None:
        """Run it as a process of its own, beside others; return its status."""
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.cli", *words,
            env={"PATH": os.environ["PATH"], **self.settings}, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        return await asyncio.wait_for(started.wait(), 60)

    async def json(self, *words: str) -> list[dict[str, Any]]:
        return (await self(*words, "--json")).lines

    async def one(self, *words: str) -> dict[str, Any]:
        [line] = await self.json(*words)
        return line

    async def identity(self, key_id: str) -> Identity:
        return await ask(self.admin, FindIdentity(key_id=key_id), Identity)

    async def lift_all(self) -> None:
        listed = await self.json("stops", "list")
        for part in batched(listed, contract.LIST_MAX):
            stops = [StopToSet(what=stop["what"], value=stop["value"]) for stop in part]
            await ask(self.admin, LiftStops(stops=stops, actor="test", reason="test"), StopPage)

    @property
    def commands(self) -> list[Any]:
        return list(self.stand_in.commands) if self.stand_in else []


@dataclass(frozen=True)
class Said:
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(scope="module", params=["quota", "stand-in"])
async def house(
    request: pytest.FixtureRequest, postgres: infra.Postgres, nats: infra.Nats, slot: Slot
) -> AsyncIterator[House]:
    directory = slot.directory / f"cli-{request.param}"
    directory.mkdir(exist_ok=True)
    settings = {
        "CLEARINGHOUSE_NATS_URL": nats.url("cli"),
        "CLEARINGHOUSE_KEY_PEPPER": PEPPER,
        "CLEARINGHOUSE_HOOK_KEYS": HOOK_KEY,
        "CLEARINGHOUSE_PUBLIC_URL": "https://pay.example.org",
    }
    async with AsyncExitStack() as stack:
        admin = await connect("admin", nats.url())
        stack.push_async_callback(admin.close)
        await provision(admin, nats)
        database = stack.enter_context(postgres.database("accounts", "quota"))

        async def start(name: str) -> None:
            own = {"POSTGRES_DSN": database.dsn(name), "NATS_URL": nats.url(name), "CREATE_TABLES": "true"}
            running = service(name, slot.port(name), own, directory / f"{name}.log", ready_seconds=90)
            await stack.enter_async_context(running)

        await start("accounts")
        await answering(admin)
        if request.param == "quota":
            await start("quota")
            yield House(nats, admin, settings)
            return
        stand_in = QuotaStandIn(admin)
        await stand_in.serve()
        stack.push_async_callback(stand_in.leave)
        yield House(nats, admin, settings, stand_in)


async def answering(admin: Client) -> None:
    """Wait until accounts answers: it is ready a moment before the bus knows whom to ask."""
    async with asyncio.timeout(30):
        while True:
            try:
                await ask(admin, ListAccounts(), AccountPage)
            except ServiceUnavailableError:
                await asyncio.sleep(0.05)
            else:
                return


async def provision(admin: Client, nats: infra.Nats) -> None:
    """Make all that the provisioner makes, empty."""
    jetstream = admin.jetstream()
    for stream in await jetstream.streams_info():
        await jetstream.delete_stream(str(stream.config.name))
    made = ProvisionerSettings(nats_url=SecretStr(nats.url()), http_port=0, max_bytes=64 * 1024**2)
    await bus.ensure(admin, made)


@pytest.fixture
def stand_in(house: House) -> QuotaStandIn:
    if house.stand_in is None:
        pytest.skip("of what only the stand-in does")
    return house.stand_in


@pytest.fixture
async def account(house: House, request: pytest.FixtureRequest) -> str:
    """An account of the test's own."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[5:50].strip("-")
    await house("accounts", "open", name)
    return name


@pytest.mark.usefixtures("stand_in")  # it has payers
async def test_an_account_is_opened_listed_suspended_and_resumed(house: House) -> None:
    opened = await house.one("accounts", "open", "first", "--payer", PAYERS[0].upper().replace("X", "x"))
    again = await house.one("accounts", "open", "first")
    suspended = await house.one("accounts", "suspend", "first", "--reason", "unpaid")
    resumed = await house.one("accounts", "resume", "first")
    paid = await house.one("accounts", "payer", "first", PAYERS[1])
    listed = await house.json("accounts", "list")

    assert (opened["status"], opened["payer"]) == ("open", PAYERS[0])
    assert again == opened
    assert suspended == {**opened, "status": "suspended"}
    assert resumed == opened
    assert paid == {**opened, "payer": PAYERS[1]}
    assert paid in listed
    shown = await house("accounts", "show", "first")
    assert shown.out.split()[:4] == ["account", "status", "opened", "payer"]
    assert "2b2b2b" in shown.out


@pytest.mark.parametrize(
    "words",
    [
        ("accounts", "show", "nobody"),
        ("accounts", "suspend", "nobody", "--reason", "unpaid"),
        ("keys", "issue", "nobody"),
        ("limits", "show", "nobody"),
        ("limits", "set", "nobody", "--sessions-max", "1"),
        ("plan", "assign", "nobody", "trial"),
        ("time-zone", "nobody", "Europe/Berlin"),
        ("credit", "grant", "nobody", "1"),
        ("streams", "list", "nobody"),
    ],
)
async def test_what_is_asked_for_nobody_is_refused_in_one_line(house: House, words: tuple[str, ...]) -> None:
    told = await house(*words, status=1)
    as_json = await house(*words, "--json", status=1)

    assert told.out == as_json.out == ""
    assert told.err == "refused: there is no account nobody (account_not_found)\n"
    assert json.loads(as_json.err)["code"] == "account_not_found"


async def test_an_account_gets_no_payer_that_is_not_ours(house: House, account: str) -> None:
    told = await house("accounts", "payer", account, NOBODY, status=1)

    assert told.err == f"refused: {NOBODY} is none of our payers (unknown_payer)\n"
    assert (await house.one("accounts", "show", account))["payer"] is None


async def test_an_issued_key_is_one_that_an_edge_would_know(house: House, account: str) -> None:
    issued = await house.one("keys", "issue", account, "--user", "user-9")
    shown = await house("keys", "issue", account)

    key = api_keys.parse(issued["api_key"])
    assert key is not None
    found = await house.identity(key.key_id)
    assert (found.account_id, found.user_id, found.status) == (account, "user-9", "active")
    assert found.secret_hash == key.hash(PEPPER.encode())
    headers = json.loads(b64decode(issued["sdk_token"]))["signer_headers"]
    assert headers == {"Authorization": f"Bearer {key.text}"}
    assert "API key:   lpch_" in shown.out
    assert not any(key.text in command.model_dump_json() for command in house.commands)


async def test_a_key_is_revoked_and_stays_in_the_list(house: House, account: str) -> None:
    issued = await house.one("keys", "issue", account)
    key_id = issued["key"]["key_id"]

    revoked = await house.one("keys", "revoke", account, key_id)

    assert revoked["status"] == "revoked"
    assert await house.json("keys", "list", account) == [revoked]
    assert (await house.identity(key_id)).status == "revoked"


async def test_all_keys_are_revoked_and_issued_anew_with_their_users_and_limits(
    house: House, account: str
) -> None:
    old = [(await house.one("keys", "issue", account, "--user", user))["key"] for user in ("u-1", "u-2")]
    gone = (await house.one("keys", "issue", account))["key"]["key_id"]
    await house("keys", "revoke", account, gone)
    await house("limits", "set", account, "--key", old[0]["key_id"], "--spend-per-hour-wei", "1001")

    issued = await house.json("keys", "reissue", account, "--all", "--reason", "stolen")

    statuses = {key["key_id"]: key["status"] for key in await house.json("keys", "list", account)}
    new = {line["replaces"]: line["key"] for line in issued}
    assert [statuses[key["key_id"]] for key in old] == ["revoked", "revoked"]
    assert {replaced: key["user_id"] for replaced, key in new.items()} == {
        key["key_id"]: key["user_id"] for key in old
    }
    assert [statuses[key["key_id"]] for key in new.values()] == ["active", "active"]
    limits = await house.one("limits", "show", account, "--key", new[old[0]["key_id"]]["key_id"])
    assert limits["own"]["spend_per_hour_wei"] == "1001"
    assert (await house("keys", "reissue", account, gone)).out.startswith("Key ")


async def test_no_key_is_revoked_where_none_can_be_made(house: House, account: str) -> None:
    await house("keys", "issue", account)

    without = {name: value for name, value in house.settings.items() if not name.endswith("PEPPER")}
    told = await House(house.nats, house.admin, without)("keys", "reissue", account, "--all", status=2)

    assert told.err.startswith("could not: CLEARINGHOUSE_KEY_PEPPER is not set")
    assert [key["status"] for key in await house.json("keys", "list", account)] == ["active"]


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


async def test_the_audit_tells_of_both_services_the_newest_first(house: House, account: str) -> None:
    await house("limits", "set", account, "--sessions-max", "1", "--actor", "on-call", "--reason", "abuse")
    await house("accounts", "suspend", account, "--reason", "abuse", "--actor", "on-call")

    audit = ("audit", "--account", account, "--service", "accounts", "--service", "quota")
    rows = await house.json(*audit)

    assert [(row["service"], row["action"], row["actor"], row["reason"]) for row in rows] == [
        ("accounts", "account_suspended", "on-call", "abuse"),
        ("quota", "limits_set", "on-call", "abuse"),
        ("accounts", "account_opened", "cli", "unspecified"),
    ]
    assert await house.json(*audit, "--limit", "1") == rows[:1]
    assert await house.json("audit", "--account", account, "--service", "accounts") == [rows[0], rows[2]]


async def test_the_example_file_is_applied_once_and_then_changes_nothing(house: House) -> None:
    dry = await house("apply", "-f", str(EXAMPLE), "--dry-run")
    before = len(house.commands)
    first = await house("apply", "-f", str(EXAMPLE))
    asked = house.commands[before:]
    second = await house("apply", "-f", str(EXAMPLE))
    as_json = await house("apply", "-f", str(EXAMPLE), "--json")

    changes = first.out.splitlines()[:-1]
    assert dry.out.splitlines()[:-1] == [f"would {change}" for change in changes]
    assert changes[:3] == ["make plan trial", "make plan pro", "open account newcomer"]
    assert changes[-2:] == ["open account on-hold", "suspend on-hold"]
    assert first.out.endswith(f"{len(changes)} changes made.\n")
    made = [command for command in asked if isinstance(command, contract.Authored)]
    assert {(command.actor, command.reason) for command in made} <= {("cli", "applied")}
    assert second.out == "All is as the file says: nothing was changed.\n"
    assert as_json.lines == [{"changes": 0, "dry_run": False}]
    regular = await house.one("limits", "show", "regular")
    assert regular["own"]["spend_limit_wei"] == "90071992547409930001"
    assert (await house.one("accounts", "show", "on-hold"))["status"] == "suspended"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("accounts: [{account_id: bad-1, limits: {sesions_max: 1}}]", "accounts.0.limits.sesions_max"),
        ("accounts: [{account_id: bad-1}, {account_id: bad-1}]", "account bad-1 is there twice"),
        ("accounts: [{account_id: bad-1, plan: no-such-plan}]", "bad-1: there is no plan no-such-plan"),
        (f"accounts: [{{account_id: bad-1, payer: {NOBODY}}}]", "is none of our payers"),
        ("accounts: [{account_id: bad-1, time_zone: Mars/Olympus}]", "no time zone of IANA"),
        ("accounts: [{account_id: bad-1, keys: {k3yIdOf12Ltr: {}}}]", "there is no key k3yIdOf12Ltr"),
        ("accounts:\n- account_id: bad-1\n  account_id: bad-2", "'account_id' is there twice"),
        ("accounts: [}", "expected"),
        ("- a list", "valid dictionary"),
    ],
)
async def test_nothing_is_done_for_a_file_that_cannot_be_as_a_whole(
    house: House, directory: Path, text: str, problem: str
) -> None:
    file = directory / "accounts.yaml"
    file.write_text(f"plans: [{{name: of-a-bad-file}}]\n{text}" if text.startswith("accounts") else text)

    told = await house("apply", "-f", str(file), status=1)

    assert problem in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""
    assert "of-a-bad-file" not in (await house("plan", "list")).out
    assert not any(account["account_id"] == "bad-1" for account in await house.json("accounts", "list"))


async def test_a_grant_that_was_given_is_not_changed_by_a_file(house: House, directory: Path) -> None:
    file = directory / "accounts.yaml"
    text = "accounts: [{account_id: given, credit: [{grant_id: g-1, amount_micro_usd: %s}]}]"
    file.write_text(text % 5)
    await house("apply", "-f", str(file))
    file.write_text(text % 6)

    told = await house("apply", "-f", str(file), status=1)

    assert "given: grant g-1 is another one; a grant is never changed" in told.err


async def test_an_apply_that_was_cut_off_is_gone_on_with(
    house: House, stand_in: QuotaStandIn, directory: Path
) -> None:
    """Quota goes away in its middle; what was done stays done, and is not done again."""
    file = directory / "accounts.yaml"
    file.write_text("accounts: [{account_id: cut-off, time_zone: Asia/Tokyo, limits: {sessions_max: 1}}]")
    stand_in.silent_for = contract.SetLimits

    told = await house("apply", "-f", str(file), status=2, CLEARINGHOUSE_TIMEOUT_SECONDS="1")
    stand_in.silent_for = None
    rest = await house("apply", "-f", str(file))

    assert told.out == "open account cut-off\nset the time zone of cut-off\n"
    assert told.err.startswith("could not: set limits of cut-off: cmd.quota.set_limits.v1")
    assert told.err.endswith("2 of 3 changes were made\n")
    assert rest.out == "set limits of cut-off\n1 changes made.\n"


async def test_a_service_that_is_away_is_told_and_not_waited_for(
    house: House, stand_in: QuotaStandIn, account: str
) -> None:
    await stand_in.leave()
    away = await house("limits", "show", account, status=2)
    audit = await house("audit", "--json", status=2)
    rest = await house.json("audit", "--service", "accounts", "--limit", "1")
    await stand_in.serve()

    assert away.err.startswith("could not: cmd.quota.read_limits.v1: NoRespondersError")
    assert json.loads(audit.err)["kind"] == "fault"
    assert audit.out == ""
    assert len(rest) == 1


@pytest.mark.parametrize("wrong", ["password", "port"])
async def test_a_bus_that_lets_nobody_in_is_told_without_the_password(house: House, wrong: str) -> None:
    right = house.nats.users["cli"].password
    url = house.nats.url("cli")
    url = url.replace(right, "wr0ng-pass") if wrong == "password" else url.rpartition(":")[0] + ":1"

    told = await house("pool", status=2, CLEARINGHOUSE_NATS_URL=url)

    assert told.err.startswith("could not: the bus does not let us in")
    assert "wr0ng-pass" not in told.err
    assert right not in told.err


async def test_the_command_is_a_process_that_says_what_it_misses() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "pool",
        env={"PATH": os.environ["PATH"]}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)

    assert (process.returncode, out) == (2, b"")
    assert err == b"could not: CLEARINGHOUSE_NATS_URL: Field required\n"


@pytest.mark.parametrize(
    "words",
    [
        ("limits", "set", "acme"),
        ("limits", "set", "acme", "--sessions-max", "many"),
        ("limits", "set", "acme", "--user", "ann", "--credit-limit-micro-usd", "5"),
        ("plan", "set", "pro", "--of", "users", "--credit-limit-micro-usd", "5"),
        ("tokens", "end", "acme", "a-token"),
        ("limits", "set", "acme", "--prices-max", "live"),
        ("limits", "set", "acme", "--expires-at", "tomorrow"),
        ("limits", "set", "acme", "--sessions-max", "1", "--actor", "a person"),
        ("limits", "show", "acme", "--user", "u", "--key", "k"),
        ("limits", "clear", "acme", "everything"),
        ("accounts", "suspend", "acme"),
        ("accounts", "suspend", "acme", "--reason", "They did not pay"),
        ("keys", "reissue", "acme"),
        ("keys", "reissue", "acme", "k3yIdOf12Ltr", "--all"),
        ("stops", "set", "everything", "acme"),
        ("stops", "set", "account"),
        ("stops", "set", "weather", "rain"),
        ("credit", "grant", "acme", "0"),
        ("plan", "set", "Not A Plan"),
        ("audit", "--service", "signer"),
    ],
)
async def test_what_cannot_be_meant_asks_nobody(house: House, words: tuple[str, ...]) -> None:
    before = len(house.commands)

    told = await house(*words, status=2)

    asked = house.commands[before:]
    assert "Error" in told.err
    assert not [command for command in asked if isinstance(command, contract.Authored)]


async def test_hooks_are_added_rotated_and_removed_and_secrets_shown_once(house: House) -> None:
    await house("accounts", "open", "hooked")

    added = await house.one("hooks", "add", "hooked")
    hook_id = added["hook"]["hook_id"]
    rotated = await house.one("hooks", "rotate", "hooked", hook_id, "--overlap-seconds", "60")
    listed = await house.json("hooks", "list", "hooked")
    told = await house("hooks", "add", "hooked")
    removed = await house.one("hooks", "remove", "hooked", hook_id)
    missing = await house("hooks", "rotate", "hooked", hook_id, status=1)

    key = bytes.fromhex(HOOK_KEY)
    assert [added["secret"], rotated["secret"]] == [hook_secret(key, hook_id, version) for version in (1, 2)]
    assert added["url"] == f"https://pay.example.org/webhooks/livepeer/{hook_id}"
    assert [(hook["hook_id"], hook["version"]) for hook in listed] == [(hook_id, 2)]
    assert "whsec_" not in json.dumps(listed)
    assert "Secret: whsec_" in told.out
    assert removed["removed"]
    assert missing.err.endswith("(hook_not_found)\n")
