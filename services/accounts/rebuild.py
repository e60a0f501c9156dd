"""Writes the directory again from the log: `python -m services.accounts.rebuild`."""

from uuid import UUID

from services.accounts.application import Accounts
from services.accounts.directory import AccountRow, KeyRow, PostgresDirectory
from services.accounts.domain import Account, ApiKey
from services.accounts.settings import Settings
from shared.store import postgres_env

PAGE = 500
CREATING = (Account.Opened.TOPIC, ApiKey.Issued.TOPIC)


def rebuild(accounts: Accounts, directory: PostgresDirectory) -> int:
    """Put a row for every aggregate there is; return how many."""
    directory.create_tables()
    start, rows = 0, 0
    while True:
        page = accounts.recorder.select_notifications(start, PAGE, topics=CREATING, inclusive_of_start=False)
        for notification in page:
            start = notification.id
            assert isinstance(notification.originator_id, UUID)
            aggregate: Account | ApiKey = accounts.repository.get(notification.originator_id)
            row = AccountRow.of(aggregate) if isinstance(aggregate, Account) else KeyRow.of(aggregate)
            accounts.recorder.insert_events([], effects=[directory.record(row)])
            rows += 1
        if len(page) < PAGE:
            return rows


def main() -> None:
    settings = Settings()
    dsn = settings.postgres_dsn.get_secret_value()
    accounts = Accounts(PostgresDirectory, postgres_env(dsn, "accounts", create_tables=False))
    print(f"{rebuild(accounts, PostgresDirectory(accounts))} rows written")  # noqa: T201 (a tool)
    accounts.close()


if __name__ == "__main__":
    main()
