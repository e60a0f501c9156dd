"""The refusals that the protocol names: a fuzzer that never meets one of them is blind there."""

import re
from collections.abc import Mapping

REFRESH = "400 remote signer could not check whether to refresh session: "
REASONS = {
    "no JSON": "400 body is not JSON",
    "no JSON object": "400 body must be a JSON object",
    "nested too deeply": "400 body is nested deeper",
    "orchestrator of a wrong type": "400 orchestrator must be",
    "orchestrator no base64": "400 orchestrator is not base",
    "state of a wrong type": "400 state must be|400 state.(State|Sig) must be",
    "state no base64": "400 state.(State|Sig) is not base",
    "ManifestID of a wrong type": "400 ManifestID must be",
    "ManifestID too long": "400 ManifestID is longer",
    "app of a wrong type": "400 app must be a string",
    "app not printable, or too long": "400 app must be printable|400 app is longer",
    "type of a wrong type": "400 type must be",
    "another text too long": "400 (type|maxPrice.currency|maxPrice.unit|transcoder or constraint) is longer",
    "inPixels of a wrong type": "400 inPixels must be",
    "maxPrice of a wrong type": "400 maxPrice must be|400 maxPrice.(currency|unit) must be a string",
    "maxPrice.price no number": "400 maxPrice.price (is not|must be) a number",
    "missing orchestrator": "400 missing orchestrator",
    "orchestrator no protobuf": "400 orchestrator: ",
    "missing or zero priceInfo": "400 missing or zero priceInfo",
    "negative priceInfo": "400 negative priceInfo",
    "missing ticketParams": "400 missing ticketParams",
    "address not 20 bytes": "400 address must have",
    "recipient not 20 bytes": "400 ticketParams recipient must have",
    "rand hash not 32 bytes": "400 ticketParams recipientRandHash must have",
    "round hash not 32 bytes": "400 ticketParams creationRoundBlockHash must have",
    "no expiration params": "400 ticketParams expirationParams",
    "integer over 32 bytes": "400 ticketParams (faceValue|winProb|seed|expirationBlock) is longer",
    "leading zeros": "400 ticketParams (faceValue|winProb|seed|expirationBlock) has leading zeros",
    "face value 0": "400 ticketParams faceValue must be positive",
    "win probability 0": "400 ticketParams winProb must be positive",
    "invalid sig": "400 invalid sig",
    "orchestratorAddress mismatch": "400 orchestratorAddress mismatch",
    "app mismatch": "400 app mismatch",
    "job type mismatch": "400 job type mismatch",
    "missing manifestID": "400 missing manifestID",
    "job paid upfront": "482 no tickets: this job",
    "capabilities unreadable": "400 capabilities: |400 capabilities is not base|400 capabilities must be",
    "chain unknown": "503 Service Unavailable Error",
    "auth token too long": "400 authToken is longer",
    "no auth token": f"{REFRESH}missing auth token",
    "refresh": "480 refresh session for remote signer",
    "expiration block 0 or far ahead": f"{REFRESH}ticketParams expiration bloc",
    "win probability 1": f"{REFRESH}ticket faceValue too low",
    "ticket EV over its cap": rf"{REFRESH}ticket EV \*",
    "recipient not listed": r"403 recipient \*",
    "payer unlocks soon": f"{REFRESH}unable to validate sender",
    "no reserve": f"{REFRESH}no sender reserve",
    "no deposit": f"{REFRESH}no sender deposit",
    "face value over the deposit": rf"{REFRESH}ticket faceValue \*",
    "other params, same rand hash": "400 ticketParams differ",
    "invalid job type": "400 invalid job type",
    "missing billable unit": "400 missing billable unit",
    "maxPrice.price": "400 maxPrice.price must be a positive decimal",
    "maxPrice.currency": "400 maxPrice.currency must be wei",
    "maxPrice without a type": "400 maxPrice requires payment type",
    "maxPrice.unit": "400 maxPrice.unit must be .* for payment type",
    "over the configured price": "481 .* configured maximum price",
    "over the request's maxPrice": "481 .* request maxPrice",
    "over the session's first price": "481 .* initial session price",
    "no tickets": "482 no tickets$",
    "over 100 tickets": "400 numTickets",
    "total EV over its cap": "500 total ticket EV",
}


PATTERNS = {name: re.compile(pattern) for name, pattern in REASONS.items()}


def count(outcomes: Mapping[str, int]) -> dict[str, int]:
    """How often each named refusal was met."""
    counts = dict.fromkeys(REASONS, 0)
    for outcome, met in outcomes.items():
        if (name := _name(outcome)) is not None:
            counts[name] += met
    return counts


def unnamed(outcomes: Mapping[str, int]) -> list[str]:
    """Refusals that no name fits."""
    return [outcome for outcome in outcomes if outcome[0].isdigit() and _name(outcome) is None]


def _name(outcome: str) -> str | None:
    return next((name for name, pattern in PATTERNS.items() if pattern.match(outcome)), None)
