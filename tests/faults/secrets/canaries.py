"""What must not get out: every secret of a world by name, and how each would look in an output."""

import hashlib
import json
import re
import secrets
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

API_KEY = re.compile(rb"lpch_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}")
HASHED = {"hook-key", "state-key", "token-key"}  # their settings have the hashes
LEAST_BYTES = 8  # of what is searched for; shorter texts turn up by chance


@dataclass
class Canaries:
    """Secrets by name. What clients say of themselves (mail addresses) is kept apart."""

    secret: dict[str, str] = field(default_factory=dict)
    personal: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_slot(cls, directory: Path) -> "Canaries":
        """All that a world has made up for itself: passwords, pepper, hook secret, private keys."""
        made = cls()
        for path in sorted(directory.rglob("secrets.json")):
            stored: dict[str, str] = json.loads(path.read_text())
            made.secret |= stored
            for name in HASHED & stored.keys():
                made.secret[f"setting of {name}"] = hashlib.sha256(stored[name].encode()).hexdigest()
        for path in sorted(directory.rglob("*.key")):
            made.secret[path.name] = path.read_text().strip().removeprefix("0x")
        return made

    def mail(self, where: str) -> str:
        """A mail address that nobody has, to be said in one place."""
        address = f"ann-{secrets.token_hex(6)}@canary.example"
        self.personal[f"mail address in {where}"] = address
        return address

    def word(self, where: str) -> str:
        """A word of a client's own that looks like one of our ids."""
        self.personal[f"word in {where}"] = made = f"canary{secrets.token_hex(12)}"
        return made

    def plant(self, what: str) -> str:
        """A secret of some kind, to be said where it does not belong."""
        self.secret[what] = f"canary{secrets.token_hex(12)}"
        return self.secret[what]

    def add_key(self, name: str, api_key: str, sdk_token: str) -> None:
        self.secret[f"API key of {name}"] = api_key
        self.secret[f"secret of the API key of {name}"] = api_key.split("_")[2]
        self.secret[f"SDK token of {name}"] = sdk_token

    def add_session_token(self, name: str, token: str, sdk_token: str) -> None:
        self.secret[f"session token of {name}"] = token
        self.secret[f"signature of the session token of {name}"] = token.split(".")[2]
        self.secret[f"SDK token with the session token of {name}"] = sdk_token


def needles(secrets_by_name: Mapping[str, str]) -> dict[bytes, str]:
    """Every spelling of every secret, with its name."""
    return {
        needle: name
        for name, secret in secrets_by_name.items()
        for needle in _spellings(secret)
        if len(needle) >= LEAST_BYTES
    }


def _spellings(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield from (raw, quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode())
    yield from (raw.hex().encode(), raw.hex().upper().encode())
    yield from _in_base64(raw)
    if re.fullmatch(r"[0-9a-f]{64}", secret):  # it is hex of what is secret
        yield secret.upper().encode()
        yield from _in_base64(bytes.fromhex(secret))


def _in_base64(raw: bytes) -> Iterator[bytes]:
    """As it looks inside of longer base64, wherever it begins: without the ends its neighbours change."""
    for before in range(3):
        encoded = b64encode(bytes(before) + raw)
        start, end = -(-8 * before // 6), len(encoded) - encoded.count(b"=") - (1 if len(raw) % 3 else 0)
        yield encoded[start : end - 1]
        yield urlsafe_b64encode(b64decode(encoded))[start : end - 1]
