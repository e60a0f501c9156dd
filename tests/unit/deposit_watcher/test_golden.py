"""Stored events as version 1 wrote them: they have to be readable for ever."""

from uuid import UUID

import pytest
from eventsourcing.persistence import StoredEvent

from services.deposit_watcher.application import Watching
from services.deposit_watcher.domain.funds import Deposit, Rounds
from services.deposit_watcher.domain.redemption import Kind, Redemption

HEX = "0x" + "11" * 32
TIME = '"timestamp":"2026-07-01T12:00:00Z"'
GOLDEN = {
    Deposit.Opened.TOPIC: '{"originator_topic":"deposit_watcher.deposit",'
    f'{TIME},"chain_id":42161,"payer":"0xaa"}}',
    Deposit.FundsObserved.TOPIC: f'{{{TIME},"payer":"0xaa","deposit":1000000000000000000000000000001,'
    f'"reserve":7,"withdraw_round":0,"pool_size":100,"l1_block":500,"block_hash":"{HEX}"}}',
    Rounds.Opened.TOPIC: f'{{"originator_topic":"deposit_watcher.rounds",{TIME},"chain_id":42161}}',
    Rounds.RoundChanged.TOPIC: f'{{{TIME},"round":9,"round_hash":"{HEX}","ticket_validity_rounds":2}}',
    Redemption.TicketRedeemed.TOPIC: '{"originator_topic":"deposit_watcher.redemption",'
    f'{TIME},"chain_id":42161,"payer":"0xaa","recipient":"0xbb","recipient_rand_hash":"{HEX}",'
    '"sender_nonce":7,"face_value":1000000000003,"win_prob":"0xff","aux_data":"0x33","paid":5,'
    f'"tx_hash":"{HEX}","log_index":3,"block":650,"block_hash":"{HEX}"}}',
    Redemption.Matched.TOPIC: f"{{{TIME}}}",
    Redemption.Recovered.TOPIC: f'{{{TIME},"reason":"fence"}}',
    Redemption.Orphaned.TOPIC: f"{{{TIME}}}",
}
GOLDEN[Redemption.Seen.TOPIC] = GOLDEN[Redemption.TicketRedeemed.TOPIC]


@pytest.mark.parametrize("topic", GOLDEN)
def test_stored_bytes_are_read_and_written_unchanged(topic: str) -> None:
    mapper = Watching().mapper
    stored = StoredEvent(UUID(int=1), 1, topic, GOLDEN[topic].encode())

    written = mapper.to_stored_event(mapper.to_domain_event(stored))

    assert written == stored


@pytest.mark.parametrize(
    ("topic", "kind"),
    [(Redemption.TicketRedeemed.TOPIC, Kind.SIGNED), (Redemption.Seen.TOPIC, Kind.PENDING)],
)
def test_redemptions_of_the_first_version_count_as_ours(topic: str, kind: Kind) -> None:
    event = Watching().mapper.to_domain_event(StoredEvent(UUID(int=1), 1, topic, GOLDEN[topic].encode()))
    assert isinstance(event, Redemption.OnChain)

    redemption = event.mutate(None)

    assert isinstance(redemption, Redemption)
    assert redemption.kind == kind
    assert redemption.ticket.sender_nonce == 7
