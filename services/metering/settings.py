"""What metering is told by its environment."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import StoreSettings


class Settings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="METERING_")

    # Of a stream that tells neither its end nor a sign of life; Livepeer Studio sends none in between.
    stream_grace_seconds: int = Field(default=43_200, ge=1)
    raw_body_days: int = Field(default=7, ge=0)  # of deliveries; 0 keeps none

    def stream_grace(self) -> timedelta:
        return timedelta(seconds=self.stream_grace_seconds)
