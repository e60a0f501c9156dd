"""What the watcher is told by its environment (prefix DEPOSIT_WATCHER_)."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from shared.settings import StoreSettings

ADDRESS = re.compile("0x[0-9a-fA-F]{40}")


def _address(text: str) -> str:
    if not ADDRESS.fullmatch(text):
        raise ValueError("an address is 0x and 40 hex digits")
    return text.lower()


def _split(text: object) -> object:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


type Address = Annotated[str, AfterValidator(_address)]


class Settings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="DEPOSIT_WATCHER_")

    rpc_url: SecretStr  # providers put the key into the path
    rpc_timeout_seconds: float = Field(default=5, gt=0)
    controller_address: Address
    payers: Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_split)] = Field(min_length=1)
    poll_seconds: float = Field(default=1, gt=0)
    scan_from_block: int = Field(default=0, ge=0)  # the broker's first; on Arbitrum One 5856357
    scan_blocks: int = Field(default=1000, ge=1)  # of one query
    # Where deposits count: a block tag, or confirmations on a chain that has no such tag.
    finality: Literal["finalized", "safe", "latest"] | Annotated[int, Field(ge=0)] = "finalized"
    # How long a redemption that the signer's log does not have waits for a restore to be noticed.
    match_grace_seconds: float = Field(default=60, ge=0)
