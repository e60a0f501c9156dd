"""What metering is told by its environment."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import StoreSettings


class Settings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="METERING_")


class RebuildSettings(BaseSettings):
    """For the rebuild of the tables, which needs no bus."""

    model_config = SettingsConfigDict(env_prefix="METERING_")

    postgres_dsn: SecretStr
