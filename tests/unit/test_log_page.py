"""An answer with entries of a log is a message that NATS takes."""

import pytest

from shared.log import PAGE_BYTES, fitting


@pytest.mark.parametrize(
    ("sizes", "fit"),
    [
        ([], 0),
        ([10, 10], 2),
        ([PAGE_BYTES * 2, 10], 1),
        ([PAGE_BYTES // 2] * 4, 1),
        ([PAGE_BYTES // 3] * 4, 2),
    ],
)
def test_a_page_ends_before_it_is_too_large_and_has_one_entry_at_least(sizes: list[int], fit: int) -> None:
    entries = [{"event": "x" * size} for size in sizes]

    assert len(fitting(entries)) == fit
