"""`/v1/accounts/{account_id}/hooks`: where Livepeer Studio delivers an account's events."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from contracts import hooks as contract
from services.edge.hook_book import HookBook
from services.edge.parts import Parts
from services.edge.problems import Refused
from services.edge.routes.access import NEEDS_ADMINISTRATOR, TheParts
from services.edge.routes.actors import TheActor
from services.edge.routes.models import AccountId, Body
from shared.bus import ask

router = APIRouter(prefix="/v1/accounts/{account_id}/hooks", tags=["Hooks"], dependencies=NEEDS_ADMINISTRATOR)

type PathAccountId = Annotated[AccountId, Path()]
type HookId = Annotated[str, Path(pattern=r"^[0-9A-Za-z]{12}$")]


class Hook(BaseModel):
    hook_id: str
    account_id: str
    url: str = Field(description="Where Livepeer Studio has to deliver.")
    version: int = Field(description="Of its secret.")
    previous_until_at: datetime | None = Field(
        description="Until when the secret before is valid as well; null: it is not."
    )
    added_at: datetime


class HookWithSecret(Hook):
    """A hook with its newest secret, which is shown this once."""

    secret: str = Field(description="The shared secret of the webhook at Livepeer Studio.")


class HookList(BaseModel):
    hooks: list[Hook]


class Rotation(Body):
    overlap_seconds: contract.Overlap = Field(
        default=contract.OVERLAP_SECONDS, description="For how long the secret before stays valid."
    )


def configured(parts: TheParts) -> HookBook:
    if not parts.hooks.configured:
        raise Refused(503, "hooks_not_configured", "there are no keys to make secrets of hooks with")
    return parts.hooks


type TheBook = Annotated[HookBook, Depends(configured)]


@router.post("", status_code=201)
async def add_hook(
    account_id: PathAccountId, parts: TheParts, book: TheBook, actor: TheActor
) -> HookWithSecret:
    """Add a hook. Its secret is shown in this answer and never again."""
    command = contract.AddHook(account_id=account_id, hook_id=contract.make_hook_id(), actor=actor)
    return _with_secret(parts, book, await ask(parts.client, command, contract.HookView))


@router.get("")
async def list_hooks(account_id: PathAccountId, parts: TheParts) -> HookList:
    """List an account's hooks, in the order they were added."""
    page = await ask(parts.client, contract.ListHooks(account_id=account_id), contract.HookPage)
    return HookList(hooks=[Hook(**_told(parts, view)) for view in page.hooks])


@router.post("/{hook_id}/rotate")
async def rotate_hook(  # noqa: PLR0917 (each is a part of the request)
    account_id: PathAccountId,
    hook_id: HookId,
    parts: TheParts,
    book: TheBook,
    actor: TheActor,
    body: Rotation | None = None,
) -> HookWithSecret:
    """Give a hook a new secret, shown this once; the one before stays valid for a while."""
    command = contract.RotateHook(
        account_id=account_id,
        hook_id=hook_id,
        overlap_seconds=(body or Rotation()).overlap_seconds,
        actor=actor,
    )
    return _with_secret(parts, book, await ask(parts.client, command, contract.HookView))


@router.delete("/{hook_id}")
async def remove_hook(account_id: PathAccountId, hook_id: HookId, parts: TheParts, actor: TheActor) -> Hook:
    """Remove a hook at once and for ever."""
    command = contract.RemoveHook(account_id=account_id, hook_id=hook_id, actor=actor)
    return Hook(**_told(parts, await ask(parts.client, command, contract.HookView)))


def _with_secret(parts: Parts, book: HookBook, view: contract.HookView) -> HookWithSecret:
    return HookWithSecret(**_told(parts, view), secret=book.secret(view))


def _told(parts: Parts, view: contract.HookView) -> dict[str, Any]:
    url = contract.hook_url(parts.public_url, view.hook_id)
    return {**view.model_dump(exclude={"kind", "removed"}), "url": url}
