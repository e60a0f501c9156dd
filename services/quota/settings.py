"""What quota is told by its environment (prefix QUOTA_)."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import StoreSettings


class QuotaSettings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="QUOTA_")

    default_spend_limit_wei: int = Field(default=10_000_000_000_000_000, ge=0)  # 0.01 ETH
    idle_seconds: int = Field(default=120, ge=5)  # after which a session gives its allowance back
    close_retry_seconds: int = Field(default=5, ge=1)
