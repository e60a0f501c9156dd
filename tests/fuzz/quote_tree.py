"""A message as a tree that can be bent in ways no encoder would: to be written out and sent."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.fuzz.wire_format import BYTES, FIXED32, FIXED64, GROUP, GROUP_END, VARINT, Schema, read


@dataclass
class Node:
    """A field. Padding bytes make a varint longer than it has to be, of its tag or of what follows."""

    number: int
    wire_type: int
    value: "int | bytes | list[Node]"
    tag_padding: int = 0
    padding: int = 0


type Tree = list[Node]


def grow(data: bytes, schema: Schema) -> Tree:
    tree: Tree = []
    for field in read(data).fields:
        inner: Any = schema.get(field.number)
        value: int | bytes | Tree = field.value
        if isinstance(field.value, bytes) and field.wire_type == BYTES and isinstance(inner, dict):
            value = grow(field.value, inner)
        tree.append(Node(field.number, field.wire_type, value))
    return tree


def nodes(tree: Tree, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Tree, Node]]:
    """Give each node with its path of field numbers and the tree it stands in."""
    for node in list(tree):
        here = (*path, node.number)
        yield here, tree, node
        if isinstance(node.value, list):
            yield from nodes(node.value, here)


def write(tree: Tree) -> bytes:
    return b"".join(map(_write, tree))


def _write(node: Node) -> bytes:
    tag = varint(node.number << 3 | node.wire_type, node.tag_padding)
    content = write(node.value) if isinstance(node.value, list) else node.value
    match node.wire_type:
        case 0:
            return tag + (content if isinstance(content, bytes) else varint(content, node.padding))
        case 2:
            data = content if isinstance(content, bytes) else varint(content)
            return tag + varint(len(data), node.padding) + data
        case 3:
            data = content if isinstance(content, bytes) else varint(content)
            return tag + data + varint(node.number << 3 | GROUP_END)
    width = {FIXED64: 8, FIXED32: 4}.get(node.wire_type, 0)
    data = content if isinstance(content, bytes) else varint(content)
    return tag + data[:width].ljust(width, b"\0")


def varint(value: int, padding: int = 0) -> bytes:
    value %= 2**64
    groups = []
    while value >= 0x80 or padding > 0:
        if value < 0x80:
            padding -= 1
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


WIRE_TYPES = (VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32, 6, 7)
