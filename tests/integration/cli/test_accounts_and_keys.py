"""Accounts, keys and hooks by the command, and the audit of who did what."""

import json
from base64 import b64decode

import pytest

from contracts import api_keys
from contracts.hooks import hook_secret
from tests.integration.cli.house import HOOK_KEY, NOBODY, PEPPER, House
from tests.integration.quota_stand_in import PAYERS

pytestmark = pytest.mark.anyio


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
