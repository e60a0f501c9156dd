"""The named steps at which a process can be killed: which function of ours, before or after it.

Nothing of this is in the services. A process that runs under `stepped` looks at each step for a
file of its own, and ends itself there if the file says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


def always(*_: Any) -> bool:
    return True


def saves(*topics: str) -> Callable[..., bool]:
    """When events of these topics are among what `insert_events` or `_append` stores."""

    def due(*arguments: Any) -> bool:
        events: Sequence[Any] = arguments[-1]
        return any(event.topic in topics for event in events)

    return due


def stores(*arguments: Any) -> bool:
    """When there are any events."""
    return bool(arguments[-1])


def puts(prefix: str) -> Callable[..., bool]:
    """When the entry of a bucket, that `put` or `drop` is about, has such a key."""

    def due(_writer: Any, key: str, *_: Any) -> bool:
        return key.startswith(prefix)

    return due


def hears_of_a_stop(_reader: Any, entry: Any, *_: Any) -> bool:
    return ".stop." in entry.key


def applies_payments(_inbox: Any, entries: Sequence[Any], *_: Any) -> bool:
    return any("payment_signed" in entry.subject for entry in entries)


@dataclass(frozen=True, slots=True)
class Step:
    """`target` is `module:name` or `module:Class.name`; `when` sees its arguments, self first."""

    name: str
    target: str
    after: bool  # else before
    when: Callable[..., bool] = always
    finds: bool = False  # only if the function returned something
    rare: bool = False  # whoever comes there first dies


SAVE = "shared.store:ThinRecorder.insert_events"
APPEND = "shared.store:ThinRecorder._append"
APPLY = "shared.inbox:Inbox._apply_in_one"
RELAY_READ = "shared.relay:Relay._read"
RELAY_PUBLISH = "shared.relay:Relay._publish"
SIGN = "services.signer.deciding:sign_tickets"
REPLY = "services.signer.handlers:Payments._publish"
PUT = "shared.bucket:BucketWriter.put"
DROP = "shared.bucket:BucketWriter.drop"
HEAR = "shared.bucket:BucketReader._take"
GRANT = "services.quota.application:Quota.grant_all"
LIMIT = "services.quota.limiting:Limiting.set_limits"
CREDIT = "services.quota.limiting:Limiting.grant_credit"
STOP = "services.quota.stopping:Stopping.set_stops"
TAKE_BACK = "services.quota.closing:Closing._close"
CLOSE = "services.signer.application:Signing.close_all"
OBSERVE = "services.deposit_watcher.application:Watching.observe"
SEND = "services.edge.line:Line._send"
TAKE = "services.edge.line:Line.take_answers"

PAYMENT = saves("signer.payment_signed")
ALLOWANCE = saves("quota.allowance_granted")
EFFECT = saves("quota.spend_recorded", "metering.usage_recorded")

RELAYING = (
    Step("relay: between read and publish", RELAY_READ, after=True, finds=True),
    Step("relay: between publish and mark", RELAY_PUBLISH, after=True),
)
FOLLOWING = (
    Step("before effect", APPLY, after=False, when=applies_payments),
    Step("in the transaction of the effect", APPEND, after=True, when=EFFECT),
    Step("between effect and ack", APPLY, after=True, when=applies_payments),
)

# By the process whose replicas can be killed there.
STEPS: dict[str, tuple[Step, ...]] = {
    "signer": (
        Step("before sign", SIGN, after=False),
        Step("after sign", SIGN, after=True),
        Step("before commit", SAVE, after=False, when=PAYMENT),
        Step("after commit", SAVE, after=True, when=PAYMENT),
        Step("before reply", REPLY, after=False),
        Step("after reply", REPLY, after=True),
        Step("before close", CLOSE, after=False),
        Step("after close", CLOSE, after=True),
        Step("after it heard of a stop", HEAR, after=True, when=hears_of_a_stop, rare=True),
    ),
    "signer-relay": RELAYING,
    "quota": (
        Step("before grant", GRANT, after=False),
        Step("in the transaction of a grant", APPEND, after=True, when=ALLOWANCE),
        Step("before commit of a grant", SAVE, after=False, when=ALLOWANCE),
        Step("after grant, before its reply", GRANT, after=True),
        Step("after a limit, before its reply", LIMIT, after=True),
        Step("between a limit's commit and its entry", PUT, after=False, when=puts("user."), rare=True),
        Step("after credit, before its reply", CREDIT, after=True, rare=True),
        Step("after a stop, before its reply", STOP, after=True, rare=True),
        Step("between a stop's commit and its entry", PUT, after=False, when=puts("stop."), rare=True),
        Step("between a lift's commit and its entry", DROP, after=False, when=puts("stop."), rare=True),
        Step("before it asks for leases back", TAKE_BACK, after=False),
        *FOLLOWING,
        *RELAYING,
    ),
    "metering": (*FOLLOWING, *RELAYING),
    "accounts": (
        Step("before commit", SAVE, after=False, when=stores),
        Step("between commit and bucket", PUT, after=False),
        Step("between bucket and reply", PUT, after=True),
        *RELAYING,
    ),
    "deposit_watcher": (
        Step("before effect", OBSERVE, after=False),
        Step("after effect", OBSERVE, after=True),
        Step("between bucket and effect", PUT, after=True),
    ),
    "edge": (
        Step("before publish", SEND, after=False),
        Step("between publish and answer", SEND, after=True),
        Step("before answer", TAKE, after=False),
    ),
}

RECORDED = saves("metering.stream_heard")
# By name: the processes, and what a test of its own kills.
BY_NAME = {
    **STEPS,
    "deliveries": (
        Step("before commit", SAVE, after=False, when=RECORDED),
        Step("after commit", SAVE, after=True, when=RECORDED),
    ),
}
