"""API keys: `lpch_<key id>_<secret><checksum>`, made by an edge or an operator's tool, and nowhere kept.

The prefix lets secret scanners find a leaked key, the checksum lets us refuse a mistyped one
without asking anybody. What is kept is an HMAC under a pepper that only who makes keys knows.
"""

import hmac
import re
import secrets
import string
from base64 import b64encode
from dataclasses import dataclass, field
from zlib import crc32

from pydantic_core import to_json

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
PREFIX = "lpch"
KEY_ID_LENGTH = 12
SECRET_LENGTH = 32  # 190 bits
CHECKSUM_LENGTH = 6
FORM = re.compile(
    rf"({PREFIX}_([0-9A-Za-z]{{{KEY_ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH}}})"
    rf"([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})"
)


@dataclass(frozen=True, slots=True)
class Key:
    """A whole key; its text is never printed."""

    key_id: str
    text: str = field(repr=False)

    def hash(self, pepper: bytes) -> str:
        return hmac.digest(pepper, self.text.encode(), "sha256").hex()


def make() -> Key:
    key_id, secret = make_id(), _random(SECRET_LENGTH)
    checked = f"{PREFIX}_{key_id}_{secret}"
    return Key(key_id, checked + _checksum(checked))


def make_id() -> str:
    """Return an id that no other key has, nor a session token."""
    return _random(KEY_ID_LENGTH)


def parse(text: str) -> Key | None:
    """Read a key; None if its form or its checksum is wrong."""
    match = FORM.fullmatch(text)
    if match is None or _checksum(match[1]) != match[3]:
        return None
    return Key(match[2], text)


def sdk_token(public_url: str, credential: str) -> str:
    """Return what the Livepeer SDK takes as its token: where we are and how to show the credential."""
    headers = {"Authorization": f"Bearer {credential}"}
    content = {
        "signer": public_url,
        "signer_headers": headers,
        "discovery": f"{public_url}/discover-orchestrators",
        "discovery_headers": headers,
    }
    return b64encode(to_json(content)).decode()


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(checked: str) -> str:
    number, digits = crc32(checked.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
