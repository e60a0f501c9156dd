"""What each service's role may do in PostgreSQL: all in its own schema, nothing anywhere else.

Every role, every table of every schema, each verb, for real; then what would reach past SQL.
"""

from collections.abc import Iterator, Mapping, Sequence

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege
from psycopg.sql import SQL, Composed, Identifier

from contracts.streams import PUBLISHERS
from services.accounts.application import Accounts
from services.accounts.directory import PostgresDirectory
from services.accounts.outbox import AccountsOutbox
from services.metering.app import make_tables
from services.metering.application import Metering
from services.metering.outbox import MeteringOutbox
from services.metering.projections import usage_tables
from services.quota.application import Quota
from services.quota.outbox import QuotaOutbox
from services.signer.outbox import SignerOutbox
from shared.log import PublicLog
from shared.money import Wei
from shared.positions import Positions
from shared.store import EventSourced, NamedLog, postgres_env
from tests import infra

# Schema -> tables that must be among those tried; more may be there.
TABLES = {
    "accounts": {"accounts_events", "log", "accounts", "api_keys"},
    "quota": {"quota_events", "log", "positions", "dead_letters", "allowances"},
    "signer": {"signer_events", "log"},
    "metering": {"metering_events", "log", "positions", "dead_letters", "usage_hourly", "sessions"},
    "deposit_watcher": {"deposit_watcher_events", "log"},
}
ON_A_TABLE = (
    "SELECT * FROM {}",
    "SELECT count(*) FROM {}",
    "SELECT 1 FROM {} FOR UPDATE",
    "INSERT INTO {} DEFAULT VALUES",
    "DELETE FROM {}",
    "TRUNCATE {}",
    "DROP TABLE {}",
    "ALTER TABLE {} ADD COLUMN mine text",
    "CREATE INDEX ON {} ((1))",
    "CREATE TRIGGER mine BEFORE INSERT ON {} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "DO $$ BEGIN LOCK TABLE {}; END $$",
    "COPY {} TO STDOUT",
    "GRANT SELECT ON {} TO PUBLIC",
    "CREATE TABLE pg_temp.mine (LIKE {})",
)
ON_A_SCHEMA = (
    "CREATE TABLE {}.mine ()",
    "CREATE FUNCTION {}.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER SCHEMA {} RENAME TO mine",
    "DROP SCHEMA {} CASCADE",
    "GRANT USAGE ON SCHEMA {} TO PUBLIC",
)
BEYOND_SQL = (
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT pg_read_binary_file('PG_VERSION')",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_stat_file('PG_VERSION')",
    "SELECT pg_ls_logdir()",
    "SELECT pg_ls_waldir()",
    "SELECT lo_import('/etc/passwd')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY pg_class FROM PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/mine'",
    "COPY pg_class FROM '/etc/passwd'",
    "SELECT rolpassword FROM pg_authid",
    "SELECT passwd FROM pg_shadow",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT * FROM pg_file_settings",
    "SELECT * FROM pg_backend_memory_contexts",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "SELECT pg_switch_wal()",
    "SELECT pg_create_restore_point('mine')",
    "SELECT pg_create_physical_replication_slot('mine')",
    "SELECT pg_stat_reset()",
    "ALTER SYSTEM SET fsync = off",
    "SET session_replication_role = replica",
    "SET log_statement = 'all'",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "CREATE SCHEMA mine",
    "CREATE TABLE public.mine ()",
    "CREATE LANGUAGE mine HANDLER plpgsql_call_handler",
    "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE c AS 'mine', 'mine'",
    "CREATE EVENT TRIGGER mine ON sql_drop EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE SUBSCRIPTION mine CONNECTION 'host=nowhere' PUBLICATION mine",
    "CREATE PUBLICATION mine FOR ALL TABLES",
    "CREATE TABLESPACE mine LOCATION '/tmp'",
    "DROP ROLE postgres",
    "CHECKPOINT",
)


@pytest.fixture(scope="module")
def made(postgres: infra.Postgres) -> Iterator[infra.Database]:
    """All schemas with all tables, as services make them at their first start, and a row in each."""
    with postgres.database(*PUBLISHERS) as database:
        for publisher in PUBLISHERS:
            env = postgres_env(database.dsn(publisher), publisher, create_tables=True)
            application = _make_tables(publisher, env)
            application.close()
        yield database


def _make_tables(publisher: str, env: Mapping[str, str]) -> EventSourced:
    match publisher:
        case "accounts":
            accounts = Accounts(PostgresDirectory, env)
            PostgresDirectory(accounts).create_tables()
            PublicLog(accounts, AccountsOutbox(accounts.mapper)).create_tables()
            return accounts
        case "quota":
            quota = Quota(Wei(1), env)
            PublicLog(quota, QuotaOutbox(quota)).create_tables()
            Positions(quota).create_tables()
            quota.create_tables()
            return quota
        case "metering":
            metering = Metering(usage_tables("metering"), env)
            make_tables(metering, PublicLog(metering, MeteringOutbox(metering)))
            return metering
    log = NamedLog(publisher, env)
    PublicLog(log, SignerOutbox(log)).create_tables()
    return log


@pytest.fixture(scope="module")
def tables(made: infra.Database) -> dict[str, set[str]]:
    """Schema -> its tables, as the superuser sees them."""
    query = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s)"
    found: dict[str, set[str]] = {}
    with psycopg.connect(made.dsn()) as connection:
        for schema, table in connection.execute(query, (list(PUBLISHERS),)):
            found.setdefault(schema, set()).add(table)
    return found


def test_every_schema_with_its_tables_is_tried(tables: dict[str, set[str]]) -> None:
    assert set(tables) == set(TABLES) == set(PUBLISHERS)
    for schema, least in TABLES.items():
        assert least <= tables[schema], schema


@pytest.mark.parametrize("role", PUBLISHERS)
def test_a_role_does_nothing_in_the_schema_of_another(
    made: infra.Database, tables: dict[str, set[str]], role: str
) -> None:
    statements: list[SQL | Composed] = [
        SQL(statement).format(Identifier(schema, table))
        for schema in tables.keys() - {role}
        for table in tables[schema]
        for statement in ON_A_TABLE
    ]
    statements += [
        SQL(statement).format(Identifier(schema))
        for schema in tables.keys() - {role}
        for statement in ON_A_SCHEMA
    ]

    assert _not_refused(made.dsn(role), statements) == []


@pytest.mark.parametrize("role", PUBLISHERS)
def test_a_role_reads_and_writes_its_own_tables(
    made: infra.Database, tables: dict[str, set[str]], role: str
) -> None:
    with psycopg.connect(made.dsn(role)) as connection:
        for table in tables[role]:
            for statement in ("SELECT * FROM {}", "DELETE FROM {}", "LOCK TABLE {}"):
                connection.execute(SQL(statement).format(Identifier(role, table)))
        connection.rollback()


@pytest.mark.parametrize("role", PUBLISHERS)
def test_no_role_reaches_past_its_schema(made: infra.Database, role: str) -> None:
    statements: list[SQL | Composed] = [SQL(statement) for statement in BEYOND_SQL]
    others = ["postgres", *sorted(set(PUBLISHERS) - {role})]
    statements += [SQL("SET ROLE {}").format(Identifier(other)) for other in others]
    statements += [SQL("ALTER ROLE {} PASSWORD 'mine'").format(Identifier(other)) for other in others]
    statements += [SQL("GRANT {} TO {}").format(Identifier(other), Identifier(role)) for other in others]

    assert _not_refused(made.dsn(role), statements) == []


@pytest.mark.parametrize("role", PUBLISHERS)
def test_a_role_cannot_see_or_end_the_work_of_another(made: infra.Database, role: str) -> None:
    other = next(each for each in PUBLISHERS if each != role)
    secret = "SELECT 'what another asks'"
    with psycopg.connect(made.dsn(other)) as working, psycopg.connect(made.dsn(role)) as connection:
        working.execute(secret)
        pid = working.info.backend_pid
        [row] = connection.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchall()
        end = SQL("SELECT pg_terminate_backend({0}), pg_cancel_backend({0})").format(pid)

        assert row == ("<insufficient privilege>",)
        assert _not_refused(made.dsn(role), [end]) == []
        working.execute("SELECT 1")


def test_no_role_has_a_power_of_the_server(made: infra.Database) -> None:
    powers = "rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
    query = f"SELECT rolname, {powers} FROM pg_roles WHERE rolname = ANY(%s)"
    memberships = "SELECT 1 FROM pg_auth_members WHERE member = ANY(%s::regrole[])"
    with psycopg.connect(made.dsn()) as connection:
        rows = connection.execute(query.encode(), (list(PUBLISHERS),)).fetchall()
        member = connection.execute(memberships, (list(PUBLISHERS),)).fetchall()

    assert {row[0] for row in rows} == set(PUBLISHERS)
    assert not any(any(row[1:]) for row in rows)
    assert member == []


@pytest.mark.parametrize("role", PUBLISHERS)
def test_every_wait_of_a_role_has_a_deadline(made: infra.Database, role: str) -> None:
    with psycopg.connect(made.dsn(role)) as connection:
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert connection.execute(f"SHOW {setting}".encode()).fetchone() != ("0",), setting


def test_a_role_may_not_enter_the_database_of_another_installation(
    made: infra.Database, postgres: infra.Postgres
) -> None:
    with postgres.database() as other:
        for role in PUBLISHERS:
            there = made.address.dsn(role=role, password=made.passwords[role], database=other.name)

            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                psycopg.connect(there)


def test_in_the_databases_that_every_server_has_a_role_makes_and_reads_nothing(made: infra.Database) -> None:
    statements = [SQL("CREATE TABLE public.mine ()"), SQL("CREATE SCHEMA mine"), *map(SQL, BEYOND_SQL[:8])]
    for role in PUBLISHERS:
        dsn = made.address.dsn(role=role, password=made.passwords[role], database="postgres")

        assert _not_refused(dsn, statements) == []


def _not_refused(dsn: str, statements: Sequence[SQL | Composed]) -> list[str]:
    """Which of these were not refused for want of a right."""
    passed = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            try:
                connection.execute(statement)
                passed.append(statement.as_string(connection))
            except InsufficientPrivilege:
                pass
            except psycopg.Error as problem:
                passed.append(f"{statement.as_string(connection)}: {problem!r}")
    return passed
