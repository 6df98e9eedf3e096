"""Who comes to the socket: which page, from where, with which token."""

from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from bonfire.access.identity import Identifier
from bonfire.access.limiter import Limiter
from bonfire.access.minting import mint
from bonfire.access.origins import Origins, Proxies
from bonfire.access.principal import Principal
from bonfire.sync.door import Door
from bonfire.sync.handshake import Upgrade
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.up import Hello

KEY = "a key of this test and of nothing else"
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CLINIC = "https://clinic.example"


class Come:
    """A door, and whoever comes to it from `address`. `now`: seconds of the limiter's clock."""

    def __init__(self, *, development: bool = False, failures: float = 3.0) -> None:
        self.now = 0.0
        limiter = Limiter(lambda: self.now, caller_rate=0, tenant_rate=0, failures_per_minute=failures)
        identifier = Identifier(
            lambda: NOW, shared_keys=[KEY], development_key=(lambda: None) if development else None, leeway=0
        )
        origins = Origins(frozenset({CLINIC}), development=development)
        self.door = Door(identifier, origins, limiter, Proxies([ip_network("10.0.0.0/8")]))

    async def hello(
        self, token: str | None, *, tenant: str | None = None, address: str = "192.0.2.1", **headers: str
    ) -> Principal:
        upgrade = Upgrade("GET", "/live", {"host": "live.example", **headers}, address)
        return await self.door.hello(Hello(token=token, tenant=tenant), upgrade)


def token(user: str = "ada", tenant: str = "north") -> str:
    return mint(KEY, tenant=tenant, user=user, name=user.title(), now=NOW, roles=["nurse"])


async def refused(come: Come, given: str | None, **said: str) -> FaultCode:
    with pytest.raises(Fault) as fault:
        await come.hello(given, **said)
    return fault.value.code


async def test_a_good_token_names_its_caller() -> None:
    principal = await Come().hello(token(), tenant="north")
    assert (principal.tenant, principal.user, principal.roles) == ("north", "ada", frozenset({"nurse"}))
    assert principal.expires_at == int(NOW.timestamp()) + 12 * 3600


async def test_without_one_and_for_another_tenant_nobody_comes_in() -> None:
    come = Come()
    assert await refused(come, None) is FaultCode.unauthenticated
    assert await refused(come, "no token") is FaultCode.unauthenticated
    assert await refused(come, token(), tenant="south") is FaultCode.forbidden


async def test_foreign_pages_are_turned_away_before_their_token_is_looked_at() -> None:
    come = Come(failures=1)
    for _ in range(5):
        assert await refused(come, "no token", origin="https://evil.example") is FaultCode.forbidden
    await come.hello(token(), origin=CLINIC)
    await come.hello(token(), origin="https://live.example")
    await come.hello(token())


async def test_under_dev_this_machines_own_names_only_are_open_to_all() -> None:
    come = Come(development=True)
    principal = await come.hello(None, tenant="mine", host="localhost:8000")
    assert principal.tenant == "mine"
    assert await refused(come, None, host="rebound.example") is FaultCode.forbidden


async def test_who_tries_tokens_is_looked_at_no_more_for_a_while() -> None:
    come = Come()
    for _ in range(3):
        assert await refused(come, "no token") is FaultCode.unauthenticated
    assert await refused(come, "no token") is FaultCode.too_many
    assert await refused(come, token()) is FaultCode.too_many, "nor is a good one"
    await come.hello(token(), address="192.0.2.2")
    come.now += 60
    await come.hello(token())


async def test_a_refusal_that_is_no_guess_counts_for_nothing() -> None:
    come = Come(failures=1)
    for _ in range(3):
        assert await refused(come, token(), tenant="south") is FaultCode.forbidden


async def test_those_behind_a_proxy_are_told_apart_and_nobody_passes_for_another() -> None:
    come = Come()
    for _ in range(3):
        await refused(come, "no token", address="10.1.1.1", **{"x-forwarded-for": "203.0.113.9, 198.51.100.1"})
    assert await refused(come, "x", address="10.1.1.1", **{"x-forwarded-for": "198.51.100.1"}) is FaultCode.too_many
    await come.hello(token(), address="10.1.1.1", **{"x-forwarded-for": "203.0.113.9"})
    for number in range(3):
        await refused(come, "no token", **{"x-forwarded-for": f"203.0.113.{number}"})
    assert await refused(come, token(), **{"x-forwarded-for": "203.0.113.77"}) is FaultCode.too_many
    upgrade = Upgrade("GET", "/live", {"x-forwarded-for": "2001:db8::1"}, "10.0.0.1")
    assert come.door.address_of(upgrade) == "2001:db8::1"


async def test_a_renewal_is_a_token_like_another() -> None:
    come = Come()
    assert (await come.door.renew(token(), "north", "192.0.2.1")).user == "ada"
    with pytest.raises(Fault) as elsewhere:
        await come.door.renew(token(tenant="south"), "north", "192.0.2.1")
    assert elsewhere.value.code is FaultCode.forbidden
    for expected in (*[FaultCode.unauthenticated] * 3, FaultCode.too_many):
        with pytest.raises(Fault) as fault:
            await come.door.renew("no token", "north", "192.0.2.1")
        assert fault.value.code is expected
