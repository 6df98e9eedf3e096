"""Where a request comes from: which address, and which page.

Callers prove who they are by a bearer token that their page adds to a request; there are no cookies, and nothing else
that a browser would add by itself. So a foreign page can't act in a user's name, unless it has the token already. The
rules here are for what is left: a socket and a writing request are open to our own pages and those that the operator
names only; and under `bonfire dev`, where nobody needs a token, the name in the URL has to be this machine's, or else a
foreign name that was made to point here (DNS rebinding) would be an origin of ours.
"""

import ipaddress
from collections.abc import Sequence

from bonfire_protocol.faults import Fault, FaultCode

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MOST_HOPS = 20


class Proxies:
    """The proxies in front of this server, whose word on where a request comes from is believed."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def trusts(self, peer: str | None) -> bool:
        """Whether the peer of a connection is one of them."""
        address = None if peer is None else _address(peer)
        return address is not None and any(address in network for network in self._trusted)

    def address(self, peer: str | None, forwarded_for: str | None) -> str | None:
        """The client's address. `peer` is whoever the connection is with, None for a local socket; `forwarded_for` is
        the header X-Forwarded-For, where each proxy appends whom it has heard: it is read from its end, for as long as
        the one who wrote is trusted."""
        if forwarded_for is None or not self.trusts(peer):
            return _plain(peer)
        at = peer
        for hop in reversed(forwarded_for.split(",")[-_MOST_HOPS:]):
            address = _address(hop.strip())
            if address is None:
                break
            at = str(address)
            if not self.trusts(at):
                break
        return _plain(at)


class Origins:
    """Whose pages may open a socket, and write over HTTP."""

    def __init__(self, allowed: frozenset[str], *, development: bool) -> None:
        """`allowed`: origins besides this server's own, such as `https://clinic.example`."""
        self.allowed = allowed
        self._hosts = frozenset(origin.partition("://")[2] for origin in allowed)
        self._development = development

    def check_host(self, host: str | None) -> None:
        """Fault forbidden where the request's header `Host` is a name that this server can't have."""
        if not self._development or host is None or host in self._hosts or _is_this_machine(host):
            return
        raise Fault(
            FaultCode.forbidden,
            "`bonfire dev` asks nobody for a token, so it is reached by this machine's own names only",
            field="Host",
            expected="localhost, 127.0.0.1, [::1] or a host that BONFIRE_ORIGINS names",
        )

    def check(self, origin: str | None, host: str | None) -> None:
        """Fault forbidden where a browser says that the page is another's; `host` is the request's header `Host`."""
        self.check_host(host)
        if origin is None or origin in self.allowed or (host is not None and origin.partition("://")[2] == host):
            return
        raise Fault(
            FaultCode.forbidden,
            "pages of another origin may not do this",
            field="Origin",
            expected="the origin of this server, or one that BONFIRE_ORIGINS names",
        )


def _is_this_machine(host: str) -> bool:
    name = host.lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def _plain(peer: str | None) -> str | None:
    address = None if peer is None else _address(peer)
    return peer if address is None else str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A socket that speaks both spells IPv4 so; it is the same client.
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found
