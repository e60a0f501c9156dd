"""Databases and the roles of services: each role owns the schema of its name, and sees no other."""

from collections.abc import Iterable, Mapping

import psycopg
from psycopg import sql

TIMEOUTS = {"statement_timeout": "5s", "lock_timeout": "2s", "idle_in_transaction_session_timeout": "10s"}


def ensure_roles(admin_dsn: str, passwords: Mapping[str, str]) -> None:
    """Make the roles that are missing, and set the passwords of all."""
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        for role, password in passwords.items():
            # Hashed here: a failing statement is logged with its text.
            verifier = connection.pgconn.encrypt_password(
                password.encode(), role.encode(), b"scram-sha-256"
            ).decode()
            verb = "ALTER" if _exists(connection, "pg_roles", "rolname", role) else "CREATE"
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                    sql.SQL(verb), sql.Identifier(role), sql.Literal(verifier)
                )
            )


def ensure_database(admin_dsn: str, name: str) -> None:
    """Make the database unless it is there; nobody may enter it yet."""
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        if not _exists(connection, "pg_database", "datname", name):
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def ensure_schemas(admin_dsn: str, roles: Iterable[str]) -> None:
    """In the database of the DSN, let each role in and give it the schema of its name."""
    with psycopg.connect(admin_dsn) as connection:
        database = sql.Identifier(connection.info.dbname)
        for role in map(sql.Identifier, roles):
            connection.execute(
                sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(database, role)
            )
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(role, role))
            # A store that hangs must not hang its service (design §5: every wait has a deadline).
            for setting, value in TIMEOUTS.items():
                connection.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.SQL(setting), value))


def drop_database(admin_dsn: str, name: str) -> None:
    """Drop the database, with whoever is still connected to it."""
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _exists(connection: psycopg.Connection[tuple[object, ...]], table: str, column: str, name: str) -> bool:
    query = sql.SQL("SELECT 1 FROM {} WHERE {} = %s").format(sql.Identifier(table), sql.Identifier(column))
    return connection.execute(query, (name,)).fetchone() is not None
