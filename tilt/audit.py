"""Reads the logs of two services side by side, past all their code, for what must agree."""

import json

import psycopg

SEQUENCES = """
SELECT opened.state, max((taken.state_json->>'first')::int + (taken.state_json->>'count')::int - 1)
FROM signer.signer_events opened
JOIN (SELECT originator_id, convert_from(state, 'UTF8')::jsonb AS state_json
      FROM signer.signer_events WHERE topic = 'signer.nonces_taken') taken USING (originator_id)
WHERE opened.topic = 'signer.ticket_sequence_opened' GROUP BY opened.state
"""
REDEEMED = (
    "SELECT state FROM deposit_watcher.deposit_watcher_events WHERE topic = 'deposit_watcher.ticket_redeemed'"
)


def redeemed_but_not_signed(dsn: str) -> list[str]:
    """Tickets that the chain paid out and the signer's log does not know; none, if all is well."""
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        signed = {
            json.loads(bytes(state))["recipient_rand_hash"]: int(last)
            for state, last in connection.execute(SEQUENCES)
        }
        redeemed = [json.loads(bytes(state)) for (state,) in connection.execute(REDEEMED)]
    return [
        f"{ticket['recipient_rand_hash']} nonce {ticket['sender_nonce']}"
        for ticket in redeemed
        if ticket["sender_nonce"] > signed.get(ticket["recipient_rand_hash"].removeprefix("0x"), 0)
    ]
