"""Writes down what contracts and stored events are now: `python -m tests.architecture.commit`.

Run it when something was added; the tests beside it refuse what was taken away since.
"""

import json

from tests.architecture.test_contracts_only_grow import COMMITTED, present

if __name__ == "__main__":
    COMMITTED.write_text(json.dumps(present(), indent=1, sort_keys=True) + "\n")
