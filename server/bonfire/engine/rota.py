"""Heartbeats in shares: who is to be told now that what they hold is fresh.

Invariant: a session is told at least once in two periods while it is free, by itself or along with a transition. Only a
share of the sessions is looked at in each beat, so that a commit never waits for all of them to be told.
"""

from bonfire.engine.session import Session

SHARES = 20
"""Beats in a period, and shares of the sessions."""


class Rota:
    """`now` is the number of the present beat."""

    def __init__(self) -> None:
        self.now = 0
        self._joined = 0
        self._shares: list[dict[Session, None]] = [{} for _ in range(SHARES)]

    def join(self, session: Session) -> None:
        """It has a place from now on: each share gets one in turn."""
        self._joined += 1
        session.share = self._joined % SHARES
        self._shares[session.share][session] = None

    def leave(self, session: Session) -> None:
        self._shares[session.share].pop(session, None)

    def due(self) -> list[Session]:
        """Those of the present beat's share who may be told, and were not with a transition: they count as told."""
        told_before = self.now - SHARES
        due = [
            session for session in self._shares[self.now % SHARES] if session.free and session.vouched_at <= told_before
        ]
        for session in due:
            session.vouched_at = self.now
        return due
