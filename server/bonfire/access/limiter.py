"""How much a caller, a tenant and a stranger may ask of this process: buckets that fill as time goes by.

Each process counts for itself. What is kept is bounded: of the many that come and go, those that were quiet the longest
are forgotten, and forgetting forgives.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from bonfire.access.principal import Principal
from bonfire_protocol.faults import Fault, FaultCode

BURST_SECONDS = 10.0
"""How long one may save up for what one does at once."""

GLOBAL_FAILURES = 20
"""How many times as many failures are taken from everybody together as from one address."""

KNOWN_SECONDS = 3600.0
"""How long an address that has shown a good token is no stranger."""

_MOST_KEYS = 20_000


class Throttled(Fault):
    """Too much was asked. `wait`: in how many seconds it may be asked again."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(FaultCode.too_many, message)
        self.wait = wait


class Buckets:
    """A bucket for each key, of `size`, which fills by `rate` a second. It may be overdrawn by one thing that is worth
    more than is in it: what a body will hold is not known before it has come."""

    def __init__(self, rate: float, size: float, clock: Callable[[], float], *, most: int = _MOST_KEYS) -> None:
        self._rate = rate
        self._size = size
        self._clock = clock
        self._most = most
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Seconds until something may be taken; 0.0: now."""
        left = self._left(key)
        return 0.0 if left >= 1 else (1 - left) / self._rate

    def spend(self, key: str, amount: float = 1.0) -> None:
        self._held[key] = (self._left(key) - amount, self._clock())
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def __len__(self) -> int:
        return len(self._held)

    def _left(self, key: str) -> float:
        found = self._held.get(key)
        if found is None:
            return self._size
        left, at = found
        return min(self._size, left + (self._clock() - at) * self._rate)


class Limiter:
    """What this process takes. `clock` counts seconds, and never goes back."""

    def __init__(
        self, clock: Callable[[], float], *, caller_rate: float, tenant_rate: float, failures_per_minute: float
    ) -> None:
        """`caller_rate` and `tenant_rate` are requests a second; `failures_per_minute` refused tokens, by address. 0:
        no limit."""
        self._clock = clock
        self._callers = _requests(caller_rate, clock)
        self._tenants = _requests(tenant_rate, clock)
        failures = failures_per_minute / 60
        self._failures = Buckets(failures, failures_per_minute, clock) if failures_per_minute else None
        many = failures * GLOBAL_FAILURES
        self._all_failures = Buckets(many, many * 60, clock, most=1) if failures_per_minute else None
        self._known: OrderedDict[str, float] = OrderedDict()

    def hello(self, address: str | None) -> None:
        """Before a token from there is looked at. Throttled when too many were refused: from that address; or from
        everywhere, if no good one has come from that address lately, so that strangers can't lock a clinic out."""
        if self._failures is None or self._all_failures is None:
            return
        near = _near(address)
        wait = self._failures.wait(near)
        if not wait and self._clock() - self._known.get(near, -KNOWN_SECONDS) >= KNOWN_SECONDS:
            wait = self._all_failures.wait("")
        if wait:
            raise Throttled("too many tokens were refused: try again later", wait)

    def failed(self, address: str | None) -> None:
        """A token from there was refused."""
        if self._failures is not None and self._all_failures is not None:
            self._failures.spend(_near(address))
            self._all_failures.spend("")

    def succeeded(self, address: str | None) -> None:
        """A token from there was good."""
        near = _near(address)
        self._known[near] = self._clock()
        self._known.move_to_end(near)
        if len(self._known) > _MOST_KEYS:
            self._known.popitem(last=False)

    def request(self, principal: Principal | None, address: str | None) -> None:
        """Before a request is answered; a caller without a token goes by their address. Throttled when the caller, or
        their tenant, has asked for too much."""
        for buckets, key in self._accounts(principal, address):
            if wait := buckets.wait(key):
                raise Throttled("too many requests: try again later", wait)
        self.spend(principal, address, 1.0)

    def spend(self, principal: Principal | None, address: str | None, amount: float) -> None:
        """So much more was asked for by a request that was let in."""
        for buckets, key in self._accounts(principal, address):
            buckets.spend(key, amount)

    def _accounts(self, principal: Principal | None, address: str | None) -> list[tuple[Buckets, str]]:
        if principal is None:
            return [] if self._callers is None else [(self._callers, f"address {_near(address)}")]
        accounts: list[tuple[Buckets, str]] = []
        if self._callers is not None:
            # The tenant's length, so that no two names of callers read the same.
            accounts.append((self._callers, f"{len(principal.tenant)} {principal.tenant} {principal.user}"))
        if self._tenants is not None:
            accounts.append((self._tenants, principal.tenant))
        return accounts


def _requests(rate: float, clock: Callable[[], float]) -> Buckets | None:
    return Buckets(rate, rate * BURST_SECONDS, clock) if rate else None


def _near(address: str | None) -> str:
    """What one customer of a provider is given: an address, or a /64 of IPv6."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return address or ""
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((found, 64), strict=False))
    return str(found)
