"""The console's pages: their headers, what is escaped, whose figures they show, what they do without."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from contracts import limits, metered_streams, metering, signer
from services.edge.console.assets import Assets
from services.edge.console.pages import POLICY
from tests.unit.edge.console_client import COST, Visitor, console, session_row, stream
from tests.unit.edge.edge_app import NOW, PUBLIC_URL, Edge
from tests.unit.edge.managing import asked

pytestmark = pytest.mark.anyio

PAGES = ("/usage", "/usage/now", "/usage/streams/stream-of-ann", "/usage/sessions/session-of-ann")
EVIL = "<script>alert(1)</script>\"'&"


async def visitor_of(edge: Edge, user_id: str | None = None) -> Visitor:
    visitor = Visitor(edge)
    assert (await visitor.sign_in(edge.issue(user_id=user_id).text)).status == 303
    return visitor


def tags(text: str) -> list[str]:
    return re.findall(r"<script[^>]*>", text)


@pytest.mark.parametrize("path", [*PAGES, "/usage/streams/none", "/sign-in"])
@pytest.mark.parametrize("known", [True, False])
async def test_every_answer_is_closed_to_other_sites_and_kept_nowhere(path: str, *, known: bool) -> None:
    edge = console()
    visitor = await visitor_of(edge) if known else Visitor(edge)

    answer = await visitor.get(path)

    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
async def test_pages_need_nothing_that_their_policy_forbids(path: str) -> None:
    text = (await (await visitor_of(console())).get(path)).text

    assert all(" src=" in tag for tag in tags(text))
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    loaded = re.findall(r'(?:src|href)="([^"#]*)"', text)
    assert all(url.startswith("/") and not url.startswith("//") for url in loaded if url), loaded


async def test_files_are_named_by_their_content_and_kept_for_ever() -> None:
    edge = console()
    page = await Visitor(edge).get()
    paths = re.findall(r'"(/static/[^"]+)"', page.text)

    answers = [await edge.call("GET", path) for path in dict.fromkeys(paths)]

    assert len(answers) == 5
    assert {answer.status for answer in answers} == {200}
    assert {answer.headers["cache-control"] for answer in answers} == {"public, max-age=31536000, immutable"}
    missing = await edge.call("GET", "/static/console.0000000000000000.js")
    assert (missing.status, missing.headers["cache-control"]) == (404, "no-store")


def test_a_changed_file_has_another_name(tmp_path: Any) -> None:
    (tmp_path / "console.css").write_text("one")
    one = Assets(tmp_path).url("console.css")
    (tmp_path / "console.css").write_text("two")

    assert Assets(tmp_path).url("console.css") != one


async def test_names_that_clients_chose_are_text() -> None:
    edge = console()
    bus = edge.bus.answers
    usage = bus[metering.QueryUsage.subject]
    assert usage is not None

    def evil(question: dict[str, Any]) -> Any:
        page: Any = usage(question)
        if question["group_by"] == ["hour"]:
            return page
        rows = [row.model_copy(update={"group": dict.fromkeys(row.group, EVIL)}) for row in page.rows]
        return page.model_copy(update={"rows": rows})

    bus[metering.QueryUsage.subject] = evil
    bus[metering.ListSessions.subject] = lambda _: metering.SessionPage(
        sessions=[session_row("ann", user_id=EVIL, app=EVIL, session_id=EVIL)]
    )
    bus[metered_streams.ListMeteredStreams.subject] = lambda _: metered_streams.MeteredStreamPage(
        streams=[stream("ann", app=EVIL, user_id=EVIL)]
    )

    text = (await (await visitor_of(edge)).get()).text

    assert "alert(1)</script>" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4


async def test_amounts_are_told_in_eth_in_dollars_and_exactly() -> None:
    text = (await (await visitor_of(console())).get()).text

    assert f'<data value="{COST}" title="{COST} wei">0.0000017</data>' in text
    assert "≈ $0.0051" in text


async def test_now_is_what_running_sessions_cost_a_minute() -> None:
    edge = console()
    rows = [
        session_row("ann"),  # two minutes, less a second
        session_row("bob", opened_at=NOW - timedelta(seconds=5)),  # its first minute
        session_row("cid", last_at=NOW - timedelta(seconds=61)),
        session_row("dan", closed=True),
    ]
    edge.bus.answers[metering.ListSessions.subject] = lambda _: metering.SessionPage(sessions=rows)

    text = (await (await visitor_of(edge)).get("/usage/now")).text

    expected = -(-COST * 60 // 119) + COST
    assert f'<data value="{expected}"' in text
    assert "<dd>2</dd>" in text


async def test_a_users_key_is_shown_its_own_user_only() -> None:
    edge = console()
    visitor = await visitor_of(edge, "ann")

    page = await visitor.get()

    assert "session-of-ann" in page.text
    assert "bob" not in page.text
    for command in (metering.QueryUsage, metering.ListSessions, metered_streams.ListMeteredStreams):
        questions = asked(edge, command)
        assert questions
        assert {question["user_id"] for question in questions} == {"ann"}
    for path in ("/usage/streams/stream-of-bob", "/usage/sessions/session-of-bob"):
        refused = await visitor.get(path)
        assert (refused.status, "bob" in refused.text) == (404, False)


async def test_an_accounts_key_is_shown_all_its_users() -> None:
    edge = console()
    visitor = await visitor_of(edge)

    assert "session-of-bob" in (await visitor.get()).text
    assert (await visitor.get("/usage/sessions/session-of-bob")).status == 200
    assert {question["account_id"] for question in asked(edge, metering.QueryUsage)} == {"acme"}


async def test_a_foreign_thing_is_answered_like_a_missing_one() -> None:
    edge = console()
    visitor = Visitor(edge)
    await visitor.sign_in(edge.issue("bolt").text)

    for path in ("/usage/streams/{}", "/usage/sessions/{}"):
        kind = "stream" if "streams" in path else "session"
        foreign = await visitor.get(path.format(f"{kind}-of-ann"))
        missing = await visitor.get(path.format("nothing"))
        assert (foreign.status, missing.status) == (404, 404)
        assert foreign.text == missing.text


@pytest.mark.parametrize("name", ["%3Cscript%3E", "%00", "a%20b", "x" * 500, "%C3%A9", "..%2F..%2Fv1"])
@pytest.mark.parametrize("kind", ["streams", "sessions"])
async def test_an_id_that_cannot_be_is_not_found(kind: str, name: str) -> None:
    visitor = await visitor_of(console())

    page = await visitor.get(f"/usage/{kind}/{unquote(name)}")

    assert (page.status, "script>" in page.text.partition("<main")[2]) == (404, False)


async def test_a_session_says_why_it_stopped() -> None:
    text = (await (await visitor_of(console())).get("/usage/sessions/session-of-ann")).text

    assert "Since then refused with 402 (spend_limit): all spent" in text
    assert "Refused with 402" in text


async def test_the_signers_words_are_text_with_times_and_wei_as_everywhere() -> None:
    edge = console()
    view = edge.bus.answers[signer.ReadSession.subject]
    assert view is not None

    def worded(question: dict[str, Any]) -> Any:
        said = "Last paid at 2031-05-17T07:59:58.123456Z, 1700000000007 wei, 12001 micro-USD;"
        summary = f"{said} 9999-99-99T99:99:99Z {EVIL}"
        return view(question).model_copy(update={"summary": summary})

    edge.bus.answers[signer.ReadSession.subject] = worded

    text = (await (await visitor_of(edge)).get("/usage/sessions/session-of-ann")).text

    paid_at = '<time datetime="2031-05-17T07:59:58Z" title="2031-05-17T07:59:58Z">17 May 09:59</time>'
    cost = '<data value="1700000000007" title="1700000000007 wei">0.0000017 ETH</data>'
    dollars = '<data value="12001" title="12001 micro-USD">$0.012</data>'
    assert f"Last paid at {paid_at}, {cost}, {dollars};" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text


async def test_the_largest_ten_are_named_and_all_others_are_one_row() -> None:
    edge = console()
    costs = {f"user-{number:02}": 10**12 * (number + 1) for number in range(13)}

    def usage(question: dict[str, Any]) -> Any:
        sums = {"hour": {"2031-05-17T07:00:00Z": sum(costs.values())}, "user": costs, "app": {"": 5}}
        [key] = question["group_by"]
        return metering.UsagePage(
            rows=[
                metering.UsageRow(
                    group={key: name or None}, payments=1, tickets=1, cost_wei=wei, ev_wei=wei, fee_wei=wei
                )
                for name, wei in sums[key].items()
            ]
        )

    edge.bus.answers[metering.QueryUsage.subject] = usage

    text = (await (await visitor_of(edge)).get()).text

    users = text[text.index('id="by-user"') : text.index('id="by-app"')]
    assert re.findall(r"user-[0-9]{2}", users) == [f"user-{number:02}" for number in range(12, 2, -1)]
    assert f'<data value="{(1 + 2 + 3) * 10**12}"' in users[users.index("all others") :]


async def test_where_nothing_was_paid_the_next_step_is_told() -> None:
    edge = console()
    edge.bus.answers |= {
        metering.QueryUsage.subject: lambda _: metering.UsagePage(rows=[]),
        metering.ListSessions.subject: lambda _: metering.SessionPage(sessions=[]),
        metered_streams.ListMeteredStreams.subject: lambda _: metered_streams.MeteredStreamPage(streams=[]),
    }

    text = (await (await visitor_of(edge)).get()).text

    assert f'curl -H "Authorization: Bearer $KEY" {PUBLIC_URL}/discover-orchestrators' in text
    assert "data-chart" not in text


async def test_without_the_signer_the_figures_stand() -> None:
    edge = console()
    edge.bus.answers[signer.ReadSession.subject] = None

    page = await (await visitor_of(edge)).get()

    assert page.status == 200
    assert "session-of-ann" in page.text


@pytest.mark.parametrize("command", [metering.QueryUsage, limits.ReadLimits])
async def test_without_the_others_the_page_says_so_and_tries_again(command: type[Any]) -> None:
    edge = console()
    edge.bus.answers[command.subject] = None

    page = await (await visitor_of(edge)).get()

    assert (page.status, page.headers["retry-after"]) == (503, "5")
    assert 'http-equiv="refresh"' in page.text
    assert page.headers["x-request-id"] in page.text
