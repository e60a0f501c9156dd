"""Who changes something, as the audit keeps it: an id, never a key."""

from typing import Annotated

from fastapi import Depends

from services.edge.auth import Administrator
from services.edge.routes.access import AnyCaller


async def actor_of(caller: AnyCaller) -> str:
    return caller.name if isinstance(caller, Administrator) else f"key:{caller.key_id}"


type TheActor = Annotated[str, Depends(actor_of)]
