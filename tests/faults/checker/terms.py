"""Which limits hold for whom, folded a second time from what operators set (docs/limits.md)."""

from typing import Any

from tests.faults.checker.limit_rows import Entry, Scope

PLAN_LIMITS = {"account": "limits", "user": "user_limits", "key": "key_limits"}
DEFAULT_PLAN = "default"


class Terms:
    """As they are at one position of the log."""

    def __init__(self) -> None:
        self.own: dict[Scope, dict[str, Any]] = {}
        self.plan_of: dict[str, str | None] = {}
        self.plans: dict[str, dict[str, Any]] = {}
        self.stops: dict[tuple[str, str], dict[str, Any]] = {}
        self.rate = 0  # micro-dollars of an ETH
        self._zones: dict[str, str] = {}
        self._defaults: dict[str, int] = {}

    def apply(self, entry: Entry) -> None:
        scope, state = entry.scope, entry.state
        match entry.kind:
            case "budget_opened":
                self._defaults[scope.account_id] = state["spend_limit"]
            case "limits_set":
                self.own[scope] = state["limits"]
            case "plan_assigned":
                self.plan_of[scope.account_id] = state["plan"]
            case "time_zone_set":
                self._zones[scope.account_id] = state["time_zone"]
            case "plan_set":
                self.plans[state["name"]] = state["terms"]
            case "stop_set":
                self.stops[state["what"], state["value"]] = state
            case "stop_lifted":
                self.stops.pop((state["what"], state["value"]), None)
            case "eth_rate_observed_first" | "eth_rate_observed":
                self.rate = state["micro_usd_per_eth"]

    def zone(self, account_id: str) -> str:
        return self._zones.get(account_id, "UTC")

    def of(self, scope: Scope) -> dict[str, Any]:
        """The limits that hold, by name: its own, then its plan's; of accounts a default in all."""
        plan = self.plans.get(self.plan_of.get(scope.account_id) or DEFAULT_PLAN, {})
        by_plan = plan.get(PLAN_LIMITS.get(scope.level, ""), {})
        default = {"spend_limit_wei": self._defaults[scope.account_id]} if scope.level == "account" else {}
        return {**default, **by_plan, **self.own.get(scope, {})}

    def counts(self, scope: Scope) -> bool:
        """Whether a user, key or token has books of its own."""
        return any(name.startswith("spend_") or name == "sessions_max" for name in self.of(scope))
