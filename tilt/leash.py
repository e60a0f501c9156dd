"""Starts a program that dies with its parent, as another user if asked.

Run as a script it loads nothing but the standard library, prepares itself and becomes the program:
the process id the parent sees is the program's own. Linux only; elsewhere `guard` must suffice.
"""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def command(argv: Sequence[str], *, user: str | None = None) -> list[str]:
    """What to execute so that `argv` runs as `user` (by default as we) and not longer than we."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), user or "", *argv]


def main(parent: str, user: str, *argv: str) -> None:
    if user:
        _become(user)
    # After _become: the kernel forgets the death signal when the user changes.
    _die_with(int(parent))
    # Python ignores these, and what is ignored stays so in the program.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    os.execv(argv[0], argv)  # noqa: S606 - the very purpose; argv comes from our own code


def _become(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _die_with(parent: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent was gone before the start")


if __name__ == "__main__":
    main(*sys.argv[1:])
