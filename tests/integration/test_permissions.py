"""Who may say and hear what on the bus: every user, every subject, each verb, on a real server.

The two tables are written by hand, not derived from contracts/streams.py: a change of what a service
may do has to be made twice, and seen. The server runs with what `services.provisioner.nats_config`
prints for production.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from contracts.accounts import IDENTITIES
from contracts.audit import ReadAudit, read_audit_subject
from contracts.dead_letters import (
    LETTER_SERVICES,
    ListDeadLetters,
    ReadDeadLetter,
    RedriveDeadLetters,
    letters_subject,
)
from contracts.deposit_watcher import CHAIN
from contracts.discovery import ORCHESTRATORS
from contracts.generate import MODULES, messages_of
from contracts.limits import RULES
from contracts.message import Command, Event, LogEntry, ReadLog, read_log_subject
from contracts.signer import GeneratePayments
from contracts.stops import STOPS
from contracts.streams import (
    BUCKET_OWNERS,
    CONSUMERS,
    DEAD_LETTERS,
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
from tilt.servers import nats as servers

NOBODY = ""
READER = "billing"  # an outsider's name
USERS = (*SERVICES, f"reader-{READER}")
EVERYBODY = " ".join(SERVICES)
ALLOWED_ANSWERS = 4  # to one request
SECONDS = 10
NOW = datetime(2031, 5, 17, tzinfo=UTC)

# Subject -> who may publish there.
COMMANDS = {
    "cmd.accounts.add_hook.v1": "cli edge",
    "cmd.accounts.find_identity.v1": "edge",
    "cmd.accounts.get_account.v1": "cli edge",
    "cmd.accounts.issue_api_key.v1": "cli edge",
    "cmd.accounts.list_accounts.v1": "cli edge",
    "cmd.accounts.list_api_keys.v1": "cli edge",
    "cmd.accounts.list_hooks.v1": "cli edge",
    "cmd.accounts.open_account.v1": "cli edge",
    "cmd.accounts.read_audit.v1": "cli edge",
    "cmd.accounts.read_log.v1": "cli edge quota reader-billing",
    "cmd.accounts.remove_hook.v1": "cli edge",
    "cmd.accounts.resume_account.v1": "cli edge",
    "cmd.accounts.revoke_api_key.v1": "cli edge",
    "cmd.accounts.rotate_hook.v1": "cli edge",
    "cmd.accounts.set_payer.v1": "cli edge",
    "cmd.accounts.suspend_account.v1": "cli edge",
    "cmd.deposit_watcher.list_dead_letters.v1": "cli edge",
    "cmd.deposit_watcher.read_dead_letter.v1": "cli edge",
    "cmd.deposit_watcher.read_log.v1": "cli edge quota reader-billing",
    "cmd.deposit_watcher.read_redemptions.v1": "cli edge",
    "cmd.deposit_watcher.redrive_dead_letters.v1": "cli edge",
    "cmd.metering.assign_stream.v1": "edge",
    "cmd.metering.define_meter.v1": "cli edge",
    "cmd.metering.list_meters.v1": "cli edge",
    "cmd.metering.close_usage.v1": "cli edge",
    "cmd.metering.list_dead_letters.v1": "cli edge",
    "cmd.metering.list_sessions.v1": "cli edge",
    "cmd.metering.list_streams.v1": "edge",
    "cmd.metering.query_meter.v1": "cli edge",
    "cmd.metering.query_usage.v1": "cli edge",
    "cmd.metering.read_audit.v1": "cli edge",
    "cmd.metering.read_dead_letter.v1": "cli edge",
    "cmd.metering.read_log.v1": "cli edge quota reader-billing",
    "cmd.metering.read_stream.v1": "cli edge",
    "cmd.metering.record_deliveries.v1": "edge",
    "cmd.metering.record_signed_tickets.v1": "cli edge",
    "cmd.metering.record_usage_events.v1": "cli edge",
    "cmd.metering.retire_meter.v1": "cli edge",
    "cmd.metering.redrive_dead_letters.v1": "cli edge",
    "cmd.quota.assign_plan.v1": "cli edge",
    "cmd.quota.authorize_payment.v1": "edge",
    "cmd.quota.beat_stream.v1": "edge",
    "cmd.quota.begin_stream.v1": "edge",
    "cmd.quota.end_stream.v1": "cli edge",
    "cmd.quota.end_token.v1": "cli edge",
    "cmd.quota.grant_allowances.v1": "edge signer",
    "cmd.quota.grant_credit.v1": "cli edge",
    "cmd.quota.lift_stops.v1": "cli edge",
    "cmd.quota.list_dead_letters.v1": "cli edge",
    "cmd.quota.list_plans.v1": "cli edge",
    "cmd.quota.list_pools.v1": "cli edge",
    "cmd.quota.list_stops.v1": "cli edge",
    "cmd.quota.list_streams.v1": "cli edge",
    "cmd.quota.read_audit.v1": "cli edge",
    "cmd.quota.read_budget.v1": "edge",
    "cmd.quota.read_credit.v1": "cli edge",
    "cmd.quota.read_dead_letter.v1": "cli edge",
    "cmd.quota.read_key_activity.v1": "cli edge",
    "cmd.quota.read_limits.v1": "cli edge",
    "cmd.quota.read_log.v1": "cli edge metering reader-billing",
    "cmd.quota.read_pool.v1": "cli edge",
    "cmd.quota.redrive_dead_letters.v1": "cli edge",
    "cmd.quota.report_networks.v1": "edge",
    "cmd.quota.set_limits.v1": "cli edge",
    "cmd.quota.set_plan.v1": "cli edge",
    "cmd.quota.set_spend_limit.v1": "edge",
    "cmd.quota.set_stops.v1": "cli edge",
    "cmd.quota.set_time_zone.v1": "cli edge",
    "cmd.quota.void_credit.v1": "cli edge",
    "cmd.signer.close_sessions.v1": "edge quota",
    "cmd.signer.generate_payments.v1.0": "edge",
    "cmd.signer.generate_payments.v1.7": "edge",
    "cmd.signer.read_log.v1": "cli deposit_watcher edge metering quota reader-billing",
    "cmd.signer.read_session.v1": "cli edge",
    "cmd.signer.sign_orchestrator_info.v1": "cli discovery edge",
}
# An event is published by the service whose name is in its subject; a dead letter as well.
BUCKETS = {  # who writes, who reads
    IDENTITIES: ("accounts", "edge"),
    CHAIN: ("deposit_watcher", "signer"),
    ORCHESTRATORS: ("discovery", "edge"),
    RULES: ("quota", "edge signer"),
    STOPS: ("quota", "signer"),
}
READERS = {  # stream, durable consumer -> whose it is
    ("SIGNER_EVENTS", "metering-record-usage"): "metering",
    ("QUOTA_EVENTS", "metering-follow-streams"): "metering",
    ("SIGNER_EVENTS", "quota-follow-spend"): "quota",
    ("ACCOUNTS_EVENTS", "quota-follow-accounts"): "quota",
    ("DEPOSIT_WATCHER_EVENTS", "quota-follow-funds"): "quota",
    ("METERING_EVENTS", "quota-follow-tickets"): "quota",
    ("SIGNER_EVENTS", "deposit_watcher-match-tickets"): "deposit_watcher",
    ("ACCOUNTS_EVENTS", "reader-billing"): "reader-billing",
    ("QUOTA_EVENTS", "reader-billing"): "reader-billing",
    ("SIGNER_EVENTS", "reader-billing"): "reader-billing",
    ("METERING_EVENTS", "reader-billing"): "reader-billing",
    ("DEPOSIT_WATCHER_EVENTS", "reader-billing"): "reader-billing",
}
PUBLISHER_OF = {
    "ACCOUNTS_EVENTS": "accounts",
    "QUOTA_EVENTS": "quota",
    "SIGNER_EVENTS": "signer",
    "METERING_EVENTS": "metering",
    "DEPOSIT_WATCHER_EVENTS": "deposit_watcher",
}
OF_A_STREAM = (  # what JetStream's API does to streams; STREAM stands for one's name
    "STREAM.CREATE.STREAM", "STREAM.UPDATE.STREAM", "STREAM.DELETE.STREAM", "STREAM.PURGE.STREAM",
    "STREAM.INFO.STREAM", "STREAM.MSG.GET.STREAM", "STREAM.MSG.DELETE.STREAM", "STREAM.SNAPSHOT.STREAM",
    "STREAM.RESTORE.STREAM", "STREAM.LEADER.STEPDOWN.STREAM", "STREAM.PEER.REMOVE.STREAM",
    "DIRECT.GET.STREAM", "DIRECT.GET.STREAM.a.key", "CONSUMER.LIST.STREAM", "CONSUMER.NAMES.STREAM",
    "CONSUMER.CREATE.STREAM", "CONSUMER.CREATE.STREAM.mine", "CONSUMER.CREATE.STREAM.mine.evt.a",
    "CONSUMER.DURABLE.CREATE.STREAM.mine", "CONSUMER.INFO.STREAM.mine", "CONSUMER.DELETE.STREAM.mine",
    "CONSUMER.MSG.NEXT.STREAM.mine", "CONSUMER.PAUSE.STREAM.mine", "CONSUMER.UNPIN.STREAM.mine",
    "CONSUMER.LEADER.STEPDOWN.STREAM.mine", "CONSUMER.RESET.STREAM.mine",
)  # fmt: skip
OF_A_READER = (
    "STREAM.INFO.STREAM", "STREAM.MSG.GET.STREAM", "DIRECT.GET.STREAM.a.key",
    "CONSUMER.CREATE.STREAM", "CONSUMER.CREATE.STREAM.mine", "CONSUMER.CREATE.STREAM.mine.evt.a",
    "CONSUMER.INFO.STREAM.mine", "CONSUMER.DELETE.STREAM.mine",
)  # fmt: skip
OF_THE_SERVER = (
    "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.META.LEADER.STEPDOWN",
    "$JS.API.SERVER.REMOVE", "$JS.API.ACCOUNT.PURGE.A", "$JS.API.ACCOUNT.STREAM.MOVE.A.B",
    "$JS.EVENT.ADVISORY.STREAM.DELETED.A", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ",
    "$SYS.REQ.SERVER.N.RELOAD", "$SRV.PING", "_INBOX.any", "any", "evt.any", "cmd.any", "dead.any",
)  # fmt: skip


def publishing() -> dict[str, str]:
    """Every subject there is, by who may publish it."""
    table = dict(COMMANDS)
    for subject in _subjects(Event):
        table[subject] = subject.split(".")[1]
    for user in USERS:
        table[f"dead.{user}"] = user if user in {*SERVICES} - {"cli"} else NOBODY
        table[f"_INBOX_{user}.a"] = NOBODY
    table |= dict.fromkeys(OF_THE_SERVER, NOBODY)
    for stream in [*map(stream_of, PUBLISHERS), DEAD_LETTERS, *(f"KV_{bucket}" for bucket in BUCKETS)]:
        table |= _of_stream(stream)
    for (stream, durable), service in READERS.items():
        table[f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"] = service
        table[f"$JS.API.CONSUMER.INFO.{stream}.{durable}"] = service
        table[f"$JS.API.CONSUMER.DELETE.{stream}.{durable}"] = NOBODY
        table[f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{durable}"] = NOBODY
        table[f"$JS.ACK.{stream}.{durable}.1.1.1.1.0"] = service
    for bucket, (owner, reader) in BUCKETS.items():
        table[f"$KV.{bucket}.heartbeat"] = table[f"$KV.{bucket}.1.a.key"] = owner
        table[f"$JS.ACK.KV_{bucket}.mine.1.1.1.1.0"] = reader
    table["$JS.FC.KV_chain.mine.a"] = "edge signer"
    return table


def _of_stream(stream: str) -> dict[str, str]:
    owner, reader = BUCKETS.get(stream.removeprefix("KV_"), (NOBODY, NOBODY))
    may = dict.fromkeys(OF_A_STREAM, NOBODY) | dict.fromkeys(OF_A_READER, reader)
    may["STREAM.PURGE.STREAM"] = owner
    if stream in PUBLISHER_OF:  # a publisher looks whether its own stream is ahead of its log
        may["STREAM.MSG.GET.STREAM"] = PUBLISHER_OF[stream]
    return {f"$JS.API.{_named(call, stream)}": who for call, who in may.items()}


def _named(call: str, stream: str) -> str:
    """`STREAM` as a whole token stands for the stream's name, but for the first."""
    first, *others = call.split(".")
    return ".".join([first, *(stream if token == "STREAM" else token for token in others)])


def hearing() -> dict[str, str]:
    """Subjects and wildcards, by who may subscribe to them."""
    table = {f"cmd.{service}.>": service if service in PUBLISHERS else NOBODY for service in SERVICES}
    table |= {subject: subject.split(".")[1] for subject in COMMANDS}
    table |= {f"_INBOX_{user}.>": user for user in USERS}
    table |= {f"_INBOX_{user}.abc.*": user for user in USERS}
    table |= dict.fromkeys(_subjects(Event), NOBODY)
    table |= {f"$KV.{bucket}.>": NOBODY for bucket in BUCKETS}
    nothing = (">", "*", "*.>", "cmd.>", "cmd.*.>", "cmd.*.read_log.v1", "evt.>", "evt.*.>", "dead.>",
               "$JS.>", "$JS.API.>", "$JS.ACK.>", "$JS.EVENT.>", "$KV.>", "$SYS.>", "$SRV.>", "_INBOX.>",
               "*.abc", "_INBOX_edge", "any")  # fmt: skip
    return table | dict.fromkeys(nothing, NOBODY)


def _subjects(kind: type[Command | Event]) -> set[str]:
    return {model.subject for model in _models(kind)}


def _models[Kind: Command | Event](kind: type[Kind]) -> list[type[Kind]]:
    return [
        model
        for module in MODULES
        for model in messages_of(module)
        if issubclass(model, kind) and hasattr(model, "subject")
    ]


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
    commands = _subjects(Command) - {ReadLog.subject, ReadAudit.subject, GeneratePayments.subject}
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
    understood = {model.__name__ for model in _models(Command) if _is_understood(model, sent.data)}
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
