"""What accounts is told by its environment."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from shared.settings import StoreSettings


class Settings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="ACCOUNTS_")

    # Of an account that is opened without one; None: it goes with the signer's first key.
    default_payer: Annotated[str, Field(pattern="^0x[0-9a-fA-F]{40}$"), AfterValidator(str.lower)] | None = (
        None
    )
