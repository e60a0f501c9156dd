"""What every service is told by its environment: `SERVICE_NOUN_UNIT`."""

from datetime import timedelta

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from shared.clock import Clock


class BusSettings(BaseSettings):
    """For a process on the bus."""

    nats_url: SecretStr  # nats://user:password@host:port, several by commas
    log_level: str = "info"
    http_host: str = "127.0.0.1"
    http_port: int = Field(ge=0, le=65535)  # /livez, /readyz, /metrics
    clock_offset_seconds: float = 0

    def clock(self) -> Clock:
        return Clock(timedelta(seconds=self.clock_offset_seconds))


class StoreSettings(BusSettings):
    """For a service with a store of its own."""

    postgres_dsn: SecretStr  # postgresql://role:password@host:port/database
    create_tables: bool = False  # make what is missing at start; for a first start, or always
    relay: bool = True  # off where the relay is a process of its own
