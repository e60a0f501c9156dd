"""What every service is told by its environment: `SERVICE_NOUN_UNIT`."""

import re
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.clock import Clock

HEX_KEYS = re.compile(r"([0-9a-f]{64}(,[0-9a-f]{64})*)?")

# Both are read here first: the drivers' own errors quote what they do not understand, passwords as well.


def _nats_url(text: SecretStr) -> SecretStr:
    for url in text.get_secret_value().split(","):
        if not _is_nats_url(url.strip()):
            raise ValueError("must be nats://user:password@host:port, several by commas")
    return text


def _is_nats_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.port != 0 and parts.scheme in {"nats", "tls"} and bool(parts.hostname)
    except ValueError:
        return False


def _postgres_dsn(text: SecretStr) -> SecretStr:
    try:
        parts = conninfo_to_dict(text.get_secret_value())
    except ProgrammingError:
        parts = {}
    ports = str(parts.get("port", "5432")).split(",")
    if not parts or not all(port.isdecimal() for port in ports):
        raise ValueError("must be postgresql://role:password@host:port/database, each part told")
    return text


def _hex_keys(text: SecretStr) -> SecretStr:
    if not HEX_KEYS.fullmatch(text.get_secret_value()):
        raise ValueError("must be keys of 64 hex digits, several by commas")
    return text


def read_keys(text: SecretStr) -> list[bytes]:
    return [bytes.fromhex(key) for key in text.get_secret_value().split(",") if key]


type HexKeys = Annotated[SecretStr, AfterValidator(_hex_keys)]  # empty: none
type NatsUrl = Annotated[SecretStr, AfterValidator(_nats_url)]
type PostgresDsn = Annotated[SecretStr, AfterValidator(_postgres_dsn)]


class BusSettings(BaseSettings):
    """For a process on the bus."""

    # What is wrong with a setting is said without what was set: it may hold a password.
    model_config = SettingsConfigDict(hide_input_in_errors=True)

    nats_url: NatsUrl  # nats://user:password@host:port, several by commas
    log_level: str = "info"
    http_host: str = "127.0.0.1"
    http_port: int = Field(ge=0, le=65535)  # /livez, /readyz, /metrics
    clock_offset_seconds: float = 0

    def clock(self) -> Clock:
        return Clock(timedelta(seconds=self.clock_offset_seconds))


class StoreSettings(BusSettings):
    """For a service with a store of its own."""

    postgres_dsn: PostgresDsn  # postgresql://role:password@host:port/database
    create_tables: bool = False  # make what is missing at start; for a first start, or always
    relay: bool = True  # off where the relay is a process of its own


class DatabaseSettings(BaseSettings):
    """For a tool that needs the store of a service and nothing else; the prefix is the service's."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    postgres_dsn: PostgresDsn
