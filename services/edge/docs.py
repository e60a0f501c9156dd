"""The readable page at `/docs`, made from the OpenAPI document; it loads nothing from anywhere."""

from html import escape
from typing import Any

from starlette.responses import HTMLResponse

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
h3 { margin-bottom: .2rem; } code { background: #f2f2f2; padding: .1rem .3rem; border-radius: 3px; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 600; }
table { border-collapse: collapse; }
td { text-align: left; padding: .15rem .8rem .15rem 0; vertical-align: top; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


def page(document: dict[str, Any]) -> HTMLResponse:
    return HTMLResponse(render(document), headers={"Content-Security-Policy": POLICY})


def render(document: dict[str, Any]) -> str:
    info = document["info"]
    sections = "".join(_section(tag, operations) for tag, operations in _by_tag(document).items())
    schemas = "".join(_schema(name, schema) for name, schema in document["components"]["schemas"].items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style>"
        f"<h1>{escape(info['title'])}</h1><p>{escape(info.get('summary', ''))}</p>"
        "<p>The same for programs: <a href=/openapi.json>/openapi.json</a>.</p>"
        f"{sections}<h2>Schemas</h2>{schemas}</html>\n"
    )


def _by_tag(document: dict[str, Any]) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["Other"])[-1]
            by_tag.setdefault(tag, []).append((method, path, operation))
    return by_tag


def _section(tag: str, operations: list[tuple[str, str, dict[str, Any]]]) -> str:
    return f"<h2>{escape(tag)}</h2>" + "".join(_operation(*operation) for operation in operations)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(_parameter(parameter) for parameter in operation.get("parameters", []))
    body = _media(operation.get("requestBody", {}))
    answers = "".join(
        _row(status, answer["description"], _media(answer))
        for status, answer in sorted(operation["responses"].items())
    )
    keys = ", ".join(name for need in operation.get("security", []) for name in need)
    return (
        f"<h3><span class=method>{method.upper()}</span> <code>{escape(path)}</code></h3>"
        f"<p>{escape(operation.get('description') or operation['summary'])}</p>"
        + (f"<p>Needs: {escape(keys)}</p>" if keys else "")
        + (f"<p>Body: {body}</p>" if body else "")
        + (f"<table>{parameters}</table>" if parameters else "")
        + f"<details><summary>Answers</summary><table>{answers}</table></details>"
    )


def _parameter(parameter: dict[str, Any]) -> str:
    return _row(parameter["name"], parameter["in"], escape(parameter.get("description", "")))


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = "".join(
        _row(field, _kind(content), escape(content.get("description", "")))
        for field, content in schema.get("properties", {}).items()
    )
    text = escape(schema.get("description", ""))
    return f"<h3 id='{escape(name)}'>{escape(name)}</h3><p>{text}</p><table>{rows}</table>"


def _row(name: str, kind: str, html: str) -> str:
    return f"<tr><td><code>{escape(name)}</code><td>{escape(kind)}<td>{html}"


def _media(content: dict[str, Any]) -> str:
    names = [_kind(media.get("schema", {})) for media in content.get("content", {}).values()]
    return ", ".join(f"<a href='#{escape(name)}'>{escape(name)}</a>" for name in names)


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " or ".join(_kind(choice) for choice in schema["anyOf"])
    return str(schema.get("type", "any"))
