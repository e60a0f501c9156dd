"""The embedded servers: PostgreSQL keeps what was committed, NATS holds users to their subjects."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import nats as client
import psycopg
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from tests import infra
from tests.beside import until
from tests.integration.processes import pid_of
from tilt.child import Process
from tilt.servers import nats, postgres
from tilt.slot import Slot
from tilt.supervisor import Supervisor

pytestmark = pytest.mark.anyio

PASSWORD = "a pass'word"
SIGNER = nats.User(
    "signer", "signer-password", publish=("evt.signer.>",), subscribe=("cmd.signer.>", "_INBOX.>")
)
MUTE = nats.User("mute", "mute-password", subscribe=("cmd.mute.>",))
ASKER = nats.User("asker", "asker-password", publish=("cmd.>",), subscribe=("_INBOX.>",))
NATS_USERS = (SIGNER, MUTE, ASKER)

type Run = Callable[[], AbstractContextManager[int]]


@pytest.fixture
def slot_port(slot: Slot) -> int:
    return slot.port("servers under test")


@pytest.fixture(scope="module")
def data_dir(slot: Slot) -> Path:
    path = slot.directory / "under-test" / "data"
    postgres.prepare(path, password=PASSWORD)
    return path


class TestPostgres:
    @pytest.fixture
    def dsn(self, slot_port: int) -> str:
        address = postgres.Address("127.0.0.1", slot_port)
        return address.dsn(role="postgres", password=PASSWORD)

    @pytest.fixture
    def run(self, data_dir: Path, dsn: str, slot_port: int) -> Run:
        @contextmanager
        def run() -> Iterator[int]:
            argv = postgres.argv(data_dir, slot_port)
            log_path = data_dir.with_name("postgres.log")
            with infra.running(argv, log_path, user=postgres.system_user()) as pid:
                postgres.wait_until_ready(dsn)
                yield pid

        return run

    def test_it_is_version_18_and_speaks_utf8(self, run: Run, dsn: str) -> None:
        with run(), psycopg.connect(dsn) as connection:
            version = connection.info.server_version
            row = connection.execute("SELECT 'Ünï ☂', upper('ü'), current_setting('server_encoding')")

            assert version // 10_000 == 18
            assert row.fetchone() == ("Ünï ☂", "Ü", "UTF8")

    def test_durability_is_real(self, run: Run, dsn: str) -> None:
        with run(), psycopg.connect(dsn) as connection:
            names = ("fsync", "synchronous_commit", "max_connections", "shared_buffers")
            settings = [connection.execute(f"SHOW {name}").fetchone() for name in names]

            assert settings == [("on",), ("on",), ("200",), ("256MB",)]

    def test_data_survives_a_restart_and_a_second_preparation(
        self, run: Run, dsn: str, data_dir: Path
    ) -> None:
        with run(), psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        postgres.prepare(data_dir, password="another")

        with run(), psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)

    def test_what_was_committed_survives_a_kill(self, run: Run, dsn: str) -> None:
        with run() as pid:
            with psycopg.connect(dsn) as connection:
                connection.execute("CREATE TABLE committed AS SELECT 42 AS answer")
            os.kill(pid, signal.SIGKILL)

        with run(), psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT answer FROM committed").fetchone() == (42,)

    async def test_a_supervised_server_recovers_though_its_backends_were_busy(
        self, dsn: str, data_dir: Path, slot_port: int, tmp_path: Path
    ) -> None:
        server = Process(
            "postgres",
            postgres.argv(data_dir, slot_port),
            postgres.ENVIRONMENT,
            lambda: postgres.is_ready(dsn),
            user=postgres.system_user(),
            stop_signal=postgres.STOP_SIGNAL,
        )
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start([server])
            busy = asyncio.create_task(asyncio.to_thread(_compute, dsn))
            await until(lambda: _backends(dsn, "compute") == 1)

            os.kill(pid_of(supervisor, "postgres"), signal.SIGKILL)

            with pytest.raises(psycopg.OperationalError):
                await busy
            await until(lambda: postgres.answers(dsn))
            assert supervisor.restarts("postgres") == 1

    def test_wrong_and_missing_passwords_are_refused(self, run: Run, dsn: str, slot_port: int) -> None:
        address = postgres.Address("127.0.0.1", slot_port)
        with run():
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("CREATE ROLE passwordless LOGIN")

            for role, password in (("postgres", "wrong"), ("postgres", ""), ("passwordless", "")):
                with pytest.raises(psycopg.OperationalError):
                    psycopg.connect(address.dsn(role=role, password=password))
                assert not postgres.answers(address.dsn(role=role, password=password))


class TestDatabases:
    def test_a_role_owns_its_schema_and_sees_no_other(self, database: Callable[..., infra.Database]) -> None:
        made = database("signer", "quota")
        with psycopg.connect(made.dsn("signer")) as connection:
            connection.execute("CREATE TABLE events (id int)")

        refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
        with psycopg.connect(made.dsn("quota")) as connection, refused:
            connection.execute("SELECT * FROM signer.events")

    def test_a_role_may_not_enter_another_database(self, database: Callable[..., infra.Database]) -> None:
        database("signer")
        other = database("quota")
        signer_there = other.address.dsn(
            role="signer", password=f"signer-{other.passwords['postgres']}", database=other.name
        )

        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(signer_there)


class TestNatsUsers:
    async def test_a_user_may_not_publish_outside_its_subjects(self, nats: infra.Nats) -> None:
        refusals, connection = await _listen(nats, "signer")

        await connection.publish("evt.signer.payment_signed.v1", b"ours")
        await connection.publish("evt.quota.allowance_granted.v1", b"not ours")
        await connection.flush()

        assert await _soon(refusals) == (
            'nats: permissions violation for publish to "evt.quota.allowance_granted.v1"'
        )
        assert refusals.empty()
        await connection.close()

    async def test_a_user_may_not_listen_outside_its_subjects(self, nats: infra.Nats) -> None:
        refusals, connection = await _listen(nats, "signer")

        await connection.subscribe("cmd.quota.>")

        assert 'subscription to "cmd.quota.>"' in await _soon(refusals)
        await connection.close()

    async def test_a_user_without_publish_subjects_only_answers(self, nats: infra.Nats) -> None:
        refusals, mute = await _listen(nats, "mute")
        await mute.subscribe("cmd.mute.>", cb=_answer)
        await mute.publish("evt.mute.something.v1", b"")
        await mute.flush()
        asker = await client.connect(nats.url("asker"))

        answer = await asker.request("cmd.mute.do.v1", b"", timeout=2)

        assert answer.data == b"answer"
        assert "evt.mute.something.v1" in await _soon(refusals)
        await asker.close()
        await mute.close()

    async def test_a_wrong_password_is_refused(self, nats: infra.Nats) -> None:
        url = nats.url("signer").replace("signer-password", "wrong")

        connection = Client()
        with pytest.raises(NatsError, match=r"(?i)authorization"):
            await connection.connect(url, allow_reconnect=False)
        await connection.close()

    async def test_it_is_2_15_and_takes_4_megabytes(self, nats: infra.Nats) -> None:
        connection = await client.connect(nats.url())

        assert connection.connected_server_version.major == 2
        assert connection.connected_server_version.minor == 15
        assert connection.max_payload == 4 * 1024 * 1024
        await connection.close()


class TestNatsStore:
    ADMIN = nats.admin("admin-password")

    @pytest.fixture
    def run(self, directory: Path, slot_port: int) -> Run:
        @contextmanager
        def run() -> Iterator[int]:
            config_path = directory / "nats.conf"
            nats.Config(directory / "store", slot_port, [self.ADMIN]).write(config_path)
            with infra.running(nats.argv(config_path), directory / "nats.log") as pid:
                nats.wait_until_ready(slot_port)
                yield pid

        return run

    async def test_a_stream_survives_a_restart(self, run: Run, slot_port: int) -> None:
        with run():
            connection = await self._connect(slot_port)
            await connection.jetstream().add_stream(name="SIGNER_EVENTS", subjects=["evt.>"])
            await connection.jetstream().publish("evt.signer", b"kept")
            await connection.close()

        with run():
            connection = await self._connect(slot_port)
            message = await connection.jetstream().get_msg("SIGNER_EVENTS", 1)
            await connection.close()

        assert message.data == b"kept"

    async def test_a_deleted_store_comes_back_empty(self, run: Run, slot_port: int, directory: Path) -> None:
        with run():
            connection = await self._connect(slot_port)
            await connection.jetstream().add_stream(name="SIGNER_EVENTS", subjects=["evt.>"])
            await connection.close()
        shutil.rmtree(directory / "store")

        with run():
            connection = await self._connect(slot_port)
            with pytest.raises(NotFoundError):
                await connection.jetstream().stream_info("SIGNER_EVENTS")
            assert await connection.jetstream().streams_info() == []
            await connection.close()

    def test_its_config_with_the_passwords_is_private(self, run: Run, directory: Path) -> None:
        with run():
            assert (directory / "nats.conf").stat().st_mode & 0o777 == 0o600

    async def _connect(self, port: int) -> Client:
        return await client.connect(f"nats://127.0.0.1:{port}", user="admin", password=self.ADMIN.password)


def _compute(dsn: str) -> None:
    """Keep a backend too busy to notice anything."""
    with psycopg.connect(dsn, application_name="compute") as connection:
        connection.execute("SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 30000) b")


def _backends(dsn: str, name: str) -> int:
    with psycopg.connect(dsn) as connection:
        query = "SELECT FROM pg_stat_activity WHERE application_name = %s AND state = 'active'"
        return connection.execute(query, (name,)).rowcount


async def _listen(nats: infra.Nats, user: str) -> tuple[asyncio.Queue[str], Client]:
    """Connect, and collect what the server refuses."""
    refusals: asyncio.Queue[str] = asyncio.Queue()

    async def note(error: Exception) -> None:
        refusals.put_nowait(str(error))

    return refusals, await client.connect(nats.url(user), error_cb=note)


async def _answer(question: Msg) -> None:
    await question.respond(b"answer")


async def _soon(refusals: asyncio.Queue[str]) -> str:
    return await asyncio.wait_for(refusals.get(), 2)
