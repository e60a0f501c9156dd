"""What pages load beside themselves: our own files, named by their content and kept by browsers for ever."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

DIRECTORY = Path(__file__).parent / "static"
PREFIX = "/static/"
HASH_DIGITS = 16
KINDS = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    path: str  # where it is served
    media_type: str
    content: bytes


class Assets:
    def __init__(self, directory: Path = DIRECTORY) -> None:
        """Read all of them; they are a hundred kilobytes."""
        named = {path.name: _read(path) for path in sorted(directory.iterdir()) if path.suffix in KINDS}
        self._by_name = named
        self._by_path = {asset.path: asset for asset in named.values()}

    def url(self, name: str) -> str:
        """Where a file is served, by the name it has in the repository."""
        return self._by_name[name].path

    def find(self, path: str) -> Asset | None:
        return self._by_path.get(path)


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    digest = sha256(content).hexdigest()[:HASH_DIGITS]
    return Asset(f"{PREFIX}{path.stem}.{digest}{path.suffix}", KINDS[path.suffix], content)
