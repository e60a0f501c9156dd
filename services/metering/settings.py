"""What metering is told by its environment."""

from pydantic_settings import SettingsConfigDict

from shared.settings import StoreSettings


class Settings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="METERING_")
