"""Stored events as their first version wrote them: they have to be readable for ever."""

import json
from pathlib import Path
from uuid import UUID

import pytest
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import StoredEvent

from services.quota.application import Quota
from shared.money import Wei
from tests.architecture.test_contracts_only_grow import domain_classes

UNIT = Path(__file__).parents[1] / "unit"
GOLDEN: dict[str, dict[str, str]] = {
    service: json.loads((UNIT / service / "golden.json").read_text()) for service in ("signer", "quota")
}
CASES = [(service, topic) for service, rows in GOLDEN.items() for topic in rows]


@pytest.mark.parametrize(("service", "topic"), CASES)
def test_stored_bytes_are_read_and_written_unchanged(service: str, topic: str) -> None:
    mapper = Quota(Wei(0)).mapper  # every application's maps alike
    stored = StoredEvent(UUID(int=1), 1, topic, GOLDEN[service][topic].encode())

    written = mapper.to_stored_event(mapper.to_domain_event(stored))

    assert written == stored


@pytest.mark.parametrize("service", GOLDEN)
def test_every_stored_event_has_its_golden_bytes(service: str) -> None:
    events = {
        found.TOPIC
        for found in domain_classes()
        if found.__module__.startswith(f"services.{service}.")
        and not issubclass(found, Aggregate)
        and not found.TOPIC.endswith(".event")
    }

    assert events == set(GOLDEN[service])
