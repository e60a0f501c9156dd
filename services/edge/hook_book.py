"""The hooks of accounts as the edge knows them, and their secrets, which nobody keeps."""

from collections.abc import Sequence
from datetime import datetime

from contracts.hooks import HookView, hook_entry, hook_secret
from services.edge.auth import Bucket


class HooksUnknownError(Exception):
    """We cannot tell now: entries are not loaded, or there are no keys to make secrets with."""


class HookBook:
    """`keys` make secrets: the first those that are told, all of them those that are accepted."""

    def __init__(self, bucket: Bucket, keys: Sequence[bytes]) -> None:
        self._bucket = bucket
        self._keys = list(keys)

    @property
    def configured(self) -> bool:
        return bool(self._keys)

    def find(self, hook_id: str) -> HookView | None:
        """Raises HooksUnknownError."""
        if not self._bucket.ready:
            raise HooksUnknownError("identities are not loaded")
        entry = self._bucket.get(hook_entry(hook_id))
        hook = HookView.model_validate_json(entry) if entry is not None else None
        return None if hook is None or hook.removed else hook

    def secret(self, hook: HookView) -> str:
        """The secret to tell of its newest version."""
        return hook_secret(self._keys[0], hook.hook_id, hook.version)

    def secrets(self, hook: HookView, now: datetime) -> list[str]:
        """All that are valid now. Raises HooksUnknownError."""
        if not self._keys:
            raise HooksUnknownError("there are no keys to make secrets with")
        versions = [hook.version]
        if hook.previous_until_at is not None and now < hook.previous_until_at:
            versions.append(hook.version - 1)
        return [hook_secret(key, hook.hook_id, version) for key in self._keys for version in versions]
