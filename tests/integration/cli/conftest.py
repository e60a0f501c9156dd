"""The `clearinghouse` command against accounts on real PostgreSQL and NATS, as the NATS user `cli`.

Each test runs twice: with quota as a process, and with a stand-in for it and for the signer that keeps
what it is told, and that may be silent. Nothing else is on the bus: no web.

`house`      what stands behind the command, started once for all tests of this package
`stand_in`   the stand-in; a test that asks for it runs once
`account`    an account of the test's own
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from contracts.accounts import AccountPage, ListAccounts
from services.provisioner import bus
from services.provisioner.settings import ProvisionerSettings
from shared.bus import ServiceUnavailableError, ask, connect
from tests import infra
from tests.integration.cli.house import HOOK_KEY, PEPPER, House
from tests.integration.quota_stand_in import QuotaStandIn
from tests.integration.service_process import bus_user, service
from tilt.slot import Slot

NATS_USERS = (bus_user("accounts"), bus_user("quota"), bus_user("cli"))


@pytest.fixture(scope="package")
def nats(slot: Slot) -> Iterator[infra.Nats]:
    with infra.run_nats(slot, NATS_USERS) as server:
        yield server


@pytest.fixture(scope="package", params=["quota", "stand-in"])
async def house(
    request: pytest.FixtureRequest, postgres: infra.Postgres, nats: infra.Nats, slot: Slot
) -> AsyncIterator[House]:
    directory = slot.directory / f"cli-{request.param}"
    directory.mkdir(exist_ok=True)
    settings = {
        "CLEARINGHOUSE_NATS_URL": nats.url("cli"),
        "CLEARINGHOUSE_KEY_PEPPER": PEPPER,
        "CLEARINGHOUSE_HOOK_KEYS": HOOK_KEY,
        "CLEARINGHOUSE_PUBLIC_URL": "https://pay.example.org",
    }
    async with AsyncExitStack() as stack:
        admin = await connect("admin", nats.url())
        stack.push_async_callback(admin.close)
        await provision(admin, nats)
        database = stack.enter_context(postgres.database("accounts", "quota"))

        async def start(name: str) -> None:
            own = {"POSTGRES_DSN": database.dsn(name), "NATS_URL": nats.url(name), "CREATE_TABLES": "true"}
            running = service(name, slot.port(name), own, directory / f"{name}.log", ready_seconds=90)
            await stack.enter_async_context(running)

        await start("accounts")
        await answering(admin)
        if request.param == "quota":
            await start("quota")
            yield House(nats, admin, settings)
            return
        stand_in = QuotaStandIn(admin)
        await stand_in.serve()
        stack.push_async_callback(stand_in.leave)
        yield House(nats, admin, settings, stand_in)


async def answering(admin: Client) -> None:
    """Wait until accounts answers: it is ready a moment before the bus knows whom to ask."""
    async with asyncio.timeout(30):
        while True:
            try:
                await ask(admin, ListAccounts(), AccountPage)
            except ServiceUnavailableError:
                await asyncio.sleep(0.05)
            else:
                return


async def provision(admin: Client, nats: infra.Nats) -> None:
    """Make all that the provisioner makes, empty."""
    jetstream = admin.jetstream()
    for stream in await jetstream.streams_info():
        await jetstream.delete_stream(str(stream.config.name))
    made = ProvisionerSettings(nats_url=SecretStr(nats.url()), http_port=0, max_bytes=64 * 1024**2)
    await bus.ensure(admin, made)


@pytest.fixture
def stand_in(house: House) -> QuotaStandIn:
    if house.stand_in is None:
        pytest.skip("of what only the stand-in does")
    return house.stand_in


@pytest.fixture
async def account(house: House, request: pytest.FixtureRequest) -> str:
    """An account of the test's own."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[5:50].strip("-")
    await house("accounts", "open", name)
    return name
