"""The directory, told by the log of accounts: `python -m services.accounts.replay [--verify]`."""

import sys

from services.accounts.directory import CREATE_DIRECTORY_TABLES, AccountRow, KeyRow
from services.accounts.domain import Account, ApiKey
from shared.replay import Replay, main
from shared.row_tables import filling_rows
from shared.table_copies import Table

replay = Replay(
    "accounts",
    tables=[Table("accounts", ("account_id",)), Table("api_keys", ("key_id",))],
    create=CREATE_DIRECTORY_TABLES,
    fill=filling_rows({Account: ("accounts", AccountRow.of), ApiKey: ("api_keys", KeyRow.of)}),
)

if __name__ == "__main__":
    sys.exit(main(replay))
