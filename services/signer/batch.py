"""The aggregates of one batch: each loaded once, however many requests touch it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.signer.domain.adoption import Adoption
from services.signer.domain.fence import Fence
from services.signer.domain.sequence import TicketSequence
from services.signer.domain.session import PaymentSession
from services.signer.foreign import ForeignState
from services.signer.intent import Intent
from services.signer.refusal import BadRequestError, PaymentRefusal
from services.signer.rules import ChainView
from shared.history import FIRST_EPOCH, next_epoch
from shared.store import EventSourced

type Stored = PaymentSession | TicketSequence | Fence | Adoption


class Batch:
    """Each aggregate once, however many requests of the batch touch it."""

    def __init__(self, store: EventSourced, intents: Sequence[Intent | PaymentRefusal]) -> None:
        self._store = store
        self._epoch = store.log_epoch()
        self._loaded: dict[UUID, Stored] = {}
        self.new_epoch: tuple[int, str] | None = None  # this batch begins it, and why
        self.tickets = 0  # signed in this batch, and what they cost
        self.cost = 0
        wanted: set[UUID] = set()
        for intent in intents:
            if isinstance(intent, Intent):
                wanted.add(Fence.create_id(intent.payer))
                wanted.add(PaymentSession.create_id(intent.request.account_id, intent.session_id))
                wanted.add(TicketSequence.create_id(intent.payer, intent.quote.rand_hash_hex))
                if intent.foreign is not None:
                    wanted.add(Adoption.create_id(intent.payer, intent.foreign.state_id))
        self._absent = store.absent(wanted)

    def session(self, intent: Intent) -> PaymentSession | None:
        session_uuid = PaymentSession.create_id(intent.request.account_id, intent.session_id)
        found = self._get(session_uuid)
        ahead = (
            intent.reference is not None
            and isinstance(found, PaymentSession)
            and (intent.reference.sequence > found.sequence)
        )
        if ahead:  # another replica may have signed since this one looked
            self._store.forget(session_uuid)
            del self._loaded[session_uuid]
            found = self._get(session_uuid)
        assert found is None or isinstance(found, PaymentSession)
        return found

    def new_session(self, intent: Intent, now: datetime) -> PaymentSession:
        return self._add(PaymentSession(intent.request.account_id, intent.session_id, timestamp=now))

    def sequence(self, intent: Intent) -> TicketSequence | None:
        """The nonces of these params; refused if the same hash once stood for other params."""
        found = self._get(TicketSequence.create_id(intent.payer, intent.quote.rand_hash_hex))
        assert found is None or isinstance(found, TicketSequence)
        if found is not None and found.params != intent.quote.params_text:
            raise BadRequestError("ticketParams differ from those seen with this recipientRandHash")
        return found

    def new_sequence(self, intent: Intent, now: datetime) -> TicketSequence:
        quote = intent.quote
        opened = TicketSequence(intent.payer, quote.rand_hash_hex, quote.params_text, timestamp=now)
        return self._add(opened)

    def adoption(self, payer: str, state_id: str) -> Adoption | None:
        found = self._get(Adoption.create_id(payer, state_id))
        assert found is None or isinstance(found, Adoption)
        return found

    def announce_adoption(self, intent: Intent, foreign: ForeignState, now: datetime) -> None:
        rand_hashes = [foreign.rand_hash_hex, intent.quote.rand_hash_hex]
        account_id = intent.request.account_id
        self._add(Adoption(intent.payer, foreign.state_id, account_id, rand_hashes, timestamp=now))

    def fence_block(self, payer: str) -> int | None:
        found = self._get(Fence.create_id(payer))
        assert found is None or isinstance(found, Fence)
        return found.l1_block if found is not None else None

    def fence_covers(self, payer: str, at: datetime) -> bool:
        """Whether the fence stands for a loss that may include what was signed at this time."""
        found = self._get(Fence.create_id(payer))
        assert found is None or isinstance(found, Fence)
        return found is not None and found.covers(at)

    def raise_fence(self, payer: str, chain: ChainView, reason: str, now: datetime) -> None:
        """The store turns out to have lost its tail: begin an epoch, and refuse what may be lost."""
        found = self._get(Fence.create_id(payer)) or self._add(Fence(payer, timestamp=now))
        assert isinstance(found, Fence)
        epoch = next_epoch(max(self._epoch, found.epoch), now)
        found.raise_to(chain.l1_block, reason, now, epoch=epoch)
        self.new_epoch = (epoch, reason)

    def follow_epoch(self, payer: str, chain: ChainView, now: datetime) -> None:
        """Have the payer's fence stand where the log's epoch began, before anything is signed."""
        found = self._get(Fence.create_id(payer))
        assert found is None or isinstance(found, Fence)
        if self._epoch > (found.epoch if found is not None else FIRST_EPOCH):
            found = found or self._add(Fence(payer, timestamp=now))
            found.raise_to(chain.l1_block, "the log began a new epoch", now, epoch=self._epoch)

    def changed(self) -> list[Stored]:
        return [aggregate for aggregate in self._loaded.values() if aggregate.pending_events]

    def forget(self) -> None:
        self._store.forget(*self._loaded)

    def _get(self, aggregate_id: UUID) -> Stored | None:
        if aggregate_id not in self._loaded:
            if aggregate_id in self._absent:
                return None
            self._loaded[aggregate_id] = self._store.repository.get(aggregate_id)
        return self._loaded[aggregate_id]

    def _add[A: (PaymentSession, TicketSequence, Fence, Adoption)](self, aggregate: A) -> A:
        self._loaded[aggregate.id] = aggregate
        return aggregate
