"""The signer's relay as a process of its own: `python -m services.signer.relay`.

It needs no key: it reads the log and publishes it.
"""

import uvloop
from pydantic_settings import SettingsConfigDict

from services.signer.outbox import SignerOutbox
from shared.relay import serve_relay
from shared.settings import StoreSettings


class RelaySettings(StoreSettings):
    model_config = SettingsConfigDict(env_prefix="SIGNER_")


if __name__ == "__main__":
    uvloop.run(serve_relay("signer", RelaySettings(), SignerOutbox))
