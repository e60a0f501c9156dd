"""Makes roles, schemas, streams, consumers and buckets, and makes them again when they are lost.

`python -m services.provisioner.app` stays and watches; with `once` it ends when all is there.
"""

import asyncio
import json
import sys

import uvicorn
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from services.provisioner import bus, databases
from services.provisioner.settings import ProvisionerSettings
from shared import logging
from shared.bus import connect


def make_roles(settings: ProvisionerSettings) -> None:
    if settings.admin_dsn is None or settings.role_passwords is None:
        return
    passwords: dict[str, str] = json.loads(settings.role_passwords.get_secret_value())
    dsn = settings.admin_dsn.get_secret_value()
    databases.ensure_database(make_conninfo(dsn, dbname="postgres"), str(conninfo_to_dict(dsn)["dbname"]))
    databases.ensure_roles(dsn, passwords)
    databases.ensure_schemas(dsn, passwords)


async def run(settings: ProvisionerSettings, *, once: bool) -> None:
    logging.configure("provisioner", settings.log_level)
    make_roles(settings)
    client = await connect("admin", settings.nats_url.get_secret_value())
    if once:
        await bus.ensure(client, settings)
        await client.close()
        return
    ready = asyncio.Event()

    async def watch() -> None:
        async for complete in bus.watch(client, settings):
            (ready.set if complete else ready.clear)()
            await asyncio.sleep(settings.check_seconds)

    async def readyz(_: Request) -> PlainTextResponse:
        return PlainTextResponse(
            "ready\n" if ready.is_set() else "not ready\n", 200 if ready.is_set() else 503
        )

    async def livez(_: Request) -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    app = Starlette(routes=[Route("/readyz", readyz), Route("/livez", livez)])
    config = uvicorn.Config(
        app, host=settings.http_host, port=settings.http_port, log_config=None, access_log=False
    )
    watching = asyncio.create_task(watch())
    await uvicorn.Server(config).serve()
    watching.cancel()
    await client.close()


if __name__ == "__main__":
    asyncio.run(run(ProvisionerSettings(), once="once" in sys.argv[1:]))
