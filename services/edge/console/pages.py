"""Pages as HTML: templates that escape all they are given, and the headers every page has."""

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from services.edge.console import amounts, words
from services.edge.console.assets import Assets

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
        }
        self._environment.filters |= {
            "eth": amounts.eth,
            "usd": amounts.usd,
            "duration": words.duration,
            "moment": _moment,
            "clock": _clock,
        }

    def answer(self, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        text = self._environment.get_template(template).render(context)
        return HTMLResponse(text, status, headers=dict(HEADERS))


def _moment(at: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return f"{local.day} {local:%b %H:%M}"


def _clock(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%H:%M:%S}"
