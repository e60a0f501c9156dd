"""What the edge is told by its environment."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from shared.settings import BusSettings


def _origin(url: str) -> str:
    """Clients drop any path of a signer's URL, so a URL with one would not be what it says."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("must be http(s)://host[:port] without a path")
    return f"{parts.scheme}://{parts.netloc}"


class Settings(BusSettings):
    model_config = SettingsConfigDict(env_prefix="EDGE_")

    public_host: str = "127.0.0.1"
    public_port: int = Field(ge=0, le=65535)  # the Livepeer wire and /v1; `http_port` is for operators
    public_url: Annotated[str, AfterValidator(_origin)]  # the origin that clients reach us at
    key_pepper: SecretStr = Field(min_length=32)
    # sha256 in hex of each administrator's key; several by commas, so that they can be rotated.
    admin_key_hashes: str = Field(default="", pattern=r"^([0-9a-f]{64}(,[0-9a-f]{64})*)?$")
    signer_partitions: int = Field(default=1, ge=1)
    payment_timeout_seconds: float = Field(default=1.8, gt=0)  # the SDK gives up after 5
    payments_waiting_max: int = Field(default=1_000, ge=1)  # per partition
    connections_max: int = Field(default=5_000, ge=1)

    def administrators(self) -> frozenset[str]:
        return frozenset(filter(None, self.admin_key_hashes.split(",")))
