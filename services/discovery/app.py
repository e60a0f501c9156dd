"""Discovery, put together: `python -m services.discovery.app`."""

import asyncio

from contracts.discovery import ORCHESTRATORS
from contracts.signer import OrchestratorInfoSigned, SignOrchestratorInfo
from services.discovery.application import Credential, Discovering
from services.discovery.orchestrators import Orchestrators
from services.discovery.outgoing import Resolver
from services.discovery.settings import Settings
from shared import logging
from shared.bucket import BucketWriter
from shared.bus import ask, connect, make_broker
from shared.service import serve

SERVICE = "discovery"


async def main() -> None:
    settings = Settings()
    logging.configure(SERVICE, settings.log_level)
    nats_url = settings.nats_url.get_secret_value()
    client = await connect(SERVICE, nats_url)

    async def ask_signer() -> Credential:
        # No account's business: the answer is the payer's, and the same for all.
        signed = await ask(client, SignOrchestratorInfo(account_id=SERVICE), OrchestratorInfoSigned)
        return Credential(_octets(signed.address), _octets(signed.signature))

    prices = settings.max_prices()
    resolver = Resolver(
        allow_private=settings.allow_private_addresses, lookups_max=len(settings.orchestrators)
    )
    bucket = BucketWriter(client, ORCHESTRATORS)
    discovering = Discovering(
        settings.orchestrators,
        Orchestrators(resolver, prices, settings.answer_seconds),
        ask_signer,
        bucket,
        settings.clock(),
        runner_ceiling=prices.general,
        poll_seconds=settings.poll_seconds,
        sweep_seconds=settings.sweep_seconds,
    )

    async def write_bucket() -> None:
        """Until something was observed, the bucket keeps what an earlier process saw."""
        await discovering.observed.wait()
        await bucket.run({})

    async def ready() -> bool:
        return bucket.written

    server = serve(
        brokers=[make_broker(SERVICE, nats_url)],  # it answers no commands
        client=client,
        host=settings.http_host,
        port=settings.http_port,
        tasks=[discovering.run, write_bucket],
        checks=[ready],
        on_stop=resolver.close,
    )
    await server.serve()


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


if __name__ == "__main__":
    asyncio.run(main())
