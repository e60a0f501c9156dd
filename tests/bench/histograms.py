"""Histograms of a process's `/metrics`: what came into them between two readings."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

TIMEOUT_SECONDS = 5


@dataclass(frozen=True)
class Histogram:
    """`buckets`: how many observations are at most so much, by the bound."""

    sum: float
    count: float
    buckets: Mapping[float, float]

    def __sub__(self, earlier: "Histogram") -> "Histogram":
        before = earlier.buckets
        buckets = {bound: count - before.get(bound, 0.0) for bound, count in self.buckets.items()}
        return Histogram(self.sum - earlier.sum, self.count - earlier.count, buckets)

    def quantile(self, share: float) -> float:
        """Interpolated within its bucket; the last finite bound for what lies beyond it."""
        rank, lower, below = share * self.count, 0.0, 0.0
        for bound, count in sorted(self.buckets.items()):
            if count >= rank and count > below:
                return lower if bound == inf else lower + (bound - lower) * (rank - below) / (count - below)
            lower, below = bound, count
        return lower


def read_histogram(health_url: str, name: str, what: str) -> Histogram:
    """The histogram `name` with the label `what`; empty if nothing was observed yet."""
    with urllib.request.urlopen(f"{health_url}/metrics", timeout=TIMEOUT_SECONDS) as answer:
        text: str = answer.read().decode()
    label = f'what="{what}"'
    sum_, count, buckets = 0.0, 0.0, {}
    for line in text.splitlines():
        if not line.startswith(name) or label not in line:
            continue
        head, value = line.rsplit(" ", 1)
        kind = head[len(name) :].partition("{")[0]
        if kind == "_sum":
            sum_ = float(value)
        elif kind == "_count":
            count = float(value)
        elif kind == "_bucket":
            buckets[float(head.partition('le="')[2].partition('"')[0])] = float(value)
    return Histogram(sum_, count, buckets)
