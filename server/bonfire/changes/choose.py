"""Which change source: the WAL where it can be read, LISTEN where not, or what a setting forces."""

import logging
from typing import Literal, assert_never

from bonfire.changes.listen import ListenSource
from bonfire.changes.replication import ReplicationSource
from bonfire.changes.source import ChangeSource, SourceUnavailable
from bonfire.changes.timing import Timing

_log = logging.getLogger(__name__)

SourceSetting = Literal["auto", "wal", "listen"]


async def choose_source(setting: SourceSetting, *, url: str, timing: Timing) -> ChangeSource:
    """A source for the database at `url`, not started yet. The log says which one, and why.

    `auto` tries whether the WAL can be read, and takes LISTEN where only other settings of the database would help.
    What passes by itself (a database that is away or full) raises SourceUnavailable: who came up a moment too early
    should not cost the writers for good. A forced source is not tried here; `start` fails where it can't be had.
    """
    match setting:
        case "wal":
            _log.info("changes come from the WAL, as the setting says")
            return ReplicationSource(url, timing)
        case "listen":
            _log.info("changes come by LISTEN, as the setting says")
            return ListenSource(url, timing)
        case "auto":
            source = ReplicationSource(url, timing)
            try:
                await source.probe()
            except SourceUnavailable as error:
                if error.retry:
                    raise
                _log.warning("changes come by LISTEN, which costs the writers more, because: %s", error)
                return ListenSource(url, timing)
            _log.info("changes come from the WAL")
            return source
        case _:
            assert_never(setting)


def follow_replica(setting: SourceSetting, *, read_url: str, url: str, timing: Timing) -> ReplicationSource:
    """A source that reads the WAL of the replica at `read_url`, whose primary is at `url`; not started yet.

    SourceUnavailable when the setting forces another kind: a replica can't be listened to.
    """
    if setting == "listen":
        raise SourceUnavailable(
            "BONFIRE_READ_URL: a replica's changes come from its WAL; set BONFIRE_CHANGE_SOURCE to wal or auto, or "
            "leave BONFIRE_READ_URL out",
            retry=False,
        )
    _log.info("changes come from the replica's WAL")
    return ReplicationSource(read_url, timing, primary=url)
