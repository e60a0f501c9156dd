"""Where we may connect to: http(s) only, public addresses only, and what was resolved is what is used.

Whom to ask comes from an operator's list, later from the chain, where anybody may register any name.
"""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

URL_MAX = 2048
ADDRESSES_MAX = 4  # tried of one name
# IPv6 addresses that lead to an IPv4 address inside of them, whichever that is.
TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("2002::/16"))
DEFAULT_PORTS = {"http": 80, "https": 443}


class ForbiddenAddressError(Exception):
    """The name leads to an address inside a network."""


@dataclass(frozen=True, slots=True)
class Origin:
    """An orchestrator's service URL, taken apart; `url` is without a trailing slash."""

    url: str
    host: str
    port: int
    is_tls: bool

    @classmethod
    def of(cls, text: str) -> "Origin":
        """Read a service URL; without a scheme it is https, as for go-livepeer. Raises ValueError."""
        url = (text if "://" in text else f"https://{text}").rstrip("/")
        if not is_http_url(url):
            raise ValueError(f"not an http(s) URL: {text!r}")
        parts = urlsplit(url)
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(f"a service URL has no user, query or fragment: {text!r}")
        return cls(
            url, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme], parts.scheme == "https"
        )

    @property
    def authority(self) -> str:
        return urlsplit(self.url).netloc


def is_http_url(text: str) -> bool:
    """Tell whether it is an absolute http(s) URL in plain ASCII."""
    if len(text) > URL_MAX or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Resolver:
    """Looks names up, each in a thread of its own: one that hangs holds up nobody else."""

    def __init__(self, *, allow_private: bool, lookups_max: int) -> None:
        self._allow_private = allow_private
        self._threads = ThreadPoolExecutor(lookups_max, thread_name_prefix="lookup")

    async def resolve(self, origin: Origin) -> Sequence[str]:
        """Return the addresses of an origin that we may connect to, at least one.

        Raises ForbiddenAddressError if there are others only, OSError if there are none.
        """
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, origin)
        allowed = [text for text in found if self._allow_private or is_public(text)]
        if not allowed:
            raise ForbiddenAddressError(f"{origin.host} is no public address: {', '.join(found)}")
        return allowed[:ADDRESSES_MAX]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(origin: Origin) -> list[str]:
    try:
        answers = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except UnicodeError as problem:  # a label that is too long, say
        raise OSError(f"{origin.host} is no name: {problem}") from problem
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def is_public(text: str) -> bool:
    address: IPv4Address | IPv6Address | None = ip_address(text)
    if isinstance(address, IPv6Address):
        if any(address in network for network in TRANSLATED):
            return False
        address = address.ipv4_mapped or address
    return address is not None and address.is_global and not address.is_multicast
