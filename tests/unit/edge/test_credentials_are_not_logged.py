"""Keys and tokens: cut from every line of the log, and found by the patterns that scanners are given."""

import json
import logging
import re
import resource
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError

from contracts import api_keys
from services.edge.settings import Settings
from services.edge.tokens import SessionTokens
from shared import logging as our_logging
from shared.clock import Clock

README = Path(__file__).parents[3] / "services/edge/README.md"
TOKEN_KEY = "5c" * 32
WORDS = "what went wrong with"


def session_token() -> str:
    tokens = SessionTokens([bytes.fromhex(TOKEN_KEY)], issuer="https://pay.example", clock=Clock())
    return tokens.make(
        account_id="acme", user_id="ann", key_id="0123456789AB", lifetime=timedelta(hours=1), limited=True
    ).text


def credentials() -> list[str]:
    key, token = api_keys.make().text, session_token()
    return [key, token, *(api_keys.sdk_token("https://pay.example", one) for one in (key, token))]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process logs; undone afterwards."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("credential", credentials(), ids=["key", "token", "SDK key", "SDK token"])
def test_no_credential_gets_into_the_log_wherever_it_stands(
    capsys: pytest.CaptureFixture[str], credential: str
) -> None:
    our_logging.configure("edge", "info")
    try:
        log = structlog.get_logger()
        log.info("something", text=f"{WORDS} {credential}!", header=f"Bearer {credential}".encode())
        log.info(credential, nested={credential: [credential]}, odd={1, credential})
        try:
            raise ValueError(credential)
        except ValueError:
            log.exception("it_broke")
        logging.getLogger("some.library").error("%s %s", WORDS, credential)
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()

    printed = capsys.readouterr().out
    lines = [json.loads(line) for line in printed.splitlines()]
    assert len(lines) == 4
    assert printed.count(WORDS) == 2
    for part in re.split(r"[.]", credential):
        assert part[14:40] not in printed


@pytest.mark.usefixtures("configured")
def test_ids_stay_readable(capsys: pytest.CaptureFixture[str]) -> None:
    our_logging.configure("edge", "info")
    structlog.get_logger().info("request", key_id="0123456789AB", token_id="0123456789AC", path="/v1/tokens")
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()

    line = json.loads(capsys.readouterr().out)
    assert (line["key_id"], line["token_id"], line["path"]) == ("0123456789AB", "0123456789AC", "/v1/tokens")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKEN_KEYS", TOKEN_KEY[:-2]),
        ("TOKEN_KEYS", f"{TOKEN_KEY},"),
        ("TOKEN_KEYS", f"{TOKEN_KEY} {TOKEN_KEY}"),
        ("TOKEN_KEYS", TOKEN_KEY.upper()),
        ("HOOK_KEYS", TOKEN_KEY[:-2]),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("UNKNOWN_PER_SECOND", "-1"),
        ("TOKEN_ISSUER", "https://pay.example/path"),
    ],
)
def test_a_setting_that_is_not_right_is_named_and_no_secret_is_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    _set(monkeypatch, TOKEN_KEYS=TOKEN_KEY)
    monkeypatch.setenv(f"EDGE_{name}", value)

    with pytest.raises(ValidationError, match=name.lower()) as refused:
        Settings()

    assert TOKEN_KEY[:20] not in str(refused.value)


def test_settings_show_no_token_key_and_none_means_no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch)
    assert Settings().session_tokens() is None

    _set(monkeypatch, TOKEN_KEYS=f"{TOKEN_KEY},{'6d' * 32}", TRUSTED_PROXIES="10.0.0.0/8, fd00::/8")

    assert TOKEN_KEY not in repr(Settings())
    assert Settings().session_tokens() is not None
    assert Settings().proxies() == ["10.0.0.0/8", "fd00::/8"]


def test_the_patterns_in_the_readme_find_every_credential() -> None:
    patterns = re.findall(r"^\s*(\\b(?:lpch|eyJ).*)$", README.read_text(), re.MULTILINE)

    assert len(patterns) == 3
    for credential in credentials():
        text = f"token = '{credential}'\n"
        assert any(re.search(pattern, text) for pattern in patterns), credential
    assert not any(re.search(pattern, "lpch_0123456789AB eyJhbGciOiJIUzI1NiJ9") for pattern in patterns)


def _set(monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    settings = {
        "NATS_URL": "nats://host",
        "HTTP_PORT": "0",
        "PUBLIC_PORT": "0",
        "PUBLIC_URL": "http://host",
        "KEY_PEPPER": "a pepper of thirty-two characters",
    }
    for name, value in {**settings, **more}.items():
        monkeypatch.setenv(f"EDGE_{name}", value)
