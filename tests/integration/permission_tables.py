"""Who may say and hear what on the bus, written by hand and not derived from contracts/streams.py.

So a change of what a service may do has to be made twice, and seen.
"""

from contracts.accounts import IDENTITIES
from contracts.deposit_watcher import CHAIN
from contracts.discovery import ORCHESTRATORS
from contracts.generate import MODULES, messages_of
from contracts.limits import RULES
from contracts.message import Command, Event
from contracts.stops import STOPS
from contracts.streams import (
    DEAD_LETTERS,
    PUBLISHERS,
    SERVICES,
    stream_of,
)

NOBODY = ""
READER = "billing"  # an outsider's name
USERS = (*SERVICES, f"reader-{READER}")
EVERYBODY = " ".join(SERVICES)
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
    for subject in subjects_of(Event):
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
    table |= dict.fromkeys(subjects_of(Event), NOBODY)
    table |= {f"$KV.{bucket}.>": NOBODY for bucket in BUCKETS}
    nothing = (">", "*", "*.>", "cmd.>", "cmd.*.>", "cmd.*.read_log.v1", "evt.>", "evt.*.>", "dead.>",
               "$JS.>", "$JS.API.>", "$JS.ACK.>", "$JS.EVENT.>", "$KV.>", "$SYS.>", "$SRV.>", "_INBOX.>",
               "*.abc", "_INBOX_edge", "any")  # fmt: skip
    return table | dict.fromkeys(nothing, NOBODY)


def subjects_of(kind: type[Command | Event]) -> set[str]:
    return {model.subject for model in models_of(kind)}


def models_of[Kind: Command | Event](kind: type[Kind]) -> list[type[Kind]]:
    return [
        model
        for module in MODULES
        for model in messages_of(module)
        if issubclass(model, kind) and hasattr(model, "subject")
    ]
