"""Tokens that bonfire itself mints, and the keys that sign them: HS256, with a secret that minter and server share.

There are two issuers. `bonfire` signs with the operator's key (BONFIRE_TOKEN_KEY): for service accounts, and clinics
without an identity provider. `bonfire-dev` signs with a key that lies in a developer's data folder, made when it is
first needed; only `bonfire dev` takes its tokens.
"""

import os
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt

from bonfire.access.principal import Kind

ISSUER = "bonfire"
DEVELOPMENT_ISSUER = "bonfire-dev"
AUDIENCE = "bonfire"
ALGORITHM = "HS256"
MINIMUM_KEY_BYTES = 32
"""As long as the hash: RFC 7518, section 3.2."""

_DEVELOPMENT_PREFIX = "bonfire-dev-"
_KEY_FILE = "development-token.key"


class UnsafeKey(Exception):
    """A key that signs tokens is not kept as it has to be. The message says where, and what to do."""


def mint(
    key: str,
    *,
    tenant: str,
    user: str,
    name: str,
    now: datetime,
    lifetime: timedelta = timedelta(hours=12),
    roles: Iterable[str] = (),
    kind: Kind = "person",
    patient: str | None = None,
    purpose: str | None = None,
    scope: str | None = None,
    behalf_of: str | None = None,
) -> str:
    """A token that says: this is `user` of `tenant`, called `name`, for `lifetime` from `now`. The rest is as in
    `Principal`; `scope` has spaces between its words.

    Its issuer is told by the key: see `is_development_key`. ValueError when the key is shorter than 32 bytes.
    """
    check_key(key)
    claims: dict[str, Any] = {
        "iss": DEVELOPMENT_ISSUER if is_development_key(key) else ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "tenant": tenant,
        "name": name,
        "iat": int(now.timestamp()),
        "exp": int((now + lifetime).timestamp()),
        "roles": sorted(roles),
        "kind": kind,
        "patient": patient,
        "purpose": purpose,
        "scope": scope,
        "behalf_of": behalf_of,
    }
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm=ALGORITHM)


def check_key(key: str) -> None:
    """ValueError when `key` is shorter than 32 bytes."""
    if len(key.encode()) < MINIMUM_KEY_BYTES:
        raise ValueError(f"the key that signs tokens has to have at least {MINIMUM_KEY_BYTES} bytes")


def is_development_key(key: str) -> bool:
    """Whether `key` is one that `bonfire token` made for development: they say so themselves, wherever they turn up."""
    return key.startswith(_DEVELOPMENT_PREFIX)


def make_development_key(folder: Path) -> str:
    """The key in a data folder, which is made if need be, with a new key for this account's eyes only."""
    if (key := read_development_key(folder)) is not None:
        return key
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f".{_KEY_FILE}.{secrets.token_hex(4)}"
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{_DEVELOPMENT_PREFIX}{secrets.token_hex(32)}\n")
    try:
        # Whole or not at all, and never over that of another who made one at the same time.
        os.link(made, folder / _KEY_FILE)
    except FileExistsError:
        pass
    finally:
        made.unlink()
    key = read_development_key(folder)
    assert key is not None
    return key


def read_development_key(folder: Path) -> str | None:
    """The key in a data folder, if one was made there. UnsafeKey when others can read it, or it is none."""
    path = folder / _KEY_FILE
    try:
        with path.open() as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise UnsafeKey(f"{path} can be read by others: remove it, and tokens are minted with a new one")
            key = file.read().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnsafeKey(f"{path} can't be read ({error.strerror})") from error
    if not is_development_key(key) or len(key) < len(_DEVELOPMENT_PREFIX) + MINIMUM_KEY_BYTES:
        raise UnsafeKey(f"{path} holds no key of bonfire's: remove it, and tokens are minted with a new one")
    return key
