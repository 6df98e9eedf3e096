"""Settings, by environment. All of them are here, each with its meaning; `docs/settings.md` is made from this list.

Only `app` and `cli` read this module; everybody else is handed values. A setting that is wrong stops the start, with
its name, what was expected and what came; an unknown `BONFIRE_*` name does too, because a misspelt one is
otherwise silent.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit


class SettingError(Exception):
    """A setting is wrong. The message names it, and what was expected."""


def _text(value: str) -> str:
    return value


def _path(value: str) -> Path:
    return Path(value).expanduser()


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return parse


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return value

    return parse


def _url(value: str) -> str:
    if not value.startswith(("postgres://", "postgresql://")):
        raise ValueError("a URL that begins with postgresql://")
    return value


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("a URL that begins with http:// or https://")
    return value


def _origins(value: str) -> frozenset[str]:
    origins = frozenset(one.strip() for one in value.split(","))
    if not all(_ORIGIN.fullmatch(one) for one in origins):
        raise ValueError("origins such as https://clinic.example, with commas between them")
    return origins


_ORIGIN = re.compile(r"https?://[a-zA-Z0-9.:\[\]-]+")


def _provider_url(value: str) -> str:
    """Whoever can change what is read from such a URL can be anybody: TLS, unless it never leaves this machine."""
    try:
        parts = urlsplit(value)
        host, plain = parts.hostname, not (parts.username or parts.query or parts.fragment)
    except ValueError:
        host, plain = None, False
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK) if host else False
    if not (plain and secure):
        raise ValueError("a URL that begins with https:// (http:// on this machine only), without a query")
    return value


_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _keys(value: str) -> tuple[str, ...]:
    keys = tuple(one.strip() for one in value.split(","))
    if any(len(one) < 32 for one in keys) or len(keys) > 4:
        raise ValueError("at least 32 characters, or several keys of that length with commas between them")
    return keys


def _claim(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("the name of a claim")
    return value


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(value: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(one.strip()) for one in value.split(","))
    except ValueError:
        raise ValueError("addresses or networks such as 10.0.0.0/8, with commas between them") from None


def _setting(name: str, meaning: str, parse: Callable[[str], Any], default: Any, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"name": name, "meaning": meaning, "parse": parse, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """What a node is told from outside."""

    database_url: str | None = _setting(
        "DATABASE_URL",
        "The Postgres to use (15 to 18), as a URL. Without it, bonfire runs an embedded one.",
        _url,
        None,
        secret=True,
    )
    read_url: str | None = _setting(
        "BONFIRE_READ_URL",
        "A read replica (a hot standby of DATABASE_URL's, Postgres 16 or newer), as a URL: live queries are read and "
        "followed there, so that they cost the primary nothing. Writes and FHIR go to DATABASE_URL.",
        _url,
        None,
        secret=True,
    )
    data_dir: Path = _setting(
        "BONFIRE_DATA_DIR", "Where the embedded Postgres keeps its data.", _path, Path(".bonfire/postgres")
    )
    host: str = _setting("BONFIRE_HOST", "The address to listen on.", _text, "127.0.0.1")
    port: int = _setting("BONFIRE_PORT", "The port to listen on.", _number(0, 65535), 8000)
    workers: int = _setting(
        "BONFIRE_WORKERS", "How many processes `bonfire serve` runs on its port.", _number(1, 64), 1
    )
    worker: int | None = _setting(
        "BONFIRE_WORKER",
        "Not to be set: by it, each process of several is told which one it is, from 0.",
        _number(0, 63),
        None,
    )
    workers_dir: Path | None = _setting(
        "BONFIRE_WORKERS_DIR",
        "Not to be set: in this folder, the processes of several find each other's metrics.",
        _path,
        None,
    )
    change_source: Literal["auto", "wal", "listen"] = _setting(
        "BONFIRE_CHANGE_SOURCE",
        "Where changes come from: `wal` (logical replication), `listen` (LISTEN/NOTIFY), or `auto`: wal if possible.",
        _choice("auto", "wal", "listen"),
        "auto",
    )
    token_keys: tuple[str, ...] = _setting(
        "BONFIRE_TOKEN_KEY",
        "The secret that signs and checks bonfire's own tokens (HS256), 32 characters or more. Several, with commas "
        "between them: the first signs, all check. `serve` needs it or BONFIRE_OIDC_ISSUER.",
        _keys,
        (),
        secret=True,
    )
    oidc_issuer: str | None = _setting(
        "BONFIRE_OIDC_ISSUER",
        "The identity provider whose tokens are taken: its issuer, exactly as they spell it (docs/identity.md).",
        _provider_url,
        None,
    )
    oidc_audience: str | None = _setting(
        "BONFIRE_OIDC_AUDIENCE",
        "What the provider's tokens must name as their audience: this server, as the provider calls it.",
        _text,
        None,
    )
    oidc_jwks_url: str | None = _setting(
        "BONFIRE_OIDC_JWKS_URL",
        "Where the provider's public keys are; without it, its OpenID configuration says where.",
        _provider_url,
        None,
    )
    claim_tenant: str = _setting(
        "BONFIRE_CLAIM_TENANT",
        "The claim of the provider's tokens that names the tenant; with dots, a path into objects.",
        _claim,
        "tenant",
    )
    claim_user: str = _setting("BONFIRE_CLAIM_USER", "The claim that holds the user's stable id.", _claim, "sub")
    claim_name: str = _setting("BONFIRE_CLAIM_NAME", "The claim that holds the name that people read.", _claim, "name")
    claim_roles: str = _setting(
        "BONFIRE_CLAIM_ROLES", "The claim that lists the roles (a list, or words in a text).", _claim, "roles"
    )
    claim_kind: str = _setting(
        "BONFIRE_CLAIM_KIND",
        "The claim that says `person` (where it is missing), `service` or `agent`.",
        _claim,
        "kind",
    )
    claim_patient: str = _setting(
        "BONFIRE_CLAIM_PATIENT", "The claim that holds the id of the patient that the user is.", _claim, "patient"
    )
    claim_purpose: str = _setting(
        "BONFIRE_CLAIM_PURPOSE",
        "The claim that holds the purpose of use; `TREAT` where it is missing.",
        _claim,
        "purpose",
    )
    claim_scope: str = _setting("BONFIRE_CLAIM_SCOPE", "The claim that holds SMART scopes.", _claim, "scope")
    claim_behalf_of: str = _setting(
        "BONFIRE_CLAIM_BEHALF_OF",
        "The claim that holds the user for whom a service or an agent acts; `act` (RFC 8693) is understood too.",
        _claim,
        "behalf_of",
    )
    token_leeway_seconds: int = _setting(
        "BONFIRE_TOKEN_LEEWAY_SECONDS",
        "By how much the clock of a token's issuer and this one's may differ, in seconds.",
        _number(0, 600),
        60,
    )
    pool_size: int = _setting(
        "BONFIRE_POOL_SIZE", "How many connections to Postgres a node may hold.", _number(2, 500), 12
    )
    heartbeat_ms: int = _setting(
        "BONFIRE_HEARTBEAT_MS",
        "How often clients that hold nothing new are told how far their data are true, in milliseconds.",
        _number(50, 60_000),
        1000,
    )
    stale_after_ms: int = _setting(
        "BONFIRE_STALE_AFTER_MS",
        "When a client that has heard nothing must show its data as stale, in milliseconds; more than two heartbeats.",
        _number(200, 600_000),
        5000,
    )
    self_check_seconds: int = _setting(
        "BONFIRE_SELF_CHECK_SECONDS",
        "How often a live query is read afresh and compared with what was sent, in seconds; 0 for never.",
        _number(0, 86_400),
        10,
    )
    max_connections: int = _setting(
        "BONFIRE_MAX_CONNECTIONS", "How many live sockets a process holds at most.", _number(1, 1_000_000), 20_000
    )
    compression: str = _setting(
        "BONFIRE_COMPRESSION",
        "Whether frames are compressed for clients that offer it: `on` or `off`.",
        _choice("on", "off"),
        "on",
    )
    origins: frozenset[str] = _setting(
        "BONFIRE_ORIGINS",
        "Origins (`https://clinic.example`, several with commas) whose pages may open the live socket and use FHIR, "
        "besides this server's own.",
        _origins,
        frozenset(),
    )
    pages_connect: frozenset[str] = _setting(
        "BONFIRE_PAGES_CONNECT",
        "Origins that the app's own pages may fetch from (an identity provider's token endpoint), besides this server "
        "and BONFIRE_OIDC_ISSUER.",
        _origins,
        frozenset(),
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "BONFIRE_TRUSTED_PROXIES",
        "Addresses or networks (`10.0.0.0/8`, several with commas) of the proxies in front, whose `X-Forwarded-For` "
        "and `X-Forwarded-Proto` are believed.",
        _networks,
        (),
    )
    hsts_seconds: int = _setting(
        "BONFIRE_HSTS_SECONDS",
        "For how long browsers are told to use https only (Strict-Transport-Security), for servers behind TLS; 0: they "
        "are not told.",
        _number(0, 63_072_000),
        0,
    )
    caller_requests: int = _setting(
        "BONFIRE_CALLER_REQUESTS",
        "How many HTTP requests a second a caller may make of a process in the long run, ten seconds' worth of them at "
        "once; each 64 KiB of a body counts as one more. 0: no limit.",
        _number(0, 1_000_000),
        200,
    )
    tenant_requests: int = _setting(
        "BONFIRE_TENANT_REQUESTS", "The same for all callers of a tenant together.", _number(0, 1_000_000), 2000
    )
    failed_tokens: int = _setting(
        "BONFIRE_FAILED_TOKENS",
        "How many refused tokens a minute are looked at for one address; 20 times as many for all addresses that have "
        "not shown a good one lately. 0: no limit.",
        _number(0, 1_000_000),
        60,
    )
    embeddings: str | None = _setting(
        "BONFIRE_EMBEDDINGS",
        "The embedding provider for semantic search, as `module:function` (a list of texts in, a list of vectors out).",
        _text,
        None,
    )
    embedding_dimensions: int = _setting(
        "BONFIRE_EMBEDDING_DIMENSIONS", "The length of the provider's vectors.", _number(1, 16_000), 384
    )
    agent_context: str = _setting(
        "BONFIRE_AGENT_CONTEXT",
        "Whether each patient's context document for agents is kept up to date: `on` or `off`.",
        _choice("on", "off"),
        "on",
    )
    log_level: str = _setting(
        "BONFIRE_LOG_LEVEL", "How much to log.", _choice("debug", "info", "warning", "error"), "info"
    )
    log_format: Literal["text", "json"] = _setting(
        "BONFIRE_LOG_FORMAT",
        "How to log: `text` for people, or `json`, an object a line, for machines.",
        _choice("text", "json"),
        "text",
    )
    otlp_endpoint: str | None = _setting(
        "BONFIRE_OTLP_ENDPOINT",
        "An OpenTelemetry collector (`http://collector:4318`) to send traces of mutations to; without it, and without "
        "OpenTelemetry's own `OTEL_EXPORTER_OTLP_ENDPOINT`, there are none.",
        _http_url,
        None,
        secret=True,
    )

    def __post_init__(self) -> None:
        # The command line's port goes past what the environment's is read by.
        if not 0 <= self.port <= 65535:
            raise SettingError(f"BONFIRE_PORT: expected a whole number from 0 to 65535, got {self.port}")
        if self.stale_after_ms <= 2 * self.heartbeat_ms:
            raise SettingError(
                "BONFIRE_STALE_AFTER_MS: expected more than twice BONFIRE_HEARTBEAT_MS, "
                f"got {self.stale_after_ms} with heartbeats of {self.heartbeat_ms}"
            )
        if self.oidc_issuer is not None and self.oidc_audience is None:
            raise SettingError(
                "BONFIRE_OIDC_AUDIENCE: expected beside BONFIRE_OIDC_ISSUER: without it, a token for any other server "
                "of the provider's would do here"
            )
        if self.oidc_issuer is None and (self.oidc_audience is not None or self.oidc_jwks_url is not None):
            raise SettingError("BONFIRE_OIDC_ISSUER: expected beside the other BONFIRE_OIDC settings")
        if self.read_url is not None and self.database_url is None:
            raise SettingError("BONFIRE_READ_URL: expected DATABASE_URL beside it, whose replica it names")


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in an environment; an empty value is an absent one. SettingError names the first that is wrong."""
    known = {one.metadata["name"]: one for one in fields(Settings)}
    for name in environment:
        if name.startswith("BONFIRE_") and name not in known and not name.startswith("BONFIRE_TEST_"):
            raise SettingError(f"{name}: there is no such setting; the settings are: {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, one in known.items():
        given = environment.get(name, "")
        if given:
            try:
                values[one.name] = one.metadata["parse"](given)
            except ValueError as error:
                came = "a value that is kept secret" if one.metadata["secret"] else repr(given)
                raise SettingError(f"{name}: expected {error}, got {came}") from None
    return Settings(**values)


def settings_table() -> str:
    """All settings as a Markdown table."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for one in fields(Settings):
        default = "" if one.default in (None, frozenset(), ()) else f"`{one.default}`"
        lines.append(f"| `{one.metadata['name']}` | {default} | {one.metadata['meaning']} |")
    return "\n".join(lines) + "\n"
