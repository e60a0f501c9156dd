"""The redemptions, told by the watcher's log: `python -m services.deposit_watcher.replay [--verify]`.

How far the chain was read, and what the signer's log told, are no folds of its own log, and stay.
"""

import sys

import services.deposit_watcher.domain.funds  # noqa: F401 (it names the topics of what has no rows)
from services.deposit_watcher.domain.redemption import Redemption
from services.deposit_watcher.redemptions import CREATE_TABLES, Row
from shared.replay import Replay, main
from shared.row_tables import filling_rows
from shared.table_copies import Table

replay = Replay(
    "deposit_watcher",
    tables=[Table("redemptions", ("redemption_id",))],
    create=CREATE_TABLES,
    fill=filling_rows({Redemption: ("redemptions", Row.of)}),
)

if __name__ == "__main__":
    sys.exit(main(replay))
