"""Signing in to the console and out: cookies, who is let in, and forms that other sites send."""

from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any

import pytest
from structlog.testing import capture_logs

from contracts import limits
from contracts.limits import Scoped
from services.edge import admission
from services.edge.caps import Pace
from services.edge.console import visitors
from services.edge.console.sessions import LIFETIME, ConsoleSessions
from tests.unit.edge.console_client import Visitor, console, form_token, shows_form
from tests.unit.edge.edge_app import NOW, PUBLIC_URL, Edge, capped
from tests.unit.edge.managing import ADMIN_KEY, asked

pytestmark = pytest.mark.anyio

COOKIE = "__Host-clearinghouse"


async def signed_in(edge: Edge, credential: str) -> Visitor:
    visitor = Visitor(edge)
    answer = await visitor.sign_in(credential)
    assert (answer.status, answer.headers["location"]) == (303, "/usage"), answer
    return visitor


async def token_of(edge: Edge, **parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await edge.exchange(edge.issue().text, user_id="ann", **parameters)).json
    return found


async def test_without_a_cookie_the_page_is_a_form() -> None:
    page = await Visitor(console()).get()

    assert (page.status, shows_form(page)) == (200, True)


async def test_a_key_signs_in_and_is_not_in_the_cookie_the_page_or_the_log() -> None:
    edge = console()
    key = edge.issue()
    with capture_logs() as lines:
        visitor = await signed_in(edge, f" {key.text}\n")
        page = await visitor.get()

    secret = key.text.rpartition("_")[2]
    assert (page.status, shows_form(page)) == (200, False)
    assert secret not in page.text + str(page.headers) + str(visitor.cookies) + str(lines)


async def test_the_cookie_is_for_this_host_alone_and_half_a_day() -> None:
    edge = console()
    answer = await Visitor(edge).sign_in(edge.issue().text)

    cookie = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
    told = {name: cookie[name] for name in ("path", "max-age", "domain")}
    assert told == {"path": "/", "max-age": "43200", "domain": ""}
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"].lower()) == (True, True, "strict")


@pytest.mark.parametrize(
    ("url", "secure"),
    [
        ("https://pay.example", True),
        ("http://pay.example", True),
        ("http://127.0.0.1:20010", False),
        ("http://[::1]:20010", False),
        ("http://localhost:20010", False),
        ("https://127.0.0.1", True),
    ],
)
def test_a_cookie_without_tls_is_for_the_machine_itself_only(url: str, *, secure: bool) -> None:
    assert visitors._needs_tls(url) is secure  # noqa: SLF001 - the rule itself
    assert visitors.is_reachable_safely(url) is (url.startswith("https") or not secure)


async def test_a_session_lasts_twelve_hours() -> None:
    edge = console()
    visitor = await signed_in(edge, edge.issue().text)
    edge.clock.advance(LIFETIME - timedelta(seconds=1))
    last = await visitor.get()
    edge.clock.advance(timedelta(seconds=1))

    assert not shows_form(last)
    assert shows_form(await visitor.get())


async def test_a_session_of_a_token_ends_with_the_token() -> None:
    edge = console()
    visitor = await signed_in(edge, (await token_of(edge, expires_in=60))["access_token"])
    edge.clock.advance(timedelta(seconds=60))

    assert shows_form(await visitor.get())


@pytest.mark.parametrize(("status", "answered"), [("revoked", 401), ("suspended", 403)])
async def test_what_becomes_of_a_key_acts_at_the_next_request(status: str, answered: int) -> None:
    edge = console()
    key = edge.issue()
    visitor = await signed_in(edge, key.text)
    edge.put(key, status)

    page = await visitor.get()

    assert (page.status, shows_form(page)) == (answered, True)
    assert (await visitor.get("/usage/now")).status in {401, 403}


async def test_a_key_that_became_anothers_lets_nobody_in() -> None:
    edge = console()
    key = edge.issue()
    visitor = await signed_in(edge, key.text)
    edge.put(key, account_id="bolt")

    assert shows_form(await visitor.get())


async def test_rules_of_the_key_hold_for_its_session() -> None:
    edge = console()
    key = edge.issue()
    visitor = await signed_in(edge, key.text)
    edge.rule(Scoped(account_id="acme", key_id=key.key_id), rules={"networks": ["203.0.113.0/24"]})

    elsewhere = await visitor.get()
    edge.rule(Scoped(account_id="acme", key_id=key.key_id), rules={"expires_at": NOW.isoformat()})
    expired = await visitor.get()

    assert (elsewhere.status, expired.status) == (403, 401)


async def test_a_token_that_was_ended_ends_its_sessions() -> None:
    edge = console()
    token = await token_of(edge)
    visitor = await signed_in(edge, token["access_token"])
    edge.rule(Scoped(account_id="acme", token_id=token["token_id"]), rules={"expires_at": NOW.isoformat()})

    assert (await visitor.get()).status == 401


@pytest.mark.parametrize(
    "credential", ["", "nonsense", "lpch_" + "0" * 12 + "_" + "0" * 38, "eyJ.eyJ.sig", "ä" * 40, "x" * 5000]
)
async def test_what_is_no_credential_is_refused_with_a_word(credential: str) -> None:
    visitor = Visitor(console())
    answer = await visitor.sign_in(credential)

    assert (answer.status, shows_form(answer), visitor.cookies) == (401, True, {})
    assert "no API key or session token of ours" in answer.text


async def test_wrong_keys_are_capped_as_everywhere() -> None:
    edge = console(paces=capped(0.001, 3))
    statuses = [(await Visitor(edge).sign_in("nonsense")).status for _ in range(5)]
    good = await Visitor(edge).sign_in(edge.issue().text)

    assert statuses == [401, 401, 401, 429, 429]
    assert good.status == 303


async def test_pages_and_sign_ins_of_a_key_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Pace(per_second=0.001, burst=2)
    monkeypatch.setattr(admission, "PAGES", narrow)
    monkeypatch.setattr(admission, "TOKENS", narrow)
    edge = console()
    key = edge.issue()
    visitor = await signed_in(edge, key.text)
    pages = [(await visitor.get("/usage/now")).status for _ in range(3)]
    sign_ins = [(await Visitor(edge).sign_in(key.text)).status for _ in range(2)]

    assert pages == [200, 200, 429]
    assert sign_ins == [303, 429]


async def test_an_administrator_has_no_usage() -> None:
    visitor = Visitor(console())
    answer = await visitor.sign_in(ADMIN_KEY)

    assert (answer.status, visitor.cookies) == (403, {})
    assert "belongs to no account" in answer.text


async def test_without_keys_of_tokens_the_form_says_what_is_missing() -> None:
    edge = console(token_keys=())
    page = await Visitor(edge).get()
    answer = await Visitor(edge).sign_in(edge.issue().text)

    assert (page.status, answer.status, shows_form(page)) == (200, 503, False)
    assert "EDGE_TOKEN_KEYS" in page.text


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", f"{PUBLIC_URL}.evil.example"])
async def test_forms_of_other_sites_do_nothing(origin: str | None) -> None:
    edge = console()
    stranger, visitor = Visitor(edge), await signed_in(edge, edge.issue().text)
    signing_in = await stranger.sign_in(edge.issue().text, origin=origin)
    signing_out = await visitor.sign_out(origin=origin)

    assert (signing_in.status, stranger.cookies) == (403, {})
    assert (signing_out.status, list(visitor.cookies)) == (403, [COOKIE])
    assert not asked(edge, limits.EndToken)


async def test_a_form_needs_the_token_of_its_own_session() -> None:
    edge = console()
    one, other = [await signed_in(edge, edge.issue().text) for _ in range(2)]
    foreign = form_token(await other.get())

    statuses = [(await one.post("/sign-out", fields)).status for fields in ({}, {"form_token": foreign})]

    assert statuses == [403, 403]
    assert not asked(edge, limits.EndToken)


async def test_signing_out_ends_the_session_everywhere() -> None:
    edge = console()
    key = edge.issue()
    visitor = await signed_in(edge, key.text)
    copy = Visitor(edge, dict(visitor.cookies))
    answer = await visitor.sign_out()
    [ended] = asked(edge, limits.EndToken)
    edge.rule(Scoped(account_id="acme", token_id=ended["token_id"]), rules={"expires_at": NOW.isoformat()})

    assert (answer.status, answer.headers["location"], visitor.cookies) == (303, "/usage", {})
    assert (ended["account_id"], ended["actor"], ended["reason"]) == (
        "acme",
        f"key:{key.key_id}",
        "signed_out",
    )
    assert shows_form(await visitor.get())
    assert (await copy.get()).status == 401


async def test_signing_out_forgets_the_cookie_though_quota_is_away() -> None:
    edge = console()
    visitor = await signed_in(edge, edge.issue().text)
    page = await visitor.get()
    edge.bus.answers[limits.EndToken.subject] = None
    answer = await visitor.post("/sign-out", {"form_token": form_token(page)})

    assert (answer.status, visitor.cookies) == (303, {})


async def test_a_cookie_is_read_with_each_key_and_signed_by_the_first() -> None:
    edge = console(token_keys=(b"o" * 32,))
    visitor = await signed_in(edge, edge.issue().text)
    [text] = visitor.cookies.values()
    rotated, unrelated = (
        ConsoleSessions(keys, issuer=PUBLIC_URL, clock=edge.clock)
        for keys in ((b"n" * 32, b"o" * 32), (b"n" * 32,))
    )

    assert rotated.read(text) is not None
    assert unrelated.read(text) is None


async def test_a_session_token_is_no_cookie_and_a_cookie_no_session_token() -> None:
    edge = console()
    token = (await token_of(edge))["access_token"]
    visitor = await signed_in(edge, token)
    [cookie] = visitor.cookies.values()

    assert shows_form(await Visitor(edge, {COOKIE: token}).get())
    assert (await edge.pay(cookie)).status == 401


@pytest.mark.parametrize("value", ["", "nonsense", "a.b.c", "é", "x" * 4000])
async def test_a_cookie_that_is_none_of_ours_shows_the_form(value: str) -> None:
    page = await Visitor(console(), {COOKIE: value}).get()

    assert (page.status, shows_form(page)) == (200, True)
