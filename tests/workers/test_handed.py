"""What a supervisor hands over, in words."""

import pytest

from bonfire.workers.handed import Handed


def test_what_is_handed_over_is_read_as_it_was_written() -> None:
    assert Handed.parse(str(Handed(3, 4, 5))) == Handed(3, 4, 5)
    with pytest.raises(ValueError, match="int"):
        Handed.parse("3,x,5")
