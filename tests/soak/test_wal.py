"""Where a record of the WAL ends: the same place as Postgres itself says."""

import pytest

from soak.wal import record_end

SEGMENT = 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("start", "length", "end"),
    [
        # Within a page, aligned to 8.
        (0x1000, 34, 0x1000 + 40),
        # To the very end of a page: the next header belongs to the next record.
        (8192 - 40, 40, 8192),
        (8192 - 40, 34, 8192),
        # Over a page's edge: a short header lies in between.
        (8192 - 24, 34, 8192 + 24 + 16),
        # Over a segment's edge: a long one.
        (SEGMENT - 24, 34, SEGMENT + 40 + 16),
        # Over a whole page.
        (8192 - 24, 24 + (8192 - 24) + 8, 2 * 8192 + 24 + 8),
    ],
)
def test_record_end(start: int, length: int, end: int) -> None:
    assert record_end(start, length) == end
