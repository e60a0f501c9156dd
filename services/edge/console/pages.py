"""Pages as HTML: templates that escape all they are given, and the headers every page has."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from services.edge.console import amounts, words
from services.edge.console.assets import Assets
from services.edge.console.figures import run_ms

TEMPLATES = Path(__file__).parent / "templates"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    # Not `no-referrer`: browsers then hide where our own forms come from, too.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

# Times and amounts in what the signer says in words.
TOLD = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?Z|([0-9]{1,78}) (wei|micro-USD)"
)


class Pages:
    def __init__(self, assets: Assets) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals |= {
            "asset": assets.url,
            "stream_words": words.WHY_STREAMS_STOPPED,
            "stream_states": words.STATE_NAMES,
            "session_state": words.session_state,
            "run_ms": run_ms,
        }
        self._environment.filters |= {
            "eth": amounts.eth,
            "usd": amounts.usd,
            "duration": words.duration,
            "moment": _moment,
            "clock": _clock,
            "told": _told,
        }

    def answer(self, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        text = self._environment.get_template(template).render(context)
        return HTMLResponse(text, status, headers=dict(HEADERS))


def _moment(at: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return f"{local.day} {local:%b %H:%M}"


def _clock(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%H:%M:%S}"


def _told(text: str, zone: ZoneInfo) -> Markup:
    """A service's own words, with times and amounts as everywhere on the page; all else as it is, escaped."""
    found, place = Markup(), 0
    for match in TOLD.finditer(text):
        found += text[place : match.start()]
        found += _time(match[1], zone) if match[1] else _amount(int(match[2]), match[3])
        place = match.end()
    return found + text[place:]


def _time(text: str, zone: ZoneInfo) -> Markup:
    try:
        shown = _moment(datetime.fromisoformat(text).replace(tzinfo=UTC), zone)
    except ValueError:
        shown = text
    return Markup('<time datetime="{0}Z" title="{0}Z">{1}</time>').format(text, shown)


def _amount(amount: int, unit: str) -> Markup:
    shown = f"{amounts.eth(amount)} ETH" if unit == "wei" else amounts.micro_usd(amount)
    return Markup('<data value="{0}" title="{0} {1}">{2}</data>').format(amount, unit, shown)
