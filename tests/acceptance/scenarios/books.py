"""What the orchestrator made of the tickets that an account was charged for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.acceptance.checks import settled
from tests.acceptance.signer_log import TicketId
from tests.acceptance.system import Account, System, Totals


@dataclass(frozen=True)
class Books:
    """`totals` is what usage, log and quota agree on; tickets are by rand hash and nonce."""

    totals: Totals
    signed: set[TicketId]
    accepted: set[TicketId]
    rejected: set[TicketId]

    @property
    def undelivered(self) -> set[TicketId]:
        return self.signed - self.accepted - self.rejected


async def closed_books(system: System, account: Account) -> Books:
    """Wait until everybody of ours agrees, and look what came of each ticket."""
    totals = await settled(system, account)
    signed = set((await system.log()).of(account.account_id).tickets())
    status = await system.orchestrator()
    return Books(
        totals,
        signed,
        accepted=_tickets(status["accepted"]) & signed,
        rejected=_tickets(status["rejected"]) & signed,
    )


async def all_delivered(system: System, account: Account) -> Totals:
    """Check that the orchestrator took every ticket that was signed, and rejected none."""
    books = await closed_books(system, account)
    assert not books.rejected
    assert books.accepted == books.signed
    return books.totals


async def manifest(system: System, manifest_id: str) -> dict[str, Any]:
    """What the orchestrator has on one session, stream or capability."""
    [found] = [one for one in (await system.orchestrator())["manifests"] if one["manifest_id"] == manifest_id]
    return dict(found)


async def summary(system: System, account: Account, session_id: str) -> str:
    """Where a payment session stands, as its operator reads it."""
    answer = await system.call("GET", f"/v1/sessions/{session_id}/timeline?account={account.account_id}")
    return str(answer.json["summary"])


async def only_session(system: System, account: Account) -> str:
    [session_id] = (await system.log()).of(account.account_id).by_session()
    return session_id


def _tickets(recorded: list[Mapping[str, Any]]) -> set[TicketId]:
    return {(one["recipient_rand_hash"].removeprefix("0x"), one["nonce"]) for one in recorded}
