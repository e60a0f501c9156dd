import json
from typing import Any

import pytest

from contracts.discovery import Orchestrator, OrchestratorsObserved, Runner, RunnerGpu, RunnerPrice
from services.edge.discovery import ObservedOrchestrators, OrchestratorsUnknownError

ONE, TWO, BARE = "https://one.example:8935", "https://two.example:8935", "https://bare.example:8935"
RUNNER = Runner(
    url=f"{ONE}/apps/a/session",
    app="live/a",
    gpu=RunnerGpu(name="A GPU", vram_mb=24_000),
    metadata='{"region": "ü"}',
    mode="persistent",
    capacity=3,
    capacity_available=3,
    price_info=RunnerPrice(price="1.012e+16", currency="wei", unit="seconds"),
)
BARE_RUNNER = Runner(
    url="u", app="x", price_info=RunnerPrice(price="0.10000000000000000001", currency="WEI", unit="fixed")
)


class Bucket:
    """A copy of the bucket, as a test says it is."""

    def __init__(self, *orchestrators: Orchestrator) -> None:
        self.entry: bytes | None = None
        self.put(*orchestrators)

    def put(self, *orchestrators: Orchestrator) -> None:
        observed = OrchestratorsObserved(observed_at_ms=1, orchestrators=list(orchestrators))
        self.entry = observed.model_dump_json().encode()

    def get(self, key: str) -> bytes | None:
        assert key == "snapshot"
        return self.entry


@pytest.fixture
def bucket() -> Bucket:
    return Bucket(
        Orchestrator(address=ONE, capabilities=["live/a", "live/b"], runners=[RUNNER]),
        Orchestrator(address=TWO, capabilities=["live/b"], runners=[]),
        Orchestrator(address=BARE, capabilities=[], runners=[BARE_RUNNER]),
    )


def addresses(found: bytes) -> list[Any]:
    return [one["address"] for one in json.loads(found)]


def test_answers_what_go_livepeer_would_in_its_order_and_with_its_omissions(bucket: Bucket) -> None:
    found = ObservedOrchestrators(bucket).find([])

    assert found.decode() == (
        '[{"address":"https://one.example:8935","score":1,"capabilities":["live/a","live/b"],"runners":'
        '[{"url":"https://one.example:8935/apps/a/session","gpu":{"name":"A GPU","vram_mb":24000},'
        '"app":"live/a","metadata":"{\\"region\\": \\"ü\\"}","mode":"persistent","capacity":3,'
        '"capacity_used":0,"capacity_available":3,'
        '"price_info":{"price":1.012e+16,"currency":"wei","unit":"seconds"}}]},'
        '{"address":"https://two.example:8935","score":1,"capabilities":["live/b"]},'
        '{"address":"https://bare.example:8935","score":1,"runners":[{"url":"u","app":"x","capacity":0,'
        '"capacity_used":0,"capacity_available":0,'
        '"price_info":{"price":0.10000000000000000001,"currency":"WEI","unit":"fixed"}}]}]'
    )


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([], [ONE, TWO, BARE]),
        (["", ""], [ONE, TWO, BARE]),
        (["live/b"], [ONE, TWO]),
        (["live/a", "", "live/b"], [ONE, TWO]),
        (["live/b", "live/b"], [ONE, TWO]),
        (["nothing", "live/a"], [ONE]),
        (["nothing"], []),
        (["live"], []),
        (["LIVE/A"], []),
        (["live/a "], []),
    ],
)
def test_any_of_the_capabilities_matches_exactly_and_in_their_order(
    bucket: Bucket, capabilities: list[str], expected: list[str]
) -> None:
    assert addresses(ObservedOrchestrators(bucket).find(capabilities)) == expected


def test_the_order_is_that_of_the_capabilities_asked_for() -> None:
    bucket = Bucket(
        Orchestrator(address=ONE, capabilities=["a"], runners=[]),
        Orchestrator(address=TWO, capabilities=["b", "b"], runners=[]),
    )

    assert addresses(ObservedOrchestrators(bucket).find(["b", "a"])) == [TWO, ONE]


def test_a_new_snapshot_is_answered_at_once(bucket: Bucket) -> None:
    orchestrators = ObservedOrchestrators(bucket)
    orchestrators.find([])

    bucket.put(Orchestrator(address=TWO, capabilities=["x"], runners=[]))

    assert addresses(orchestrators.find(["x"])) == [TWO]
    assert addresses(orchestrators.find(["live/a"])) == []


def test_before_the_first_snapshot_and_with_an_empty_one_nothing_is_known(bucket: Bucket) -> None:
    bucket.entry = None
    orchestrators = ObservedOrchestrators(bucket)
    with pytest.raises(OrchestratorsUnknownError):
        orchestrators.find([])

    bucket.put()
    with pytest.raises(OrchestratorsUnknownError):
        orchestrators.find(["live/a"])


def test_while_the_bucket_is_read_anew_the_last_snapshot_stays(bucket: Bucket) -> None:
    orchestrators = ObservedOrchestrators(bucket)
    orchestrators.find([])

    bucket.entry = None

    assert addresses(orchestrators.find([])) == [ONE, TWO, BARE]


@pytest.mark.parametrize("price", ["1}", "01", "NaN", "", '1,"x":2', "1\n"])
def test_a_snapshot_that_cannot_be_read_answers_nothing(bucket: Bucket, price: str) -> None:
    orchestrators = ObservedOrchestrators(bucket)
    entry = json.loads(bucket.entry or b"")
    entry["orchestrators"][0]["runners"][0]["price_info"]["price"] = price
    bucket.entry = json.dumps(entry).encode()

    with pytest.raises(OrchestratorsUnknownError):
        orchestrators.find([])
