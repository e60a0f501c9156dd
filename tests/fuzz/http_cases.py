"""Bends whole HTTP requests: heads, framing, methods; as bytes, for no HTTP library would send them."""

import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.fuzz.clients import Case
from tests.fuzz.mutate_quote import damage

PAYMENT = b"/generate-live-payment"
WIRE = (PAYMENT, b"/sign-orchestrator-info", b"/discover-orchestrators")
HEAD_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 64 * 1024
OPAQUE = (b"user-1", b"", b"x" * 128, b"x" * 129, b"a b", b"\xc3\xa9", b"<script>", b"..:-_", b"\t", b"null")
PATHS = (
    *WIRE[1:],
    *(b"/", b"//", b"/v1/me", b"/v1/nothing", b"/docs", b"/openapi.json", b"/metrics", b"/../etc/passwd"),
    *(b"/generate-live-payment/", b"//generate-live-payment", b"/generate%2dlive-payment", b"/%00", b"/%ff"),
    *(b"/generate-live-payment?x=1", b"/generate-live-payment#x", b"http://other.test/generate-live-payment"),
    *(b"/discover-orchestrators?caps=live/a&caps=", b"/discover-orchestrators?caps=%ff%00", b"*"),
    *(b"/v1/accounts/%F0%9F%98%80", b"/v1/sessions/" + b"x" * 5000, b"/" + b"y" * 20_000),
)
ENCODING = re.compile(rb"(?im)^content-encoding:[ \t]*([^\r\n]*?)[ \t]*\r?$")
CHUNKED = re.compile(rb"(?im)^transfer-encoding:[ \t]*chunked[ \t]*\r?$")
LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,18})[ \t]*\r?$")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[^\r\n]*)?\r\n")
METHODS = (b"GET", b"PUT", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE", b"PATCH", b"post", b"CONNECT", b"\x00")


@dataclass
class Draft:
    """A request before it is written. `due`: it is well formed, so that an answer has to come."""

    headers: list[tuple[bytes, bytes]]
    payload: bytes
    method: bytes = b"POST"
    target: bytes = PAYMENT
    version: bytes = b"HTTP/1.1"
    framed: bool = True  # with a Content-Length that is true
    due: bool = True
    authorized: bool = True
    finish: Callable[[bytes], bytes] | None = None  # what becomes of the whole

    def write(self) -> bytes:
        headers = list(self.headers)
        if self.framed:
            headers.append((b"Content-Length", b"%d" % len(self.payload)))
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        whole = b"%s %s %s\r\n%s\r\n%s" % (self.method, self.target, self.version, head, self.payload)
        return self.finish(whole) if self.finish else whole


@dataclass(frozen=True)
class Bent:
    """The bytes to send, and what may be expected.

    `body` is what a server has to take for the body; None where there is none that may be read.
    `authorized`: it carries its account's key as it is.
    """

    case: Case
    raw: bytes
    body: bytes | None
    method: bytes
    target: bytes
    due: bool
    authorized: bool
    how: str


type Change = Callable[[Draft, Random], None]


def bend(case: Case, key: bytes, rng: Random) -> Bent:
    """Half of them differ by their body only; the others by what is around it."""
    headers = [(b"Host", b"edge.test"), (b"Authorization", b"Bearer " + key)]
    headers.append((b"Content-Type", b"application/json"))
    draft, how = Draft(headers, case.body), "body only"
    if rng.random() < 0.5:
        change = rng.choice(CHANGES)
        how = change.__name__.strip("_").replace("_", " ")
        change(draft, rng)
    raw = draft.write()
    return Bent(case, raw, body_of(raw), draft.method, draft.target, draft.due, draft.authorized, how)


def body_of(raw: bytes) -> bytes | None:
    """Read the body as RFC 9112 frames it; None where it is compressed, or framed badly.

    Empty lines before the request do not count.
    """
    head, _, rest = raw.lstrip(b"\r\n").partition(b"\r\n\r\n")
    encoding = ENCODING.search(head)
    if encoding is not None and encoding[1].lower() != b"identity":
        return None
    if CHUNKED.search(head):
        return _unchunk(rest)
    lengths = {int(length) for length in LENGTH.findall(head)}
    return rest[: lengths.pop()] if len(lengths) == 1 else None


def _unchunk(rest: bytes) -> bytes | None:
    parts: list[bytes] = []
    while match := CHUNK.match(rest):
        size = int(match[1], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(rest[match.end() : match.end() + size])
        rest = rest[match.end() + size + 2 :]
    return None


def _replace(draft: Draft, name: bytes, value: bytes) -> None:
    draft.headers = [(here, value if here == name else old) for here, old in draft.headers]


# The head


def _another_authorization(draft: Draft, rng: Random) -> None:
    draft.authorized = False
    _, value = draft.headers[1]
    another: tuple[bytes, ...] = (
        *(b"", b"Bearer", b"Bearer ", b"Basic eDp5", value[:-1], value + b"x", value.swapcase()),
        *(b"Bearer lpch_" + rng.randbytes(8).hex().encode(), b"Bearer \xff\xfe", value + b", " + value),
        *(value[7:], b"Bearer " + b"k" * 9000, damage(value, rng).translate(None, b"\r\n\x00")),
    )
    _replace(draft, b"Authorization", rng.choice(another))
    draft.due = False  # some of these are no header at all


def _two_authorizations(draft: Draft, rng: Random) -> None:
    draft.authorized = False
    draft.headers.insert(rng.randrange(3), (b"authorization", rng.choice((b"Bearer x", draft.headers[1][1]))))


def _no_authorization(draft: Draft, _: Random) -> None:
    draft.authorized = False
    draft.headers.pop(1)


def _opaque_ids(draft: Draft, rng: Random) -> None:
    for name in (b"Clearinghouse-User", b"Clearinghouse-Stream", b"Idempotency-Key"):
        if rng.random() < 0.6:
            draft.headers.append((name, rng.choice(OPAQUE)))


def _headers_of_others(draft: Draft, rng: Random) -> None:
    """What a go-livepeer signer or a proxy would read, and we must not."""
    for name, value in (
        (b"Signer-Auth-Id", b"someone-else"),
        (b"Signer-Anything", rng.randbytes(9).hex().encode()),
        (b"X-Forwarded-For", b"10.0.0.1, 127.0.0.1"),
        (b"X-Request-Id", b"chosen-by-the-client"),
        (b"Livepeer-Payment", b"AAAA"),
        (b"Expect", b"100-continue"),
        (b"Connection", rng.choice((b"close", b"keep-alive, Authorization", b"upgrade"))),
        (b"Upgrade", rng.choice((b"websocket", b"h2c"))),
        (b"Content-Type", rng.choice((b"text/plain", b"multipart/form-data", b"\xff", b""))),
        (b"Accept", b"text/html"),
        (b"Cookie", b"a=" + b"b" * 2000),
    ):
        if rng.random() < 0.3:
            draft.headers.append((name, value))


def _a_long_head(draft: Draft, rng: Random) -> None:
    length = rng.choice((HEAD_BYTES_MAX - 400, HEAD_BYTES_MAX, HEAD_BYTES_MAX * 2, HEAD_BYTES_MAX * 8))
    if rng.random() < 0.5:
        draft.headers.append((b"X-Long", b"x" * length))
    else:
        draft.headers += [(b"X-%d" % number, b"x" * 50) for number in range(length // 60)]
    draft.due = length <= HEAD_BYTES_MAX


def _bad_headers(draft: Draft, rng: Random) -> None:
    line = rng.choice(((b"", b"x"), (b"A B", b"x"), (b"X", b"a\nb"), (b"X", b"a\x00b"), (b"X\xff", b"y")))
    draft.headers.insert(rng.randrange(len(draft.headers)), line)
    draft.due = False


# Method, target, version


def _another_method(draft: Draft, rng: Random) -> None:
    draft.method = rng.choice(METHODS)
    draft.due = False


def _another_target(draft: Draft, rng: Random) -> None:
    draft.target = rng.choice(PATHS)
    draft.method = rng.choice((b"GET", b"POST"))
    draft.due = False


def _another_version(draft: Draft, rng: Random) -> None:
    draft.version = rng.choice((b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.9", b"HTTPS/1.1", b"", b"X"))
    draft.due = False


# Framing


def _another_length(draft: Draft, rng: Random) -> None:
    """Lies about how long the body is; what comes of a shorter one is what was said."""
    real = len(draft.payload)
    said = rng.choice((b"0", b"%d" % (real - 1), b"%d" % (real + 1), b"-1", b"1e3", b"0x10", b"", b"9" * 30))
    draft.headers.append((b"Content-Length", said))
    draft.framed = draft.due = False


def _two_lengths(draft: Draft, rng: Random) -> None:
    draft.headers.append((b"Content-Length", b"%d" % (len(draft.payload) + rng.choice((-1, 1)))))
    draft.due = False


def _chunked(draft: Draft, rng: Random) -> None:
    size = rng.choice((1, 7, 1000, 70_000)) if len(draft.payload) < 2000 else 1000
    parts = [draft.payload[at : at + size] for at in range(0, len(draft.payload), size)]
    extension = rng.choice((b"", b"", b";a=b"))
    draft.headers.append((b"Transfer-Encoding", rng.choice((b"chunked", b"Chunked"))))
    draft.framed = False
    draft.payload = (
        b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n\r\n"
    )


def _badly_chunked(draft: Draft, rng: Random) -> None:
    _chunked(draft, rng)
    draft.payload = rng.choice(
        (
            draft.payload.removesuffix(b"0\r\n\r\n"),
            b"ffffffffffffffff\r\n" + draft.payload,
            b"-1\r\n" + draft.payload,
            b"zz\r\n" + draft.payload,
            draft.payload.replace(b"\r\n", b"\n"),
            draft.payload.replace(b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n"),
            damage(draft.payload, rng),
        )
    )
    if rng.random() < 0.3:
        draft.headers.append((b"Content-Length", b"%d" % rng.choice((0, 5, len(draft.payload)))))
    if rng.random() < 0.3:
        _replace(
            draft, b"Transfer-Encoding", rng.choice((b"gzip, chunked", b"identity", b"chunked, chunked"))
        )
    draft.due = False


def _compressed(draft: Draft, rng: Random) -> None:
    name = rng.choice((b"gzip", b"GZIP", b"deflate", b"br", b"identity", b"x", b""))
    draft.headers.append((b"Content-Encoding", name))
    if name.lower() == b"gzip" and rng.random() < 0.5:
        draft.payload = gzip.compress(bytes(rng.choice((100, 10_000_000))))


def _oversize(draft: Draft, rng: Random) -> None:
    length = rng.choice((BODY_BYTES_MAX, BODY_BYTES_MAX + 1, 200_000, 1_048_576, 3_000_000))
    draft.payload = draft.payload.ljust(length, b" ")
    draft.due = length <= 1_048_576  # what is longer is cut off, and the answer may not be heard


# The whole


def _damaged(draft: Draft, rng: Random) -> None:
    draft.finish = lambda raw: damage(raw, rng)
    draft.due = draft.authorized = False


def _cut_off(draft: Draft, rng: Random) -> None:
    draft.finish = lambda raw: raw[: rng.randrange(len(raw))]
    draft.due = draft.authorized = False


def _something_before(draft: Draft, rng: Random) -> None:
    noise = rng.choice((b"\r\n", b"\r\n\r\n", b"\x16\x03\x01\x00\xa5", b"PRI * HTTP/2.0\r\n\r\n", b"x\r\n"))
    draft.finish = lambda raw: noise + raw
    draft.due = False


def _something_after(draft: Draft, rng: Random) -> None:
    """A second request, or noise, in the same segment."""
    after = rng.choice((b"GET / HTTP/1.1\r\n\r\n", rng.randbytes(50), b"\r\n\r\n", b"POST "))
    draft.finish = lambda raw: raw + after


CHANGES: tuple[Change, ...] = (
    *(_another_authorization, _two_authorizations, _no_authorization, _opaque_ids, _opaque_ids),
    *(_headers_of_others, _headers_of_others, _a_long_head, _bad_headers),
    *(_another_method, _another_target, _another_target, _another_version),
    *(_another_length, _another_length, _two_lengths, _chunked, _chunked, _badly_chunked, _badly_chunked),
    *(_compressed, _oversize, _damaged, _damaged, _cut_off, _something_before, _something_after),
)
