"""The buckets `rules` and `stops`: what signers and edges check by themselves.

A table has their entries, changed in the transaction of the events. One process of quota writes the
buckets: all of the table when it begins, then whatever the log says was changed, ten times a second.
"""

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import structlog
from eventsourcing.persistence import PersistenceError
from psycopg.sql import SQL

from contracts.limits import (
    LimitsSet,
    PlanAssigned,
    PlanSet,
    Rules,
    RulesEntry,
    Scoped,
    plan_entry,
    scope_entry,
)
from contracts.stops import STOP_ENTRIES, StopLifted, StopSet, StopView, stop_entry
from services.quota.domain.limit_set import LimitSet, Scope
from services.quota.domain.plan import Plan
from services.quota.outbox import limits_told
from services.quota.own_table import OwnTable
from shared.bucket import BucketWriter
from shared.log import PublicLog
from shared.store import Effect

log = structlog.get_logger()

POLL_SECONDS = 0.1

CREATE_RULES_TABLE = """
CREATE TABLE IF NOT EXISTS {schema}.rules (entry text PRIMARY KEY, value text NOT NULL);
"""


def entry_of(found: LimitSet | Plan) -> tuple[str, str]:
    """Its key in the bucket, and its value; none if there is nothing to check."""
    if isinstance(found, Plan):
        terms = found.stored
        entry = RulesEntry(
            rules=_rules(terms["limits"]) or Rules(),
            user_rules=_rules(terms["user_limits"]),
            key_rules=_rules(terms["key_limits"]),
        )
        return plan_entry(found.name), entry.model_dump_json(exclude_defaults=True)
    entry = RulesEntry(rules=_rules(found.own) or Rules(), plan=found.plan)
    value = "" if entry == RulesEntry() else entry.model_dump_json(exclude_defaults=True)
    return scope_entry(scoped(found.scope)), value


def entry_of_stop(stop: Mapping[str, Any]) -> tuple[str, str]:
    view = stop_view(stop)
    return stop_entry(view.what, view.value), view.model_dump_json()


def stop_view(stop: Mapping[str, Any]) -> StopView:
    return StopView.model_validate({**stop, "set_at": stop["set"], "expires_at": stop["expires"]})


def scoped(scope: Scope) -> Scoped:
    return Scoped(
        account_id=scope.account_id, user_id=scope.user_id, key_id=scope.key_id, token_id=scope.token_id
    )


def _rules(stored: Mapping[str, Any]) -> Rules | None:
    """Those of the limits that are rules; None if there are none."""
    told = limits_told(dict(stored)).model_dump()
    found = Rules.model_validate({name: told[name] for name in Rules.model_fields})
    return found if found != Rules() else None


class RulesTable(OwnTable):
    """Reads the table, and makes the effects that change it with the events."""

    def create_tables(self) -> None:
        self._create(CREATE_RULES_TABLE)

    def change(self, entries: Mapping[str, str]) -> Effect:
        """Have these entries; those without a value are dropped."""
        put = SQL(
            "INSERT INTO {schema}.rules SELECT * FROM unnest(%s::text[], %s::text[])"
            " ON CONFLICT (entry) DO UPDATE SET value = excluded.value"
        ).format(schema=self._schema)
        drop = SQL("DELETE FROM {schema}.rules WHERE entry = ANY(%s)").format(schema=self._schema)
        kept = {key: value for key, value in entries.items() if value}
        gone = [key for key in entries if key not in kept]

        def effect(cursor: Any) -> None:
            cursor.execute(put, (list(kept), list(kept.values())))
            cursor.execute(drop, (gone,))

        return effect

    def all(self) -> dict[str, bytes]:
        return self._select("true", [])

    def plan_names(self) -> list[str]:
        """Every plan has an entry."""
        return sorted(
            key.removeprefix(plan_entry("")) for key in self.all() if key.startswith(plan_entry(""))
        )

    def expired_tokens(self, now: datetime, limit: int) -> list[Scope]:
        """Session tokens that nobody can show any more; their limits are still here."""
        condition = "entry LIKE %s AND (value::json -> 'rules' ->> 'expires_at')::timestamptz < %s LIMIT %s"
        found = self._select(condition, ["token.%", now, limit])
        parts = [key.split(".") for key in found]
        return [Scope(account_id, token_id=token_id) for _, account_id, token_id in parts]

    def some(self, keys: Collection[str]) -> dict[str, bytes]:
        return self._select("entry = ANY(%s)", [list(keys)])

    def _select(self, condition: str, params: list[Any]) -> dict[str, bytes]:
        query = SQL("SELECT entry, value FROM {}.rules WHERE {}").format(self._schema, SQL(condition))
        with self._store.datastore.get_connection() as connection:
            return {row["entry"]: row["value"].encode() for row in connection.execute(query, params)}


class RulesWriter:
    """Keeps the buckets as the table is."""

    def __init__(
        self, table: RulesTable, public_log: PublicLog, rules: BucketWriter, stops: BucketWriter
    ) -> None:
        self._table = table
        self._log = public_log
        self._rules = rules
        self._stops = stops
        self._read = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for task in (self._follow(), self._keep(self._stops), self._keep(self._rules)):
                group.create_task(task)

    async def _keep(self, writer: BucketWriter) -> None:
        """Not before the table was read: to readers an empty bucket is whole, and lifts every stop."""
        await self._read.wait()
        await writer.run({})

    async def _follow(self) -> None:
        """Write all at first, and after a restore; else what was changed."""
        epoch, position = 0, 0
        while True:
            try:
                now, _ = await asyncio.to_thread(self._log.marks)
                if now != epoch:
                    position = await asyncio.to_thread(self._log.head)
                    await self._write_all()
                    epoch = now
                position = await self._step(position)
            except PersistenceError as problem:
                log.warning("rules_wait", problem=repr(problem))
            await asyncio.sleep(POLL_SECONDS)

    async def _write_all(self) -> None:
        found = await asyncio.to_thread(self._table.all)
        for writer in (self._stops, self._rules):
            await writer.replace({key: value for key, value in found.items() if self._writer(key) is writer})
        self._read.set()

    async def _step(self, position: int) -> int:
        """Put what was changed after a position; returns how far it is now."""
        entries = await asyncio.to_thread(self._log.tail, position)
        keys = {key for entry in entries if (key := changed_entry(entry["subject"], entry["event"]))}
        if keys:
            values = await asyncio.to_thread(self._table.some, keys)
            for key in sorted(keys, key=self._is_rule):  # stops first
                if key in values:
                    await self._writer(key).put(key, values[key])
                else:
                    await self._writer(key).drop(key)
        return int(entries[-1]["position"]) if entries else position

    def _writer(self, key: str) -> BucketWriter:
        return self._rules if self._is_rule(key) else self._stops

    @staticmethod
    def _is_rule(key: str) -> bool:
        return not key.startswith(STOP_ENTRIES)


def changed_entry(subject: str, event: Mapping[str, Any]) -> str | None:
    """The bucket's entry that an event of the log has changed."""
    match subject:
        case LimitsSet.subject:
            return scope_entry(Scoped.model_validate(event))
        case PlanAssigned.subject:
            return scope_entry(Scoped(account_id=event["account_id"]))
        case PlanSet.subject:
            return plan_entry(event["name"])
        case StopSet.subject | StopLifted.subject:
            return stop_entry(event["what"], event["value"])
    return None
