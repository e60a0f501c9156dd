"""Everything that a running world lets out: logs, metrics, bus, stored rows, command lines, files."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import psycopg
from nats.aio.msg import Msg
from psycopg.sql import SQL, Identifier

from contracts.streams import PUBLISHERS
from tests.acceptance.system import System

# Where secrets are kept, for their owner's eyes only.
KEPT = ("secrets.json", "*.key", "nats.conf")
OURS = ("edge", "accounts", "quota", "metering", "signer", "signer-relay", "deposit_watcher", "discovery")
ZLIB_FIRST_BYTE = 0x78

type Output = tuple[str, bytes]  # where, what


def files(directory: Path) -> list[Path]:
    """All that the world has on disk: logs, both servers' stores; but for what is kept secret."""
    return [
        path
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and not any(path.match(kept) for kept in KEPT)
    ]


def kept_files(directory: Path) -> list[Path]:
    return [path for kept in KEPT for path in directory.rglob(kept)]


async def metrics(system: System) -> list[Output]:
    return [
        (f"/metrics of {process}", (await system.send("GET", f"{url}/metrics")).body)
        for process in OURS
        for url in [system.world.health_url(process)]
    ]


def stored(dsn: str) -> Iterator[Output]:
    """Every row of every table of every service, as text; stored events unpacked."""
    tables = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s)"
    with psycopg.connect(dsn) as connection:
        for schema, table in connection.execute(tables, (list(PUBLISHERS),)).fetchall():
            rows = connection.execute(SQL("SELECT t::text FROM {} t").format(Identifier(schema, table)))
            yield f"table {schema}.{table}", "\n".join(row[0] for row in rows).encode()
        for publisher in PUBLISHERS:
            events = Identifier(publisher, f"{publisher}_events")
            for topic, state in connection.execute(SQL("SELECT topic, state FROM {}").format(events)):
                yield f"event {topic}", _unpacked(bytes(state))


def _unpacked(state: bytes) -> bytes:
    return zlib.decompress(state) if state[:1] == bytes([ZLIB_FIRST_BYTE]) else state


def command_lines() -> list[Output]:
    """Of every process of the machine: none of them has a secret of ours."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(("a command line", path.read_bytes()))
        except OSError:
            continue  # it has ended
    return found


def _family(subject: str) -> str:
    """Without what makes each subject one of its own: keys, partitions, inboxes."""
    tokens = subject.split(".")
    return ".".join(tokens[: 1 if subject.startswith("_INBOX") else 4])


@asynccontextmanager
async def everything_on_the_bus(system: System) -> AsyncIterator[list[Output]]:
    """What is said on any subject, headers included, from now on."""
    said: list[Output] = []
    client = await nats.connect(system.world.nats_url("admin"))

    async def note(message: Msg) -> None:
        headers = "".join(f"{key}: {value}\n" for key, value in (message.headers or {}).items())
        said.append((_family(message.subject), headers.encode() + message.data))

    await client.subscribe(">", cb=note)
    await client.flush()
    try:
        yield said
        await client.flush()
        await asyncio.sleep(0)  # what has come is handled before this ends
    finally:
        await client.close()
