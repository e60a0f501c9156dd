"""After a restore of the signer's database: `python -m services.signer.restore fence|report`.

`fence` begins a new epoch of the log by hand, for a restore that nothing gives away: each signer
raises its fences before it signs again. `report` tells what restores lost, and what is known of it.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from eventsourcing.persistence import Notification
from pydantic_core import from_json

from services.signer.domain.fence import Fence
from services.signer.domain.recovered import RecoveredTickets
from services.signer.domain.session import PaymentSession
from services.signer.rules import EXPIRY_AHEAD_MAX_BLOCKS
from services.signer.settings import RestoreSettings
from shared.history import History
from shared.store import NamedLog, ThinRecorder, postgres_env

SERVICE = "signer"
BY_HAND = "raised by hand"
PAGE = 1000

type Session = tuple[str, str]  # account, session


class Restored:
    """What the signer's log says about restores."""

    def __init__(self, signer: NamedLog, max_payment_wei: int) -> None:
        assert isinstance(signer.recorder, ThinRecorder)
        self._recorder = signer.recorder
        self._max_payment_wei = max_payment_wei
        self.history = History(signer.recorder)

    def fence(self) -> int:
        """Begin a new epoch; signers follow within a second, and before they sign again."""
        self._recorder.insert_events([], effects=[self.history.begin_epoch(BY_HAND)])
        return self.history.marks()[0]

    def report(self) -> dict[str, Any]:
        """Epochs, fences, what was recovered, and what clients' states show to be missing beyond."""
        recovered = [from_json(each.state) for each in self._stored(RecoveredTickets.Recovered.TOPIC)]
        return {
            "epochs": [
                {
                    "epoch": epoch.epoch,
                    "began_after": epoch.began_after,
                    "at": epoch.at.isoformat(),
                    "reason": epoch.reason,
                    "recovered_at": epoch.recovered_at.isoformat() if epoch.recovered_at else None,
                }
                for epoch in self.history.epochs()
            ],
            "fences": self._fences(),
            "recovered": {**_sum(recovered), "by_account": _by_account(recovered)},
            "missing": self._missing(recovered),
        }

    def _fences(self) -> list[dict[str, Any]]:
        """The fence of each payer: params that expire up to `opens_after_block` are refused."""
        last: dict[str, dict[str, Any]] = {}
        for raised in self._stored(Fence.Raised.TOPIC):
            payer = self._first(raised)["payer"]
            state = from_json(raised.state)
            last[payer] = {
                "payer": payer,
                "raised_at": state["timestamp"],
                "reason": state["reason"],
                "l1_block": state["l1_block"],
                "opens_after_block": state["l1_block"] + EXPIRY_AHEAD_MAX_BLOCKS,
            }
        return list(last.values())

    def _missing(self, recovered: list[dict[str, Any]]) -> dict[str, Any]:
        """Payments that clients' states count and nobody has: by session, with what they cost at most.

        Clients that never came back, and sessions they gave up, show nothing.
        """
        lost: Counter[Session] = Counter()
        for continued in self._stored(PaymentSession.Continued.TOPIC):
            named = self._first(continued)
            lost[named["account_id"], named["session_id"]] += from_json(continued.state)["payments_lost"]
        lost.subtract((payment["account_id"], payment["session_id"]) for payment in recovered)
        missing = {session: payments for session, payments in sorted(lost.items()) if payments > 0}
        return {
            **self._at_most(sum(missing.values())),
            "sessions": [
                {"account_id": account_id, "session_id": session_id, **self._at_most(payments)}
                for (account_id, session_id), payments in missing.items()
            ],
        }

    def _at_most(self, payments: int) -> dict[str, Any]:
        return {"payments": payments, "at_most_wei": str(payments * self._max_payment_wei)}

    def _first(self, notification: Notification) -> dict[str, Any]:
        """The event that made this one's aggregate."""
        [created] = self._recorder.select_events(notification.originator_id, limit=1)
        found: dict[str, Any] = from_json(created.state)
        return found

    def _stored(self, topic: str) -> Iterator[Notification]:
        position = 0
        while page := self._recorder.select_notifications(
            position, PAGE, topics=[topic], inclusive_of_start=False
        ):
            yield from page
            position = page[-1].id


def _sum(payments: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "payments": len(payments),
        "tickets": sum(payment["tickets"] for payment in payments),
        "cost_wei": str(sum(payment["cost"] for payment in payments)),
    }


def _by_account(payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    accounts = sorted({payment["account_id"] for payment in payments})
    return [
        {
            "account_id": account_id,
            **_sum([payment for payment in payments if payment["account_id"] == account_id]),
        }
        for account_id in accounts
    ]


def _text(report: dict[str, Any]) -> str:
    """The report in lines, for people."""
    recovered, missing = report["recovered"], report["missing"]
    lines = [
        *(f"epoch {epoch['epoch']} since {epoch['at']}: {epoch['reason']}" for epoch in report["epochs"]),
        *(
            f"fence of {fence['payer']} since {fence['raised_at']}: params expiring up to L1 block"
            f" {fence['opens_after_block']} are refused ({fence['reason']})"
            for fence in report["fences"]
        ),
        f"recovered: {recovered['payments']} payments, {recovered['cost_wei']} wei",
        *(f"  {each['account_id']}: {each['cost_wei']} wei" for each in recovered["by_account"]),
        f"missing beyond: {missing['payments']} payments, at most {missing['at_most_wei']} wei",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.signer.restore")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("fence", help="begin a new epoch of the log, and with it raise the fences")
    report = actions.add_parser("report", help="what restores lost, and what is known of it")
    report.add_argument("--json", action="store_true")
    options = parser.parse_args()
    settings = RestoreSettings()
    env = postgres_env(settings.postgres_dsn.get_secret_value(), SERVICE, create_tables=False)
    with NamedLog(SERVICE, env) as signer:
        restored = Restored(signer, settings.max_total_ev_wei)
        if options.action == "fence":
            sys.stdout.write(json.dumps({"epoch": restored.fence()}) + "\n")
            return 0
        told = restored.report()
    sys.stdout.write(json.dumps(told) + "\n" if options.json else _text(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
