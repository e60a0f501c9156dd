"""What the provisioner is told by its environment (prefix PROVISIONER_)."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts.streams import READER_PATTERN
from shared.settings import BusSettings, PostgresDsn


def read_names(text: str) -> list[str]:
    """The readers in a setting; raises ValueError if one cannot be called so, or two are alike."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not all(re.fullmatch(READER_PATTERN, name) for name in names):
        raise ValueError("must be names of a-z, 0-9 and -, up to 32 characters, several by commas")
    if len(set(names)) < len(names):
        raise ValueError("names a reader twice")
    return names


def _readers(text: str) -> str:
    read_names(text)
    return text


class ProvisionerSettings(BusSettings):
    model_config = SettingsConfigDict(env_prefix="PROVISIONER_")

    replicas: int = Field(default=1, ge=1, le=5)  # of streams and buckets; 3 on a cluster
    max_age_days: int = Field(default=7, ge=1)  # streams are transport: the log keeps everything
    max_bytes: int = Field(default=1024**3, ge=1024**2)  # of one stream; the oldest go first
    readers: Annotated[str, AfterValidator(_readers)] = ""  # names of outsiders who read the log, by commas
    check_seconds: float = Field(default=1, gt=0)
    admin_dsn: PostgresDsn | None = None  # where given: roles and schemas are made too
    role_passwords: SecretStr | None = None  # JSON: service to password
