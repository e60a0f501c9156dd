"""What the clearinghouse calls and hears of Livepeer's contracts on chain."""

from eth_typing import ABI, ABIComponent, ABIComponentIndexed, ABIEvent, ABIFunction


def _value(kind: str, name: str = "") -> ABIComponent:
    return {"name": name, "type": kind}


def _struct(name: str, *members: ABIComponent) -> ABIComponent:
    return {"name": name, "type": "tuple", "components": members}


def _view(name: str, *inputs: ABIComponent, returns: tuple[ABIComponent, ...]) -> ABIFunction:
    return {"type": "function", "name": name, "inputs": inputs, "outputs": returns, "stateMutability": "view"}


def _call(name: str, *inputs: ABIComponent) -> ABIFunction:
    return {
        "type": "function",
        "name": name,
        "inputs": inputs,
        "outputs": (),
        "stateMutability": "nonpayable",
    }


def _event(name: str, *inputs: ABIComponentIndexed) -> ABIEvent:
    return {"type": "event", "name": name, "inputs": inputs, "anonymous": False}


def _topic(kind: str, name: str) -> ABIComponentIndexed:
    return {"name": name, "type": kind, "indexed": True}


def _data(kind: str, name: str) -> ABIComponentIndexed:
    return {"name": name, "type": kind, "indexed": False}


TICKET = _struct(
    "ticket",
    _value("address", "recipient"),
    _value("address", "sender"),
    _value("uint256", "faceValue"),
    _value("uint256", "winProb"),
    _value("uint256", "senderNonce"),
    _value("bytes32", "recipientRandHash"),
    _value("bytes", "auxData"),
)
SENDER = _struct("sender", _value("uint256", "deposit"), _value("uint256", "withdrawRound"))
RESERVE = _struct("reserve", _value("uint256", "fundsRemaining"), _value("uint256", "claimedInCurrentRound"))

CONTROLLER: ABI = (_view("getContract", _value("bytes32", "id"), returns=(_value("address"),)),)

TICKET_BROKER: ABI = (
    _view("getSenderInfo", _value("address", "sender"), returns=(SENDER, RESERVE)),
    _view("usedTickets", _value("bytes32", "ticketHash"), returns=(_value("bool"),)),
    _view("ticketValidityPeriod", returns=(_value("uint256"),)),
    _view("unlockPeriod", returns=(_value("uint256"),)),
    _call("redeemWinningTicket", TICKET, _value("bytes", "sig"), _value("uint256", "recipientRand")),
    _event("DepositFunded", _topic("address", "sender"), _data("uint256", "amount")),
    _event("ReserveFunded", _topic("address", "reserveHolder"), _data("uint256", "amount")),
    _event(
        "ReserveClaimed",
        _topic("address", "reserveHolder"),
        _data("address", "claimant"),
        _data("uint256", "amount"),
    ),
    _event(
        "WinningTicketTransfer",
        _topic("address", "sender"),
        _topic("address", "recipient"),
        _data("uint256", "amount"),
    ),
    _event(
        "WinningTicketRedeemed",
        _topic("address", "sender"),
        _topic("address", "recipient"),
        _data("uint256", "faceValue"),
        _data("uint256", "winProb"),
        _data("uint256", "senderNonce"),
        _data("uint256", "recipientRand"),
        _data("bytes", "auxData"),
    ),
    _event(
        "Unlock",
        _topic("address", "sender"),
        _data("uint256", "startRound"),
        _data("uint256", "endRound"),
    ),
    _event("UnlockCancelled", _topic("address", "sender")),
    _event(
        "Withdrawal",
        _topic("address", "sender"),
        _data("uint256", "deposit"),
        _data("uint256", "reserve"),
    ),
    _event("ParameterUpdate", _data("string", "param")),
    _event("SetController", _data("address", "controller")),
)

ROUNDS_MANAGER: ABI = (
    _view("lastInitializedRound", returns=(_value("uint256"),)),
    _view("blockHashForRound", _value("uint256", "round"), returns=(_value("bytes32"),)),
    _view("currentRound", returns=(_value("uint256"),)),
    _view("currentRoundStartBlock", returns=(_value("uint256"),)),
    _view("currentRoundInitialized", returns=(_value("bool"),)),
    _view("roundLength", returns=(_value("uint256"),)),
    _event("NewRound", _topic("uint256", "round"), _data("bytes32", "blockHash")),
)

BONDING_MANAGER: ABI = (_view("getTranscoderPoolSize", returns=(_value("uint256"),)),)
