"""Where we may connect to, and where not."""

import pytest

from services.discovery.outgoing import ForbiddenAddressError, Origin, Resolver, is_public

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("text", "url", "host", "port", "is_tls"),
    [
        ("https://one.example:8935", "https://one.example:8935", "one.example", 8935, True),
        ("https://one.example:8935/", "https://one.example:8935", "one.example", 8935, True),
        ("one.example:8935", "https://one.example:8935", "one.example", 8935, True),
        ("https.example", "https://https.example", "https.example", 443, True),
        ("http://one.example", "http://one.example", "one.example", 80, False),
        ("https://[2001:db8::1]:8935/base", "https://[2001:db8::1]:8935/base", "2001:db8::1", 8935, True),
    ],
)
def test_a_service_url_is_taken_apart(text: str, url: str, host: str, port: int, *, is_tls: bool) -> None:
    assert Origin.of(text) == Origin(url, host, port, is_tls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://",
        "ftp://one.example",
        "file:///etc/passwd",
        "unix:///run/x",
        "https://one.example:99999",
        "https://one.example:0",
        "https://user@one.example",
        "https://one.example?x=1",
        "https://one.example#x",
        "https://one .example",
        "https://one.example\r\nHost: x",
        "https://\u0130.example",
        "https://one.example/" + "x" * 2048,
    ],
)
def test_other_urls_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Origin.of(text)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.2.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:db8::1",
    ],
)
def test_addresses_inside_of_networks(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_however_it_is_written_our_own_machine_is_forbidden(host: str) -> None:
    resolver = Resolver(allow_private=False, lookups_max=1)

    with pytest.raises((ForbiddenAddressError, OSError)):
        await resolver.resolve(Origin.of(f"https://{host}:8935"))


async def test_it_is_allowed_where_a_setting_says_so() -> None:
    resolver = Resolver(allow_private=True, lookups_max=1)

    assert await resolver.resolve(Origin.of("https://127.0.0.1:8935")) == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "a" * 64 + ".example", "a..b"])
async def test_a_name_that_leads_nowhere_is_a_broken_world(host: str) -> None:
    resolver = Resolver(allow_private=True, lookups_max=1)

    with pytest.raises(OSError, match=r".+"):
        await resolver.resolve(Origin.of(f"https://{host}:8935"))
