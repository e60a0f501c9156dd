"""Structured logs, one JSON object a line: an event name, and data by key.

Secrets never get here as keys or values that are theirs. What looks like one by its key is cut; and
what looks like a credential by itself, wherever it stands: an API key, a hook's secret, a session token
(a JWT), an SDK token, which holds one of them.
"""

import logging
import re
import resource
import sys
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

import structlog
from pydantic_core import PydanticSerializationError, to_json

SECRET_WORDS = ("secret", "password", "authorization", "signature", "private", "api_key", "dsn", "pepper")
# How an API key and a hook's secret begin, and JSON in base64.
BEGINNINGS = ("lpch_", "whsec_", "eyJ")
CREDENTIAL = re.compile(r"whsec_[0-9a-f]+|lpch_[0-9A-Za-z]{12}_[0-9A-Za-z]+|eyJ[0-9A-Za-z_+/=.-]{20,}")


def configure(service: str, level: str) -> None:
    """Send the logs of this process, ours and the libraries', to stdout; its memory goes nowhere."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump has every secret in it
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            cut_secrets,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(handlers=[_Forward()], level=max(number, logging.WARNING), force=True)


def cut_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event:
        if _is_secret(key):
            event[key] = "[cut]"
    return event


@lru_cache(maxsize=4096)  # the same few keys in every line
def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in SECRET_WORDS)


def _to_json(event: Any, **_: Any) -> str:
    try:
        line = to_json(event, fallback=repr).decode()
    except PydanticSerializationError:  # bytes or text that no JSON can hold
        line = repr(event)
    if any(beginning in line for beginning in BEGINNINGS):
        return CREDENTIAL.sub("[cut]", line)
    return line


class _Forward(logging.Handler):
    """Libraries log through the standard library; one format for all."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno,
            "library_message",
            logger=record.name,
            text=record.getMessage(),
            exc_info=record.exc_info,
        )
