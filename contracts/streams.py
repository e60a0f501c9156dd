"""What exists on the bus: streams, durable consumers, buckets, and who may say what.

The provisioner makes it so; services only bind.
"""

from dataclasses import dataclass

from contracts.accounts import IDENTITIES
from contracts.deposit_watcher import CHAIN
from contracts.discovery import ORCHESTRATORS
from contracts.limits import RULES
from contracts.message import read_log_subject
from contracts.stops import STOPS

DEAD_LETTERS = "DEAD_LETTERS"
DEAD_SUBJECT = "dead"
READER_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}$"  # of a reader's name
NATS_VERSION_MIN = (2, 11)  # earlier servers silently ignore filter_subjects and message TTL

PUBLISHERS = ("accounts", "quota", "signer", "metering", "deposit_watcher")
SERVICES = ("edge", "discovery", "cli", *PUBLISHERS)  # `cli` is the operator's command, and serves nothing


def stream_of(publisher: str) -> str:
    return f"{publisher.upper()}_EVENTS"


@dataclass(frozen=True, slots=True)
class Consumer:
    """A durable reader of a publisher's whole stream; its name is its identity."""

    service: str
    publisher: str
    purpose: str

    @property
    def durable(self) -> str:
        return f"{self.service}-{self.purpose}"


CONSUMERS = (
    Consumer("metering", "signer", "record-usage"),
    Consumer("metering", "quota", "follow-streams"),
    Consumer("quota", "signer", "follow-spend"),
    Consumer("quota", "accounts", "follow-accounts"),
    Consumer("quota", "deposit_watcher", "follow-funds"),
    Consumer("quota", "metering", "follow-tickets"),
    Consumer("deposit_watcher", "signer", "match-tickets"),
)

BUCKET_OWNERS = {
    IDENTITIES: "accounts",
    CHAIN: "deposit_watcher",
    ORCHESTRATORS: "discovery",
    RULES: "quota",
    STOPS: "quota",
}
BUCKET_READERS = {
    IDENTITIES: ("edge",),
    CHAIN: ("signer",),
    ORCHESTRATORS: ("edge",),
    RULES: ("signer", "edge"),
    STOPS: ("signer",),
}

# Who may command whom, by subject (below the kind `cmd`).
COMMANDS = {
    "edge": (
        "cmd.accounts.>",
        "cmd.quota.>",
        "cmd.signer.>",
        "cmd.metering.>",
        "cmd.deposit_watcher.read_log.v1",
        "cmd.deposit_watcher.read_redemptions.v1",
        "cmd.deposit_watcher.list_dead_letters.v1",
        "cmd.deposit_watcher.read_dead_letter.v1",
        "cmd.deposit_watcher.redrive_dead_letters.v1",
    ),
    "signer": ("cmd.quota.grant_allowances.v1",),
    "quota": ("cmd.signer.close_sessions.v1",),
    "discovery": ("cmd.signer.sign_orchestrator_info.v1",),
    # What an operator decides, and reads; nothing of what gateways and services ask for themselves.
    "cli": (
        "cmd.accounts.add_hook.v1",
        "cmd.accounts.get_account.v1",
        "cmd.accounts.issue_api_key.v1",
        "cmd.accounts.list_accounts.v1",
        "cmd.accounts.list_api_keys.v1",
        "cmd.accounts.list_hooks.v1",
        "cmd.accounts.open_account.v1",
        "cmd.accounts.read_audit.v1",
        "cmd.accounts.remove_hook.v1",
        "cmd.accounts.resume_account.v1",
        "cmd.accounts.revoke_api_key.v1",
        "cmd.accounts.rotate_hook.v1",
        "cmd.accounts.set_payer.v1",
        "cmd.accounts.suspend_account.v1",
        "cmd.deposit_watcher.list_dead_letters.v1",
        "cmd.deposit_watcher.read_dead_letter.v1",
        "cmd.deposit_watcher.read_redemptions.v1",
        "cmd.metering.define_meter.v1",
        "cmd.metering.list_meters.v1",
        "cmd.deposit_watcher.redrive_dead_letters.v1",
        "cmd.metering.close_usage.v1",
        "cmd.metering.list_dead_letters.v1",
        "cmd.metering.list_sessions.v1",
        "cmd.metering.query_meter.v1",
        "cmd.metering.query_usage.v1",
        "cmd.metering.record_usage_events.v1",
        "cmd.metering.retire_meter.v1",
        "cmd.metering.read_audit.v1",
        "cmd.metering.read_dead_letter.v1",
        "cmd.metering.read_stream.v1",
        "cmd.metering.record_signed_tickets.v1",
        "cmd.metering.redrive_dead_letters.v1",
        "cmd.quota.assign_plan.v1",
        "cmd.quota.end_stream.v1",
        "cmd.quota.end_token.v1",
        "cmd.quota.grant_credit.v1",
        "cmd.quota.lift_stops.v1",
        "cmd.quota.list_dead_letters.v1",
        "cmd.quota.list_plans.v1",
        "cmd.quota.list_pools.v1",
        "cmd.quota.list_stops.v1",
        "cmd.quota.list_streams.v1",
        "cmd.quota.read_audit.v1",
        "cmd.quota.read_credit.v1",
        "cmd.quota.read_dead_letter.v1",
        "cmd.quota.read_key_activity.v1",
        "cmd.quota.read_limits.v1",
        "cmd.quota.read_pool.v1",
        "cmd.quota.redrive_dead_letters.v1",
        "cmd.quota.set_limits.v1",
        "cmd.quota.set_plan.v1",
        "cmd.quota.set_stops.v1",
        "cmd.quota.set_time_zone.v1",
        "cmd.quota.void_credit.v1",
        "cmd.signer.read_session.v1",
        "cmd.signer.sign_orchestrator_info.v1",
        *map(read_log_subject, PUBLISHERS),
    ),
}


@dataclass(frozen=True, slots=True)
class Permissions:
    """What one NATS user may do. `responds`: may answer the requests it gets."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    responds: bool


def permissions_of(service: str) -> Permissions:
    """The subjects of one service, and nothing else (design §3)."""
    publish = [*COMMANDS.get(service, ())]
    if service != "cli":  # it reads no log, so it buries nothing
        publish.append(f"{DEAD_SUBJECT}.{service}")
    subscribe = [inbox_of(service) + ".>"]
    if service in PUBLISHERS:
        publish.append(f"evt.{service}.>")
        # Its own stream's messages, wrapped in JSON: is it ahead of the log?
        publish.append(f"$JS.API.STREAM.MSG.GET.{stream_of(service)}")
        subscribe.append(f"cmd.{service}.>")
    for consumer in CONSUMERS:
        if consumer.service == service:
            publish += _consume(consumer)
    for bucket, owner in BUCKET_OWNERS.items():
        if owner == service:
            publish += [f"$KV.{bucket}.>", f"$JS.API.STREAM.PURGE.KV_{bucket}"]
        # Not the owner: the server sends what is read to any subject the reader names, so who may
        # write and read a bucket may put its words into anybody's command.
        if service in BUCKET_READERS[bucket]:
            publish += _read_bucket(bucket)
    return Permissions(tuple(publish), tuple(subscribe), responds=service in PUBLISHERS)


def inbox_of(service: str) -> str:
    """Each user has its own reply subjects, so that no service hears another's replies."""
    return f"_INBOX_{service}"


def reader_user(name: str) -> str:
    """The NATS user of an outsider who reads the log, and the name of its durable consumers."""
    return f"reader-{name}"


def reader_consumers(name: str) -> tuple[Consumer, ...]:
    """One on each publisher's stream: whoever reads the log may read all of it."""
    return tuple(Consumer("reader", publisher, name) for publisher in PUBLISHERS)


def reader_permissions(name: str) -> Permissions:
    """Read, and nothing else: it answers nobody, makes nothing, and hears only what was meant for it."""
    publish = [subject for consumer in reader_consumers(name) for subject in _consume(consumer)]
    return Permissions(tuple(publish), (inbox_of(reader_user(name)) + ".>",), responds=False)


def _consume(consumer: Consumer) -> list[str]:
    stream, durable = stream_of(consumer.publisher), consumer.durable
    return [
        f"$JS.API.CONSUMER.INFO.{stream}.{durable}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}",
        f"$JS.ACK.{stream}.{durable}.>",
        read_log_subject(consumer.publisher),
    ]


def _read_bucket(bucket: str) -> list[str]:
    stream = f"KV_{bucket}"
    return [
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.DELETE.{stream}.>",
        f"$JS.API.CONSUMER.INFO.{stream}.>",
        f"$JS.API.DIRECT.GET.{stream}.>",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        f"$JS.ACK.{stream}.>",
        "$JS.FC.>",
    ]
