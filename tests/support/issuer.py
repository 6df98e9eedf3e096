"""An identity provider of the test's own: its keys, its tokens, and its HTTP server on 127.0.0.1."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@cache
def private_key(kind: str, name: str) -> Private:
    """The key of that kind (`RSA`, `weak`, `P-256`, `P-384`, `Ed25519`) and name; the same one each time."""
    match kind:
        case "RSA":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "weak":
            return rsa.generate_private_key(public_exponent=65537, key_size=1024)
        case "P-256":
            return ec.generate_private_key(ec.SECP256R1())
        case "P-384":
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def jwk(kind: str, name: str, **more: Any) -> dict[str, Any]:
    """The public half, as a JWKS lists it under that name; `more` replaces what it says, None takes it away."""
    public = private_key(kind, name).public_key()
    if isinstance(public, rsa.RSAPublicKey):
        spelled = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        spelled = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        spelled = OKPAlgorithm.to_jwk(public, as_dict=True)
    spelled.pop("key_ops", None)
    return {key: value for key, value in {**spelled, "kid": name, "use": "sig", **more}.items() if value is not None}


def signed(claims: dict[str, Any], kind: str, name: str, algorithm: str, **header: Any) -> str:
    """A token by that key."""
    return encoded(claims, private_key(kind, name), algorithm, **{"kid": name, **header})


def encoded(claims: dict[str, Any], key: Private | str, algorithm: str, **header: Any) -> str:
    """A token, whatever its claims are: PyJWT itself refuses to encode some that are wrong."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, algorithm, headers={"typ": "JWT", **header})


class Issuer:
    """What the server answers: `answers` by path; others are 404. `hold`: it answers once this is set."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, bytes] = {}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.hold: asyncio.Event | None = None
        self.asked: list[str] = []

    def publish(self, *keys: dict[str, Any]) -> None:
        """Serve these keys, and an OpenID configuration that leads to them."""
        self.answers["/keys"] = json.dumps({"keys": keys}).encode()
        self.configure()

    def configure(self, **more: Any) -> None:
        told = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **more}
        self.answers["/.well-known/openid-configuration"] = json.dumps(told).encode()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            self.asked.append(path)
            if self.hold is not None:
                await self.hold.wait()
            body = self.answers.get(path)
            status = self.status if body is not None else 404
            more = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
            writer.write(f"HTTP/1.1 {status} x\r\n{more}Connection: close\r\n\r\n".encode() + (body or b""))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            # The client has seen enough.
            pass
        finally:
            writer.close()


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """An issuer that listens."""
    issuer = Issuer()
    server = await asyncio.start_server(issuer._serve, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    issuer.configure()
    try:
        yield issuer
    finally:
        if issuer.hold is not None:
            issuer.hold.set()
        server.close()
        await server.wait_closed()
