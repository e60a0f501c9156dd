"""What is wrong with a setting is said without what was set."""

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from contracts.accounts import IssueApiKey
from services.edge.settings import Settings as EdgeSettings
from shared.settings import StoreSettings

PASSWORD = "swordfish-3"
GOOD = {
    "NATS_URL": f"nats://a:{PASSWORD}@host:4222",
    "POSTGRES_DSN": "host=a user=b dbname=c",
    "HTTP_PORT": "0",
}


class Settings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="SOME_")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(f"SOME_{name}", value)
        monkeypatch.setenv(f"EDGE_{name}", value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NATS_URL", f"nats://a:{PASSWORD}/x#y@host:4222"),
        ("NATS_URL", f"nats://host:4222,a:{PASSWORD}@host"),
        ("POSTGRES_DSN", f"postgresql://a:{PASSWORD}/x@host/db"),
        ("POSTGRES_DSN", f"a:{PASSWORD}@host"),
        ("HTTP_PORT", PASSWORD),
    ],
)
def test_a_setting_that_is_not_right_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SOME_{name}", value)

    with pytest.raises(ValidationError) as refused:
        Settings()

    assert name.lower() in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_a_missing_setting_shows_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_HTTP_PORT")

    with pytest.raises(ValidationError) as refused:
        Settings()

    assert PASSWORD not in str(refused.value)


def test_a_pepper_that_is_too_short_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_PUBLIC_PORT", "0")
    monkeypatch.setenv("EDGE_PUBLIC_URL", "http://host")
    monkeypatch.setenv("EDGE_KEY_PEPPER", PASSWORD)

    with pytest.raises(ValidationError, match="key_pepper") as refused:
        EdgeSettings()

    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        ("nats://host", "postgresql://a:b@host/db"),
        ("nats://a:b@one:4222,tls://a:b@two:4222", "postgresql://a:b@one:1,two:2/db"),
    ],
)
def test_what_is_right_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, url: str, dsn: str) -> None:
    monkeypatch.setenv("SOME_NATS_URL", url)
    monkeypatch.setenv("SOME_POSTGRES_DSN", dsn)

    settings = Settings()

    assert (settings.nats_url, settings.postgres_dsn) == (SecretStr(url), SecretStr(dsn))


def test_a_message_that_cannot_be_read_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ValidationError) as refused:
        IssueApiKey.model_validate({"account_id": "a", "key_id": "b", "secret_hash": {"is": PASSWORD}})

    assert "secret_hash" in str(refused.value)
    assert PASSWORD not in str(refused.value)
