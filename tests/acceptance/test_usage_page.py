"""The page `/usage` in a real browser, of accounts that really paid."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from tests.acceptance.browser import Watched, launched, opened, sign_in, signed_in
from tests.acceptance.checks import settled
from tests.acceptance.sdk import streaming
from tests.acceptance.system import Account, System, until
from tests.acceptance.wire import SIGNER, Paid, Payer, request

pytestmark = pytest.mark.anyio

SECONDS = 60.0
NAMELESS = "no user named"
EVIL_APP = "<script>document.title='taken'</script>"
# How many pixels of a chart have the colour of its bars.
BARS = """(id) => {
  const fill = "21,153,107"; // --fill of console.css, in the light
  const canvas = document.querySelector(`#${id} canvas`);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4)
    found += data.slice(at, at + 3).join() === fill;
  return found;
}"""

# As a browser tells a page that its tab came to the front, or went away from it.
LOOK = """(seen) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => !seen });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@dataclass(frozen=True)
class Spender:
    """An account two of whose users paid, one for a stream."""

    account: Account
    users: tuple[str, str]
    stream_id: str

    @property
    def names(self) -> list[str]:
        return [self.account.account_id, *self.users, self.stream_id]


async def spender(system: System) -> Spender:
    account = await system.open_account()
    token = secrets.token_hex(4)
    users, stream_id = (f"ann-{token}", f"bob-{token}"), f"stream-{token}"
    begun = {"stream_id": stream_id, "user_id": users[0], "lease_seconds": 3600}
    answer = await system.call("POST", "/v1/streams", key=account.api_key, body=begun)
    assert answer.status == 201, answer
    found = Spender(account, users, stream_id)
    await pay(system, account, user=users[0], stream=stream_id)
    await pay(system, account, user=users[1], app=EVIL_APP)
    await pay(system, account)
    await settled(system, account)
    path = f"/v1/accounts/{account.account_id}/streams/{stream_id}"

    async def is_metered() -> bool:
        answer = await system.call("GET", path)
        return answer.status == 200 and answer.json["session_count"] == 1 and answer.json["runs"]

    await until("metering has the stream with its session", is_metered, seconds=SECONDS)
    return found


async def pay(
    system: System, account: Account, *, user: str = "", stream: str = "", app: str = "demo/echo"
) -> None:
    challenge = await Payer(system, account).challenge()
    named = {"Clearinghouse-User": user, "Clearinghouse-Stream": stream}
    headers = account.headers | {name: value for name, value in named.items() if value}
    Paid.read(await system.send("POST", SIGNER, data=request(challenge, app=app), headers=headers))


async def usage(system: System, account: Account, *groups: str, since: datetime) -> list[dict[str, Any]]:
    path = f"/v1/accounts/{account.account_id}/usage?from={since:%Y-%m-%dT%H:%M:%SZ}"
    answer = await system.call("GET", path + "".join(f"&group_by={group}" for group in groups))
    found: list[dict[str, Any]] = answer.json["usage"]
    return found


async def wei(page: Page, selector: str) -> int:
    return int(await page.locator(f"{selector} data").first.get_attribute("value") or "")


async def table(page: Page, selector: str) -> dict[str, list[int]]:
    """The rows of a table of sums, by their name."""
    rows = await page.locator(f"{selector} tbody tr").all()
    return {
        (await row.locator("th").inner_text()): [
            int(await each.get_attribute("value") or "") for each in await row.locator("data").all()
        ]
        for row in rows
    }


async def is_signed_out(page: Page) -> bool:
    return await page.get_by_label("API key or session token").count() == 1


async def test_the_page_says_what_v1_says_of_this_account_and_nothing_of_another(system: System) -> None:
    one, other = await spender(system), await spender(system)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    async with launched() as browser, opened(browser) as page:
        watched = Watched(page)
        await sign_in(page, system.world.public_url, one.account.api_key)
        await page.wait_for_selector("#month-chart canvas")
        text = await page.content()
        figures = [await wei(page, selector) for selector in ("#today .figure", "#month .figure")]
        users, apps = await table(page, "#by-user"), await table(page, "#by-app")
        days = await table(page, "table[data-chart=month-chart]")
        bars = [await page.evaluate(BARS, chart) for chart in ("day-chart", "month-chart")]
        title = await page.title()

    [today] = await usage(system, one.account, since=midnight)
    [month] = await usage(system, one.account, since=midnight.replace(day=1))
    by_user = await usage(system, one.account, "user", since=midnight.replace(day=1))
    by_app = await usage(system, one.account, "app", since=midnight.replace(day=1))
    assert figures == [int(today["cost_wei"]), int(month["cost_wei"])]
    assert {name: sums[1] for name, sums in users.items()} == {
        row["group"]["user"] or NAMELESS: int(row["cost_wei"]) for row in by_user
    }
    assert {name: sums[1] for name, sums in apps.items()} == {
        row["group"]["app"]: int(row["cost_wei"]) for row in by_app
    }
    assert sum(sums[0] for sums in days.values()) == int(month["cost_wei"])
    assert all(each > 50 for each in bars), bars
    assert [name for name in one.names if name not in text] == []
    assert [name for name in other.names if name in text] == []
    assert (watched.problems, watched.origins) == ([], {system.world.public_url})
    assert title.startswith("Usage")


async def test_without_scripts_there_is_all_but_the_charts(system: System) -> None:
    found = await spender(system)
    async with (
        launched() as browser,
        signed_in(browser, system.world.public_url, found.account.api_key, scripts=False) as page,
    ):
        users = await table(page, "#by-user")
        tables_open = await page.locator("details[open] table").count()
        await page.get_by_role("link", name=found.stream_id).click()
        stream = await page.locator("main").inner_text()
        await page.locator("ol.timeline a").first.click()
        session = await page.locator("main").inner_text()
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_load_state()
        signed_out = await is_signed_out(page)

    assert set(users) == {*found.users, NAMELESS}
    assert tables_open == 2
    assert "running" in stream
    assert "tickets signed for" in session
    assert signed_out


async def test_now_follows_what_is_paid_and_a_revoked_key_is_thrown_out(system: System) -> None:
    account = await system.open_account()
    async with launched() as browser, signed_in(browser, system.world.public_url, account.api_key) as page:
        empty = await page.locator("#first-payment").count()
        before = await wei(page, "#now .figure")
        async with streaming(system, account):

            async def is_paid() -> bool:
                return await wei(page, "#now .figure") > 0

            await until("the page shows by itself what a minute costs", is_paid, seconds=SECONDS)
        await system.revoke_key(account)
        await page.wait_for_selector("#credential")  # by itself, with its next look
        await page.goto(f"{system.world.public_url}/usage")
        signed_out = await is_signed_out(page)

    assert (empty, before, signed_out) == (1, 0, True)


async def test_now_is_not_asked_for_while_nobody_looks(system: System) -> None:
    account = await system.open_account()
    asked: list[str] = []
    async with launched() as browser, opened(browser) as page:
        await page.clock.install()
        await sign_in(page, system.world.public_url, account.api_key)
        page.on("request", lambda request: asked.append(request.url))
        await page.evaluate(LOOK, False)
        await page.clock.run_for(60_000)
        while_hidden = now_of(asked)
        await page.evaluate(LOOK, True)

        async def is_asked_for() -> bool:
            return bool(now_of(asked))

        await until("now is asked for again", is_asked_for, seconds=SECONDS)

    assert while_hidden == []
    assert now_of(asked) == [f"{system.world.public_url}/usage/now"]


def now_of(asked: list[str]) -> list[str]:
    """What was asked of usage, without the page's own files."""
    return [url for url in asked if "/static/" not in url]


async def test_signing_out_ends_the_session_for_copies_of_its_cookie(system: System) -> None:
    account = await system.open_account()
    url = system.world.public_url
    async with launched() as browser, signed_in(browser, url, account.api_key) as page:
        [cookie] = await page.context.cookies()
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_selector("#credential")
        left = await page.context.cookies()

    async def is_refused() -> bool:
        headers = {"Cookie": f"{cookie['name']}={cookie['value']}"}
        return (await system.send("GET", "/usage/now", headers=headers)).status == 401

    await until("the copy opens nothing", is_refused, seconds=SECONDS)
    assert left == []
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert account.api_key not in cookie["value"]


async def test_a_users_key_and_a_session_token_show_that_user_only(system: System) -> None:
    found = await spender(system)
    path = f"/v1/accounts/{found.account.account_id}/keys"
    users_key = (await system.call("POST", path, body={"user_id": found.users[0]})).json["api_key"]
    exchange = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "user_id": found.users[0],
    }
    token = await system.call("POST", "/v1/tokens", key=found.account.api_key, body=exchange)
    async with launched() as browser:
        for credential in (users_key, token.json["access_token"]):
            text, users = await _shown(browser, system.world.public_url, credential)

            assert set(users) == {found.users[0]}
            assert found.stream_id in text
            assert found.users[1] not in text


async def _shown(browser: Browser, url: str, credential: str) -> tuple[str, dict[str, list[int]]]:
    async with signed_in(browser, url, credential) as page:
        return await page.content(), await table(page, "#by-user")
