"""The users of the NATS server, from contracts/streams.py: `python -m services.provisioner.nats_config`.

Prints the `authorization` block of a nats-server configuration as JSON, which the server reads;
passwords come from the environment, NATS_PASSWORD_<USER>: of `admin`, of each service and of `cli`, as whom
the `clearinghouse` command comes.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from contracts.streams import SERVICES, permissions_of

RESPONSES_MAX = 4  # answers to one request: payments may be answered in parts


def authorization(passwords: Mapping[str, str], admin_password: str) -> dict[str, Any]:
    """`admin` is the provisioner's user; every other one has its own subjects and no more."""
    users = [_user(service, passwords[service]) for service in SERVICES]
    everything = {"publish": {"allow": [">"]}, "subscribe": {"allow": [">"]}}
    return {"users": [{"user": "admin", "password": admin_password, "permissions": everything}, *users]}


def _user(service: str, password: str) -> dict[str, Any]:
    may = permissions_of(service)
    permissions: dict[str, Any] = {
        "publish": {"allow": list(may.publish)},
        "subscribe": {"allow": list(may.subscribe)},
    }
    if may.responds:
        permissions["allow_responses"] = {"max": RESPONSES_MAX, "expires": "1m"}
    return {"user": service, "password": password, "permissions": permissions}


def main() -> None:
    names = {user: f"NATS_PASSWORD_{user.upper()}" for user in ("admin", *SERVICES)}
    if missing := [name for name in names.values() if not os.environ.get(name)]:
        sys.exit(f"a password is needed for each user; not set: {', '.join(missing)}")
    passwords = {user: os.environ[name] for user, name in names.items()}
    block = authorization(passwords, passwords["admin"])
    print(json.dumps({"authorization": block}, indent=1))  # noqa: T201 (a command's output)


if __name__ == "__main__":
    main()
