"""Races: `python -m tests.faults races --amount 10000`.

Two signers and two quotas on one real PostgreSQL, sent off at the same moment from two threads: in
each round they want the same thing, which only one can have.
"""

from collections.abc import Iterator

import psycopg

from tests import infra
from tests.faults.part import Findings
from tests.faults.races.field import PAYER, Field
from tests.faults.races.rounds import ROUNDS, fund

UNIT = "rounds"
AMOUNT = 10_000
CHUNK = 500
ROLES = ("signer", "quota")


def run(seed: int, amount: int) -> Iterator[Findings]:
    """Run so many rounds, of each kind as many. What the seed cannot fix is who comes first."""
    with infra.own_slot() as slot, infra.run_postgres(slot) as postgres:
        yield from run_on(postgres, seed, amount)


def run_on(postgres: infra.Postgres, seed: int, amount: int) -> Iterator[Findings]:
    for start in range(0, amount, CHUNK):
        with postgres.database(*ROLES) as database:
            _hurry(database)
            field = Field(database)
            try:
                yield _rounds(field, seed, range(start, min(amount, start + CHUNK)))
            finally:
                field.close()


def _rounds(field: Field, seed: int, numbers: range) -> Findings:
    fund(field, PAYER, 10**18)
    findings = Findings(len(numbers))
    for number in numbers:
        play = ROUNDS[(number + seed) % len(ROUNDS)]
        findings.violations.extend(play(field, number))
        findings.counted[play.__name__.replace("_", " ")] += 1
    return findings


def _hurry(database: infra.Database) -> None:
    """The server does not die here, so commits need not wait for its disk."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"ALTER ROLE {role} SET synchronous_commit = off".encode())
