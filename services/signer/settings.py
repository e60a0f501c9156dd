"""What the signer is told by its environment (prefix SIGNER_)."""

from fractions import Fraction
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from services.signer.rules import Limits
from shared.money import Wei
from shared.settings import StoreSettings

KEY_BYTES_MIN, KEY_BYTES_MAX = 32, 64


def _recipients(text: object) -> object:
    if isinstance(text, str):
        return frozenset(
            bytes.fromhex(entry.strip().removeprefix("0x")) for entry in text.split(",") if entry
        )
    return text


class SignerSettings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="SIGNER_")

    keystore_path: Path | None = None
    keystore_password_path: Path | None = None
    development_key_path: Path | None = None  # local chains only
    state_keys: SecretStr  # hex, comma separated; the first seals, all open
    partition: int = Field(default=0, ge=0)
    chain_stale_seconds: int = Field(default=60, ge=1)
    quota_timeout_seconds: float = Field(default=2, gt=0)
    max_ticket_ev_wei: int = Field(default=3_000_000_000_000, ge=1)
    max_total_ev_wei: int = Field(default=20_000_000_000_000, ge=1)
    deposit_multiplier: int = Field(default=1, ge=1)
    max_price_wei_per_unit: Fraction | None = None
    recipients: Annotated[frozenset[bytes] | None, NoDecode, BeforeValidator(_recipients)] = None

    def limits(self) -> Limits:
        return Limits(
            max_ticket_ev=Wei(self.max_ticket_ev_wei),
            max_total_ev=Wei(self.max_total_ev_wei),
            deposit_multiplier=self.deposit_multiplier,
            max_price_per_unit=self.max_price_wei_per_unit,
            recipients=self.recipients,
        )

    def seal_keys(self) -> list[bytes]:
        """Raise ValueError unless each has 32 to 64 bytes."""
        keys = [bytes.fromhex(key.strip()) for key in self.state_keys.get_secret_value().split(",")]
        if not all(KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX for key in keys):
            raise ValueError(f"SIGNER_STATE_KEYS: {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes each, in hex")
        return keys
