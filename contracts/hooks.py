"""Hooks: where Livepeer Studio delivers an account's events, and the secrets it signs them with.

No secret is kept anywhere, nor on the bus: it is derived from a key that only edges (and an
operator's tool) have, the hook's id and the version of its secret.
"""

import hmac
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contracts.api_keys import make_id
from contracts.message import Command, Event, Message

HOOKS_MAX = 20  # of one account, removed ones not counted
OVERLAP_SECONDS, OVERLAP_SECONDS_MAX = 86_400, 7 * 86_400
KEY_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 (what secrets begin with)

type Overlap = Annotated[int, Field(ge=0, le=OVERLAP_SECONDS_MAX)]


def make_hook_id() -> str:
    """Return an id that no other hook has."""
    return make_id()


def hook_entry(hook_id: str) -> str:
    """The name of a hook's entry in the `identities` bucket; no key id has a hyphen."""
    return f"hook-{hook_id}"


def hook_url(public_url: str, hook_id: str) -> str:
    return f"{public_url}/webhooks/livepeer/{hook_id}"


def hook_secret(key: bytes, hook_id: str, version: int) -> str:
    """The shared secret of a version, as it is told to Livepeer Studio."""
    said = f"livepeer-studio-hook/{hook_id}/{version}".encode()
    return SECRET_PREFIX + hmac.digest(key, said, "sha256").hex()


class AddHook(Command):
    """The edge made the id; the same again changes nothing."""

    subject: ClassVar[str] = "cmd.accounts.add_hook.v1"

    account_id: str
    hook_id: str
    actor: str = ""
    reason: str = ""


class RotateHook(Command):
    """Begin a new version of the secret; the one before stays valid for a while."""

    subject: ClassVar[str] = "cmd.accounts.rotate_hook.v1"

    account_id: str
    hook_id: str
    overlap_seconds: Overlap = OVERLAP_SECONDS
    actor: str = ""
    reason: str = ""


class RemoveHook(Command):
    subject: ClassVar[str] = "cmd.accounts.remove_hook.v1"

    account_id: str
    hook_id: str
    actor: str = ""
    reason: str = ""


class ListHooks(Command):
    """Answered with all that an account has, removed ones left out."""

    subject: ClassVar[str] = "cmd.accounts.list_hooks.v1"

    account_id: str


class HookView(Message):
    """A hook, and an entry of the `identities` bucket (by `hook_entry`)."""

    kind: Literal["hook"] = "hook"
    hook_id: str
    account_id: str
    version: int  # of its secret
    previous_until_at: datetime | None  # how long the version before is valid; None: it is not
    added_at: datetime
    removed: bool = False


class HookPage(Message):
    kind: Literal["hook_page"] = "hook_page"
    hooks: list[HookView]


class HookAdded(Event):
    subject: ClassVar[str] = "evt.accounts.hook_added.v1"

    account_id: str
    hook_id: str
    actor: str
    reason: str


class HookRotated(Event):
    subject: ClassVar[str] = "evt.accounts.hook_rotated.v1"

    account_id: str
    hook_id: str
    version: int
    previous_until_at: datetime
    actor: str
    reason: str


class HookRemoved(Event):
    subject: ClassVar[str] = "evt.accounts.hook_removed.v1"

    account_id: str
    hook_id: str
    actor: str
    reason: str
