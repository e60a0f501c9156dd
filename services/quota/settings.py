"""What quota is told by its environment (prefix QUOTA_)."""

from datetime import timedelta
from decimal import Decimal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from contracts.limits import Alarms
from services.quota.domain.key_watch import Sensitivity
from services.quota.domain.limits import Limits
from shared.money import MicroUsd, Wei
from shared.settings import StoreSettings


class QuotaSettings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="QUOTA_")

    default_spend_limit_wei: int = Field(default=10_000_000_000_000_000, ge=0)  # 0.01 ETH
    # Of every key that has no such limit of its own or by a plan: what a stolen one can cost at most.
    default_key_spend_per_hour_wei: int = Field(default=5_000_000_000_000_000, ge=0)  # 0.005 ETH
    # What a key's highest hour counts as at least, where an alarm of spend is so many times of it.
    alarm_floor_wei: int = Field(default=1_000_000_000_000_000, ge=0)  # 0.001 ETH
    alarm_learning_seconds: int = Field(default=86_400, ge=0)  # for which a new key raises no alarm
    idle_seconds: int = Field(default=120, ge=5)  # after which a session gives its allowance back
    close_retry_seconds: int = Field(default=5, ge=1)
    # What an ETH is worth, for limits in dollars: without it, whoever has one is granted nothing.
    usd_per_eth: Decimal | None = Field(default=None, gt=0, decimal_places=6, max_digits=15)

    def key_limits(self) -> Limits:
        per_hour = Wei(self.default_key_spend_per_hour_wei)
        return Limits(spend_per_hour_wei=per_hour, alarms=Alarms().model_dump())

    def sensitivity(self) -> Sensitivity:
        learning = timedelta(seconds=self.alarm_learning_seconds)
        return Sensitivity(floor=Wei(self.alarm_floor_wei), learning=learning)

    def rate(self) -> MicroUsd:
        assert self.usd_per_eth is not None
        return MicroUsd(int(self.usd_per_eth * 10**6))
