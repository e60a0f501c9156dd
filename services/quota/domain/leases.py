"""Leases: what the sessions of an account were granted and have spent, and so hold of its budget.

Plain dictionaries, for they are the state of an aggregate. `sessions`, by session: granted and spent
since it was closed last, the last ask, the last grants by the number of their ask, whose key, which
payer. `ended`, by session: up to which ask it gave back. What changes leases returns by how much
what is held changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.quota.domain.granting import Ask
from shared.money import Wei

GRANTS_KEPT = 8  # of a session; older ones are closed or spent
ENDED_KEPT = 1_000  # sessions that gave back what they held: more than copies of asks are late by

type Sessions = dict[str, dict[str, Any]]


def held_by(sessions: Mapping[str, Mapping[str, Any]], session_id: str) -> Wei:
    session = sessions.get(session_id)
    return Wei(max(0, session["granted"] - session["spent"])) if session else Wei(0)


def granted_before(sessions: Sessions, ask: Ask) -> Wei | None:
    """What this very ask was granted, if it was answered already."""
    session = sessions.get(ask.session_id)
    grants = session["grants"] if session else {}
    return Wei(grants[str(ask.number)]) if str(ask.number) in grants else None


def lease(
    sessions: Sessions,
    session_id: str,
    number: int,
    amount: Wei,
    *,
    ends_at: datetime | None,
    counted_by: Sequence[str] | None,
    **whose: str | None,
) -> Wei:
    """Book a grant to the ask of this number."""
    before = held_by(sessions, session_id)
    session = sessions.setdefault(session_id, {"granted": 0, "spent": 0, "grants": {}})
    session["granted"] += amount
    session.update(number=number, **whose)
    session["ends"] = ends_at.timestamp() if ends_at is not None else None
    session["counted_by"] = counted_by or []
    session["grants"][str(number)] = amount
    if len(session["grants"]) > GRANTS_KEPT:
        del session["grants"][next(iter(session["grants"]))]
    return Wei(held_by(sessions, session_id) - before)


def spend(sessions: Sessions, session_id: str, amount: Wei) -> Wei:
    """What is spent is held no more; a session that is not there holds nothing."""
    before = held_by(sessions, session_id)
    if session_id in sessions:
        sessions[session_id]["spent"] += amount
    return Wei(held_by(sessions, session_id) - before)


def take_grants(sessions: Sessions, session_id: str, grants: Mapping[str, Wei]) -> Wei:
    """Free grants by the number of their ask. The session stays, as one that runs, until it is idle."""
    before = held_by(sessions, session_id)
    session = sessions.get(session_id)
    if session is not None:
        session["granted"] -= sum(grants.values())
        for number in grants:
            session["grants"].pop(number, None)
    return Wei(held_by(sessions, session_id) - before)


def freed_up_to(sessions: Sessions, session_id: str, ask_number: int) -> Wei:
    """What is free once the session gives back what asks up to this number had brought it."""
    return Wei(held_by(sessions, session_id) - _granted_after(sessions[session_id], ask_number))


def end(sessions: Sessions, ended: dict[str, int], session_id: str, ask_number: int) -> None:
    """Forget what asks up to this number had brought; a later grant is all that the session goes on with."""
    ended.pop(session_id, None)
    ended[session_id] = ask_number
    if len(ended) > ENDED_KEPT:
        del ended[next(iter(ended))]
    later = _granted_after(sessions[session_id], ask_number)
    if later:
        sessions[session_id].update(granted=later, spent=0)
    else:
        del sessions[session_id]


def _granted_after(session: Mapping[str, Any], ask_number: int) -> int:
    grants: Iterable[tuple[str, int]] = session["grants"].items()
    return sum(amount for number, amount in grants if int(number) > ask_number)
