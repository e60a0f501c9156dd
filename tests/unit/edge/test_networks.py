"""Whose address counts, and what is in a network."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Scope

from services.edge.networks import (
    Address,
    ClientAddresses,
    Networks,
    read_address,
    read_forwarded,
    read_x_forwarded_for,
    visitor_of,
)

PROXY, OUTER_PROXY, CLIENT = "10.0.0.1", "10.0.9.9", "198.51.100.7"
BEHIND = ClientAddresses(Networks(["10.0.0.0/8", "fd00::/8"]))

# IPv4-mapped IPv6 becomes IPv4 when it is read.
anywhere: st.SearchStrategy[Address] = st.ip_addresses().filter(
    lambda address: address.version == 4 or address.ipv4_mapped is None
)
outside = anywhere.filter(lambda address: address not in Networks(["10.0.0.0/8", "fd00::/8"]))


def scope(peer: str | None, *headers: tuple[str, str]) -> Scope:
    return {
        "client": (peer, 4711) if peer else None,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }


def xff(value: str) -> tuple[str, str]:
    return ("x-forwarded-for", value)


def forwarded(value: str) -> tuple[str, str]:
    return ("forwarded", value)


def spelled(address: Address, port: int | None) -> str:
    """As proxies write it in `Forwarded`."""
    text = f"[{address}]" if address.version == 6 else str(address)
    text += f":{port}" if port is not None else ""
    return f'"{text}"' if ":" in text else text


@given(outside)
def test_every_address_is_read_as_it_is_written(address: Address) -> None:
    bracketed = f"[{address}]" if address.version == 6 else str(address)

    assert read_address(str(address)) == address
    assert read_address(bracketed) == address
    assert read_address(f"{bracketed}:443") == address


@given(st.ip_addresses(v=4))
def test_mapped_ipv4_is_ipv4(address: IPv4Address) -> None:
    assert read_address(f"::ffff:{address}") == address
    assert read_address(f"[::ffff:{address}]:80") == address
    assert address in Networks([f"::ffff:{address}/128"])


@given(st.text(max_size=60))
def test_anything_else_is_no_address(text: str) -> None:
    address = read_address(text)

    assert address is None or isinstance(address, (IPv4Address, IPv6Address))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unknown",
        "_hidden",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:port",
        "[1.2.3.4]",
        "[::1",
        "::1]",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "1.2.3.4/32",
        "٣.2.3.4",
        "1.2.3.4 ",
    ],
)
def test_garbage_is_no_address(text: str) -> None:
    assert read_address(text) is None


@given(outside)
def test_a_peer_that_is_no_proxy_says_nothing_about_others(address: Address) -> None:
    told = scope(str(address), xff(CLIENT), forwarded(f"for={CLIENT}"))

    assert BEHIND.of(told) == address
    assert ClientAddresses(Networks([])).of(scope(PROXY, xff(CLIENT))) == ip_address(PROXY)


@given(
    st.lists(st.text(alphabet=st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=30)),
    outside,
    st.lists(st.sampled_from([OUTER_PROXY, "fd00::7", "[fd00::7]:1", f"{OUTER_PROXY}:80"]), max_size=3),
)
def test_what_a_client_wrote_itself_does_not_count(
    made_up: list[str], client: Address, proxies: list[str]
) -> None:
    chain = ", ".join([*made_up, str(client), *proxies])

    assert BEHIND.of(scope(PROXY, xff(chain))) == client


@given(outside, st.none() | st.integers(0, 65535), st.lists(outside, max_size=3))
def test_both_headers_are_read_alike(client: Address, port: int | None, made_up: list[Address]) -> None:
    elements = [*(f"for={spelled(address, None)}" for address in made_up), f"For={spelled(client, port)}"]
    chain = ", ".join(f"{element};proto=https" for element in elements)

    assert BEHIND.of(scope(PROXY, forwarded(chain))) == client
    both = scope(PROXY, forwarded(chain), xff(", ".join(map(str, [*made_up, client]))))
    assert BEHIND.of(both) == client


@given(st.text(alphabet=st.sampled_from('for=";,\\ \t:[]1a_.%'), max_size=40))
def test_forwarded_is_read_whatever_it_says(text: str) -> None:
    for entry in read_forwarded([text]):
        assert entry == "" or entry in text.replace("\\", "") or "\\" in text


def test_a_client_that_brings_the_other_header_along_has_no_address() -> None:
    assert BEHIND.of(scope(PROXY, xff(CLIENT), forwarded("for=203.0.113.5"))) is None
    assert BEHIND.of(scope(PROXY, xff(CLIENT), forwarded('for="'))) is None


def test_a_header_in_several_lines_is_one_chain() -> None:
    assert BEHIND.of(scope(PROXY, xff("203.0.113.5"), xff(CLIENT), xff(OUTER_PROXY))) == ip_address(CLIENT)


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        (" , ,", []),
        ('for="a,b;c";by=x, for=d', ["a,b;c", "d"]),
        ('for="a\\"b"', ['a"b']),
        ("by=x", [""]),
        ("for=a;for=b", [""]),
        ("for=a, for", ["a", ""]),
        ('for=a, for="b', ["a", ""]),
    ],
)
def test_an_element_of_forwarded_is_a_pair_list(text: str, entries: list[str]) -> None:
    assert read_forwarded([text]) == entries


def test_empty_entries_are_no_entries() -> None:
    assert read_x_forwarded_for(["a,, b ,", ""]) == ["a", "b"]


@pytest.mark.parametrize("said", ["unknown", f"{CLIENT}, garbage", "garbage, 10.1.1.1"])
def test_garbage_where_the_client_should_be_is_no_address(said: str) -> None:
    assert BEHIND.of(scope(PROXY, xff(said))) is None


def test_where_only_proxies_were_the_nearest_counts() -> None:
    assert BEHIND.of(scope(PROXY)) == ip_address(PROXY)
    assert BEHIND.of(scope(PROXY, xff(f"{OUTER_PROXY}, 10.1.1.1"))) == ip_address(PROXY)
    assert BEHIND.of(scope(None, xff(CLIENT))) is None


@given(anywhere, st.lists(st.tuples(anywhere, st.integers(0, 128)), max_size=8))
def test_networks_agree_with_the_standard_library(
    address: Address, firsts: list[tuple[Address, int]]
) -> None:
    networks = [ip_network((first, min(bits, first.max_prefixlen)), strict=False) for first, bits in firsts]
    networks += [ip_network((address, address.max_prefixlen - 3), strict=False)]

    for wanted in (networks, networks[:-1]):
        found = address in Networks(str(network) for network in wanted)
        assert found == any(address in network for network in wanted)


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_neighbours_in_a_64_are_one_visitor(address: IPv6Address, host: int) -> None:
    neighbour = IPv6Address(int(address) >> 64 << 64 | host)

    assert visitor_of(neighbour) == visitor_of(address)
    assert visitor_of(IPv6Address(int(address) ^ 1 << 64)) != visitor_of(address)
    assert visitor_of(None) != visitor_of(address)
