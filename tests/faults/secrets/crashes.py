"""Processes that cannot start or go on, on purpose, each with secrets at hand when it happens."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from eth_keyfile.keyfile import create_keyfile_json

from tests.faults.secrets.canaries import Canaries
from tilt.world import World

SECONDS = 90.0
NOWHERE = "127.0.0.1:9"
LOCAL = {"PUBLIC_HOST": "127.0.0.1", "PUBLIC_PORT": "0", "PUBLIC_URL": "http://127.0.0.1"}


@dataclass(frozen=True)
class Crash:
    """A process with settings that it must refuse or that lead nowhere."""

    name: str
    module: str
    settings: Mapping[str, str]
    says: str  # so that it is known to have come so far

    async def run(self) -> bytes:
        """What it printed, until it said what was expected of it, or ended."""
        prefix = self.module.split(".")[0].upper()
        environment = {f"{prefix}_{key}": value for key, value in self.settings.items()}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"services.{self.module}"),
            env={"PATH": os.environ["PATH"], **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed = b""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(SECONDS):
                    while self.says.encode() not in printed and (part := await _read(process)):
                        printed += part
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            rest, _ = await process.communicate()
        return printed + rest


async def _read(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.read(65_536)


def crashes(world: World, directory: Path, canaries: Canaries) -> list[Crash]:
    """All of them; the bus of the world is there, whatever else is not."""
    plant = canaries.plant
    common = {"NATS_URL": world.nats_url("signer"), "HTTP_PORT": "0", "LOG_LEVEL": "debug", "RELAY": "false"}
    away = {**common, "NATS_URL": f"nats://signer:{plant('password for NATS')}@{NOWHERE}"}
    dsn = f"postgresql://signer:{plant('password for PostgreSQL')}@{NOWHERE}/clearinghouse"
    edge = {**common, **LOCAL, "NATS_URL": world.nats_url("edge")}
    pepper = plant("pepper") + "x" * 32
    signer = {**common, "POSTGRES_DSN": dsn, "STATE_KEYS": "ab" * 32, "CREATE_TABLES": "true"}
    rpc = {"RPC_URL": f"http://{NOWHERE}/{plant('path of the RPC')}", "CONTROLLER_ADDRESS": "0x" + "11" * 20}
    admin = f"postgresql://postgres:{plant('password of the administrator')}@{NOWHERE}/clearinghouse"
    roles = json.dumps({"signer": plant("password of a role")})
    bus = {"NATS_URL": world.nats_url("admin"), "HTTP_PORT": "0"}
    return [
        Crash("pepper too short", "edge.app", {**edge, "KEY_PEPPER": plant("pepper that is short")},
              "key_pepper"),
        Crash("URL with a path", "edge.app", {**edge, "KEY_PEPPER": pepper,
              "PUBLIC_URL": f"http://ann:{plant('password in the public URL')}@x/y"}, "public_url"),
        Crash("key in place of its hash", "edge.app", {**edge, "KEY_PEPPER": pepper,
              "ADMIN_KEY_HASHES": plant("key of an administrator")}, "admin_key_hashes"),
        Crash("hook secret in place of its hash", "edge.app", {**edge, "KEY_PEPPER": pepper,
              "HOOK_SECRET_HASHES": plant("secret of hooks")}, "hook_secret_hashes"),
        Crash("session token key that is none", "edge.app", {**edge, "KEY_PEPPER": pepper,
              "TOKEN_KEYS": plant("key of session tokens")}, "token_keys"),
        Crash("no port", "edge.app", {**_but(edge, "PUBLIC_PORT"), "KEY_PEPPER": pepper}, "public_port"),
        Crash("NATS away", "edge.app", {**edge, **away, "KEY_PEPPER": pepper}, "nats_problem"),
        Crash("NATS password wrong", "edge.app", {**edge, "KEY_PEPPER": pepper,
              "NATS_URL": _wrong(world.nats_url("edge"), plant("wrong password for NATS"))}, "nats_problem"),
        Crash("NATS password with a slash", "edge.app", {**edge, "KEY_PEPPER": pepper, "NATS_URL":
              f"nats://edge:{plant('NATS password with a slash')}/x#y@{NOWHERE}"}, "nats_url"),
        Crash("PostgreSQL away", "signer.relay", {**signer}, "Error"),
        Crash("PostgreSQL password wrong", "signer.relay", {**signer,
              "POSTGRES_DSN": _wrong_dsn(world, plant("wrong password for PostgreSQL"))}, "Error"),
        Crash("PostgreSQL password with a slash", "signer.relay", {**signer, "POSTGRES_DSN":
              f"postgresql://signer:{plant('PostgreSQL password with a slash')}/x@localhost/db"},
              "postgres_dsn"),
        Crash("DSN that is none", "accounts.app", {**common,
              "POSTGRES_DSN": f"accounts:{plant('password in no DSN')}@localhost"}, "postgres_dsn"),
        Crash("state keys not in hex", "signer.app", {**signer, **_keystore(directory, canaries),
              "STATE_KEYS": plant("state key not in hex")}, "fromhex"),
        Crash("keystore password wrong", "signer.app", {**signer, **_keystore(directory, canaries)}, "MAC"),
        Crash("key in place of the keystore", "signer.app", {**signer, **_no_keystore(directory, canaries)},
              "Error"),
        Crash("key not in hex", "signer.app", {**signer, "DEVELOPMENT_KEY_PATH":
              _private(directory / "no-hex", plant("development key not in hex"))}, "not a private key"),
        Crash("no payer", "deposit_watcher.app", {**common, **rpc, "POSTGRES_DSN": dsn}, "payers"),
        Crash("passwords that are no JSON", "provisioner.app", {**bus, "ADMIN_DSN": admin,
              "ROLE_PASSWORDS": roles[:-1]}, "Error"),
        Crash("administrator's PostgreSQL away", "provisioner.app", {**bus, "ADMIN_DSN": admin,
              "ROLE_PASSWORDS": roles}, "refused"),
    ]  # fmt: skip


def _but(settings: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in settings.items() if key != name}


def _wrong(url: str, password: str) -> str:
    scheme, _, rest = url.partition("://")
    credentials, _, address = rest.rpartition("@")
    return f"{scheme}://{credentials.partition(':')[0]}:{password}@{address}"


def _wrong_dsn(world: World, password: str) -> str:
    return f"postgresql://signer:{password}@127.0.0.1:{world.slot.port('postgres')}/clearinghouse"


def _keystore(directory: Path, canaries: Canaries) -> dict[str, str]:
    """A real keystore, and a password that is not its own."""
    private = os.urandom(32)
    canaries.secret["private key in a keystore"] = private.hex()
    made = create_keyfile_json(private, b"the right one", kdf="pbkdf2", iterations=2)
    keystore = _private(directory / "keystore.json", json.dumps(made))
    password = _private(directory / "password", canaries.plant("wrong password of a keystore"))
    return {"KEYSTORE_PATH": keystore, "KEYSTORE_PASSWORD_PATH": password}


def _no_keystore(directory: Path, canaries: Canaries) -> dict[str, str]:
    private = os.urandom(32).hex()
    canaries.secret["private key in place of a keystore"] = private
    path = _private(directory / "plain", private)
    return {"KEYSTORE_PATH": path, "KEYSTORE_PASSWORD_PATH": path}


def _private(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)
