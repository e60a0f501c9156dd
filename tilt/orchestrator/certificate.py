"""A self-signed certificate, new at each start as go-livepeer's: clients trust it on first use.

X.509 is written by hand, since nothing we depend on can sign a certificate.
"""

import secrets
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC
from Crypto.Signature import DSS
from Crypto.Util.asn1 import DerInteger, DerObjectId

LIFE = timedelta(days=365)
ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
COMMON_NAME = "2.5.4.3"
SUBJECT_ALT_NAME = "2.5.29.17"
KEY_USAGE = "2.5.29.15"
EXTENDED_KEY_USAGE = "2.5.29.37"
BASIC_CONSTRAINTS = "2.5.29.19"
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
TRUE = b"\x01\x01\xff"
# Clients take the certificate itself for its own authority, so it has to be one.
DIGITAL_SIGNATURE_AND_CERT_SIGN = b"\x03\x02\x02\x84"
BIT_STRING, OCTET_STRING, UTF8_STRING, UTC_TIME, SEQUENCE, SET = 0x03, 0x04, 0x0C, 0x17, 0x30, 0x31
DNS_NAME, IP_ADDRESS = 0x82, 0x87
VERSION_FIELD, EXTENSIONS_FIELD = 0xA0, 0xA3
VERSION_3 = 2


class Certificate:
    """The certificate in use; `context` presents the newest to each connection that begins."""

    def __init__(self, directory: Path, hosts: Sequence[str]) -> None:
        self._directory = directory
        self._hosts = list(dict.fromkeys(hosts))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.renew()

    def renew(self) -> None:
        certificate, key = self_signed(self._hosts, now=datetime.now(UTC))
        certificate_path, key_path = self._directory / "cert.pem", self._directory / "key.pem"
        certificate_path.write_text(certificate)
        key_path.touch(mode=0o600)
        key_path.write_text(key)
        self.context.load_cert_chain(certificate_path, key_path)


def self_signed(hosts: Sequence[str], *, now: datetime) -> tuple[str, str]:
    """Make a certificate for these names and addresses, and its key, both as PEM."""
    key = ECC.generate(curve="P-256")
    algorithm = _sequence(_identifier(ECDSA_WITH_SHA256))
    content = _sequence(
        _tagged(VERSION_FIELD, DerInteger(VERSION_3).encode()),
        DerInteger(secrets.randbits(127)).encode(),
        algorithm,
        _name(hosts[0]),
        _sequence(_time(now - timedelta(days=1)), _time(now + LIFE)),
        _name(hosts[0]),
        key.public_key().export_key(format="DER"),
        _tagged(EXTENSIONS_FIELD, _extensions(hosts)),
    )
    signature = DSS.new(key, "fips-186-3", encoding="der").sign(SHA256.new(content))
    certificate = _sequence(content, algorithm, _tagged(BIT_STRING, b"\0" + signature))
    return ssl.DER_cert_to_PEM_cert(certificate), key.export_key(format="PEM", use_pkcs8=True)


def _extensions(hosts: Sequence[str]) -> bytes:
    return _sequence(
        _extension(BASIC_CONSTRAINTS, _sequence(TRUE), TRUE),
        _extension(KEY_USAGE, DIGITAL_SIGNATURE_AND_CERT_SIGN, TRUE),
        _extension(EXTENDED_KEY_USAGE, _sequence(_identifier(SERVER_AUTH))),
        _extension(SUBJECT_ALT_NAME, _sequence(*map(_alternative_name, hosts))),
    )


def _extension(identifier: str, value: bytes, critical: bytes = b"") -> bytes:
    return _sequence(_identifier(identifier), critical, _tagged(OCTET_STRING, value))


def _alternative_name(host: str) -> bytes:
    try:
        return _tagged(IP_ADDRESS, ip_address(host).packed)
    except ValueError:
        return _tagged(DNS_NAME, host.encode("ascii"))


def _name(common_name: str) -> bytes:
    attribute = _sequence(_identifier(COMMON_NAME), _tagged(UTF8_STRING, common_name.encode()))
    return _sequence(_tagged(SET, attribute))


def _time(moment: datetime) -> bytes:
    return _tagged(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())


def _identifier(text: str) -> bytes:
    return DerObjectId(text).encode()


def _sequence(*parts: bytes) -> bytes:
    return _tagged(SEQUENCE, b"".join(parts))


def _tagged(tag: int, content: bytes) -> bytes:
    """Write a value in DER: tag, length, content."""
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 - longer ones say in how many bytes their length is written
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content
