"""Searches outputs for secrets, and tells which was where, without repeating it."""

import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.faults.secrets.canaries import API_KEY, needles


def in_bytes(data: bytes, secrets_by_name: Mapping[str, str]) -> set[str]:
    """The names of the secrets in an output; API keys that nobody named as well."""
    found = {name for needle, name in needles(secrets_by_name).items() if needle in data}
    if API_KEY.search(data):
        found.add("an API key")
    return found


def in_outputs(
    outputs: Iterable[tuple[str, bytes]], secrets_by_name: Mapping[str, str]
) -> dict[str, set[str]]:
    """Which secrets are where; outputs of one place are searched as one."""
    by_place: dict[str, list[bytes]] = defaultdict(list)
    for place, data in outputs:
        by_place[place].append(data)
    found: dict[str, set[str]] = defaultdict(set)
    with tempfile.TemporaryDirectory() as directory:
        paths = {Path(directory) / str(number): place for number, place in enumerate(by_place)}
        for path, place in paths.items():
            path.write_bytes(b"\n".join(by_place[place]))
        for name, path in in_files(list(paths), secrets_by_name):
            found[paths[path]].add(name)
    return dict(found)


def in_files(paths: Sequence[Path], secrets_by_name: Mapping[str, str]) -> set[tuple[str, Path]]:
    """Which secrets are in which of these files; much faster than reading them one by one."""
    found: set[tuple[str, Path]] = set()
    suspects = _files_with(paths, needles(secrets_by_name)) | _files_with_api_keys(paths)
    for path in suspects:
        found |= {(name, path) for name in in_bytes(path.read_bytes(), secrets_by_name)}
    return found


def _files_with(paths: Sequence[Path], wanted: Iterable[bytes]) -> set[Path]:
    with tempfile.NamedTemporaryFile() as patterns:
        patterns.write(b"\n".join(wanted))
        patterns.flush()
        return _grep(["--fixed-strings", f"--file={patterns.name}"], paths)


def _files_with_api_keys(paths: Sequence[Path]) -> set[Path]:
    return _grep(["--extended-regexp", f"--regexp={API_KEY.pattern.decode()}"], paths)


def _grep(what: Sequence[str], paths: Sequence[Path]) -> set[Path]:
    """Files with a match; a file that goes away meanwhile is none."""
    if not paths:
        return set()
    command = ["grep", "--text", "--no-messages", "--null", "--files-with-matches", *what, "/dev/null"]
    listed = subprocess.run(
        ["xargs", "-0", *command],
        input=b"\0".join(str(path).encode() for path in paths),
        stdout=subprocess.PIPE,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        check=False,
    ).stdout
    return {Path(name.decode()) for name in listed.split(b"\0") if name}
