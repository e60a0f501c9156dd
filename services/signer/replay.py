"""The signer's sessions, folded from their first events: `python -m services.signer.replay [--verify]`.

It has no tables: what is compared are its snapshots. The report's `state` covers all aggregates, so
two stores with the same log can be compared, too.
"""

import sys

import services.signer.domain.adoption
import services.signer.domain.fence
import services.signer.domain.recovered
import services.signer.domain.sequence
import services.signer.domain.session  # noqa: F401 (these name the stored events' topics)
from shared.replay import Replay, main

replay = Replay("signer")

if __name__ == "__main__":
    sys.exit(main(replay))
