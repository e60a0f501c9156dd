"""`make fuzz`: throws bent requests at the signer in memory, and a share of them at running processes.

    make fuzz N=200000 [SEED=1] [TOTALS=fuzz.jsonl]

With TOTALS a run that was stopped goes on where it was. The last line is `violations: 0`, or there
is a list of what went wrong before it, each with the smallest request found that does it.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path
from random import Random
from typing import TextIO

import structlog

from tests.fuzz import reasons
from tests.fuzz.arena import Arena
from tests.fuzz.judge import Violation
from tests.fuzz.setting import setting_of
from tests.fuzz.shrink import smallest
from tests.fuzz.totals import Chunk, Totals

CHUNK = 1000
HTTP_CHUNK = 500
HTTP_SHARE = 100  # one of so many inputs goes through real processes
GROWTH_MAX_MIB = 32  # in the second half of a run; in the first the signer's caches fill
SHRUNK_MAX = 10  # of one run; the others are shown as they came
SHOWN_MAX = 12


def main() -> int:
    options = _options()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    totals = Totals.load(options.totals, options.seed)
    growth = run_in_memory(totals, options.inputs)
    http_chunks = -(-options.http_inputs // HTTP_CHUNK)
    if any(not totals.has("http", number) for number in range(http_chunks)):
        from tests.fuzz.http_fuzz import run_over_http  # noqa: PLC0415 (starts a whole system)

        asyncio.run(run_over_http(totals, http_chunks, HTTP_CHUNK))
    return report(totals, growth)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--http-inputs", type=int, help=f"default: one in {HTTP_SHARE} of the inputs")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--totals", type=Path, help="JSON lines, to be continued by a later run")
    options = parser.parse_args()
    if options.http_inputs is None:
        options.http_inputs = options.inputs // HTTP_SHARE
    return options


def run_in_memory(totals: Totals, inputs: int) -> float:
    """Run what is missing of so many inputs; returns by how many MiB the process grew in the second half."""
    warm = _resident_mib()
    missing = [number for number in range(-(-inputs // CHUNK)) if not totals.has("memory", number)]
    for done, number in enumerate(missing, start=1):
        totals.add(run_chunk(totals.seed, number))
        if done <= len(missing) // 2:
            warm = _resident_mib()
        if done % 10 == 0:
            say(f"{done * CHUNK} inputs, {len(totals.violations)} violations", sys.stderr)
    return _resident_mib() - warm


def run_chunk(seed: str, number: int, inputs: int = CHUNK) -> Chunk:
    """A signer of its own, in the setting whose turn it is."""
    began, began_cpu = time.perf_counter(), time.process_time()
    arena = Arena(setting_of(number), Random(f"{seed}:{number}"))  # the same everywhere
    try:
        while arena.tally.inputs < inputs:
            arena.step()
    finally:
        arena.close()
    tally = arena.tally
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    shown = [show(one, shrunk=place < SHRUNK_MAX) for place, one in enumerate(tally.violations)]
    return Chunk(
        kind="memory",
        seed=seed,
        number=number,
        inputs=tally.inputs,
        seconds=round(seconds, 3),
        cpu_seconds=round(cpu_seconds, 3),
        outcomes=dict(tally.outcomes),
        stricter=dict(tally.stricter),
        violations=shown,
    )


def show(violation: Violation, *, shrunk: bool) -> dict[str, str]:
    found = smallest(violation) if shrunk else None
    return {
        "rule": violation.rule,
        "detail": violation.detail,
        "setting": violation.setting,
        "account": violation.case.account,
        "body": _printable(violation.case.body),
        "smallest": _printable(found) if found is not None else "not alone: it needs what came before",
    }


def _printable(body: bytes) -> str:
    """Text where it is text; hex otherwise."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return f"hex {body.hex()}"


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# What was found


def report(totals: Totals, growth_mib: float) -> int:
    memory, http = totals.of("memory"), totals.of("http")
    violations = list(totals.violations)
    if growth_mib > GROWTH_MAX_MIB:
        violations.append({"rule": "memory grows", "detail": f"{growth_mib:.0f} MiB in the second half"})
    _say_memory(memory, growth_mib)
    if http.chunks:
        _say_http(http, totals.of("growth"))
    by_rule: dict[str, int] = {}
    for violation in violations:
        by_rule[violation["rule"]] = by_rule.get(violation["rule"], 0) + 1
        if by_rule[violation["rule"]] <= SHOWN_MAX:
            say(json.dumps(violation, ensure_ascii=False))
    for rule, count in by_rule.items():
        say(f"violated {count} times: {rule}")
    say(f"violations: {len(violations)}")
    return 1 if violations else 0


def _say_memory(memory: Totals, growth_mib: float) -> None:
    outcomes = memory.outcomes
    refused = reasons.count(outcomes)
    rate = memory.inputs / memory.cpu_seconds if memory.cpu_seconds else 0
    say(f"seed {memory.seed}: {memory.inputs} inputs in {memory.seconds:.0f} s")
    say(f"{rate:.0f} inputs a second of one processor")
    for name, count in outcomes.most_common():
        if not name[0].isdigit():
            say(f"{count:9} {name}")
    for name, count in sorted(refused.items(), key=lambda item: -item[1]):
        say(f"{count:9} refused: {name}")
    missed = [name for name, count in refused.items() if not count]
    say(f"reasons met: {len(reasons.REASONS) - len(missed)} of {len(reasons.REASONS)}; not met: {missed}")
    for name in reasons.unnamed(outcomes)[:SHOWN_MAX]:
        say(f"{outcomes[name]:9} others: {name}")
    say(f"refused though the predicate allows it: {memory.stricter.total()}")
    for name, count in memory.stricter.most_common(SHOWN_MAX):
        say(f"{count:9} {name}")
    say(f"resident memory grew by {growth_mib:.1f} MiB in the second half (bound: {GROWTH_MAX_MIB})")


def _say_http(http: Totals, growth: Totals) -> None:
    say(f"over HTTP: {http.inputs} requests in {http.seconds:.0f} s")
    for name, count in (*http.outcomes.most_common(), *growth.outcomes.items()):
        say(f"{count:9} {name}")


def say(line: str, stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write(line + "\n")
    (stream or sys.stdout).flush()


if __name__ == "__main__":
    sys.exit(main())
