"""Who comes to the socket: page, address and token are looked at before anything else is."""

from bonfire.access.identity import Identifier
from bonfire.access.limiter import Limiter
from bonfire.access.origins import Origins, Proxies
from bonfire.access.principal import Principal
from bonfire.sync.handshake import Upgrade
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.up import Hello


class Door:
    """See bonfire.sync.endpoint.Doorkeeper."""

    def __init__(self, identifier: Identifier, origins: Origins, limiter: Limiter, proxies: Proxies) -> None:
        self._identifier = identifier
        self._origins = origins
        self._limiter = limiter
        self._proxies = proxies

    async def hello(self, hello: Hello, upgrade: Upgrade) -> Principal:
        self._origins.check(upgrade.headers.get("origin"), upgrade.headers.get("host"))
        if hello.token is None:
            return await self._identifier.identify(None, hello.tenant)
        return await self._guarded(hello.token, hello.tenant, self.address_of(upgrade))

    async def renew(self, token: str, tenant: str, address: str | None) -> Principal:
        return await self._guarded(token, tenant, address)

    def address_of(self, upgrade: Upgrade) -> str | None:
        return self._proxies.address(upgrade.address, upgrade.headers.get("x-forwarded-for"))

    async def _guarded(self, token: str, tenant: str | None, address: str | None) -> Principal:
        """Who tries tokens is soon looked at no more."""
        self._limiter.hello(address)
        try:
            principal = await self._identifier.identify(token, tenant)
        except Fault as fault:
            if fault.code is FaultCode.unauthenticated:
                self._limiter.failed(address)
            raise
        self._limiter.succeeded(address)
        return principal
