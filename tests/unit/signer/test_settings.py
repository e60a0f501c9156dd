"""What the signer is told by its environment: which keys, which ceilings."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from eth_account import Account
from pydantic import ValidationError

from services.signer.app import load_keys
from services.signer.keys import KeyFileError
from services.signer.settings import SignerSettings

SECRETS = [bytes(31) + bytes([number]) for number in (7, 8)]
ADDRESSES = [bytes.fromhex(Account.from_key(secret).address[2:]) for secret in SECRETS]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    required = {
        "NATS_URL": "nats://localhost",
        "HTTP_PORT": "0",
        "POSTGRES_DSN": "postgresql:///x",
        "STATE_KEYS": "ab" * 32,
    }
    for name, value in required.items():
        monkeypatch.setenv(f"SIGNER_{name}", value)


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> SignerSettings:
    for name, value in values.items():
        monkeypatch.setenv(f"SIGNER_{name.upper()}", value)
    return SignerSettings()


def private(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_several_development_keys_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = [private(tmp_path / str(number), secret.hex()) for number, secret in enumerate(SECRETS)]

    keys = load_keys(settings(monkeypatch, development_key_path=", ".join(paths)))

    assert [key.address for key in keys] == ADDRESSES


@pytest.mark.parametrize("passwords", [1, 2])
def test_several_keystores_with_a_password_each_or_one_for_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, passwords: int
) -> None:
    words = ["horse", "horse" if passwords == 1 else "battery"]
    stores = [
        private(
            tmp_path / f"{number}.json",
            json.dumps(Account.encrypt(secret, words[number], kdf="pbkdf2", iterations=2)),
        )
        for number, secret in enumerate(SECRETS)
    ]
    files = [private(tmp_path / f"password-{number}", words[number]) for number in range(passwords)]

    keys = load_keys(
        settings(monkeypatch, keystore_path=",".join(stores), keystore_password_path=",".join(files))
    )

    assert [key.address for key in keys] == ADDRESSES


def test_passwords_that_do_not_fit_the_keystores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = ",".join(str(tmp_path / name) for name in "abc")

    with pytest.raises(KeyFileError, match="SIGNER_KEYSTORE_PASSWORD_PATH"):
        load_keys(settings(monkeypatch, keystore_path=paths, keystore_password_path="a,b"))


def test_without_any_key_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyFileError, match="are not set"):
        load_keys(settings(monkeypatch))


def test_ceilings_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = {"capabilities_prices": [{"pipeline": "live-video-to-video", "price_per_unit": "1/3"}]}

    limits = settings(
        monkeypatch, max_price_wei_per_unit="7/2", max_price_per_capability=json.dumps(prices)
    ).limits()

    assert limits.max_prices.general == Fraction(7, 2)
    assert limits.max_prices.of_model(35, "any") == Fraction(1, 3)


def test_a_wrong_ceiling_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="capabilities_prices must be a list"):
        settings(monkeypatch, max_price_per_capability="{}")
