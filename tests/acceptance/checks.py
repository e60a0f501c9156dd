"""What must be true of an account however it was treated."""

from typing import Any

from tests.acceptance.system import Account, System, Totals, until

SETTLE_SECONDS = 45.0


async def settled(system: System, account: Account, *, seconds: float = SETTLE_SECONDS) -> Totals:
    """Wait until quota and metering have followed the signer's log to its end; return what they say.

    Metering counts each payment, ticket and wei of the log once, in all and by session; quota has
    booked the same cost; and no nonce was signed twice.
    """

    async def everybody() -> dict[str, Any]:
        log = (await system.log()).of(account.account_id)
        sessions = {
            row["session_id"]: (row["payments"], row["tickets"], int(row["cost_wei"]))
            for row in await system.sessions(account)
            if row["payments"]
        }
        return {
            "log": Totals(len(log.payments), log.ticket_count, log.cost),
            "usage": await system.usage(account),
            "log by session": log.by_session(),
            "sessions": sessions,
            "spent": int((await system.limits(account))["spent_wei"]),
        }

    def agree(said: dict[str, Any]) -> bool:
        books = (said["log"], said["log by session"], said["log"].cost)
        return books == (said["usage"], said["sessions"], said["spent"])

    last: dict[str, Any] = {}

    async def check() -> bool:
        last.update(await everybody())
        return agree(last)

    try:
        await until("signer, metering and quota agree", check, seconds=seconds)
    except AssertionError as problem:
        problem.add_note(str(last))
        raise
    assert not (await system.log()).repeated_nonces()
    totals: Totals = last["usage"]
    return totals
