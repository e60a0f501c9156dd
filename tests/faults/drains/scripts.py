"""All drains by name, in the order they are run: the one that empties the pool comes last."""

from collections.abc import Awaitable, Callable

from tests.acceptance.system import System
from tests.faults.drains import (
    clock_steps,
    exhaustion,
    expiry_and_rounds,
    extreme_odds,
    extreme_prices,
    floods,
    forked_states,
    fresh_sessions,
    mixed_job_types,
    open_and_leave,
    pool_cover,
    shared_params,
    signature_oracle,
    spelled_tickets,
    unlisted_recipients,
)
from tests.faults.drains.bound import Drain

MODULES = (
    fresh_sessions,
    extreme_prices,
    extreme_odds,
    floods,
    forked_states,
    shared_params,
    expiry_and_rounds,
    unlisted_recipients,
    clock_steps,
    open_and_leave,
    mixed_job_types,
    signature_oracle,
    spelled_tickets,
    exhaustion,
    pool_cover,
)

type Script = Callable[[System], Awaitable[Drain]]

SCRIPTS: dict[str, Script] = {module.__name__.rpartition(".")[2]: module.run for module in MODULES}
