"""The local world: every server, service and neighbour, each a process of its own.

Everything is real and comes from wheels and npm packages. A slot's directory holds all state.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio.to_thread

from contracts.streams import PUBLISHERS, SERVICES, permissions_of, reader_permissions, reader_user
from tilt.chain import node
from tilt.chain import world as chain_world
from tilt.chain.install import install
from tilt.child import Process, when_done
from tilt.places import Places, sha256
from tilt.servers import nats, postgres, standby
from tilt.slot import Slot

DEPOSIT_WEI = 10 * 10**18
RESERVE_WEI = 10 * 10**18
READY_WITHIN_SECONDS = 60.0
PROBE_SECONDS = 2.0
CHAIN_ID = 42161
DISCOVERY_POLL_SECONDS = 5.0
# What the orchestrator offers beside demo/echo; a second of 720p costs about as much as one of that.
RUNNERS = (
    {"id": "pixels", "app": "demo/pixels", "unit": "720p-pixel-seconds", "price_per_unit": 1_800},
    {
        "id": "once",
        "app": "demo/once",
        "mode": "single-shot",
        "unit": "fixed",
        "price_per_unit": 250_000_000_000,
    },
)
MODELS = (
    {"pipeline": "live-video-to-video", "name": "demo-model", "price_per_unit": 1_800},
    {"pipeline": "byoc", "name": "demo-tool", "price_per_unit": 5_000_000_000},
)
KEY_SPEND_PER_HOUR_WEI = 10**18  # more than any account here may spend: limits are tried one by one


@dataclass(frozen=True)
class Options:
    """What a run may choose; the orchestrator's terms make winners frequent."""

    ticket_ev_wei: int = 10**11
    face_value_wei: int = 4 * 10**11
    price_per_unit: int = 5 * 10**10
    spend_limit_wei: int = 10**16
    idle_seconds: int = 120
    usd_per_eth: int = 3000
    unknown_per_second: int = 10  # requests without a valid key, of an address; 0: no cap
    trusted_proxies: str = ""  # CIDR: whose word on a client's address the edge believes
    alarm_learning_seconds: int = 86_400  # for which a new key raises no alarm
    replicas: int = 1  # of each of our own processes, but for provisioner and discovery
    standby: bool = False  # a second PostgreSQL, that every commit waits for
    log_level: str = "info"
    readers: tuple[str, ...] = ()  # outsiders who read the log on the bus


def is_torn(directory: Path) -> bool:
    """Tell whether databases or chain are there without the other: they are one state."""
    databases = (directory / "postgres" / "PG_VERSION").exists()
    return databases != (chain_world.load(directory / "chain") is not None)


class World(Places):
    """The processes of one slot, and where to reach them."""

    def __init__(self, slot: Slot, options: Options | None = None) -> None:
        self.options = options or Options()
        super().__init__(slot, replicas=self.options.replicas, has_standby=self.options.standby)

    def prepare(self) -> None:
        """Install what npm brings and write what the servers read. Idempotent."""
        install()
        self.chain_directory.mkdir(parents=True, exist_ok=True)
        if self.options.standby:
            self.postgres_pair.prepare()
        else:
            postgres.prepare(self.directory / "postgres", password=self.slot.secret("postgres-postgres"))
        users = [nats.admin(self.slot.secret("nats-admin"))]
        for service in SERVICES:
            may = permissions_of(service)
            password = self.slot.secret(f"nats-{service}")
            users.append(nats.User(service, password, may.publish, may.subscribe, may.responds))
        for user, may in ((reader_user(name), reader_permissions(name)) for name in self.options.readers):
            password = self.slot.secret(f"nats-{user}")
            users.append(nats.User(user, password, may.publish, may.subscribe, may.responds))
        config = nats.Config(self.directory / "nats", self.slot.port("nats"), users)
        config.write(self.directory / "nats.conf")

    def servers(self) -> list[Process]:
        """What the services stand on, up to the deployed contracts."""
        databases = self._databases()
        return [
            *databases,
            Process(
                "nats",
                nats.argv(self.directory / "nats.conf"),
                ready=partial(nats.is_ready, self.slot.port("nats")),
            ),
            Process(
                "anvil",
                node.argv(port=self.slot.port("anvil"), directory=self.chain_directory),
                ready=partial(node.is_ready, self.rpc_url),
            ),
            Process(
                "deploy",
                [*_python("tilt.chain"), "deploy", *self._deployment()],
                ready=when_done,
                restart=False,
                after=["anvil"],
                ready_within_seconds=READY_WITHIN_SECONDS,
            ),
            self._service(
                "provisioner",
                after=[*(process.name for process in databases), "nats"],
                nats_user="admin",
                ADMIN_DSN=self.dsn(),
                ROLE_PASSWORDS=json.dumps(
                    {role: self.slot.secret(f"postgres-{role}") for role in PUBLISHERS}
                ),
                READERS=",".join(self.options.readers),
            ),
        ]

    def services(self) -> list[Process]:
        """Our own processes; the contracts are deployed by now."""
        made = chain_world.load(self.chain_directory)
        assert made is not None
        return [
            *self._replicated("accounts", DEFAULT_PAYER=self.payers[0]),
            *self._replicated(
                "quota",
                DEFAULT_SPEND_LIMIT_WEI=str(self.options.spend_limit_wei),
                DEFAULT_KEY_SPEND_PER_HOUR_WEI=str(KEY_SPEND_PER_HOUR_WEI),
                IDLE_SECONDS=str(self.options.idle_seconds),
                USD_PER_ETH=str(self.options.usd_per_eth),
                ALARM_LEARNING_SECONDS=str(self.options.alarm_learning_seconds),
            ),
            *self._replicated("metering"),
            *self._signers(),
            *self._replicated(
                "deposit_watcher",
                RPC_URL=self.rpc_url,
                CONTROLLER_ADDRESS=made.controller,
                PAYERS=",".join(self.payers),
                SCAN_FROM_BLOCK=str(made.first_block),
                FINALITY="latest",  # a local chain that was restarted keeps no state of older blocks
            ),
            *self._edges(),
            self._orchestrator(),
            self._service(
                "discovery",
                after=["provisioner", "signer", "orchestrator"],
                ORCHESTRATORS=self.orchestrator_tls_url,
                POLL_SECONDS=str(DISCOVERY_POLL_SECONDS),
                ALLOW_PRIVATE_ADDRESSES="true",
            ),
        ]

    def _databases(self) -> list[Process]:
        data, dsn = self.directory / "postgres", self.dsn(database="postgres")
        one = Process(
            "postgres",
            postgres.argv(data, self.slot.port("postgres")),
            postgres.ENVIRONMENT,
            ready=partial(postgres.is_ready, dsn),
            user=postgres.system_user(),
            stop_signal=postgres.STOP_SIGNAL,
        )
        if not self.options.standby:
            return [one]
        pair = self.postgres_pair
        first, second = (
            replace(one, name=server.name, argv=pair.argv(server), env=pair.environment)
            for server in pair.servers
        )
        return [first, replace(second, after=[first.name], ready=pair.is_ready)]

    def _replicated(self, service: str, *, after: Sequence[str] = (), **settings: str) -> list[Process]:
        """The processes of a service; the first makes the tables, the others come after it."""
        first, *others = self.replicas_of(service)
        return [
            self._service(service, name=first, after=["provisioner", *after], **settings),
            *(self._service(service, name=name, after=[first], **settings) for name in others),
        ]

    def _signers(self) -> list[Process]:
        """A signer for each partition, and their relays."""
        state_key = sha256(self.slot.secret("state-key"))
        payer_keys = ",".join(map(str, self.payer_key_paths))
        synchronous = {"STANDBY_IS_SYNCHRONOUS": "true"} if self.options.standby else {}
        settings = {
            "DEVELOPMENT_KEY_PATH": payer_keys,
            "STATE_KEYS": state_key,
            "RELAY": "false",
            **synchronous,
        }
        return [
            replace(process, env={**(process.env or {}), "SIGNER_PARTITION": str(partition)})
            for partition, process in enumerate(self._replicated("signer", after=["quota"], **settings))
        ] + [
            self._service("signer", module="relay", name=name, after=["signer"], **synchronous)
            for name in self.replicas_of("signer-relay")
        ]

    def _edges(self) -> list[Process]:
        return [
            self._service(
                "edge",
                name=name,
                PUBLIC_PORT=str(self.slot.port(name)),
                PUBLIC_URL=url,
                KEY_PEPPER=self.slot.secret("key-pepper"),
                ADMIN_KEY_HASHES=sha256(self.admin_key),
                HOOK_SECRET_HASHES=sha256(self.hook_secret),
                TOKEN_KEYS=sha256(self.slot.secret("token-key")),
                HOOK_KEYS=self.hook_key,
                TOKEN_ISSUER=self.public_urls[0],  # a token of one edge is good at the other
                SIGNER_PARTITIONS=str(self.options.replicas),
                UNKNOWN_PER_SECOND=str(self.options.unknown_per_second),
                TRUSTED_PROXIES=self.options.trusted_proxies,
            )
            for name, url in zip(self.replicas_of("edge"), self.public_urls, strict=True)
        ]

    def _orchestrator(self) -> Process:
        options = {
            "--port": self.slot.port("orchestrator"),
            "--tls-port": self.slot.port("orchestrator-tls"),
            "--rpc": self.rpc_url,
            "--world": self.chain_directory / "world.json",
            "--key-file": self.orchestrator_key_path,
            "--state-dir": self.directory / "orchestrator",
            "--ticket-ev-wei": self.options.ticket_ev_wei,
            "--face-value-wei": self.options.face_value_wei,
            "--price-per-unit": self.options.price_per_unit,
        }
        offered = [("--runner", json.dumps(runner)) for runner in RUNNERS]
        offered += [("--model", json.dumps(model)) for model in MODELS]
        flat = [str(word) for pair in (*options.items(), *offered) for word in pair]
        return Process(
            "orchestrator",
            [*_python("tilt.orchestrator"), *flat],
            ready=_answers(f"{self.orchestrator_url}/discovery"),
            after=["deploy"],
            ready_within_seconds=READY_WITHIN_SECONDS,
        )

    def _service(
        self,
        service: str,
        *,
        name: str = "",
        module: str = "app",
        after: list[str] | None = None,
        nats_user: str = "",
        **settings: str,
    ) -> Process:
        """A service's process with its settings, and nothing else of ours in its environment."""
        values = {
            "NATS_URL": self.nats_url(nats_user or service),
            "HTTP_PORT": str(self.slot.port(f"{name or service}-health")),
            "LOG_LEVEL": self.options.log_level,
            **settings,
        }
        if service in PUBLISHERS:
            values |= {"POSTGRES_DSN": self.dsn(service), "CREATE_TABLES": "true"}
        inherited = {
            key: os.environ[key] for key in ("PATH", "HOME", "LANG", "PYTHONPATH") if key in os.environ
        }
        if self.options.standby:
            inherited |= standby.CLIENT_ENVIRONMENT
        return Process(
            name or service,
            _python(f"services.{service}.{module}"),
            {**inherited, **{f"{service.upper()}_{key}": value for key, value in values.items()}},
            ready=_answers(f"{self.health_url(name or service)}/readyz"),
            after=after or ["provisioner"],
            ready_within_seconds=READY_WITHIN_SECONDS,
        )

    def _deployment(self) -> list[str]:
        options = {
            "--rpc": self.rpc_url,
            "--dir": self.chain_directory,
            "--orchestrator-key-file": self.orchestrator_key_path,
            "--deposit-wei": DEPOSIT_WEI,
            "--reserve-wei": RESERVE_WEI,
        }
        payers = [("--payer-key-file", path) for path in self.payer_key_paths]
        return [str(word) for pair in (*options.items(), *payers) for word in pair]


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _answers(url: str) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return await anyio.to_thread.run_sync(_is_ok, url)

    return ready


def _is_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS) as answer:  # noqa: S310 (our own URLs)
            return bool(answer.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False
