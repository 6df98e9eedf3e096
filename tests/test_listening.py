"""How many connections there is room for: the limit on open files, in a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from bonfire.listening import room_for_connections
print(room_for_connections(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room", "then"),
    [
        (1024, 4096, 100, 100, 1024),
        (1024, 4096, 1000, 1000, 2200),
        (1024, 4096, 20_000, 1948, 4096),
        (256, 256, 20_000, 28, 256),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may(soft: int, hard: int, wanted: int, room: int, then: int) -> None:
    arguments = [sys.executable, "-c", PROGRAM, *map(str, (soft, hard, wanted))]
    told = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [str(room), str(then)]
