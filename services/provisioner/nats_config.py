"""The users of the NATS server, from contracts/streams.py: `python -m services.provisioner.nats_config`.

Prints the `authorization` block of a nats-server configuration as JSON, which the server reads;
passwords come from the environment, NATS_PASSWORD_<USER>: of `admin`, of each service, of `cli`, as whom
the `clearinghouse` command comes, and of `reader_<name>` for each name in PROVISIONER_READERS.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from contracts.streams import SERVICES, Permissions, permissions_of, reader_permissions, reader_user
from services.provisioner.settings import read_names

READERS = "PROVISIONER_READERS"
RESPONSES_MAX = 4  # answers to one request: payments may be answered in parts


def authorization(
    passwords: Mapping[str, str], admin_password: str, readers: Sequence[str] = ()
) -> dict[str, Any]:
    """`admin` is the provisioner's user; every other one has its own subjects and no more."""
    users = [_user(service, passwords[service], permissions_of(service)) for service in SERVICES]
    for name in readers:
        user = reader_user(name)
        users.append(_user(user, passwords[user], reader_permissions(name)))
    everything = {"publish": {"allow": [">"]}, "subscribe": {"allow": [">"]}}
    return {"users": [{"user": "admin", "password": admin_password, "permissions": everything}, *users]}


def _user(user: str, password: str, may: Permissions) -> dict[str, Any]:
    permissions: dict[str, Any] = {
        "publish": {"allow": list(may.publish)},
        "subscribe": {"allow": list(may.subscribe)},
    }
    if may.responds:
        permissions["allow_responses"] = {"max": RESPONSES_MAX, "expires": "1m"}
    return {"user": user, "password": password, "permissions": permissions}


def main() -> None:
    try:
        readers = read_names(os.environ.get(READERS, ""))
    except ValueError as problem:
        sys.exit(f"{READERS} {problem}")
    users = ("admin", *SERVICES, *map(reader_user, readers))
    names = {user: f"NATS_PASSWORD_{user.upper().replace('-', '_')}" for user in users}
    if missing := [name for name in names.values() if not os.environ.get(name)]:
        sys.exit(f"a password is needed for each user; not set: {', '.join(missing)}")
    passwords = {user: os.environ[name] for user, name in names.items()}
    block = authorization(passwords, passwords["admin"], readers)
    print(json.dumps({"authorization": block}, indent=1))  # noqa: T201 (a command's output)


if __name__ == "__main__":
    main()
