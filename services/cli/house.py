"""The services, as the command asks them: over the bus, as the user `cli`, each answer within a time."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError

from contracts.message import Command, Message
from services.cli.settings import Settings
from shared.bus import ServiceUnavailableError, ask, connection_options

USER = "cli"
RECONNECTS_MAX = 2


class House:
    """Asks one service after another."""

    def __init__(self, client: Client, settings: Settings, problems: Sequence[str] = ()) -> None:
        self._client = client
        self._problems = problems
        self.settings = settings

    async def ask[Reply: Message](
        self, command: Command, reply: type[Reply], *, subject: str | None = None
    ) -> Reply:
        """Raise CommandRefusedError or ServiceUnavailableError; a command may have been carried out then."""
        try:
            return await ask(
                self._client, command, reply, subject=subject, timeout=self.settings.timeout_seconds
            )
        except ServiceUnavailableError as problem:
            raise ServiceUnavailableError("; ".join([str(problem), *self._problems[-1:]])) from problem


@asynccontextmanager
async def entered(settings: Settings) -> AsyncIterator[House]:
    """Raise ServiceUnavailableError where the bus does not let us in."""
    problems: list[str] = []

    async def on_error(problem: Exception) -> None:
        problems.append(str(problem) or type(problem).__name__)

    # A tool does not wait for ever as services do.
    options: dict[str, Any] = {**connection_options(USER), "max_reconnect_attempts": RECONNECTS_MAX}
    client = Client()
    try:
        urls = settings.nats_url.get_secret_value().split(",")
        await client.connect([url.strip() for url in urls], error_cb=on_error, **options)
    except (nats.errors.Error, OSError, TimeoutError) as problem:
        said = problems[-1] if problems else type(problem).__name__
        raise ServiceUnavailableError(f"the bus does not let us in: {said}") from problem
    try:
        yield House(client, settings, problems)
    finally:
        await _close(client)


async def _close(client: Client) -> None:
    try:
        await client.close()
    except (NatsError, OSError):  # what was asked is answered, or was told as missing
        return
