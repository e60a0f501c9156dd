"""What the edge is told by its environment."""

from ipaddress import ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.edge.admission import BURST_SECONDS, Paces
from services.edge.caps import Pace
from services.edge.console.sessions import ConsoleSessions
from services.edge.tokens import SessionTokens
from shared.settings import BusSettings, HexKeys, read_keys


def _origin(url: str) -> str:
    """Clients drop any path of a signer's URL, so a URL with one would not be what it says."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("must be http(s)://host[:port] without a path")
    return f"{parts.scheme}://{parts.netloc}"


def _networks(text: str) -> str:
    for network in filter(None, text.split(",")):
        ip_network(network.strip())  # raises ValueError with what is wrong
    return text


class Settings(BusSettings):
    model_config = SettingsConfigDict(env_prefix="EDGE_")

    public_host: str = "127.0.0.1"
    public_port: int = Field(ge=0, le=65535)  # the Livepeer wire and /v1; `http_port` is for operators
    public_url: Annotated[str, AfterValidator(_origin)]  # the origin that clients reach us at
    key_pepper: SecretStr = Field(min_length=32)
    # sha256 in hex of each administrator's key; several by commas, so that they can be rotated.
    admin_key_hashes: str = Field(default="", pattern=r"^([0-9a-f]{64}(,[0-9a-f]{64})*)?$")
    # The same of the secrets that go-livepeer's signers show at `/authorize`.
    hook_secret_hashes: str = Field(default="", pattern=r"^([0-9a-f]{64}(,[0-9a-f]{64})*)?$")
    signer_partitions: int = Field(default=1, ge=1)
    payment_timeout_seconds: float = Field(default=1.8, gt=0)  # the SDK gives up after 5
    payments_waiting_max: int = Field(default=1_000, ge=1)  # per partition
    connections_max: int = Field(default=5_000, ge=1)
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = ""  # CIDR, several by commas
    unknown_per_second: float = Field(default=10, ge=0)  # without a valid key, of an address; 0: no cap
    unknown_burst: int = Field(default=100, ge=1)
    payments_per_second_per_key: int = Field(default=2_000, ge=0)  # of this process; 0: no cap
    # In hex, several by commas: the first signs session tokens, all verify. None: there are no tokens.
    token_keys: HexKeys = SecretStr("")
    # In hex, several by commas: the first makes secrets of hooks, all verify. None: there are no hooks.
    hook_keys: HexKeys = SecretStr("")
    token_issuer: Annotated[str, AfterValidator(_origin)] | None = None  # None: the public URL

    def administrators(self) -> frozenset[str]:
        return frozenset(filter(None, self.admin_key_hashes.split(",")))

    def proxies(self) -> list[str]:
        return [network.strip() for network in self.trusted_proxies.split(",") if network.strip()]

    def paces(self) -> Paces:
        unknown, payments = self.unknown_per_second, self.payments_per_second_per_key
        return Paces(
            unknown=Pace(unknown, self.unknown_burst) if unknown else None,
            payments=Pace(payments, payments * BURST_SECONDS) if payments else None,
        )

    def session_tokens(self) -> SessionTokens | None:
        keys = read_keys(self.token_keys)
        if not keys:
            return None
        return SessionTokens(keys, issuer=self.token_issuer or self.public_url, clock=self.clock())

    def console_sessions(self) -> ConsoleSessions | None:
        keys, issuer = read_keys(self.token_keys), self.token_issuer or self.public_url
        return ConsoleSessions(keys, issuer=issuer, clock=self.clock()) if keys else None

    def hook_secrets(self) -> frozenset[str]:
        return frozenset(filter(None, self.hook_secret_hashes.split(",")))

    def keys_of_hooks(self) -> list[bytes]:
        return read_keys(self.hook_keys)
