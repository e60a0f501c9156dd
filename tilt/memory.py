"""What a slot remembers between runs: small JSON files that only their owner may read."""

import json
import os
from pathlib import Path


def load[V: (int, str)](path: Path, kind: type[V]) -> dict[str, V]:
    """Return what was kept; nothing if there is no such file."""
    if not path.exists():
        return {}
    return {name: kind(value) for name, value in json.loads(path.read_text()).items()}


def keep[V: (int, str)](path: Path, values: dict[str, V]) -> None:
    """Replace the file as a whole, so that a crash leaves the old or the new one."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(handle)
    draft.replace(path)
