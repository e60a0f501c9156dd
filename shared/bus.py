"""Request/reply and connections on NATS."""

import ssl
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import nats
import structlog
from eventsourcing.persistence import PersistenceError
from faststream import BaseMiddleware
from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.errors import Error as NatsError
from pydantic import TypeAdapter, ValidationError

from contracts.message import Command, Fault, Message, Refusal
from contracts.streams import NATS_VERSION_MIN, inbox_of
from shared.refusal import Refused

log = structlog.get_logger()

REPLY_TIMEOUT_SECONDS = 1.5  # an answer over HTTP takes two seconds at most


class CommandRefusedError(Exception):
    """The service said no; `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class ServiceUnavailableError(Exception):
    """Nobody answered in time, or the one who did could not do it now."""


def connection_options(service: str) -> dict[str, Any]:
    """One set of options for both clients: reconnect for ever, wait briefly, buffer little."""
    return {
        "name": service,
        "inbox_prefix": inbox_of(service).encode(),
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.25,
        "connect_timeout": 2,
        "ping_interval": 1,  # a server that hangs is noticed in three seconds
        "max_outstanding_pings": 2,
        "pending_size": 8 * 1024 * 1024,
    }


async def connect(service: str, url: str) -> Client:
    """A raw connection, refused with a clear message if the server is too old."""

    async def on_error(problem: Exception) -> None:
        log.warning("nats_problem", problem=str(problem) or type(problem).__name__)

    client = await nats.connect(url.split(","), error_cb=on_error, **connection_options(service))
    version = client.connected_server_version
    if (version.major, version.minor) < NATS_VERSION_MIN:
        await client.close()
        wanted = ".".join(map(str, NATS_VERSION_MIN))
        msg = f"nats-server {version.major}.{version.minor} is too old: {wanted} or newer is needed"
        raise RuntimeError(msg)
    return client


def make_broker(service: str, url: str) -> NatsBroker:
    """The broker that serves a service's commands; every command gets a reply."""
    return NatsBroker(url.split(","), logger=None, middlewares=[Answering], **connection_options(service))


class Answering(BaseMiddleware[Any]):
    """Turns what a command handler raises into a reply, so that no caller waits in vain."""

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        try:
            return await call_next(msg)
        except Refused as refused:
            return Refusal(code=refused.code, message=str(refused))
        except (ValidationError, ValueError) as problem:
            return Refusal(code="bad_command", message=str(problem))
        except PersistenceError as problem:
            log.warning("command_waits", subject=msg.raw_message.subject, problem=repr(problem))
            return Fault(message=type(problem).__name__)
        except Exception as problem:
            log.exception("command_failed", subject=msg.raw_message.subject)
            return Fault(message=type(problem).__name__)


async def ask[Reply: Message](
    client: Client,
    command: Command,
    reply: type[Reply],
    *,
    subject: str | None = None,
    timeout: float = REPLY_TIMEOUT_SECONDS,
) -> Reply:
    """Send a command and wait for its reply.

    Raises CommandRefusedError or ServiceUnavailableError; never waits past `timeout` seconds.
    """
    to = subject or command.subject
    try:
        message = await client.request(to, command.model_dump_json().encode(), timeout=timeout)
        return read_reply(message.data, reply)
    except (NatsError, TimeoutError, ConnectionError, ssl.SSLError) as problem:
        raise ServiceUnavailableError(f"{to}: {type(problem).__name__}") from problem


@cache
def _answers(reply: type[Message]) -> TypeAdapter[Message]:
    """Made once for each kind of reply: making one takes longer than reading most replies."""
    return TypeAdapter(reply | Refusal | Fault)  # type: ignore[arg-type] # a union made at run time


def read_reply[Reply: Message](data: bytes, reply: type[Reply]) -> Reply:
    try:
        answer = _answers(reply).validate_json(data)
    except ValidationError as problem:
        raise ServiceUnavailableError(f"unreadable reply: {problem}") from problem
    if isinstance(answer, Refusal):
        raise CommandRefusedError(answer)
    if isinstance(answer, Fault):
        raise ServiceUnavailableError(answer.message)
    assert isinstance(answer, reply)
    return answer
