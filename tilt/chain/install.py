"""Gets what the local chain is made of onto this machine: anvil, and Livepeer's compiled contracts."""

import base64
import fcntl
import hashlib
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent
HOME = SOURCE.parents[1] / ".local" / "npm"

SDK = "@livepeer/sdk@1.0.1-alpha.10"
SDK_SHA512 = "49OVRV6kGO3TCxDJTBAFbfNuB2/QstTXDKzfT/rw8sXD22hm82XTdYk3gs1cXR+Ky2kNaRLCLagQzPQjY/bp3A=="
SDK_CONTRACTS = "package/abis/contracts/"

NPM_TIMEOUT_SECONDS = 300
SYSTEMS = {"Linux": "linux", "Darwin": "darwin"}
MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class InstallError(Exception):
    """What the local chain is made of could not be installed; the message says what to do."""


@dataclass(frozen=True)
class Tools:
    anvil: Path
    contracts: Path


def install(home: Path = HOME) -> Tools:
    """Return the tools, fetching them first where they are missing or another version."""
    tools = Tools(
        anvil=home / "node_modules" / _anvil_package() / "bin" / "anvil", contracts=home / "contracts"
    )
    if _is_current(home, tools):
        return tools
    home.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(home):
        if not _is_current(home, tools):
            _stamp(home).unlink(missing_ok=True)
            _install_anvil(home, tools.anvil)
            _install_contracts(home, tools.contracts)
            _stamp(home).write_text(_wanted())
    return tools


def _install_anvil(home: Path, binary: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(SOURCE / name, home / name)
    # Not `npm ci`: the lock holds one platform, and this resolves the package of any other (npm/cli#4828).
    _npm(home, "install", "--ignore-scripts")
    if not binary.exists():
        raise InstallError(f"npm installed anvil without {binary}")


def _install_contracts(home: Path, contracts: Path) -> None:
    """Unpack the SDK's archive; installing it would also bring its old dependencies."""
    archive = home / _npm(home, "pack", SDK, "--ignore-scripts").split()[-1]
    digest = hashlib.sha512(archive.read_bytes()).digest()
    if base64.b64encode(digest).decode() != SDK_SHA512:
        raise InstallError(f"{archive} is not the {SDK} we know: its SHA-512 differs")
    shutil.rmtree(contracts, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(contracts, members=_compiled_contracts(tar), filter="data")
    archive.unlink()


def _compiled_contracts(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar.getmembers():
        wanted = member.name.startswith(SDK_CONTRACTS) and not member.name.endswith(".dbg.json")
        if wanted and member.isfile():
            yield member.replace(name=member.name.removeprefix(SDK_CONTRACTS))


def _npm(home: Path, *arguments: str) -> str:
    npm = shutil.which("npm")
    if npm is None:
        raise InstallError("npm is not on PATH; the local chain needs Node.js >= 20 with npm")
    command = [npm, *arguments, "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=home, capture_output=True, text=True, check=True, timeout=NPM_TIMEOUT_SECONDS
        )
    except subprocess.CalledProcessError as problem:
        raise InstallError(f"`npm {arguments[0]}` failed in {home}:\n{problem.stderr}") from problem
    except subprocess.TimeoutExpired as problem:
        raise InstallError(f"`npm {arguments[0]}` took over {NPM_TIMEOUT_SECONDS} s in {home}") from problem
    return done.stdout


def _anvil_package() -> str:
    system, machine = platform.system(), platform.machine()
    if system not in SYSTEMS or machine not in MACHINES:
        raise InstallError(f"there is no anvil for {system} on {machine}")
    return f"@foundry-rs/anvil-{SYSTEMS[system]}-{MACHINES[machine]}"


def _is_current(home: Path, tools: Tools) -> bool:
    stamp = _stamp(home)
    return (
        stamp.exists()
        and stamp.read_text() == _wanted()
        and tools.anvil.exists()
        and tools.contracts.exists()
    )


def _stamp(home: Path) -> Path:
    return home / ".installed"


def _wanted() -> str:
    lock = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()
    return f"{lock} {SDK}\n"


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
