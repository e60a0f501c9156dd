"""The OpenAPI document and the page made from it."""

import json
import re
from typing import Any

from services.edge.docs import render
from services.edge.openapi import openapi


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, by_method in document["paths"].items()
        for method, operation in by_method.items()
    ]


def test_every_operation_says_what_it_does_and_whose_key_it_needs() -> None:
    document = openapi()

    assert document["openapi"].startswith("3.1")
    for name, operation in operations(document):
        assert operation.get("description") or operation["summary"], name
        assert operation["tags"], name
        assert set(document["components"]["securitySchemes"]) >= {
            scheme for need in operation["security"] for scheme in need
        }, name


def test_it_needs_no_environment_and_is_the_same_each_time() -> None:
    assert json.dumps(openapi()) == json.dumps(openapi())


def test_every_reference_leads_somewhere() -> None:
    document = openapi()
    text = json.dumps(document)

    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in document["components"]["schemas"]
    assert "HTTPValidationError" not in text


def test_refusals_are_problems_and_wei_is_text() -> None:
    document = openapi()
    read_limits = document["paths"]["/v1/accounts/{account_id}/limits"]["get"]

    assert list(read_limits["responses"]["404"]["content"]) == ["application/problem+json"]
    schemas = document["components"]["schemas"]
    for name in ("AccountLimits", "LimitValues"):
        in_wei = {key: field for key, field in schemas[name]["properties"].items() if key.endswith("_wei")}
        assert in_wei
        assert '"integer"' not in json.dumps(in_wei)
    assert schemas["WeiOut"]["type"] == schemas["Wei"]["type"] == "string"


def test_answers_about_limits_have_the_rate_limit_fields() -> None:
    paths = openapi()["paths"]
    read = paths["/v1/accounts/{account_id}/keys/{key_id}/limits"]["get"]["responses"]["200"]
    refused = paths["/v1/streams"]["post"]["responses"]["429"]

    assert {*refused["headers"]} == {"RateLimit", "RateLimit-Policy"}
    assert {*read["headers"]} == {*refused["headers"], "ETag"}


def test_the_page_lists_every_operation_and_loads_nothing() -> None:
    document = openapi()
    page = render(document)

    for path in document["paths"]:
        assert f"<code>{path}</code>" in page
    assert not re.search(r"(src|href)=['\"]?(https?:)?//|<script|<link|@import|url\(", page)
