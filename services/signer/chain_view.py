"""The chain as the signer sees it: the deposit watcher's bucket, kept in memory."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from contracts.deposit_watcher import ChainHead, PayerFunds
from services.signer.rules import ChainView
from shared.bucket import BucketReader
from shared.clock import Clock
from shared.money import Wei


class WatchedChain:
    """Parses the bucket's entries when they change; None when they are missing or too old."""

    def __init__(self, bucket: BucketReader, payer: str, clock: Clock, stale: timedelta) -> None:
        self._bucket = bucket
        self._payer_entry = f"payer.{payer}"
        self._now: Callable[[], datetime] = clock.now
        self._stale = stale
        self._parsed: tuple[bytes | None, bytes | None] = (None, None)
        self._view: ChainView | None = None

    def __call__(self) -> ChainView | None:
        entries = (self._bucket.get("head"), self._bucket.get(self._payer_entry))
        if entries != self._parsed:
            self._parsed = entries
            self._view = _parse(*entries)
        if self._view is None or self._now() - self._view.observed_at > self._stale:
            return None
        return self._view


def _parse(head_entry: bytes | None, funds_entry: bytes | None) -> ChainView | None:
    if head_entry is None or funds_entry is None:
        return None
    head = ChainHead.model_validate_json(head_entry)
    funds = PayerFunds.model_validate_json(funds_entry)
    return ChainView(
        l1_block=head.l1_block,
        round=head.round,
        round_hash=bytes.fromhex(head.round_hash.removeprefix("0x")),
        previous_round_hash=bytes.fromhex(head.previous_round_hash.removeprefix("0x")),
        deposit=Wei(funds.deposit),
        reserve=Wei(funds.reserve),
        withdraw_round=funds.withdraw_round,
        observed_at=datetime.fromtimestamp(head.observed_at_ms / 1000, UTC),
    )
