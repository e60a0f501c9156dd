"""What the signer is told by its environment (prefix SIGNER_)."""

from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.livepeer.capabilities import MaxPrices, read_prices_by_model
from services.signer.rules import MAX_TOTAL_EV, Limits
from shared.money import Wei
from shared.settings import StoreSettings

KEY_BYTES_MIN, KEY_BYTES_MAX = 32, 64


def _paths(text: object) -> object:
    return tuple(Path(entry.strip()) for entry in text.split(",")) if isinstance(text, str) else text


def _prices(text: object) -> object:
    return read_prices_by_model(text) if isinstance(text, str) else text


def _recipients(text: object) -> object:
    if isinstance(text, str):
        return frozenset(
            bytes.fromhex(entry.strip().removeprefix("0x")) for entry in text.split(",") if entry
        )
    return text


type Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_paths)]
type PricesByModel = dict[tuple[int, str], Fraction]


class SignerSettings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="SIGNER_")

    # One a payer, by commas; the first is the payer of credentials that name none.
    keystore_path: Paths = ()
    keystore_password_path: Paths = ()  # one for each keystore, or one for all
    development_key_path: Paths = ()  # local chains only
    state_keys: SecretStr  # hex, comma separated; the first seals, all open
    partition: int = Field(default=0, ge=0)
    standby_is_synchronous: bool = False  # a fail-over to it loses nothing, and raises no fence
    chain_stale_seconds: int = Field(default=60, ge=1)
    quota_timeout_seconds: float = Field(default=1.5, gt=0)
    max_ticket_ev_wei: int = Field(default=3_000_000_000_000, ge=1)
    max_total_ev_wei: int = Field(default=20_000_000_000_000, ge=1)
    deposit_multiplier: int = Field(default=1, ge=1)
    max_price_wei_per_unit: Fraction | None = None
    max_price_per_capability: Annotated[PricesByModel, NoDecode, BeforeValidator(_prices)] = Field(
        default_factory=dict
    )
    credit_ahead_seconds: int = Field(default=0, ge=0, le=3600)  # of running metered sessions
    adopt_foreign_states: bool = False  # those of a go-livepeer signer that had the same key
    recipients: Annotated[frozenset[bytes] | None, NoDecode, BeforeValidator(_recipients)] = None

    def limits(self) -> Limits:
        return Limits(
            max_ticket_ev=Wei(self.max_ticket_ev_wei),
            max_total_ev=Wei(self.max_total_ev_wei),
            deposit_multiplier=self.deposit_multiplier,
            max_prices=MaxPrices(self.max_price_wei_per_unit, self.max_price_per_capability),
            recipients=self.recipients,
            credit_ahead=timedelta(seconds=self.credit_ahead_seconds),
        )

    def seal_keys(self) -> list[bytes]:
        """Raise ValueError unless each has 32 to 64 bytes."""
        keys = [bytes.fromhex(key.strip()) for key in self.state_keys.get_secret_value().split(",")]
        if not all(KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX for key in keys):
            raise ValueError(f"SIGNER_STATE_KEYS: {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes each, in hex")
        return keys


class RestoreSettings(BaseSettings):
    """For the tool beside the services (`restore.py`)."""

    model_config = SettingsConfigDict(env_prefix="SIGNER_")

    postgres_dsn: SecretStr
    max_total_ev_wei: int = Field(default=MAX_TOTAL_EV, ge=1)  # as the signers have it: of one payment
