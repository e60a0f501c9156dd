"""Where everything of a local world is: its files, keys, ports and URLs."""

import hashlib
import secrets
from pathlib import Path

from coincurve import PrivateKey

from shared.keccak import keccak
from tilt.servers import postgres, standby
from tilt.slot import Slot

DATABASE = "clearinghouse"


class Places:
    """What one slot has, and where to reach it."""

    def __init__(self, slot: Slot, *, replicas: int, has_standby: bool) -> None:
        self.slot = slot
        self._replicas, self._has_standby = replicas, has_standby
        self.directory = slot.directory
        self.chain_directory = slot.directory / "chain"
        self.admin_key = slot.secret("admin-key")
        self.hook_secret = slot.secret("hook")  # shown by go-livepeer's signers
        self.hook_key = sha256(slot.secret("hook-key"))  # of which Livepeer Studio's secrets are made
        self.payer_key_paths = [self._key("payer"), self._key("payer-2")]  # the first is the default
        self.orchestrator_key_path = self._key("orchestrator")
        self.payers = [_address_of(path) for path in self.payer_key_paths]

    @property
    def public_url(self) -> str:
        return f"http://127.0.0.1:{self.slot.port('edge')}"

    @property
    def public_urls(self) -> list[str]:
        """Every edge; each names itself in the tokens it hands out."""
        return [f"http://127.0.0.1:{self.slot.port(name)}" for name in self.replicas_of("edge")]

    def replicas_of(self, process: str) -> list[str]:
        """The names of a process and its replicas: `signer`, `signer-2`."""
        return [process, *(f"{process}-{number}" for number in range(2, self._replicas + 1))]

    @property
    def orchestrator_url(self) -> str:
        return f"http://127.0.0.1:{self.slot.port('orchestrator')}"

    @property
    def orchestrator_tls_url(self) -> str:
        """Where the orchestrator speaks gRPC, and HTTPS with a certificate of its own making."""
        return f"https://127.0.0.1:{self.slot.port('orchestrator-tls')}"

    @property
    def rpc_url(self) -> str:
        return f"http://127.0.0.1:{self.slot.port('anvil')}"

    def health_url(self, process: str) -> str:
        return f"http://127.0.0.1:{self.slot.port(f'{process}-health')}"

    def dsn(self, role: str = postgres.SUPERUSER, database: str = DATABASE) -> str:
        password = self.slot.secret(f"postgres-{role}")
        if self._has_standby:
            return self.postgres_pair.dsn(role=role, password=password, database=database)
        address = postgres.Address("127.0.0.1", self.slot.port("postgres"))
        return address.dsn(role=role, password=password, database=database)

    @property
    def postgres_pair(self) -> standby.Pair:
        """The two servers of a world with a standby; the first is primary at first."""
        first, second = (
            standby.Server(name, self.directory / name, self.slot.port(name))
            for name in ("postgres", "postgres-2")
        )
        named = self.directory / "postgres-primary"
        return standby.Pair((first, second), named, self.slot.secret("postgres-postgres"))

    def nats_url(self, user: str) -> str:
        return f"nats://{user}:{self.slot.secret(f'nats-{user}')}@127.0.0.1:{self.slot.port('nats')}"

    def _key(self, name: str) -> Path:
        """A private key in hex, made at the first run of the slot and kept."""
        path = self.directory / f"{name}.key"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text("0x" + secrets.token_hex(32))
        return path


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _address_of(path: Path) -> str:
    public = PrivateKey(bytes.fromhex(path.read_text().removeprefix("0x"))).public_key
    return "0x" + keccak(public.format(compressed=False)[1:])[-20:].hex()
