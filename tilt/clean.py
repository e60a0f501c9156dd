"""Removes what earlier runs left in `.local`, except what a running one still uses."""

import sys
from pathlib import Path

from tilt.slot import remove_free_slots


def main() -> None:
    for directory in remove_free_slots(Path(".local")):
        sys.stdout.write(f"removed {directory}\n")


if __name__ == "__main__":
    main()
