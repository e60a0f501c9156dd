"""Where the payer's key comes from, and what is refused."""

import json
from pathlib import Path

import pytest
from eth_account import Account

from services.signer.keys import KeyFileError, from_development_file, from_keystore

SECRET = bytes(31) + b"\x07"
ADDRESS = Account.from_key(SECRET).address


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    encrypted = Account.encrypt(SECRET, "correct horse", kdf="pbkdf2", iterations=2)
    return private(tmp_path / "keystore.json", json.dumps(encrypted))


def test_a_keystore_of_eth_account_is_opened(tmp_path: Path, keystore: Path) -> None:
    password = private(tmp_path / "password", "correct horse\n")

    key = from_keystore(keystore, password)

    assert key.address == bytes.fromhex(ADDRESS[2:])


def test_a_wrong_password_is_refused_without_telling_it(tmp_path: Path, keystore: Path) -> None:
    password = private(tmp_path / "password", "battery staple")

    with pytest.raises(KeyFileError) as refused:
        from_keystore(keystore, password)
    assert str(keystore) in str(refused.value)
    assert "battery" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "key", SECRET.hex())
    path.chmod(mode)

    with pytest.raises(KeyFileError, match="others may read it"):
        from_development_file(path)


def test_a_password_that_others_can_read_is_refused(tmp_path: Path, keystore: Path) -> None:
    password = private(tmp_path / "password", "correct horse")
    password.chmod(0o644)

    with pytest.raises(KeyFileError, match="password: others may read it"):
        from_keystore(keystore, password)


def test_a_development_key_is_hex(tmp_path: Path) -> None:
    good = private(tmp_path / "good", "0x" + SECRET.hex() + "\n")
    bad = private(tmp_path / "bad", "no key")

    assert from_development_file(good).address == bytes.fromhex(ADDRESS[2:])
    with pytest.raises(KeyFileError, match="not a private key"):
        from_development_file(bad)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="absent"):
        from_development_file(tmp_path / "absent")


def test_a_key_does_not_show_itself(tmp_path: Path) -> None:
    key = from_development_file(private(tmp_path / "key", SECRET.hex()))

    assert SECRET.hex() not in repr(key)
    assert ADDRESS[2:].lower() in repr(key)
