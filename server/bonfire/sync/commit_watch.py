"""What becomes of commits on this node, for metrics and traces: how soon their frames are out, and how soon the queries
that must be run again have their results."""

import time
from collections import OrderedDict
from collections.abc import Callable

from bonfire.engine.commit import Commit
from bonfire.engine.reads import Read
from bonfire.sync.fanout import Flusher
from bonfire.telemetry.metrics import Histogram
from bonfire.telemetry.tracing import Sending, Tracing

REMEMBERED = 4096
"""How many commits' times are kept for the reads that come of them."""


class CommitWatch:
    """Called once a commit and once a read, never for each delivery. `now`: seconds since 1970, as the database counts
    them."""

    def __init__(self, flusher: Flusher, tracing: Tracing | None, now: Callable[[], float] = time.time) -> None:
        self.tracing = tracing
        self.commit_to_reread = Histogram()
        """From a commit, by the database's clock, to the result of a query that had to be run again because of it."""
        self._flusher = flusher
        self._now = now
        self._frames = 0
        self._size = 0
        self._trace: Sending | None = None
        self._committed_at: OrderedDict[int, float] = OrderedDict()

    def begin(self, commit: Commit) -> None:
        """This commit is about to be taken in. `end` comes next."""
        sent = self._flusher.sent
        self._frames, self._size = sent.frames, sent.bytes
        if self.tracing is not None:
            self._trace = _fan_out(self.tracing, commit)

    def end(self, commit: Commit) -> None:
        """All that it leads to at once has been queued."""
        sent, trace = self._flusher.sent, self._trace
        if trace is not None:
            trace.queued(sent.frames - self._frames, sent.bytes - self._size)
        if sent.bytes != self._size:
            self._flusher.note_commit(commit.at, trace)
        elif trace is not None:
            trace.end()
        self._committed_at[commit.position] = commit.at
        if len(self._committed_at) > REMEMBERED:
            self._committed_at.popitem(last=False)

    def landed(self, read: Read) -> None:
        """The results of this read are there."""
        for one in read.wanted:
            committed_at = None if one.since is None else self._committed_at.get(one.since)
            if committed_at is not None:
                self.commit_to_reread.observe(self._now() - committed_at)


def trace_of_read(tracing: Tracing, read: Read) -> Sending | None:
    """The trace of a read that mutations have led to; None of another one."""
    commits = [one.since for one in read.wanted if one.since is not None]
    return tracing.read(commits, [one.identity.name for one in read.wanted])


def _fan_out(tracing: Tracing, commit: Commit) -> Sending | None:
    for message in commit.messages:
        if message.mutation is not None and message.tenant is not None:
            return tracing.fan_out(message.tenant, message.mutation, position=commit.position, xid=commit.xid)
    return None
