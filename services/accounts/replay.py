"""Directory and audit, told by the log of accounts: `python -m services.accounts.replay [--verify]`."""

import sys

from services.accounts.directory import CREATE_TABLES, AccountRow, HookRow, KeyRow
from services.accounts.domain.accounts import Account
from services.accounts.domain.api_key import ApiKey
from services.accounts.domain.hook import Hook
from services.accounts.outbox import AccountsOutbox, public_of
from shared.audit import AUDIT_TABLE, with_audit
from shared.replay import Replay, main
from shared.row_tables import filling_rows
from shared.table_copies import Table

replay = Replay(
    "accounts",
    tables=[
        Table("accounts", ("account_id",)),
        Table("api_keys", ("key_id",)),
        Table("hooks", ("hook_id",)),
        AUDIT_TABLE,
    ],
    create=CREATE_TABLES,
    fill=with_audit(
        filling_rows(
            {
                Account: ("accounts", AccountRow.of),
                ApiKey: ("api_keys", KeyRow.of),
                Hook: ("hooks", HookRow.of),
            }
        ),
        AccountsOutbox.topics,
        lambda: public_of,
    ),
)

if __name__ == "__main__":
    sys.exit(main(replay))
