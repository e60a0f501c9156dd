"""Rules of the house that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("services", "shared", "contracts", "tilt")
LINES_MAX = 50  # of a function


def sources(*folders: str) -> list[Path]:
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.name.endswith("_pb2.py")
    ]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


@pytest.mark.parametrize("path", sources(*OURS), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_is_longer_than_fifty_lines(path: Path) -> None:
    long = [node.name for node in functions(path) if (node.end_lineno or 0) - node.lineno + 1 > LINES_MAX]

    assert not long


@pytest.mark.parametrize("path", sources(*OURS), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_about(path: Path) -> None:
    text = path.read_text()

    assert not text or ast.get_docstring(ast.parse(text))
    assert path.name != "__init__.py" or not text


def test_only_settings_read_the_environment() -> None:
    readers = [
        str(path.relative_to(ROOT))
        for path in sources("services", "shared")
        if "os.environ" in path.read_text() or "os.getenv" in path.read_text()
    ]

    assert readers == ["services/provisioner/nats_config.py"]


def test_no_float_holds_money() -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("services/signer", "services/quota", "services/metering", "shared/money.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.AnnAssign)
        and "wei" in ast.unparse(node.target).lower()
        and "float" in ast.unparse(node.annotation)
    ]

    assert not offenders
