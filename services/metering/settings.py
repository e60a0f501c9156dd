"""What metering is told by its environment."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.metering.usage_events import Window
from shared.settings import StoreSettings


class Settings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="METERING_")

    # Of a stream that tells neither its end nor a sign of life; Livepeer Studio sends none in between.
    stream_grace_seconds: int = Field(default=43_200, ge=1)
    raw_body_days: int = Field(default=7, ge=0)  # of deliveries; 0 keeps none
    event_past_days: int = Field(default=35, ge=1, le=3_650)  # how old pushed usage may be
    event_future_seconds: int = Field(default=300, ge=0, le=86_400)  # how far ahead its clocks may be

    def stream_grace(self) -> timedelta:
        return timedelta(seconds=self.stream_grace_seconds)

    def event_window(self) -> Window:
        return Window(timedelta(days=self.event_past_days), timedelta(seconds=self.event_future_seconds))
