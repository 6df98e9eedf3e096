"""The name under which a client keeps what it holds: what `welcome` tells it and `hello` says back.

Two results of equal position and equal stream name are results of the same functions, over the same history of the same
database, told by the same kind of change source, for a caller who may see the same. So a node may give its holder only
what changed since. It is made of what the node knows, and its parts mean nothing to clients.
"""

import hashlib

from bonfire.access.principal import Principal


def stream_name(source: str, functions: str, principal: Principal, access: str) -> str:
    """`source`: as the change source names it (kind-system-timeline-database); `functions`: the registry's
    fingerprint; `access`: that of what the caller may see."""
    caller = "\x00".join((principal.tenant, principal.user, access))
    return f"{source}/{functions}/{hashlib.sha256(caller.encode()).hexdigest()[:12]}"


def same_history(name: str | None, source: str) -> bool:
    """Whether a position of the stream of that name is a place in the history that this source reads, so that waiting
    for it makes sense; where there is no name, it is taken to be one."""
    if name is None:
        return True
    return name.partition("/")[0].partition("-")[2] == source.partition("-")[2]
