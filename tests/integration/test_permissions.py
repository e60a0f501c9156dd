"""Who may say and hear what on the bus: every user, every subject, each verb, on a real server.

It runs with what `services.provisioner.nats_config` prints for production, and does what the tables of
`tests.integration.permission_tables` say.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from contracts.audit import ReadAudit, read_audit_subject
from contracts.dead_letters import (
    LETTER_SERVICES,
    ListDeadLetters,
    ReadDeadLetter,
    RedriveDeadLetters,
    letters_subject,
)
from contracts.message import Command, LogEntry, ReadLog, read_log_subject
from contracts.signer import GeneratePayments
from contracts.streams import (
    BUCKET_OWNERS,
    CONSUMERS,
    PUBLISHERS,
    SERVICES,
    permissions_of,
    reader_consumers,
    reader_permissions,
    reader_user,
    stream_of,
)
from services.provisioner import bus, nats_config
from services.provisioner.settings import ProvisionerSettings
from shared.bus import connect
from tests import infra
from tests.integration.bus_line import Line
from tests.integration.permission_tables import (
    BUCKETS,
    COMMANDS,
    READER,
    READERS,
    USERS,
    hearing,
    models_of,
    publishing,
    subjects_of,
)
from tilt.servers import nats as servers

ALLOWED_ANSWERS = 4  # to one request
SECONDS = 10
NOW = datetime(2031, 5, 17, tzinfo=UTC)
PUBLISHING, HEARING = publishing(), hearing()
PASSWORDS = {user: f"{user}-password" for user in USERS}
PERMISSIONS = {service: permissions_of(service) for service in SERVICES}
PERMISSIONS[reader_user(READER)] = reader_permissions(READER)
NATS_USERS = tuple(
    servers.User(user, PASSWORDS[user], may.publish, may.subscribe, may.responds)
    for user, may in PERMISSIONS.items()
)


@pytest.fixture(scope="module")
def provisioned(nats: infra.Nats) -> infra.Nats:
    """The server with all that the provisioner makes."""

    async def provision() -> None:
        client = await connect("admin", nats.url())
        settings = ProvisionerSettings(
            nats_url=nats.url(), http_port=0, max_bytes=64 * 1024**2, readers=READER
        )
        await bus.ensure(client, settings)
        await client.close()

    asyncio.run(provision())
    return nats


@pytest.fixture
def witness(provisioned: infra.Nats) -> Iterator[Line]:
    with Line(provisioned, "admin") as line:
        line.subscribe(">")
        line.flush()
        yield line


def test_the_tables_know_all_there_is() -> None:
    of_several = (ListDeadLetters, ReadDeadLetter, RedriveDeadLetters)
    commands = subjects_of(Command) - {ReadLog.subject, ReadAudit.subject, GeneratePayments.subject}
    commands -= {command.subject for command in of_several}
    letters = {letters_subject(service, each) for service in LETTER_SERVICES for each in of_several}
    logs = {read_log_subject(publisher) for publisher in PUBLISHERS}
    audits = {read_audit_subject(service) for service in ("accounts", "quota", "metering")}
    partitions = {f"{GeneratePayments.subject}.{partition}" for partition in (0, 7)}

    assert set(COMMANDS) == commands | logs | audits | letters | partitions
    assert {bucket: owner for bucket, (owner, _) in BUCKETS.items()} == BUCKET_OWNERS
    consumers = (*CONSUMERS, *reader_consumers(READER))
    assert set(READERS) == {(stream_of(each.publisher), each.durable) for each in consumers}


def test_the_local_server_has_the_users_that_are_printed_for_production(tmp_path: Path) -> None:
    users = [servers.admin("admin-password"), *NATS_USERS]
    servers.Config(tmp_path / "store", 4222, users).write(tmp_path / "nats.conf")

    [_, *local] = json.loads((tmp_path / "nats.conf").read_text())["authorization"]["users"]

    [administrator, *printed] = nats_config.authorization(PASSWORDS, "admin-password", [READER])["users"]
    assert local == printed
    assert administrator["user"] == "admin"


@pytest.mark.parametrize("service", USERS)
def test_a_service_says_what_the_table_lets_it_and_nothing_else(
    provisioned: infra.Nats, service: str
) -> None:
    mine = {subject for subject, who in PUBLISHING.items() if service in who.split()}

    with Line(provisioned, service) as line:
        refused = line.refused_of(PUBLISHING, verb="publish")

    assert refused == set(PUBLISHING) - mine


@pytest.mark.parametrize("service", USERS)
def test_a_service_hears_what_the_table_lets_it_and_nothing_else(
    provisioned: infra.Nats, service: str
) -> None:
    mine = {subject for subject, who in HEARING.items() if service in who.split()}

    with Line(provisioned, service) as line:
        refused = line.refused_of(HEARING, verb="subscribe")

    assert refused == set(HEARING) - mine


def test_what_is_refused_reaches_nobody(provisioned: infra.Nats, witness: Line) -> None:
    foreign = [subject for subject, who in PUBLISHING.items() if "metering" not in who.split()]
    with Line(provisioned, "metering") as line:
        for subject in foreign:
            line.publish(subject, b"not mine to say")
        line.publish("dead.metering", b"mine")
        line.flush()

    _until(witness, lambda: any(heard.data == b"mine" for heard in witness.heard))

    assert not [heard for heard in witness.heard if heard.data == b"not mine to say"]


@pytest.mark.parametrize("service", PUBLISHERS)
def test_a_request_may_be_answered_a_few_times_where_it_wants_and_nowhere_else(
    provisioned: infra.Nats, service: str
) -> None:
    with Line(provisioned, service) as asked, Line(provisioned, "admin") as asker:
        asked.subscribe(f"cmd.{service}.>")
        asked.flush()
        asker.subscribe("_INBOX_edge.>")
        asker.publish(f"cmd.{service}.read_log.v1", reply="_INBOX_edge.one")
        asker.flush()
        _until(asked, lambda: bool(asked.heard))

        asked.publish("_INBOX_edge.another")
        for _ in range(ALLOWED_ANSWERS):
            asked.publish("_INBOX_edge.one")
        asked.flush()
        allowed = set(asked.refused)
        asked.publish("_INBOX_edge.one")
        asked.flush()

        assert allowed == {"_INBOX_edge.another"}
        assert asked.refused == {"_INBOX_edge.another", "_INBOX_edge.one"}
        asker.flush()
        assert [heard.subject for heard in asker.heard] == ["_INBOX_edge.one"] * ALLOWED_ANSWERS


@pytest.mark.parametrize("service", sorted(set(USERS) - set(PUBLISHERS)))
def test_who_serves_nothing_answers_nothing(provisioned: infra.Nats, service: str) -> None:
    with Line(provisioned, service) as asked, Line(provisioned, "admin") as asker:
        asked.subscribe(f"_INBOX_{service}.>")
        asked.flush()
        asker.publish(f"_INBOX_{service}.a", reply="_INBOX_quota.victim")
        asker.flush()
        _until(asked, lambda: bool(asked.heard))

        asked.publish("_INBOX_quota.victim")
        asked.flush()

        assert asked.refused == {"_INBOX_quota.victim"}


@pytest.mark.parametrize("bucket", BUCKETS)
def test_the_writer_of_a_bucket_cannot_have_the_server_say_it_to_another_service(
    provisioned: infra.Nats, bucket: str
) -> None:
    """JetStream sends what is read wherever the reader wishes, whatever the reader may say itself."""
    owner, _ = BUCKETS[bucket]
    victim = "cmd.quota.set_spend_limit.v1"
    wish = b'{"account_id": "mine", "spend_limit": "1000000000000000000"}'
    consumer = {"deliver_subject": victim, "ack_policy": "none", "deliver_policy": "all", "name": "mine"}
    creation = json.dumps({"stream_name": f"KV_{bucket}", "config": consumer}).encode()
    with Line(provisioned, "quota") as quota, Line(provisioned, owner) as writer:
        quota.subscribe(victim)
        quota.flush()
        writer.publish(f"$KV.{bucket}.1.wish", wish)
        writer.publish(f"$JS.API.CONSUMER.CREATE.KV_{bucket}.mine", creation)
        writer.publish(f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.1.wish", b"", reply=victim)
        writer.flush()
        with Line(provisioned, "edge") as edge:
            edge.publish(victim, b"the last")
            edge.flush()
        _until(quota, lambda: any(heard.data == b"the last" for heard in quota.heard))

        assert [heard.data for heard in quota.heard] == [b"the last"]
        assert len(writer.refused) == 2


def test_an_entry_that_a_reader_has_sent_somewhere_is_no_command_that_changes_anything(
    provisioned: infra.Nats,
) -> None:
    """JetStream sends what is fetched wherever the reader wishes; the reader does not choose the words."""
    entry = LogEntry(epoch=1, position=3, previous_position=0, subject="evt.a.b.v1", at=NOW, event={})
    with Line(provisioned, "admin") as admin, Line(provisioned, reader_user(READER)) as reader:
        admin.subscribe("cmd.quota.>")
        admin.publish("evt.signer.session_closed.v1", entry.model_dump_json().encode())
        admin.flush()
        fetch = f"$JS.API.CONSUMER.MSG.NEXT.SIGNER_EVENTS.reader-{READER}"
        reader.publish(fetch, b'{"batch":1}', reply="cmd.quota.set_spend_limit.v1")
        reader.flush()
        _until(admin, lambda: bool(admin.heard))

    [sent] = admin.heard
    understood = {model.__name__ for model in models_of(Command) if _is_understood(model, sent.data)}
    assert understood
    assert {name for name in understood if not name.startswith(("List", "Query", "Read"))} == set()


def _is_understood(model: type[BaseModel], data: bytes) -> bool:
    try:
        model.model_validate_json(data)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("user", "password"), [("signer", "wrong"), ("nobody", "wrong"), ("", "")])
def test_nobody_gets_in_without_the_password(provisioned: infra.Nats, user: str, password: str) -> None:
    stranger = servers.User(user, password)
    there = infra.Nats(provisioned.host, provisioned.port, {user: stranger})

    with pytest.raises(PermissionError, match="Authorization Violation"):
        Line(there, user)


def _until(line: Line, heard: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    line.flush()
    while not heard():
        assert time.monotonic() < deadline
        time.sleep(0.01)
        line.flush()
