"""`clearinghouse pool` and `clearinghouse audit`: what there is, and who changed what."""

from heapq import merge
from itertools import islice
from typing import Annotated

import typer

from contracts.audit import AuditPage, AuditRow, ReadAudit, read_audit_subject
from contracts.quota import ListPools, PoolPage, PoolView
from services.cli import options
from services.cli.house import House
from services.cli.printing import Columns, print_rows
from services.cli.running import run

AUDITED = ("accounts", "quota", "metering")
AUDIT_PAGE_MAX = 500


def pool(*, json: options.Json = False) -> None:
    """Show each payer's deposit and reserve, and what of it is exposed."""

    async def work(house: House) -> None:
        pools = (await house.ask(ListPools(), PoolPage)).pools
        print_rows([(each, _pool_columns(each)) for each in pools], json=json, nothing="no pools")

    run(work, json=json)


def audit(
    *,
    account: Annotated[str | None, typer.Option(metavar="ACCOUNT", help="Of this account only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    service: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"{' or '.join(AUDITED)}; none: all.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show who changed what and why, the newest first."""
    asked = service or list(AUDITED)
    if set(asked) - set(AUDITED):
        raise typer.BadParameter(f"--service: {' or '.join(AUDITED)}")

    async def work(house: House) -> None:
        pages = [await _rows(house, each, account, limit) for each in asked]
        newest = islice(merge(*pages, key=lambda row: row.at, reverse=True), limit)
        print_rows([(row, _audit_columns(row)) for row in newest], json=json, nothing="nothing was changed")

    run(work, json=json)


async def _rows(house: House, service: str, account_id: str | None, limit: int) -> list[AuditRow]:
    """Newest first, as many as are wanted of all."""
    found: list[AuditRow] = []
    while len(found) < limit:
        size = min(limit - len(found), AUDIT_PAGE_MAX)
        before = found[-1].position if found else None
        asked = ReadAudit(before=before, account_id=account_id, limit=size)
        page = (await house.ask(asked, AuditPage, subject=read_audit_subject(service))).rows
        found += page
        if len(page) < size:
            break
    return found


def _pool_columns(pool: PoolView) -> Columns:
    return {
        "payer": pool.payer,
        "deposit": pool.deposit,
        "reserve": pool.reserve,
        "cover": pool.cover,
        "exposure": pool.exposure,
        "held": pool.held,
        "round": pool.round,
        "observed": pool.observed_at,
    }


def _audit_columns(row: AuditRow) -> Columns:
    return {
        "at": row.at,
        "service": row.service,
        "action": row.action,
        "account": row.account_id,
        "actor": row.actor,
        "reason": row.reason,
        "details": row.details,
    }
