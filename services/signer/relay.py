"""The signer's relay as a process of its own: `python -m services.signer.relay`.

It needs no key: it reads the log and publishes it.
"""

import uvloop
from pydantic_settings import SettingsConfigDict

from services.signer.outbox import SignerOutbox
from services.signer.recovery import recovering
from shared.relay import serve_relay
from shared.settings import StoreSettings


class RelaySettings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="SIGNER_")

    standby_is_synchronous: bool = False  # a fail-over to it loses nothing, and raises no fence


if __name__ == "__main__":
    settings = RelaySettings()
    uvloop.run(
        serve_relay(
            "signer",
            settings,
            SignerOutbox,
            recovering=lambda signer: recovering(signer, settings.clock()),
            standby_is_synchronous=settings.standby_is_synchronous,
        )
    )
