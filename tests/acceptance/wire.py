"""A client written by hand that behaves as the SDK does, where a test needs each byte.

It speaks the SDK's own protobuf messages, not ours.
"""

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from typing import Any

from livepeer_gateway import lp_rpc_pb2 as pb

from tests.acceptance.system import Account, Answer, System

SIGNER = "/generate-live-payment"


@dataclass(frozen=True)
class Challenge:
    """What a runner answers with 402: quote, session and where to pay."""

    payment_params: str
    manifest_id: str
    payment_url: str
    runner_url: str

    @property
    def info(self) -> Any:
        return pb.OrchestratorInfo.FromString(b64decode(self.payment_params))

    def quoting(self, info: Any) -> "Challenge":
        return replace(self, payment_params=b64encode(info.SerializeToString()).decode())


@dataclass(frozen=True)
class Paid:
    """The signer's reply, opened."""

    payment: str
    credentials: str
    state: Any

    @classmethod
    def read(cls, answer: Answer) -> "Paid":
        assert answer.status == 200, answer
        reply = answer.json
        return cls(reply["payment"], reply["segCreds"], reply["state"])

    @property
    def message(self) -> Any:
        return pb.Payment.FromString(b64decode(self.payment))

    @property
    def tickets(self) -> dict[tuple[str, int], bytes]:
        """Each ticket, by rand hash and nonce, with its signature."""
        rand_hash = self.message.ticket_params.recipient_rand_hash.hex()
        return {(rand_hash, one.sender_nonce): one.sig for one in self.message.ticket_sender_params}

    @property
    def nonces(self) -> list[int]:
        return [one.sender_nonce for one in self.message.ticket_sender_params]

    @property
    def session_id(self) -> str:
        return str(json.loads(b64decode(self.state["State"]))["StateID"])


class Payer:
    """An account's client: it asks for challenges, has payments signed, and delivers them."""

    def __init__(self, system: System, account: Account) -> None:
        self.system = system
        self.account = account

    async def address(self) -> str:
        answer = await self.system.send(
            "POST", "/sign-orchestrator-info", data=b"{}", headers=self.account.headers
        )
        return str(answer.json["address"])

    async def challenge(self) -> Challenge:
        found = await self.system.send("GET", "/discover-orchestrators", headers=self.account.headers)
        runner_url = found.json[0]["runners"][0]["url"]
        headers = {"Livepeer-Payer-Address": await self.address()}
        answer = await self.system.send("POST", runner_url, data=b"{}", headers=headers)
        assert answer.status == 402, answer
        asked = answer.json
        return Challenge(asked["payment_params"], asked["manifest_id"], asked["payment_url"], runner_url)

    async def refresh(self, challenge: Challenge) -> Challenge:
        body = {"sender": await self.address(), "manifest_id": challenge.manifest_id}
        url = f"{self.system.world.orchestrator_url}/refresh-payment"
        answer = await self.system.send("POST", url, data=json.dumps(body).encode())
        return replace(challenge, payment_params=answer.json["payment_params"])

    async def ask(self, body: bytes) -> Answer:
        """Have a payment signed; the body goes out as it is."""
        headers = {**self.account.headers, "Content-Type": "application/json"}
        return await self.system.send("POST", SIGNER, data=body, headers=headers)

    async def pay(self, challenge: Challenge, paid: Paid | None = None, **changes: Any) -> Paid:
        state = paid.state if paid else None
        return Paid.read(await self.ask(request(challenge, state, **changes)))

    async def reserve(self, challenge: Challenge, paid: Paid) -> Answer:
        """Deliver the first payment, which opens the session."""
        return await self.system.send("POST", challenge.runner_url, data=b"{}", headers=_headers(paid))

    async def deliver(self, challenge: Challenge, paid: Paid) -> Answer:
        return await self.system.send("POST", challenge.payment_url, headers=_headers(paid))

    async def stop(self, challenge: Challenge) -> None:
        await self.system.send("POST", challenge.payment_url.removesuffix("payment") + "stop")


def request(challenge: Challenge, state: Any = None, **changes: Any) -> bytes:
    """The body the SDK would send, with changes; None leaves a key out."""
    content = {
        "orchestrator": challenge.payment_params,
        "type": "live",
        "ManifestID": challenge.manifest_id,
        "app": "demo/echo",
        "state": state,
        **changes,
    }
    return json.dumps({key: value for key, value in content.items() if value is not None}).encode()


def _headers(paid: Paid) -> dict[str, str]:
    return {"Livepeer-Payment": paid.payment, "Livepeer-Segment": paid.credentials}


def foreign_state(state_id: str, *, sequence: int, balance: str) -> dict[str, Any]:
    """As go-livepeer's own signer has it: a live job of 100 wei a second, ten seconds of it taken."""
    return {
        "StateID": state_id,
        "PMSessionID": "0x" + "ab" * 32,
        "LastUpdate": "2026-03-01T12:00:00.5Z",
        "OrchestratorAddress": "0x" + "12" * 20,
        "App": "demo/echo",
        "SenderNonce": 1,
        "Balance": balance,
        "InitialPricePerUnit": 100,
        "InitialPixelsPerUnit": 1,
        "SequenceNumber": sequence,
        "Type": "live",
        "AuthExpiry": 0,
        "AuthID": "",
    }
