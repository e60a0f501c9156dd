"""Runs a program that leaves nothing behind: not when it dies, and not when we die.

    process = Popen(leash.command(argv), stdin=PIPE, stdout=PIPE, stderr=log, start_new_session=True)

The leash is a process between us and the program. It prints the program's process id on stdout; the
program writes to stderr only. When the program ends, or our end of stdin is closed because we
ended, the leash kills all the program has started, also what has moved to a session of its own
(a busy backend of PostgreSQL outlives a killed postmaster, and then forbids the next start). Signals
for the leash go to the program. Run as a script it loads nothing but the standard library.
"""

import ctypes
import os
import pwd
import selectors
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
SIGNALLED = 128  # added to the number of the signal that ended a program, as shells do


def command(argv: Sequence[str], *, user: str | None = None) -> list[str]:
    """Return what to execute so that `argv` runs on a leash, as `user` or else as we."""
    return [sys.executable, "-I", "-S", __file__, user or "", *argv]


def signal_group(group: int, signum: int) -> None:
    """Signal all of a group; that it is gone already is fine."""
    with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for what is dead
        os.killpg(group, signum)


def main(user: str, *argv: str) -> None:
    wakeups = _collect_signals()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans become ours, wherever they have moved
    leash = os.getpid()
    program = os.fork()
    if program == 0:
        _become_program(leash, user, argv)
    print(program, flush=True)
    status = _watch(program, wakeups)
    _kill_the_rest(program)
    sys.exit(status if status >= 0 else SIGNALLED - status)


def _collect_signals() -> int:
    """Have each signal written to a pipe, to be waited for beside stdin."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for signum in (signal.SIGCHLD, *FORWARDED):
        signal.signal(signum, lambda *_: None)
    return reader


def _become_program(leash: int, user: str, argv: Sequence[str]) -> None:
    os.setsid()
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; the program would, too
        signal.signal(signum, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    # Last, as the kernel forgets it when the user changes.
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != leash:
        sys.exit("the leash was gone before the start")
    os.execv(argv[0], list(argv))  # noqa: S606 - the very purpose; argv comes from our own code


def _watch(program: int, wakeups: int) -> int:
    """Forward signals until the program has ended; return how."""
    with selectors.DefaultSelector() as selector:
        selector.register(wakeups, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            if any(key.fileobj is sys.stdin for key, _ in selector.select()):
                selector.unregister(sys.stdin)  # nobody writes: it is the end of our parent
                signal_group(program, signal.SIGKILL)
                continue
            for signum in os.read(wakeups, 512):
                if signum != signal.SIGCHLD:
                    signal_group(program, signum)
            for pid, status in _reap():
                if pid == program:
                    return status


def _reap() -> Iterator[tuple[int, int]]:
    """Collect all that have ended: the program, or orphans of it."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended[0], os.waitstatus_to_exitcode(ended[1])


def _kill_the_rest(program: int) -> None:
    signal_group(program, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            for pid in _children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.wait()  # and look again: its own children are now ours


def _children() -> Iterator[int]:
    me = os.getpid()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # pid (name, which may hold anything) state parent …
            if int(path.read_text(errors="replace").rpartition(")")[2].split()[1]) == me:
                yield int(path.parent.name)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
