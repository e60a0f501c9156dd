"""Makes the bus what contracts/streams.py says: streams, durable consumers, buckets."""

from collections.abc import AsyncIterator, Sequence

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError

from contracts.streams import (
    BUCKET_OWNERS,
    CONSUMERS,
    DEAD_LETTERS,
    DEAD_SUBJECT,
    PUBLISHERS,
    reader_consumers,
    stream_of,
)
from services.provisioner.settings import ProvisionerSettings, read_names

log = structlog.get_logger()

DUPLICATE_WINDOW_SECONDS = 120
ACK_WAIT_SECONDS = 30
MESSAGE_BYTES_MAX = 1024 * 1024
CHANGEABLE = ("subjects", "max_age", "max_bytes", "max_msg_size", "num_replicas")
BUCKET_BYTES_MAX = 64 * 1024 * 1024


def streams(settings: ProvisionerSettings) -> list[StreamConfig]:
    """Every stream there is, bounded in age and size."""
    subjects = {stream_of(publisher): f"evt.{publisher}.>" for publisher in PUBLISHERS}
    subjects[DEAD_LETTERS] = f"{DEAD_SUBJECT}.>"
    return [
        StreamConfig(
            name=name,
            subjects=[subject],
            retention=RetentionPolicy.LIMITS,
            max_age=settings.max_age_days * 86_400,
            max_bytes=settings.max_bytes,
            max_msg_size=MESSAGE_BYTES_MAX,
            num_replicas=settings.replicas,
            duplicate_window=DUPLICATE_WINDOW_SECONDS,
        )
        for name, subject in subjects.items()
    ] + [_bucket(name, settings) for name in BUCKET_OWNERS]


def _bucket(name: str, settings: ProvisionerSettings) -> StreamConfig:
    """A KV bucket is a stream with one message a subject."""
    return StreamConfig(
        name=f"KV_{name}",
        subjects=[f"$KV.{name}.>"],
        max_msgs_per_subject=1,
        max_bytes=BUCKET_BYTES_MAX,
        discard=DiscardPolicy.NEW,  # a full bucket refuses; it must not lose its oldest keys
        max_msg_size=MESSAGE_BYTES_MAX,
        num_replicas=settings.replicas,
        allow_rollup_hdrs=True,
        allow_direct=True,
        deny_delete=True,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
    )


def consumers(readers: Sequence[str] = ()) -> list[tuple[str, ConsumerConfig]]:
    """Every durable consumer, with its stream. Acknowledging one entry acknowledges all before it."""
    ours_and_theirs = [*CONSUMERS, *(consumer for name in readers for consumer in reader_consumers(name))]
    return [
        (
            stream_of(consumer.publisher),
            ConsumerConfig(
                durable_name=consumer.durable,
                ack_policy=AckPolicy.ALL,
                deliver_policy=DeliverPolicy.ALL,
                ack_wait=ACK_WAIT_SECONDS,
                max_ack_pending=5_000,
            ),
        )
        for consumer in ours_and_theirs
    ]


async def ensure(client: Client, settings: ProvisionerSettings) -> int:
    """Make what is missing; returns how much that was."""
    jetstream = client.jetstream(timeout=5)
    made = 0
    for config in streams(settings):
        made += await _ensure_stream(jetstream, config)
    for stream, consumer in consumers(read_names(settings.readers)):
        made += await _ensure_consumer(jetstream, stream, consumer)
    return made


async def _ensure_stream(jetstream: JetStreamContext, config: StreamConfig) -> bool:
    assert config.name is not None
    try:
        there = (await jetstream.stream_info(config.name)).config
    except NotFoundError:
        await jetstream.add_stream(config)
        log.info("stream_made", stream=config.name)
        return True
    declared = {name: getattr(config, name) for name in CHANGEABLE}
    if any(value is not None and getattr(there, name) != value for name, value in declared.items()):
        await jetstream.update_stream(config)
        log.info("stream_changed", stream=config.name)
        return True
    return False


async def _ensure_consumer(jetstream: JetStreamContext, stream: str, config: ConsumerConfig) -> bool:
    assert config.durable_name is not None
    try:
        await jetstream.consumer_info(stream, config.durable_name)
    except NotFoundError:
        await jetstream.add_consumer(stream, config)
        log.info("consumer_made", stream=stream, consumer=config.durable_name)
        return True
    return False


async def watch(client: Client, settings: ProvisionerSettings) -> AsyncIterator[bool]:
    """Ensure again and again; true once everything is there, false while NATS is away."""
    while True:
        try:
            await ensure(client, settings)
        except (NatsError, TimeoutError) as problem:
            log.warning("provisioning_waits", problem=str(problem) or repr(problem))
            yield False
        else:
            yield True
