"""Bends an orchestrator's quote: field by field, at the bounds of the rules, and blindly."""

from collections.abc import Callable
from random import Random

from tests.fuzz.quote_tree import WIRE_TYPES, Node, Tree, grow, nodes, varint, write
from tests.fuzz.quoted import CERTAIN, ORCHESTRATOR_INFO
from tests.fuzz.released import minimal
from tests.fuzz.setting import LISTED, Setting
from tests.fuzz.wire_format import BYTES, GROUP, VARINT

LENGTHS = (0, 1, 19, 20, 21, 31, 32, 33, 64, 255)
INT64_BOUNDS = (0, 1, -1, 2**31, 2**32, 2**63 - 1, -(2**63))
AHEAD = (-1, 0, 1, 2, 3, 40, 49, 50, 51, 52, 2**32, 2**64, 2**255)
SECONDS = (-(2**63), -1, 0, 179, 180, 181, 1800, 2**63 - 1)
FACE_VALUE, WIN_PROB = (2, 2), (2, 3)

type Change = Callable[[Tree, Setting, float, Random], None]


def mutate(quote: bytes, setting: Setting, now: float, rng: Random) -> bytes:
    """Change it in one way mostly, sometimes in several, and damage some of what comes out."""
    tree = grow(quote, ORCHESTRATOR_INFO)
    for _ in range(rng.choices((1, 2, 4), (75, 15, 10))[0]):
        rng.choice(CHANGES)(tree, setting, now, rng)
    data = write(tree)
    return damage(data, rng) if rng.random() < 0.1 else data


def damage(data: bytes, rng: Random) -> bytes:
    """Flip bits, cut, insert, repeat: without a thought of what the bytes mean."""
    if not data:
        return rng.randbytes(rng.randrange(8))
    at = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + rng.randbytes(rng.randint(1, 4)) + data[at:]
        case 3:
            return data[:at] + data[at + rng.randint(1, 4) :]
    return data + data[at:]


# At the bounds of the rules


def _to_a_bound(tree: Tree, setting: Setting, now: float, rng: Random) -> None:
    found = {path: node for path, _, node in nodes(tree)}
    path = rng.choice(sorted(BOUNDS))
    if path in found:
        found[path].value = BOUNDS[path](setting, now, rng)


def _to_the_cap(tree: Tree, setting: Setting, _: float, rng: Random) -> None:
    """Make a ticket's expected value the highest allowed, or just more."""
    found = {path: node for path, _, node in nodes(tree)}
    if FACE_VALUE not in found or WIN_PROB not in found:
        return
    face_value = rng.choice((setting.terms.max_ticket_ev * 7, setting.chain.deposit, 2**256 - 1))
    win_prob = setting.terms.max_ticket_ev * CERTAIN // max(face_value, 1) + rng.choice((-1, 0, 0, 1))
    found[FACE_VALUE].value = minimal(face_value)
    found[WIN_PROB].value = minimal(max(win_prob, 0))


def _hash(setting: Setting, _: float, rng: Random) -> bytes:
    chain = setting.chain
    return rng.choice((chain.round_hash, chain.previous_hash, bytes(32), rng.randbytes(32)))


def _face_value(setting: Setting, _: float, rng: Random) -> bytes:
    most = setting.chain.deposit // setting.terms.deposit_multiplier
    return minimal(rng.choice((0, 1, most, most + 1, 2**256 - 1)))


def _win_prob(_: Setting, __: float, rng: Random) -> bytes:
    return minimal(rng.choice((0, 1, CERTAIN // 2, CERTAIN - 1, CERTAIN)))


BOUNDS: dict[tuple[int, ...], Callable[[Setting, float, Random], int | bytes]] = {
    (2, 1): lambda _, __, rng: rng.choice((LISTED, bytes(20), rng.randbytes(20))),
    FACE_VALUE: _face_value,
    WIN_PROB: _win_prob,
    (2, 6): lambda setting, _, rng: minimal(max(0, setting.chain.head + rng.choice(AHEAD))),
    (2, 7, 1): lambda setting, _, rng: setting.chain.round + rng.choice((-2, -1, 0, 1, 2**63)),
    (2, 7, 2): _hash,
    (3, 1): lambda _, __, rng: rng.choice((*INT64_BOUNDS, rng.randrange(1, 2**40))),
    (3, 2): lambda _, __, rng: rng.choice((*INT64_BOUNDS, rng.randrange(1, 2**40))),
    (6, 3): lambda _, now, rng: rng.choice((int(now),) * 4 + (0,)) + rng.choice(SECONDS),
}


# One field


def _pick(tree: Tree, rng: Random) -> tuple[Tree, Node] | None:
    found = [(parent, node) for _, parent, node in nodes(tree)]
    return rng.choice(found) if found else None


def _on_a_field(change: Callable[[Tree, Node, Random], None]) -> Change:
    def on(tree: Tree, _: Setting, __: float, rng: Random) -> None:
        if (picked := _pick(tree, rng)) is not None:
            change(*picked, rng)

    return on


def _set_length(_: Tree, node: Node, rng: Random) -> None:
    length = rng.choice(LENGTHS)
    node.wire_type = BYTES
    node.value = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))


def _pad_with_zeros(_: Tree, node: Node, rng: Random) -> None:
    if isinstance(node.value, bytes):
        node.value = bytes(rng.randint(1, 2)) + node.value


def _lengthen_or_shorten(_: Tree, node: Node, rng: Random) -> None:
    if isinstance(node.value, bytes):
        node.value = rng.choice((node.value[:-1], node.value[1:], node.value + rng.randbytes(1)))


def _set_integer(_: Tree, node: Node, rng: Random) -> None:
    node.wire_type = VARINT
    node.value = rng.choice(INT64_BOUNDS)


def _remove(tree: Tree, node: Node, _: Random) -> None:
    tree.remove(node)


def _empty(_: Tree, node: Node, __: Random) -> None:
    node.value = [] if isinstance(node.value, list) else b"" if isinstance(node.value, bytes) else 0


def _repeat(tree: Tree, node: Node, rng: Random) -> None:
    """The same field again, before or after, with its value or another: the last one has to win."""
    value = node.value
    if isinstance(value, bytes) and rng.random() < 0.5:
        value = rng.randbytes(len(value))
    elif isinstance(value, int) and rng.random() < 0.5:
        value = rng.choice(INT64_BOUNDS)
    elif isinstance(value, list):
        value = rng.sample(value, rng.randint(0, len(value)))
    again = Node(node.number, node.wire_type, value)
    tree.insert(tree.index(node) + rng.randint(0, 1), again)


def _split(tree: Tree, node: Node, rng: Random) -> None:
    """One sub-message as two, which have to merge."""
    if isinstance(node.value, list):
        at = rng.randint(0, len(node.value))
        rest = Node(node.number, node.wire_type, node.value[at:])
        node.value = node.value[:at]
        tree.insert(rng.randint(tree.index(node) + 1, len(tree)), rest)


def _retype(_: Tree, node: Node, rng: Random) -> None:
    node.wire_type = rng.choice(WIRE_TYPES)


def _renumber(_: Tree, node: Node, rng: Random) -> None:
    node.number = rng.choice((0, 1, node.number + 1, 2**29 - 1, 2**29, rng.randrange(1, 40)))


def _lengthen_varints(_: Tree, node: Node, rng: Random) -> None:
    node.tag_padding, node.padding = rng.choice(((0, 1), (1, 0), (0, 8), (4, 4), (0, 9), (9, 0), (0, 10)))


def _add_unknown(tree: Tree, _: Node, rng: Random) -> None:
    number = rng.choice((8, 15, 16, 99, 2**29 - 1))
    wire_type = rng.choice(WIRE_TYPES)
    value = rng.choice((rng.randbytes(rng.randrange(20)), rng.getrandbits(64)))
    tree.insert(rng.randint(0, len(tree)), Node(number, wire_type, value))


def _add_known(tree: Tree, _: Node, rng: Random) -> None:
    """Fields that quotes may have and ours do not: hardware, storage, prices per capability, nodes."""
    number, content = rng.choice(
        (
            (3, b"\x08\x07\x10\x02\x18\x23\x22\x01x"),
            (4, rng.randbytes(20)),
            (5, b"\x0a\x02\x01\x02\x2a\x04\x0a\x02v1"),
            (7, b"\x0a\x01p\x1a\x02\x0a\x00"),
            (32, b"\x08\x01\x82\x01\x00"),
            (33, b"\x08\x01\x10\x01"),
            (34, b"node"),
        )
    )
    tree.append(Node(number, BYTES, damage(content, rng) if rng.random() < 0.3 else content))


def _fill_with_junk(_: Tree, node: Node, rng: Random) -> None:
    if isinstance(node.value, list):
        node.value = damage(write(node.value), rng)


def _nest(_: Tree, node: Node, rng: Random) -> None:
    """Messages in messages, or groups in groups, deeper than any reader should follow."""
    depth = rng.choice((2, 30, 99, 101, 1000))
    if rng.random() < 0.5:
        content = b""
        for _level in range(min(depth, 200)):
            content = varint(node.number << 3 | BYTES) + varint(len(content)) + content
        node.value = content
    else:
        node.wire_type = GROUP
        node.value = varint(node.number << 3 | GROUP) * depth


def _reorder(tree: Tree, _: Setting, __: float, rng: Random) -> None:
    for _path, parent, _node in nodes(tree):
        if rng.random() < 0.2:
            rng.shuffle(parent)
            return


CHANGES: tuple[Change, ...] = (
    *[_to_a_bound] * 8,
    *[_to_the_cap] * 2,
    *map(
        _on_a_field,
        (
            *[_set_length] * 3,
            *[_pad_with_zeros] * 2,
            _lengthen_or_shorten,
            _set_integer,
            _remove,
            _empty,
            *[_repeat] * 2,
            _split,
            _retype,
            _renumber,
            *[_lengthen_varints] * 2,
            _add_unknown,
            *[_add_known] * 2,
            _fill_with_junk,
            _nest,
        ),
    ),
    _reorder,
)
