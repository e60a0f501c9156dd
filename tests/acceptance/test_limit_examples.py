"""The examples of the documents, each run as it stands against the whole system."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.system import System
from tilt import demo

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    ROOT / "docs/limits.md",
    ROOT / "docs/streams.md",
    ROOT / "docs/usage.md",
    ROOT / "docs/signed-tickets.md",
)
PRELUDE = "Running the examples"
SECTION = re.compile(r"^## (.+)\n", re.MULTILINE)
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMISED = re.compile(r"  # (\d{3})$", re.MULTILINE)
STATUS = re.compile(r"^(\d{3})$", re.MULTILINE)
SECONDS = 120
# Both tell the status of each call on stderr, so that examples need not.
CURLRC = r'write-out = "%{stderr}%{http_code}\n"'
TELLING = """
def call(*words, _call=call, **named):
    import sys
    answered = _call(*words, **named)
    print(answered[0], file=sys.stderr)
    return answered
"""
DESCRIBED = {"Limits", "Plans", "Credit", "Stops", "Streams", "Tokens", "Audit", "Hooks", "Usage", "Meters"}
CURL_CALL = re.compile(r"curl (.*?)  # \d{3}$", re.MULTILINE | re.DOTALL)
PYTHON_CALL = re.compile(r"""call\("(\w+)", f?"(/[^"?]*)""")
PARAMETER = re.compile(r"\\{.*?\\}")


@dataclass(frozen=True)
class Example:
    language: str
    text: str

    @property
    def promised(self) -> list[str]:
        return PROMISED.findall(self.text)

    def calls(self) -> Iterator[tuple[str, str]]:
        """The method and path of each call."""
        if self.language == "python":
            yield from PYTHON_CALL.findall(self.text)
            return
        for words in CURL_CALL.findall(self.text):
            method = re.search(r"-X (\w+)", words)
            path = re.search(r'"\$URL(/[^"?]*)', words)
            assert path, words
            yield method[1] if method else "POST" if re.search(r" (-d|--data\S*) ", words) else "GET", path[1]


def _sections() -> dict[str, list[Example]]:
    sections: dict[str, list[Example]] = {}
    for document in DOCUMENTS:
        _, *parts = SECTION.split(document.read_text())
        for title, text in zip(parts[::2], parts[1::2], strict=True):
            assert title not in sections, title
            sections[title] = [Example(*block) for block in BLOCK.findall(text)]
    return sections


SECTIONS = _sections()
BEGIN = {example.language: example.text for example in SECTIONS.pop(PRELUDE)}


@pytest.mark.parametrize("title", [title for title, examples in SECTIONS.items() if examples])
async def test_examples_answer_what_they_say(system: System, title: str, tmp_path: Path) -> None:
    account = await system.open_account()
    customer = demo.Customer(account.account_id, account.key_id, account.api_key, account.sdk_token)
    (tmp_path / ".curlrc").write_text(CURLRC)
    environment = {**os.environ, **demo.environment(system.world, customer), "CURL_HOME": str(tmp_path)}
    for example in SECTIONS[title]:
        status, output, told = await _run(example, environment)

        text = f"{example.text}\n{output}\n{told}"
        assert (status, STATUS.findall(told)) == (0, example.promised), text


def test_every_call_has_an_example_in_both_languages() -> None:
    document = json.loads((ROOT / "contracts/schemas/openapi.json").read_text())
    shown = {
        language: {
            call
            for examples in SECTIONS.values()
            for example in examples
            if example.language == language
            for call in example.calls()
        }
        for language in BEGIN
    }

    missing = [
        (language, method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if DESCRIBED & {*operation["tags"]}
        for language, calls in shown.items()
        if not any(_is(method, path, *call) for call in calls)
    ]

    assert missing == []


def _is(method: str, path: str, called: str, called_path: str) -> bool:
    pattern = PARAMETER.sub("[^/]+", re.escape(path))
    return method.upper() == called and re.fullmatch(pattern, called_path) is not None


async def _run(example: Example, environment: dict[str, str]) -> tuple[int | None, str, str]:
    """Return how it ended, and what it said on stdout and stderr."""
    if example.language == "python":
        words = [sys.executable, "-c", BEGIN["python"] + TELLING + example.text]
    else:
        words = ["bash", "-euo", "pipefail", "-c", BEGIN["sh"] + example.text]
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        output, told = await process.communicate()
    return process.returncode, output.decode(), told.decode()
