"""The command `python -m tilt.orchestrator`."""

from tilt.orchestrator.app import run
from tilt.orchestrator.settings import read_settings

if __name__ == "__main__":
    run(read_settings())
