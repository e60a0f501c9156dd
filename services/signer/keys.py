"""Where the payer's key comes from: an encrypted keystore file, or a development key."""

import json
import stat
from pathlib import Path

from coincurve import PrivateKey
from eth_keyfile.keyfile import decode_keyfile_json

from shared.keccak import keccak


class KeyFileError(Exception):
    """The key cannot be used; the message says which file and why."""


class LocalKey:
    """A secp256k1 key in this process's memory."""

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)
        public = self._key.public_key.format(compressed=False)
        self.address = keccak(public[1:])[-20:]

    def sign(self, digest: bytes) -> bytes:
        signature = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([27 + signature[64]])

    def __repr__(self) -> str:
        return f"LocalKey(0x{self.address.hex()})"


def from_keystore(path: Path, password_path: Path) -> LocalKey:
    """Open a V3 keystore with the password in a file; both for the owner's eyes only."""
    keystore = json.loads(_read_private(path))
    password = _read_private(password_path).rstrip("\r\n")
    try:
        return LocalKey(decode_keyfile_json(keystore, password.encode()))
    except (ValueError, KeyError, TypeError) as problem:
        raise KeyFileError(f"{path}: {problem}") from problem


def from_development_file(path: Path) -> LocalKey:
    """Read a key in hex. For local chains only: the file is not encrypted."""
    text = _read_private(path).strip().removeprefix("0x")
    try:
        secret = bytes.fromhex(text)
        return LocalKey(secret)
    except ValueError as problem:
        raise KeyFileError(f"{path}: not a private key in hex") from problem


def _read_private(path: Path) -> str:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(f"{path}: others may read it; chmod 600 it")
        return path.read_text()
    except OSError as problem:
        raise KeyFileError(f"{path}: {problem.strerror}") from problem
