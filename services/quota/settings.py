"""What quota is told by its environment (prefix QUOTA_)."""

from decimal import Decimal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.quota.domain.limits import Limits
from shared.money import MicroUsd, Wei
from shared.settings import StoreSettings


class QuotaSettings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="QUOTA_")

    default_spend_limit_wei: int = Field(default=10_000_000_000_000_000, ge=0)  # 0.01 ETH
    # Of every key that has no such limit of its own or by a plan: what a stolen one can cost at most.
    default_key_spend_per_hour_wei: int | None = Field(default=None, ge=0)
    idle_seconds: int = Field(default=120, ge=5)  # after which a session gives its allowance back
    close_retry_seconds: int = Field(default=5, ge=1)
    # What an ETH is worth, for limits in dollars: without it, whoever has one is granted nothing.
    usd_per_eth: Decimal | None = Field(default=None, gt=0, decimal_places=6, max_digits=15)

    def key_limits(self) -> Limits:
        cap = self.default_key_spend_per_hour_wei
        return Limits(spend_per_hour_wei=None if cap is None else Wei(cap))

    def rate(self) -> MicroUsd:
        assert self.usd_per_eth is not None
        return MicroUsd(int(self.usd_per_eth * 10**6))
