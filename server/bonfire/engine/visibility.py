"""What one Postgres snapshot sees: the bridge between a read and the change stream.

A commit can reach the stream before it is visible to a read, and the other way round. Comparing the commit's
transaction id with the read's `pg_current_snapshot()` decides each case exactly, without a lock.
"""

from msgspec import Struct


class Visibility(Struct, frozen=True):
    """A snapshot: every xid below `xmin` is seen, none from `xmax` on, and of those between all but `running`.

    Xids are full 64-bit ones. Only committed transactions are ever asked about: an aborted one emits nothing.
    """

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Visibility":
        """From Postgres' spelling, `xmin:xmax:running,running`."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(int(xid) for xid in running.split(",") if xid))

    def sees(self, xid: int) -> bool:
        return xid < self.xmin or (xid < self.xmax and xid not in self.running)

    def includes(self, xid: int, position: int) -> bool:
        """Whether a snapshot with this visibility sees that commit."""
        return self.sees(xid)


class Cut(Struct, frozen=True):
    """A snapshot of a standby, which replays commits one after the other: every commit up to `position` is seen, and
    none behind it. (A standby does not tell by xids: see `changes/looks.py`.)"""

    position: int

    def includes(self, xid: int, position: int) -> bool:
        return position <= self.position


Sight = Visibility | Cut
"""What one snapshot sees, of a primary or of a standby."""
