"""What may limit an account, one of its users, a key or a session token.

A limit that is not set at one place comes from the next: an account's own, its plan's, the default.
Users, keys and tokens have their own beside their account's: all of them hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from services.quota.domain.windows import Kind
from shared.money import MicroUsd, Wei


@dataclass(frozen=True, slots=True)
class Limits:
    """None: not set. A list names all that is allowed; times are seconds since 1970."""

    spend_limit_wei: Wei | None = None  # in all
    spend_per_hour_wei: Wei | None = None
    spend_per_day_wei: Wei | None = None
    spend_per_month_wei: Wei | None = None
    spend_limit_micro_usd: MicroUsd | None = None  # in all
    spend_per_hour_micro_usd: MicroUsd | None = None
    spend_per_day_micro_usd: MicroUsd | None = None
    spend_per_month_micro_usd: MicroUsd | None = None
    credit_limit_micro_usd: MicroUsd | None = None  # what may be owed; 0: prepaid only
    sessions_max: int | None = None
    streams_max: int | None = None
    payments_per_second: int | None = None
    ticket_ev_max_wei: Wei | None = None
    ticket_face_value_max_wei: Wei | None = None
    prices_max: dict[str, str] | None = None  # wei a unit, by job type or capability
    job_types: list[str] | None = None
    apps: list[str] | None = None
    capabilities: list[str] | None = None
    recipients: list[str] | None = None
    networks: list[str] | None = None
    expires_at: int | None = None
    overage: bool | None = None  # spend limits warn, and refuse nothing
    grace_seconds: int | None = None  # for which running sessions may go on at a spend limit
    alarms: dict[str, Any] | None = None  # of a key; see key_watch.py

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Limits":
        """Those that are known; stored ones may name limits of a later release."""
        return Limits(**{name: value for name, value in values.items() if name in NAMES})

    def over(self, others: "Limits") -> "Limits":
        """These, and the others' where there are none."""
        return Limits(
            **{name: getattr(others, name) if (own := getattr(self, name)) is None else own for name in NAMES}
        )

    def set_ones(self) -> dict[str, Any]:
        """By name, without those that are not set; as they are stored."""
        return {name: value for name in NAMES if (value := getattr(self, name)) is not None}

    def spend(self, kind: "Kind | None") -> tuple[Wei | None, MicroUsd | None]:
        """What may be spent in a window of this kind, or in all; in wei and in micro-USD."""
        name = f"spend_per_{kind}" if kind else "spend_limit"
        return getattr(self, f"{name}_wei"), getattr(self, f"{name}_micro_usd")

    @property
    def count_spend(self) -> bool:
        """Whether somebody with these limits needs books of his own beside the account's."""
        if self.alarms and self.alarms["spend_times"] is not None:
            return True
        return any(name.startswith("spend_") or name == "sessions_max" for name in self.set_ones())


NAMES = tuple(each.name for each in fields(Limits))
