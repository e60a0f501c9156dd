"""A payer written from docs/protocol.md with other libraries than the orchestrator's.

Messages are the official SDK's, hashes and signatures eth_account's, the packing eth_abi's.
"""

import base64
from collections.abc import Iterable
from fractions import Fraction

from eth_abi.packed import encode_packed
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_utils.crypto import keccak
from livepeer_gateway import lp_rpc_pb2 as net

CERTAIN = 2**256 - 1
TICKET = ["address", "address", "uint256", "uint256", "uint256", "bytes32", "bytes"]


class Payer:
    def __init__(
        self, key: str = "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
    ) -> None:
        self._account = Account.from_key(key)
        self.address: str = self._account.address

    def sign(self, message: bytes) -> bytes:
        return bytes(self._account.sign_message(encode_defunct(message)).signature)

    @staticmethod
    def hash(message: bytes) -> bytes:
        return bytes(keccak(message))

    def sign_orchestrator_info(self) -> dict[str, str]:
        signature = self.sign(keccak(self.address.encode()))
        return {"address": self.address, "signature": f"0x{signature.hex()}"}

    def payment(self, info: net.OrchestratorInfo, nonces: Iterable[int]) -> net.Payment:
        params = net.TicketParams()
        params.CopyFrom(info.ticket_params)
        params.ClearField("expiration_params")
        return net.Payment(
            ticket_params=params,
            sender=bytes.fromhex(self.address[2:]),
            expiration_params=info.ticket_params.expiration_params,
            ticket_sender_params=[
                net.TicketSenderParams(
                    sender_nonce=nonce, sig=self.sign(self.ticket_hash(info.ticket_params, nonce))
                )
                for nonce in nonces
            ],
            expected_price=info.price_info,
        )

    def ticket_hash(self, params: net.TicketParams, nonce: int) -> bytes:
        expiration = params.expiration_params
        aux_data = expiration.creation_round.to_bytes(32) + expiration.creation_round_block_hash
        fields = [
            f"0x{params.recipient.hex()}",
            self.address,
            int.from_bytes(params.face_value),
            int.from_bytes(params.win_prob),
            nonce,
            params.recipient_rand_hash,
            aux_data,
        ]
        return keccak(encode_packed(TICKET, fields))

    def orchestrator_request(self, **fields: object) -> net.OrchestratorRequest:
        return net.OrchestratorRequest(
            address=bytes.fromhex(self.address[2:]), sig=self.sign(keccak(self.address.encode())), **fields
        )

    def segment(
        self, info: net.OrchestratorInfo, manifest_id: str, *, seq: int = 0, body: bytes = b""
    ) -> net.SegData:
        body_hash = keccak(body)
        flat = manifest_id.encode() + seq.to_bytes(32) + body_hash
        return net.SegData(
            manifestId=manifest_id.encode(),
            seq=seq,
            hash=body_hash,
            profiles=b"invalid",
            sig=self.sign(keccak(flat)),
            auth_token=info.auth_token,
        )

    def headers(
        self, info: net.OrchestratorInfo, nonces: Iterable[int], *, manifest_id: str | None = None
    ) -> dict[str, str]:
        """Pay for the session of a quote, or for another manifest."""
        segment = self.segment(info, manifest_id or info.auth_token.session_id)
        return headers(self.payment(info, nonces), segment)


def headers(payment: net.Payment, segment: net.SegData) -> dict[str, str]:
    return {
        "Livepeer-Payment": base64.b64encode(payment.SerializeToString()).decode(),
        "Livepeer-Segment": base64.b64encode(segment.SerializeToString()).decode(),
    }


def parse_info(payment_params: str) -> net.OrchestratorInfo:
    info = net.OrchestratorInfo()
    info.ParseFromString(base64.b64decode(payment_params))
    return info


def expected_value(params: net.TicketParams) -> Fraction:
    face_value, win_prob = int.from_bytes(params.face_value), int.from_bytes(params.win_prob)
    return Fraction(face_value * win_prob, CERTAIN)
