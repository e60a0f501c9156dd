"""Which entries of other logs set something anew, so that the last one counts.

One of them that was buried has nothing left to say once a later one was applied. The revocation of a
key is none of them: it is for ever, and an account that opens only gets its budget.
"""

from contracts.accounts import AccountResumed, AccountSuspended
from contracts.deposit_watcher import FundsObserved, RoundChanged
from contracts.message import LogEntry


def set_by(entry: LogEntry) -> str | None:
    """Name what an entry sets; raises KeyError where it does not say of which account or payer."""
    match entry.subject:
        case AccountSuspended.subject | AccountResumed.subject:
            return f"suspension of {entry.event['account_id']}"
        case FundsObserved.subject:
            return f"funds of {str(entry.event['payer']).lower()}"
        case RoundChanged.subject:
            return "round"
    return None
