"""Where a request comes from: its client's address, told by trusted proxies, and networks it is in."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.types import Scope

type Address = IPv4Address | IPv6Address

ADDRESSES_MAX = 10_000  # that are remembered as they were read
MAPPED_BITS = 96  # of ::ffff:0:0/96, where IPv6 has IPv4
VISITOR_BITS = 64  # what one customer of a provider has at least, all to himself
X_FORWARDED_FOR, FORWARDED = b"x-forwarded-for", b"forwarded"
WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 (RFC 9110's word for it)
# One `name=value` of RFC 7239, and what ends it: `;` the pair, `,` the element.
PAIR = re.compile(rf'[ \t]*(?:({TOKEN})=({TOKEN}|"(?:[^"\\]|\\.)*"))?[ \t]*([;,]|$)')
QUOTED_PAIR = re.compile(r"\\(.)")


class Networks:
    """A set of networks; a look into it costs one step a prefix length, however many there are."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Raise ValueError if one is no network."""
        self._prefixes: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}  # by version and shift
        for text in texts:
            network = ip_network(text)
            version, bits, first = network.version, network.prefixlen, int(network.network_address)
            if _is_mapped(network):
                version, bits, first = 4, bits - MAPPED_BITS, first & 0xFFFFFFFF
            shift = (32 if version == 4 else 128) - bits  # noqa: PLR2004 (bits of an address)
            self._prefixes[version].setdefault(shift, set()).add(first >> shift)

    def __contains__(self, address: Address) -> bool:
        number = int(address)
        by_shift = self._prefixes[address.version]
        return any(number >> shift in prefixes for shift, prefixes in by_shift.items())


class ClientAddresses:
    """Whose address counts: the connection's, or what a trusted proxy says about its own client.

    Proxies add to `X-Forwarded-For` or to `Forwarded`; if a client brought the other one along, they
    do not agree, and then there is no address.
    """

    def __init__(self, trusted: Networks) -> None:
        self._trusted: Final = trusted

    def of(self, scope: Scope) -> Address | None:
        """Return the client's address; None if it cannot be told."""
        peer = read_address(scope["client"][0]) if scope.get("client") else None
        if peer is None or peer not in self._trusted:
            return peer
        told = [
            self._rightmost(entries, peer)
            for entries in (
                read_x_forwarded_for(_lines(scope, X_FORWARDED_FOR)),
                read_forwarded(_lines(scope, FORWARDED)),
            )
            if entries
        ]
        if not told:
            return peer
        return told[0] if len(set(told)) == 1 else None

    def _rightmost(self, entries: Sequence[str], peer: Address) -> Address | None:
        """Left of the first that is not ours, anybody may have written anything."""
        for entry in reversed(entries):
            address = read_address(entry)
            if address is None or address not in self._trusted:
                return address
        return peer


@lru_cache(maxsize=ADDRESSES_MAX)
def read_address(text: str) -> Address | None:
    """Read `1.2.3.4`, `::1`, `[::1]`, each but `::1` also with a port; None if it is nothing like that."""
    match = WITH_PORT.fullmatch(text)
    if match:
        text = match[1] if match[2] is None else match[2]
        if (":" in text) is (match[2] is not None):
            return None  # IPv4 in brackets
    if "%" in text:  # a zone of somebody else's machine
        return None
    with suppress(ValueError):
        address = ip_address(text)
        return (address.version == 6 and address.ipv4_mapped) or address  # noqa: PLR2004
    return None


def read_x_forwarded_for(lines: Iterable[str]) -> list[str]:
    return [entry for line in lines for part in line.split(",") if (entry := part.strip(" \t"))]


def read_forwarded(lines: Iterable[str]) -> list[str]:
    """Return the `for` of each element in order, `` where there is none or it cannot be read."""
    text = ",".join(lines)
    found: list[str] = []
    names: dict[str, str] = {}
    at, size = 0, len(text)
    while at < size:
        match = PAIR.match(text, at)
        if match is None or (match[1] or "").lower() in names:
            return [*found, ""]
        if match[1]:
            names[match[1].lower()] = _unquoted(match[2])
        at = match.end()
        if match[3] != ";" and names:
            found.append(names.get("for", ""))
            names = {}
    return [*found, names.get("for", "")] if names else found


def visitor_of(address: Address | None) -> str:
    """Whom to count a request to: an IPv4 address, the /64 of an IPv6 one, or those without any."""
    if address is None:
        return "unknown"
    if address.version == 4:  # noqa: PLR2004
        return str(address)
    return f"{int(address) >> VISITOR_BITS:x}/{VISITOR_BITS}"


def _lines(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _unquoted(value: str) -> str:
    return QUOTED_PAIR.sub(r"\1", value[1:-1]) if value.startswith('"') else value


def _is_mapped(network: object) -> bool:
    return (
        isinstance(network, IPv6Network)
        and network.prefixlen >= MAPPED_BITS
        and network.network_address.ipv4_mapped is not None
    )
