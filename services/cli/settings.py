"""What the `clearinghouse` command is told by its environment."""

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import HexKeys, NatsUrl


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CLEARINGHOUSE_", hide_input_in_errors=True)

    nats_url: NatsUrl  # nats://cli:password@host:port, several by commas
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 5.0  # for each answer
    key_pepper: Annotated[SecretStr, Field(min_length=32)] | None = None  # the edges' own, to make keys
    # The edges' own, to tell secrets of hooks.
    hook_keys: HexKeys = SecretStr("")
    forward_header: SecretStr | None = None  # `Name: value`, sent with what `log forward` posts
    public_url: str = ""  # the origin clients reach us at, to make SDK tokens
