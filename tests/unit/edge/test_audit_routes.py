"""`/v1/audit`: what three services kept, put together; the services are stand-ins."""

from typing import Any

import pytest

from contracts.audit import ReadAudit, read_audit_subject
from services.edge.routes import cursor
from tests.unit.edge.edge_app import Edge
from tests.unit.edge.managing import ACTOR, audit_page, manage, managed

pytestmark = pytest.mark.anyio

SUBJECTS = [read_audit_subject(service) for service in ("accounts", "quota", "metering")]

type Rows = list[tuple[str, int, int]]  # service, position, minute


@pytest.fixture
def edge() -> Edge:
    return managed()


def audited(edge: Edge, *kept: Rows) -> None:
    """Keep rows as the services do: newest first, those before a position."""

    def answer(rows: Rows) -> Any:
        def page(data: dict[str, Any]) -> Any:
            before = data["before"] if data["before"] is not None else 2**62
            return audit_page(*[row for row in rows if row[1] < before][: data["limit"]])

        return page

    edge.bus.answers |= {subject: answer(rows) for subject, rows in zip(SUBJECTS, kept, strict=True)}


async def test_the_audit_is_put_together_by_time_page_by_page(edge: Edge) -> None:
    accounts = [("accounts", 9, 50), ("accounts", 7, 20), ("accounts", 3, 10)]
    quota = [("quota", 40, 55), ("quota", 39, 54), ("quota", 12, 15), ("quota", 11, 10)]
    audited(edge, accounts, quota, [("metering", 8, 30)])

    found: list[tuple[str, int]] = []
    following = ""
    while following is not None:
        page = await manage(edge, "GET", f"/v1/audit?limit=2{following and '&cursor=' + following}")
        found += [(row["service"], row["position"]) for row in page.json["rows"]]
        assert len(page.json["rows"]) <= 2
        following = page.json["next"]

    by_time = [("quota", 40), ("quota", 39), ("accounts", 9), ("metering", 8), ("accounts", 7)]
    assert found == [*by_time, ("quota", 12), ("quota", 11), ("accounts", 3)]


async def test_the_audit_of_one_account_is_asked_of_all(edge: Edge) -> None:
    audited(edge, [], [("quota", 1, 1)], [])

    page = await manage(edge, "GET", "/v1/audit?account_id=acme")

    assert [row["actor"] for row in page.json["rows"]] == [ACTOR]
    assert page.json["next"] is None
    told = [data for subject, data in edge.bus.asked if subject in SUBJECTS]
    assert told == [ReadAudit(account_id="acme").model_dump()] * 3


@pytest.mark.parametrize("silent", SUBJECTS)
async def test_a_part_of_an_audit_is_none(edge: Edge, silent: str) -> None:
    audited(edge, [("accounts", 1, 1)], [("quota", 1, 1)], [("metering", 1, 1)])
    edge.bus.answers[silent] = None

    answer = await manage(edge, "GET", "/v1/audit")

    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "places", [["x", "", ""], ["-1", "", ""], ["1"], ["1", "2"], ["1", "2", "3", "4"], ["9" * 30, "", ""]]
)
async def test_a_made_up_cursor_of_the_audit_is_refused(edge: Edge, places: list[str]) -> None:
    answer = await manage(edge, "GET", f"/v1/audit?cursor={cursor.encode(places)}")

    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "query.cursor")
