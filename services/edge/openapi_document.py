"""What FastAPI cannot know of the OpenAPI document: problems' media type, and the wire."""

from typing import Any

from services.edge.routes import token_request

JSON = "application/json"
PROBLEM = "application/problem+json"
FIRST_REFUSAL = "400"

ENVELOPE = {
    "type": "object",
    "title": "WireError",
    "description": "go-livepeer's envelope. The message ends with the request id.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message"],
            "properties": {"message": {"type": "string"}},
        }
    },
}
SIGNED_ADDRESS = {
    "type": "object",
    "title": "SignedAddress",
    "required": ["address", "signature"],
    "properties": {"address": {"type": "string"}, "signature": {"type": "string"}},
}
PAYMENT_REQUEST = {
    "type": "object",
    "title": "PaymentRequest",
    "required": ["orchestrator"],
    "properties": {
        "orchestrator": {"type": "string", "description": "OrchestratorInfo, protobuf in base64."},
        "state": {"type": "object", "description": "`state` of the answer before; none at first."},
        "ManifestID": {"type": "string"},
        "app": {"type": "string"},
        "type": {"type": "string", "enum": ["", "live", "lv2v", "fixed"]},
        "inPixels": {"type": "integer"},
        "maxPrice": {"type": "object"},
        "capabilities": {"type": "string", "description": "Capabilities, protobuf in base64."},
    },
}
PAYMENT = {
    "type": "object",
    "title": "Payment",
    "required": ["payment", "segCreds", "state"],
    "properties": {
        "payment": {"type": "string", "description": "The header `Livepeer-Payment`."},
        "segCreds": {"type": "string", "description": "The header `Livepeer-Segment`."},
        "state": {"type": "object", "description": "Send it with the next request."},
    },
}
ORCHESTRATOR = {
    "type": "object",
    "title": "Orchestrator",
    "required": ["address", "score"],
    "properties": {
        "address": {"type": "string"},
        "score": {"type": "number"},
        "capabilities": {"type": "array", "items": {"type": "string"}},
        "runners": {"type": "array", "items": {"type": "object"}},
    },
}
REFUSALS = {
    "400": "Bad request",
    "401": "No API key or session token, none of ours, or one that was revoked or has expired",
    "402": "The spend limit is reached",
    "403": "The account is suspended, or the key may not be used from this network",
    "408": "The body did not come within ten seconds",
    "413": "Body over 64 KiB",
    "415": "Compressed bodies are not accepted",
    "429": "Held budget could free enough, or too many requests; see `Retry-After`",
    "431": "Path, query and headers over 16 KiB",
    "480": "Ask the orchestrator for new ticket params; see `Livepeer-Orchestrator-Url`",
    "481": "The orchestrator's price is over a ceiling",
    "482": "No tickets are due",
    "503": "We cannot answer now",
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the wire to what FastAPI made; doing it again changes nothing."""
    schemas = document["components"]["schemas"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for schema in (ENVELOPE, SIGNED_ADDRESS, PAYMENT_REQUEST, PAYMENT, ORCHESTRATOR):
        schemas[schema["title"]] = schema
    for name, schema in token_request.schemas().items():
        schemas.setdefault(name, schema)
    for operations in document["paths"].values():
        for operation in operations.values():
            _use_problem_json(operation)
    document["paths"] = {**_wire_paths(), **document["paths"]}
    return document


def _use_problem_json(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        is_problem = content.get(JSON, {}).get("schema", {}).get("$ref", "").endswith("Problem")
        if status >= FIRST_REFUSAL and is_problem:
            content[PROBLEM] = content.pop(JSON)


def _wire_paths() -> dict[str, Any]:
    caps = {
        "name": "caps",
        "in": "query",
        "description": "Capabilities such as `live-video-to-video/streamdiffusion`; any of them.",
        "schema": {"type": "array", "items": {"type": "string"}},
    }
    orchestrators = {"type": "array", "items": _ref("Orchestrator")}
    payment = _operation("Generate a payment", _ref("Payment"), (*REFUSALS,))
    payment["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref("PaymentRequest")}}}
    payment["parameters"] = [
        _header("Clearinghouse-User", "Whose payment it is, unless the key says."),
        _header("Clearinghouse-Stream", "The stream it belongs to."),
    ]
    discovery = _operation("Discover orchestrators", orchestrators, ("401", "403", "429", "431", "503"))
    signature = _operation("Sign our address", _ref("SignedAddress"), ("401", "403", "429", "431", "503"))
    signature["description"] = "The address of the key's payer: the same for as long as the key lives."
    return {
        "/sign-orchestrator-info": {"post": signature},
        "/generate-live-payment": {"post": payment},
        "/discover-orchestrators": {"get": {**discovery, "parameters": [caps]}},
    }


def _operation(summary: str, answer: dict[str, Any], refusals: tuple[str, ...]) -> dict[str, Any]:
    refused = {
        status: {"description": REFUSALS[status], "content": {JSON: {"schema": _ref("WireError")}}}
        for status in refusals
    }
    answered = {"200": {"description": "Done", "content": {JSON: {"schema": answer}}}}
    return {
        "tags": ["Livepeer wire"],
        "summary": summary,
        "operationId": summary.lower().replace(" ", "_"),
        "security": [{"ApiKey": []}],
        "responses": {**answered, **refused},
    }


def _header(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"}
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
